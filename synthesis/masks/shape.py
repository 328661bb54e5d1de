"""Placement of a mask: a head model from five landmarks, and the cloth wrapped around it.

The head is a stack of circles seen from the front: each height down the face has a midline (from the eyes over the nose
to the mouth) and a radius (the outline of the jaw). A point at angle `a` around a head turned by `yaw` is seen at
x = centre + radius * sin(a + yaw). The inverse is exact: painting needs the point of the cloth for each pixel.

All coordinates are pixels of the face's upright frame: origin midway between the eyes, x along the eyes to the viewer's
right, y down the face.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from synthesis.masks.tables import EDGE_KNOTS, NOSE_HEIGHT, Kind

# Face outline: half widths in distances between the eyes at heights in eye-to-mouth distances. Adult averages of the
# breadth across the cheekbones (137 mm) and the jaw (105 mm), pupils 63 mm apart.
OUTLINE_HEIGHTS = (-0.5, 0.0, 0.4, 0.8, 1.2, 1.6, 2.0, 3.0)
OUTLINE_WIDTHS = (1.06, 1.10, 1.11, 1.04, 0.93, 0.79, 0.66, 0.58)
CLOTH_STANDS_OFF = 1.03
NOSE_STANDS_OUT = 0.45  # how far the nose tip lies before the eyes, in distances between the eyes
MAX_YAW = np.radians(50)
MOUTH_HEIGHT = 1.0
EDGE_SAMPLES = 129
Points = np.ndarray


@dataclass(frozen=True)
class FaceFrame:
    """Face measured from its landmarks. Lengths in pixels, angles in radians."""

    origin: np.ndarray  # (2,) image pixels
    roll: float
    yaw: float
    unit: float  # distance between the eyes if the face looked at the camera
    reach: float  # from the eyes down to the mouth
    nose_height: float  # of the nose tip, in reaches
    midline_x: tuple[float, ...]
    midline_y: tuple[float, ...]

    def midline(self, y: np.ndarray) -> np.ndarray:
        return np.interp(y, self.midline_y, self.midline_x)

    def radius(self, y: np.ndarray) -> np.ndarray:
        widths = np.interp(y / self.reach, OUTLINE_HEIGHTS, OUTLINE_WIDTHS)
        # From the side the jaw runs level to the ear, so a turned head narrows less towards the chin.
        widths += (OUTLINE_WIDTHS[1] - widths) * (0.8 * abs(np.sin(self.yaw)))
        return widths * (self.unit * CLOTH_STANDS_OFF)

    def to_image(self, corner: tuple[float, float]) -> np.ndarray:
        """Return the affine matrix (2, 3) to the photo from a patch whose first pixel is `corner` in this frame."""
        cos, sin = np.cos(self.roll), np.sin(self.roll)
        turn = np.array([[cos, -sin], [sin, cos]])
        return np.column_stack([turn, self.origin + turn @ np.asarray(corner)]).astype(np.float32)


def face_frame(landmarks: Points) -> FaceFrame:
    """Measure a face. `landmarks` (5, 2) in image pixels: eyes, nose tip, mouth corners, the viewer's left first.

    ValueError when the points cannot be a face (not finite, eyes or mouth collapsed, mouth above the eyes).
    """
    points = np.asarray(landmarks, dtype=np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise ValueError(f"landmarks must be five finite (x, y) points, got {points.tolist()}")
    across = (points[1] - points[0]) + 0.5 * (points[4] - points[3])
    roll = float(np.arctan2(across[1], across[0]))
    origin = (points[0] + points[1]) / 2
    cos, sin = np.cos(roll), np.sin(roll)
    local = (points - origin) @ np.array([[cos, -sin], [sin, cos]])
    eyes = local[1, 0] - local[0, 0]
    mouth = (local[3] + local[4]) / 2
    if eyes < 2 or mouth[1] < 2:
        raise ValueError(f"landmarks are not those of a face: {points.tolist()}")
    return _measured(origin, roll, eyes=eyes, nose=local[2], mouth=mouth)


def _measured(origin: np.ndarray, roll: float, *, eyes: float, nose: np.ndarray, mouth: np.ndarray) -> FaceFrame:
    nose_height = float(np.clip(nose[1] / mouth[1], 0.45, 0.8))
    aside = nose[0] - mouth[0] * nose_height
    yaw = float(np.clip(np.arctan(aside / (NOSE_STANDS_OUT * eyes)), -MAX_YAW, MAX_YAW))
    unit = eyes / np.cos(yaw)
    # A face bent up or down is foreshortened; the eye distance limits its height.
    reach = float(np.clip(mouth[1], 0.7 * unit, 1.4 * unit))
    heights, places = _midline(nose_height, float(nose[0]), float(mouth[0]))
    return FaceFrame(origin, roll, yaw, float(unit), reach, nose_height, tuple(places), tuple(heights * reach))


def _midline(nose_height: float, nose_x: float, mouth_x: float) -> tuple[np.ndarray, np.ndarray]:
    heights = np.linspace(-0.6, 3.0, 91)
    places = np.interp(heights, (0, nose_height, MOUTH_HEIGHT, 1.3), (0, nose_x, mouth_x, mouth_x))
    window = np.hanning(13)
    smooth = np.convolve(np.pad(places, 6, mode="edge"), window / window.sum(), mode="valid")
    return heights, smooth


@lru_cache(maxsize=256)
def _edge(knots: tuple[float, ...], rounding: float) -> np.ndarray:
    """Return edge heights relative to the middle at EDGE_SAMPLES places from side to side, corners rounded."""
    across = np.linspace(-1, 1, EDGE_SAMPLES)
    raw = np.interp(np.abs(across), EDGE_KNOTS, knots)
    half = max(1, int(rounding * EDGE_SAMPLES))
    window = np.hanning(2 * half + 3)[1:-1]
    smooth = np.convolve(np.pad(raw, half, mode="reflect", reflect_type="odd"), window / window.sum(), mode="valid")
    return smooth - smooth[EDGE_SAMPLES // 2]


@dataclass(frozen=True)
class HeadSheet:
    """Cloth wrapped around the head. `top` and `bottom` are its edges, heights at EDGE_SAMPLES places."""

    frame: FaceFrame
    span: float
    shift: float
    tilt: float
    top: np.ndarray
    bottom: np.ndarray

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the cloth, in distances between the eyes."""
        return 2 * self.span, float((self.bottom - self.top).max()) * self.frame.reach / self.frame.unit

    def place(self, p: np.ndarray, v: np.ndarray) -> Points:
        """Return frame pixels (N, 2) of cloth points: p from -1 to 1 across, v from 0 (top edge) to 1 (bottom edge)."""
        across = np.linspace(-1, 1, EDGE_SAMPLES)
        top, bottom = np.interp(p, across, self.top), np.interp(p, across, self.bottom)
        return self.on_head(p * self.span, top + v * (bottom - top))

    def on_head(self, angle: np.ndarray, height: np.ndarray) -> Points:
        """Return frame pixels (N, 2) at an angle around the cloth's middle and a height down the face."""
        cos, sin = np.cos(self.tilt), np.sin(self.tilt)
        below = height - MOUTH_HEIGHT
        turned = np.clip(angle * cos - below * sin + self.shift + self.frame.yaw, -np.pi / 2, np.pi / 2)
        y = (angle * sin + below * cos + MOUTH_HEIGHT) * self.frame.reach
        radius = self.frame.radius(y)
        centre = self.frame.midline(y) - radius * np.sin(self.frame.yaw)
        return np.column_stack([centre + radius * np.sin(turned), y])

    def locate(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return p, v and sideways slant (sine) for columns x and rows y, each (len(y), len(x)) float32."""
        radius = self.frame.radius(y)
        centre = self.frame.midline(y) - radius * np.sin(self.frame.yaw)
        slant = np.clip((x[None, :] - centre[:, None]) / radius[:, None], -1, 1).astype(np.float32)
        angle = np.arcsin(slant) - np.float32(self.frame.yaw + self.shift)
        below = (y / self.frame.reach - MOUTH_HEIGHT).astype(np.float32)[:, None]
        cos, sin = np.float32(np.cos(self.tilt)), np.float32(np.sin(self.tilt))
        p = (angle * cos + below * sin) * np.float32(1 / self.span)
        height = below * cos - angle * sin + np.float32(MOUTH_HEIGHT)
        nearest = np.clip((p + 1) * ((EDGE_SAMPLES - 1) / 2), 0, EDGE_SAMPLES - 1).astype(np.intp)
        top = self.top.astype(np.float32)[nearest]
        depth = (self.bottom - self.top).astype(np.float32)[nearest]
        return p, (height - top) / depth, slant


@dataclass(frozen=True)
class FlatSheet:
    """Cloth hanging free by one side, p running down it. `centre` in frame pixels, half sizes in pixels."""

    frame: FaceFrame
    centre: tuple[float, float]
    half_length: float
    half_breadth: float
    turn: float

    @property
    def size(self) -> tuple[float, float]:
        return 2 * self.half_length / self.frame.unit, 2 * self.half_breadth / self.frame.unit

    def place(self, p: np.ndarray, v: np.ndarray) -> Points:
        """Same as HeadSheet.place."""
        along, aside = p * self.half_length, (1 - 2 * v) * self.half_breadth * self._taper(p)
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        return np.column_stack([aside * cos - along * sin, aside * sin + along * cos]) + np.asarray(self.centre)

    def locate(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Same as HeadSheet.locate."""
        cos, sin = np.float32(np.cos(self.turn)), np.float32(np.sin(self.turn))
        dx = (x - self.centre[0]).astype(np.float32)[None, :]
        dy = (y - self.centre[1]).astype(np.float32)[:, None]
        p = np.clip((dy * cos - dx * sin) / np.float32(self.half_length), -1.2, 1.2)
        aside = (dx * cos + dy * sin) / (np.float32(self.half_breadth) * self._taper(p))
        return p, (1 - aside) / 2, np.clip(aside, -1, 1) * np.float32(0.5)

    @staticmethod
    def _taper(p: np.ndarray) -> np.ndarray:
        return 1 - np.float32(0.3) * p * p


Sheet = HeadSheet | FlatSheet


@dataclass(frozen=True)
class MaskSpec:
    """Parameters of one mask and its spec. Heights, angles and widths as in tables.Wear and Kind."""

    kind: str
    wear: str
    colour: str
    trim: str  # second colour of the pattern
    pattern: str
    grain: float
    strap: str  # ear | head | none
    strap_colour: str
    side: int  # -1 viewer's left, 1 viewer's right: where a mask pulled aside or hanging is
    top: float
    bottom: float
    bend: float
    width: float
    shift: float
    tilt: float
    deep: float  # folds and seams, 1 = usual
    crumple: float  # creases, 1 = usual
    red: float  # difference from the table's colour, grey levels
    green: float
    blue: float
    stamp: bool  # small printed letters
    shadow: float  # strength on the skin, 0 to 1
    match: float  # strength of the match to the photo's light, 0 to 1


def wrap(frame: FaceFrame, kind: Kind, spec: MaskSpec) -> HeadSheet:
    """Wrap the kind's cloth around the head at the heights of the spec."""
    middle = float(np.interp(spec.top, (0, NOSE_HEIGHT, 1, 3), (0, frame.nose_height, 1, 3)))
    top_shape, bottom_shape = _edge(kind.top, kind.rounding), _edge(kind.bottom, kind.rounding)
    top = middle + spec.bend * top_shape
    # The sides keep their cut length, squeezed as much as the middle is.
    squeeze = min(1.0, (spec.bottom - middle) / (kind.bottom[0] - kind.top[0]))
    side_length = (kind.bottom[-1] - kind.top[-1]) * squeeze
    rise = (spec.bottom - top[-1] - side_length) / -bottom_shape[-1]
    bottom = spec.bottom + max(rise, 0.1) * bottom_shape
    span = np.radians(kind.span) * spec.width
    return HeadSheet(
        frame,
        float(span),
        float(np.radians(spec.shift)),
        float(np.radians(spec.tilt)),
        top,
        np.maximum(bottom, top + 0.08),
    )


def hang(frame: FaceFrame, kind: Kind, spec: MaskSpec) -> FlatSheet:
    """Hang the kind's cloth from one ear, beside the mouth and never over it."""
    length, breadth = np.radians(kind.span) * frame.unit * 0.85, frame.unit * 0.4 * spec.width
    turn = np.radians(spec.tilt)
    y = spec.top * frame.reach + length
    ear = frame.midline(y) - frame.radius(y) * np.sin(frame.yaw) + spec.side * frame.radius(y)
    mouth_corner = frame.midline(y) + spec.side * 0.5 * frame.unit
    reaches_in = breadth * np.cos(turn) + length * abs(np.sin(turn)) + 0.1 * frame.unit
    inner = max(0.85 * spec.side * (ear - mouth_corner), reaches_in)
    centre = (float(mouth_corner + spec.side * inner), float(y))
    return FlatSheet(frame, centre, float(length), float(breadth), float(turn))


def pull_aside(frame: FaceFrame, kind: Kind, spec: MaskSpec) -> HeadSheet:
    """Wrap the kind's cloth and pull it to one side until its inner edge is at the angle of the spec."""
    return wrap(frame, kind, replace(spec, shift=spec.side * (kind.span * spec.width + spec.shift)))


PLACEMENTS: dict[str, Callable[[FaceFrame, Kind, MaskSpec], Sheet]] = {"wrap": wrap, "aside": pull_aside, "hang": hang}


def outline(sheet: Sheet) -> Points:
    """Return the closed outline of the cloth, (N, 2) frame pixels, with slightly rounded corners."""
    across, down = np.linspace(-1, 1, 65), np.linspace(0, 1, 21)[1:-1]
    p = np.concatenate([across, np.ones(19), across[::-1], -np.ones(19)])
    v = np.concatenate([np.zeros(65), down, np.ones(65), down[::-1]])
    ring = sheet.place(p, v)
    wrapped = np.concatenate([ring[-3:], ring, ring[:3]])
    window = np.hanning(9)[1:-1] / np.hanning(9).sum()
    return np.column_stack([np.convolve(wrapped[:, axis], window, mode="valid") for axis in (0, 1)])
