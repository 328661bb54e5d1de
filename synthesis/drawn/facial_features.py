"""Eyes, brows, nose, mouth, glasses and expression of a drawn person."""

from dataclasses import dataclass

import numpy as np

from synthesis.drawn.canvas import Canvas, Colour, curve, ellipse, mix, ribbon
from synthesis.drawn.person import Person

SHADOW: Colour = (0.66, 0.56, 0.53)
LIGHT: Colour = (1.16, 1.14, 1.12)
MOUTH_Y = 2.25
SIDES = (-1, 1)
RIM = ((0.32, -0.35), (1.0, -0.46), (1.7, -0.36), (1.72, 0.2), (1.1, 0.62), (0.42, 0.42), (0.32, -0.35))


@dataclass(frozen=True)
class Expression:
    """Expression in one photo: smile (0 to 0.35 face units), eyelids (1 is open), gaze (face units)."""

    smile: float = 0.06
    eyelids: float = 1.0
    gaze: float = 0.0


def mouth_corner(person: Person, expression: Expression) -> tuple[float, float]:
    """Return the viewer's right corner of the mouth in face units; the left one is its mirror image."""
    return person["mouth_width"] + 0.3 * expression.smile, MOUTH_Y - 0.6 * expression.smile


def draw_nose(canvas: Canvas, person: Person) -> None:
    """Paint the nose: shaded flanks, wings, nostrils, and light on bridge and tip."""
    wide, tip = person["nose_width"], person["nose_length"]
    for side, strength in ((-1, 0.42), (1, 0.62)):
        canvas.shade(
            ribbon([(side * 0.24, -0.1), (side * 0.24, 0.5), (side * 0.34, tip - 0.25)], 0.24),
            SHADOW,
            soft=0.08,
            strength=strength * 0.7,
            lift=0.2,
        )
        canvas.shade(
            ribbon(
                [(side * (wide - 0.1), tip - 0.25), (side * wide, tip - 0.02), (side * (wide - 0.14), tip + 0.17)], 0.11
            ),
            SHADOW,
            soft=0.03,
            strength=0.75,
            lift=0.2,
        )
        canvas.shade(
            ellipse(side * wide * 0.44, tip + 0.15, 0.15 * wide / 0.55, 0.075),
            (0.36, 0.26, 0.25),
            soft=0.03,
            strength=0.9,
            lift=0.35,
        )
    canvas.shade(ellipse(0, tip + 0.24, 0.4, 0.08), SHADOW, soft=0.07, strength=0.75, lift=0.2)
    canvas.shade(ellipse(0, 0.45, 0.1, 0.5), LIGHT, soft=0.07, strength=0.9, lift=0.4)
    canvas.shade(ellipse(0, tip - 0.12, 0.17, 0.14), LIGHT, soft=0.08, strength=1.0, lift=0.55)


def draw_mouth(canvas: Canvas, person: Person, expression: Expression) -> None:
    """Paint the lips and the line between them."""
    (wide, corner), full = mouth_corner(person, expression), person["lip_fullness"]
    lips = mix(mix(person.skin, (170, 70, 70), 0.42), (184, 38, 58), 0.72 * person["lip_colour"])
    dip = 0.35 * expression.smile
    middle = [(0.4 * wide, MOUTH_Y + 0.8 * dip), (0, MOUTH_Y + 0.03 + dip), (-0.4 * wide, MOUTH_Y + 0.8 * dip)]
    upper = curve(
        [
            (-wide, corner),
            (-0.5 * wide, MOUTH_Y - 0.15 * full),
            (-0.14, MOUTH_Y - 0.24 * full),
            (0, MOUTH_Y - 0.19 * full),
            (0.14, MOUTH_Y - 0.24 * full),
            (0.5 * wide, MOUTH_Y - 0.15 * full),
            (wide, corner),
            *middle,
        ],
        closed=True,
    )
    lower = curve(
        [
            (wide, corner),
            (0.55 * wide, MOUTH_Y + 0.26 * full),
            (0, MOUTH_Y + 0.36 * full),
            (-0.55 * wide, MOUTH_Y + 0.26 * full),
            (-wide, corner),
            *middle[::-1],
        ],
        closed=True,
    )
    canvas.fill(lower, mix(lips, (255, 226, 216), 0.12), soft=0.025)
    canvas.fill(upper, mix(lips, (60, 20, 24), 0.12), soft=0.025)
    canvas.fill(ellipse(0, MOUTH_Y + 0.2 * full, 0.34, 0.06), (255, 236, 230), soft=0.06, strength=0.32)
    canvas.shade(
        ribbon([(-wide, corner), *middle[::-1], (wide, corner)], 0.085, (0.5, 0.5)), (0.42, 0.3, 0.3), soft=0.02
    )
    for side in SIDES:
        canvas.shade(ellipse(side * wide, corner, 0.1, 0.09), SHADOW, soft=0.05, strength=0.8)


