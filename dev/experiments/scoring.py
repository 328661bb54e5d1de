"""Predictions of a trained run, one table a task and one for the combined class."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from core.cli import UserError
from core.tasks import Task, combined_tasks
from dev.experiments.grid import SINGLE
from evaluation.combined_class import COMBINED, has_combined_tasks
from evaluation.logits import EVAL_PHOTOS, Part, log_softmax
from evaluation.predictions import combine_predictions
from evaluation.results import RunResults, TaskTables, read_fold_tables
from storage.crops import Crops
from storage.run_dir import fold_dir_of
from training.config import Config
from training.inputs import PredictOptions
from training.predictor import load_predictor, predict_crops, write_prediction


@dataclass(frozen=True)
class SeededRun:
    """A setting trained with one seed: folds of some tasks in a run folder."""

    setting: str
    seed: int
    run_dir: Path
    configs: Mapping[Task, Config]
    folds: tuple[int, ...]

    @property
    def scored_names(self) -> list[str]:
        """Names of the tasks, and COMBINED where it can be predicted."""
        names = [task.name for task in (combined_tasks() if SINGLE in self.configs else self.configs)]
        return [*names, COMBINED] if has_combined_tasks(names) else names

    def fold_dirs(self, task: Task) -> list[Path]:
        return [fold_dir_of(self.run_dir, task.name, fold) for fold in self.folds]


def predict_eval(run: SeededRun, crops: Crops) -> None:
    """Write the eval logits of every fold."""
    for task, config in run.configs.items():
        for folder in run.fold_dirs(task):
            options = PredictOptions(config.device, config.workers, config.tta, f"{task.name} {folder.name} eval")
            prediction = predict_crops(load_predictor(folder, task), crops, options)
            write_prediction(EVAL_PHOTOS.fold_path(folder), task, crops.image_ids, prediction)


def prediction_tables(run: SeededRun, part: Part) -> dict[str, pd.DataFrame]:
    """Return a predictions table (see evaluation.metrics) by scored name, of the chosen folds alone.

    UserError if labels of the part are not known.
    """
    results = RunResults(run.run_dir)
    found, joint = {}, None
    for task in run.configs:
        tables = read_fold_tables(run.run_dir, task, part, {folder.name for folder in run.fold_dirs(task)})
        if task == SINGLE:
            joint = log_softmax(tables.logits.logits)
        for of_task, own in _tables_by_task(task, tables):
            found[of_task.name] = results.predictions(part, of_task, own)
            if found[of_task.name].truth is None:
                raise UserError(f"--final: {results.run.data_root} has no {of_task.name} labels of the eval photos")
    combined = combine_predictions(found)
    if combined and joint is not None:
        combined = replace(combined, log_probs=joint, predicted=joint.argmax(axis=1))
    found |= {COMBINED: combined} if combined else {}
    return {name: predictions.table() for name, predictions in found.items()}


def _tables_by_task(task: Task, tables: TaskTables) -> Iterator[tuple[Task, TaskTables]]:
    """Yield a task with its tables; for SINGLE the tasks of the combined class with those of their marginals."""
    if task != SINGLE:
        yield task, tables
        return
    joint = log_softmax(tables.logits.logits)
    for other in combined_tasks():
        logits = replace(tables.logits, classes=other.classes, logits=marginal(joint, other))
        yield other, replace(tables, logits=logits)


def marginal(joint: np.ndarray, task: Task) -> np.ndarray:
    """(N, C) log-probabilities of one task from those (N, K) of the combined class."""
    tasks = combined_tasks()
    others = tuple(axis for axis, other in enumerate(tasks, start=1) if other != task)
    probs = np.exp(joint).reshape(len(joint), *(len(other.classes) for other in tasks)).sum(axis=others)
    return np.log(probs.clip(min=np.finfo(float).tiny))
