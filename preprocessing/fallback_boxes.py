"""Boxes given by hand: a table image_id,x1,y1,x2,y2 in pixels of the upright photo, which overrides the detector."""

import math
from collections.abc import Mapping
from pathlib import Path

from core.boxes import Box
from core.cli import UserError
from core.files import read_csv, require_unique
from core.images import UnreadablePhoto, read_photo
from preprocessing.faces_table import MANUAL, Outcome, rounded, stamp_of
from storage.layouts import Dataset, Photo, name_key

COLUMNS = ("image_id", *Box._fields)
FARTHEST = 1.0
"""How far a box may reach out of its photo on each side, in photo sides: beyond, it is a slip of the pen."""


def manual_outcomes(path: Path | None, dataset: Dataset, known: Mapping[str, Outcome]) -> dict[str, Outcome]:
    """The outcomes of the photos named in a table of boxes; empty without one. Raises as `read_manual` does."""
    if path is None:
        return {}
    boxes = read_manual(path, dataset)
    photos = {photo.image_id: photo for photo in dataset.photos}
    return {
        image_id: _outcome(path, photos[image_id], dataset.root, box, known.get(image_id))
        for image_id, box in boxes.items()
    }


def read_manual(path: Path, dataset: Dataset) -> dict[str, Box]:
    """Boxes by image id. UserError names the file, the row (the header is row 1) and the value that is wrong."""
    frame = read_csv(path, COLUMNS)
    require_unique(path, frame, "image_id")
    ids = {name_key(photo.image_id): photo.image_id for photo in dataset.photos}
    boxes = {}
    for number, row in enumerate(frame.to_dict("records"), start=2):
        image_id = ids.get(name_key(row["image_id"]))
        if image_id is None:
            raise UserError(f"{path} row {number}: image_id {row['image_id']!r} is no photo of {dataset.root}")
        boxes[image_id] = _box(f"{path} row {number}", row)
    return boxes


def _box(place: str, row: Mapping[str, str]) -> Box:
    box = rounded(Box(*(_number(place, edge, row[edge]) for edge in Box._fields)))
    if box.x2 <= box.x1:
        raise UserError(f"{place}: x2 {row['x2']} is not more than x1 {row['x1']}")
    if box.y2 <= box.y1:
        raise UserError(f"{place}: y2 {row['y2']} is not more than y1 {row['y1']}")
    return box


def _number(place: str, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{place}: {column} {text!r} is not a number of pixels")
    return value


def _outcome(path: Path, photo: Photo, root: Path, box: Box, known: Outcome | None) -> Outcome:
    """The outcome of a photo whose box was given by hand; UserError if the box does not lie in the photo."""
    stamp = stamp_of(root / photo.path, MANUAL)
    if known and (known.status, known.box, known.stamp, known.path) == ("manual", box, stamp, photo.path):
        return known
    try:
        height, width = read_photo(root / photo.path).shape[:2]
    except UnreadablePhoto as error:
        return Outcome(photo.image_id, photo.path, "missing", error.reason, stamp=stamp)
    if not _lies_in(box, width, height):
        raise UserError(f"{path}: box {tuple(box)} of {photo.image_id} does not lie in its photo ({width} x {height})")
    return Outcome(photo.image_id, photo.path, "manual", "", box, None, width, height, stamp)


def _lies_in(box: Box, width: int, height: int) -> bool:
    overlaps = box.x1 < width and box.y1 < height and box.x2 > 0 and box.y2 > 0
    near = box.x1 >= -FARTHEST * width and box.x2 <= (1 + FARTHEST) * width
    return overlaps and near and box.y1 >= -FARTHEST * height and box.y2 <= (1 + FARTHEST) * height
