"""Training of a setting with one seed, as `train.py` trains, and its rows in the table of results."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from core import files
from core.cli import UserError, cpu_count
from dev.experiments.grid import Setting, Values
from dev.experiments.scoring import SeededRun, predict_eval, prediction_tables
from dev.experiments.table import Key, append_result, read_results, run_of
from evaluation.logits import EVAL_PHOTOS, OUT_OF_FOLD
from storage.crops import Crops
from storage.folds import load_or_make_folds
from storage.run_dir import begin_run, describe_run, refuse_other_identity
from synthesis.draw_crops import drawings_of
from training.device import pick_device, prepare_process
from training.fold_setup import FoldData, refuse_unusable
from training.jobs import FoldJob, train_jobs
from training.launcher_types import Resources

WALL_CLOCK = "wall_clock.json"
"""File in a run folder: {"seconds": of all trainings in it so far}."""


@dataclass(frozen=True)
class Experiment:
    """Options that all settings of one command share.

    `eval_crops`: None leaves the eval photos alone; `folds`: those to train, none for all; `jobs`: folds trained at
    once, 0 for as many as suit the machine.
    """

    run_dir: Path
    out: Path
    train_crops: Crops
    eval_crops: Crops | None
    task_names: tuple[str, ...]
    profile: str
    typed: Values
    folds: tuple[int, ...]
    jobs: int

    def run(self, setting: Setting, seed: int) -> SeededRun:
        tasks = setting.tasks_of(self.task_names)
        configs = {task: setting.config(task.name, self.profile, self.typed, seed=seed) for task in tasks}
        folds = self.folds or tuple(range(next(iter(configs.values())).folds))
        return SeededRun(setting.name, seed, run_of(self.run_dir, setting.name, seed), configs, folds)


def refuse_unusable_settings(experiment: Experiment, settings: Sequence[Setting]) -> None:
    """UserError for a setting or fold that cannot be trained; writes nothing."""
    for setting in settings:
        for task, config in experiment.run(setting, 0).configs.items():
            refuse_unusable(task, config)
            wrong = [fold for fold in experiment.folds if not 0 <= fold < config.folds]
            if wrong:
                raise UserError(f"--folds {wrong[0]}: allowed is 0 to {config.folds - 1}")


def run_setting(experiment: Experiment, setting: Setting, seed: int) -> None:
    """Train a setting with a seed where it is not trained yet, and add the rows that the table of results lacks.

    UserError if the folder of the run was made with other settings or data.
    """
    run = experiment.run(setting, seed)
    jobs = fold_jobs(run, experiment.train_crops)
    for job in jobs:
        refuse_other_identity(job.fold_dir, job.data.identity(job.config))
    parts = [OUT_OF_FOLD, EVAL_PHOTOS] if experiment.eval_crops else [OUT_OF_FOLD]
    rows = read_results(experiment.out)
    lacking = [key for part in parts for key in keys_of(run, part.name) if key not in rows]
    if not lacking:
        print(f"{run.run_dir.name}: in {experiment.out} already")
        return
    print(f"{run.run_dir.name}:", flush=True)
    if any(job.is_left for job in jobs):
        with wall_clock(run.run_dir):
            train_jobs(jobs, at_once=experiment.jobs, resources=Resources())
    # Training in this process has left it with the threads of one fold.
    prepare_process(cpu_count())
    if experiment.eval_crops:
        predict_eval(run, experiment.eval_crops)
    cost = {"seconds": seconds_of(run.run_dir), "device": device_name(run)}
    for part in parts:
        tables = prediction_tables(run, part)
        for key in lacking:
            if key.part == part.name:
                append_result(experiment.out, experiment.run_dir, key, tables[key.task], cost)


def fold_jobs(run: SeededRun, crops: Crops) -> list[FoldJob]:
    """Begin the folder of a run, and return its fold jobs. UserError if the folder is of other data or folds."""
    config = next(iter(run.configs.values()))
    split = {"folds": config.folds, "age_edges": config.age_edges}
    begin_run(run.run_dir, describe_run(crops, **split, fold_seed=config.fold_seed))
    fold_of = load_or_make_folds(run.run_dir, crops, **split, seed=config.fold_seed)
    drawn = {task.name: drawings_of(crops, config.drawn) for task, config in run.configs.items()}
    return [
        FoldJob(run.run_dir, config, False, data)
        for task, config in run.configs.items()
        for fold in run.folds
        for data in [FoldData(task, fold, crops, crops.labels(task, config.age_edges), fold_of, drawn[task.name])]
    ]


def keys_of(run: SeededRun, part: str) -> list[Key]:
    folds = " ".join(map(str, run.folds))
    return [Key(run.setting, run.seed, name, part, folds) for name in run.scored_names]


@contextmanager
def wall_clock(run_dir: Path) -> Iterator[None]:
    """Add the seconds that the block takes, however it ends, to those of the run so far."""
    before, began = seconds_of(run_dir), time.monotonic()
    try:
        yield
    finally:
        files.write_json(run_dir / WALL_CLOCK, {"seconds": round(before + time.monotonic() - began, 1)})


def seconds_of(run_dir: Path) -> float:
    """Wall-clock of all trainings in a run folder so far."""
    path = run_dir / WALL_CLOCK
    return files.read_json(path, {"seconds": float})["seconds"] if path.exists() else 0.0


def device_name(run: SeededRun) -> str:
    device = pick_device(next(iter(run.configs.values())).device)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{cpu_count()} cores"
