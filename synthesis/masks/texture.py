"""Texture of a flat mask cloth: pattern, folds, seams and creases.

WEAVES and RELIEFS hold functions from the cloth's coordinates to one value per point: a weave returns the weight of the
second colour (0 to 1), a relief the brightness (1 = flat cloth lit from the front).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

SMALLEST = 96  # cloth is drawn at least this wide, then shrunk: thin lines must fade on small faces, not vanish


@dataclass(frozen=True)
class Cloth:
    """Coordinates of a flat cloth: u (1, W) from -1 to 1 across, v (H, 1) from 0 to 1 down, size in eye distances."""

    u: np.ndarray
    v: np.ndarray
    width: float
    height: float

    @property
    def x(self) -> np.ndarray:
        return self.u * np.float32(self.width / 2)

    @property
    def y(self) -> np.ndarray:
        return self.v * np.float32(self.height)

    @property
    def shape(self) -> tuple[int, int]:
        return self.v.shape[0], self.u.shape[1]


def cloth(shape: tuple[int, int], size: tuple[float, float]) -> Cloth:
    """Return the coordinates of an image of `shape` (H, W) of a cloth of `size` (width, height) in eye distances."""
    u = np.linspace(-1, 1, shape[1], dtype=np.float32)[None, :]
    v = np.linspace(0, 1, shape[0], dtype=np.float32)[:, None]
    return Cloth(u, v, *size)


def _band(position: np.ndarray, repeats: float) -> np.ndarray:
    """Return 1 on one half of each repeat and 0 on the other, with soft edges."""
    return np.clip(np.sin(position * np.float32(np.pi * repeats)) * 4 + 0.5, 0, 1)


def _plain(c: Cloth, grain: float, rng: np.random.Generator) -> np.ndarray:
    return np.zeros(c.shape, np.float32)


def _stripes(c: Cloth, grain: float, rng: np.random.Generator) -> np.ndarray:
    lean = np.float32(rng.choice((0.0, 0.0, np.pi / 2, np.pi / 4)))
    return _band(c.x * np.cos(lean) + c.y * np.sin(lean), grain)


def _checks(c: Cloth, grain: float, rng: np.random.Generator) -> np.ndarray:
    across, down = _band(c.x, grain), _band(c.y, grain)
    return across * (1 - down) + down * (1 - across)


def _gingham(c: Cloth, grain: float, rng: np.random.Generator) -> np.ndarray:
    return (_band(c.x, grain) + _band(c.y, grain)) / 2


def _dots(c: Cloth, grain: float, rng: np.random.Generator) -> np.ndarray:
    wave = np.float32(np.pi * grain)
    bump = np.cos(c.x * wave) * np.cos(c.y * wave)
    return np.clip((bump - np.float32(rng.uniform(0.3, 0.7))) * 5, 0, 1)


def _floral(c: Cloth, grain: float, rng: np.random.Generator) -> np.ndarray:
    cells = (max(3, int(grain * c.height)), max(3, int(grain * c.width)))
    blobs = [_noise(c.shape, cells, rng) for _ in range(2)]
    petals = np.clip((np.abs(blobs[0]) - 0.7) * 4, 0, 1)
    return np.maximum(petals, 0.6 * np.clip((blobs[1] - 0.9) * 4, 0, 1))


def _zigzag(c: Cloth, grain: float, rng: np.random.Generator) -> np.ndarray:
    tooth = np.abs(np.mod(c.x * np.float32(grain / 2), 1) - 0.5) * np.float32(2 / grain)
    return _band(c.y + tooth, grain)


def _camouflage(c: Cloth, grain: float, rng: np.random.Generator) -> np.ndarray:
    cells = (max(3, int(grain * c.height)), max(3, int(grain * c.width)))
    return np.clip(np.floor(_noise(c.shape, cells, rng) * 1.5 + 1.5) / 3, 0, 1)


def _noise(shape: tuple[int, int], cells: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Return smooth random hills, about one per cell, with a standard deviation of about 1."""
    coarse = rng.standard_normal(cells, dtype=np.float32)
    return cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


