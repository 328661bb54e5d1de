"""Soft-edged, antialiased painting in face units.

Face units: the point midway between the eyes is (0, 0), the eyes lie near (-1, 0) and (1, 0), y points down, the
mouth is near y = 2.25 and the chin near y = 3.45. `Pose` projects such points to pixels, `Canvas` paints them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict, Unpack

import cv2
import numpy as np

Colour = tuple[float, float, float]
HEAD_RADII = (2.35, 4.1, 2.0)
HEAD_MIDDLE_Y = 0.1
SUBPIXEL_BITS = 4
STEPS_PER_SPAN = 6
FAINTEST = 0.01
NOTHING = np.zeros((0, 0), np.float32)
CIRCLE = np.array([(math.cos(turn * math.pi / 12), math.sin(turn * math.pi / 12)) for turn in range(24)])


@dataclass(frozen=True)
class Pose:
    """Position of a head in the image: pixels per face unit, pixel of the point (0, 0), angles in radians."""

    scale: float
    x: float
    y: float
    roll: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0

    def project(self, points: np.ndarray, lift: float = 0.0) -> np.ndarray:
        """Project face points (N, 2) to pixels (N, 2) float32; `lift` raises them above the head's ellipsoid."""
        x, y = np.asarray(points, np.float32).T
        inside = 1 - (x / HEAD_RADII[0]) ** 2 - ((y - HEAD_MIDDLE_Y) / HEAD_RADII[1]) ** 2
        height = np.sqrt(np.maximum(inside, 0))
        depth = height * (HEAD_RADII[2] + lift)
        x = x * (1 - (1 - math.cos(self.yaw)) * height) + depth * math.sin(self.yaw)
        y = y + depth * math.sin(self.pitch)
        cos, sin = self.scale * math.cos(self.roll), self.scale * math.sin(self.roll)
        pixels = np.empty((len(x), 2), np.float32)
        pixels[:, 0] = self.x + cos * x - sin * y
        pixels[:, 1] = self.y + sin * x + cos * y
        return pixels


class Brush(TypedDict, total=False):
    """Options of painting a shape.

    soft      blur of the edge in face units
    strength  opacity from 0 to 1
    within    mask (H, W) uint8 that limits the shape
    lift      height above the head's ellipsoid, as for Pose.project
    """

    soft: float
    strength: float
    within: np.ndarray
    lift: float


@dataclass(frozen=True)
class Canvas:
    """Planes (3, H, W) float32 RGB, 0 to 255, painted in place through a pose."""

    planes: np.ndarray
    pose: Pose

    def fill(self, points: np.ndarray, colour: Colour, **brush: Unpack[Brush]) -> None:
        """Paint the closed shape `points` (N, 2) in face units."""
        region, alpha = self._coverage(points, **brush)
        if region is not None:
            area = self.planes[:, *region]
            area += (_per_plane(colour) - area) * alpha

    def shade(self, points: np.ndarray, factor: Colour, **brush: Unpack[Brush]) -> None:
        """Multiply the area under the closed shape by `factor`: below 1 a shadow, above 1 a light."""
        region, alpha = self._coverage(points, **brush)
        if region is not None:
            area = self.planes[:, *region]
            area *= 1 + (_per_plane(factor) - 1) * alpha

    def hatch(
        self, lines: np.ndarray, colour: Colour, *, width: float, within: np.ndarray, strength: float = 1.0
    ) -> None:
        """Paint thin open lines (lines, N, 2) in face units inside the mask `within`."""
        ink = np.zeros(self.planes.shape[1:], np.uint8)
        pixels = _fixed_point(self.pose.project(lines.reshape(-1, 2))).reshape(lines.shape)
        thickness = max(1, round(width * self.pose.scale))
        cv2.polylines(ink, list(pixels), False, 255, thickness, cv2.LINE_AA, SUBPIXEL_BITS)
        ink = cv2.multiply(ink, within, scale=strength / 255)
        x, y, w, h = cv2.boundingRect(ink)
        area = self.planes[:, y : y + h, x : x + w]
        area += (_per_plane(colour) - area) * (ink[y : y + h, x : x + w] * np.float32(1 / 255))

    def mask(self, points: np.ndarray, soft: float = 0.0, lift: float = 0.0) -> np.ndarray:
        """Return the coverage of the closed shape over the whole image, (H, W) uint8, 255 inside."""
        whole = np.zeros(self.planes.shape[1:], np.uint8)
        region, alpha = self._coverage(points, soft=soft, lift=lift)
        if region is not None:
            whole[region] = np.rint(alpha * 255).astype(np.uint8)
        return whole

    def _coverage(
        self,
        points: np.ndarray,
        *,
        soft: float = 0.0,
        strength: float = 1.0,
        within: np.ndarray | None = None,
        lift: float = 0.0,
    ) -> tuple[tuple[slice, slice] | None, np.ndarray]:
        """Return the region that a shape touches (None: none), and its coverage there, float32 from 0 to `strength`."""
        if strength < FAINTEST:
            return None, NOTHING
        outline = self.pose.project(points, lift)
        sigma = soft * self.pose.scale
        margin = int(3 * sigma) + 2
        low = np.maximum(np.floor(outline.min(axis=0)).astype(int) - margin, 0)
        high = np.minimum(np.ceil(outline.max(axis=0)).astype(int) + margin, self.planes.shape[:0:-1])
        if (high <= low).any():
            return None, NOTHING
        region = (slice(low[1], high[1]), slice(low[0], high[0]))
        drawn = _soft_shape(outline - low, (high[0] - low[0], high[1] - low[1]), sigma)
        if within is not None:
            drawn = cv2.multiply(drawn, within[region], scale=1 / 255)
        return region, drawn.astype(np.float32) * np.float32(strength / 255)


