"""A picture for tests of networks whose outputs on it are known from another program."""

from collections.abc import Sequence

import numpy as np
import torch


def waves(side: int) -> np.ndarray:
    """A picture (1, 3, side, side) float32 of values 0 to 255, RGB: waves across, down, and both ways."""
    x, y = np.meshgrid(np.arange(side), np.arange(side))
    phases = np.stack([x / 9, y / 7, (x + y) / 11])
    return np.round(127.5 + 127.5 * np.sin(phases)).astype(np.float32)[None]


def normalised(pixels: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))
    return (torch.from_numpy(pixels) / 255 - mean) / std
