"""From a picture to what is said of each face in it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from core.cropping import crop_face
from preprocessing.find_face import Sighting
from serving.types import DEFAULT_UNSURE_BELOW, Answer, Classifier, FacePrediction, Scores


@dataclass(frozen=True)
class Pipeline:
    """Finds faces, crops them with the code and the settings of training, and classifies all crops at once."""

    find: Callable[[np.ndarray], list[Sighting]]
    classify: Classifier
    unsure_below: float = DEFAULT_UNSURE_BELOW

    def __call__(self, rgb: np.ndarray) -> list[FacePrediction]:
        """Predictions for every face of `rgb` (H, W, 3) uint8, the largest face first."""
        faces = self.find(rgb)
        if not faces:
            return []
        scores = self.classify([crop_face(rgb, face.box, self.classify.crop, face.landmarks) for face in faces])
        return [
            FacePrediction(face.box, face.score, face.rung.name, self._answers(scores, row))
            for row, face in enumerate(faces)
        ]

    def _answers(self, scores: Mapping[str, Scores], row: int) -> dict[str, Answer]:
        return {
            task: Answer(
                of_task.classes,
                of_task.log_probs[row],
                None if of_task.values is None else float(of_task.values[row]),
                of_task.unit,
                self.unsure_below,
            )
            for task, of_task in scores.items()
        }
