"""What the benchmarks work on: photos (drawn people, or a folder that is given), their crops, and the settings."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from core.cli import UserError, cpu_count
from core.files import text_hash
from dev.benchmarks.watch import watch
from storage.crops import Crops, load_crops
from storage.layouts import Dataset, scan
from storage.run_dir import trained_tasks
from training.config import Config, resolve
from training.device import pick_device, pick_workers


@dataclass(frozen=True)
class Size:
    """How much is measured. `people` and `eval_photos` are drawn; `passes` epochs make one figure of the loaders;
    `many_photos` is the length of the list on which memory must not grow; `times` multiplies the photos for scaling."""

    name: str
    people: int
    eval_photos: int
    rounds: int
    passes: int
    folds: int
    many_photos: int
    times: tuple[int, ...]


QUICK = Size("quick", people=6, eval_photos=5, rounds=1, passes=1, folds=2, many_photos=200, times=(1, 2))
NORMAL = Size("normal", people=120, eval_photos=240, rounds=5, passes=3, folds=5, many_photos=20000, times=(1, 4, 16))


@dataclass(frozen=True)
class Setup:
    """Photos, crops and settings of all benchmarks of one run.

    `typed`: settings that come before the profile's; `run_dir`: a finished run to predict with, None for a made one.
    """

    work_dir: Path
    data_dir: Path
    size: Size
    profile: str
    typed: Mapping[str, Any]
    run_dir: Path | None = None

    @cached_property
    def data(self) -> Dataset:
        return scan(self.data_dir)

    @property
    def crop_dir(self) -> Path:
        return self.work_dir / "crops"

    @cached_property
    def train_crops(self) -> Crops:
        return load_crops(self.crop_dir, "train")

    @cached_property
    def eval_crops(self) -> Crops:
        return load_crops(self.crop_dir, "eval")

    @cached_property
    def train_photos(self) -> list[Path]:
        return [self.data_dir / photo.path for photo in self.data.of_split("train")]

    @property
    def train_root(self) -> Path:
        """The folder of the person folders."""
        return Path(os.path.commonpath([path.parent.parent for path in self.train_photos]))

    @cached_property
    def device(self) -> torch.device:
        return pick_device(self.typed.get("device", "auto"))

    @property
    def loader_workers(self) -> int:
        return pick_workers(self.typed.get("workers", -1), self.device)

    @property
    def processes(self) -> int:
        """Processes for work without a network."""
        return cpu_count()

    def config(self, task: str, **settings: object) -> Config:
        return resolve(task, self.profile, {**self.typed, **settings})

    def typed_flags(self) -> list[str]:
        """The typed settings as flags of train.py."""
        words = []
        for name, value in self.typed.items():
            flag = name.replace("_", "-")
            if isinstance(value, bool):
                words.append(f"--{flag}" if value else f"--no-{flag}")
            else:
                words += [f"--{flag}", *map(str, value if isinstance(value, tuple) else (value,))]
        return words


def prepare(setup: Setup) -> None:
    """Draw people if no folder was given, find their faces and crop them, unless all this was done before.

    UserError for a folder without people to train on.
    """
    if setup.data_dir == drawn_dir(setup.work_dir):
        people = ("--train-people", setup.size.people, "--eval-photos", setup.size.eval_photos)
        watch(["-m", "synthesis.drawn.sample", "--out", setup.data_dir, *people])
    if not setup.train_photos:
        raise UserError(f"--data-dir {setup.data_dir}: no photos to train on in it (layout {setup.data.layout})")
    make_crops(setup.data_dir, setup.crop_dir)


def drawn_dir(work_dir: Path) -> Path:
    return work_dir / "photos"


def make_crops(data_dir: Path, crop_dir: Path) -> None:
    watch(["preprocessing/detect_faces.py", "--data-dir", data_dir, "--crop-dir", crop_dir])
    watch(["preprocessing/crop_faces.py", "--crop-dir", crop_dir])


def some_run(setup: Setup) -> tuple[Path, list[str]]:
    """A run and its tasks: the one that was given, or one trained in seconds, made once for the same settings.

    What its models have learned does not change their speed.
    """
    run_dir = setup.run_dir
    if run_dir is None:
        flags = ["--profile", setup.profile, *setup.typed_flags(), "--folds", setup.size.folds]
        run_dir = setup.work_dir / f"run_{text_hash(map(str, flags))}"
        where = ["--crop-dir", setup.crop_dir, "--run-dir", run_dir]
        watch(["train.py", *where, *flags, "--epochs", 1, "--photos-per-person", 3])
    return run_dir, trained_tasks(run_dir)


def multiplied(data: Dataset, folder: Path, times: int) -> Path:
    """A data root in the competition layout with every photo `times` over, by hard links: no space, no time.

    Each copy of a person is another person. Facts go into the folder names, so no tables are needed.
    """
    for copy in range(times):
        for photo in data.photos:
            source = data.root / photo.path
            link = folder / _place(photo.split, photo.person, photo.facts, copy, source.name)
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                os.link(source, link)
    return folder


def _place(split: str, person: str, facts: Mapping[str, str], copy: int, name: str) -> Path:
    if split == "train":
        return Path("train/images") / f"{copy}-{person}_{facts['gender']}_unknown_{facts['age']}" / name
    return Path("eval/images") / f"{copy}-{name}"
