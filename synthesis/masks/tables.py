"""Tables of mask kinds, colours, patterns, wears and straps.

A new kind, colour or wear is one row. Rows whose `pools` lack "train" appear only in eval photos, so that their score
shows how a model does on masks that were not in training.

Units: heights are measured down the face in eye-to-mouth distances (0 = eyes, 1 = mouth, about 1.75 = chin), with the
tip of the nose at NOSE_HEIGHT; angles are degrees around the head, 0 = the line of the nose.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from core.cli import UserError, row_named

Row = TypeVar("Row")
Range = tuple[float, float]
RGB = tuple[int, int, int]

BOTH = ("train", "eval")
EVAL_ONLY = ("eval",)
POOLS = BOTH
NOSE_HEIGHT = 0.62
EDGE_KNOTS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # places along an edge, from the middle of the mask to its side


@dataclass(frozen=True)
class Kind:
    """Cut of a mask. `top` and `bottom` are edge heights at EDGE_KNOTS, `span` the half width in degrees."""

    name: str
    relief: str
    span: float
    top: tuple[float, ...]
    bottom: tuple[float, ...]
    colours: tuple[str, ...]
    patterns: tuple[str, ...] = ("plain",)
    straps: tuple[str, ...] = ("ear", "ear", "none")
    rounding: float = 0.04  # how far corners and the chin point are rounded, as a fraction of the half width
    pools: tuple[str, ...] = BOTH


@dataclass(frozen=True)
class ClothColour:
    name: str
    rgb: RGB
    pools: tuple[str, ...] = BOTH


@dataclass(frozen=True)
class Pattern:
    """Pattern of the cloth; texture.WEAVES has its function. `grain` is the number of repeats across a face."""

    name: str
    grain: Range
    pools: tuple[str, ...] = BOTH


@dataclass(frozen=True)
class Wear:
    """Way to wear a mask: ranges from which the fit of one mask is drawn.

    top, bottom   heights of the middle of the upper and the lower edge
    bend          how much of its cut the upper edge keeps: 1 all, 0 flat, below 0 sides higher than the middle
    width         factor on the kind's span
    shift         degrees around the head (one_side: where the inner edge stops, counted from the nose)
    tilt          degrees in the plane of the face
    placement     names the function that lays the cloth (synthesis.masks.shape)
    pools         empty for a wear that only synthesis.masks.everyday draws
    deep, crumple depth of folds and creases, 1 = usual
    """

    name: str
    top: Range
    bottom: Range
    bend: Range
    width: Range
    shift: Range
    tilt: Range
    placement: str = "wrap"
    pools: tuple[str, ...] = BOTH
    deep: Range = (0.6, 1.5)
    crumple: Range = (0.3, 1.4)


@dataclass(frozen=True)
class Strap:
    """Kind of strap. `width` in distances between the eyes."""

    name: str
    width: float


SURGICAL_COLOURS = ("white", "sky", "sky", "teal", "black", "pink", "grey", "lavender", "navy")
FILTER_COLOURS = ("white", "white", "black", "grey", "charcoal", "beige", "coral")
CLOTH_COLOURS = (
    *("white", "black", "charcoal", "grey", "navy", "royal", "plum", "wine", "red", "rose", "mustard", "olive"),
    *("forest", "teal", "sky", "beige", "brown", "mint", "orange"),
)
CLOTH_PATTERNS = ("plain", "plain", "stripes", "checks", "gingham", "dots", "floral", "zigzag", "camouflage")

# fmt: off
KINDS = (
    Kind("surgical", "pleats", 64, colours=SURGICAL_COLOURS,
         top=(0.34, 0.42, 0.52, 0.58, 0.61, 0.63), bottom=(1.80, 1.79, 1.75, 1.66, 1.50, 1.22)),
    Kind("kf94", "panels", 70, colours=FILTER_COLOURS,
         top=(0.34, 0.37, 0.47, 0.60, 0.72, 0.82), bottom=(1.84, 1.82, 1.76, 1.60, 1.36, 1.10)),
    Kind("kn95", "ridge", 66, colours=FILTER_COLOURS, rounding=0.02,
         top=(0.32, 0.42, 0.54, 0.60, 0.60, 0.66), bottom=(1.93, 1.82, 1.70, 1.56, 1.38, 1.14)),
    Kind("n95", "cup", 46, colours=("white", "white", "white", "grey", "mint"), straps=("head", "head", "none"),
         top=(0.26, 0.30, 0.40, 0.53, 0.70, 0.92), bottom=(1.73, 1.72, 1.68, 1.59, 1.45, 1.20), rounding=0.08),
    Kind("cloth", "seam", 72, colours=CLOTH_COLOURS, patterns=CLOTH_PATTERNS,
         top=(0.32, 0.40, 0.52, 0.60, 0.62, 0.60), bottom=(1.88, 1.85, 1.76, 1.60, 1.36, 1.00)),
    Kind("cloth_flat", "pleats", 66, colours=CLOTH_COLOURS, patterns=CLOTH_PATTERNS,
         top=(0.36, 0.41, 0.48, 0.54, 0.58, 0.60), bottom=(1.80, 1.79, 1.76, 1.67, 1.51, 1.22)),
    Kind("sponge", "smooth", 74, colours=("black", "black", "charcoal", "grey", "rose", "beige", "navy"),
         top=(0.34, 0.42, 0.54, 0.62, 0.66, 0.72), bottom=(1.86, 1.83, 1.73, 1.55, 1.28, 0.98)),
    Kind("duckbill", "panels", 56, colours=("white", "sky", "teal", "mint"), straps=("head", "ear"), pools=EVAL_ONLY,
         top=(0.36, 0.38, 0.44, 0.52, 0.60, 0.66), bottom=(1.74, 1.73, 1.70, 1.62, 1.50, 1.34)),
    Kind("valved", "valve", 62, colours=("white", "grey", "black", "charcoal"), straps=("head", "ear"), pools=EVAL_ONLY,
         top=(0.30, 0.40, 0.52, 0.60, 0.64, 0.72), bottom=(1.86, 1.78, 1.66, 1.50, 1.32, 1.10)),
    Kind("bandana", "smooth", 84, colours=CLOTH_COLOURS, patterns=CLOTH_PATTERNS, straps=("none",), pools=EVAL_ONLY,
         top=(0.36, 0.39, 0.44, 0.49, 0.53, 0.55), bottom=(2.45, 2.25, 2.00, 1.75, 1.45, 1.10)),
)
# fmt: on

COLOURS = (
    ClothColour("white", (238, 240, 242)),
    ClothColour("sky", (118, 184, 228)),
    ClothColour("teal", (118, 196, 186)),
    ClothColour("mint", (190, 224, 204)),
    ClothColour("black", (34, 34, 37)),
    ClothColour("charcoal", (72, 73, 77)),
    ClothColour("grey", (150, 152, 156)),
    ClothColour("pink", (240, 182, 196)),
    ClothColour("rose", (204, 120, 136)),
    ClothColour("red", (190, 44, 50)),
    ClothColour("wine", (112, 34, 52)),
    ClothColour("plum", (122, 92, 122)),
    ClothColour("navy", (38, 50, 92)),
    ClothColour("royal", (58, 128, 190)),
    ClothColour("beige", (214, 194, 168)),
    ClothColour("brown", (122, 86, 62)),
    ClothColour("mustard", (216, 170, 74)),
    ClothColour("forest", (46, 92, 66)),
    ClothColour("lavender", (186, 172, 220), EVAL_ONLY),
    ClothColour("coral", (240, 142, 122), EVAL_ONLY),
    ClothColour("olive", (118, 120, 70), EVAL_ONLY),
    ClothColour("orange", (228, 128, 50), EVAL_ONLY),
)

PATTERNS = (
    Pattern("plain", (1, 1)),
    Pattern("stripes", (8, 22)),
    Pattern("checks", (5, 14)),
    Pattern("gingham", (8, 22)),
    Pattern("dots", (8, 18)),
    Pattern("floral", (5, 12)),
    Pattern("zigzag", (6, 14), EVAL_ONLY),
    Pattern("camouflage", (4, 8), EVAL_ONLY),
)

SOFT = {"pools": (), "deep": (0.6, 1.8), "crumple": (0.3, 2.0)}
PUSHED_DOWN = {"pools": (), "deep": (0.8, 2.0), "crumple": (0.8, 3.0)}
WEARS = (
    Wear("worn", (0.20, 0.54), (1.60, 2.00), (0.30, 1.10), (0.80, 1.08), (-5, 5), (-4, 4)),
    Wear("below_nose", (0.73, 0.86), (1.70, 2.02), (-0.1, 0.3), (0.75, 1.05), (-5, 5), (-4, 4)),
    Wear("below_lip", (1.21, 1.38), (1.74, 2.10), (-0.3, 0.5), (0.42, 1.02), (-5, 5), (-4, 4)),
    Wear("chin", (1.40, 1.58), (1.78, 2.20), (-0.8, 0.5), (0.36, 1.00), (-6, 6), (-6, 6)),
    Wear("one_side", (0.30, 0.50), (1.66, 1.92), (0.6, 1.0), (0.85, 1.0), (-12, 6), (-10, 10), "aside"),
    Wear("hanging", (0.55, 0.85), (2.0, 2.4), (0.6, 1.0), (0.70, 1.0), (0, 0), (-8, 8), "hang", EVAL_ONLY),
    Wear("worn_loosely", (0.12, 0.55), (1.60, 2.25), (-0.2, 1.1), (0.82, 1.20), (-6, 6), (-5, 5), pools=()),
    Wear("nose_just_out", (0.66, 0.78), (1.62, 2.20), (-0.5, 1.0), (0.80, 1.12), (-6, 6), (-6, 6), **SOFT),
    Wear("nose_out", (0.68, 1.06), (1.62, 2.20), (-0.5, 1.0), (0.80, 1.12), (-6, 6), (-6, 6), **SOFT),
    Wear("lip_out", (1.10, 1.40), (1.75, 2.30), (-0.8, 0.8), (0.80, 1.12), (-6, 6), (-6, 6), **SOFT),
    Wear("under_chin", (1.42, 1.85), (2.00, 2.50), (-2.4, 0.2), (0.70, 1.10), (-8, 8), (-8, 8), **PUSHED_DOWN),
    Wear("on_neck", (1.80, 2.15), (2.30, 2.95), (-1.8, 0.0), (0.60, 1.00), (-8, 8), (-8, 8), **PUSHED_DOWN),
)

STRAPS = (Strap("ear", 0.028), Strap("head", 0.05), Strap("none", 0.0))

WRONG_WAYS = tuple(row.name for row in WEARS if row.pools and row.name != "worn")


def find(rows: Iterable[Row], name: str) -> Row:
    """Return the row of that name. UserError lists the known names."""
    return row_named(rows, name, what="mask option")


def in_pool(rows: Iterable[Row], pool: str) -> tuple[Row, ...]:
    """Return the rows of a pool. UserError for an unknown pool."""
    if pool not in POOLS:
        raise UserError(f"mask pool: no such name {pool!r}, allowed: {', '.join(POOLS)}")
    return tuple(row for row in rows if pool in row.pools)


def wrong_ways(pool: str) -> tuple[str, ...]:
    """Return the names of a pool's wrong ways to wear a mask."""
    return tuple(row.name for row in in_pool(WEARS, pool) if row.name != "worn")
