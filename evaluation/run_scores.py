"""Scores of a run, out of fold and on the eval photos, as scores.json has them, and their printed form."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from core import files
from core.cli import UserError, name_some
from core.tasks import UNKNOWN, combined_tasks, task_named
from evaluation.calibration import calibration_record, format_calibration
from evaluation.decision_rules import Trial, format_trials
from evaluation.logits import EVAL_PHOTOS, OUT_OF_FOLD, log_softmax
from evaluation.metrics import format_difference, format_estimate
from evaluation.results import RunResults, read_averaged_values
from evaluation.scores import (
    Labels,
    format_classes,
    format_groups,
    format_scores,
    format_values,
    score_beside_majority,
    value_errors,
)


def score_out_of_fold(results: RunResults, trials: Sequence[Trial], used: str) -> dict | None:
    """Scores of the rule in use on people it was not fitted on, of all rules side by side, and of probabilities.

    A task counts the photos that have its label; None without out-of-fold logits.
    """
    parts = {name: results.out_of_fold([name]) for name in results.out_of_fold_logits}
    if not parts:
        return None
    ids = {image_id for part in parts.values() for image_id in part.image_ids}
    rows = [row for row, image_id in enumerate(results.train.image_ids) if image_id in ids]
    image_ids = [results.train.image_ids[row] for row in rows]
    truth = {name: _in_order(part.image_ids, part.labels[name], image_ids) for name, part in parts.items()}
    predicted = {
        name: _in_order(part.image_ids, part.logits[name].argmax(axis=1), image_ids) for name, part in parts.items()
    }
    shared = results.out_of_fold([task.name for task in combined_tasks()])
    for name, labels in next((trial.labels for trial in trials if trial.rule == used), {}).items():
        decided = dict(zip(shared.image_ids, labels.tolist(), strict=True))
        predicted[name] = [
            decided.get(image_id, label) for image_id, label in zip(image_ids, predicted[name], strict=True)
        ]
    facts = [results.train_facts[row] for row in rows]
    persons = list(results.train.frame["person"].iloc[rows])
    record = score_beside_majority(truth, predicted, persons, learned_from=truth, facts=facts)
    if trials:
        record["decisions"] = {"used": used, "rules": [trial.as_json() for trial in trials]}
    record["calibration"] = {
        name: calibration_record(part.logits[name], part.labels[name], part.folds)
        for name, part in parts.items()
        if len(set(part.folds.tolist())) > 1
    }
    tables = read_averaged_values(results.run_dir, OUT_OF_FOLD)
    record["values"] = value_errors(tables, image_ids, facts, persons=persons, learned_from=results.train_facts)
    return record


def _in_order(own: Sequence[str], labels: np.ndarray, image_ids: Sequence[str]) -> list[int]:
    """Labels of these photos from those of some of them; UNKNOWN for the others."""
    label_of = dict(zip(own, labels.tolist(), strict=True))
    return [label_of.get(image_id, UNKNOWN) for image_id in image_ids]


def score_eval(results: RunResults, image_ids: Sequence[str], predicted: Labels, usual: Labels) -> dict | None:
    """Scores of the predictions, every eval photo a person of its own; None where no label of their tasks is known."""
    known = results.eval_labels
    unknown = sorted(set(image_ids) - set(known.labels))
    if unknown:
        raise UserError(f"{results.eval_labels_source}: no row for {name_some(unknown)}, which the eval part has")
    facts = [known.facts.get(image_id, {}) for image_id in image_ids]
    truth = {name: [known.labels[image_id].get(name, UNKNOWN) for image_id in image_ids] for name in predicted}
    truth = {name: labels for name, labels in truth.items() if set(labels) - {UNKNOWN}}
    if not truth:
        return None
    scored = {name: predicted[name] for name in truth}
    record = score_beside_majority(truth, scored, image_ids, learned_from={**predicted, **usual}, facts=facts)
    tables = read_averaged_values(results.run_dir, EVAL_PHOTOS)
    record["values"] = value_errors(tables, image_ids, facts, persons=image_ids, learned_from=results.train_facts)
    return record


def print_report(report: Mapping[str, dict | None], trials: Sequence[Trial]) -> None:
    parts = {title: part for title, part in (("out of fold", report["oof"]), ("eval", report["eval"])) if part}
    blocks = []
    for title, part in parts.items():
        blocks += [format_scores(title, part["model"], part["majority"]), format_values(part["values"])]
    groups = {title: part["groups"] for title, part in parts.items() if part["groups"]}
    blocks.append(format_groups(groups) if groups else "")
    if trials:
        blocks.append(format_trials(trials, report["oof"]["decisions"]["used"]))
    if report["oof"] and report["oof"]["calibration"]:
        blocks.append(format_calibration(report["oof"]["calibration"]))
    title, scored = next(iter(parts.items()), ("", {}))
    if scored and "classes" in scored["model"]:
        blocks.append(f"per class, {title}\n{format_classes(scored['model'])}")
    print("".join(f"\n{block}\n" for block in blocks if block), end="")


def read_scores(run_dir: Path) -> dict:
    """Return scores.json of a run; empty without one. UserError unless it is as submission.py writes it."""
    path = scores_path(run_dir)
    report = files.read_json(path) if path.exists() else {}
    try:
        for part in filter(None, (report.get("oof"), report.get("eval"))):
            model, rules = part["model"], part.get("decisions", {}).get("rules", ())
            for scored in [*model["tasks"].values(), *filter(None, [model.get("combined")])]:
                format_estimate(scored["macro_f1"])
                format_estimate(scored["accuracy"])
            for rule in rules:
                format_estimate(rule["macro_f1"])
                format_difference(rule["over_raw"])
            for entry in part.get("values", {}).values():
                format_estimate(entry["mean_absolute_error"])
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UserError(f"{path}: not the scores that submission.py writes; run it again") from None
    return report


def scores_path(run_dir: Path) -> Path:
    return run_dir / "scores.json"


def out_of_fold_predictions(results: RunResults) -> pd.DataFrame:
    """Return class, probability and value of each task, by training photo, from the models not trained on its person.

    A photo without a task's label has empty cells for it.
    """
    frames, values = [], read_averaged_values(results.run_dir, OUT_OF_FOLD)
    for name, table in results.out_of_fold_logits.items():
        task, probs = task_named(name), np.exp(log_softmax(table.logits))
        columns: dict[str, Sequence[object]] = {"ImageID": table.image_ids}
        columns[name] = [task.classes[label] for label in probs.argmax(axis=1)]
        columns[f"{name}_probability"] = [f"{prob:.4f}" for prob in probs.max(axis=1)]
        if name in values:
            columns[f"{name}_{task.value.name}"] = [f"{value:.1f}" for value in values[name].of(table.image_ids)[:, 0]]
        frames.append(pd.DataFrame(columns).set_index("ImageID"))
    joined = pd.concat(frames, axis=1)
    return joined.reindex([name for name in results.train.image_ids if name in joined.index]).reset_index(
        names="ImageID"
    )
