"""The decision rule that a run's submission was made by, and the run's predictions under it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from core import files
from core.cli import UserError
from core.tasks import TASKS, combined_class_count, combined_tasks
from evaluation.calibration import Mix
from evaluation.combined_class import has_combined_tasks
from evaluation.decision_rules import RAW, RETIRED_RULES, Decision, predict_nested, rule_named
from evaluation.logits import OUT_OF_FOLD, Part
from evaluation.predictions import TaskPredictions, shared_photos
from evaluation.results import RunResults, TaskTables, read_averaged, read_fold_tables


def read_decision(run_dir: Path) -> Decision:
    """decision.json, by default `raw`. UserError for an unknown rule, or numbers that are not those of a rule."""
    path = run_dir / "decision.json"
    if not path.exists():
        return Decision.raw()
    stored = files.read_json(path, {"rule": str, "temperatures": dict, "biases": list})
    rule, temperatures, biases, mixes = (stored.get(name, {}) for name in ("rule", "temperatures", "biases", "mixes"))
    if rule not in RETIRED_RULES:
        rule_named(rule)
    sizes = {task.name: len(task.classes) for task in combined_tasks()}
    fits = temperatures.keys() == sizes.keys() and _are_numbers(temperatures.values())
    fits = fits and len(biases) == combined_class_count() and _are_numbers(biases) and _are_mixes(mixes, sizes)
    if not fits:
        wanted = f"a temperature for each task and {combined_class_count()} biases, and shares of classes by task"
        raise UserError(f"{path}: allowed are {wanted}; run submission.py again")
    found = {name: Mix(tuple(mix["learned"]), tuple(mix["found"])) for name, mix in mixes.items()}
    return Decision(rule, temperatures, tuple(biases), found)


def _are_mixes(stored: object, sizes: Mapping[str, int]) -> bool:
    if not isinstance(stored, dict) or not stored.keys() <= sizes.keys():
        return False
    priors = [(sizes[name], mix, part) for name, mix in stored.items() for part in ("learned", "found")]
    parts = [(size, mix.get(part) if isinstance(mix, dict) else None) for size, mix, part in priors]
    return all(isinstance(part, list) and len(part) == size and _are_numbers(part) for size, part in parts)


def _are_numbers(values: Iterable[object]) -> bool:
    return all(isinstance(value, int | float) and math.isfinite(value) for value in values)


def read_predictions(results: RunResults, part: Part, decision: Decision) -> dict[str, TaskPredictions]:
    """Predictions by task, of averaged tables, or out of fold also of a task's folds if it is not averaged yet.

    The labels are those of the decision rule: out of fold of the rule fitted on the other folds. A retired rule cannot
    be fitted, so there the likeliest class of each task remains.
    """
    tables = {task: read_averaged(results.run_dir, task, part) for task in TASKS}
    if part is OUT_OF_FOLD:
        tables = {task: found or read_fold_tables(results.run_dir, task, part) for task, found in tables.items()}
    there = {task: found for task, found in tables.items() if found}
    predictions = {task.name: results.predictions(part, task, found) for task, found in there.items()}
    if decision.rule == RAW:
        return predictions
    if part is OUT_OF_FOLD:
        names = [task.name for task in combined_tasks()]
        oof = results.out_of_fold(names) if decision.rule not in RETIRED_RULES else None
        if not oof or len(set(oof.folds.tolist())) < 2:
            return predictions
        return _relabelled(predictions, oof.image_ids, predict_nested(rule_named(decision.rule), oof).labels)
    return _decide_eval(predictions, {task.name: found for task, found in there.items()}, decision)


def _decide_eval(
    predictions: Mapping[str, TaskPredictions], tables: Mapping[str, TaskTables], decision: Decision
) -> dict[str, TaskPredictions]:
    if not has_combined_tasks(predictions):
        return dict(predictions)
    names = [task.name for task in combined_tasks()]
    image_ids = shared_photos([predictions[name] for name in names])
    labels = decision.labels({name: tables[name].logits.of(image_ids) for name in names})
    return _relabelled(predictions, image_ids, labels)


def _relabelled(
    predictions: Mapping[str, TaskPredictions], image_ids: Sequence[str], labels: Mapping[str, np.ndarray]
) -> dict[str, TaskPredictions]:
    """The predictions with other labels (N,) for these N photos, for the tasks that have any."""
    changed = dict(predictions)
    for name, of_task in labels.items():
        predicted = predictions[name].predicted.copy()
        predicted[[predictions[name].row_of[image_id] for image_id in image_ids]] = of_task
        changed[name] = replace(predictions[name], predicted=predicted)
    return changed
