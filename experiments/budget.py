"""Epochs for a wall-clock: how long each task of a row may learn, so that rows are compared at equal cost.

The speed is measured by training on a part of the people; on a CPU by processor time, shared out over the cores, so
that other jobs on the machine change nothing. The ratio of epochs between tasks stays that of the row, and numbers of
epochs are rounded up, so that no row gets less than its time by rounding. What a run really took stands in the results.
"""

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from core import artifacts, checkpoints
from core.config import Config
from core.crops import Crops
from core.runtime import UserError, cpu_count
from core.tasks import Task
from dataset import PersonSampler
from experiments.training import cpu_seconds, fold_data, open_folds, speed
from fold_training import FoldTraining

FIRST_PROBE_PEOPLE, PROBE_HELD_OUT, PROBE_GROWTH, PROBE_EPOCHS = 40, 2, 4, 2
PROBE_SECONDS = 2.0
"""An epoch of the probe lasts at least this long, or has everybody in it: start-up costs would hide the speed."""
HELD_OUT_COST = 0.4
"""Scoring a held-out photo, in trained photos: the way forward alone is about a third of the way there and back."""


@dataclass(frozen=True)
class Cost:
    """What a fold of one task costs, counted in trained photos, and how many of them pass in a second."""

    people: int
    photos_per_epoch: int
    held_out: int
    per_second: float

    def epoch_seconds(self, config: Config) -> float:
        scored = HELD_OUT_COST * self.held_out / min(config.validate_every, config.epochs)
        return (self.photos_per_epoch + scored) / self.per_second

    def fixed_seconds(self, config: Config) -> float:
        """The out-of-fold logits at the end."""
        return HELD_OUT_COST * self.held_out * (2 if config.tta == "flip" else 1) / self.per_second


def configs_for(
    minutes: float, configs: Mapping[Task, Config], crops: Crops, *, plan_path: Path, run_dir: Path
) -> dict[Task, Config]:
    """The configs with as many epochs as fit into `minutes` for all folds of all tasks together.

    The plan is written at first use and kept, so that all seeds, and a run that goes on, have the same epochs.
    UserError if it was made for other minutes or tasks.
    """
    made_for = {"minutes": minutes, "tasks": [task.name for task in configs]}
    if not plan_path.exists():
        costs = {
            task: measure(task, config, crops, open_folds(run_dir, crops, config)) for task, config in configs.items()
        }
        artifacts.write_json(plan_path, {**made_for, "settings": plan(minutes, configs, costs)})
    stored = artifacts.read_json(plan_path)
    for name, value in made_for.items():
        if stored.get(name) != value:
            raise UserError(f"{plan_path}: made for {name} {stored.get(name)}, not {value}; give another --run-dir")
    return {task: replace(config, **stored["settings"][task.name]) for task, config in configs.items()}


def plan(minutes: float, configs: Mapping[Task, Config], costs: Mapping[Task, Cost]) -> dict[str, dict[str, int]]:
    """Epochs, and photos per person where less than one epoch fits, by task name."""
    folds = next(iter(configs.values())).folds
    fixed = sum(costs[task].fixed_seconds(config) for task, config in configs.items())
    moving = sum(config.epochs * costs[task].epoch_seconds(config) for task, config in configs.items())
    scale = max(0.0, minutes * 60 / folds - fixed) / moving
    return {task.name: _fit(config, costs[task], scale * config.epochs) for task, config in configs.items()}


def _fit(config: Config, cost: Cost, epochs: float) -> dict[str, int]:
    # A hair less than rounding up: 6.0000001 epochs are 6.
    if epochs >= 1:
        return {"epochs": math.ceil(epochs - 1e-6), "photos_per_person": config.photos_per_person}
    return {"epochs": 1, "photos_per_person": max(1, math.ceil(epochs * cost.photos_per_epoch / cost.people))}


def measure(task: Task, config: Config, crops: Crops, fold_of: Mapping[str, int]) -> Cost:
    """Speed on the device at hand: the second epoch of a training that is thrown away."""
    data = fold_data(task, config, crops, fold=0, fold_of=fold_of)
    learned, labels = data.part(held_out=False)
    persons = list(learned.frame["person"])
    sampler = PersonSampler(persons, labels, photos_per_person=config.photos_per_person, seed=(0,))
    people = FIRST_PROBE_PEOPLE
    while True:
        per_second = probe(task, config, some_people(crops, fold_of, people), fold_of)
        if people >= len(set(persons)) or people * len(persons) / len(set(persons)) >= PROBE_SECONDS * per_second:
            return Cost(len(set(persons)), len(sampler), len(data.rows(held_out=True)), per_second)
        people *= PROBE_GROWTH


def some_people(crops: Crops, fold_of: Mapping[str, int], count: int) -> Crops:
    """The photos of `count` people that fold 0 learns from, and of a few that it holds out."""
    people = sorted(fold_of)
    learned = [person for person in people if fold_of[person] != 0][:count]
    chosen = {*learned, *[person for person in people if fold_of[person] == 0][:PROBE_HELD_OUT]}
    return crops.take([row for row, person in enumerate(crops.frame["person"]) if person in chosen])


def probe(task: Task, config: Config, crops: Crops, fold_of: Mapping[str, int]) -> float:
    """Photos per second over all photos of some crops, by processor time on a CPU and by the last epoch elsewhere."""
    short = replace(config, epochs=PROBE_EPOCHS, patience=PROBE_EPOCHS, photos_per_person=0)
    with tempfile.TemporaryDirectory() as folder:
        # Crops of some people have a pixel store of their own, which must not take the place of everybody's.
        frame = crops.frame.assign(path=[str(path.resolve()) for path in crops.paths])
        apart = replace(crops, crop_dir=Path(folder), frame=frame)
        training = FoldTraining(Path(folder), fold_data(task, short, apart, fold=0, fold_of=fold_of), short)
        began = cpu_seconds()
        training.run()
        if training.device.type == "cpu":
            return PROBE_EPOCHS * len(training.sampler) * cpu_count() / (cpu_seconds() - began)
        return speed([Path(folder) / checkpoints.HISTORY], first_epoch=PROBE_EPOCHS)
