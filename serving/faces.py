"""Find all faces of an image with the detection attempts of preprocessing, crop them as in training, and predict."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np

from core.boxes import area, covered, iou
from core.cli import UserError, row_named
from core.cropping import crop_face
from preprocessing.detectors import Detect, PhotoView, fitted
from preprocessing.faces_table import DECIMALS, rounded
from preprocessing.find_face import ATTEMPTS, Attempt, Detection, find_face, run_attempt
from serving.types import DEFAULT_UNSURE_BELOW, BatchPrediction, Classifier, FacePrediction, TaskPrediction

COARSE, FINE = (row_named(ATTEMPTS, name, what="attempt") for name in ("coarse", "fine"))
PHOTO_ATTEMPTS = (
    COARSE,
    FINE,
    Attempt("wide", PhotoView(1024), plain=True),
    Attempt("widest", PhotoView(2048), plain=True),
)
VIDEO_ATTEMPTS = (COARSE, FINE)
"""A video has another frame soon; each larger view costs four times as much."""
FINE_EVERY = 10
"""Frames of a camera from one fine view to the next."""
SAME_FACE_IOU = 0.4
PART_OF_FACE = 0.6
"""Fraction of the smaller of two boxes inside the larger one above which they cannot be two faces."""
DEFAULT_LEAST_SIZE = 16


@dataclass(frozen=True)
class FaceFinder:
    """Finds every face scored at least `threshold` whose shorter side has at least `least_size` pixels.

    `retry`: where no attempt finds a face, make the further attempts of detect_faces, for one face.
    """

    detect: Detect
    threshold: float
    least_size: int = DEFAULT_LEAST_SIZE
    attempts: Sequence[Attempt] = PHOTO_ATTEMPTS
    retry: bool = True

    def __call__(self, photo: np.ndarray) -> list[Detection]:
        """Return the faces of `photo` (H, W, 3) uint8, the largest first, each as the first attempt found it."""
        found = [
            face
            for attempt in self._distinct_attempts(photo)
            for face in run_attempt(photo, self.detect, attempt, self.threshold)
            if face.score >= self.threshold
        ]
        kept = without_parts(found)
        if not kept and self.retry:
            last = find_face(photo, self.detect, self.threshold)
            kept = [last] if last else []
        large = [face for face in kept if min(face.box.width, face.box.height) >= self.least_size]
        large.sort(key=lambda face: -area(face.box))
        # As faces.csv has them, so that crops are those of training to the pixel.
        return [replace(face, box=rounded(face.box), landmarks=face.landmarks.round(DECIMALS)) for face in large]

    def _distinct_attempts(self, photo: np.ndarray) -> list[Attempt]:
        """Return the attempts that see different images: a small photo is the same in all large views."""
        height, width = photo.shape[:2]
        distinct = {fitted(attempt.view, width, height): attempt for attempt in reversed(self.attempts)}
        return list(reversed(distinct.values()))


def without_parts(found: Sequence[Detection]) -> list[Detection]:
    """Return one detection a face, the first at its place. Of boxes inside one another the best scored stays.

    A large view of a face that fills the photo shows false faces within it, which overlap it little by IoU.
    """
    best: dict[int, float] = {}
    for number, face in enumerate(found):
        same = next((first for first in best if iou(found[first].box, face.box) >= SAME_FACE_IOU), number)
        best[same] = max(face.score, best.get(same, 0.0))
    # Scores that differ by less than a hundredth say nothing: there the larger box is the face.
    ranked = sorted(best, key=lambda number: (round(best[number], 2), area(found[number].box)), reverse=True)
    kept: list[int] = []
    for number in ranked:
        if all(covered(found[number].box, found[other].box) < PART_OF_FACE for other in kept):
            kept.append(number)
    return [found[number] for number in sorted(kept)]


class StreamFinder:
    """Finds the faces of a camera's frames in the coarse view, which costs a quarter of both.

    The fine view is taken too on every tenth frame, and for as long as it shows faces that the coarse one does not.
    """

    def __init__(self, finder: FaceFinder) -> None:
        self._both, self._coarse = finder, replace(finder, attempts=(COARSE,))
        self._frames = 0

    def __call__(self, rgb: np.ndarray) -> list[Detection]:
        """Return the faces of the next frame (H, W, 3) uint8, the largest first."""
        if self._frames % FINE_EVERY:
            self._frames += 1
            return self._coarse(rgb)
        faces = self._both(rgb)
        self._frames = 0 if any(face.attempt is FINE for face in faces) else 1
        return faces


@dataclass(frozen=True)
class FaceCrops:
    """Faces of one image and their crops (h, w, 3) uint8, in the same order."""

    faces: Sequence[Detection]
    crops: Sequence[np.ndarray]


@dataclass(frozen=True)
class Pipeline:
    """Finds faces, crops them with the code and the settings of training, and classifies all crops at once.

    `about`: lines that say which models classify.
    """

    find: Callable[[np.ndarray], list[Detection]]
    classify: Classifier
    unsure_below: float = DEFAULT_UNSURE_BELOW
    about: str = ""

    def __call__(self, rgb: np.ndarray) -> list[FacePrediction]:
        """Return predictions for every face of `rgb` (H, W, 3) uint8, the largest face first. UserError for NaN."""
        return self.predict([self.cut(rgb)])[0]

    def cut(self, rgb: np.ndarray) -> FaceCrops:
        """Find and crop every face of `rgb` (H, W, 3) uint8, the largest first."""
        faces = self.find(rgb)
        return FaceCrops(faces, [crop_face(rgb, face.box, self.classify.crop, face.landmarks) for face in faces])

    def predict(self, images: Sequence[FaceCrops]) -> list[list[FacePrediction]]:
        """Return predictions for the faces of each image; the crops of all images are classified together."""
        crops = [crop for image in images for crop in image.crops]
        if not crops:
            return [[] for _ in images]
        batch = self.classify(crops)
        diverged = [task for task, of_task in batch.items() if not np.isfinite(of_task.log_probs).all()]
        if diverged:
            raise UserError(f"the model of {', '.join(diverged)} gives NaN; it has diverged in training, train it anew")
        rows = count()
        return [
            [
                FacePrediction(face.box, face.score, face.attempt.name, self._of_row(batch, next(rows)))
                for face in image.faces
            ]
            for image in images
        ]

    def _of_row(self, batch: Mapping[str, BatchPrediction], row: int) -> dict[str, TaskPrediction]:
        return {
            task: TaskPrediction(
                of_task.classes,
                of_task.log_probs[row],
                None if of_task.values is None else float(of_task.values[row]),
                of_task.unit,
                self.unsure_below,
            )
            for task, of_task in batch.items()
        }
