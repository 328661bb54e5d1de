"""What the report counts and no other step does: the worst mistakes, the least sure answers, errors by age."""

from dataclasses import dataclass

import numpy as np

from core.tasks import Task
from evaluation.logits import LogitTable
from evaluation.predictions import TaskPredictions
from evaluation.scores import known_values
from reporting.load import Split

NEAR = 5
"""Years of which an expected age is called near."""


def least_sure(answers: TaskPredictions, count: int) -> list[int]:
    """Rows of the answers with the lowest confidence, the least sure first."""
    return np.argsort(answers.probs.max(axis=1), kind="stable")[:count].tolist()


@dataclass(frozen=True)
class Errors:
    """How far expected numbers are off over some photos: mean absolute error, share within five, mean signed error."""

    photos: int
    mean_absolute: float
    near: float
    bias: float


def count_errors(true: np.ndarray, expected: np.ndarray) -> Errors:
    """Both (N,) float, of N photos."""
    off = expected - true
    size = np.abs(off)
    return Errors(len(off), float(size.mean()), float((size <= NEAR).mean()), float(off.mean()))


def true_and_expected(split: Split, task: Task, table: LogitTable) -> tuple[np.ndarray, np.ndarray]:
    """The true and the expected number (N,) of every photo whose number is known."""
    true = known_values(task, [split.facts.get(image_id, {}) for image_id in table.image_ids])
    return np.array(list(true.values()), dtype=float), table.logits[list(true), 0]
