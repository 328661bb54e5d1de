"""Score one task of a run, whatever folds of it there are: no other task, no submission needed.

    python -m tools.score --task mask --run-dir outputs/x                              eval photos of the run itself
    python -m tools.score --task mask --run-dir outputs/x --output-dir outputs/other   photos of another data set
    python -m tools.score --task mask --output-dir outputs/other --truth truth.csv --json score.json

Prints macro-F1 and accuracy with 95% intervals over people, F1 of each class, and the confusion matrix: for the eval
photos with the folds' probabilities averaged, and out of fold for the folds that are trained. --output-dir is the
folder that `inference.py --output-dir` wrote. Labels of eval photos are read for this score alone.
"""

if not __package__:
    raise SystemExit("run this as a module: python -m tools.score")

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import core.environment  # noqa: F401  explains a missing package

import numpy as np

from core import files
from core.cli import UserError, add_trained_run, command_parser, run_cli
from core.tasks import Task, task_named, task_names
from evaluation.logits import EVAL_PHOTOS, OUT_OF_FOLD, Part
from evaluation.metrics import confusion_matrix, f1_per_class, format_estimate, scores
from evaluation.results import RunResults, read_fold_tables
from storage.run_dir import read_run, trained_run


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    args.run_dir = trained_run(args.run_dir)
    task = task_named(args.task)
    eval_dir = args.output_dir or args.run_dir
    read_run(eval_dir)  # refuses a folder that is no run
    found = {
        EVAL_PHOTOS.title: score_part(RunResults(eval_dir, args.truth), task, EVAL_PHOTOS),
        OUT_OF_FOLD.title: score_part(RunResults(args.run_dir), task, OUT_OF_FOLD),
    }
    if not any(found.values()):
        raise UserError(
            f"{eval_dir / task.name}: no fold has a table that can be scored; run train.py or inference.py first, "
            f"and give --truth where the data root has no labels of its eval photos"
        )
    for title, record in found.items():
        if record:
            print(format_record(title, task, record))
    if args.json:
        files.write_json(args.json, {"task": task.name, "classes": task.classes, **found})


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("--task", required=True, choices=task_names(), help="the task to score")
    add_trained_run(parser)
    parser.add_argument("--output-dir", type=Path, help="folder of predictions for other photos (default: RUN_DIR)")
    parser.add_argument("--truth", type=Path, metavar="FILE", help="CSV with ImageID and ans to score against")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the scores here too")
    return parser.parse_args(argv)


def score_part(results: RunResults, task: Task, part: Part) -> dict | None:
    """Scores of the folds that have tables, each eval photo a person of its own; None without tables or labels."""
    tables = read_fold_tables(results.run_dir, task, part)
    if not tables or results.labels(part, task) is None:
        return None
    found, num_classes = results.predictions(part, task, tables).labelled, len(task.classes)
    return {
        "folds": list(tables.folds),
        "photos": len(found.image_ids),
        "people": len(set(found.persons)),
        **scores(found.truth, found.predicted, found.persons, num_classes=num_classes),
        "confusion": confusion_matrix(found.truth, found.predicted, num_classes).tolist(),
    }


def format_record(title: str, task: Task, record: Mapping) -> str:
    """Scores, then the confusion matrix: a row for each true class, a column for each prediction, F1 at its end."""
    head = f"{task.name}, {title}: {record['photos']} photos of {record['people']} people, {', '.join(record['folds'])}"
    lines = [head]
    for name in ("macro_f1", "accuracy"):
        lines.append(f"  {name:<12}{format_estimate(record[name])}")
    f1 = f1_per_class(np.array(record["confusion"]))
    lines.append(f"  {'true / predicted':<16}" + "".join(f"{name:>12}" for name in (*task.classes, "F1")))
    for name, row, of_class in zip(task.classes, record["confusion"], f1, strict=True):
        lines.append(f"  {name:<16}" + "".join(f"{count:>12}" for count in row) + f"{of_class:>12.4f}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run_cli(main)
