"""Cropping: from an image and a box to a crop. Faces are cut out and resized here alone."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial

import cv2
import numpy as np

from core.alignment import FACE, are_of_box, to_face, typical_landmarks
from core.boxes import Box, carry_points, crop_window
from core.cli import UserError
from core.files import require_entries

MAX_SIZE = 4096
CUBIC_REACH = 2
"""Pixels on either side that cubic interpolation reads."""


ABOVE, ADDED = 1 / 14, 6 / 14
"""Room above the window of the face, and above and below it together, in its heights. The wide window is a square. At
224 pixels there are 16 above, 80 below and 48 on each side: whole blocks of a JPEG, so that the face's pixels are those
of a crop without surroundings."""
GREY = 127
"""Grey level of the surroundings where the photo ends: a mirrored chin would be a second mouth."""
FACE_WINDOW, WIDE_WINDOW = WINDOWS = ("face", "wide")
"""Parts of a crop that a network may be shown: the face as tightly as `margin` says, or all with the surroundings."""


@dataclass(frozen=True)
class CropSettings:
    """`margin`: fraction of the face's longer side added all round; `aspect`: width / height; `size`: height in pixels.

    These are the window of the face. `surroundings`: the crop holds room around it, for chin and neck; crops of earlier
    versions do not. `align`: the face is rotated and scaled until its landmarks lie at FACE_LANDMARKS.
    """

    margin: float = 0.1
    aspect: float = 1.0
    size: int = 224
    align: bool = True
    surroundings: bool = True

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
        if isinstance(stored, dict):
            stored = {"surroundings": False} | stored
        require_entries(where, stored, {field.name: field.type for field in fields(cls)})
        return cls(**{field.name: stored[field.name] for field in fields(cls)})

    @property
    def width(self) -> int:
        """Width of the face's window in pixels."""
        return round(self.size * self.aspect)

    @property
    def room(self) -> tuple[int, int, int]:
        """Pixels above, below and on each side of the face's window."""
        if not self.surroundings:
            return 0, 0, 0
        above, added = round(self.size * ABOVE), 2 * round(self.size * ADDED / 2)
        return above, added - above, max(0, (self.size + added - self.width) // 2)

    @property
    def shape(self) -> tuple[int, int]:
        """(h, w) of a crop, surroundings included."""
        above, below, beside = self.room
        return self.size + above + below, self.width + 2 * beside

    @property
    def face_window(self) -> tuple[slice, slice]:
        """Rows and columns of the face's window in a crop."""
        above, _, beside = self.room
        return slice(above, above + self.size), slice(beside, beside + self.width)

    def refuse_absent(self, window: str) -> None:
        """UserError if crops of these settings lack a window."""
        if window == WIDE_WINDOW and not self.surroundings:
            raise UserError(
                f"--window {window}: these crops, of an earlier version, end at the face; run "
                f"preprocessing/crop_faces.py again, or give --window {FACE_WINDOW}"
            )

    def shape_of(self, window: str) -> tuple[int, int]:
        """(h, w) of a window of WINDOWS. UserError if crops of these settings lack it."""
        self.refuse_absent(window)
        return self.shape if window == WIDE_WINDOW else (self.size, self.width)

    def cut(self, crop: np.ndarray, window: str) -> np.ndarray:
        """Return a window of a crop (h, w, 3) of these settings. UserError if it lacks it."""
        self.refuse_absent(window)
        return crop[self.face_window] if self.surroundings and window == FACE_WINDOW else crop


@dataclass(frozen=True)
class CropImages:
    """Crops (h, w, 3) uint8 RGB in memory, cut with these settings."""

    crops: Sequence[np.ndarray]
    settings: CropSettings


def shared_settings(settings: Sequence[CropSettings], windows: Collection[str]) -> CropSettings | None:
    """Return settings of crops that all these windows can be cut from, as each would be; None if there are none."""
    needed = {replace(one, surroundings=WIDE_WINDOW in windows) for one in settings}
    return needed.pop() if len(needed) == 1 else None


def crop_face(image: np.ndarray, box: Box, settings: CropSettings, landmarks: np.ndarray | None = None) -> np.ndarray:
    """Crop the face in `box` out of `image` (H, W, 3) uint8 to (*settings.shape, 3) uint8.

    Nothing is stretched; where the crop reaches out of the image, the image is mirrored within the window of the face,
    and grey in its surroundings. `landmarks` (5, 2) are the face's eyes, nose and mouth corners in pixels. Without
    them, or with some that cannot belong to the box, an aligned crop uses `typical_landmarks`.
    """
    to_plane, window = _placed(box, settings, landmarks)
    sample = partial(_aligned, image, to_plane) if settings.align else partial(_upright, image)
    face = sample(window, (settings.size, settings.width), _mirrored)
    if not settings.surroundings:
        return face
    crop = np.ascontiguousarray(sample(_with_room(window, settings), settings.shape, _in_grey))
    crop[settings.face_window] = face
    return crop


def to_crop(box: Box, settings: CropSettings, landmarks: np.ndarray | None = None) -> np.ndarray:
    """Return the map (2, 3) from pixels of an image to those of the crop that `crop_face` makes of it."""
    to_plane, window = _placed(box, settings, landmarks)
    scale, whole = settings.size / window.height, _with_room(window, settings)
    return scale * (to_plane - [(0, 0, whole.x1), (0, 0, whole.y1)])


def _placed(box: Box, settings: CropSettings, landmarks: np.ndarray | None) -> tuple[np.ndarray, Box]:
    """Return the map (2, 3) of pixels to face coordinates, or to themselves unless aligned; and the face's window."""
    fits = landmarks is not None and are_of_box(landmarks, box)
    to_plane = to_face(landmarks if fits else typical_landmarks(box)) if settings.align else np.eye(2, 3)
    return to_plane, crop_window(FACE if settings.align else box, settings.margin, settings.width / settings.size)


def _with_room(window: Box, settings: CropSettings) -> Box:
    above, below, beside = (pixels * window.height / settings.size for pixels in settings.room)
    return Box(window.x1 - beside, window.y1 - above, window.x2 + beside, window.y2 + below)


Cut = Callable[[np.ndarray, int, int, int, int], np.ndarray]
"""Function of an image, x, y, width and height to whole pixels (height, width, 3) uint8 from (x, y) on."""


def _aligned(image: np.ndarray, to_face: np.ndarray, window: Box, shape: tuple[int, int], cut: Cut) -> np.ndarray:
    """Return a window in face coordinates at `shape` (h, w); the similarity `to_face` (2, 3) maps pixels to them."""
    height, width = shape
    to_image = cv2.invertAffineTransform(to_face)
    step = window.height / height
    image_step = step * float(np.hypot(*to_image[:, 0]))
    # A face larger than its crop is sampled at more points first, then averaged: else fine detail would flicker.
    # Between points that are closer than pixels linear interpolation does, in a third of the time.
    fine = max(1, math.ceil(image_step))
    interpolation = cv2.INTER_CUBIC if fine == 1 else cv2.INTER_LINEAR
    corners = np.array([(x, y) for x in (window.x1, window.x2) for y in (window.y1, window.y2)])
    corners = carry_points(to_image, corners)
    left, top = np.floor(corners.min(axis=0)).astype(int) - CUBIC_REACH
    right, bottom = np.ceil(corners.max(axis=0)).astype(int) + CUBIC_REACH + 1
    patch = cut(image, left, top, right - left, bottom - top)
    # From the middle of a fine pixel to the middle of a pixel of the patch.
    linear = to_image[:, :2] * (step / fine)
    first = to_image @ (window.x1 + step / fine / 2, window.y1 + step / fine / 2, 1) - (left + 0.5, top + 0.5)
    sampled = cv2.warpAffine(
        patch,
        np.column_stack([linear, first]),
        (width * fine, height * fine),
        flags=interpolation | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return cv2.resize(sampled, (width, height), interpolation=cv2.INTER_AREA) if fine > 1 else sampled


def _upright(image: np.ndarray, window: Box, shape: tuple[int, int], cut: Cut) -> np.ndarray:
    """Return a window in pixels of the image at `shape` (h, w)."""
    height, width = shape
    if window.height < height:
        return _enlarged(image, window, shape, cut)
    patch = cut(image, round(window.x1), round(window.y1), round(window.width), round(window.height))
    return cv2.resize(patch, (width, height), interpolation=cv2.INTER_AREA)


def _enlarged(image: np.ndarray, window: Box, shape: tuple[int, int], cut: Cut) -> np.ndarray:
    """Return a window smaller than the crop at subpixel precision: rounding to pixels would stretch a small face."""
    height, width = shape
    left, top = math.floor(window.x1) - CUBIC_REACH, math.floor(window.y1) - CUBIC_REACH
    sides = (math.ceil(side) + 2 * CUBIC_REACH + 1 for side in (window.width, window.height))
    patch = cut(image, left, top, *sides)
    scale = window.height / height
    # warpAffine counts from the middle of the first pixel, boxes from its corner: hence the half pixels.
    x, y = window.x1 - left + scale / 2 - 0.5, window.y1 - top + scale / 2 - 0.5
    to_patch = np.array([[scale, 0, x], [0, scale, y]])
    return cv2.warpAffine(patch, to_patch, (width, height), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)


def _mirrored(image: np.ndarray, x: int, y: int, width: int, height: int) -> np.ndarray:
    """Return whole pixels from (x, y) on, (height, width, 3) uint8, mirrored outside of the image."""
    rows, columns = _there_and_back(y, height, image.shape[0]), _there_and_back(x, width, image.shape[1])
    # Two takes are five times faster than image[rows[:, None], columns].
    return image.take(rows, axis=0).take(columns, axis=1)


def _in_grey(image: np.ndarray, x: int, y: int, width: int, height: int) -> np.ndarray:
    """Return whole pixels from (x, y) on, (height, width, 3) uint8, grey outside of the image."""
    patch = np.full((height, width, 3), GREY, np.uint8)
    inside = image[max(0, y) : max(0, y + height), max(0, x) : max(0, x + width)]
    top, left = max(0, -y), max(0, -x)
    patch[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return patch


def _there_and_back(start: int, count: int, length: int) -> np.ndarray:
    """Return `count` indices from `start` on into an axis of `length`, mirrored at its ends: 2 1 0 1 2 1 0."""
    if length == 1:
        return np.zeros(count, dtype=np.intp)
    period = 2 * (length - 1)
    steps = np.arange(start, start + count) % period
    return np.minimum(steps, period - steps)
