"""The training of one run of an experiment: chosen folds of some tasks, each with the time it took."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from core import artifacts, checkpoints
from core.checkpoints import fold_dir_of
from core.config import Config
from core.crops import Crops
from core.folds import load_or_make_folds
from core.runs import begin_run, describe_run
from core.tasks import Task
from experiments.scoring import TrainedRun
from fold_training import FoldData, train_fold

CLOCK = "wall_clock.json"


def open_folds(run_dir: Path, crops: Crops, config: Config) -> Mapping[str, int]:
    """Fold of every person; begins the run folder, or refuses one of other data or folds."""
    split = {"folds": config.folds, "age_edges": config.age_edges}
    begin_run(run_dir, describe_run(crops, **split, fold_seed=config.fold_seed))
    return load_or_make_folds(run_dir, crops, **split, seed=config.fold_seed)


def fold_data(task: Task, config: Config, crops: Crops, *, fold: int, fold_of: Mapping[str, int]) -> FoldData:
    return FoldData(task, fold, crops, crops.labels(task, config.age_edges), fold_of)


def train_run(run: TrainedRun, crops: Crops, deadline: float) -> bool:
    """Train what is not trained yet. False if `deadline` (of time.monotonic) came before the last fold was begun."""
    for task, config in run.configs.items():
        fold_of = open_folds(run.run_dir, crops, config)
        for fold in run.folds:
            fold_dir = fold_dir_of(run.run_dir, task.name, fold)
            if not checkpoints.is_done(fold_dir) and time.monotonic() > deadline:
                return False
            with wall_clock(run.run_dir, fold_dir):
                data = fold_data(task, config, crops, fold=fold, fold_of=fold_of)
                train_fold(fold_dir, data, config, overwrite=False)
    return True


@contextmanager
def wall_clock(run_dir: Path, fold_dir: Path) -> Iterator[None]:
    """Add the time spent within to what the fold took before, also after an interruption."""
    path, began, cpu_began = run_dir / CLOCK, time.monotonic(), cpu_seconds()
    try:
        yield
    finally:
        times = artifacts.read_json(path) if path.exists() else {}
        name = fold_dir.relative_to(run_dir).as_posix()
        seconds, cpu = times.get(name, (0, 0))
        seconds, cpu = seconds + time.monotonic() - began, cpu + cpu_seconds() - cpu_began
        artifacts.write_json(path, {**times, name: (round(seconds, 2), round(cpu, 2))})


def cpu_seconds() -> float:
    """Processor time of this process, all its threads, and the loader processes that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def seconds_of(run: TrainedRun, tasks: Sequence[Task]) -> tuple[float, float]:
    """Wall-clock and processor time of the chosen folds: training, held-out scores, out-of-fold logits.

    On a machine that others use too, the processor time is the one to compare.
    """
    times = artifacts.read_json(run.run_dir / CLOCK)
    spent = [times[f"{task.name}/fold{fold}"] for task in tasks for fold in run.folds]
    return sum(seconds for seconds, _ in spent), sum(cpu for _, cpu in spent)


def photos_per_second(run: TrainedRun, tasks: Sequence[Task]) -> float:
    """Speed of the training loop over all epochs of the chosen folds."""
    return speed([folder / checkpoints.HISTORY for task in tasks for folder in run.fold_dirs(task)])


def speed(histories: list[Path], first_epoch: int = 1) -> float:
    """Photos per second over the epochs of some history.csv, from `first_epoch` on."""
    columns = ("epoch", "seconds", "images_per_second")
    table = pd.concat([artifacts.read_csv(path, columns) for path in histories])[list(columns)].astype(float)
    table = table[table["epoch"] >= first_epoch]
    return float((table["seconds"] * table["images_per_second"]).sum() / table["seconds"].sum())
