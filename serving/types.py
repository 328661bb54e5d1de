"""What a classifier says of faces, and what is told of one face."""

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
class Scores:
    """One task, N faces: log-probabilities (N, C) float, and expected values (N,) float where the task has them.

    `unit` is the name of the values, such as years.
    """

    classes: tuple[str, ...]
    log_probs: np.ndarray
    values: np.ndarray | None = None
    unit: str = ""


class Classifier(Protocol):
    """A trained run, or an exported one. `crop` says how its faces are to be cropped."""

    @property
    def crop(self) -> CropSettings: ...

    def __call__(self, crops: Sequence[np.ndarray]) -> Mapping[str, Scores]:
        """Scores by task for crops (h, w, 3) uint8 RGB, made with `crop`."""
        ...


@dataclass(frozen=True)
class Answer:
    """One task, one face: `log_probs` (C,) float. It is unsure where its best probability is below `unsure_below`."""

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
    def probability(self) -> float:
        return math.exp(self.log_probs[self.index])

    @property
    def unsure(self) -> bool:
        return self.probability < self.unsure_below


@dataclass(frozen=True)
class FacePrediction:
    """One face: its box in pixels of the picture, the detector's score, the look that found it, an answer per task.

    `track` numbers a face through a video.
    """

    box: Box
    score: float
    found: str
    answers: Mapping[str, Answer]
    track: int | None = None

    @property
    def unsure(self) -> bool:
        return any(answer.unsure for answer in self.answers.values())

    @property
    def combined(self) -> int | None:
        """The combined class; None if a task it is made of has no answer."""
        if not all(task.name in self.answers for task in combined_tasks()):
            return None
        return encode({name: answer.index for name, answer in self.answers.items()})

    @property
    def combined_name(self) -> str | None:
        return None if self.combined is None else combined_class_name(self.combined)
