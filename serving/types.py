"""Predictions of a classifier: of many faces for a task, and of one face for all tasks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from core.boxes import Box
from core.cropping import CropSettings
from core.tasks import combined_class_name, combined_tasks, encode

DEFAULT_UNSURE_BELOW = 0.6


@dataclass(frozen=True)
class BatchPrediction:
    """Predictions for one task and N faces: log-probabilities (N, C) float, and expected values (N,) float if any.

    `unit` is the name of the values, such as years.
    """

    classes: tuple[str, ...]
    log_probs: np.ndarray
    values: np.ndarray | None = None
    unit: str = ""


class Classifier(Protocol):
    """A trained run, or an exported one. `tasks`: what it predicts; `crop`: the crop settings it needs."""

    @property
    def tasks(self) -> tuple[str, ...]: ...

    @property
    def crop(self) -> CropSettings: ...

    def __call__(self, crops: Sequence[np.ndarray]) -> Mapping[str, BatchPrediction]:
        """Predict, by task, for crops (h, w, 3) uint8 RGB, made with `crop`."""
        ...


@dataclass(frozen=True)
class TaskPrediction:
    """Prediction for one task and face: `log_probs` (C,) float. Unsure if its probability is below `unsure_below`."""

    classes: tuple[str, ...]
    log_probs: np.ndarray
    value: float | None = None
    unit: str = ""
    unsure_below: float = DEFAULT_UNSURE_BELOW

    @cached_property
    def index(self) -> int:
        return int(np.argmax(self.log_probs))

    @property
    def label(self) -> str:
        return self.classes[self.index]

    @property
    def probabilities(self) -> dict[str, float]:
        """Probability of each class, by its name."""
        return dict(zip(self.classes, map(math.exp, self.log_probs), strict=True))

    @property
    def probability(self) -> float:
        return math.exp(self.log_probs[self.index])

    @property
    def unsure(self) -> bool:
        return self.probability < self.unsure_below


@dataclass(frozen=True)
class FacePrediction:
    """Predictions for one face by task, with its box in pixels, the detector's score and the attempt that found it.

    `face.mask` is short for `face.predictions["mask"]`. `track` numbers a face through a video.
    """

    box: Box
    score: float
    attempt: str
    predictions: Mapping[str, TaskPrediction]
    track: int | None = None

    def __getattr__(self, name: str) -> TaskPrediction:
        """Return the prediction of the task of that name."""
        predictions = self.__dict__.get("predictions", {})
        if name not in predictions:
            known = ", ".join(predictions) or "nothing"
            raise AttributeError(f"{name!r} is not predicted for this face; predicted are: {known}")
        return predictions[name]

    @property
    def unsure(self) -> bool:
        return any(prediction.unsure for prediction in self.predictions.values())

    @property
    def combined(self) -> int | None:
        """The combined class; None if one of its tasks is not predicted."""
        if not all(task.name in self.predictions for task in combined_tasks()):
            return None
        return encode({name: prediction.index for name, prediction in self.predictions.items()})

    @property
    def combined_name(self) -> str | None:
        return None if self.combined is None else combined_class_name(self.combined)
