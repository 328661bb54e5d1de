"""The tables of the crop folder: faces.csv, the face of each photo, and crops.csv, the finished crops."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import pandas as pd

from core import files
from core.alignment import LANDMARK_COUNT
from core.boxes import Box, scaled, shared_area
from core.cli import UserError
from core.images import fingerprint
from storage import crops
from storage.label_words import LABEL_COLUMNS
from storage.layouts import Photo

DECIMALS = 2
"""Digits kept of a box's pixels, so that a box read back equals the one written."""
MANUAL = "manual"
"""Used in a stamp in place of the hash of detection settings, which a box by hand does not depend on."""
MOST_TIMES = 8
"""Longest side of a box in sides of its photo. A detector's boxes reach out of the photo, but not as far."""
WEAK = "weak"
"""Reason of a fallback that several attempts agree on, none of which reached the threshold."""


@dataclass(frozen=True)
class Outcome:
    """One row of faces.csv.

    `box` is None for a missing photo, and for one without a face until a guess is made; `score` is None where no
    detector gave one. `landmarks` are x and y of five points in turn, or none.

    `stamp` is the photo's fingerprint, a hash of the detection settings, and one of the photo's content (which earlier
    versions did not write), separated by spaces; empty if it has to be tried again.
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
        """The box in fractions of the photo's width and height."""
        return scaled(self.box, 1 / self.width, 1 / self.height)


def photo_stamp(photo_path: Path) -> str:
    """Return the first half of a stamp: the file's fingerprint and a space; empty if the file cannot be read."""
    try:
        return f"{fingerprint(photo_path)} "
    except OSError:
        return ""


def stamp_of(photo_path: Path, settings_hash: str) -> str:
    """Return a text that changes with the photo and the settings; empty if the file cannot be read."""
    stamp = photo_stamp(photo_path)
    return stamp and stamp + settings_hash


def with_content(stamp: str, photo_path: Path) -> str:
    """Return a stamp with the hash of the photo's content."""
    return stamp and f"{without_content(stamp)} {files.file_sha256(photo_path)[:16]}"


def without_content(stamp: str) -> str:
    return " ".join(stamp.split(" ")[:2])


def rounded(box: Box) -> Box:
    return Box(*(round(float(edge), DECIMALS) for edge in box))


def read_outcomes(path: Path) -> dict[str, Outcome]:
    """Read the rows of faces.csv by image id; empty if there is no such file. UserError names a bad value."""
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
    box = None if _is_boxless(row) else Box(*(number(edge) for edge in Box._fields))
    size = int(number("width")), int(number("height"))
    if box:
        _refuse_outside(path, image_id, box, size)
    return Outcome(
        image_id,
        row["path"],
        status,
        row["reason"],
        box=box,
        score=number("score") if row["score"] else None,
        width=size[0],
        height=size[1],
        stamp=row["fingerprint"],
        landmarks=_landmarks(path, row),
    )


def _refuse_outside(path: Path, image_id: str, box: Box, size: tuple[int, int]) -> None:
    """UserError for a box that no photo of that size has: empty, beside it, or many times as large."""
    if shared_area(box, Box(0, 0, *size)) <= 0 or max(box.width, box.height) > MOST_TIMES * max(size):
        raise UserError(f"{path}: box {tuple(box)} of {image_id} does not lie in its photo ({size[0]} x {size[1]})")


def _is_boxless(row: Mapping[str, str]) -> bool:
    """Return whether a row has no box: a missing photo, or one without a face in the table of an interrupted run."""
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
    """Return the numbers of the column; none if the table has no such column. UserError unless they are five points."""
    parts = row.get(crops.LANDMARKS, "").split()
    numbers = tuple(_number(path, row | {crops.LANDMARKS: part}, crops.LANDMARKS) for part in parts)
    if len(numbers) not in (0, 2 * LANDMARK_COUNT):
        raise UserError(f"{path}: landmarks of {row['image_id']} are {len(numbers)} numbers, not {2 * LANDMARK_COUNT}")
    return numbers


def write_outcomes(path: Path, photos: Sequence[Photo], outcomes: Mapping[str, Outcome]) -> None:
    """Write the rows of the photos that have an outcome, in the order of `photos`, with their facts."""
    facts = dict.fromkeys(fact for photo in photos for fact in photo.facts)
    own = {*crops.FACE_COLUMNS, *crops.CROP_COLUMNS, crops.LANDMARKS} - {*LABEL_COLUMNS}
    for fact in facts:
        if fact in own:
            raise UserError(
                f"column {fact!r} of train.csv has the name of a column of {path.name} or crops.csv; rename it"
            )
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


CROP_TABLE_COLUMNS = (*crops.CROP_COLUMNS, "file")


@dataclass(frozen=True)
class CropRow:
    """A finished crop: hashes of its sources and of itself, and its file relative to the crop folder."""

    key: str
    content: str
    file: str


def read_crop_table(crop_dir: Path) -> dict[str, CropRow]:
    """Read crops.csv by image id; empty if nothing has been cropped yet."""
    path = crops.crops_path(crop_dir)
    if not path.exists():
        return {}
    frame = files.read_csv(path, CROP_TABLE_COLUMNS)
    files.require_unique(path, frame, "image_id")
    return {row["image_id"]: CropRow(row["key"], row["content"], row["file"]) for row in frame.to_dict("records")}


def write_crop_table(crop_dir: Path, table: Mapping[str, CropRow]) -> None:
    rows = [(image_id, crop.key, crop.content, crop.file) for image_id, crop in table.items()]
    files.write_csv(crops.crops_path(crop_dir), pd.DataFrame(rows, columns=list(CROP_TABLE_COLUMNS), dtype=str))


def forget_crops(crop_dir: Path, image_ids: Iterable[str]) -> None:
    """Remove crops that are out of date from the table and the disk."""
    table, image_ids = read_crop_table(crop_dir), set(image_ids)
    gone = {image_id: crop for image_id, crop in table.items() if image_id in image_ids}
    if not gone:
        return
    stale = [inside(crop_dir, crop.file, crops.crops_path(crop_dir)) for crop in gone.values()]
    for file in stale:
        file.unlink(missing_ok=True)
    write_crop_table(crop_dir, {image_id: crop for image_id, crop in table.items() if image_id not in gone})


def inside(folder: Path, relative: str, table_path: Path) -> Path:
    """Return `folder / relative`. UserError if a path in a table leads out of its folder."""
    path = PurePosixPath(relative)
    if not relative or path.is_absolute() or ".." in path.parts or "\\" in relative:
        raise UserError(f"{table_path}: path {relative!r} leads out of {folder}")
    return folder / relative
