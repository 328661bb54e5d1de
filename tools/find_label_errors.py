"""Find training labels that are probably wrong, from predictions of models that were not trained on the person.

    python -m tools.find_label_errors                outputs/default/label_suspects.csv, all averaged tasks
    python -m tools.find_label_errors --task age --run-dir outputs/x --most 50

Needs `python scripts/install.py labels` (cleanlab). Suspects are the labels that differ from the
prediction, the likeliest error first; those that cleanlab counts as errors too are flagged. Where a person's photos
share a label (gender, age), the row is of the person, by the mean of the photos' probabilities; image_id is then the
photo with the highest probability of the prediction. Nothing is changed: look at each suspect, write the corrections
into a file, and train with it (`python train.py --label-fixes FILE`); see docs/decisions.md.
"""

if not __package__:
    raise SystemExit("run this as a module: python -m tools.find_label_errors")

import argparse
from collections.abc import Sequence
from pathlib import Path

import core.environment  # noqa: F401  explains a missing package

import numpy as np
import pandas as pd

from core import files
from core.cli import UserError, add_trained_run, command_parser, positive_int, run_cli
from core.tasks import Task, task_named, task_names
from evaluation.decision_rules import OutOfFold
from evaluation.logits import log_softmax
from evaluation.results import RunResults
from storage.run_dir import trained_run

COLUMNS = (
    *("image_id", "person", "task", "label", "predicted", "prob_label", "prob_predicted", "score", "photos", "flagged"),
)
"""`score` is low for a likely error: half of 1 + prob_label - prob_predicted. `photos` is the number of photos,
`flagged` 1 where confident learning, which estimates the noise of each pair of classes, counts it as an error too."""


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    args.run_dir = trained_run(args.run_dir)
    results = RunResults(args.run_dir)
    tasks = chosen_tasks(args.task, list(results.out_of_fold_logits), args.run_dir)
    suspects = pd.concat([find_suspects(results.out_of_fold([task.name]), task)[: args.most] for task in tasks])
    path = args.run_dir / "label_suspects.csv"
    files.write_csv(path, suspects)
    for task in tasks:
        of_task = suspects[suspects["task"] == task.name]
        print(f"{task.name}: {len(of_task)} suspects, {of_task['flagged'].sum()} of them flagged")
    print(f"{path}: look at them, they are suspects and not errors")


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("--task", nargs="+", choices=task_names(), help="whose labels (default: all that are averaged)")
    add_trained_run(parser)
    parser.add_argument("--most", type=positive_int, default=None, help="list no more than so many of a task")
    return parser.parse_args(argv)


def chosen_tasks(names: Sequence[str] | None, there: Sequence[str], run_dir: Path) -> list[Task]:
    """UserError for a task that has no out-of-fold logits."""
    lacking = [name for name in names or there if name not in there]
    if lacking or not there:
        which = f"of {lacking[0]} " if lacking else ""
        raise UserError(f"run folder {run_dir}: no out-of-fold logits {which}in it; run ensemble.py first")
    return [task_named(name) for name in names or there]


def find_suspects(oof: OutOfFold, task: Task) -> pd.DataFrame:
    """Suspected labels of one task as a table of COLUMNS, the likeliest error first."""
    probs, labels = np.exp(log_softmax(oof.logits[task.name])), oof.labels[task.name]
    units = np.unique(oof.persons, return_inverse=True)[1]
    if not shared_by_persons(labels, units):
        units = np.arange(len(labels))
    photos = np.bincount(units)
    mean = np.stack([np.bincount(units, weights=column) for column in probs.T], axis=1) / photos[:, None]
    of_unit = np.zeros(len(photos), dtype=int)
    of_unit[units] = labels
    frame = pd.DataFrame({
        "task": task.name,
        "label": [task.classes[label] for label in of_unit],
        "predicted": [task.classes[label] for label in mean.argmax(axis=1)],
        "prob_label": mean[np.arange(len(mean)), of_unit],
        "prob_predicted": mean.max(axis=1),
        "photos": photos,
    })  # fmt: skip
    frame["score"] = (1 + frame["prob_label"] - frame["prob_predicted"]) / 2
    clearest = clearest_photos(probs, units, mean.argmax(axis=1))
    frame["image_id"] = [oof.image_ids[row] for row in clearest]
    frame["person"] = oof.persons[clearest]
    frame["flagged"] = flagged(of_unit, mean).astype(int)
    found = frame[frame["label"] != frame["predicted"]].sort_values(["score", "image_id"])
    return found[list(COLUMNS)]


def shared_by_persons(labels: np.ndarray, persons: np.ndarray) -> bool:
    """True if all photos of each person have one label. `persons` (N,) are whole numbers from 0 on."""
    pairs = np.unique(np.stack([persons, labels]), axis=1)
    return pairs.shape[1] == persons.max() + 1


def clearest_photos(probs: np.ndarray, units: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """(U,) of each unit the row whose photo has the highest probability of the unit's prediction."""
    order = np.lexsort((-probs[np.arange(len(probs)), predicted[units]], units))
    return order[np.unique(units[order], return_index=True)[1]]


def flagged(labels: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """(U,) whether confident learning counts the label among the errors.

    Northcutt et al., Confident Learning, 2021: pruned by the noise rate of each pair of classes.
    """
    try:
        from cleanlab.filter import find_label_issues
    except ImportError:
        raise UserError("cleanlab is not installed; run: python scripts/install.py labels") from None
    return find_label_issues(labels, probs, filter_by="prune_by_noise_rate", n_jobs=1)


if __name__ == "__main__":
    run_cli(main)
