"""What all tests share: one thread, no network, and small makers of pictures and crop tables."""

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

# torch reads it when it is loaded, here and in the processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"
import core.environment  # noqa: F401  its settings of OpenCV are read when that is loaded

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from core.images import write_photo
from storage.array_file import write_rows
from storage.crop_cache import CropCache
from storage.crops import CROP_COLUMNS, FACE_COLUMNS, Crops

collect_ignore = (
    [f"test_{name}.py" for name in ("bad_files", "kill", "locks", "disk", "limits", "progress", "resume", "scripts")]
    if os.name == "nt"
    else []
)
"""Tests of POSIX signals, pipes, shells and full disks."""
LOCAL = ("127.0.0.1", "::1", "localhost")
CROP = {"margin": 0.25, "aspect": 1.0, "size": 32, "align": True}


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Tiny networks lose more to waiting threads than they gain, and processes do not see what a test replaces."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.jobs.cpu_count", lambda: 1)
        patch.setattr("inference.cpu_count", lambda: 1)
        patch.setattr("synthesis.draw_crops.cpu_count", lambda: 1)
        patch.setattr("training.jobs.jobs_at_once", lambda configs: 1)
        # Exact, and the same on every machine.
        patch.setattr("training.device.cpu_has_bfloat16", lambda: False)
        yield


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that reaches out of the machine fails, also where it would be answered."""
    connect = socket.socket.connect

    def connect_locally(self: socket.socket, address: object) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in LOCAL:
            raise OSError(f"tests have no network, asked for {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_locally)


@pytest.fixture
def picture_files(tmp_path: Path) -> Callable[..., list[Path]]:
    """A maker of `count` PNG files of random pixels, the same ones for the same seed."""

    def make(count: int, *, size: tuple[int, int] = (32, 32), seed: int = 0) -> list[Path]:
        rng = np.random.default_rng(seed)
        paths = [tmp_path / "pictures" / f"{number:03}.png" for number in range(count)]
        for path in paths:
            write_photo(path, rng.integers(0, 256, (*size, 3), dtype=np.uint8))
        return paths

    return make


@pytest.fixture
def make_crop_cache(tmp_path: Path) -> Callable[..., CropCache]:
    """A maker of a store of `count` pictures of random pixels, the same ones for the same seed; ids "0", "1" ..."""

    def make(count: int, *, size: tuple[int, int] = (32, 32), seed: int = 0) -> CropCache:
        path, shape = tmp_path / "pictures.npy", (count, *size, 3)
        images = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
        write_rows(path, images, shape=shape, dtype=images.dtype)
        return CropCache(path, [str(number) for number in range(count)])

    return make


@pytest.fixture
def toy_crops(tmp_path: Path) -> Callable[[Sequence[dict[str, str]]], Crops]:
    """A maker of a crop table from rows that say only what matters; no picture is written."""

    def make(rows: Sequence[dict[str, str]]) -> Crops:
        blank = dict.fromkeys((*FACE_COLUMNS, *CROP_COLUMNS), "")
        source = {"data_root": "/data", "layout": "competition", "crop": CROP}
        return Crops(tmp_path / "crop_images", pd.DataFrame([blank | row for row in rows]), (), source)

    return make
