"""The picture docs/images/everyday.jpg: every family of everyday drawings on drawn people."""

from collections.abc import Iterator

import numpy as np

from core.contact_sheet import Cell, contact_sheet
from synthesis.camera import PoorPhoto, spoil
from synthesis.drawn.person import random_person
from synthesis.drawn.portrait import Portrait, draw_person
from synthesis.masks.everyday import WORN_LOOSELY, WRONG_FREQUENCIES, Everyday, draw_everyday, everyday_spec
from synthesis.masks.things import THINGS

ACROSS, EACH = 7, 2
FAULTS = {
    "cut": PoorPhoto(cut=1.8, face=0, motion=0, angle=0, quality=0),
    "face of 24 pixels": PoorPhoto(cut=0, face=24, motion=0, angle=0, quality=0),
    "motion": PoorPhoto(cut=0, face=0, motion=0.1, angle=30, quality=0),
    "JPEG of 60 pixels": PoorPhoto(cut=0, face=60, motion=0, angle=0, quality=25),
}


def everyday_sheet() -> np.ndarray:
    """Return all families side by side, (H, W, 3) uint8 RGB."""
    return contact_sheet([*masks(), *things(), *faults()], ACROSS)


def person(rng: np.random.Generator) -> Portrait:
    return draw_person(random_person(rng, str(rng.choice(["male", "female"])), int(rng.integers(18, 80))), rng)


def masks() -> Iterator[Cell]:
    """Yield each way to wear a mask, the second time with relief."""
    for wear in (WORN_LOOSELY, *WRONG_FREQUENCIES):
        for relief in (0.0, 1.0):
            rng = np.random.default_rng(sum(wear.encode()) + int(relief))
            face, spec = person(rng), everyday_spec(rng, wear)
            drawn = draw_everyday(face.photo, face.landmarks, spec, Everyday((), (), relief), rng)
            yield Cell(drawn, (f"{wear.replace('_', ' ')}{', relief' if relief else ''}",))


def things() -> Iterator[Cell]:
    for name in THINGS:
        for number in range(EACH):
            rng = np.random.default_rng(sum(name.encode()) + number)
            face = person(rng)
            drawn = draw_everyday(face.photo, face.landmarks, None, Everyday((name,), (), 0.0), rng)
            yield Cell(drawn, (name.replace("_", " "),))


def faults() -> Iterator[Cell]:
    for number, (name, fault) in enumerate(FAULTS.items()):
        face = person(np.random.default_rng(number))
        yield Cell(spoil(face.photo, face.landmarks, fault), (name,))
