"""The crop folder: which photos it was made from, where their faces are, and the crops that training reads.

crop_images/source.json   data root, layout, listing hash, settings of detection and cropping
crop_images/faces.csv     one row a photo, written by detect_faces
crop_images/crops.csv     one row a crop that is up to date, written by crop_faces
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from core import files
from core.cli import UserError, name_some
from core.files import require_unique
from core.tasks import AgeEdges, Task
from storage.layouts import Dataset

STATUSES = ("detected", "fallback", "manual", "missing")
FACE_COLUMNS = (
    *("image_id", "split", "person", "path", "x1", "y1", "x2", "y2", "score", "status", "mask", "gender", "age"),
    *("reason", "fingerprint", "width", "height"),
)
"""Columns of faces.csv. `reason` says how a fallback was found or why a photo is missing, `width` and `height` are the
upright photo's in pixels; further facts follow."""
CROP_COLUMNS = ("image_id", "key", "content")
"""Columns of crops.csv. `key` is a hash of all that the crop was made from: photo, box and crop settings; `content` one
of the crop itself, the same wherever the photos are copied to. Further columns are the cropper's own."""
LANDMARKS = "landmarks"
"""A column that faces.csv may have: x and y of eyes, nose and mouth corners in pixels of the photo, spaces between;
empty where no face was detected."""
NOT_LEARNED_FROM = frozenset((*FACE_COLUMNS, LANDMARKS)) - {"image_id", "person", "mask", "gender", "age"} | {"key"}


def faces_path(crop_dir: Path) -> Path:
    return crop_dir / "faces.csv"


def crops_path(crop_dir: Path) -> Path:
    return crop_dir / "crops.csv"


def source_path(crop_dir: Path) -> Path:
    return crop_dir / "source.json"


def read_faces(crop_dir: Path) -> pd.DataFrame:
    """faces.csv as strings, one row a photo, eval rows in the order of a submission."""
    if not faces_path(crop_dir).exists():
        raise UserError(f"crop folder {crop_dir}: no faces.csv in it; run preprocessing/detect_faces.py first")
    return _read_keyed(faces_path(crop_dir), FACE_COLUMNS)


def read_crops(crop_dir: Path) -> pd.DataFrame:
    """crops.csv as strings; empty if nothing has been cropped yet."""
    if not crops_path(crop_dir).exists():
        return pd.DataFrame(columns=list(CROP_COLUMNS), dtype=str)
    return _read_keyed(crops_path(crop_dir), CROP_COLUMNS)


def _read_keyed(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    frame = files.read_csv(path, columns)
    require_unique(path, frame, "image_id")
    return frame


def read_source(crop_dir: Path) -> dict:
    """What the crop folder was made from; empty if it is new."""
    path = source_path(crop_dir)
    return files.read_json(path) if path.exists() else {}


def refuse_other_data(crop_dir: Path, dataset: Dataset) -> None:
    """UserError if the crop folder was made from another data root."""
    made_from = read_source(crop_dir).get("data_root")
    root = str(dataset.root.resolve())
    if made_from not in (None, root):
        raise UserError(f"crop folder {crop_dir} was made from {made_from}, not from {root}; give another --crop-dir")


@dataclass(frozen=True)
class Crops:
    """The crops of one split: a table of facts by image id, and where each picture lies.

    `missing` names the photos of the split that could not be read and so have no crop.
    """

    crop_dir: Path
    frame: pd.DataFrame
    missing: tuple[str, ...]
    source: dict

    @cached_property
    def image_ids(self) -> list[str]:
        return list(self.frame["image_id"])

    @cached_property
    def paths(self) -> list[Path]:
        return [self.crop_dir / path for path in self.frame["path"]]

    @cached_property
    def hash(self) -> str:
        """Changes when a crop, person or fact of this split changes; not with the row order, nor with file times."""
        columns = sorted(set(self.frame.columns) - NOT_LEARNED_FROM)
        return files.text_hash(sorted(map(repr, self.frame[columns].itertuples(index=False, name=None))))

    def take(self, rows: list[int]) -> "Crops":
        """These rows alone."""
        return replace(self, frame=self.frame.iloc[rows].reset_index(drop=True))

    def labels(self, task: Task, edges: AgeEdges) -> list[int]:
        """One label per row; UserError naming the photo whose facts the task cannot read."""
        return [self._label(row, task, edges) for row in self.frame.to_dict("records")]

    def _label(self, row: dict[str, str], task: Task, edges: AgeEdges) -> int:
        try:
            return task.read_label(row, edges)
        except (ValueError, KeyError) as error:
            raise UserError(
                f"photo {row['image_id']}: no {task.name} label can be read from its facts ({error})"
            ) from None


def load_crops(crop_dir: Path, split: str) -> Crops:
    """The up-to-date crops of a split. UserError if a step before is missing or has to run again."""
    faces, crops, source = read_faces(crop_dir), read_crops(crop_dir), read_source(crop_dir)
    if "crop" not in source:
        raise UserError(f"crop folder {crop_dir}: nothing cropped yet; run preprocessing/crop_faces.py first")
    faces = faces[faces["split"] == split]
    missing = tuple(faces["image_id"][faces["status"] == "missing"])
    found, keys = faces[faces["status"] != "missing"], crops[list(CROP_COLUMNS)]
    frame = found.merge(keys, on="image_id", how="left", validate="one_to_one")
    uncropped = list(frame["image_id"][frame["key"].isna()])
    if uncropped:
        raise UserError(f"crop folder {crop_dir}: {name_some(uncropped)} not cropped; run preprocessing/crop_faces.py")
    return Crops(crop_dir, frame.reset_index(drop=True), missing, source)
