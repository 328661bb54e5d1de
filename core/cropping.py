"""Cropping: from an image and a box to a crop. Faces are cut out and resized here alone."""

import math
from dataclasses import dataclass, fields

import cv2
import numpy as np

from core.alignment import FACE, are_of_box, to_face, typical_landmarks
from core.boxes import Box, carry_points, crop_window
from core.cli import UserError
from core.files import require_entries

MAX_SIZE = 4096
CUBIC_REACH = 2
"""Pixels on either side that cubic interpolation reads."""


@dataclass(frozen=True)
class CropSettings:
    """`margin`: fraction of the face's longer side added all round; `aspect`: width / height; `size`: height in pixels.

    `align`: the face is rotated and scaled until its landmarks lie at FACE_LANDMARKS.
    """

    margin: float = 0.1
    aspect: float = 1.0
    size: int = 224
    align: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.margin <= 2:
            raise UserError(f"--margin {self.margin}: must be from 0 to 2")
        if not 0.25 <= self.aspect <= 4:
            raise UserError(f"--aspect {self.aspect}: must be from 0.25 to 4")
        if not 8 <= self.size <= MAX_SIZE:
            raise UserError(f"--size {self.size}: must be from 8 to {MAX_SIZE}")

    @classmethod
    def read(cls, where: object, stored: object) -> "CropSettings":
        """Return the settings from a JSON object read at `where`; UserError if it is not one of settings."""
        require_entries(where, stored, {field.name: field.type for field in fields(cls)})
        return cls(**{field.name: stored[field.name] for field in fields(cls)})

    @property
    def width(self) -> int:
        return round(self.size * self.aspect)


def crop_face(image: np.ndarray, box: Box, settings: CropSettings, landmarks: np.ndarray | None = None) -> np.ndarray:
    """Crop the face in `box` out of `image` (H, W, 3) uint8 to (size, size * aspect, 3) uint8.

    Nothing is stretched; where the crop reaches out of the image, the image is mirrored. `landmarks` (5, 2) are the
    face's eyes, nose and mouth corners in pixels. Without them, or with some that cannot belong to the box, an
    aligned crop uses `typical_landmarks`.
    """
    if settings.align:
        fits = landmarks is not None and are_of_box(landmarks, box)
        return _aligned(image, to_face(landmarks if fits else typical_landmarks(box)), settings)
    window = crop_window(box, settings.margin, settings.width / settings.size)
    if window.height < settings.size:
        return _enlarged(image, window, settings)
    patch = _cut(image, round(window.x1), round(window.y1), round(window.width), round(window.height))
    return cv2.resize(patch, (settings.width, settings.size), interpolation=cv2.INTER_AREA)


def _aligned(image: np.ndarray, to_face: np.ndarray, settings: CropSettings) -> np.ndarray:
    """Return the aligned crop, where the similarity `to_face` (2, 3) maps the image's pixels to face coordinates."""
    window = crop_window(FACE, settings.margin, settings.width / settings.size)
    to_image = cv2.invertAffineTransform(to_face)
    step = window.height / settings.size
    image_step = step * float(np.hypot(*to_image[:, 0]))
    # A face larger than its crop is sampled at more points first, then averaged: else fine detail would flicker.
    # Between points that are closer than pixels linear interpolation does, in a third of the time.
    fine = max(1, math.ceil(image_step))
    interpolation = cv2.INTER_CUBIC if fine == 1 else cv2.INTER_LINEAR
    corners = np.array([(x, y) for x in (window.x1, window.x2) for y in (window.y1, window.y2)])
    corners = carry_points(to_image, corners)
    left, top = np.floor(corners.min(axis=0)).astype(int) - CUBIC_REACH
    right, bottom = np.ceil(corners.max(axis=0)).astype(int) + CUBIC_REACH + 1
    patch = _cut(image, left, top, right - left, bottom - top)
    # From the middle of a fine pixel to the middle of a pixel of the patch.
    linear = to_image[:, :2] * (step / fine)
    first = to_image @ (window.x1 + step / fine / 2, window.y1 + step / fine / 2, 1) - (left + 0.5, top + 0.5)
    sampled = cv2.warpAffine(
        patch,
        np.column_stack([linear, first]),
        (settings.width * fine, settings.size * fine),
        flags=interpolation | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return cv2.resize(sampled, (settings.width, settings.size), interpolation=cv2.INTER_AREA) if fine > 1 else sampled


def _cut(image: np.ndarray, x: int, y: int, width: int, height: int) -> np.ndarray:
    """Return whole pixels from (x, y) on, (height, width, 3) uint8, mirrored outside of the image."""
    rows, columns = _mirrored(y, height, image.shape[0]), _mirrored(x, width, image.shape[1])
    # Two takes are five times faster than image[rows[:, None], columns].
    return image.take(rows, axis=0).take(columns, axis=1)


def _mirrored(start: int, count: int, length: int) -> np.ndarray:
    """Return `count` indices from `start` on into an axis of `length`, mirrored at its ends: 2 1 0 1 2 1 0."""
    if length == 1:
        return np.zeros(count, dtype=np.intp)
    period = 2 * (length - 1)
    steps = np.arange(start, start + count) % period
    return np.minimum(steps, period - steps)


def _enlarged(image: np.ndarray, window: Box, settings: CropSettings) -> np.ndarray:
    """Return a window smaller than the crop at subpixel precision: rounding to pixels would stretch a small face."""
    left, top = math.floor(window.x1) - CUBIC_REACH, math.floor(window.y1) - CUBIC_REACH
    sides = (math.ceil(side) + 2 * CUBIC_REACH + 1 for side in (window.width, window.height))
    patch = _cut(image, left, top, *sides)
    scale = window.height / settings.size
    # warpAffine counts from the middle of the first pixel, boxes from its corner: hence the half pixels.
    x, y = window.x1 - left + scale / 2 - 0.5, window.y1 - top + scale / 2 - 0.5
    to_patch = np.array([[scale, 0, x], [0, scale, y]])
    return cv2.warpAffine(
        patch, to_patch, (settings.width, settings.size), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    )