WEAVES: dict[str, Callable[[Cloth, float, np.random.Generator], np.ndarray]] = {
    "plain": _plain,
    "stripes": _stripes,
    "checks": _checks,
    "gingham": _gingham,
    "dots": _dots,
    "floral": _floral,
    "zigzag": _zigzag,
    "camouflage": _camouflage,
}


def _crease(distance: np.ndarray, width: float) -> np.ndarray:
    """Shade a pressed line: dark on one side (positive distance) and lit on the other."""
    near = distance / np.float32(width)
    return -near * np.exp(np.float32(0.5) - near * near * np.float32(0.5))


def _hem(c: Cloth, inset: float) -> np.ndarray:
    """Shade the sewn border: a faint dark line along the edges, `inset` eye distances inside."""
    edge = np.minimum(np.minimum(c.v, 1 - c.v) * np.float32(c.height), (1 - np.abs(c.u)) * np.float32(c.width / 2))
    return -np.exp(-(((edge - np.float32(inset)) / np.float32(0.015)) ** 2))


def _nose_wire(c: Cloth) -> np.ndarray:
    reach = np.clip((0.34 - np.abs(c.u)) * 12, 0, 1)
    return reach * _crease(np.float32(0.09) - c.y, 0.03)


def _pleats(c: Cloth, deep: float) -> np.ndarray:
    shade = 1 + 0.06 * _hem(c, 0.05) + 0.07 * deep * _nose_wire(c)
    sag = np.float32(0.05 * deep) * (1 - c.u * c.u)
    for fold in (0.28, 0.50, 0.72):
        below = c.v - np.float32(fold) - sag * np.float32((fold - 0.3) * 2)
        ramp = np.clip(below / np.float32(0.2), 0, 1) * (below < 0.2)
        shade = shade + 0.11 * deep * _crease(below, 0.012) - 0.10 * deep * (1 - ramp) * (below > 0) * (below < 0.2)
    return shade


def _panels(c: Cloth, deep: float) -> np.ndarray:
    bow = np.float32(0.06) * (1 - c.u * c.u)
    upper, lower = c.v - np.float32(0.34) + bow, c.v - np.float32(0.70) - bow
    shade = 1 + 0.05 * deep * (upper < 0) - 0.10 * deep * np.clip(lower * 8, 0, 1)
    shade = shade + 0.08 * deep * (_crease(upper, 0.014) + _crease(lower, 0.014)) + 0.06 * _hem(c, 0.06)
    return shade + 0.06 * deep * _nose_wire(c)


def _ridge(c: Cloth, deep: float) -> np.ndarray:
    lit = np.tanh(c.u * 6) * np.float32(0.07 * deep)
    seam = 0.10 * deep * _crease(c.u * np.float32(c.width / 2), 0.02)
    weld = np.abs(c.v - 0.16 - 0.18 * np.abs(c.u))
    return 1 + lit + seam + 0.07 * _hem(c, 0.07) - 0.08 * deep * np.exp(-((weld / np.float32(0.012)) ** 2))


def _cup(c: Cloth, deep: float) -> np.ndarray:
    across, down = c.u, (c.v - np.float32(0.52)) * 2
    middle = across * across + down * down
    dome = np.float32(0.16 * deep) * (0.4 - np.clip(middle, 0, 1.2)) - np.float32(0.10 * deep) * down
    rim = 0.09 * deep * _crease(np.sqrt(middle) - np.float32(0.86), 0.035)
    clip = 0.5 * _nose_wire(c)
    return 1 + dome + rim + clip


def _seam(c: Cloth, deep: float) -> np.ndarray:
    bulge = np.float32(0.07 * deep) * np.tanh(c.u * 3)
    seam = 0.12 * deep * _crease(c.u * np.float32(c.width / 2), 0.016)
    return 1 + bulge + seam + 0.06 * _hem(c, 0.06)


