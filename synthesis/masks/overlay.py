"""Lay shapes over the image of a face: places on the face, covers, cloth, soft edges and shadows.

Places are given as in synthesis.masks.tables: x in distances between the eyes from the middle line of the face, y in
eye-to-mouth distances down from the eyes (1 = mouth, about 1.75 = chin). A cover is (H, W) uint8, the opacity of a
shape; colours are (H, W, 3) float32 in grey levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from core.boxes import carry_points
from synthesis.masks.shape import FaceFrame, Points, face_frame

FRACTION_BITS = 4
SKIN_SPOTS = ((-0.55, 0.35), (-0.55, 0.45), (-0.55, 0.6), (0.55, 0.35), (0.55, 0.45), (0.55, 0.6), (0.0, 0.3))
BRIGHT_SKIN = 165.0  # grey level of well exposed skin of a middle tone


@dataclass(frozen=True)
class Surface:
    """The face of an image (H, W, 3) uint8 RGB as something to draw on; `landmarks` (5, 2) as of `put_on_mask`."""

    image: np.ndarray
    landmarks: Points

    @cached_property
    def frame(self) -> FaceFrame:
        return face_frame(self.landmarks)

    @property
    def shape(self) -> tuple[int, int]:
        return self.image.shape[:2]

    @property
    def unit(self) -> float:
        """Pixels between the eyes."""
        return self.frame.unit

    @property
    def blur(self) -> float:
        """Softness of edges, pixels."""
        return float(np.clip(self.unit / 90, 0.3, 2.0))

    @cached_property
    def skin(self) -> np.ndarray:
        """Colour (3,) float32 of the cheeks."""
        return self.seen_at(SKIN_SPOTS)

    def seen_at(self, spots: Sequence[tuple[float, float]]) -> np.ndarray:
        """Return the median colour (3,) float32 of some places on the face."""
        places = np.rint(np.concatenate([self.at(x, y) for x, y in spots])).astype(int)
        places = np.clip(places, 0, np.array(self.shape[::-1]) - 1)
        return np.median(self.image[places[:, 1], places[:, 0]], axis=0).astype(np.float32)

    @property
    def level(self) -> float:
        """Brightness of the image, 1 = well exposed."""
        return float(np.clip(self.skin.mean() / BRIGHT_SKIN, 0.35, 1.15))

    def at(self, x: np.ndarray | float, y: np.ndarray | float) -> Points:
        """Return places on the face as (N, 2) pixels of the image."""
        x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
        down = y.ravel() * self.frame.reach
        local = np.column_stack([self.frame.midline(down) + x.ravel() * self.unit, down])
        to_image = self.frame.to_image((0, 0))
        return carry_points(to_image, local)

    def polygon(self, corners: Points) -> np.ndarray:
        """Return the cover of a polygon (N, 2) in pixels of the image."""
        cover = np.zeros(self.shape, np.uint8)
        cv2.fillPoly(cover, [fixed_point(corners)], 255, cv2.LINE_AA, FRACTION_BITS)
        return cover

    def stroke(self, points: Points, width: float, *, closed: bool = False) -> np.ndarray:
        """Return the cover of a line of `width` pixels with round ends."""
        cover = np.zeros(self.shape, np.uint8)
        cv2.polylines(cover, [fixed_point(points)], closed, 255, max(1, round(width)), cv2.LINE_AA, FRACTION_BITS)
        return cover

    def ellipse(self, centre: Points, half_sizes: tuple[float, float], degrees: float = 0.0) -> np.ndarray:
        """Return the cover of an ellipse in pixels of the image."""
        cover = np.zeros(self.shape, np.uint8)
        place, axes = fixed_point(centre).tolist(), fixed_point(np.array(half_sizes)).tolist()
        cv2.ellipse(cover, place, axes, degrees, 0, 360, 255, -1, cv2.LINE_AA, FRACTION_BITS)
        return cover

    def plain(self, colour: np.ndarray | float) -> np.ndarray:
        """Return colours (H, W, 3) float32, the same everywhere."""
        return np.broadcast_to(np.asarray(colour, np.float32), (*self.shape, 3)).astype(np.float32)

    def colour(self, rng: np.random.Generator) -> np.ndarray:
        """Draw any colour (3,), a grey in two of five, under the light of the image."""
        return (rng.uniform(8, 245, 3) if rng.random() < 0.6 else np.full(3, rng.uniform(8, 245))) * self.level

    def fabric(self, colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw the colours of a cloth: a piece of the image, stripes or checks, or plain, with soft folds."""
        kind = rng.random()
        if kind < 0.3:
            cloth = _enlarged_piece(self.image, rng)
        else:
            cloth = self.plain(colour)
            if kind < 0.55:
                stripes = _stripes(self.shape, rng)[..., None]
                cloth = cloth * (1 - stripes) + rng.uniform(10, 245, 3).astype(np.float32) * stripes
        hills = hilly(self.shape, rng.integers(3, 12, 2), rng)
        grain = rng.standard_normal((*self.shape, 1), np.float32) * np.float32(rng.uniform(0, 5))
        return cloth * (1 + np.float32(rng.uniform(0.04, 0.22)) * hills)[..., None] + grain


