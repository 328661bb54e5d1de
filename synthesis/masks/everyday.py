"""Draw faces as photos of everyday life show them: masks worn in all ways, and things that are no masks.

    spec = everyday_spec(rng, random_wrong_way(rng))
    drawing = random_everyday(rng, bare=False)
    image = draw_everyday(image, landmarks, spec, drawing, rng)

The families and their frequencies were chosen with a look at photos of real people, see docs/results.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from core.boxes import carry_points
from synthesis.masks.masks import MaskSpec, place_sheet, put_on_mask, random_spec
from synthesis.masks.overlay import Surface
from synthesis.masks.shape import Points, face_frame, outline
from synthesis.masks.things import AT_MOUTH, CLOTHES, draw_thing

WORN_LOOSELY = "worn_loosely"
WRONG_FREQUENCIES = {
    **{"nose_just_out": 0.20, "nose_out": 0.24, "lip_out": 0.08, "under_chin": 0.27, "on_neck": 0.18},
    "hanging": 0.03,
}
"""Ways to wear a mask wrongly, rows of tables.WEARS, and how often each is drawn of all together."""
SURGICAL_COLOURS = ("sky", "sky", "sky", "teal", "white", "white", "black")
SURGICAL, BLACK = 0.42, 0.10
"""Fractions of masks redrawn as plain surgical ones and in plain black: most masks in photos are such."""
FINE, COARSE = 0.09, 0.55
"""Blurs in distances between the eyes. Their ratio keeps the nose, the cheeks and the light from one side."""
LEAST, MOST = 0.6, 1.5
DARKEST = 8
"""Grey levels added to both blurs, so that black is no division by zero."""


@dataclass(frozen=True)
class Everyday:
    """Things drawn besides the mask: names in things.THINGS below and over it; strength of the relief, 0 to 1."""

    below: tuple[str, ...]
    over: tuple[str, ...]
    relief: float


def random_wrong_way(rng: np.random.Generator) -> str:
    """Draw a way to wear a mask wrongly."""
    weights = np.array(list(WRONG_FREQUENCIES.values()))
    return str(rng.choice(list(WRONG_FREQUENCIES), p=weights / weights.sum()))


def random_everyday(rng: np.random.Generator, *, bare: bool) -> Everyday:
    """Draw what a photo shows besides the mask. Hands and things are at the mouth of bare faces alone."""
    below = [str(rng.choice(CLOTHES))] if rng.random() < 0.6 else []
    below += [name for name, often in (("beard", 0.12), ("glasses", 0.2)) if rng.random() < often]
    over, chance = [], rng.random()
    if bare and chance < 0.55:
        over.append("hand" if chance < 0.3 else str(rng.choice(AT_MOUTH)))
    elif chance < 0.16:
        over.append("hand_beside")
    relief = float(rng.uniform(0.2, 1.0)) if rng.random() < 0.75 else 0.0
    return Everyday(tuple(below), tuple(over), relief)


def everyday_spec(rng: np.random.Generator, wear: str, pool: str = "train") -> MaskSpec:
    """Draw a mask as `random_spec` does, more often a surgical or a black one."""
    spec, chance = random_spec(rng, wear, pool), rng.random()
    if chance < SURGICAL:
        colour = str(rng.choice(SURGICAL_COLOURS))
        return replace(spec, kind="surgical", colour=colour, pattern="plain", strap="ear", stamp=False)
    return replace(spec, colour="black", pattern="plain") if chance < SURGICAL + BLACK else spec


def draw_everyday(
    image: np.ndarray, landmarks: Points, spec: MaskSpec | None, drawing: Everyday, rng: np.random.Generator
) -> np.ndarray:
    """Return a copy of the image (H, W, 3) uint8 of a bare face with a mask, none if `spec` is None, and the rest.

    ValueError for landmarks that cannot be a face.
    """
    surface = Surface(image, landmarks)
    for name in drawing.below:
        image = draw_thing(surface, image, name, rng)
    if spec is not None:
        masked = put_on_mask(image, landmarks, spec, rng)
        image = show_relief(image, masked, landmarks, spec, drawing.relief) if drawing.relief else masked
    for name in drawing.over:
        image = draw_thing(surface, image, name, rng)
    return image


def show_relief(bare: np.ndarray, masked: np.ndarray, landmarks: Points, spec: MaskSpec, strength: float) -> np.ndarray:
    """Return a copy of `masked` (H, W, 3) uint8 with its cloth lit as the face of `bare` is.

    `masked` is put_on_mask(bare, landmarks, spec, rng); `strength` is 0 for none to about 1.
    """
    frame = face_frame(landmarks)
    ring = carry_points(frame.to_image((0, 0)), outline(place_sheet(spec, frame)))
    cover = np.zeros(bare.shape[:2], np.uint8)
    cv2.fillPoly(cover, [np.rint(ring * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    grey = cv2.cvtColor(bare, cv2.COLOR_RGB2GRAY).astype(np.float32) + DARKEST
    fine = cv2.GaussianBlur(grey, (0, 0), max(0.8, FINE * frame.unit))
    ratio = np.clip(fine / cv2.GaussianBlur(grey, (0, 0), COARSE * frame.unit), LEAST, MOST)
    opacity = strength * cv2.GaussianBlur(cover, (0, 0), 1).astype(np.float32) / 255
    return np.clip(masked * (1 + opacity * (ratio - 1))[..., None], 0, 255).astype(np.uint8)
