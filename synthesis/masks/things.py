"""Draw things that are no masks onto the image of a face: hands, cups, phones, beards, collars, scarves, ...

    surface = Surface(image, landmarks)
    image = draw_thing(surface, image, "hand", rng)

Each row of THINGS is a function of the face, the image as drawn so far, and a random generator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import cv2
import numpy as np

from synthesis.masks.overlay import Surface, hilly, lay, smooth_ring
from synthesis.masks.shape import OUTLINE_HEIGHTS, OUTLINE_WIDTHS, Points

Draw = Callable[[Surface, np.ndarray, np.random.Generator], np.ndarray]
HAIR = ((25, 20, 18), (60, 42, 30), (110, 80, 55), (150, 145, 140), (215, 212, 208))
ACROSS = np.linspace(-1, 1, 21)
BOW = 1 - ACROSS * ACROSS


def hand(
    surface: Surface, image: np.ndarray, rng: np.random.Generator, at: Points | None = None, outward: int = 0
) -> np.ndarray:
    """Draw one to four fingers, a palm, perhaps a thumb, that point at `at` (2,) pixels, by default near the mouth.

    `outward` -1 or 1: the arm comes from the viewer's left or right side, 0: from any.
    """
    unit, side = surface.unit, int(rng.choice((-1, 1)))
    tip = surface.at(rng.normal(0, 0.45), rng.uniform(0.75, 1.9))[0] if at is None else at
    angle = np.radians(rng.normal(0, 35) + 70 * side * (rng.random() < 0.4))  # 0: fingers point up
    angle = -outward * abs(angle) if outward else angle
    up, across = np.array([np.sin(angle), -np.cos(angle)]), np.array([np.cos(angle), np.sin(angle)])
    thick, fingers = rng.uniform(0.2, 0.32) * unit, int(rng.integers(1, 5))
    root = tip - up * rng.uniform(0.5, 1.3) * unit
    palm = root - up * thick * 1.5 + across * thick * rng.uniform(-0.3, 0.3)
    limbs = [(palm - up * rng.uniform(1.0, 2.5) * unit, palm, thick * rng.uniform(2.4, 3.6))]
    for finger in range(fingers):
        aside = (finger - (fingers - 1) / 2) * thick * 1.02
        end = tip + across * (aside + rng.normal(0, 0.12) * unit) - up * abs(rng.normal(0, 0.12)) * unit
        limbs.append((root + across * aside, end, thick))
    if rng.random() < 0.6:
        thumb = tip + across * side * rng.uniform(0.5, 1.0) * unit - up * rng.uniform(0.2, 0.8) * unit
        limbs.append((palm + across * side * thick * 1.4, thumb, thick * 1.1))
    skin = surface.skin * rng.uniform(0.8, 1.15) * rng.uniform(0.95, 1.05, 3)
    for start, end, width in limbs:
        colours = surface.plain(skin) * (1 + 0.05 * hilly(surface.shape, (6, 6), rng))[..., None]
        cover = surface.stroke(np.vstack([start, end]), max(2, width))
        image = lay(surface, image, cover, colours, rng, shadow=(0.1, 0.5), roundness=rng.uniform(0.25, 0.5))
    return image


def cup(surface: Surface, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    x, y, half, tall = rng.normal(0, 0.2), rng.uniform(0.75, 1.3), rng.uniform(0.45, 0.8), rng.uniform(1.0, 1.8)
    lean = rng.normal(0, 0.25)
    corners = surface.at(
        np.array([x - half, x + half, x + 0.75 * half + lean, x - 0.75 * half + lean]),
        np.array([y, y, y + tall, y + tall]),
    )
    cloth = surface.fabric(surface.colour(rng), rng)
    image = lay(surface, image, surface.polygon(corners), cloth, rng, roundness=0.3)
    held = surface.at(x + rng.normal(0, 0.2), y + tall / 2)[0]
    return hand(surface, image, rng, held) if rng.random() < 0.7 else image


def phone(surface: Surface, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    side, angle = int(rng.choice((-1, 1))), np.radians(rng.normal(0, 30))
    x, y = side * rng.uniform(0.5, 1.3), rng.uniform(0.2, 1.6)
    half = np.array([rng.uniform(0.3, 0.55), rng.uniform(0.8, 1.3)]) * surface.unit * 0.8
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = surface.at(x, y)[0] + (np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * half) @ turn.T
    colour = np.full(3, rng.uniform(5, 70)) if rng.random() < 0.7 else surface.colour(rng)
    image = lay(surface, image, surface.polygon(smooth_ring(corners)), surface.plain(colour), rng)
    return hand(surface, image, rng, surface.at(x + side * 0.2, y + 0.3)[0])


def microphone(surface: Surface, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    head, size = surface.at(rng.normal(0, 0.45), rng.uniform(1.05, 2.1))[0], rng.uniform(0.22, 0.5) * surface.unit
    stick = np.array([rng.normal(0, 0.6), 1.0]) * 2.5 * surface.unit
    cover = surface.stroke(np.vstack([head, head + stick]), max(2, 0.8 * size))
    image = lay(surface, image, cover, surface.plain(rng.uniform(5, 90)), rng, roundness=0.4)
    foam = np.full(3, rng.uniform(10, 80)) if rng.random() < 0.5 else surface.colour(rng)
    colours = surface.plain(foam) + rng.standard_normal((*surface.shape, 1), np.float32) * 8
    cover = surface.ellipse(
        head, (size, size * rng.uniform(1, 1.4)), float(np.degrees(np.arctan2(-stick[0], stick[1])))
    )
    return lay(surface, image, cover, colours, rng, roundness=0.5)


def pacifier(surface: Surface, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    middle, size = surface.at(rng.normal(0, 0.05), 1.05)[0], rng.uniform(0.28, 0.45) * surface.unit
    for scale in (1, 0.45):
        cover = surface.ellipse(middle, (scale * size, scale * size * rng.uniform(0.6, 0.9)))
        image = lay(surface, image, cover, surface.plain(surface.colour(rng)), rng, roundness=0.3)
    return image


def stick(surface: Surface, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a cigarette, a whistle, a straw or a spoon."""
    start = surface.at(rng.normal(0, 0.2), 1.03)[0]
    end = start + np.array([rng.choice((-1, 1)) * rng.uniform(0.3, 1.0), rng.uniform(0.05, 0.7)]) * 1.1 * surface.unit
    cover = surface.stroke(np.vstack([start, end]), max(2, rng.uniform(0.06, 0.2) * surface.unit))
    image = lay(surface, image, cover, surface.plain(surface.colour(rng)), rng, roundness=0.3)
    return hand(surface, image, rng, end) if rng.random() < 0.6 else image


