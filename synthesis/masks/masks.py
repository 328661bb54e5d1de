"""Masks drawn onto faces: pick one at random, put it on a photo.

    rng = np.random.default_rng(0)
    spec = random_spec(rng, "below_nose")
    masked = put_on_mask(photo, landmarks, spec, rng)

No template pictures: the cut, the cloth and its folds, the light on it and the shadow under it are all drawn, matched
to the face's tilt, turn and light and to the photo's blur and noise. `spec` holds all choices as plain values, to be
kept in a table; `rng` gives what nobody would tabulate (creases, noise).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synthesis.masks.light import Light, measure_camera, measure_light, seen_colour
from synthesis.masks.paint import Finish, Straps, lay_over, paint, patch_around, strap_lines
from synthesis.masks.shape import PLACEMENTS, FaceFrame, Fit, Points, Sheet, face_frame, outline
from synthesis.masks.tables import (
    COLOURS,
    KINDS,
    PATTERNS,
    STRAPS,
    WEARS,
    WRONG_WAYS,
    Colour,
    Kind,
    Pattern,
    Range,
    find,
    in_pool,
    wrong_ways,
)
from synthesis.masks.texture import Look

__all__ = ["WRONG_WAYS", "MaskSpec", "put_on_mask", "random_spec", "wrong_ways"]

STAMPED_KINDS = ("n95", "kn95", "valved")
STRAP_COLOURS = ("white", "white", "white", "black", "grey", "mustard")
COLOUR_SPREAD = 12  # grey levels by which one mask's colour strays from the table


@dataclass(frozen=True)
class MaskSpec:
    """One mask and how it is worn, as plain values. Heights, angles and widths as in mask_tables.Wear and Kind."""

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
    red: float  # this mask's stray from its colour, grey levels
    green: float
    blue: float
    stamp: bool  # small printed letters
    shadow: float  # on the skin, 0 to 1
    match: float  # how closely the mask follows the photo's light, 0 to 1


def random_spec(rng: np.random.Generator, wear: str, pool: str = "train") -> MaskSpec:
    """Draw a mask to be worn as `wear` says (a name in mask_tables.WEARS).

    `pool` "train" or "eval" limits kinds, colours and patterns; eval has some of each that train lacks. Any wear may
    be asked for in any pool: wrong_ways(pool) lists those meant for it. Raises UserError for unknown names.
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
        top=_within(rng, way.top),
        bottom=_within(rng, way.bottom),
        bend=_within(rng, way.bend),
        width=_within(rng, way.width),
        shift=_within(rng, way.shift),
        tilt=_within(rng, way.tilt),
        deep=_within(rng, (0.6, 1.5)),
        crumple=_within(rng, (0.3, 1.4)),
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


def _allowed(names: tuple[str, ...], rows: tuple[Colour, ...] | tuple[Pattern, ...], pool: str) -> tuple[str, ...]:
    known = {row.name for row in in_pool(rows, pool)}
    return tuple(name for name in names if name in known)


def put_on_mask(photo: np.ndarray, landmarks: Points, spec: MaskSpec, rng: np.random.Generator) -> np.ndarray:
    """A new photo in which the face at `landmarks` wears the mask `spec`.

    photo      (H, W, 3) uint8 RGB, left as it is
    landmarks  (5, 2) pixels: eyes, nose tip, mouth corners, the viewer's left first in both pairs
    returns    (H, W, 3) uint8 RGB; equal for equal arguments and an rng in an equal state

    Raises ValueError for landmarks that are not those of a face, UserError for names in spec that are in no table.
    """
    frame = face_frame(landmarks)
    sheet = _sheet(spec, frame)
    light, camera = measure_light(photo, frame), measure_camera(photo, frame)
    straps = _straps(spec, sheet, light)
    patch = patch_around(frame, [outline(sheet), *straps.lines])
    finish = Finish(shadow=spec.shadow, match=spec.match)
    layer = paint(patch, sheet, straps, look=_look(spec, light), finish=finish, light=light, camera=camera, rng=rng)
    return lay_over(photo, layer, frame.to_photo(patch.corner))


def _sheet(spec: MaskSpec, frame: FaceFrame) -> Sheet:
    kind, way = find(KINDS, spec.kind), find(WEARS, spec.wear)
    fit = Fit(spec.top, spec.bottom, spec.bend, spec.width, spec.shift, spec.tilt, spec.side)
    return PLACEMENTS[way.placement](frame, kind, fit)


def _straps(spec: MaskSpec, sheet: Sheet, light: Light) -> Straps:
    colour = seen_colour(np.array(find(COLOURS, spec.strap_colour).rgb, np.float32), light)
    strap = find(STRAPS, spec.strap)
    return Straps(strap_lines(sheet, strap.name, spec.side), strap.width, colour)


def _look(spec: MaskSpec, light: Light) -> Look:
    relief = find(KINDS, spec.kind).relief
    stray = np.array([spec.red, spec.green, spec.blue])
    colour, trim = (
        seen_colour(np.clip(np.array(find(COLOURS, name).rgb) + stray, 8, 250), light)
        for name in (spec.colour, spec.trim)
    )
    return Look(spec.pattern, relief, colour, trim, spec.grain, spec.deep, spec.crumple, spec.stamp)