def draw_eye(canvas: Canvas, person: Person, expression: Expression, side: int) -> None:
    """Paint one eye with its lids and lashes; `side` is -1 for the viewer's left, 1 for the right."""
    size, tilt = 1.05 * person["eye_size"], person["eye_tilt"]
    opened = 0.27 * size * person["eye_open"] * expression.eyelids
    inner, outer = (side * (1 - 0.5 * size), 0.06), (side * (1 + 0.53 * size), -tilt)
    lid = [
        inner,
        (side * (1 - 0.24 * size), -0.72 * opened),
        (side * 1.04, -opened),
        (side * (1 + 0.34 * size), -0.7 * opened - 0.5 * tilt),
        outer,
    ]
    below = [
        (side * (1 + 0.26 * size), 0.6 * opened),
        (side * 0.98, 0.78 * opened),
        (side * (1 - 0.3 * size), 0.48 * opened + 0.03),
    ]
    almond = curve(lid + below, closed=True)
    shadow = mix(mix(person.skin, (96, 58, 66), 0.7), person.clothes, 0.1)
    canvas.fill(
        curve([(x, y - 0.2) for x, y in lid] + [(x, y * 0.2 - 0.05) for x, y in below], closed=True),
        shadow,
        soft=0.07,
        strength=0.75 * person["eye_shadow"],
    )
    canvas.fill(almond, (240, 236, 231), soft=0.015)
    _iris(canvas, person, side * 1.0 + expression.gaze, opened, canvas.mask(almond))
    dark = mix((34, 22, 20), person.skin, 0.25 - 0.2 * person["lashes"])
    canvas.fill(ribbon(lid, 0.09 + 0.09 * person["lashes"], (0.35, 0.7)), dark, soft=0.015)
    canvas.shade(
        ribbon([(x, y - 0.15 - 0.03 * person["sagging"]) for x, y in lid], 0.07), SHADOW, soft=0.025, strength=0.9
    )
    canvas.shade(ribbon([outer, *below, inner], 0.06), SHADOW, soft=0.015, strength=0.9)
    if person["lashes"] > 0.5:
        canvas.fill(
            ribbon(
                [(side * (1 + 0.4 * size), -0.3 * opened), (side * (1 + 0.68 * size), -0.12 - tilt)], 0.11, (0.8, 0.05)
            ),
            dark,
            soft=0.012,
            strength=person["lashes"],
        )


def _iris(canvas: Canvas, person: Person, x: float, opened: float, within: np.ndarray) -> None:
    y = -0.08 * opened
    canvas.fill(ellipse(x, y, 0.265, 0.265), mix(person.eyes, (16, 12, 12), 0.45), soft=0.012, within=within)
    canvas.fill(ellipse(x, y + 0.03, 0.2, 0.2), person.eyes, soft=0.04, within=within)
    canvas.fill(ellipse(x, y, 0.115, 0.115), (14, 11, 12), soft=0.01, within=within)
    canvas.shade(ellipse(x, -opened, 0.6, 0.16), (0.55, 0.52, 0.52), soft=0.06, within=within)
    canvas.fill(ellipse(x + 0.08, y - 0.09, 0.055, 0.055), (255, 255, 255), soft=0.01, strength=0.95, within=within)


def draw_brow(canvas: Canvas, person: Person, side: int) -> None:
    """Paint one brow, as grey as the hair."""
    y, arch = -person["brow_height"], person["brow_arch"]
    line = [
        (side * 0.42, y - 0.02),
        (side * 0.8, y - 0.08 - 0.4 * arch),
        (side * 1.22, y - 0.04 - arch),
        (side * 1.68, y + 0.12 + 0.06 * person["sagging"]),
    ]
    colour = mix(mix(person.hair, (34, 26, 24), 0.35), (176, 174, 172), 0.75 * person.grey)
    canvas.fill(ribbon(line, person["brow_thickness"], (0.75, 0.15)), colour, soft=0.04, strength=0.9)


def draw_glasses(canvas: Canvas, person: Person) -> None:
    """Paint rims, bridge and temples of glasses."""
    dark = mix((30, 28, 32), person.clothes, 0.25)
    width = 0.05 + 0.08 * person.glasses
    for side in SIDES:
        rim = curve(np.multiply(RIM, (side, 1)))
        canvas.fill(rim, (236, 242, 248), soft=0.02, strength=0.08)
        canvas.fill(ribbon(rim[::3], width, (1.0, 1.0)), dark, soft=0.01)
        canvas.fill(ribbon([(side * 1.7, -0.2), (side * 2.2, -0.15)], width, (1.0, 1.0)), dark, soft=0.01)
    canvas.fill(ribbon([(-0.36, -0.18), (0, -0.28), (0.36, -0.18)], width, (1.0, 1.0)), dark, soft=0.01, lift=0.1)