def beard(surface: Surface, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw hair along the jaw, short or long, perhaps with a moustache."""
    low, along = rng.uniform(1.8, 2.5), np.linspace(0, 1, 15)
    y = 0.6 + (low - 0.6) * np.sin(along * np.pi / 2)
    x = np.interp(np.minimum(y, 1.9), OUTLINE_HEIGHTS, OUTLINE_WIDTHS) * np.sqrt(np.cos(along * np.pi / 2))
    inner_y = 0.6 + (rng.uniform(1.15, 1.35) - 0.6) * along
    inner_x = np.interp(along, (0, 0.5, 1), (0.95, rng.uniform(0.62, 0.8), rng.uniform(0.25, 0.5)))
    rims = [surface.at(-x, y), surface.at(x[::-1], y[::-1]), surface.at(inner_x, inner_y)]
    cover = surface.polygon(np.vstack([*rims, surface.at(-inner_x[::-1], inner_y[::-1])]))
    if rng.random() < 0.7:
        lip = np.array([(-0.5, 1.05), (-0.3, 0.83), (0, 0.79), (0.3, 0.83), (0.5, 1.05), (0.3, 0.93), (-0.3, 0.93)])
        cover = np.maximum(cover, surface.polygon(smooth_ring(surface.at(*lip.T))))
    soft = cv2.GaussianBlur(cover, (0, 0), rng.uniform(0.04, 0.12) * surface.unit).astype(np.float32) / 255
    fine = max(0.6, surface.unit / 60)
    hair = cv2.GaussianBlur(rng.standard_normal(surface.shape, np.float32), (0, 0), fine, sigmaY=2.7 * fine)
    hair /= hair.std()
    opacity = (soft * np.clip(rng.uniform(0.45, 0.95) + 0.2 * hair, 0, 1))[..., None]
    colour = np.array(HAIR[int(rng.integers(len(HAIR)))], np.float32) * surface.level
    return np.clip(image * (1 - opacity) + colour * (1 + 0.25 * hair[..., None]) * opacity, 0, 255).astype(np.uint8)


def glasses(surface: Surface, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw spectacles, some of which shine, or sunglasses."""
    half, tall, middle = rng.uniform(0.33, 0.46), rng.uniform(0.22, 0.4), rng.uniform(-0.02, 0.12)
    around, power = np.linspace(0, 2 * np.pi, 40), float(rng.choice((1.0, 0.6)))  # round or with corners
    cos, sin = (np.sign(wave) * np.abs(wave) ** power for wave in (np.cos(around), np.sin(around)))
    rings = [surface.at(side * 0.5 + half * cos, middle + tall * sin) for side in (-1, 1)]
    lines = [
        surface.at(np.array([side * (0.5 + half), side * 1.12]), np.array([middle, middle - 0.05])) for side in (-1, 1)
    ]
    lines.append(surface.at(np.array([half - 0.5, 0.5 - half]), middle - 0.05))
    width = max(1, rng.uniform(0.03, 0.09) * surface.unit)
    frame = np.maximum.reduce([surface.stroke(line, width) for line in rings + lines])
    lens, kind = np.maximum(*(surface.polygon(ring) for ring in rings)), rng.random()
    opacity, grey = (rng.uniform(0.7, 1), rng.uniform(5, 60)) if kind < 0.45 else (rng.uniform(0.1, 0.3), 230)
    if kind < 0.6:
        image = lay(surface, image, (lens * opacity).astype(np.uint8), surface.plain(grey), rng, shadow=(0, 0))
    colour = rng.uniform(5, 90, 3) if rng.random() < 0.8 else rng.uniform(5, 230, 3)
    return lay(surface, image, frame, surface.plain(colour), rng, shadow=(0.1, 0.2))


def _body(surface: Surface, neck: float, collar: float, depth: float) -> np.ndarray:
    """Return the cover of shoulders with a neckline, `neck` half as wide, from `collar` down by `depth`."""
    x = np.array([-3, -2.4, -1.5, -neck, -neck / 2, 0, neck / 2, neck, 1.5, 2.4, 3, 3, -3])
    y = collar + np.array([1.3, 0.9, 0.45, 0, 0.6 * depth, depth, 0.6 * depth, 0, 0.45, 0.9, 1.3, 4, 4])
    return surface.polygon(surface.at(x, y))


def shirt(surface: Surface, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a body with a round neck, or with the two wings of a collar, perhaps with a tie and a jacket."""
    neck, collar, depth = rng.uniform(0.6, 0.82), rng.uniform(2.1, 2.85), rng.uniform(0.1, 1.1)
    formal = rng.random() < 0.4
    colour = np.full(3, rng.uniform(150, 250)) * surface.level if formal else surface.colour(rng)
    cloth = surface.fabric(colour, rng)
    image = lay(surface, image, _body(surface, neck, collar, depth), cloth, rng)
    if not formal and rng.random() < 0.4:
        return image
    up, point = rng.uniform(0, 0.4), rng.uniform(0.5, 1.0)
    for side in (-1, 1):
        x = side * np.array([neck * 1.02, neck * 1.35, rng.uniform(0.5, 0.9), 0.06])
        wing = surface.at(x, collar + np.array([-up - 0.2, 0.1, point + 0.25, 0.8 * point]))
        image = lay(surface, image, surface.polygon(wing), cloth * rng.uniform(0.85, 1.1), rng, shadow=(0.2, 0.6))
    return _suit(surface, image, rng, neck, collar) if formal else image


def _suit(surface: Surface, image: np.ndarray, rng: np.random.Generator, neck: float, collar: float) -> np.ndarray:
    if rng.random() < 0.6:
        tie = surface.at(np.array([-0.15, 0.15, 0.28, -0.28]), collar + np.array([0.35, 0.35, 3, 3]))
        image = lay(surface, image, surface.polygon(tie), surface.fabric(surface.colour(rng), rng), rng)
    cloth = surface.fabric(np.full(3, rng.uniform(8, 110)) * surface.level, rng)
    x, y = (
        np.array([neck * 1.15, 1.5, 3.2, 3.2, 0.05, 0.1]),
        collar + np.array([-0.05, 0.4, 1.2, 4, 4, rng.uniform(0.9, 1.8)]),
    )
    for side in (-1, 1):
        image = lay(surface, image, surface.polygon(surface.at(side * x, y)), cloth, rng)
    return image


def scarf(surface: Surface, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a scarf of a few folds, wider than the jaw: a narrower one as high would look like a mask on the neck."""
    half, top, collar = rng.uniform(1.15, 1.9), rng.uniform(1.7, 2.3), rng.uniform(2.1, 2.85)
    upper = surface.at(ACROSS * half, top + rng.uniform(0.1, 0.5) * BOW - rng.uniform(0, 0.3) * (1 - BOW))
    lower = surface.at(ACROSS[::-1] * half * rng.uniform(1, 1.4), collar + rng.uniform(0.4, 0.9) + 0.3 * BOW)
    cloth = surface.fabric(surface.colour(rng), rng)
    image = lay(surface, image, surface.polygon(np.vstack([upper, lower])), cloth, rng, roundness=rng.uniform(0, 0.4))
    for _ in range(int(rng.integers(1, 4))):
        y = rng.uniform(top + 0.15, collar + 0.4)
        upper = surface.at(ACROSS * half * 1.1, y + rng.uniform(0.1, 0.5) * BOW + ACROSS * rng.normal(0, 0.2))
        lower = surface.at(ACROSS[::-1] * half * 1.1, y + 0.1 + rng.uniform(0.2, 0.6) * BOW)
        fold = surface.polygon(np.vstack([upper, lower]))
        image = lay(surface, image, fold, cloth * rng.uniform(0.6, 1.2), rng, shadow=(0.4, 0.4), roundness=0.3)
    return image


def turtleneck(surface: Surface, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    half, top = rng.uniform(0.67, 0.92), rng.uniform(2.1, 2.5)
    upper = surface.at(ACROSS * half, top + rng.uniform(0.1, 0.5) * BOW)
    lower = surface.at(ACROSS[::-1] * half * 1.2, top + rng.uniform(0.7, 1.2) + 0.3 * BOW)
    cloth = surface.fabric(surface.colour(rng), rng)
    return lay(surface, image, surface.polygon(np.vstack([upper, lower])), cloth, rng, roundness=rng.uniform(0, 0.4))


def hand_beside(surface: Surface, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a hand that points at a cheek or an ear and leaves mouth and nose free."""
    side = int(rng.choice((-1, 1)))
    tip = surface.at(side * rng.uniform(1.0, 1.6), rng.uniform(0.4, 2.0))[0]
    return hand(surface, image, rng, tip, outward=side)


THINGS: Mapping[str, Draw] = MappingProxyType({
    **{"hand": hand, "cup": cup, "phone": phone, "microphone": microphone, "pacifier": pacifier, "stick": stick},
    **{"beard": beard, "glasses": glasses, "shirt": shirt, "scarf": scarf, "turtleneck": turtleneck},
    "hand_beside": hand_beside,
})  # fmt: skip
CLOTHES = ("shirt", "scarf", "turtleneck")
AT_MOUTH = ("cup", "phone", "microphone", "pacifier", "stick")


def draw_thing(surface: Surface, image: np.ndarray, name: str, rng: np.random.Generator) -> np.ndarray:
    """Return a copy of the image (H, W, 3) uint8 with the named thing on it. KeyError for an unknown name."""
    return THINGS[name](surface, image, rng)
