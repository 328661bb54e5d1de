"""Boxes that no detector gave: drawn by hand, or guessed where no face was found; and the photos to review.

Boxes by hand are a table image_id,x1,y1,x2,y2 in pixels of the upright photo, which overrides the detector.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from core.boxes import Box, iou, median_box, scaled
from core.cli import UserError
from core.files import read_csv, require_unique
from core.images import UnreadablePhoto, read_photo
from preprocessing.faces_table import MANUAL, WEAK, Outcome, rounded, stamp_of, with_content, without_content
from storage.layouts import Dataset, Photo, name_key

COLUMNS = ("image_id", *Box._fields)
FARTHEST = 1.0
"""Farthest that a box may reach out of its photo on each side, as a fraction of the photo's side."""


def manual_outcomes(path: Path | None, dataset: Dataset, known: Mapping[str, Outcome]) -> dict[str, Outcome]:
    """Return the outcomes of the photos in a table of boxes; empty without a table. Raises as `read_manual` does."""
    if path is None:
        return {}
    boxes = read_manual(path, dataset)
    photos = {photo.image_id: photo for photo in dataset.photos}
    return {
        image_id: _outcome(path, photos[image_id], dataset.root, box, known.get(image_id))
        for image_id, box in boxes.items()
    }


def read_manual(path: Path, dataset: Dataset) -> dict[str, Box]:
    """Read boxes by image id. UserError names the file, the row (the header is row 1) and the value that is wrong."""
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
    """Return the outcome of a photo with a box by hand. UserError if the box does not lie in the photo."""
    stamp = stamp_of(root / photo.path, MANUAL)
    if known and (known.status, known.box, without_content(known.stamp), known.path) == (
        "manual",
        box,
        stamp,
        photo.path,
    ):
        return known
    try:
        height, width = read_photo(root / photo.path).shape[:2]
    except UnreadablePhoto as error:
        return Outcome(photo.image_id, photo.path, "missing", error.reason, stamp=stamp)
    if not _lies_in(box, width, height):
        raise UserError(f"{path}: box {tuple(box)} of {photo.image_id} does not lie in its photo ({width} x {height})")
    return Outcome(
        photo.image_id, photo.path, "manual", "", box, None, width, height, with_content(stamp, root / photo.path)
    )


def _lies_in(box: Box, width: int, height: int) -> bool:
    overlaps = box.x1 < width and box.y1 < height and box.x2 > 0 and box.y2 > 0
    near = box.x1 >= -FARTHEST * width and box.x2 <= (1 + FARTHEST) * width
    return overlaps and near and box.y1 >= -FARTHEST * height and box.y2 <= (1 + FARTHEST) * height


CENTRE_BOX = Box(0.2, 0.2, 0.8, 0.8)
LEAST_TYPICAL = 8
"""Faces that must be known before their median is used rather than the middle of the photo."""
LEAST_ALIKE = 3
UNLIKE_IOU = 0.3
"""A box is reviewed if it overlaps less than this with the median of at least LEAST_ALIKE others of its person."""


@dataclass(frozen=True)
class Guess:
    """A box guessed from those of the person's other photos and of all photos, in fractions of the photo's sides."""

    name: str
    why: str
    box: Callable[[Sequence[Box], Sequence[Box]], Box | None]


GUESSES: tuple[Guess, ...] = (
    Guess("person", "no face found; the median box of the person's other photos", lambda own, _: _median(own, 1)),
    Guess("typical", "no face found; the median box of all photos", lambda _, every: _median(every, LEAST_TYPICAL)),
    Guess("centre", "no face found; the middle of the photo", lambda own, every: CENTRE_BOX),
)


def _median(boxes: Sequence[Box], least: int) -> Box | None:
    return median_box(boxes) if len(boxes) >= least else None


def fill(photos: Sequence[Photo], outcomes: Mapping[str, Outcome]) -> dict[str, Outcome]:
    """Return the outcomes of `photos`; each fallback without a box gets the first guess that can be made."""
    own, every = _found_boxes(photos, outcomes), []
    for boxes in own.values():
        every += boxes
    return {
        photo.image_id: _guessed(outcomes[photo.image_id], own[photo.person], every)
        if is_guess(outcomes[photo.image_id])
        else outcomes[photo.image_id]
        for photo in photos
    }


def is_guess(outcome: Outcome) -> bool:
    """Return whether no face was found: the box is to be guessed, or was guessed in an earlier run."""
    return outcome.status == "fallback" and outcome.reason in {"", *(guess.name for guess in GUESSES)}


def _found_boxes(photos: Sequence[Photo], outcomes: Mapping[str, Outcome]) -> dict[str, list[Box]]:
    """Return boxes in fractions of the photo's sides, by person, of the photos in which a face was found."""
    boxes = defaultdict(list)
    for photo in photos:
        outcome = outcomes[photo.image_id]
        if outcome.box and not is_guess(outcome):
            boxes[photo.person].append(outcome.relative_box)
    return boxes


def _guessed(outcome: Outcome, own: Sequence[Box], every: Sequence[Box]) -> Outcome:
    for guess in GUESSES:
        box = guess.box(own, every)
        if box is not None:
            return replace(outcome, reason=guess.name, box=rounded(scaled(box, outcome.width, outcome.height)))
    raise AssertionError("the last guess always gives a box")


def review(photos: Sequence[Photo], outcomes: Mapping[str, Outcome]) -> dict[str, str]:
    """Return the reason to review a photo by image id; photos that need no review are left out."""
    own = _found_boxes(photos, outcomes)
    reasons = {photo.image_id: _why(outcomes[photo.image_id], own[photo.person]) for photo in photos}
    return {image_id: why for image_id, why in reasons.items() if why}


def _why(outcome: Outcome, own: Sequence[Box]) -> str:
    """Return why to review an outcome, or an empty string. A box by hand needs no review."""
    if outcome.status == "missing":
        return f"cannot be read: {outcome.reason}"
    if is_guess(outcome):
        return next(guess.why for guess in GUESSES if guess.name == outcome.reason)
    if outcome.reason == WEAK:
        return f"low score {outcome.score:.2f}"
    if outcome.status != "manual" and _is_unlike(outcome.relative_box, own):
        return "box much unlike those of the person's other photos"
    return ""


def _is_unlike(box: Box, own: Sequence[Box]) -> bool:
    others = list(own)
    others.remove(box)
    return len(others) >= LEAST_ALIKE and iou(box, median_box(others)) < UNLIKE_IOU
