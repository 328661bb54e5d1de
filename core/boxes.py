"""Arithmetic of face boxes: which face is the main one, how a box follows a transform, what window is cropped.

Boxes are in pixels, x to the right and y down, (0, 0) the outer corner of the first pixel; they may leave the photo.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar

import numpy as np


class Box(NamedTuple):
    """A rectangle by its upper left and lower right corner, in pixels."""

    x1: float
    y1: float
    x2: float
    y2: float

    @property
    def width(self) -> float:
        return self.x2 - self.x1

    @property
    def height(self) -> float:
        return self.y2 - self.y1

    @property
    def centre(self) -> tuple[float, float]:
        return (self.x1 + self.x2) / 2, (self.y1 + self.y2) / 2


class HasBox(Protocol):
    """Anything that lies in a box, such as a face."""

    @property
    def box(self) -> Box: ...


AnyFace = TypeVar("AnyFace", bound=HasBox)


def around(centre: tuple[float, float], width: float, height: float) -> Box:
    """The box of that size about a point."""
    x, y = centre
    return Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def area(box: Box) -> float:
    return box.width * box.height


def shared_area(one: Box, other: Box) -> float:
    width = min(one.x2, other.x2) - max(one.x1, other.x1)
    height = min(one.y2, other.y2) - max(one.y1, other.y1)
    return max(0.0, width) * max(0.0, height)


def iou(one: Box, other: Box) -> float:
    """Intersection over union, 0 to 1."""
    shared = shared_area(one, other)
    return shared / (one.width * one.height + other.width * other.height - shared) if shared else 0.0


def covered(one: Box, other: Box) -> float:
    """Fraction of the smaller box that lies in the other one, 0 to 1."""
    shared = shared_area(one, other)
    return shared / min(area(one), area(other)) if shared else 0.0


def prominence(box: Box, photo_size: tuple[int, int]) -> float:
    """How much a box looks like what the photo is of: its size, less the further it lies from the photo's centre.

    `photo_size` is (width, height). A box in the very corner counts nothing, however large.
    """
    width, height = photo_size
    x, y = box.centre
    off_centre = math.hypot(x - width / 2, y - height / 2) / math.hypot(width / 2, height / 2)
    return math.sqrt(box.width * box.height / (width * height)) * max(0.0, 1 - off_centre)


def main_face(faces: Sequence[AnyFace], photo_size: tuple[int, int]) -> AnyFace | None:
    """The face the photo is of: the most prominent one, which need not be the one the detector is surest of."""
    return max(faces, key=lambda face: prominence(face.box, photo_size), default=None)


def carry(matrix: np.ndarray, box: Box) -> Box:
    """The box after an affine map, `matrix` (2, 3) float: the upright box about the ellipse that filled the old one.

    A face fills its box as an ellipse does, so that its box stays tight under any rotation, where the hull of the four
    corners would grow by up to 41%. Half sizes of an ellipse's bounding box: row norms of matrix @ diag(half sizes).
    """
    x, y = matrix @ (*box.centre, 1.0)
    half_width, half_height = np.hypot(*(matrix[:, :2] * (box.width / 2, box.height / 2)).T)
    return Box(*(float(edge) for edge in (x - half_width, y - half_height, x + half_width, y + half_height)))


def carry_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (N, 2) after an affine map, `matrix` (2, 3) float."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def scaled(box: Box, across: float, down: float) -> Box:
    """The box with its x times `across` and its y times `down`: to shares of a photo's sides, or back to pixels."""
    return Box(box.x1 * across, box.y1 * down, box.x2 * across, box.y2 * down)


def median_box(boxes: Sequence[Box]) -> Box:
    """Centre and size by their medians, so that one wrong box among several moves nothing."""
    x, y, width, height = np.median([(*box.centre, box.width, box.height) for box in boxes], axis=0).tolist()
    return around((x, y), width, height)


def crop_window(box: Box, margin: float, aspect: float) -> Box:
    """What is cropped: `margin` of the box's longer side added on each side, then widened or heightened to `aspect`.

    `aspect` is width / height. The window keeps the box's centre and may reach out of the photo.
    """
    added = 2 * margin * max(box.width, box.height)
    width, height = box.width + added, box.height + added
    return around(box.centre, max(width, height * aspect), max(height, width / aspect))
