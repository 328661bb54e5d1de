"""All faces of a picture, found with the looks that preprocessing takes, so that boxes are those training has seen."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from core.boxes import iou
from core.cli import row_named
from preprocessing.detectors import Detect
from preprocessing.faces_table import rounded
from preprocessing.find_face import RUNGS, Rung, Sighting, find_face, look
from preprocessing.views import View, fitted

COARSE, FINE = (row_named(RUNGS, name, what="look") for name in ("coarse", "fine"))
PHOTO_LOOKS = (COARSE, FINE, Rung("wide", View(1024), plain=True), Rung("widest", View(2048), plain=True))
VIDEO_LOOKS = (COARSE, FINE)
"""A video has another frame soon; larger looks cost four times as much each."""
SAME_FACE_IOU = 0.4
DEFAULT_LEAST_SIZE = 16


@dataclass(frozen=True)
class FaceFinder:
    """Finds every face scored at least `threshold` whose shorter side has at least `least_size` pixels.

    `climb`: where no look shows a face, climb the ladder of further tries that detect_faces climbs, for one face.
    """

    detect: Detect
    threshold: float
    least_size: int = DEFAULT_LEAST_SIZE
    looks: Sequence[Rung] = PHOTO_LOOKS
    climb: bool = True

    def __call__(self, photo: np.ndarray) -> list[Sighting]:
        """Faces of `photo` (H, W, 3) uint8, the largest first. A face keeps the box of the first look that shows it."""
        kept: list[Sighting] = []
        for rung in self._looks_at(photo):
            found = [face for face in look(photo, self.detect, rung, self.threshold) if face.score >= self.threshold]
            kept += [face for face in found if all(iou(face.box, other.box) < SAME_FACE_IOU for other in kept)]
        if not kept and self.climb:
            last = find_face(photo, self.detect, self.threshold)
            kept = [last] if last else []
        large = [face for face in kept if min(face.box.width, face.box.height) >= self.least_size]
        large.sort(key=lambda face: -face.box.width * face.box.height)
        return [replace(face, box=rounded(face.box)) for face in large]

    def _looks_at(self, photo: np.ndarray) -> list[Rung]:
        """The looks that show different pictures: on a small photo the large ones show what a smaller one did."""
        height, width = photo.shape[:2]
        different = {fitted(rung.view, width, height): rung for rung in reversed(self.looks)}
        return list(reversed(different.values()))
