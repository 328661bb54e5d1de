"""Epochs for a wall-clock: how long each task of a row may learn, so that rows are compared at equal cost.

The speed is measured by training on a part of the people, in one process with the threads that a fold has in a run; on
a CPU by processor time, so that other jobs on the machine change nothing. A run is taken for `jobs` such processes side
by side, of which each takes the longest fold that is left. The ratio of epochs between tasks stays that of the row, and
numbers of epochs are rounded up, so that no row gets less than its time by rounding. What a run really took stands in
the results.
"""

import math
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from heapq import heapreplace
from pathlib import Path

from core import files
from core.cli import UserError
from core.tasks import Task
from dev.experiments.clock import cpu_seconds
from dev.experiments.training import Jobs, fold_data, open_folds, speed
from storage.crops import Crops
from storage.run_dir import HISTORY, fold_dir_of
from training.config import Config
from training.device import give_back_memory, prepare_process
from training.feature_cache import is_frozen, views_to_train_on
from training.fold import FoldTraining, epoch_sampler

FIRST_PROBE_PEOPLE, PROBE_HELD_OUT, PROBE_GROWTH, PROBE_EPOCHS = 40, 2, 4, 2
PROBE_HEAD_EPOCHS = 20
"""Of heads on a frozen backbone: features of more people would cost more than a longer look at a few."""
PROBE_SECONDS = 4.0
"""A probe lasts at least this long, or has everybody in it: start-up costs would hide the speed."""
HELD_OUT_COST = 0.4
"""Scoring a held-out photo, in trained photos: the way forward alone is about a third of the way there and back."""
HALVINGS = 60
"""So often is the range halved in which the scale of the epochs is looked for: to the last digit."""


@dataclass(frozen=True)
class Cost:
    """What a fold of one task costs, counted in trained photos, and how many of them pass in a second.

    `per_second` is that of one fold, while `jobs` of them are trained.
    """

    people: int
    shown_per_epoch: int
    held_out: int
    per_second: float

    def epoch_seconds(self, config: Config) -> float:
        scored = HELD_OUT_COST * self.held_out / min(config.validate_every, config.epochs)
        return (self.shown_per_epoch + scored) / self.per_second

    def fixed_seconds(self, config: Config) -> float:
        """The out-of-fold logits at the end."""
        return HELD_OUT_COST * self.held_out * (2 if config.tta == "flip" else 1) / self.per_second


def configs_for(
    minutes: float, configs: Mapping[Task, Config], crops: Crops, *, plan_path: Path, run_dir: Path, jobs: Jobs
) -> dict[Task, Config]:
    """The configs with as many epochs as fit into `minutes` for all folds of all tasks together.

    The plan is written at first use and kept, so that all seeds, and a run that goes on, have the same epochs.
    UserError if it was made for other minutes, tasks or jobs.
    """
    made_for = {"minutes": minutes, "tasks": [task.name for task in configs], "jobs": jobs.count}
    if not plan_path.exists():
        prepare_process(jobs.threads)
        costs = {
            task: measure(task, config, crops, fold_of=open_folds(run_dir, crops, config), jobs=jobs)
            for task, config in configs.items()
        }
        # Large pictures leave gigabytes behind, which the folds will need.
        give_back_memory()
        files.write_json(plan_path, {**made_for, "settings": plan(minutes, configs, costs, jobs.count)})
    stored = files.read_json(plan_path)
    for name, value in made_for.items():
        if stored.get(name) != value:
            raise UserError(f"{plan_path}: made for {name} {stored.get(name)}, not {value}; give another --run-dir")
    return {task: replace(config, **stored["settings"][task.name]) for task, config in configs.items()}


def plan(
    minutes: float, configs: Mapping[Task, Config], costs: Mapping[Task, Cost], jobs: int
) -> dict[str, dict[str, int]]:
    """Epochs, and photos per person where less than one epoch fits, by task name."""

    def seconds_at(scale: float) -> float:
        lengths = [
            costs[task].fixed_seconds(config) + scale * config.epochs * costs[task].epoch_seconds(config)
            for task, config in configs.items()
            for _ in range(config.folds)
        ]
        return seconds_side_by_side(lengths, jobs)

    scale = scale_to_fill(minutes * 60, seconds_at)
    return {task.name: _fit(config, costs[task], scale * config.epochs) for task, config in configs.items()}


