"""Networks beside one another on the same image, with one head on the features of all: "A+B" as a backbone.

Each takes the image at the size and with the normalisation of its own pretraining, so its features do not depend on
what stands beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from backbones.face_pair import OnFeatures, Resampled

JOIN = "+"


@dataclass(frozen=True)
class Part:
    """A network, the name of its head, the size (H, W) of its images, and their mean and deviation per channel."""

    network: nn.Module
    head: str
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Own(nn.Module):
    """A network without its head: images (N, 3, H, W) of 0 to 1 to its features (N, F)."""

    def __init__(self, part: Part, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.num_features = part.network.head_hidden_size
        part.network.set_submodule(part.head, nn.Identity())
        self.network = part.network
        middles = map(_middles, image_size, part.size)
        self.resized = nn.Identity() if part.size == image_size else Resampled(image_size, *middles)
        self.register_buffer("mean", torch.tensor(part.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(part.std).view(3, 1, 1), persistent=False)

    def shown(self, x: Tensor) -> Tensor:
        """Return the input of the network: images at its own size, normalised."""
        return (self.resized(x) - self.mean) / self.std

    def forward(self, x: Tensor) -> Tensor:
        maps = self.network.forward_features(self.shown(x))
        return self.network.forward_head(maps, pre_logits=True).flatten(1).float()


class SideBySide(OnFeatures):
    """Images (N, 3, H, W) of 0 to 1 to logits (N, num_classes). The parts' features stand in the order of the parts."""

    def __init__(
        self, parts: Sequence[Part], image_size: tuple[int, int], num_classes: int, drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        self.default_cfg = {"classifier": "head.fc"}
        self.parts = nn.ModuleList(Own(part, image_size) for part in parts)
        self.add_head(sum(part.num_features for part in self.parts), num_classes, drop_rate)

    def forward_features(self, x: Tensor) -> Tensor:
        """Features (N, F) float32 of all parts."""
        return torch.cat([part(x) for part in self.parts], dim=1)


def feature_blocks(network: nn.Module) -> list[int]:
    """Return the number of features of each network side by side, or of the one."""
    if isinstance(network, SideBySide):
        return [part.num_features for part in network.parts]
    return [network.head_hidden_size]


def parts_of(backbone: str) -> list[str]:
    """Return the names of the networks: of "A+B" A and B, of "+A" and of "A" A."""
    return [name for name in backbone.split(JOIN) if name]


def _middles(length: int, to: int) -> np.ndarray:
    """Return where an axis of that length is read to be resized, (to,) in its pixels."""
    return (np.arange(to) + 0.5) * (length / to)
