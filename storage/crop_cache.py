"""Cache of crops, decoded and resized once: one memory-mapped array that all tasks, folds and loader processes share.

    crop_images/pixels/train-<hash>-112x90.npy

The name holds a hash of the content and time of every crop, so a cache is never out of date. One that no longer fits is
removed when its successor is made.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np

from core import files
from core.cli import UserError, cpu_count, progress
from core.images import UnreadablePhoto, read_photo
from storage.crops import Crops

FOLDER = "pixels"
_FORMAT = 1


class CropCache:
    """Images (N, H, W, 3) uint8 RGB in a file, found by image id. Only the file's name travels between processes."""

    def __init__(self, path: Path, image_ids: Sequence[str]) -> None:
        self.path = path
        self._row_of = {image_id: row for row, image_id in enumerate(image_ids)}
        self._images: np.ndarray | None = None

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_images": None}

    @property
    def image_ids(self) -> list[str]:
        """Image ids in the order of the rows."""
        return list(self._row_of)

    @property
    def images(self) -> np.ndarray:
        """The whole array, mapped read-only at first use."""
        if self._images is None:
            self._images = np.load(self.path, mmap_mode="r", allow_pickle=False)
        return self._images

    def rows(self, image_ids: Sequence[str]) -> list[int]:
        """Return the row of each image id."""
        return [self._row_of[image_id] for image_id in image_ids]


def open_crop_cache(crops: Crops, size: tuple[int, int]) -> CropCache:
    """Return the cache of all these crops at `size` (H, W), made first if need be. UserError for an unreadable crop."""
    frame = crops.frame.sort_values("image_id", ignore_index=True)
    path = crop_cache_path(crops, size)
    if not path.exists():
        _build(path, [crops.crop_dir / name for name in frame["path"]], size)
        _remove_superseded(path)
    return CropCache(path, list(frame["image_id"]))


def crop_cache_path(crops: Crops, size: tuple[int, int]) -> Path:
    """Return the cache's path, whose name changes with any crop, also one that was changed by hand."""
    paths = [crops.crop_dir / name for name in crops.frame["path"]]
    shown = sorted(zip(crops.frame["image_id"], crops.frame["content"], map(_file_state, paths), strict=True))
    key = files.text_hash([str(_FORMAT), *map(repr, shown)])
    split = "-".join(sorted(set(crops.frame["split"])))
    return crops.crop_dir / FOLDER / f"{split}-{key}-{size[0]}x{size[1]}.npy"


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


def _build(path: Path, paths: Sequence[Path], size: tuple[int, int]) -> None:
    shape = (len(paths), *size, 3)
    files.require_room(path.parent, math.prod(shape), "the crop cache")
    files.remove_stale(path.parent)
    with files.replacing(path) as aside, aside.open("wb") as stream, ThreadPoolExecutor(cpu_count()) as threads:
        # Written, not mapped: a page that a full disk cannot take would end the process without a word (SIGBUS).
        np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
        shrunk = threads.map(lambda crop: shrink(_read(crop), size), paths)
        for image in progress(shrunk, title=f"crops at {size[0]}x{size[1]}", total=len(paths), part=0.05):
            stream.write(image.tobytes())


def _read(path: Path) -> np.ndarray:
    try:
        return read_photo(path)
    except UnreadablePhoto as error:
        raise UserError(f"crop {error}; run preprocessing/crop_faces.py again") from error


def _remove_superseded(path: Path) -> None:
    split, _, size = path.stem.rsplit("-", 2)
    for other in path.parent.glob(f"{split}-*-{size}.npy"):
        if other != path:
            # Another process may have removed it in the same moment.
            with suppress(FileNotFoundError):
                other.unlink()
