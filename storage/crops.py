"""The crop folder: its source, the faces in the photos, and the crops that training reads.

crop_images/source.json   data root, layout, listing hash, settings of detection and cropping
crop_images/faces.csv     one row a photo, written by detect_faces
crop_images/crops.csv     one row a crop that is up to date, written by crop_faces
"""

import hashlib
import os
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from core import files, locks
from core.cli import UserError, cpu_count, name_some
from core.cropping import CropSettings
from core.files import require_unique
from core.images import WRITTEN
from core.tasks import AgeEdges, Task
from storage.label_words import LABEL_COLUMNS
from storage.layouts import Dataset

STATUSES = ("detected", "fallback", "manual", "missing")
FACE_COLUMNS = (
    *("image_id", "split", "person", "path", "x1", "y1", "x2", "y2", "score", "status", *LABEL_COLUMNS),
    *("reason", "fingerprint", "width", "height"),
)
"""Columns of faces.csv. `reason` tells how a fallback was found or why a photo is missing. `width` and `height` are
those of the upright photo in pixels. Further facts follow."""
CROP_COLUMNS = ("image_id", "key", "content")
"""Columns of crops.csv. `key` is a hash of photo, box and crop settings; `content` is one of the crop itself, the same
wherever the photos are copied to. Further columns are the cropper's own."""
READER_SECONDS = 5.0
"""Time that a reader waits for another to enter the crop folder."""
LANDMARKS = "landmarks"
"""Optional column of faces.csv: x and y of eyes, nose and mouth corners in pixels of the photo, separated by spaces;
empty where no face was detected."""
NOT_LEARNED_FROM = frozenset((*FACE_COLUMNS, LANDMARKS)) - {"image_id", "person", *LABEL_COLUMNS} | {"key"}


def faces_path(crop_dir: Path) -> Path:
    return crop_dir / "faces.csv"


def crops_path(crop_dir: Path) -> Path:
    return crop_dir / "crops.csv"


def source_path(crop_dir: Path) -> Path:
    return crop_dir / "source.json"


def crop_file(path: str) -> str:
    """Return the name of a photo's crop in the crop folder: that of the photo, with .png added for other formats."""
    return path if path.lower().endswith(WRITTEN) else f"{path}.png"


def read_faces(crop_dir: Path) -> pd.DataFrame:
    """Read faces.csv as strings, one row a photo, eval rows in the order of a submission."""
    if not faces_path(crop_dir).exists():
        raise UserError(f"crop folder {crop_dir}: no faces.csv in it; run preprocessing/detect_faces.py first")
    return _read_keyed(faces_path(crop_dir), FACE_COLUMNS)


def read_crops(crop_dir: Path) -> pd.DataFrame:
    """Read crops.csv as strings; empty if nothing has been cropped yet."""
    if not crops_path(crop_dir).exists():
        return pd.DataFrame(columns=list(CROP_COLUMNS), dtype=str)
    return _read_keyed(crops_path(crop_dir), CROP_COLUMNS)


