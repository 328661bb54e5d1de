"""The records of scores.json: what is predicted, beside the truth, over all photos, over groups, and in numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from core.cli import UserError
from core.tasks import TASKS, Facts, Task, task_named, task_names
from evaluation.calibration import calibration_record
from evaluation.decision_rules import OutOfFold, Trial
from evaluation.groups import score_groups, weakest
from evaluation.logits import LogitTable, read_table, require_same_ids
from evaluation.metrics import Estimate, mean_over_photos
from evaluation.scores import Labels, majority, score
from storage.crops import Crops
from storage.folds import audit_folds, folds_path, read_folds
from storage.run_dir import Run


def read_out_of_fold(run_dir: Path, train: Crops, run: Run) -> OutOfFold | None:
    """Out-of-fold logits of every task that has them, in the order of the training photos; None where none has.

    UserError for a table or a split that is not of these photos.
    """
    paths = {name: run_dir / f"{name}_oof.csv" for name in task_names()}
    tasks = [task_named(name) for name, path in paths.items() if path.exists()]
    if not tasks:
        return None
    logits = {}
    for task in tasks:
        table = read_table(paths[task.name], task.classes)
        require_same_ids(paths[task.name], table, set(train.image_ids), "the training part")
        logits[task.name] = table.of(train.image_ids)
    labels = {task.name: np.array(train.labels(task, run.age_edges)) for task in tasks}
    return OutOfFold(logits, labels, np.array(train.frame["person"], dtype=str), folds_of(run_dir, train, run))


def folds_of(run_dir: Path, train: Crops, run: Run) -> np.ndarray:
    """(N,) fold of every training photo, in their order."""
    path = folds_path(run_dir)
    if not path.exists():
        raise UserError(f"{path}: no such file; run ensemble.py first, which takes it from the run it averages")
    fold_of = read_folds(path)
    audit_folds(path, fold_of, set(train.frame["person"]), run.folds)
    return np.array([fold_of[person] for person in train.frame["person"]])


def oof_record(run_dir: Path, train: Crops, oof: OutOfFold, trials: Sequence[Trial], used: str) -> dict:
    """Scores of the rule in use on people it was not fitted on, of the other rules beside it, and of probabilities."""
    likeliest = {name: logits.argmax(axis=1) for name, logits in oof.logits.items()}
    decided = next((trial.labels for trial in trials if trial.rule == used), {})
    predicted = {name: labels.tolist() for name, labels in {**likeliest, **decided}.items()}
    truth = {name: labels.tolist() for name, labels in oof.labels.items()}
    facts = train.frame.to_dict("records")
    record = beside_majority(truth, predicted, oof.persons.tolist(), learned_from=truth, facts=facts)
    if trials:
        record["decisions"] = {"used": used, "rules": [trial.as_json() for trial in trials]}
    record["calibration"] = {
        name: calibration_record(oof.logits[name], oof.labels[name], oof.folds) for name in oof.logits
    }
    tables = value_tables(run_dir, "_oof")
    record["values"] = value_errors(tables, train.image_ids, facts, persons=oof.persons.tolist(), learned_from=facts)
    return record


def beside_majority(
    truth: Labels, predicted: Labels, persons: Sequence[str], *, learned_from: Labels, facts: Sequence[Facts]
) -> dict:
    """Scores of the predictions, of always giving the commonest label of `learned_from`, and of groups of people."""
    groups = score_groups(truth, predicted, persons, facts)
    naive = majority(learned_from, len(persons))
    return {
        "model": score(truth, predicted, persons),
        "majority": score(truth, naive, persons),
        "groups": groups,
        "weakest": weakest(groups),
    }


def value_tables(run_dir: Path, suffix: str = "") -> dict[str, LogitTable]:
    """Expected numbers by task, as ensemble.py wrote them: for eval photos, or out of fold with suffix "_oof"."""
    paths = {task: run_dir / f"{task.name}{suffix}_{task.value.name}.csv" for task in TASKS if task.value}
    return {task.name: read_table(path, (task.value.name,)) for task, path in paths.items() if path.exists()}


def value_errors(
    tables: Mapping[str, LogitTable],
    image_ids: Sequence[str],
    facts: Sequence[Facts],
    *,
    persons: Sequence[str],
    learned_from: Sequence[Facts],
) -> dict[str, dict]:
    """By task {"unit", "photos", "mean_absolute_error", "always_median"}, over photos whose number is known.

    `image_ids`, `facts` and `persons` have one entry a photo; the naive answer is the median of `learned_from`, the
    facts of the training photos.
    """
    found = {}
    for name, table in tables.items():
        task = task_named(name)
        true = known_values(task, facts)
        rows = [row for row in true if image_ids[row] in set(table.image_ids)]
        if not rows:
            continue
        expected = table.of([image_ids[row] for row in rows])[:, 0]
        truth, of_photos = np.array([true[row] for row in rows]), [persons[row] for row in rows]
        learned = list(known_values(task, learned_from).values())
        found[name] = {
            "unit": task.value.name,
            "photos": len(rows),
            "mean_absolute_error": mean_over_photos(np.abs(expected - truth), of_photos),
            "always_median": mean_over_photos(np.abs(np.median(learned or truth) - truth), of_photos),
        }
    return found


def known_values(task: Task, facts: Sequence[Facts]) -> dict[int, float]:
    """The true number by row, where the facts tell it."""
    column = {}
    for row, known in enumerate(facts):
        try:
            column[row] = task.value.read(known)
        except (KeyError, ValueError):
            continue
    return column


def format_values(values: Mapping[str, Mapping]) -> str:
    """One line a task: its mean absolute error, and that of always saying the median of the training photos."""
    return "\n".join(
        f"  {name} in {entry['unit']}: mean absolute error {_in_units(entry['mean_absolute_error'])}, "
        f"always the median {_in_units(entry['always_median'])}"
        for name, entry in values.items()
    )


def format_calibration(calibration: Mapping[str, Mapping]) -> str:
    """Temperature, likelihood and calibration error of each task, without and with the temperature."""
    lines = ["probabilities out of fold"]
    lines += [f"  {'task':<12}{'temperature':>12}{'-log p':>10}{'scaled':>10}{'ECE':>10}{'scaled':>10}"]
    for name, entry in calibration.items():
        raw, nested = entry["raw"], entry["nested"]
        cells = (raw["nll"], nested["nll"], raw["ece"], nested["ece"])
        lines.append(f"  {name:<12}{entry['temperature']:>12.3f}" + "".join(f"{cell:>10.4f}" for cell in cells))
    return "\n".join(lines)


def _in_units(estimate: Estimate) -> str:
    return f"{estimate['value']:.2f} ({estimate['low']:.2f}-{estimate['high']:.2f})"
