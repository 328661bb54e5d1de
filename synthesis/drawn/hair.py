"""Hair of a drawn person, behind the neck and over skull and forehead."""

import numpy as np

from synthesis.drawn.canvas import Canvas, Colour, curve, ellipse, mix, ribbon
from synthesis.drawn.face import HAIRLINE_Y
from synthesis.drawn.facial_features import SIDES
from synthesis.drawn.person import GREY_HAIR, Person

STRANDS = 330
STRAND_STEPS = 6
CROWN_Y = -3.35
LEAST_RECEDED_WITHOUT_FRINGE = 0.5
FRINGES: dict[str, tuple[tuple[float, float], ...]] = {
    "straight": ((1.55, -0.92), (1.0, -0.98), (0.5, -0.9), (0, -1.0), (-0.5, -0.9), (-1.0, -0.98), (-1.55, -0.92)),
    "side": ((1.72, -1.2), (1.2, -1.9), (0.75, -2.2), (0.1, -1.75), (-0.7, -1.25), (-1.6, -0.85)),
    "centre": ((1.75, -0.5), (1.25, -1.4), (0.5, -2.2), (0.2, -2.4), (-0.1, -2.2), (-1.25, -1.4), (-1.75, -0.5)),
}
"""Lower edges of the hair on the forehead, from right to left for a parting on the right. Others leave it bare."""


def hair_colour(person: Person) -> Colour:
    return mix(person.hair, GREY_HAIR, 0.92 * person.grey)


def draw_back_hair(canvas: Canvas, person: Person) -> None:
    """Paint the hair that hangs behind face and neck, and a bun above the head."""
    style, colour = person.style, mix(hair_colour(person), (12, 10, 12), 0.35)
    if style.bun:
        canvas.fill(ellipse(0.15 * person.parting, -4.0, 0.85, 0.75), colour, soft=0.05)
    if style.reach:
        width = 2.5 * person["face_width"] + 0.5 * style.volume
        tail = 0.35 if style.reach > 4 else 0.1
        outline = curve(
            [
                (-width + 0.2, -1.5),
                (0, -3.4),
                (width - 0.2, -1.5),
                (width + 0.2, 1.2),
                (width + tail, style.reach - 0.6),
                (width - 0.6, style.reach),
                (0, style.reach - 0.2),
                (0.6 - width, style.reach),
                (-width - tail, style.reach - 0.6),
                (-width - 0.2, 1.2),
            ],
            closed=True,
        )
        canvas.fill(outline, colour, soft=0.05)
        _strands(canvas, person, canvas.mask(outline), hanging=True)


def draw_front_hair(canvas: Canvas, person: Person) -> None:
    """Paint the hair over the skull with its fringe, the locks beside the cheeks, their strands and shadow."""
    colour, cap = hair_colour(person), _cap(person)
    shapes = [cap, *_locks(person)]
    face = canvas.mask(ellipse(0, 0.2, 2.1, 3.3), soft=0.05)
    for shape in shapes:
        dropped = np.add(shape, (0.03, 0.16))
        canvas.shade(dropped, (0.6, 0.5, 0.48), soft=0.12, strength=0.55, within=face)
    mask = np.zeros(canvas.planes.shape[1:], np.uint8)
    for shape in shapes:
        canvas.fill(shape, colour, soft=0.04)
        mask = np.maximum(mask, canvas.mask(shape, soft=0.04))
    canvas.shade(
        ribbon([(-1.7, -2.3), (-0.6, -3.0), (0.6, -3.0), (1.7, -2.3)], 0.5),
        (1.35, 1.33, 1.32),
        soft=0.2,
        strength=0.8,
        within=mask,
    )
    _strands(canvas, person, mask, hanging=False)


def _cap(person: Person) -> np.ndarray:
    """Return the closed outline over the skull from ear to ear and back along the hairline."""
    style, width = person.style, person["face_width"]
    volume = style.volume * (1 - 0.85 * person.recede)
    side_y = 0.9 if style.reach else 0.35
    side_x = 2.14 * width + 0.25 * style.volume
    skull = [
        (-side_x, side_y),
        (-side_x - 0.12, -1.0),
        (-1.85 * width - volume, -2.35),
        (-1.0, -3.2 - volume),
        (0, -3.42 - volume),
        (1.0, -3.2 - volume),
        (1.85 * width + volume, -2.35),
        (side_x + 0.12, -1.0),
        (side_x, side_y),
    ]
    outer = curve(skull)
    if style.curl:
        outer = outer + style.curl * np.sin(np.arange(len(outer)) * 1.7)[:, None] * (0.6, 0.8)
    return np.concatenate([outer, curve(_hairline(person, side_y, width))])