def _smooth(c: Cloth, deep: float) -> np.ndarray:
    return 1 + 0.05 * deep * _crease(c.u * np.float32(c.width / 2), 0.03) + np.zeros(c.shape, np.float32)


def _valve(c: Cloth, deep: float) -> np.ndarray:
    away = np.hypot((c.u - np.float32(0.42)) * np.float32(c.width / 2), (c.v - np.float32(0.55)) * np.float32(c.height))
    knob = 0.20 * _crease(np.abs(away - np.float32(0.17)), 0.02) - 0.12 * (away < 0.12) * (np.sin(c.y * 90) > 0)
    return _ridge(c, deep) + knob


RELIEFS: dict[str, Callable[[Cloth, float], np.ndarray]] = {
    "pleats": _pleats,
    "panels": _panels,
    "ridge": _ridge,
    "cup": _cup,
    "seam": _seam,
    "smooth": _smooth,
    "valve": _valve,
}


def _crumple(c: Cloth, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Return soft creases (slopes of random hills lit from above) and the grain of the threads."""
    hills = _noise(c.shape, (int(rng.integers(5, 11)), int(rng.integers(4, 8))), rng)
    slopes = cv2.Sobel(hills, cv2.CV_32F, 0, 1, ksize=3) * np.float32(c.shape[0] / 96)
    threads = rng.standard_normal(c.shape, dtype=np.float32)
    return np.float32(0.035 * strength) * slopes + np.float32(0.012) * threads


def _ink(c: Cloth, rng: np.random.Generator) -> np.ndarray:
    """Return factors (H, W) float32 that darken the cloth under two lines of small printed letters."""
    page = np.zeros(c.shape, np.uint8)
    scale = c.shape[1] / 420
    x, y = rng.uniform(0.3, 0.62) * c.shape[1], rng.uniform(0.5, 0.68) * c.shape[0]
    for line in range(2):
        text = "".join(chr(letter) for letter in rng.integers(65, 91, rng.integers(3, 8)))
        start = (int(x), int(y + line * 20 * scale))
        cv2.putText(
            page, text, start, cv2.FONT_HERSHEY_SIMPLEX, scale * 0.6, 255, max(1, round(scale * 1.5)), cv2.LINE_AA
        )
    return 1 - page * np.float32(0.5 / 255)


@dataclass(frozen=True)
class ClothStyle:
    """Texture parameters of a cloth. Colours (3,) float from 0 to 255."""

    weave: str
    relief: str
    colour: np.ndarray
    trim: np.ndarray
    grain: float
    deep: float  # of folds and seams, 1 = usual
    crumple: float  # of creases, 1 = usual
    stamp: bool


def draw_cloth(
    style: ClothStyle, shape: tuple[int, int], size: tuple[float, float], *, rng: np.random.Generator
) -> np.ndarray:
    """Draw the flat cloth under even light, (H, W, 3) uint8 RGB of `shape` (H, W); `size` in eye distances."""
    grow = max(1.0, SMALLEST / shape[1])
    c = cloth((round(shape[0] * grow), round(shape[1] * grow)), size)
    weight = WEAVES[style.weave](c, style.grain, rng).astype(np.float32)
    shade = (RELIEFS[style.relief](c, style.deep) + _crumple(c, style.crumple, rng)).astype(np.float32)
    # A factor alone would not show folds on black cloth.
    lift = (shade - 1) * 14
    if style.stamp:
        shade *= _ink(c, rng)
    pairs = zip(style.colour.astype(np.float32), style.trim.astype(np.float32), strict=True)
    planes = [(first + weight * (second - first)) * shade + lift for first, second in pairs]
    image = cv2.convertScaleAbs(cv2.merge(planes))
    return cv2.resize(image, (shape[1], shape[0]), interpolation=cv2.INTER_AREA) if grow > 1 else image
