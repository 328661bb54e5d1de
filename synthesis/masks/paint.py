"""Paint a placed mask as a layer (colour and opacity) and lay it over an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from synthesis.masks.light import Light, PhotoQuality
from synthesis.masks.shape import FaceFrame, FlatSheet, HeadSheet, Points, Sheet, outline
from synthesis.masks.texture import ClothStyle, draw_cloth

FRACTION_BITS = 4  # OpenCV draws on a grid of 1/16 pixel
LARGEST_CLOTH = 640  # pixels across; more detail would not be visible


@dataclass(frozen=True)
class Straps:
    """Straps: lines (N, 2) in frame pixels, width in eye distances, colour (3,) from 0 to 255."""

    lines: Sequence[Points]
    width: float
    colour: np.ndarray


@dataclass(frozen=True)
class PlacedMask:
    """Mask on a face: cloth and straps, and strength of its shadow and of the match to the light, both 0 to 1."""

    sheet: Sheet
    straps: Straps
    style: ClothStyle
    shadow: float
    match: float


@dataclass(frozen=True)
class Patch:
    """Rectangle of the face's frame that contains the mask: first pixel and size."""

    x: int
    y: int
    width: int
    height: int

    @property
    def corner(self) -> tuple[float, float]:
        return float(self.x), float(self.y)


def _curve(start: np.ndarray, end: np.ndarray, bow: np.ndarray) -> Points:
    along = np.linspace(0, 1, 12)[:, None]
    return start * (1 - along) ** 2 + (start + end + 2 * bow) * along * (1 - along) + end * along**2


def strap_lines(sheet: Sheet, strap: str, side: int) -> list[Points]:
    """Return the lines of the named straps (tables.STRAPS); `side` (-1 or 1) is the ear that a mask hangs from."""
    if strap == "none":
        return []
    if isinstance(sheet, FlatSheet):
        return _hanging_loop(sheet, side)
    return _ear_loops(sheet) if strap == "ear" else _head_straps(sheet)


def _hanging_loop(sheet: FlatSheet, side: int) -> list[Points]:
    corners = sheet.place(np.full(2, -0.95), np.array([0.15, 0.85]))
    ear = _at_silhouette(sheet.frame, side, 0.25)
    return [_curve(corner, ear, np.zeros(2)) for corner in corners]


def _ear_loops(sheet: HeadSheet) -> list[Points]:
    """Return lines from the cloth's corners to both ears."""
    loops, frame = [], sheet.frame
    for ear in (-1, 1):
        corners = sheet.place(np.full(2, 0.97 * ear), np.array([0.05, 0.95]))
        ends = (_at_silhouette(frame, ear, 0.05), _at_silhouette(frame, ear, 0.62))
        sag = np.array([0, 0.03 * frame.unit])
        loops += [_curve(corner, end, sag) for corner, end in zip(corners, ends, strict=True)]
    return loops


def _head_straps(sheet: HeadSheet) -> list[Points]:
    """Return two bands on each side around the back of the head, above and below the ears."""
    bands = []
    for ear in (-1, 1):
        roots = sheet.place(np.full(2, 0.93 * ear), np.array([0.15, 0.6]))
        ends = (_at_silhouette(sheet.frame, ear, -0.1), _at_silhouette(sheet.frame, ear, 0.85))
        bands += [_curve(root, end, np.zeros(2)) for root, end in zip(roots, ends, strict=True)]
    return bands


def _at_silhouette(frame: FaceFrame, side: int, height: float) -> np.ndarray:
    y = height * frame.reach
    radius = frame.radius(y)
    return np.array([frame.midline(y) - radius * np.sin(frame.yaw) + side * radius, y])


def patch_around(sheet: Sheet, straps: Straps) -> Patch:
    """Return the smallest patch that contains cloth, straps and the shadow under them."""
    points, margin = np.concatenate([outline(sheet), *straps.lines]), 0.18 * sheet.frame.unit + 3
    low, high = np.floor(points.min(0) - margin), np.ceil(points.max(0) + margin)
    size = (high - low + 1).astype(int)
    return Patch(int(low[0]), int(low[1]), int(size[0]), int(size[1]))


def _cover(patch: Patch, ring: Points) -> np.ndarray:
    """Return the coverage of each pixel by a polygon, (H, W) float32."""
    canvas = np.zeros((patch.height, patch.width), np.uint8)
    grid = np.round((ring - patch.corner) * (1 << FRACTION_BITS)).astype(np.int32)
    cv2.fillPoly(canvas, [grid], 255, cv2.LINE_AA, FRACTION_BITS)
    return canvas.astype(np.float32) * np.float32(1 / 255)


def _strap_cover(patch: Patch, straps: Straps, unit: float) -> np.ndarray:
    canvas = np.zeros((patch.height, patch.width), np.uint8)
    wide = straps.width * unit
    grids = [np.round((line - patch.corner) * (1 << FRACTION_BITS)).astype(np.int32) for line in straps.lines]
    cv2.polylines(canvas, grids, False, 255, max(1, round(wide)), cv2.LINE_AA, FRACTION_BITS)
    return canvas.astype(np.float32) * np.float32(min(1.0, wide) / 255)


