"""Drawn crops: crops of bare faces with masks and other things drawn onto them, to train on beside the real ones.

    crop_images/drawings/drawings.csv       one row a drawn crop
    crop_images/drawings/<path of the crop>-<number>.jpg

They have the person of their photo, and all its facts but the mask. They are learned from alone: never predicted,
never scored.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from core import files
from core.cli import UserError
from core.files import require_unique
from core.tasks import task_named
from storage.crops import Crops, content_of

CLASSES = task_named("mask").classes
BARE = CLASSES[2]
FOLDER, SPLIT = "drawings", "drawn"
COLUMNS = ("image_id", "of", "number", "mask", "path", "key", "content")
"""Columns of drawings.csv. `of` is the photo's image id; `key` is a hash of all that the drawing depends on; `content`
is one of the file."""

OF_CROPS = ("image_id", "mask", "path", "key", "content")
"""Those that a table of crops has as well, with other values."""


def drawings_path(crop_dir: Path) -> Path:
    return crop_dir / FOLDER / "drawings.csv"


def drawing_file(crop_file: str, number: int) -> str:
    """Return the path of a drawn crop in the crop folder."""
    return f"{FOLDER}/{crop_file}-{number}.jpg"


def read_drawings(crop_dir: Path) -> pd.DataFrame:
    """Read drawings.csv as strings; empty if nothing has been drawn yet. UserError for a row that is no drawing."""
    path = drawings_path(crop_dir)
    if not path.exists():
        return pd.DataFrame(columns=list(COLUMNS), dtype=str)
    try:
        frame = files.read_csv(path, COLUMNS)
        require_unique(path, frame, "image_id")
        # What is out of date is removed: no row may name a file elsewhere.
        is_drawing = frame["path"].str.fullmatch(f"{FOLDER}/.+") & ~frame["path"].str.contains(r"(?:^|/)\.\.(?:/|$)")
        is_drawing &= frame["number"].str.fullmatch("[0-9]{1,6}") & frame["mask"].isin(CLASSES)
        if not is_drawing.all():
            name = frame["image_id"][~is_drawing].iloc[0]
            raise UserError(f"{path}: {name}: not the path, the number and the mask of a drawing")
    except UserError as error:
        raise UserError(f"{error}; remove {crop_dir / FOLDER}, and all of it is drawn anew") from None
    return frame


def write_drawings(crop_dir: Path, rows: Mapping[str, Mapping[str, str]]) -> None:
    """Write the rows, by image id, as drawings.csv."""
    frame = pd.DataFrame([rows[name] for name in sorted(rows)], columns=list(COLUMNS))
    files.write_csv(drawings_path(crop_dir), frame)


def is_whole(crop_dir: Path, row: Mapping[str, str]) -> bool:
    """Return whether the file of a row is there and as it was written."""
    path = crop_dir / row["path"]
    return path.is_file() and content_of(path) == row["content"]


def load_drawings(crops: Crops, per_photo: int) -> Crops:
    """Load the drawings of these crops, the first `per_photo` of each bare one. UserError for one that was changed."""
    frame = read_drawings(crops.crop_dir)
    frame = frame[frame["number"].astype(int) < per_photo]
    row_of = {name: row for row, name in enumerate(crops.image_ids)}
    frame = frame[frame["of"].isin(row_of)].reset_index(drop=True)
    photos = crops.frame.iloc[[row_of[name] for name in frame["of"]]].reset_index(drop=True)
    # A fact of the photos may be called as a column of drawings.csv.
    facts = {*photos.columns} - {*OF_CROPS}
    drawn = photos.assign(split=SPLIT, **{name: frame[name] for name in COLUMNS if name not in facts})
    # A photo's label may have been corrected since.
    drawn = drawn[(photos["mask"] == BARE) | (photos["mask"] == drawn["mask"])]
    loaded = Crops(crops.crop_dir, drawn.reset_index(drop=True), (), crops.source)
    try:
        loaded.refuse_changed()
    except UserError as error:
        raise UserError(f"{error}; or remove {crops.crop_dir / FOLDER}") from None
    return loaded
