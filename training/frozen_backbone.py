"""The part of a network that is the same for all folds: its weights in the run folder, and what it is shown."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from backbones.side_by_side import JOIN, SideBySide, parts_of
from model import OnPixels, backbone_tensors, build_model, head_on_features, is_side_by_side, normalisation
from storage.backbone_files import backbone_files, joined_path
from storage.crop_cache import Shown
from storage.run_dir import BACKBONES
from training import checkpoints
from training.config import Config
from training.device import seed_everything


@dataclass(frozen=True)
class FrozenBackbone:
    """The part of a network that is the same for all folds, and its preprocessing."""

    name: str
    weights: Path
    shown: Shown
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels_last: bool
    amp: bool

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of its images."""
        return self.shown.size

    @property
    def parts(self) -> tuple["FrozenBackbone", ...]:
        """Networks whose features are cached apart, each as a part of several ("+A"): those side by side, or itself."""
        if not is_side_by_side(self.name):
            return (self,)
        named = zip(parts_of(self.name), backbone_files(self.weights), strict=True)
        return tuple(replace(self, name=JOIN + name, weights=path.with_name(JOIN + path.name)) for name, path in named)

    def load(self) -> OnPixels:
        """Load the network, with an untrained head. UserError for a file that is damaged or missing."""
        network = build_model(self.name, 1, image_size=self.size)
        checkpoints.load_backbone(network, checkpoints.read_backbone(self.weights), self.weights)
        return OnPixels(network, self.mean, self.std)


def freeze(run_dir: Path, config: Config, shown: Shown) -> FrozenBackbone:
    """Return the backbone of these settings; its weights are written to the run folder if need be.

    UserError for weights that cannot be had, and for a network whose head is not one part.
    """
    seed_everything(config.seed)
    network = build_model(config.backbone, 1, image_size=shown.size, pretrained=config.pretrained)
    head_on_features(network)
    weights = _save_backbone(run_dir / BACKBONES, config.backbone, network)
    mean, std = normalisation(config.backbone)
    return frozen_backbone(config, weights, shown, {"mean": mean, "std": std})


def _save_backbone(folder: Path, name: str, network: nn.Module) -> Path:
    """Write the weights, of networks side by side each to a file of its own; return the path that stands for all."""
    if not isinstance(network, SideBySide):
        return checkpoints.save_tensors(folder, name, backbone_tensors(network))
    tensors = [part.network.state_dict() for part in network.parts]
    named = zip(parts_of(name), tensors, strict=True)
    return joined_path([checkpoints.save_tensors(folder, part, of_part) for part, of_part in named])


def frozen_backbone(config: Config, weights: Path, shown: Shown, normalised_by: Mapping) -> FrozenBackbone:
    """Return the backbone whose weights are in that file. `normalised_by` is `normalisation` of config.json."""
    mean, std = tuple(normalised_by["mean"]), tuple(normalised_by["std"])
    return FrozenBackbone(config.backbone, weights, shown, mean, std, config.channels_last, config.amp)
