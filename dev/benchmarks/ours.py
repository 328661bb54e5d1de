"""Our own side of the comparisons: the training, loaders and predictors that the commands use."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from training.fold_data import FoldData

from core.cli import cpu_count
from core.tasks import task_named
from dev.benchmarks.material import Setup
from storage.folds import make_folds, person_strata
from storage.run_dir import fold_dir_of
from training.config import Config
from training.device import prepare_process, to_device
from training.fold import FoldTraining
from training.jobs import jobs_at_once
from training.predictor import Prediction, Predictor


def fold_data(setup: Setup, task: str, config: Config, fold: int = 0) -> FoldData:
    """One fold of the training crops, with the folds that train.py would make."""
    crops = setup.train_crops
    strata = person_strata(crops, config.age_edges)
    fold_of = make_folds(strata, folds=config.folds, seed=config.fold_seed)
    return FoldData(task_named(task), fold, crops, crops.labels(task_named(task), config.age_edges), fold_of)


def new_training(setup: Setup, task: str, folder: Path, **settings: object) -> FoldTraining:
    """A fold's training before its first step, in a run folder."""
    config = setup.config(task, **settings)
    return FoldTraining(fold_dir_of(folder, task, 0), fold_data(setup, task, config), config)


def ready(training: FoldTraining, pictures: Tensor) -> Tensor:
    """A batch of our loader, (N, H, W, 3) uint8, as the network gets it: (N, 3, H, W) float32, normalised."""
    pixels = to_device(pictures, training.device, training.config.channels_last)
    return (pixels - training.model.mean) / training.model.std


def predict_all(setup: Setup, predictors: Sequence[Predictor]) -> list[Prediction]:
    """What all models say of all eval crops, as inference.py has it."""
    where = {"device": str(setup.device), "workers": setup.typed.get("workers", -1)}
    return [one.of_crops(setup.eval_crops, **where, tta=one.config.tta, title="inference") for one in predictors]


@contextmanager
def threads_of_a_job(config: Config) -> Iterator[int]:
    """This process with the threads that one of several models has, which share the cores."""
    before, threads = torch.get_num_threads(), max(1, cpu_count() // jobs_at_once([config]))
    prepare_process(threads)
    try:
        yield threads
    finally:
        torch.set_num_threads(before)
