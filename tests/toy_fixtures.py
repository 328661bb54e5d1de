"""Toys and finished runs that the end-to-end tests share, each made once a session; tests that write take a copy.

A plugin of its own, so that it is made once for all files that name it: `pytest_plugins = ("toy_fixtures",)`.
"""

import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from toy_data import Toy, ToyRun, crop, finish_run, make_competition, prepare

from preprocessing import detect_faces
from synthesis.drawn import sample


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    folder = tmp_path_factory.mktemp("toy")
    return prepare(make_competition(folder / "data"), folder / "crops")


@pytest.fixture(scope="session")
def toy_run(toy: Toy) -> ToyRun:
    return finish_run(toy, toy.root.parent / "run")


@pytest.fixture(scope="session")
def drawn_run(tmp_path_factory: pytest.TempPathFactory) -> ToyRun:
    """Drawn people, the real detector, and every step after it; made once for all processes of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "drawn"
    root, crop_dir, run_dir, made = (folder / name for name in ("data", "crops", "run", "made"))
    with FileLock(f"{folder}.lock"):
        if not made.exists():
            sample.main(["--out", str(root), "--train-people", "8", "--eval-photos", "6", "--workers", "1"])
            detect_faces.main(["--data-dir", str(root), "--crop-dir", str(crop_dir), "--workers", "1"])
            crop(crop_dir)
            finish_run(Toy(root, crop_dir), run_dir)
            made.touch()
    return ToyRun(root, crop_dir, run_dir)


@pytest.fixture
def run_copy(toy_run: ToyRun, tmp_path: Path) -> ToyRun:
    """The finished toy run in a folder that a test may change."""
    run_dir = shutil.copytree(toy_run.run_dir, tmp_path / "run")
    return ToyRun(toy_run.root, toy_run.crop_dir, run_dir)


@pytest.fixture
def data_copy(toy: Toy, tmp_path: Path) -> Toy:
    """The toy's data root, with a crop folder of its own, both of which a test may change."""
    root = shutil.copytree(toy.root, tmp_path / "data")
    return prepare(root, tmp_path / "crops")
