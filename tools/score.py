"""Score one task of a run, whatever folds of it there are: no other task, no submission needed.

    python -m tools.score --task mask --run-dir outputs/x                              eval photos of the run itself
    python -m tools.score --task mask --run-dir outputs/x --output-dir outputs/other   photos of another data set
    python -m tools.score --task mask --output-dir outputs/other --truth truth.csv --json score.json

Prints macro-F1 and accuracy with 95% intervals over people, F1 of each class, and the confusion matrix: for the eval
photos with the folds' probabilities averaged, and for the held-out photos of the folds that are trained. --output-dir
is the folder that `inference.py --output-dir` wrote. Labels of eval photos are read for this score alone.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from core import files
from core.cli import UserError, add_run_dir, command_parser, run_cli
from core.tasks import Task, task_named, task_names
from evaluation.fold_tables import AVERAGE, Known, known_of_eval, known_of_training, read_tables
from evaluation.logits import LogitTable, average_tables, join_held_out
from evaluation.metrics import confusion_matrix, f1_per_class, scores
from storage.label_corrections import training_crops
from storage.run_dir import EVAL, OOF, read_run


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    task = task_named(args.task)
    eval_dir = args.output_dir or args.run_dir
    found = {
        "eval": score_eval(eval_dir, task, args.truth),
        "out of fold": score_held_out(args.run_dir, task),
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
    add_run_dir(parser)
    parser.add_argument("--output-dir", type=Path, help="folder of predictions for other photos (default: RUN_DIR)")
    parser.add_argument("--truth", type=Path, metavar="FILE", help="CSV with ImageID and ans to score against")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the scores here too")
    return parser.parse_args(argv)


def score_eval(run_dir: Path, task: Task, truth_path: Path | None) -> dict | None:
    """Scores of the folds' mean probabilities, each photo a person of its own; None without tables or labels."""
    tables = read_tables(run_dir / task.name, EVAL, task)
    known = known_of_eval(read_run(run_dir), task, truth_path)
    if not tables or not known:
        return None
    return _record(average_tables(list(tables.values()), AVERAGE), known, tables)


def score_held_out(run_dir: Path, task: Task) -> dict | None:
    """Scores of the folds that are trained, each on the people it held out; None where there is none."""
    tables = read_tables(run_dir / task.name, OOF, task)
    if not tables:
        return None
    run = read_run(run_dir)
    known = known_of_training(training_crops(run_dir, Path(run.crop_dir)), run, task)
    return _record(join_held_out(tables), known, tables)


def _record(table: LogitTable, known: Known, tables: Mapping[Path, LogitTable]) -> dict:
    truth, persons = known.labels_of(table.image_ids), known.persons_of(table.image_ids)
    predicted, num_classes = table.logits.argmax(axis=1).tolist(), len(table.classes)
    return {
        "folds": [path.parent.name for path in tables],
        "photos": len(truth),
        "people": len(set(persons)),
        **scores(truth, predicted, persons, num_classes=num_classes),
        "confusion": confusion_matrix(truth, predicted, num_classes).tolist(),
    }


def format_record(title: str, task: Task, record: Mapping) -> str:
    """Scores, then the confusion matrix: a row for each true class, a column for each answer, F1 at its end."""
    head = f"{task.name}, {title}: {record['photos']} photos of {record['people']} people, {', '.join(record['folds'])}"
    lines = [head]
    for name in ("macro_f1", "accuracy"):
        estimate = record[name]
        lines.append(f"  {name:<12}{estimate['value']:.4f} ({estimate['low']:.4f}-{estimate['high']:.4f})")
    f1 = f1_per_class(np.array(record["confusion"]))
    lines.append(f"  {'truth / answer':<16}" + "".join(f"{name:>12}" for name in (*task.classes, "F1")))
    for name, row, of_class in zip(task.classes, record["confusion"], f1, strict=True):
        lines.append(f"  {name:<16}" + "".join(f"{count:>12}" for count in row) + f"{of_class:>12.4f}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run_cli(main)
