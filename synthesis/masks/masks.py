"""Draw a random mask and put it on an image of a face.

    rng = np.random.default_rng(0)
    spec = random_spec(rng, "below_nose")
    masked = put_on_mask(image, landmarks, spec, rng)

No template images: cut, cloth, folds, light and shadow are drawn, matched to the pose and light of the face and to the
blur and noise of the image. `spec` holds all parameters as plain values for a table; `rng` gives creases and noise.
"""

from __future__ import annotations

import numpy as np

from synthesis.masks.light import Light, measure_light, measure_quality, seen_colour
from synthesis.masks.paint import PlacedMask, Straps, lay_over, paint, patch_around, strap_lines
from synthesis.masks.shape import PLACEMENTS, FaceFrame, MaskSpec, Points, Sheet, face_frame
from synthesis.masks.tables import (
    COLOURS,
    KINDS,
    PATTERNS,
    STRAPS,
    WEARS,
    WRONG_WAYS,
    ClothColour,
    Kind,
    Pattern,
    Range,
    find,
    in_pool,
    wrong_ways,
)
from synthesis.masks.texture import ClothStyle

__all__ = ["WRONG_WAYS", "MaskSpec", "put_on_mask", "random_spec", "wrong_ways"]

STAMPED_KINDS = ("n95", "kn95", "valved")
STRAP_COLOURS = ("white", "white", "white", "black", "grey", "mustard")
FITS = ("top", "bottom", "bend", "width", "shift", "tilt", "deep", "crumple")
COLOUR_SPREAD = 12  # grey levels by which a mask's colour differs from the table


def random_spec(rng: np.random.Generator, wear: str, pool: str = "train") -> MaskSpec:
    """Draw a mask worn as `wear`, a name in tables.WEARS.

    `pool` "train" or "eval" limits kinds, colours and patterns; eval has some of each that train lacks. `wrong_ways`
    lists the wears of a pool, but any wear is accepted. UserError for unknown names.
    """
    kinds, way = in_pool(KINDS, pool), find(WEARS, wear)
    kind: Kind = _one(rng, kinds)
    pattern: Pattern = find(PATTERNS, _one(rng, _allowed(kind.patterns, PATTERNS, pool)))
    colour, trim = (_one(rng, _allowed(kind.colours, COLOURS, pool)) for _ in range(2))
    red, green, blue = (float(stray) for stray in rng.normal(0, COLOUR_SPREAD / 2, 3) + rng.normal(0, COLOUR_SPREAD))
    return MaskSpec(
        kind=kind.name,
        wear=way.name,
        colour=colour,
        trim="white" if trim == colour else trim,
        pattern=pattern.name,
        grain=_within(rng, pattern.grain),
        strap=_one(rng, kind.straps),
        strap_colour=_one(rng, STRAP_COLOURS),
        side=int(rng.choice((-1, 1))),
        **{name: _within(rng, getattr(way, name)) for name in FITS},
        red=red,
        green=green,
        blue=blue,
        stamp=bool(kind.name in STAMPED_KINDS and rng.random() < 0.6),
        shadow=_within(rng, (0.1, 0.5)),
        match=_within(rng, (0.35, 1.0)),
    )


def _one(rng: np.random.Generator, choices: tuple) -> object:
    return choices[int(rng.integers(len(choices)))]


def _within(rng: np.random.Generator, limits: Range) -> float:
    return float(rng.uniform(*limits))


def _allowed(names: tuple[str, ...], rows: tuple[ClothColour, ...] | tuple[Pattern, ...], pool: str) -> tuple[str, ...]:
    known = {row.name for row in in_pool(rows, pool)}
    return tuple(name for name in names if name in known)


def put_on_mask(image: np.ndarray, landmarks: Points, spec: MaskSpec, rng: np.random.Generator) -> np.ndarray:
    """Return a copy of the image in which the face at `landmarks` wears the mask `spec`.

    image      (H, W, 3) uint8 RGB, unchanged
    landmarks  (5, 2) pixels: eyes, nose tip, mouth corners, the viewer's left first
    returns    (H, W, 3) uint8 RGB; equal for equal arguments and an rng in an equal state

    ValueError for landmarks that cannot be a face, UserError for unknown names in `spec`.
    """
    frame = face_frame(landmarks)
    sheet = place_sheet(spec, frame)
    light, quality = measure_light(image, frame), measure_quality(image, frame)
    straps = _straps(spec, sheet, light)
    patch = patch_around(sheet, straps)
    mask = PlacedMask(sheet, straps, _style(spec, light), shadow=spec.shadow, match=spec.match)
    layer = paint(patch, mask, light=light, quality=quality, rng=rng)
    return lay_over(image, layer, frame.to_image(patch.corner))


def place_sheet(spec: MaskSpec, frame: FaceFrame) -> Sheet:
    """Lay the cloth of a mask on the head."""
    kind, way = find(KINDS, spec.kind), find(WEARS, spec.wear)
    return PLACEMENTS[way.placement](frame, kind, spec)


def _straps(spec: MaskSpec, sheet: Sheet, light: Light) -> Straps:
    colour = seen_colour(np.array(find(COLOURS, spec.strap_colour).rgb, np.float32), light)
    strap = find(STRAPS, spec.strap)
    return Straps(strap_lines(sheet, strap.name, spec.side), strap.width, colour)


def _style(spec: MaskSpec, light: Light) -> ClothStyle:
    relief = find(KINDS, spec.kind).relief
    stray = np.array([spec.red, spec.green, spec.blue])
    colour, trim = (
        seen_colour(np.clip(np.array(find(COLOURS, name).rgb) + stray, 8, 250), light)
        for name in (spec.colour, spec.trim)
    )
    return ClothStyle(spec.pattern, relief, colour, trim, spec.grain, spec.deep, spec.crumple, spec.stamp)
