"""Recombine the tasks into submission.csv, check it, and score it wherever the truth is known.

    python submission.py                                  outputs/default/submission.csv and scores.json
    python submission.py --mask outputs/a/mask.csv --gender outputs/a/gender.csv --age outputs/ab/age.csv
    python submission.py --validate my.csv                check any CSV against the eval photos of the run

The out-of-fold score is on people no model of theirs was trained on. The eval score appears if labels are at hand
(--truth, truth.csv in the data root, or the names of the re-made layout); nothing else ever reads them.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from core import artifacts
from core.crops import Crops, load_crops, read_faces
from core.layouts import read_truth, read_truth_csv, scan
from core.logits import LogitTable, read_table, require_same_ids
from core.runs import Run, read_run
from core.runtime import UserError, add_run_dir, command_parser, name_some, run_cli
from core.scores import Labels, combine, format_classes, format_scores, majority, most_frequent, score
from core.tasks import AgeEdges, combined_class_count, combined_tasks, task_named, task_names

COLUMNS = ["ImageID", "ans"]


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    run = read_run(args.run_dir)
    image_ids = submission_order(run)
    if args.validate:
        validate_submission(args.validate, image_ids)
        print(f"{args.validate}: valid, {len(image_ids)} rows")
        return

    train = load_crops(Path(run.crop_dir), "train")
    tables = read_eval_tables(args, run)
    predicted = labels_of(tables)
    usual = usual_labels(train, run.age_edges, predicted)
    predicted = with_unreadable(predicted, image_ids, usual)
    path = args.out or args.run_dir / "submission.csv"
    is_new = write_submission(path, image_ids, predicted)
    validate_submission(path, image_ids)
    print(f"{path}: {len(image_ids)} rows, valid{'' if is_new else ', up to date'}")

    truth = find_truth(args.truth, run)
    report = {
        "oof": score_out_of_fold(args.run_dir, train, run.age_edges),
        "eval": score_eval(image_ids, predicted, truth, usual) if truth else None,
    }
    print_report(report)
    write_scores(args.run_dir / "scores.json", report)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    for task in combined_tasks():
        parser.add_argument(
            f"--{task.name}", type=Path, metavar="FILE", help=f"logit table (default: RUN_DIR/{task.name}.csv)"
        )
    add_run_dir(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write (default: RUN_DIR/submission.csv)")
    parser.add_argument("--truth", type=Path, metavar="FILE", help="CSV with ImageID and ans to score against")
    parser.add_argument("--validate", type=Path, metavar="FILE", help="only check this CSV: rows, ids, range, columns")
    return parser.parse_args(argv)


def submission_order(run: Run) -> list[str]:
    """Image ids of all eval photos, in the order of info.csv, or sorted by name where there is none."""
    faces = read_faces(Path(run.crop_dir))
    return list(faces["image_id"][faces["split"] == "eval"])


def read_eval_tables(args: argparse.Namespace, run: Run) -> dict[str, LogitTable]:
    """The logit table of each task; UserError unless each has exactly the eval photos that could be read."""
    readable = set(load_crops(Path(run.crop_dir), "eval").image_ids)
    tables = {}
    for task in combined_tasks():
        path = getattr(args, task.name) or args.run_dir / f"{task.name}.csv"
        if not path.exists():
            raise UserError(f"{path}: no such file; run ensemble.py first, or give --{task.name}")
        tables[task.name] = read_table(path, task.classes)
        require_same_ids(path, tables[task.name], readable, "the eval part")
    return tables


def labels_of(tables: Mapping[str, LogitTable]) -> dict[str, dict[str, int]]:
    """The likeliest label of every photo, by image id and task."""
    labels: dict[str, dict[str, int]] = {}
    for name, table in tables.items():
        for image_id, label in zip(table.image_ids, table.logits.argmax(axis=1).tolist(), strict=True):
            labels.setdefault(image_id, {})[name] = label
    return labels


def usual_labels(train: Crops, age_edges: AgeEdges, predicted: Mapping[str, Mapping[str, int]]) -> Labels:
    """Labels of the training photos; for a data set that has none, those predicted for it."""
    if train.image_ids:
        return {task.name: train.labels(task, age_edges) for task in combined_tasks()}
    return columns(sorted(predicted), predicted)


def with_unreadable(
    labels: dict[str, dict[str, int]], image_ids: Sequence[str], usual: Labels
) -> dict[str, dict[str, int]]:
    """Labels for all eval photos: one that could not be read gets the commonest of the usual labels, and is named."""
    unreadable = [image_id for image_id in image_ids if image_id not in labels]
    if not unreadable:
        return labels
    guess = {name: most_frequent(values) for name, values in usual.items()}
    print(f"{len(unreadable)} unreadable photos get the commonest labels: {name_some(unreadable)}")
    return labels | {image_id: guess for image_id in unreadable}


def write_submission(path: Path, image_ids: Sequence[str], labels: Mapping[str, Mapping[str, int]]) -> bool:
    """Write the table, and say whether it was another one before."""
    frame = pd.DataFrame({"ImageID": image_ids, "ans": combine(columns(image_ids, labels))})
    if path.exists() and path.read_bytes() == frame.to_csv(index=False).encode():
        return False
    artifacts.write_csv(path, frame)
    return True


def write_scores(path: Path, report: Mapping[str, dict | None]) -> None:
    if not path.exists() or artifacts.read_json(path) != report:
        artifacts.write_json(path, report)


def columns(image_ids: Sequence[str], labels: Mapping[str, Mapping[str, int]]) -> Labels:
    """Labels by task, each in the order of the image ids."""
    return {task.name: [labels[image_id][task.name] for image_id in image_ids] for task in combined_tasks()}


def validate_submission(path: Path, image_ids: Sequence[str]) -> None:
    """UserError naming the first thing that is wrong: columns, number of rows, ids, or range of ans."""
    frame = artifacts.read_csv(path, COLUMNS)
    if list(frame.columns) != COLUMNS:
        raise UserError(f"{path}: columns {', '.join(frame.columns)}; allowed are exactly {', '.join(COLUMNS)}")
    artifacts.require_unique(path, frame, "ImageID")
    given, expected = set(frame["ImageID"]), set(image_ids)
    if given != expected:
        wrong, verb = (expected - given, "lacks") if expected - given else (given - expected, "has in excess")
        raise UserError(f"{path}: {len(frame)} rows, expected {len(image_ids)}; it {verb} {name_some(sorted(wrong))}")
    allowed = {str(answer) for answer in range(combined_class_count())}
    bad = frame[~frame["ans"].isin(allowed)]
    if len(bad):
        row = bad.iloc[0]
        raise UserError(
            f"{path}: ans {row['ans']!r} of {row['ImageID']}; allowed are whole numbers 0 to {len(allowed) - 1}"
        )


def find_truth(path: Path | None, run: Run) -> dict[str, dict[str, int]] | None:
    if path:
        return read_truth_csv(path)
    root = Path(run.data_root)
    return read_truth(scan(root, run.layout), run.age_edges) if root.is_dir() else None


def score_out_of_fold(run_dir: Path, train: Crops, age_edges: AgeEdges) -> dict | None:
    """Scores of every task with out-of-fold logits, and of their combination, beside the majority class."""
    paths = {name: run_dir / f"{name}_oof.csv" for name in task_names()}
    tasks = [task_named(name) for name, path in paths.items() if path.exists()]
    if not tasks:
        return None
    truth = {task.name: train.labels(task, age_edges) for task in tasks}
    predicted = {}
    for task in tasks:
        table = read_table(paths[task.name], task.classes)
        require_same_ids(paths[task.name], table, set(train.image_ids), "the training part")
        predicted[task.name] = table.of(train.image_ids).argmax(axis=1).tolist()
    return beside_majority(truth, predicted, list(train.frame["person"]), truth)


def score_eval(image_ids: Sequence[str], predicted: Mapping, truth: Mapping, usual: Labels) -> dict:
    """Scores of the submission. Every eval photo counts as a person of its own."""
    unknown = sorted(set(image_ids) - set(truth))
    if unknown:
        raise UserError(f"truth: no row for {name_some(unknown)}, which the eval part has")
    truth_columns = columns(image_ids, truth)
    return beside_majority(truth_columns, columns(image_ids, predicted), image_ids, usual)


def beside_majority(truth: Labels, predicted: Labels, persons: Sequence[str], learned_from: Labels) -> dict:
    naive = majority(learned_from, len(persons))
    return {"model": score(truth, predicted, persons), "majority": score(truth, naive, persons)}


def print_report(report: Mapping[str, dict | None]) -> None:
    for title, part in (("out of fold", report["oof"]), ("eval", report["eval"])):
        if part:
            print()
            print(format_scores(title, part["model"], part["majority"]))
    scored = report["oof"] or report["eval"]
    if scored and "classes" in scored["model"]:
        print(f"\nper class, {'out of fold' if report['oof'] else 'eval'}")
        print(format_classes(scored["model"]))


if __name__ == "__main__":
    run_cli(main)
