"""The part of a network that is the same for all folds: its weights in the run folder, and what it is shown."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor, nn

from backbones.side_by_side import JOIN, SideBySide, parts_of
from model import (
    OnPixels,
    backbone_tensors,
    build_model,
    descriptions,
    head_on_features,
    is_side_by_side,
    normalisation,
    pretrained_config,
)
from storage.backbone_files import backbone_files, joined_path
from storage.crop_cache import Shown
from storage.run_dir import BACKBONES
from training import checkpoints
from training.config import Config
from training.device import seed_everything
from training.starting_weights import DESCRIBED, described_in


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
    described: str = field(default="{}", compare=False)
    """`model.descriptions` as JSON."""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of its images."""
        return self.shown.size

    @property
    def parts(self) -> tuple["FrozenBackbone", ...]:
        """Networks whose features are cached apart: those side by side, or itself."""
        if not is_side_by_side(self.name):
            return (self,)
        named = zip(parts_of(self.name), backbone_files(self.weights), strict=True)
        return tuple(self._part(name, path) for name, path in named)

    def _part(self, name: str, path: Path) -> "FrozenBackbone":
        """Return a network as it is alone where it is shown the same images, else as a part of several ("+A")."""
        own = pretrained_config(name, json.loads(self.described))
        if tuple(own.input_size[1:]) == self.size:
            return replace(self, name=name, weights=path, mean=tuple(own.mean), std=tuple(own.std))
        return replace(self, name=JOIN + name, weights=path.with_name(JOIN + path.name))

    def load(self) -> OnPixels:
        """Load the network, with an untrained head. UserError for a file that is damaged or missing."""
        network = build_model(self.name, 1, image_size=self.size, described=json.loads(self.described))
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
    identity = {"normalisation": {"mean": mean, "std": std}, DESCRIBED: descriptions(config.backbone)}
    return frozen_backbone(config, weights, shown, identity)


def _save_backbone(folder: Path, name: str, network: nn.Module) -> Path:
    """Write the weights, of networks side by side each to a file of its own; return the path that stands for all."""
    named = _named_tensors(name, network)
    return joined_path([checkpoints.save_tensors(folder, part, tensors) for part, tensors in named])


def file_name(name: str, network: nn.Module) -> str:
    """Return the name of the path that stands for the weights of a network of that name."""
    named = _named_tensors(name, network)
    return joined_path([Path(checkpoints.tensors_name(part, tensors)) for part, tensors in named]).name


def _named_tensors(name: str, network: nn.Module) -> list[tuple[str, dict[str, Tensor]]]:
    if not isinstance(network, SideBySide):
        return [(name, backbone_tensors(network))]
    return list(zip(parts_of(name), (part.network.state_dict() for part in network.parts), strict=True))


def frozen_backbone(config: Config, weights: Path, shown: Shown, identity: Mapping) -> FrozenBackbone:
    """Return the backbone whose weights are in that file. `identity` is config.json."""
    mean, std = (tuple(identity["normalisation"][name]) for name in ("mean", "std"))
    described = json.dumps(described_in(identity))
    return FrozenBackbone(config.backbone, weights, shown, mean, std, config.channels_last, config.amp, described)
