"""The table of finished crops, crops.csv: which crop files are ours, and what each was made from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from core import files
from core.cli import UserError
from storage import crops

COLUMNS = (*crops.CROP_COLUMNS, "file")


@dataclass(frozen=True)
class Crop:
    """A finished crop: hashes of all it was made from and of itself, and its file, relative to the crop folder."""

    key: str
    content: str
    file: str


def read_crop_table(crop_dir: Path) -> dict[str, Crop]:
    """Crops by image id; empty if nothing has been cropped yet."""
    path = crops.crops_path(crop_dir)
    if not path.exists():
        return {}
    frame = files.read_csv(path, COLUMNS)
    files.require_unique(path, frame, "image_id")
    return {row["image_id"]: Crop(row["key"], row["content"], row["file"]) for row in frame.to_dict("records")}


def write_crop_table(crop_dir: Path, table: Mapping[str, Crop]) -> None:
    rows = [(image_id, crop.key, crop.content, crop.file) for image_id, crop in table.items()]
    files.write_csv(crops.crops_path(crop_dir), pd.DataFrame(rows, columns=list(COLUMNS), dtype=str))


def forget_crops(crop_dir: Path, image_ids: Iterable[str]) -> None:
    """Take crops that are out of date off the table and off the disk, so that no later step can read them."""
    table, image_ids = read_crop_table(crop_dir), set(image_ids)
    gone = {image_id: crop for image_id, crop in table.items() if image_id in image_ids}
    if not gone:
        return
    stale = [inside(crop_dir, crop.file, crops.crops_path(crop_dir)) for crop in gone.values()]
    for file in stale:
        file.unlink(missing_ok=True)
    write_crop_table(crop_dir, {image_id: crop for image_id, crop in table.items() if image_id not in gone})


def inside(folder: Path, relative: str, table_path: Path) -> Path:
    """`folder / relative`; UserError if a path in a table leads out of its folder."""
    path = PurePosixPath(relative)
    if not relative or path.is_absolute() or ".." in path.parts or "\\" in relative:
        raise UserError(f"{table_path}: path {relative!r} leads out of {folder}")
    return folder / relative
