"""Arithmetic of face boxes: the main face of a photo, boxes under transforms, crop windows.

Boxes are in pixels, x to the right and y down, (0, 0) the outer corner of the first pixel; they may leave the photo.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np


class Box(NamedTuple):
    """Rectangle by its upper left and lower right corner, in pixels."""

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


AnyFace = TypeVar("AnyFace")
"""An object with a `box`, such as a face."""


def around(centre: tuple[float, float], width: float, height: float) -> Box:
    """Return the box of that size about a point."""
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
    """Score a box as the main face of a photo: its relative size, less with its distance from the photo's centre.

    `photo_size` is (width, height). A box whose centre is in a corner scores 0, however large.
    """
    width, height = photo_size
    x, y = box.centre
    off_centre = math.hypot(x - width / 2, y - height / 2) / math.hypot(width / 2, height / 2)
    return math.sqrt(box.width * box.height / (width * height)) * max(0.0, 1 - off_centre)


def main_face(faces: Sequence[AnyFace], photo_size: tuple[int, int]) -> AnyFace | None:
    """Return the most prominent face, which need not be the one with the highest detector score; None for no faces."""
    return max(faces, key=lambda face: prominence(face.box, photo_size), default=None)


def carry(matrix: np.ndarray, box: Box) -> Box:
    """Return the box after an affine map, `matrix` (2, 3) float: the upright box of the old one's ellipse.

    A face fills its box about as an ellipse does, so its box stays tight under any rotation, while that of the four
    corners would grow by up to 41%. Half sizes of an ellipse's bounding box: row norms of matrix @ diag(half sizes).
    """
    x, y = matrix @ (*box.centre, 1.0)
    half_width, half_height = np.hypot(*(matrix[:, :2] * (box.width / 2, box.height / 2)).T)
    return Box(*(float(edge) for edge in (x - half_width, y - half_height, x + half_width, y + half_height)))


def carry_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return points (N, 2) after an affine map, `matrix` (2, 3) float."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def scaled(box: Box, across: float, down: float) -> Box:
    """Return the box with x times `across` and y times `down`: to fractions of a photo's sides, or back to pixels."""
    return Box(box.x1 * across, box.y1 * down, box.x2 * across, box.y2 * down)


def median_box(boxes: Sequence[Box]) -> Box:
    """Return the box of median centre and size, which one wrong box among several does not move."""
    x, y, width, height = np.median([(*box.centre, box.width, box.height) for box in boxes], axis=0).tolist()
    return around((x, y), width, height)


def crop_window(box: Box, margin: float, aspect: float) -> Box:
    """Return the window to crop: `margin` of the longer side added on each side, then extended to `aspect`.

    `aspect` is width / height. The window keeps the box's centre and may reach out of the photo.
    """
    added = 2 * margin * max(box.width, box.height)
    width, height = box.width + added, box.height + added
    return around(box.centre, max(width, height * aspect), max(height, width / aspect))
