"""Find the main face of a photo: plain detection first, then further attempts on transformed versions of the photo.

The rows of ATTEMPTS are made in turn. An attempt with `decisive` ends the search if its main face scores at or above
the threshold. If none does, all detections are compared: the place that most attempts agree on wins, so that one
false alarm loses to a face that several attempts find with a low score.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.boxes import Box, carry, carry_points, iou, main_face, prominence
from preprocessing.detectors import Detect, Face, PhotoView, brightened, contrasted, fitted, take_view

DEFAULT_THRESHOLD = 0.9
WEAK_FRACTION = 1 / 3
"""Faces scored below this fraction of the threshold are dropped; those between need other attempts to agree."""
LEAST_AGREEMENT = 0.9
"""Least sum of the scores of agreeing attempts, as a fraction of the threshold, for a place to be taken for a face.
Chosen, like ATTEMPTS, on real faces darkened, blurred, hidden, turned, moved away and covered with noise."""
SAME_PLACE_IOU = 0.5


@dataclass(frozen=True)
class Attempt:
    """One detection attempt. A face of a `plain` one is `detected`, of another `fallback`.

    `decisive`: a face at or above the threshold ends the search.
    """

    name: str
    view: PhotoView
    plain: bool = False
    decisive: bool = True


ATTEMPTS: tuple[Attempt, ...] = (
    Attempt("coarse", PhotoView(256), plain=True),
    Attempt("fine", PhotoView(512), plain=True),
    Attempt("middle", PhotoView(384)),
    Attempt("bright", PhotoView(256, tone=brightened)),
    Attempt("contrast", PhotoView(256, tone=contrasted)),
    Attempt("fine-contrast", PhotoView(512, tone=contrasted)),
    Attempt("small", PhotoView(128)),
    Attempt("padded", PhotoView(128, pad=0.5), decisive=False),
    Attempt("turned-left-40", PhotoView(256, turn=40, tone=brightened), decisive=False),
    Attempt("turned-right-40", PhotoView(256, turn=-40, tone=brightened), decisive=False),
    Attempt("turned-left-90", PhotoView(256, turn=90), decisive=False),
    Attempt("turned-right-90", PhotoView(256, turn=-90), decisive=False),
    Attempt("upside-down", PhotoView(256, turn=180), decisive=False),
    Attempt("far", PhotoView(1024, grow=2), decisive=False),
    Attempt("very-far", PhotoView(1536, grow=3), decisive=False),
)


@dataclass(frozen=True)
class Detection:
    """A face found by one attempt, in pixels of the photo. `landmarks` (5, 2) as of Face."""

    box: Box
    score: float
    attempt: Attempt
    landmarks: np.ndarray


def find_face(photo: np.ndarray, detect: Detect, threshold: float = DEFAULT_THRESHOLD) -> Detection | None:
    """Return the main face of `photo` (H, W, 3) uint8, or None if no attempt finds one.

    A score below the threshold means that several attempts agree. The box may reach out of the photo.
    """
    height, width = photo.shape[:2]
    found: list[Detection] = []
    tried: set[PhotoView] = set()
    for attempt in ATTEMPTS:
        view = fitted(attempt.view, width, height)
        # On a small photo several attempts see the same image, which cannot agree with itself.
        if view in tried:
            continue
        tried.add(view)
        detections = run_attempt(photo, detect, attempt, threshold)
        main = main_face(detections, (width, height))
        if attempt.decisive and main is not None and main.score >= threshold:
            return main
        found += detections
    return _agreed(found, (width, height), threshold * LEAST_AGREEMENT)


def run_attempt(photo: np.ndarray, detect: Detect, attempt: Attempt, threshold: float) -> list[Detection]:
    """Return the faces found by one attempt, low scores included, without those of an implausible shape.

    A face that a plain attempt scores at or above the threshold may have any shape.
    """
    rgb, to_photo = take_view(photo, attempt.view)
    return [
        Detection(carry(to_photo, face.box), face.score, attempt, carry_points(to_photo, face.landmarks))
        for face in detect(rgb, threshold * WEAK_FRACTION)
        if min(face.box.width, face.box.height) > 0
        and (is_plausible(face) or (attempt.plain and face.score >= threshold))
    ]


def is_plausible(face: Face) -> bool:
    """Return whether box and landmarks can be those of an upright face: most false alarms fail this."""
    box = face.box
    if not 0.45 < box.width / box.height < 1.3:
        return False
    points = (face.landmarks - (box.x1, box.y1)) / (box.width, box.height)
    left_eye, right_eye, nose, left_mouth, right_mouth = points
    eyes_y, mouth_y = (left_eye[1] + right_eye[1]) / 2, (left_mouth[1] + right_mouth[1]) / 2
    return bool(
        points.min() > -0.15
        and points.max() < 1.15
        and right_eye[0] - left_eye[0] > 0.15
        and right_mouth[0] - left_mouth[0] > 0.08
        and mouth_y - eyes_y > 0.2
        and eyes_y - 0.05 < nose[1] < mouth_y + 0.05
    )


def _agreed(found: Sequence[Detection], photo_size: tuple[int, int], least: float) -> Detection | None:
    """Return the best detection at the place with the most agreement times prominence, or None below `least`."""
    ranked = []
    for detection in found:
        agreement = _agreement(detection, found)
        if agreement >= least:
            ranked.append((agreement * prominence(detection.box, photo_size), detection.score, detection))
    return max(ranked, key=lambda entry: entry[:2])[2] if ranked else None


def _agreement(one: Detection, found: Sequence[Detection]) -> float:
    """Sum of the scores of the detections at the same place, the best of each attempt."""
    best: dict[str, float] = {}
    for other in found:
        if iou(one.box, other.box) >= SAME_PLACE_IOU:
            best[other.attempt.name] = max(other.score, best.get(other.attempt.name, 0.0))
    return sum(best.values())