def _soft_shape(outline: np.ndarray, size: tuple[int, int], sigma: float) -> np.ndarray:
    """Fill an outline in pixels in a uint8 mask of `size` (width, height), its edge blurred by `sigma` pixels."""
    # A wide blur gives the same result from a coarser drawing, several times faster.
    step = max(1, int(sigma / 1.5))
    coarse = (-(-size[0] // step), -(-size[1] // step))
    drawn = np.zeros(coarse[::-1], np.uint8)
    cv2.fillPoly(drawn, [_fixed_point((outline + 0.5) / step - 0.5)], 255, cv2.LINE_AA, SUBPIXEL_BITS)
    if sigma > 0.3:
        drawn = cv2.GaussianBlur(drawn, (0, 0), sigma / step, borderType=cv2.BORDER_REPLICATE)
    if step == 1:
        return drawn
    return cv2.resize(drawn, (coarse[0] * step, coarse[1] * step))[: size[1], : size[0]]


def _per_plane(colour: Colour) -> np.ndarray:
    return np.float32(colour)[:, None, None]


def _fixed_point(pixels: np.ndarray) -> np.ndarray:
    return np.rint(pixels * (1 << SUBPIXEL_BITS)).astype(np.int32)


def curve(points: Sequence[Sequence[float]] | np.ndarray, closed: bool = False) -> np.ndarray:
    """Return a smooth line (M, 2) through `points` (N, 2), a closed or open Catmull-Rom spline."""
    knots = np.asarray(points, np.float32)
    ends = (knots[-1:], knots[:2]) if closed else (knots[:1], knots[-1:])
    padded = np.concatenate([ends[0], knots, ends[1]])
    before, start, stop, after = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    t = (np.arange(STEPS_PER_SPAN, dtype=np.float32) / STEPS_PER_SPAN)[None, :, None]
    before, start, stop, after = (part[:, None] for part in (before, start, stop, after))
    spans = start + 0.5 * t * (
        stop - before + t * (2 * before - 5 * start + 4 * stop - after + t * (3 * (start - stop) + after - before))
    )
    line = spans.reshape(-1, 2)
    return line if closed else np.concatenate([line, knots[-1:]])


def ribbon(
    points: Sequence[Sequence[float]] | np.ndarray, width: float, taper: tuple[float, float] = (0.1, 0.1)
) -> np.ndarray:
    """Return the outline of a stroke along a smooth line: `width` in the middle, times `taper` at start and end."""
    line = curve(points)
    along = np.gradient(line, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1) / (np.linalg.norm(along, axis=1, keepdims=True) + 1e-6)
    t = np.linspace(0, 1, len(line), dtype=np.float32)[:, None]
    ends = taper[0] * (1 - t) + taper[1] * t
    half = 0.5 * width * (ends + (1 - ends) * np.clip(np.sin(np.pi * t), 0, 1) ** 0.7)
    return np.concatenate([line + normal * half, (line - normal * half)[::-1]])


def ellipse(x: float, y: float, radius_x: float, radius_y: float) -> np.ndarray:
    """Return an upright ellipse as a closed line (24, 2)."""
    return CIRCLE * (radius_x, radius_y) + (x, y)


def mirrored(half: Sequence[Sequence[float]]) -> np.ndarray:
    """Complete a symmetric closed shape from its right half, given from top to bottom."""
    right = np.asarray(half, np.float32)
    return np.concatenate([right, (right * (-1, 1))[::-1]])


def mix(first: Colour, second: Colour, weight: float) -> Colour:
    """Blend `first` with `second`, which has `weight` (0 to 1)."""
    return tuple(a + (b - a) * weight for a, b in zip(first, second, strict=True))
