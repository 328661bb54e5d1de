"""Cache of crops, decoded and resized once: one file that all tasks, folds and loader processes share.

    crop_images/pixels/train-<hash>-112x112.npy           the window of the face
    crop_images/pixels/train-<hash>-wide112x112.npy       with the surroundings

The name holds a hash of the content and time of every crop of the split, so a cache is never out of date, and label
corrections do not change it. One that no longer fits is removed when its successor is made, one that is damaged is made
anew.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from core import files
from core.cli import UserError, cpu_count, progress
from core.cropping import FACE_WINDOW, CropSettings
from core.images import UnreadablePhoto, read_photo
from storage.array_file import ArrayFile, is_whole, write_rows
from storage.crops import Crops, changed_crops, content_of

FOLDER = "pixels"
_FORMAT = 1


@dataclass(frozen=True)
class Shown:
    """What a network is shown of a crop: a window of core.cropping.WINDOWS, at `size` (H, W)."""

    window: str
    size: tuple[int, int]

    @property
    def name(self) -> str:
        """Part of the name of caches: 112x112, or wide112x112."""
        return f"{'' if self.window == FACE_WINDOW else self.window}{self.size[0]}x{self.size[1]}"

    def of(self, crop: np.ndarray, settings: CropSettings) -> np.ndarray:
        """Return (H, W, 3) uint8 of a crop (h, w, 3) uint8 that was cut with these settings."""
        return shrink(settings.cut(crop, self.window), self.size)


class CropCache:
    """Images (N, H, W, 3) uint8 RGB in a file, found by image id. Only its name and shape travel between processes."""

    def __init__(self, path: Path, image_ids: Sequence[str]) -> None:
        self.path = path
        self._row_of = {image_id: row for row, image_id in enumerate(image_ids)}
        self._file = ArrayFile(path)

    @property
    def image_ids(self) -> list[str]:
        """Image ids in the order of the rows."""
        return list(self._row_of)

    def image(self, row: int) -> np.ndarray:
        """Return the image (H, W, 3) of a row, a copy of its own."""
        return self._file.read(row)[0]

    def rows(self, image_ids: Sequence[str]) -> list[int]:
        """Return the row of each image id."""
        return [self._row_of[image_id] for image_id in image_ids]


def open_crop_cache(crops: Crops, shown: Shown) -> CropCache:
    """Return the cache of what is shown of all crops of the split, made first if it is not there, or is damaged.

    UserError for a crop that cannot be read, was changed since crop_faces wrote it, or lacks the window.
    """
    frame, path = crops.whole.sort_values("image_id", ignore_index=True), crop_cache_path(crops, shown)
    if not is_whole(path):
        if path.exists():
            print(f"{path}: damaged or of an earlier version; made anew", flush=True)
        _build(path, crops, frame, shown)
        _remove_superseded(path)
    return CropCache(path, list(frame["image_id"]))


def crop_cache_path(crops: Crops, shown: Shown) -> Path:
    """Return the cache's path, whose name changes with any crop, also one that was changed by hand."""
    frame = crops.whole
    paths = [crops.crop_dir / name for name in frame["path"]]
    states = sorted(zip(frame["image_id"], frame["content"], map(_file_state, paths), strict=True))
    key = files.text_hash([str(_FORMAT), *map(repr, states)])
    split = "-".join(sorted(set(frame["split"])))
    return crops.crop_dir / FOLDER / f"{split}-{key}-{shown.name}.npy"


def _file_state(path: Path) -> tuple[int, int]:
    try:
        state = path.stat()
    except OSError as error:
        raise UserError(f"crop {path}: {error.strerror}; run preprocessing/crop_faces.py again") from None
    return state.st_size, state.st_mtime_ns


def shrink(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize (h, w, 3) uint8 to (H, W, 3) uint8; `size` is (H, W). Every network of the project is fed through this."""
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _build(path: Path, crops: Crops, frame: pd.DataFrame, shown: Shown) -> None:
    shape, settings = (len(frame), *shown.size, 3), crops.settings
    files.require_room(path.parent, math.prod(shape), "the crop cache")
    files.remove_stale(path.parent)
    with ThreadPoolExecutor(cpu_count()) as threads:
        images = threads.map(
            lambda name, content: shown.of(_read(crops.crop_dir / name, content), settings),
            *(frame["path"], frame["content"]),
        )
        rows = progress(images, title=f"crops at {shown.name}", total=len(frame), part=0.05)
        write_rows(path, rows, shape=shape, dtype=np.dtype(np.uint8))


def _read(path: Path, content: str) -> np.ndarray:
    try:
        image = read_photo(path)
    except UnreadablePhoto as error:
        raise UserError(f"crop {error}; run preprocessing/crop_faces.py again") from error
    if content_of(path) != content:
        raise UserError(changed_crops([str(path)]))
    return image


def _remove_superseded(path: Path) -> None:
    split, _, size = path.stem.rsplit("-", 2)
    for other in path.parent.glob(f"{split}-*-{size}.npy"):
        if other != path:
            # Another process may have removed it in the same moment, or read it, where Windows keeps it.
            with suppress(FileNotFoundError, PermissionError):
                other.unlink()
