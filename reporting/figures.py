"""Charts as inline SVG and photos as data URIs.

Colours of charts are CSS classes, so that they follow the page's theme. Texts in a chart are numbers; captions beside
it name the axes in the reader's language.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from markupsafe import Markup, escape

from core.images import UnreadablePhoto, data_uri, read_photo

LEFT, RIGHT, TOP, BOTTOM = 34, 8, 8, 20
TICK_STEPS = (1, 2, 2.5, 5, 10)
SERIES_COLOURS = 6
"""Number of line colours in the style sheet. Further lines reuse them."""
THUMBNAIL_HEIGHT = 112
JPEG_QUALITY = 80


@dataclass(frozen=True)
class Axes:
    """Drawing area in pixels over ranges of values. y grows upwards."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]
    width: int = 320
    height: int = 200

    def x(self, value: float) -> float:
        low, high = self.x_range
        return LEFT + (value - low) / (high - low) * (self.width - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.height - BOTTOM - (value - low) / (high - low) * (self.height - TOP - BOTTOM)


def line_chart(lines: Sequence[Sequence[tuple[float, float]]], *, label: str, y_range: tuple[float, float]) -> Markup:
    """Draw lines of (x, y) points over integer x, such as epochs. A line of one point is a dot."""
    last = max((x for line in lines for x, _ in line), default=1)
    axes = Axes((1, max(last, 2)), y_range)
    drawn = [_line(axes, line, f"s{number % SERIES_COLOURS}") for number, line in enumerate(lines)]
    whole = [tick for tick in _ticks(1, max(last, 2)) if tick == int(tick)]
    return _svg(axes, label, _grid(axes, whole, _ticks(*y_range)) + drawn)


def reliability_chart(
    confidence: Sequence[float], accuracy: Sequence[float], counts: Sequence[int], *, label: str
) -> Markup:
    """Draw accuracy over confidence, with the diagonal of perfect calibration. A dot's area grows with its count."""
    axes = Axes((0, 1), (0, 1), 240, 220)
    most = max(counts)
    diagonal = f'<path class="ideal" d="{_path(axes, [(0, 0), (1, 1)])}"/>'
    line = f'<path class="line s0" d="{_path(axes, list(zip(confidence, accuracy, strict=True)))}"/>'
    dots = [
        _dot(axes, (x, y), "s0", radius=2 + 5 * (count / most) ** 0.5, title=f"{count}: {x:.2f} / {y:.2f}")
        for x, y, count in zip(confidence, accuracy, counts, strict=True)
    ]
    ticks = [0, 0.25, 0.5, 0.75, 1]
    return _svg(axes, label, [*_grid(axes, ticks, ticks), diagonal, line, *dots])


def density_chart(x: np.ndarray, y: np.ndarray, *, step: float, label: str) -> Markup:
    """Draw how many points `x` (P,), `y` (P,) fall into each square of side `step`, with the diagonal x = y."""
    low, high = _span(np.concatenate([x, y]), step)
    axes = Axes((low, high), (low, high), 300, 280)
    cells, counts = np.unique(np.floor(np.column_stack([x, y]) / step) * step, axis=0, return_counts=True)
    squares = [
        _square(axes, corner, step, fraction=count / counts.max(), title=f"{count}")
        for corner, count in zip(cells.tolist(), counts.tolist(), strict=True)
    ]
    diagonal = f'<path class="ideal" d="{_path(axes, [(low, low), (high, high)])}"/>'
    ticks = _ticks(low, high)
    return _svg(axes, label, [*_grid(axes, ticks, ticks), *squares, diagonal])


def column_chart(values: Sequence[float], counts: Sequence[int], *, step: float, label: str) -> Markup:
    """Draw counts as columns of width `step`, each starting at its value."""
    _, highest = round_range([0, *counts])
    axes = Axes((min(values), max(values) + step), (0, highest), 640, 180)
    columns = [
        f'<rect class="column" x="{axes.x(value):.1f}" y="{axes.y(count):.1f}" '
        f'width="{axes.x(value + step) - axes.x(value) - 1:.1f}" height="{axes.y(0) - axes.y(count):.1f}">'
        f"<title>{value:g}-{value + step - 1:g}: {count}</title></rect>"
        for value, count in zip(values, counts, strict=True)
    ]
    return _svg(axes, label, [*_grid(axes, [*values, max(values) + step], _ticks(0, highest)), *columns])


def round_range(values: Sequence[float]) -> tuple[float, float]:
    """Return a range of round numbers that contains the values; (0, 1) for no values."""
    low, high = min(values, default=0), max(values, default=1)
    step = _step(low, high if high > low else low + 1)
    return float(np.floor(low / step) * step), float(max(np.ceil(high / step), np.floor(low / step) + 1) * step)


def _svg(axes: Axes, label: str, parts: Sequence[str]) -> Markup:
    size = f'width="{axes.width}" viewBox="0 0 {axes.width} {axes.height}"'
    return Markup(f'<svg role="img" aria-label="{escape(label)}" {size}>' + "".join(parts) + "</svg>")


def _grid(axes: Axes, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> list[str]:
    left, right, bottom = axes.x(axes.x_range[0]), axes.x(axes.x_range[1]), axes.y(axes.y_range[0])
    parts = [f'<path class="axis" d="M{left:.1f} {bottom:.1f}H{right:.1f}"/>']
    for tick in y_ticks:
        parts.append(f'<path class="grid" d="M{left:.1f} {axes.y(tick):.1f}H{right:.1f}"/>')
        parts.append(f'<text x="{left - 5:.1f}" y="{axes.y(tick) + 3.5:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in x_ticks:
        parts.append(f'<text x="{axes.x(tick):.1f}" y="{axes.height - 5}" text-anchor="middle">{tick:g}</text>')
    return parts


def _line(axes: Axes, points: Sequence[tuple[float, float]], colour: str) -> str:
    dots = "".join(_dot(axes, point, colour, radius=2, title=f"{point[0]:g}: {point[1]:.4g}") for point in points)
    return f'<path class="line {colour}" d="{_path(axes, points)}"/>{dots}'


def _path(axes: Axes, points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{axes.x(x):.1f} {axes.y(y):.1f}" for x, y in points)


def _dot(axes: Axes, point: tuple[float, float], colour: str, *, radius: float, title: str) -> str:
    x, y = axes.x(point[0]), axes.y(point[1])
    return f'<circle class="dot {colour}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"><title>{title}</title></circle>'


def _square(axes: Axes, corner: Sequence[float], step: float, *, fraction: float, title: str) -> str:
    """Draw a square by its lower left corner (x, y) in values; opacity grows with `fraction`, from 0 to 1."""
    left, bottom = corner
    x, y = axes.x(left), axes.y(bottom + step)
    sides = f'width="{axes.x(left + step) - x:.1f}" height="{axes.y(bottom) - y:.1f}"'
    shade = f'opacity="{0.15 + 0.85 * fraction:.2f}"'
    return f'<rect class="cell" x="{x:.1f}" y="{y:.1f}" {sides} {shade}><title>{title}</title></rect>'


def _span(values: np.ndarray, step: float) -> tuple[float, float]:
    """Return the multiples of the step below and above all values."""
    return float(np.floor(values.min() / step) * step), float((np.floor(values.max() / step) + 1) * step)


def _step(low: float, high: float, at_most: int = 6) -> float:
    """Return a round step that divides low..high into fewer than `at_most` parts."""
    raw = (high - low) / (at_most - 1)
    power = 10.0 ** np.floor(np.log10(raw))
    return next(factor * power for factor in TICK_STEPS if factor * power >= raw * (1 - 1e-9))


def _ticks(low: float, high: float, at_most: int = 6) -> list[float]:
    """Return up to `at_most` round numbers from low to high."""
    step = _step(low, high, at_most)
    first, last = int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9))
    return [float(f"{number * step:.10g}") for number in range(first, last + 1)]


def thumbnail(path: Path) -> str | None:
    """Return the photo at `path` as a data URI, None if it cannot be read."""
    try:
        return embed(read_photo(path))
    except UnreadablePhoto:
        return None


def embed(rgb: np.ndarray) -> str:
    """Return an image (H, W, 3) uint8 RGB as a JPEG data URI, scaled down to THUMBNAIL_HEIGHT where it is higher."""
    height, width = rgb.shape[:2]
    if height > THUMBNAIL_HEIGHT:
        size = max(1, round(width * THUMBNAIL_HEIGHT / height)), THUMBNAIL_HEIGHT
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return data_uri(rgb, JPEG_QUALITY)
