"""Photos, crops, settings and runs that the benchmarks work on."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.cli import UserError, cpu_count
from core.cropping import FACE_WINDOW, WIDE_WINDOW
from core.files import text_hash
from core.images import read_photo
from core.tasks import task_named
from dev.command import as_flags, run_command
from serving.types import Classifier
from storage.crops import Crops, load_crops
from storage.folds import make_folds, person_strata
from storage.layouts import Dataset, scan
from training.config import Config, resolve
from training.device import pick_device
from training.fold_setup import FoldData, FoldTraining, prepare_fold
from training.jobs import jobs_at_once


def images_for(classify: Classifier, crops: Crops) -> list[np.ndarray]:
    """Return crops (h, w, 3) uint8 as a classifier takes them."""
    window = WIDE_WINDOW if classify.crop.surroundings else FACE_WINDOW
    return [crops.settings.cut(read_photo(path), window) for path in crops.paths]


@dataclass(frozen=True)
class Size:
    """Amount of work. `people` and `eval_photos` are drawn; `passes` epochs make one figure of the loaders;
    `requests` load the service."""

    name: str
    people: int
    eval_photos: int
    rounds: int
    passes: int
    folds: int
    requests: int


QUICK = Size("quick", people=6, eval_photos=5, rounds=1, passes=1, folds=2, requests=8)
NORMAL = Size("normal", people=120, eval_photos=240, rounds=5, passes=3, folds=5, requests=10_000)


@dataclass(frozen=True)
class Setup:
    """Photos, crops and settings of all benchmarks of one command.

    `typed`: settings that come before the profile's; `run_dir`: a finished run to predict with, None to train one.
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
    def device(self) -> torch.device:
        return pick_device(self.typed.get("device", "auto"))

    @property
    def threads_of_a_job(self) -> int:
        """Threads of one of several models that are trained or asked at once, which share the cores."""
        return max(1, cpu_count() // jobs_at_once([self.config("mask")]))

    def config(self, task: str, **settings: object) -> Config:
        return resolve(task, self.profile, {**self.typed, **settings})

    def fold_data(self, task: str, config: Config, fold: int = 0) -> FoldData:
        """One fold of the training crops, with the folds that train.py would make."""
        crops = self.train_crops
        fold_of = make_folds(person_strata(crops, config.age_edges), folds=config.folds, seed=config.fold_seed)
        return FoldData(task_named(task), fold, crops, crops.labels(task_named(task), config.age_edges), fold_of)

    def new_training(self, task: str, run_dir: Path, **settings: object) -> FoldTraining:
        """A fold's training before its first step."""
        config = self.config(task, **settings)
        data = self.fold_data(task, config)
        return prepare_fold(data, config, data.input_for(config).prepared(run_dir))

    def train_flags(self, **settings: object) -> list[str]:
        return ["--profile", self.profile, *as_flags({**self.typed, **settings})]

    def some_run(self) -> Path:
        """A finished run: the given one, or one trained in seconds, as speed does not depend on the weights."""
        if self.run_dir:
            return self.run_dir
        flags = self.train_flags(folds=self.size.folds)
        run_dir = self.work_dir / f"run_{text_hash(map(str, flags))}"
        where = ["--crop-dir", self.crop_dir, "--run-dir", run_dir]
        run_command(["train.py", *where, *flags, "--epochs", 1, "--photos-per-person", 3])
        return run_dir


def drawn_dir(work_dir: Path) -> Path:
    return work_dir / "photos"


def prepare(setup: Setup) -> None:
    """Draw people if no folder was given, detect and crop their faces; nothing where all this is done.

    UserError for a folder without people to train on.
    """
    if setup.data_dir == drawn_dir(setup.work_dir):
        people = ("--train-people", setup.size.people, "--eval-photos", setup.size.eval_photos)
        run_command(["-m", "synthesis.drawn.sample", "--out", setup.data_dir, *people])
    if not setup.data.of_split("train"):
        raise UserError(f"--data-dir {setup.data_dir}: no photos to train on in it (layout {setup.data.layout})")
    run_command(["preprocessing/detect_faces.py", "--data-dir", setup.data_dir, "--crop-dir", setup.crop_dir])
    run_command(["preprocessing/crop_faces.py", "--crop-dir", setup.crop_dir])
