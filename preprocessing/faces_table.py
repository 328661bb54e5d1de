"""What is known of each photo's face: the rows of faces.csv, read, written and compared."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from core import files
from core.alignment import LANDMARK_COUNT
from core.boxes import Box, scaled
from core.cli import UserError
from core.images import fingerprint
from storage import crops
from storage.layouts import Photo

DECIMALS = 2
"""Digits kept of a box's pixels, so that a box read back equals the one written."""
MANUAL = "manual"
"""Stands in a stamp instead of the hash of search settings, which a box given by hand does not depend on."""
WEAK = "weak"
"""The reason of a fallback that rests on the agreement of several looks, none of which reached the threshold."""


@dataclass(frozen=True)
class Outcome:
    """One photo's row. `box` is None for a missing photo, and for one without a face until a guess is made; `score` is
    None where no detector gave one. `landmarks` are x and y of five points in turn, or none.

    `stamp` is the photo's fingerprint and a hash of the search's settings; empty if it has to be tried again.
    """

    image_id: str
    path: str
    status: str
    reason: str = ""
    box: Box | None = None
    score: float | None = None
    width: int = 0
    height: int = 0
    stamp: str = ""
    landmarks: tuple[float, ...] = ()

    @property
    def relative_box(self) -> Box:
        """The box in shares of the photo's width and height."""
        return scaled(self.box, 1 / self.width, 1 / self.height)


def photo_stamp(photo_path: Path) -> str:
    """The first half of a stamp: the file's fingerprint and a space; empty if the file cannot be looked at."""
    try:
        return f"{fingerprint(photo_path)} "
    except OSError:
        return ""


def stamp_of(photo_path: Path, settings_hash: str) -> str:
    """Changes with the photo and the settings; empty if the file cannot be looked at, so that it is tried again."""
    stamp = photo_stamp(photo_path)
    return stamp and stamp + settings_hash


def rounded(box: Box) -> Box:
    return Box(*(round(float(edge), DECIMALS) for edge in box))


def read_outcomes(path: Path) -> dict[str, Outcome]:
    """The rows of a faces table by image id; empty if there is no such file. UserError names what cannot be read."""
    if not path.exists():
        return {}
    frame = files.read_csv(path, crops.FACE_COLUMNS)
    files.require_unique(path, frame, "image_id")
    return {row["image_id"]: _from_row(path, row) for row in frame.to_dict("records")}


def _from_row(path: Path, row: Mapping[str, str]) -> Outcome:
    image_id, status = row["image_id"], row["status"]
    if status not in crops.STATUSES:
        raise UserError(f"{path}: status {status!r} of {image_id} is none of {', '.join(crops.STATUSES)}")
    number = partial(_number, path, row)
    return Outcome(
        image_id,
        row["path"],
        status,
        row["reason"],
        box=None if _is_boxless(row) else Box(*(number(edge) for edge in Box._fields)),
        score=number("score") if row["score"] else None,
        width=int(number("width")),
        height=int(number("height")),
        stamp=row["fingerprint"],
        landmarks=_landmarks(path, row),
    )


def _is_boxless(row: Mapping[str, str]) -> bool:
    """Missing photos have no box, nor have those without a face in the table of an interrupted run, before guesses."""
    return row["x1"] == "" and (row["status"] == "missing" or (row["status"] == "fallback" and row["reason"] == ""))


def _number(path: Path, row: Mapping[str, str], column: str) -> float:
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{path}: {column} {row[column]!r} of {row['image_id']} is not a number")
    return value


def _landmarks(path: Path, row: Mapping[str, str]) -> tuple[float, ...]:
    """The numbers of the column; none if the table has no such column. UserError if they are not five points."""
    parts = row.get(crops.LANDMARKS, "").split()
    numbers = tuple(_number(path, row | {crops.LANDMARKS: part}, crops.LANDMARKS) for part in parts)
    if len(numbers) not in (0, 2 * LANDMARK_COUNT):
        raise UserError(f"{path}: landmarks of {row['image_id']} are {len(numbers)} numbers, not {2 * LANDMARK_COUNT}")
    return numbers


def write_outcomes(path: Path, photos: Sequence[Photo], outcomes: Mapping[str, Outcome]) -> None:
    """Write the rows of the photos that have an outcome, in the order of `photos`, their facts beside them."""
    facts = dict.fromkeys(fact for photo in photos for fact in photo.facts)
    own = {*crops.FACE_COLUMNS, crops.LANDMARKS} - {*crops.LABEL_COLUMNS}
    for fact in facts:
        if fact in own:
            raise UserError(f"column {fact!r} of train.csv has the name of a column of {path.name}; rename it")
    rows = [_row(photo, outcomes[photo.image_id]) for photo in photos if photo.image_id in outcomes]
    columns = dict.fromkeys([*crops.FACE_COLUMNS, crops.LANDMARKS, *facts])
    files.write_csv(path, pd.DataFrame(rows, columns=list(columns), dtype=object))


def _row(photo: Photo, outcome: Outcome) -> dict[str, object]:
    edges = outcome.box._asdict() if outcome.box else {}
    return {
        **photo.facts,
        **edges,
        "image_id": photo.image_id,
        "split": photo.split,
        "person": photo.person,
        "path": photo.path,
        "score": "" if outcome.score is None else f"{outcome.score:.4f}",
        "status": outcome.status,
        "reason": outcome.reason,
        "fingerprint": outcome.stamp,
        "width": outcome.width,
        "height": outcome.height,
        crops.LANDMARKS: " ".join(map(str, outcome.landmarks)),
    }
