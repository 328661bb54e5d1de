"""Compare two classifiers: differences of their probabilities, and speed."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from serving.types import BatchPrediction

Classify = Callable[[Sequence[np.ndarray]], Mapping[str, BatchPrediction]]


@dataclass(frozen=True)
class Agreement:
    """Two classifiers on one task: largest and mean difference of a probability, and the fraction of equal labels."""

    task: str
    largest: float
    mean: float
    labels: float


def agreements(one: Mapping[str, BatchPrediction], other: Mapping[str, BatchPrediction]) -> list[Agreement]:
    """Compare the predictions of the same faces in the same order, task by task."""
    rows = []
    for task, batch in one.items():
        first, second = np.exp(batch.log_probs), np.exp(other[task].log_probs)
        apart = np.abs(first - second)
        same = (first.argmax(axis=1) == second.argmax(axis=1)).mean()
        rows.append(Agreement(task, float(apart.max()), float(apart.mean()), float(same)))
    return rows


def format_agreements(title: str, rows: Sequence[Agreement]) -> str:
    lines = [f"{title:<36}{'largest difference':>20}{'mean':>12}{'same label':>12}"]
    lines += [f"  {row.task:<34}{row.largest:>20.2e}{row.mean:>12.2e}{row.labels:>12.1%}" for row in rows]
    return "\n".join(lines)


def seconds_each(classifiers: Sequence[Classify], crops: Sequence[np.ndarray], rounds: int = 5) -> list[float]:
    """Return the median seconds a crop of each classifier, run in turn, so that a slow machine slows them all."""
    taken: list[list[float]] = [[] for _ in classifiers]
    for number in range(rounds + 1):
        for times, classify in zip(taken, classifiers, strict=True):
            began = time.perf_counter()
            classify(crops)
            # The first round warms up.
            times += [time.perf_counter() - began] if number else []
    return [statistics.median(times) / len(crops) for times in taken]