def _blur(image: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), sigma) if sigma > 0.2 else image


def _cloth_in_patch(patch: Patch, mask: PlacedMask, *, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the cloth at the patch's pixels, (H, W, 3) uint8, and its sideways slant, (H, W) float32."""
    sheet = mask.sheet
    x = np.arange(patch.x, patch.x + patch.width, dtype=np.float64)
    y = np.arange(patch.y, patch.y + patch.height, dtype=np.float64)
    p, v, slant = sheet.locate(x, y)
    shrink = min(1.0, LARGEST_CLOTH / (sheet.size[0] * sheet.frame.unit))
    wide, high = (max(8, round(length * sheet.frame.unit * shrink)) for length in sheet.size)
    flat = draw_cloth(mask.style, (high, wide), sheet.size, rng=rng)
    map_x, map_y = (p + 1) * np.float32((wide - 1) / 2), v * np.float32(high - 1)
    return cv2.remap(flat, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), slant


def _shading(patch: Patch, frame: FaceFrame, slant: np.ndarray, *, light: Light) -> np.ndarray:
    """Return the brightness (H, W) float32 of a round grey head in the face's light, 1 in the middle of the face."""
    x = (np.arange(patch.x, patch.x + patch.width, dtype=np.float32) / np.float32(frame.unit))[None, :]
    y = (np.arange(patch.y, patch.y + patch.height, dtype=np.float32) / np.float32(frame.reach))[:, None]
    across = np.clip(1 + 0.7 * light.slope_x * x, 0.55, 1.35)
    down = np.clip(1 + 0.5 * light.slope_y * (y - 0.8), 0.75, 1.2) - 0.14 * np.clip(y - 1.2, 0, 1)
    return across * down * (1 - 0.22 * slant * slant)


def paint(
    patch: Patch, mask: PlacedMask, *, light: Light, quality: PhotoQuality, rng: np.random.Generator
) -> np.ndarray:
    """Paint a mask as a layer (H, W, 4) float32: colours 0 to 255 multiplied by the opacity, and opacity 0 to 1."""
    sheet, straps, match, unit = mask.sheet, mask.straps, mask.match, mask.sheet.frame.unit
    cloth, slant = _cloth_in_patch(patch, mask, rng=rng)
    cover = _blur(_cover(patch, outline(sheet)), quality.blur)
    shading = _shading(patch, sheet.frame, slant, light=light)
    # The border of the cloth bends towards the face and is darker.
    edge = 0.8 + 0.2 * np.clip(_blur(cover, 0.04 * unit) * 2 - 1, 0, 1)
    tint = ((light.cast * light.level) ** match).astype(np.float32)
    lit = cover * edge * (1 + np.float32(match) * (shading - 1))
    grain = cover * rng.standard_normal(cover.shape, dtype=np.float32) * np.float32(quality.noise)
    bands = _blur(_strap_cover(patch, straps, unit), quality.blur) * (1 - cover)
    band_light = bands * shading * (1 - 0.35 * np.square(slant))
    white = 255 * cover
    planes = [
        np.clip(plane * (lit * factor) + grain, 0, white) + band_light * (own * factor)
        for plane, own, factor in zip(cv2.split(_blur(cloth, quality.blur)), straps.colour, tint, strict=True)
    ]
    # The shadow is a layer without colour behind the others.
    shown = cover + bands
    return cv2.merge([*planes, shown + (1 - shown) * _shadow(shown, unit, light, strength=mask.shadow)])


def _shadow(cover: np.ndarray, unit: float, light: Light, *, strength: float) -> np.ndarray:
    """Return the opacity (H, W) of the mask's shadow on the skin, away from the light and downwards."""
    soft = _blur(cover, 0.05 * unit)
    aside = -np.sign(light.slope_x) * min(abs(light.slope_x) * 2, 1.0) * 0.04 * unit
    move = np.array([[1, 0, aside], [0, 1, 0.03 * unit]], np.float32)
    return cv2.warpAffine(soft, move, soft.shape[::-1]) * np.float32(strength)


def lay_over(image: np.ndarray, layer: np.ndarray, to_image: np.ndarray) -> np.ndarray:
    """Return a copy of the image (H, W, 3) uint8 with the layer on it; `to_image` (2, 3) maps layer to image pixels."""
    height, width = layer.shape[:2]
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]]) @ to_image.T
    x0, y0 = np.maximum(np.floor(corners.min(0)).astype(int), 0)
    x1, y1 = np.minimum(np.ceil(corners.max(0)).astype(int) + 1, image.shape[1::-1])
    result = image.copy()
    if x0 >= x1 or y0 >= y1:
        return result
    shifted = to_image - np.array([[0, 0, x0], [0, 0, y0]], np.float32)
    placed = cv2.warpAffine(layer, shifted, (int(x1 - x0), int(y1 - y0)), flags=cv2.INTER_LINEAR)
    *colours, cover = cv2.split(placed)
    free = 1 - cover
    planes = [under * free + colour for under, colour in zip(cv2.split(result[y0:y1, x0:x1]), colours, strict=True)]
    result[y0:y1, x0:x1] = cv2.convertScaleAbs(cv2.merge(planes))
    return result
