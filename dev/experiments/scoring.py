"""From the logits of a trained run to one predictions table a task and for the combined class.

Out of fold, the chosen folds' held-out people count and nobody else. The eval part has labels of its own, which only
`eval_predictions` reads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from evaluation.intervals import predictions_table

from core import files
from core.cli import UserError, name_some
from core.tasks import AgeEdges, Task, combined_tasks, task_named
from dev.experiments.grid import SINGLE
from evaluation.decision_rules import combine_labels, combined_log_probs
from evaluation.logits import LogitTable, average_tables, join_held_out, log_softmax, make_table, read_table
from evaluation.scores import COMBINED, Labels
from storage.crops import Crops
from storage.layouts import read_truth, scan
from storage.run_dir import OOF, fold_dir_of
from training.config import Config
from training.predictor import load_predictor

Predictions = dict[str, pd.DataFrame]
"""A predictions table by task name, and under COMBINED if all its tasks are known."""


@dataclass(frozen=True)
class TrainedRun:
    """Folds of some tasks in a run folder."""

    run_dir: Path
    configs: Mapping[Task, Config]
    folds: tuple[int, ...]
    seed: int

    @property
    def age_edges(self) -> AgeEdges:
        """The same for all tasks: a run folder has one split."""
        return next(iter(self.configs.values())).age_edges

    def fold_dirs(self, task: Task) -> list[Path]:
        return [fold_dir_of(self.run_dir, task.name, fold) for fold in self.folds]


def oof_predictions(run: TrainedRun, crops: Crops) -> Predictions:
    """Every photo of the chosen folds, predicted by the one model that never saw its person."""
    paths = {task: [folder / OOF for folder in run.fold_dirs(task)] for task in run.configs}
    tables = {
        task: join_held_out({path: read_table(path, task.classes) for path in of_task})
        for task, of_task in paths.items()
    }
    photos = _rows_of(crops, next(iter(tables.values())).image_ids)
    truth = {task.name: photos.labels(task, run.age_edges) for task in answered_tasks(tuple(run.configs))}
    predictions = _predictions(tables, photos.image_ids, list(photos.frame["person"]), truth)
    for task, of_task in paths.items():
        _add_value(predictions, task, of_task, photos)
    return predictions


def eval_predictions(run: TrainedRun, crops: Crops) -> Predictions:
    """Every eval photo, predicted by the mean of the chosen folds' models and scored as a person of its own.

    UserError if nobody knows the labels.
    """
    known = read_truth(scan(Path(crops.source["data_root"]), crops.source["layout"]), run.age_edges) or {}
    lacking = sorted(set(crops.image_ids) - set(known))
    if lacking:
        raise UserError(f"--final: {crops.source['data_root']} has no labels of the eval photos {name_some(lacking)}")
    tables = {task: average_tables(_eval_tables(run, task, crops), "log_prob") for task in run.configs}
    tasks = answered_tasks(tuple(run.configs))
    truth = {task.name: [known[image_id][task.name] for image_id in crops.image_ids] for task in tasks}
    return _predictions(tables, crops.image_ids, crops.image_ids, truth)


def answered_tasks(trained: Sequence[Task]) -> tuple[Task, ...]:
    """The tasks trained, or those of the combined class for one that learns it at once."""
    return combined_tasks() if SINGLE in trained else tuple(trained)


def class_count(name: str) -> int:
    """How many classes a predictions table of that name has."""
    return len(SINGLE.classes if name == COMBINED else task_named(name).classes)


def _eval_tables(run: TrainedRun, task: Task, crops: Crops) -> list[LogitTable]:
    config, tables = run.configs[task], []
    options = {"device": config.device, "workers": config.workers, "tta": config.tta}
    for folder in run.fold_dirs(task):
        found = load_predictor(folder, task).of_crops(crops, **options, title=f"{task.name} {folder.name} eval")
        tables.append(make_table(crops.image_ids, task.classes, found.logits))
    return tables


def _rows_of(crops: Crops, image_ids: Sequence[str]) -> Crops:
    wanted = set(image_ids)
    return crops.take([row for row, image_id in enumerate(crops.image_ids) if image_id in wanted])


def _predictions(
    tables: Mapping[Task, LogitTable], image_ids: Sequence[str], persons: Sequence[str], truth: Labels
) -> Predictions:
    log_probs = {task.name: log_softmax(table.of(image_ids)) for task, table in tables.items()}
    labels = dict(truth)
    if SINGLE.name in log_probs:
        joint = log_probs.pop(SINGLE.name)
        log_probs = {COMBINED: joint, **{task.name: marginal(joint, task) for task in combined_tasks()}}
    elif all(task.name in log_probs for task in combined_tasks()):
        log_probs[COMBINED] = combined_log_probs(log_probs)
    if COMBINED in log_probs:
        labels[COMBINED] = combine_labels(truth)
    who = {"image_id": list(image_ids), "person": list(persons)}
    return {name: predictions_table(who, labels[name], values) for name, values in log_probs.items()}


def marginal(joint: np.ndarray, task: Task) -> np.ndarray:
    """(N, C) log-probabilities of one task from those (N, K) of the combined class."""
    tasks = combined_tasks()
    others = tuple(axis for axis, other in enumerate(tasks, start=1) if other != task)
    probs = np.exp(joint).reshape(len(joint), *(len(other.classes) for other in tasks)).sum(axis=others)
    return np.log(probs.clip(min=np.finfo(float).tiny))


def _add_value(predictions: Predictions, task: Task, logit_paths: Sequence[Path], photos: Crops) -> None:
    """Put in the error of the task's value where its folds have predicted one, beside their logits."""
    if task.value is None:
        return
    name = task.value.name
    paths = [path.with_stem(f"{path.stem}_{name}") for path in logit_paths]
    if not all(path.exists() for path in paths):
        return
    found = pd.concat([files.read_csv(path, ("image_id", name)) for path in paths]).set_index("image_id")[name]
    true = np.array([task.value.read(facts) for facts in photos.frame.to_dict("records")])
    predictions[task.name]["value_off"] = np.abs(found[photos.image_ids].astype(float).to_numpy() - true)
