"""Head of a drawn person without hair: skin, features and signs of age."""

from dataclasses import dataclass

import numpy as np

from synthesis.drawn.canvas import Canvas, curve, ellipse, mirrored, mix, ribbon
from synthesis.drawn.facial_features import (
    LIGHT,
    SHADOW,
    SIDES,
    Expression,
    draw_brow,
    draw_eye,
    draw_glasses,
    draw_mouth,
    draw_nose,
)
from synthesis.drawn.person import Person

CHIN_Y = 3.45
HAIRLINE_Y = -2.1


@dataclass(frozen=True)
class AgeLine:
    """Wrinkle or fold: its path on the viewer's right side, and its strength as a linear function of a trait."""

    points: tuple[tuple[float, float], ...]
    width: float
    trait: str
    gain: float
    at_18: float = 0.0
    mirrored: bool = True


AGE_LINES: tuple[AgeLine, ...] = (
    AgeLine(((-1.15, -1.79), (-0.4, -1.9), (0.35, -1.88), (1.15, -1.78)), 0.1, "wrinkles", 1.1, mirrored=False),
    AgeLine(((-1.03, -1.46), (-0.4, -1.57), (0.35, -1.55), (1.03, -1.45)), 0.1, "wrinkles", 1.1, mirrored=False),
    AgeLine(((-0.91, -1.16), (-0.4, -1.27), (0.35, -1.25), (0.91, -1.15)), 0.1, "wrinkles", 1.1, mirrored=False),
    AgeLine(((1.6, -0.02), (1.98, -0.26)), 0.08, "wrinkles", 1.15),
    AgeLine(((1.6, 0.08), (1.98, 0.1)), 0.08, "wrinkles", 1.15),
    AgeLine(((1.6, 0.17), (1.98, 0.43)), 0.08, "wrinkles", 1.15),
    AgeLine(((0.2, -0.75), (0.17, -0.35)), 0.07, "wrinkles", 0.5),
    AgeLine(((0.62, 1.15), (0.95, 1.65), (1.12, 2.25)), 0.15, "wrinkles", 0.8, at_18=0.12),
    AgeLine(((0.55, 0.34), (0.98, 0.52), (1.42, 0.36)), 0.16, "eye_bags", 0.9, at_18=0.12),
    AgeLine(((0.98, 2.4), (1.06, 2.75), (1.0, 3.05)), 0.16, "sagging", 0.8),
)
EAR = ((-0.15, -0.2), (0.22, -0.35), (0.36, 0.1), (0.22, 0.8), (0.02, 1.25), (-0.2, 1.2))
EAR_FOLD = ((0.1, -0.15), (0.22, 0.15), (0.08, 0.75))
UNDER_LIP = ((0.02, 2.82), (0.62, 2.72), (0.95, 2.35))
BEARD_AREAS: dict[str, tuple[tuple[float, float], ...]] = {
    "moustache": ((0.02, 1.76), (0.6, 1.84), (1.02, 2.28), (0.5, 2.06), (0.02, 2.02)),
    "chin": (*UNDER_LIP, (1.0, 3.45), (0.02, 3.6)),
    "cheeks": (*UNDER_LIP, (1.55, 1.75), (1.85, 0.9), (2.3, 0.5), (2.1, 2.6), (1.0, 3.75)),
}
"""Right halves, from the middle outwards and back. Points at the chin move with it."""


def head_outline(person: Person) -> np.ndarray:
    """Return the closed outline of skull and jaw in face units."""
    width, jaw, chin = person["face_width"], person["jaw_width"], person["chin_width"]
    jowl = 0.16 * person["sagging"]
    bottom = chin_y(person)
    return curve(
        mirrored(
            [
                (0.75, -3.3),
                (1.55 * width, -2.75),
                (2.03 * width, -1.7),
                (2.13 * width, -0.5),
                (2.1 * width, 0.6),
                (2.02 * width * (0.3 + 0.7 * jaw), 1.6),
                (1.72 * jaw + jowl, 2.35 + 0.5 * jowl),
                (1.14 * jaw * (0.6 + 0.4 * chin) + jowl, bottom - 0.42),
                (0.46 * chin, bottom - 0.03),
            ]
        ),
        closed=True,
    )


def chin_y(person: Person) -> float:
    return CHIN_Y + person["chin_length"]