def fixed_point(points: Points) -> np.ndarray:
    return np.rint(np.asarray(points) * (1 << FRACTION_BITS)).astype(np.int32)


def hilly(shape: tuple[int, int], cells: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Draw smooth random hills (H, W) float32, about one per cell, with a spread of about 1."""
    coarse = rng.standard_normal(tuple(cells), np.float32)
    return cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)


def _enlarged_piece(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a square of the image, up to half as wide, enlarged to its size, float32."""
    side = max(2, int(rng.uniform(0.08, 0.5) * min(image.shape[:2])))
    y, x = rng.integers(0, np.array(image.shape[:2]) - side + 1)
    piece = image[y : y + side, x : x + side]
    return cv2.resize(piece, image.shape[1::-1], interpolation=cv2.INTER_CUBIC).astype(np.float32)


def _stripes(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw the opacity (H, W) of a second colour in stripes, or in checks in two of five."""
    down, across = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), rng.uniform(6, 40)
    lines = across * np.cos(angle) + down * np.sin(angle), across * np.sin(angle) - down * np.cos(angle)
    first, second = (np.clip(np.sin(line * (2 * np.pi / period)) * 3 + 0.5, 0, 1) for line in lines)
    return first * second if rng.random() < 0.4 else first


def smooth_ring(corners: Points, count: int = 60) -> Points:
    """Return a closed curve (count, 2) that rounds the given corners."""
    ring = np.vstack([corners, corners[:1]])
    along, knots = np.linspace(0, len(ring) - 1, count), np.arange(len(ring))
    dense = np.column_stack([np.interp(along, knots, ring[:, axis]) for axis in (0, 1)])
    reach = max(3, count // len(ring) | 1)
    wrapped = np.vstack([dense[-reach - 1 : -1], dense, dense[1 : reach + 1]])
    window = np.hanning(reach + 2)[1:-1] / np.hanning(reach + 2).sum()
    smooth = np.column_stack([np.convolve(wrapped[:, axis], window, mode="same") for axis in (0, 1)])
    return smooth[reach:-reach]


def lay(
    surface: Surface,
    image: np.ndarray,
    cover: np.ndarray,
    colours: np.ndarray,
    rng: np.random.Generator,
    *,
    shadow: tuple[float, float] = (0.0, 0.5),
    roundness: float = 0.0,
) -> np.ndarray:
    """Return a copy of the image with `colours` where `cover` is, with a soft edge.

    `shadow` is the range of the strength of its shadow, 0 to 1; `roundness` darkens it towards its edge, 0 for flat.
    """
    x, y, width, height = cv2.boundingRect(cover)
    if not width:
        return image
    pad, unit = int(0.25 * surface.unit + 4 * surface.blur + 3), surface.unit
    area = slice(max(0, y - pad), y + height + pad), slice(max(0, x - pad), x + width + pad)
    cover, colours, under = cover[area], colours[area].astype(np.float32), image[area].astype(np.float32)
    strength = rng.uniform(*shadow)
    if strength > 0:
        under *= (1 - strength * _shadow(cover, unit, rng))[..., None]
    if roundness:
        inside = cv2.distanceTransform((cover > 127).astype(np.uint8), cv2.DIST_L2, 3)
        colours = colours * (1 - roundness * (1 - np.sqrt(inside / max(1.0, inside.max()))))[..., None]
    soft = cv2.GaussianBlur(cover, (0, 0), surface.blur).astype(np.float32)[..., None] / 255
    result = image.copy()
    result[area] = np.clip(under * (1 - soft) + colours * soft, 0, 255).astype(np.uint8)
    return result


def _shadow(cover: np.ndarray, unit: float, rng: np.random.Generator) -> np.ndarray:
    soft = cv2.GaussianBlur(cover, (0, 0), max(0.6, 0.06 * unit)).astype(np.float32) / 255
    aside, down = rng.normal(0, 0.04, 2) * unit
    move = np.array([[1, 0, aside], [0, 1, down + 0.03 * unit]], np.float32)
    return cv2.warpAffine(soft, move, soft.shape[::-1])
