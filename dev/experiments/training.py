"""The training of one run of an experiment: chosen folds of some tasks, side by side as `train.py` trains them."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
from training.fold_data import FoldData

from core import files
from core.cli import cpu_count
from core.tasks import Task
from dev.experiments.clock import Spent, running, spent_on
from dev.experiments.scoring import TrainedRun
from storage.crops import Crops
from storage.folds import load_or_make_folds
from storage.run_dir import HISTORY, begin_run, describe_run, fold_dir_of, is_done
from training.config import Config
from training.feature_cache import Shard, shard_maker
from training.jobs import Cell, cell_trainer, jobs_at_once, longest_first, stores_to_make, train_cell
from training.launchers import LOCAL, Resources, launcher_named


@dataclass(frozen=True)
class Jobs:
    """How many folds are trained at once, and the threads of each."""

    count: int
    threads: int

    @property
    def cores_each(self) -> float:
        """What a fold has of the machine: less than a core where there are more folds than cores."""
        return min(self.threads, cpu_count() / self.count)


def share_cores(asked: int, configs: Iterable[Config]) -> Jobs:
    """So many jobs as asked for, or for 0 as many as suit the machine, which share its cores."""
    count = asked or jobs_at_once(list(configs))
    return Jobs(count, max(1, cpu_count() // count))


def open_folds(run_dir: Path, crops: Crops, config: Config) -> Mapping[str, int]:
    """Fold of every person; begins the run folder, or refuses one of other data or folds."""
    split = {"folds": config.folds, "age_edges": config.age_edges}
    begin_run(run_dir, describe_run(crops, **split, fold_seed=config.fold_seed))
    return load_or_make_folds(run_dir, crops, **split, seed=config.fold_seed)


def fold_data(task: Task, config: Config, crops: Crops, *, fold: int, fold_of: Mapping[str, int]) -> FoldData:
    return FoldData(task, fold, crops, crops.labels(task, config.age_edges), fold_of)


def train_run(run: TrainedRun, crops: Crops, jobs: Jobs, deadline: float) -> bool:
    """Train what is not trained yet. False if `deadline` (of time.monotonic) came before the last fold was begun.

    UserError if a fold is done of which nobody knows how long it took.
    """
    cells = cells_of(run, crops)
    done = [cell for cell in cells if is_done(cell.fold_dir)]
    spent_on(run.run_dir, [cell.fold_dir for cell in done])
    for cell in done:
        train_cell(cell)
    todo = longest_first([cell for cell in cells if cell not in done])
    if todo and time.monotonic() <= deadline:
        train_side_by_side(run.run_dir, todo, jobs, deadline)
    return all(is_done(cell.fold_dir) for cell in cells)


def cells_of(run: TrainedRun, crops: Crops) -> list[Cell]:
    cells = []
    for task, config in run.configs.items():
        fold_of = open_folds(run.run_dir, crops, config)
        for fold in run.folds:
            data = fold_data(task, config, crops, fold=fold, fold_of=fold_of)
            cells.append(Cell(fold_dir_of(run.run_dir, task.name, fold), config, False, data))
    return cells


def train_side_by_side(run_dir: Path, cells: Sequence[Cell], jobs: Jobs, deadline: float) -> None:
    """Train cells of a run, and keep the time they take; none is begun after `deadline`."""
    # Before the clock runs: the first setting would pay for all that come after it.
    shards = stores_to_make(cells)
    start = partial(trainer_until, jobs.threads, deadline)
    spread = launcher_named(LOCAL).spread(start, cells, Resources(processes=min(jobs.count, len(cells))))
    # The processes end before the clock does: only then is their processor time known.
    with running(run_dir, [cell.fold_dir for cell in cells], jobs.count) as clock, closing(spread) as titles:
        compute_features(shards, device=cells[0].config.device, jobs=jobs)
        for title in titles:
            if title:
                clock.note()
                print(f"{run_dir.name} {title}: done", flush=True)


def compute_features(shards: Sequence[Shard], *, device: str, jobs: Jobs) -> None:
    """What frozen backbones say: a part of the time that the first run of a setting takes."""
    start = partial(shard_maker, jobs.threads, device)
    resources = Resources(processes=min(jobs.count, len(shards) or 1))
    with closing(launcher_named(LOCAL).spread(start, shards, resources)) as made:
        for _ in made:
            pass


def trainer_until(threads: int, deadline: float) -> Callable[[Cell], str | None]:
    """What trains cells in this process and returns their titles; None for those that it does not begin any more."""
    train = cell_trainer(threads)
    # time.monotonic() is the same in all processes of a machine.
    return lambda cell: train(cell) if time.monotonic() <= deadline else None


def spent_by(run: TrainedRun, tasks: Sequence[Task]) -> Spent:
    """What the chosen folds of some tasks took: training, held-out scores, out-of-fold logits."""
    return spent_on(run.run_dir, [folder for task in tasks for folder in run.fold_dirs(task)])


def photos_per_second(run: TrainedRun, tasks: Sequence[Task]) -> float:
    """Speed of a fold's training loop over all epochs of the chosen folds."""
    return speed([folder / HISTORY for task in tasks for folder in run.fold_dirs(task)])


def speed(histories: list[Path], first_epoch: int = 1) -> float:
    """Photos per second over the epochs of some history.csv, from `first_epoch` on."""
    columns = ("epoch", "seconds", "images_per_second")
    table = pd.concat([files.read_csv(path, columns) for path in histories])[list(columns)].astype(float)
    table = table[table["epoch"] >= first_epoch]
    return float((table["seconds"] * table["images_per_second"]).sum() / table["seconds"].sum())
