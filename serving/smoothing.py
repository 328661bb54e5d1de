"""Follow faces through a video and average the predictions of each over the last moments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from core.boxes import Box, iou
from evaluation.logits import log_softmax
from serving.types import FacePrediction, TaskPrediction

HALF_LIFE = 0.5
"""Seconds after which a frame counts half, unless others are asked for."""
SAME_TRACK_IOU = 0.3
FORGET_SECONDS = 1.0
LEAST_LOG_PROB = np.log(1e-3)
"""Lower limit, so that one frame with a wrong certainty does not outvote all others."""


@dataclass
class _Track:
    number: int
    box: Box
    seconds: float
    weight: float = 0.0
    sums: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, face: FacePrediction, seconds: float, decay: float) -> None:
        """Multiply the past by `decay` and add a frame."""
        self.box, self.seconds = face.box, seconds
        self.weight = self.weight * decay + 1
        for task, prediction in face.predictions.items():
            self.sums[task] = self.sums.get(task, 0) * decay + _as_vector(prediction)

    def predictions(self, latest: Mapping[str, TaskPrediction]) -> dict[str, TaskPrediction]:
        return {task: _averaged(prediction, self.sums[task] / self.weight) for task, prediction in latest.items()}


def _as_vector(prediction: TaskPrediction) -> np.ndarray:
    """Return the log-probabilities followed by the value, (C + 1,)."""
    return np.append(np.maximum(prediction.log_probs, LEAST_LOG_PROB), prediction.value or 0.0)


def _averaged(prediction: TaskPrediction, mean: np.ndarray) -> TaskPrediction:
    value = None if prediction.value is None else float(mean[-1])
    return replace(prediction, log_probs=log_softmax(mean[None, :-1])[0], value=value)


class Smoother:
    """Joins a frame's faces to those before by the overlap of their boxes, and averages log-probabilities over time.

    A frame counts half as much as one `half_life` seconds later; 0 turns averaging off.
    """

    def __init__(self, half_life: float = 0.5) -> None:
        self._half_life = half_life
        self._tracks: list[_Track] = []
        self._count = 0

    def __call__(self, faces: Sequence[FacePrediction], seconds: float) -> list[FacePrediction]:
        """Return the faces of the frame at `seconds`, with the number of their track and the averaged predictions."""
        self._tracks = [track for track in self._tracks if seconds - track.seconds <= FORGET_SECONDS]
        joined = self._joined(faces)
        smoothed = []
        for place, face in enumerate(faces):
            track = joined.get(place) or self._new_track(face, seconds)
            track.add(face, seconds, self._decay(seconds - track.seconds))
            smoothed.append(replace(face, predictions=track.predictions(face.predictions), track=track.number))
        return smoothed

    def _joined(self, faces: Sequence[FacePrediction]) -> dict[int, _Track]:
        """Return the track of each face that has one, by the face's index: largest overlaps first, each track once."""
        pairs = [(iou(face.box, track.box), place, number)
                 for place, face in enumerate(faces) for number, track in enumerate(self._tracks)]  # fmt: skip
        joined, taken = {}, set()
        for overlap, place, number in sorted(pairs, reverse=True):
            if overlap >= SAME_TRACK_IOU and place not in joined and number not in taken:
                joined[place] = self._tracks[number]
                taken.add(number)
        return joined

    def _new_track(self, face: FacePrediction, seconds: float) -> _Track:
        self._count += 1
        self._tracks.append(_Track(self._count, face.box, seconds))
        return self._tracks[-1]

    def _decay(self, seconds: float) -> float:
        return 0.5 ** (seconds / self._half_life) if self._half_life else 0.0