def seconds_side_by_side(lengths: Iterable[float], jobs: int) -> float:
    """When the last piece of work ends, if each of `jobs` takes the longest that is left."""
    ends = [0.0] * jobs
    for length in sorted(lengths, reverse=True):
        heapreplace(ends, ends[0] + length)
    return max(ends)


def scale_to_fill(seconds: float, seconds_at: Callable[[float], float]) -> float:
    """The scale whose time is that; 0 if all take longer."""
    low, high = 0.0, 1.0
    while seconds_at(high) < seconds:
        high *= 2
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if seconds_at(middle) <= seconds else (low, middle)
    return low


def _fit(config: Config, cost: Cost, epochs: float) -> dict[str, int]:
    # A hair less than rounding up: 6.0000001 epochs are 6.
    if epochs >= 1:
        return {"epochs": math.ceil(epochs - 1e-6), "photos_per_person": config.photos_per_person}
    photos_each = cost.shown_per_epoch / cost.people / views_to_train_on(config)
    return {"epochs": 1, "photos_per_person": max(1, math.ceil(epochs * photos_each))}


def measure(task: Task, config: Config, crops: Crops, *, fold_of: Mapping[str, int], jobs: Jobs) -> Cost:
    """Speed on the device at hand, of a short training that is thrown away."""
    data = fold_data(task, config, crops, fold=0, fold_of=fold_of)
    persons = data.part(held_out=False)[0].frame["person"]
    there, shown_each = persons.nunique(), views_to_train_on(config) * len(persons) / persons.nunique()
    epochs = PROBE_HEAD_EPOCHS if is_frozen(config) else PROBE_EPOCHS
    short = replace(config, epochs=epochs, patience=epochs, photos_per_person=0)
    people = FIRST_PROBE_PEOPLE
    while True:
        per_second = probe(task, short, some_people(crops, fold_of, people), fold_of=fold_of, jobs=jobs)
        if people >= there or people * shown_each * epochs >= PROBE_SECONDS * per_second:
            return Cost(there, len(epoch_sampler(data, config)), len(data.rows(held_out=True)), per_second)
        people *= PROBE_GROWTH


def some_people(crops: Crops, fold_of: Mapping[str, int], count: int) -> Crops:
    """The photos of `count` people that fold 0 learns from, and of a few that it holds out."""
    people = sorted(fold_of)
    learned = [person for person in people if fold_of[person] != 0][:count]
    chosen = {*learned, *[person for person in people if fold_of[person] == 0][:PROBE_HELD_OUT]}
    return crops.take([row for row, person in enumerate(crops.frame["person"]) if person in chosen])


def probe(task: Task, config: Config, crops: Crops, *, fold_of: Mapping[str, int], jobs: Jobs) -> float:
    """Photos per second of a fold in training, by processor time on a CPU and by the last epoch elsewhere.

    Trained are the folds' photos of some crops, alone; what it will have to share with other folds is reckoned in.
    Features of a frozen backbone are computed before: they are no part of it.
    """
    with tempfile.TemporaryDirectory() as folder:
        # Crops of some people have a pixel store of their own, which must not take the place of everybody's.
        frame = crops.frame.assign(path=[str(path.resolve()) for path in crops.paths])
        apart = replace(crops, crop_dir=Path(folder), frame=frame)
        fold_dir = fold_dir_of(Path(folder), task.name, 0)
        training = FoldTraining(fold_dir, fold_data(task, config, apart, fold=0, fold_of=fold_of), config)
        began = cpu_seconds()
        training.run()
        if training.device.type == "cpu":
            return config.epochs * len(training.sampler) * jobs.cores_each / (cpu_seconds() - began)
        return speed([fold_dir / HISTORY], first_epoch=config.epochs) / jobs.count