def draw_face(canvas: Canvas, person: Person, expression: Expression) -> None:
    """Paint ears, head and features, from back to front."""
    _ears(canvas, person)
    outline = head_outline(person)
    canvas.fill(outline, person.skin, soft=0.02)
    skin = canvas.mask(outline)
    _model_head(canvas, person, skin)
    _age_skin(canvas, person, skin)
    _beard(canvas, person, skin)
    draw_nose(canvas, person)
    draw_mouth(canvas, person, expression)
    for side in SIDES:
        draw_eye(canvas, person, expression, side)
        draw_brow(canvas, person, side)
    if person.glasses:
        draw_glasses(canvas, person)


def _ears(canvas: Canvas, person: Person) -> None:
    reach = 2.12 * person["face_width"]
    for side in SIDES:
        ear, fold = (np.add(line, (reach, 0)) * (side, 1) for line in (EAR, EAR_FOLD))
        canvas.fill(curve(ear, closed=True), mix(person.skin, (200, 96, 80), 0.12), soft=0.02)
        canvas.shade(ribbon(fold, 0.14), SHADOW, soft=0.04, strength=0.7)
        if person.earrings:
            canvas.fill(ellipse(side * (reach + 0.1), 1.3, 0.1, 0.1), (232, 216, 170), soft=0.01)


def _model_head(canvas: Canvas, person: Person, skin: np.ndarray) -> None:
    """Shade eye sockets, temples, cheeks and the area under the lip."""
    warm = mix(person.skin, (206, 82, 74), 0.5)
    blush = 0.12 + 0.38 * person["cheek_colour"]
    for side in SIDES:
        canvas.shade(ellipse(side * 1.0, -0.16, 0.72, 0.42), SHADOW, soft=0.16, strength=0.34, within=skin)
        canvas.shade(ellipse(side * 0.33, -0.1, 0.16, 0.42), SHADOW, soft=0.12, strength=0.36, within=skin)
        canvas.shade(ellipse(side * 2.05, 1.5, 0.45, 1.5), SHADOW, soft=0.28, strength=0.42, within=skin)
        canvas.shade(ellipse(side * 1.95, -1.6, 0.4, 0.9), SHADOW, soft=0.26, strength=0.35, within=skin)
        canvas.fill(ellipse(side * 1.25, 1.05, 0.55, 0.4), warm, soft=0.26, strength=blush, within=skin)
        canvas.shade(ellipse(side * 1.15, 0.72, 0.46, 0.22), LIGHT, soft=0.18, strength=0.7, within=skin)
    canvas.shade(ellipse(0, -1.3, 1.1, 0.5), LIGHT, soft=0.35, strength=0.6, within=skin)
    canvas.shade(ellipse(0, 2.78, 0.5, 0.09), SHADOW, soft=0.09, strength=0.5, within=skin)
    canvas.shade(ellipse(0, chin_y(person) - 0.36, 0.34, 0.2), LIGHT, soft=0.14, strength=0.55, within=skin)


def _age_skin(canvas: Canvas, person: Person, skin: np.ndarray) -> None:
    """Paint lines, folds, eye bags and blotches."""
    for line in AGE_LINES:
        strength = min(1, line.at_18 + line.gain * person[line.trait])
        for side in SIDES if line.mirrored else (1,):
            stroke = ribbon(np.multiply(line.points, (side, 1)), line.width)
            canvas.shade(stroke, SHADOW, soft=line.width / 3, strength=strength, within=skin)
    _blotches(canvas, person, skin)


def _blotches(canvas: Canvas, person: Person, skin: np.ndarray) -> None:
    rng = np.random.default_rng(person.texture_seed)
    places = rng.uniform((-1.8, -2.0), (1.8, 2.4), (12, 2))
    for (x, y), size in zip(places, rng.uniform(0.04, 0.13, 12), strict=True):
        canvas.shade(
            ellipse(x, y, size, size * 0.8), (0.78, 0.66, 0.6), soft=0.04, strength=0.75 * person["spots"], within=skin
        )


def _beard(canvas: Canvas, person: Person, skin: np.ndarray) -> None:
    colour = mix(mix(person.hair, (20, 18, 18), 0.15), (190, 188, 186), min(1.0, person.grey * 1.1))
    for name in person.beard.areas:
        area = mirrored(BEARD_AREAS[name])
        area[area[:, 1] > CHIN_Y - 0.1, 1] += person["chin_length"]
        canvas.fill(curve(area, closed=True), colour, soft=0.1, strength=person.beard_strength, within=skin)