def _read_keyed(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    frame = files.read_csv(path, columns)
    require_unique(path, frame, "image_id")
    return frame


_SOURCE = {"data_root": str, "layout": str, "listing_hash": str, "shared": str, "detect": dict, "crop": dict}
"""Entries of source.json. Those of a step are there once it has run."""


def read_source(crop_dir: Path) -> dict:
    """Read source.json, the origin of the crop folder; empty if it is new. UserError for an entry of another type."""
    path = source_path(crop_dir)
    if not path.exists():
        return {}
    stored = files.read_json(path)
    files.require_entries(path, stored, {name: kind for name, kind in _SOURCE.items() if name in stored})
    return stored


def refuse_other_data(crop_dir: Path, dataset: Dataset) -> None:
    """UserError if the crop folder was made from another data root."""
    made_from = read_source(crop_dir).get("data_root")
    root = str(dataset.source.resolve())
    if made_from not in (None, root):
        raise UserError(f"crop folder {crop_dir} was made from {made_from}, not from {root}; give another --crop-dir")


def content_of(path: Path) -> str:
    """Return the hash of a crop's file, as in crops.csv. UserError if it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
    except OSError as error:
        raise UserError(f"crop {path}: {error.strerror}; run preprocessing/crop_faces.py again") from None


def changed_crops(names: Sequence[str]) -> str:
    """Return the words that refuse crops whose content is not that in crops.csv."""
    return (
        f"crop {name_some(names)} changed since it was written, by hand or by a fault of the disk; "
        f"remove it and run preprocessing/crop_faces.py, which makes it anew"
    )


@contextmanager
def reading(crop_dir: Path) -> Iterator[None]:
    """Read crops while nobody changes them: `changing` refuses until the end. UserError if somebody does already."""
    if not os.access(crop_dir, os.W_OK):
        # Not there, or nobody's to change.
        yield
        return
    with ExitStack() as held:
        with locks.locked(crop_dir / locks.LOCK_NAME, "--crop-dir", wait=READER_SECONDS):
            with suppress(UserError):
                _refuse_readers(crop_dir)
            held.enter_context(locks.locked(crop_dir / f".reader-{uuid.uuid4().hex[:8]}.lock", "--crop-dir"))
        yield


@contextmanager
def changing(crop_dir: Path) -> Iterator[None]:
    """Hold the crop folder against all other processes. UserError if one changes or reads it."""
    with locks.holding(crop_dir, "--crop-dir"):
        _refuse_readers(crop_dir)
        yield


def _refuse_readers(crop_dir: Path) -> None:
    """UserError if a process reads crops. Locks of killed ones are free, and are removed."""
    for reader in sorted(crop_dir.glob(".reader-*.lock")):
        with locks.locked(reader, "--crop-dir"):
            pass


@dataclass(frozen=True)
class Crops:
    """Crops of one split: a table of facts by image id, with the `path` of each crop in the crop folder.

    `missing` names the photos of the split that could not be read and have no crop. `every` is the table before any
    rows were left out, if some were.
    """

    crop_dir: Path
    frame: pd.DataFrame
    missing: tuple[str, ...]
    source: dict
    every: pd.DataFrame | None = None

    @property
    def whole(self) -> pd.DataFrame:
        """The table of the whole split, which the caches hold."""
        return self.frame if self.every is None else self.every

    @property
    def settings(self) -> CropSettings:
        """Settings that the crops were cut with."""
        return CropSettings.read(f"{source_path(self.crop_dir)}: crop", self.source["crop"])

    @cached_property
    def image_ids(self) -> list[str]:
        return list(self.frame["image_id"])

    @cached_property
    def paths(self) -> list[Path]:
        return [self.crop_dir / path for path in self.frame["path"]]

    @cached_property
    def hash(self) -> str:
        """Hash that changes with any crop, person or fact of this split, not with the row order or file times."""
        columns = sorted(set(self.frame.columns) - NOT_LEARNED_FROM)
        return files.text_hash(sorted(map(repr, self.frame[columns].itertuples(index=False, name=None))))

    def take(self, rows: list[int]) -> "Crops":
        """Return these rows alone."""
        return replace(self, frame=self.frame.iloc[rows].reset_index(drop=True), every=self.whole)

    def refuse_changed(self) -> None:
        """UserError naming crops whose files are not those that crop_faces wrote: edited since, or damaged."""
        with ThreadPoolExecutor(cpu_count()) as threads:
            found = threads.map(content_of, self.paths)
            pairs = zip(self.frame["path"], self.frame["content"], found, strict=True)
            changed = [path for path, content, now in pairs if now != content]
        if changed:
            raise UserError(f"crop folder {self.crop_dir}: {changed_crops(changed)}")

    def labels(self, task: Task, edges: AgeEdges) -> list[int]:
        """Return one label per row, UNKNOWN where it is not known; UserError naming a photo with unreadable facts."""
        return [self._label(row, task, edges) for row in self.frame.to_dict("records")]

    def _label(self, row: dict[str, str], task: Task, edges: AgeEdges) -> int:
        try:
            return task.label(row, edges)
        except (ValueError, KeyError) as error:
            raise UserError(
                f"photo {row['image_id']}: no {task.name} label can be read from its facts ({error})"
            ) from None


def load_crops(crop_dir: Path, split: str) -> Crops:
    """Load the up-to-date crops of a split. UserError if a step before is missing or has to run again."""
    faces, crops, source = read_faces(crop_dir), read_crops(crop_dir), read_source(crop_dir)
    if "crop" not in source:
        raise UserError(f"crop folder {crop_dir}: nothing cropped yet; run preprocessing/crop_faces.py first")
    faces = faces[faces["split"] == split]
    missing = tuple(faces["image_id"][faces["status"] == "missing"])
    found, keys = faces[faces["status"] != "missing"], crops[list(CROP_COLUMNS)]
    frame = found.merge(keys, on="image_id", how="left", validate="one_to_one")
    frame["path"] = frame["path"].map(crop_file)
    uncropped = list(frame["image_id"][frame["key"].isna()])
    if uncropped:
        raise UserError(f"crop folder {crop_dir}: {name_some(uncropped)} not cropped; run preprocessing/crop_faces.py")
    return Crops(crop_dir, frame.reset_index(drop=True), missing, source)
