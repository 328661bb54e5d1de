"""Finding the main face of a photo: the plain detection first, and a ladder of further looks where that is not enough.

The rungs of RUNGS are climbed in turn. One that counts alone ends the search with a main face at or above the
threshold. If none does, they are weighed together: the place that most looks agree on wins, so that one false alarm
among many views loses to a face that several of them half see.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.boxes import Box, carry, carry_points, iou, main_face, prominence
from preprocessing.detectors import Detect, Face
from preprocessing.views import View, brightened, contrasted, fitted, take

DEFAULT_THRESHOLD = 0.9
WEAK_SHARE = 1 / 3
"""Faces scored below this share of the threshold are not looked at; those between need the agreement of other looks."""
LEAST_AGREEMENT = 0.9
"""Scores of the looks that agree, summed, as a share of the threshold: what a place needs to be taken for a face.
Chosen, like the rungs, on real faces darkened, blurred, hidden, turned, moved away and covered with noise."""
SAME_PLACE_IOU = 0.5


@dataclass(frozen=True)
class Rung:
    """One look at the photo. `plain` looks make it `detected`, others `fallback`; `alone`: it may end the search."""

    name: str
    view: View
    plain: bool = False
    alone: bool = True


RUNGS: tuple[Rung, ...] = (
    Rung("coarse", View(256), plain=True),
    Rung("fine", View(512), plain=True),
    Rung("middle", View(384)),
    Rung("bright", View(256, tone=brightened)),
    Rung("contrast", View(256, tone=contrasted)),
    Rung("fine-contrast", View(512, tone=contrasted)),
    Rung("small", View(128)),
    Rung("padded", View(128, pad=0.5), alone=False),
    Rung("turned-left-40", View(256, turn=40, tone=brightened), alone=False),
    Rung("turned-right-40", View(256, turn=-40, tone=brightened), alone=False),
    Rung("turned-left-90", View(256, turn=90), alone=False),
    Rung("turned-right-90", View(256, turn=-90), alone=False),
    Rung("upside-down", View(256, turn=180), alone=False),
    Rung("far", View(1024, grow=2), alone=False),
    Rung("very-far", View(1536, grow=3), alone=False),
)


@dataclass(frozen=True)
class Sighting:
    """A face as one rung saw it, in pixels of the photo. `landmarks` (5, 2) as of Face."""

    box: Box
    score: float
    rung: Rung
    landmarks: np.ndarray


def find_face(photo: np.ndarray, detect: Detect, threshold: float = DEFAULT_THRESHOLD) -> Sighting | None:
    """The main face of `photo` (H, W, 3) uint8; None if there is none on any rung.

    One scored below the threshold rests on the agreement of several looks. Its box may reach out of the photo.
    """
    height, width = photo.shape[:2]
    seen: list[Sighting] = []
    shown: set[View] = set()
    for rung in RUNGS:
        view = fitted(rung.view, width, height)
        # On a small photo several rungs show the same picture, which cannot agree with itself.
        if view in shown:
            continue
        shown.add(view)
        sightings = look(photo, detect, rung, threshold)
        main = main_face(sightings, (width, height))
        if rung.alone and main is not None and main.score >= threshold:
            return main
        seen += sightings
    return _agreed(seen, (width, height), threshold * LEAST_AGREEMENT)


def look(photo: np.ndarray, detect: Detect, rung: Rung, threshold: float) -> list[Sighting]:
    """The faces that one rung shows, down to a low score; only what a plain look is sure of need not be plausible."""
    rgb, to_photo = take(photo, rung.view)
    return [
        Sighting(carry(to_photo, face.box), face.score, rung, carry_points(to_photo, face.landmarks))
        for face in detect(rgb, threshold * WEAK_SHARE)
        if min(face.box.width, face.box.height) > 0 and (is_plausible(face) or (rung.plain and face.score >= threshold))
    ]


def is_plausible(face: Face) -> bool:
    """Whether box and landmarks can be those of an upright face: this is where most false alarms differ."""
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


def _agreed(seen: Sequence[Sighting], photo_size: tuple[int, int], least: float) -> Sighting | None:
    """The best sighting of the place with the most agreement, weighed by prominence; None where it is not enough."""
    ranked = []
    for sighting in seen:
        agreement = _agreement(sighting, seen)
        if agreement >= least:
            ranked.append((agreement * prominence(sighting.box, photo_size), sighting.score, sighting))
    return max(ranked, key=lambda entry: entry[:2])[2] if ranked else None


def _agreement(one: Sighting, seen: Sequence[Sighting]) -> float:
    """Scores of the sightings in the same place, summed, each rung counting once with its best."""
    best: dict[str, float] = {}
    for other in seen:
        if iou(one.box, other.box) >= SAME_PLACE_IOU:
            best[other.rung.name] = max(other.score, best.get(other.rung.name, 0.0))
    return sum(best.values())
