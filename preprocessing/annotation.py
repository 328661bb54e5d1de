"""The photos of the annotation page, and the marks a person makes, kept in two tables.

    boxes.csv           image_id,x1,y1,x2,y2 in pixels of the upright photo: what detect_faces --manual reads
    boxes_no_face.csv   image_id,drop of the photos that show no face: as `train.py --label-fixes` reads it, training
                        photos are left out, and eval photos are predicted all the same

A box wins where a photo stands in both tables, which a stop between their two writings can leave behind.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import pandas as pd

from core import files
from core.boxes import Box
from core.cli import UserError, name_some
from core.images import fingerprint, jpeg, read_photo
from preprocessing.faces_table import Outcome, read_outcomes, rounded
from preprocessing.fallback_boxes import COLUMNS, read_manual
from storage import crops
from storage.layouts import Dataset

LIST_COLUMNS, NO_FACE_COLUMNS = ("image_id",), ("image_id", "drop")
SHOWN_SIDE = 1600
"""Longer side, in pixels, of the image on the page. Boxes are in pixels of the whole photo."""
JPEG_QUALITY = 90


@dataclass(frozen=True)
class Mark:
    """A person's mark of a photo: a box, no face, or, with neither, nothing yet."""

    box: Box | None = None
    no_face: bool = False


NOTHING = Mark()


@dataclass(frozen=True)
class ShownPhoto:
    """A photo as the page shows it: a JPEG, and the size of the upright photo in pixels."""

    jpeg: bytes
    width: int
    height: int


def no_face_path_of(boxes_path: Path) -> Path:
    return boxes_path.with_name(f"{boxes_path.stem}_no_face.csv")


def choose(crop_dir: Path, *, statuses: Sequence[str], list_path: Path | None) -> list[Outcome]:
    """Return the rows of faces.csv to show, in its order: those of `statuses`, or those that the list names.

    UserError for a status that is unknown, or a list that names a photo which faces.csv has not.
    """
    outcomes = read_outcomes(crops.faces_path(crop_dir))
    if not outcomes:
        raise UserError(f"crop folder {crop_dir}: no faces.csv in it; run preprocessing/detect_faces.py first")
    if list_path is None:
        unknown = [status for status in statuses if status not in crops.STATUSES]
        if unknown:
            raise UserError(f"--status {unknown[0]!r}: allowed is {', '.join(crops.STATUSES)}")
        return [outcome for outcome in outcomes.values() if outcome.status in statuses]
    listed = files.read_csv(list_path, LIST_COLUMNS)["image_id"]
    for number, image_id in enumerate(listed, start=2):
        if image_id not in outcomes:
            raise UserError(f"{list_path} row {number}: image_id {image_id!r} is not in {crops.faces_path(crop_dir)}")
    return [outcomes[image_id] for image_id in dict.fromkeys(listed)]


def show(path: Path) -> ShownPhoto:
    """Read the upright photo, made smaller where it is large. Raises UnreadablePhoto."""
    rgb = read_photo(path)
    height, width = rgb.shape[:2]
    scale = SHOWN_SIDE / max(height, width)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return ShownPhoto(jpeg(rgb, JPEG_QUALITY), width, height)


def checked_box(edges: object, photo: ShownPhoto) -> Box:
    """Return the box the page sent: four numbers, at least a pixel wide and high, in the photo. ValueError if not."""
    if not isinstance(edges, list) or [type(edge) in (int, float) for edge in edges] != [True] * len(Box._fields):
        raise ValueError("a box is four numbers: x1, y1, x2, y2")
    # Compared before anything is computed: NaN is in no range, and a whole number can be too long for a float.
    if not all(0 <= edge <= side for edge, side in zip(edges, (photo.width, photo.height) * 2, strict=True)):
        raise ValueError(f"the box does not lie in the photo ({photo.width} x {photo.height})")
    box = rounded(Box(*edges))
    if box.width < 1 or box.height < 1:
        raise ValueError("the box is less than a pixel wide or high")
    return box


class Marks:
    """The marks of all photos, on disk after every change; rows of photos that are not shown are kept.

    A table that another program has changed meanwhile is read again before it is written.
    """

    def __init__(self, boxes_path: Path, dataset: Dataset) -> None:
        self.boxes_path, self.no_face_path = boxes_path, no_face_path_of(boxes_path)
        self._dataset = dataset
        self._trained_on = {photo.image_id for photo in dataset.of_split("train")}
        self._lock = threading.Lock()
        self._read_state: tuple[str, str] | None = None
        self._boxes: dict[str, Box] = {}
        self._no_face: dict[str, None] = {}
        self._read_if_changed()

    def of(self, image_id: str) -> Mark:
        with self._lock:
            self._read_if_changed()
            return self._of(image_id)

    def put(self, image_id: str, mark: Mark) -> None:
        """Put `mark` in place of the photo's mark, on disk before this returns. UserError or OSError if it cannot."""
        with self._lock:
            self._read_if_changed()
            if mark == self._of(image_id):
                return
            boxes = _changed(self._boxes, image_id, mark.box, keep=mark.box is not None)
            no_face = _changed(self._no_face, image_id, None, keep=mark.no_face)
            if boxes != self._boxes:
                files.write_csv(self.boxes_path, _frame(COLUMNS, [(name, *box) for name, box in boxes.items()]))
            if no_face != self._no_face:
                rows = [(name, "1" if name in self._trained_on else "") for name in no_face]
                files.write_csv(self.no_face_path, _frame(NO_FACE_COLUMNS, rows))
            self._boxes, self._no_face, self._read_state = boxes, no_face, self._state()

    def _of(self, image_id: str) -> Mark:
        box = self._boxes.get(image_id)
        return Mark(box, no_face=box is None and image_id in self._no_face)

    def _state(self) -> tuple[str, str]:
        return tuple(fingerprint(path) if path.exists() else "" for path in (self.boxes_path, self.no_face_path))

    def _read_if_changed(self) -> None:
        state = self._state()
        if state == self._read_state:
            return
        for path, columns in ((self.boxes_path, COLUMNS), (self.no_face_path, NO_FACE_COLUMNS)):
            _refuse_other_columns(path, columns)
        boxes = read_manual(self.boxes_path, self._dataset) if state[0] else {}
        no_face = files.read_csv(self.no_face_path, LIST_COLUMNS)["image_id"] if state[1] else ()
        self._boxes, self._no_face, self._read_state = boxes, dict.fromkeys(no_face), state


def _refuse_other_columns(path: Path, columns: Sequence[str]) -> None:
    """UserError for a table with further columns, which writing it would lose."""
    if path.exists():
        further = [name for name in files.read_csv(path, columns[:1]).columns if name not in columns]
        if further:
            raise UserError(f"{path}: column {name_some(further)} would be lost; give another --boxes")


def _changed(table: Mapping[str, object], image_id: str, value: object, *, keep: bool) -> dict:
    rest = {name: entry for name, entry in table.items() if name != image_id}
    return rest | {image_id: value} if keep else rest


def _frame(columns: Sequence[str], rows: Sequence[tuple]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(columns))
