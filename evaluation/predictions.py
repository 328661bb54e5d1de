"""Predictions of photos, joined with their labels and persons."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from core.tasks import UNKNOWN, Task, combined_tasks
from evaluation.combined_class import combine_labels, combined_log_probs, combined_task, has_combined_tasks
from evaluation.metrics import predictions_table


@dataclass(frozen=True)
class TaskPredictions:
    """Predictions of one task for N photos.

    `log_probs` (N, C) float64, `predicted` (N,) int64, `value_off` (N,) float64 absolute error of the expected value,
    NaN where it is not predicted or not known. `truth` (N,) int64 holds the labels, UNKNOWN where a photo has none; it
    is None where no photo has one.
    """

    task: Task
    image_ids: tuple[str, ...]
    persons: tuple[str, ...]
    log_probs: np.ndarray
    predicted: np.ndarray
    truth: np.ndarray | None
    value_off: np.ndarray

    @cached_property
    def probs(self) -> np.ndarray:
        """(N, C) float64."""
        return np.exp(self.log_probs)

    @cached_property
    def row_of(self) -> dict[str, int]:
        return {image_id: row for row, image_id in enumerate(self.image_ids)}

    @cached_property
    def labelled(self) -> "TaskPredictions":
        """The photos whose labels are known; none where `truth` is None."""
        known = [] if self.truth is None else np.flatnonzero(self.truth != UNKNOWN)
        return self if len(known) == len(self.image_ids) else self.take([self.image_ids[row] for row in known])

    def take(self, image_ids: Sequence[str]) -> "TaskPredictions":
        """These photos in this order."""
        rows = [self.row_of[image_id] for image_id in image_ids]
        persons, truth = tuple(self.persons[row] for row in rows), None if self.truth is None else self.truth[rows]
        arrays = (self.log_probs[rows], self.predicted[rows], truth, self.value_off[rows])
        return TaskPredictions(self.task, tuple(image_ids), persons, *arrays)

    def table(self) -> pd.DataFrame:
        """As a predictions table (see evaluation.metrics); the labels must be known."""
        who = {"image_id": self.image_ids, "person": self.persons}
        return predictions_table(who, self.truth, self.log_probs).assign(value_off=self.value_off)


def shared_photos(predictions: Collection[TaskPredictions]) -> list[str]:
    """Image ids that all of these have, sorted."""
    found = [set(of_task.image_ids) for of_task in predictions]
    return sorted(set.intersection(*found)) if found else []


def combine_predictions(predictions: Mapping[str, TaskPredictions]) -> TaskPredictions | None:
    """The combined class of the photos that all of its tasks have with a label; None without a task or photo."""
    if not has_combined_tasks(predictions):
        return None
    parts = [predictions[task.name].labelled for task in combined_tasks()]
    image_ids = shared_photos(parts)
    if not image_ids:
        return None
    taken = {of_task.task.name: of_task.take(image_ids) for of_task in parts}
    log_probs = combined_log_probs({name: of_task.log_probs for name, of_task in taken.items()})
    truth = combine_labels({name: of_task.truth for name, of_task in taken.items()})
    persons, no_values = taken[parts[0].task.name].persons, np.full(len(image_ids), np.nan)
    predicted = log_probs.argmax(axis=1)
    return TaskPredictions(combined_task(), tuple(image_ids), persons, log_probs, predicted, truth, no_values)


def worst_mistakes(predictions: TaskPredictions, count: int) -> list[int]:
    """Rows of the wrong predictions of highest confidence, one a person, the worst first. Labels must be known."""
    rows = np.arange(len(predictions.image_ids))
    certainty = predictions.probs[rows, predictions.predicted] - predictions.probs[rows, predictions.truth]
    wrong = np.flatnonzero(predictions.predicted != predictions.truth)
    worst: dict[str, int] = {}
    for row in sorted(wrong.tolist(), key=lambda row: (-certainty[row], row)):
        worst.setdefault(predictions.persons[row], row)
    return list(worst.values())[:count]
