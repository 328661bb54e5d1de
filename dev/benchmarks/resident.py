"""Batches that cost nothing to load: the ceiling that real loading is measured against."""

import itertools
from collections.abc import Iterator
from typing import Any

import torch


class Resident:
    """One batch on the device, given `count` times."""

    def __init__(self, batch: tuple[Any, ...], count: int, device: torch.device) -> None:
        self.batch = tuple(part.to(device) for part in batch)
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return itertools.repeat(self.batch, self.count)
