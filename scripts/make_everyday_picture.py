"""Draw docs/images/everyday.jpg: every family of everyday drawings on drawn people.

python scripts/make_everyday_picture.py
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from core.contact_sheet import Cell, contact_sheet
from core.images import write_photo
from synthesis.camera import PoorPhoto, spoil
from synthesis.drawn.person import random_person
from synthesis.drawn.portrait import Portrait, draw_person
from synthesis.masks.everyday import WORN_LOOSELY, WRONG_FREQUENCIES, Everyday, draw_everyday, everyday_spec
from synthesis.masks.things import THINGS

TARGET = Path(__file__).resolve().parents[1] / "docs" / "images" / "everyday.jpg"
ACROSS, EACH = 7, 2
FAULTS = {
    "cut": PoorPhoto(cut=1.8, face=0, motion=0, angle=0, quality=0),
    "face of 24 pixels": PoorPhoto(cut=0, face=24, motion=0, angle=0, quality=0),
    "motion": PoorPhoto(cut=0, face=0, motion=0.1, angle=30, quality=0),
    "JPEG of 60 pixels": PoorPhoto(cut=0, face=60, motion=0, angle=0, quality=25),
}


def main() -> None:
    cells = [*masks(), *things(), *faults()]
    write_photo(TARGET, contact_sheet(cells, ACROSS), quality=80)
    print(f"{len(cells)} drawings: {TARGET}")


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


if __name__ == "__main__":
    main()
