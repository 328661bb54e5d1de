"""Heads: one output per class, or one per value (each year of age), of which a class is a range.

Only class logits are written to disk.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import torch
from torch import Tensor

from core.cli import UserError
from core.tasks import AgeEdges, Task
from storage.crops import Crops


@dataclass(frozen=True)
class ClassHead:
    """One output per class."""

    task: Task
    edges: AgeEdges

    @property
    def outputs(self) -> int:
        return len(self.task.classes)

    @property
    def bins(self) -> None:
        """No output stands for a value."""

    @property
    def codes(self) -> Tensor:
        """Code of each output, (C, C) float32, that a ridge head predicts: 1 for its own class."""
        return torch.eye(self.outputs)

    def codes_of(self, targets: Tensor) -> Tensor:
        """Return the codes (N, C) of targets (N,)."""
        return self.codes[targets]

    def targets(self, crops: Crops, labels: Sequence[int]) -> Tensor:
        """Return the labels (N,) int64."""
        return torch.tensor(labels, dtype=torch.int64)

    def class_logits(self, outputs: Tensor) -> Tensor:
        """Return the outputs (N, C), which are logits already."""
        return outputs

    def values(self, outputs: Tensor) -> Tensor | None:
        """Return None: classes have no values."""
        return None


@dataclass(frozen=True)
class ValueHead:
    """One output per whole value of the task, from `low` to `high`; a class has the summed probability of its own.

    After Rothe et al. 2018 (DEX, doi:10.1007/s11263-016-0940-3): age as a softmax over years, and its expectation.
    """

    task: Task
    edges: AgeEdges

    def __post_init__(self) -> None:
        if self.task.value is None:
            raise UserError(f"--head values: task {self.task.name} has no values, only classes; allowed is classes")

    @cached_property
    def bins(self) -> Tensor:
        """Value of each output, (K,) float32."""
        return torch.arange(self.task.value.low, self.task.value.high + 1, dtype=torch.float32)

    @cached_property
    def class_of_bin(self) -> Tensor:
        """Class of each output, (K,) int64."""
        return torch.tensor([self.task.value.class_of(int(value), self.edges) for value in self.bins])

    @property
    def outputs(self) -> int:
        return len(self.bins)

    @property
    def codes(self) -> Tensor:
        """Code of each output, (K, 1) float32, that a ridge head predicts: its value."""
        return self.bins[:, None]

    def codes_of(self, targets: Tensor) -> Tensor:
        """Return the codes (N, 1) of targets (N,)."""
        return targets[:, None]

    def targets(self, crops: Crops, labels: Sequence[int]) -> Tensor:
        """Return the values (N,) float32, clamped to the range."""
        values = [self.task.value.read(facts) for facts in crops.frame.to_dict("records")]
        return torch.tensor(values, dtype=torch.float32).clamp(self.bins[0], self.bins[-1])

    def class_logits(self, outputs: Tensor) -> Tensor:
        """Return the logits (N, C) of outputs (N, K): of each class, the log-sum-exp of its outputs."""
        classes = range(len(self.task.classes))
        return torch.stack([outputs[:, self.class_of_bin == label].logsumexp(dim=1) for label in classes], dim=1)

    def values(self, outputs: Tensor) -> Tensor:
        """Return the expected values (N,) of outputs (N, K)."""
        return outputs.softmax(dim=1) @ self.bins


Head = ClassHead | ValueHead
HEADS = MappingProxyType({"classes": ClassHead, "values": ValueHead})


def build_head(name: str, task: Task, edges: AgeEdges) -> Head:
    """Build the head of that name. UserError lists the names there are, or says that the task has no values."""
    if name not in HEADS:
        raise UserError(f"--head {name!r} is unknown; the heads are {', '.join(HEADS)}")
    return HEADS[name](task, edges)