def _hairline(person: Person, side_y: float, width: float) -> list[tuple[float, float]]:
    """Return the hairline from the viewer's right ear to the left, along the fringe or the bare forehead."""
    edge = 1.98 * width
    inner = FRINGES.get(person.style.fringe, ())
    if not inner or person.recede > LEAST_RECEDED_WITHOUT_FRINGE:
        inner = _bare_forehead(person.recede)
    if person.parting < 0:
        inner = [(-x, y) for x, y in reversed(inner)]
    return [(edge - 0.06, side_y), (edge, -0.3), *inner, (-edge, -0.3), (0.06 - edge, side_y)]


def _bare_forehead(recede: float) -> list[tuple[float, float]]:
    top, corner, temple = HAIRLINE_Y - 1.25 * recede**1.3, HAIRLINE_Y - recede, -1.0 - 0.4 * recede
    right = [(1.82, temple), (1.5, corner + 0.35), (0.95, corner)]
    return [*right, (0.0, top + 0.12 * recede), *((-x, y) for x, y in reversed(right))]


def _locks(person: Person) -> list[np.ndarray]:
    """Return the locks in front of the ears, down to the style's reach."""
    style, width = person.style, person["face_width"]
    if not style.reach:
        return []
    low, wave = style.reach, style.curl
    locks = []
    for side in SIDES:
        outer = [(2.3 * width, -1.2), (2.62 * width, 0.6), (2.72 * width + wave, 0.55 * low), (2.6 * width, low)]
        inner = [(2.1 * width, low - 0.1), (1.86 * width - wave, 0.6 * low), (1.84 * width, 0.8), (1.66 * width, -0.9)]
        locks.append(curve([(side * x, y) for x, y in outer + inner], closed=True))
    return locks


def _strands(canvas: Canvas, person: Person, mask: np.ndarray, hanging: bool) -> None:
    """Paint fine darker, lighter and grey lines along the hair."""
    rng = np.random.default_rng(person.texture_seed + hanging)
    base, lines = hair_colour(person), _falling_lines(rng, person, hanging)
    canvas.hatch(lines[0::3], mix(base, (8, 6, 8), 0.5), width=0.03, within=mask, strength=0.5)
    canvas.hatch(lines[1::3], mix(base, (255, 236, 214), 0.2), width=0.03, within=mask, strength=0.5)
    canvas.hatch(
        lines[2::3], mix(base, (232, 232, 234), 0.8), width=0.03, within=mask, strength=min(0.7, 1.3 * person.grey)
    )


def _falling_lines(rng: np.random.Generator, person: Person, hanging: bool) -> np.ndarray:
    """Return short lines (STRANDS, STRAND_STEPS, 2) away from the crown, and downwards at the sides."""
    style = person.style
    low = (style.reach if style.reach else 1.0) + 0.2
    place = rng.uniform((-2.9, -3.9), (2.9, low), (STRANDS, 2))
    crown = (0.9 * person.parting, CROWN_Y - 0.6 * style.volume)
    step = rng.uniform(0.12, 0.3, (STRANDS, 1)) * (1.5 if hanging else 1.0)
    phase = rng.uniform(0, 6.3, STRANDS)
    lines = [place]
    for number in range(1, STRAND_STEPS):
        away = lines[-1] - crown
        sideways = away[:, 0] * np.clip(1.2 - 0.35 * away[:, 1], 0.05, 1.2)
        sideways = sideways + 9 * style.curl * np.sin(phase + 1.4 * number)
        direction = np.stack([sideways, np.abs(away[:, 1]) + 0.25], axis=1)
        lines.append(lines[-1] + step * direction / np.linalg.norm(direction, axis=1, keepdims=True))
    return np.stack(lines, axis=1)
