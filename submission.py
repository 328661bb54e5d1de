"""Recombine the tasks into submission.csv, check it, and score it wherever the truth is known.

    python submission.py                                  outputs/default/submission.csv and scores.json
    python submission.py --mask outputs/a/mask.csv --gender outputs/a/gender.csv --age outputs/ab/age.csv
    python submission.py --decision shift                 for eval photos whose mix of classes is another
    python submission.py --decision auto                  a tuned decision, where nested checking says that it pays
    python submission.py --validate my.csv                check any CSV against the eval photos of the run

The out-of-fold score is on people no model of theirs was trained on. The eval score appears if labels are at hand
(--truth, truth.csv in the data root, or the names of the re-made layout); nothing else ever reads them. Rules of
decision are fitted on out-of-fold logits, and on no label of an eval photo; all of them are scored side by side,
whichever is used.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from core import files
from core.cli import UserError, add_run_dir, command_parser, name_some, run_cli
from core.tasks import AgeEdges, Task, combined_class_count, combined_tasks
from evaluation.decision_rules import (
    AUTO,
    RAW,
    RULES,
    Decision,
    Logits,
    OutOfFold,
    Trial,
    choose,
    compare,
    format_trials,
    rule_named,
)
from evaluation.groups import format_groups
from evaluation.label_shift import describe_mixes
from evaluation.logits import read_table, require_same_ids
from evaluation.results import (
    beside_majority,
    format_calibration,
    format_values,
    oof_record,
    read_out_of_fold,
    value_errors,
    value_tables,
)
from evaluation.scores import Labels, combine, format_classes, format_scores, most_frequent
from storage.crops import Crops, load_crops, read_faces
from storage.eval_labels import EvalLabels, find_eval_labels
from storage.label_corrections import training_crops
from storage.run_dir import Run, read_run

COLUMNS = ["ImageID", "ans"]


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    run = read_run(args.run_dir)
    image_ids = submission_order(run)
    if args.validate:
        validate_submission(args.validate, image_ids)
        print(f"{args.validate}: valid, {len(image_ids)} rows")
        return

    refuse_fit_on_other_models(args)
    train = training_crops(args.run_dir, Path(run.crop_dir))
    readable, logits = read_eval_logits(args, run)
    oof = read_out_of_fold(args.run_dir, train, run)
    trials = compare(oof) if oof and oof.has_combined_class else []
    decision = decide(args.decision, oof, trials, logits)
    predicted = labels_of(readable, decision.labels(logits))
    usual = usual_labels(train, run.age_edges, predicted)
    predicted = with_unreadable(predicted, image_ids, usual)
    path = args.out or args.run_dir / "submission.csv"
    is_new = write_submission(path, image_ids, predicted)
    validate_submission(path, image_ids)
    print(f"{path}: {len(image_ids)} rows, valid, decision {decision.rule}{'' if is_new else ', up to date'}")
    if decision.mixes:
        print(describe_mixes(decision.mixes, {task.name: task.classes for task in combined_tasks()}))

    truth = find_eval_labels(args.truth, run)
    report = {
        "oof": oof_record(args.run_dir, train, oof, trials, decision.rule) if oof else None,
        "eval": score_eval(args.run_dir, image_ids, predicted, truth, train=train, usual=usual) if truth else None,
    }
    print_report(report, trials)
    write_if_changed(args.run_dir / "decision.json", decision.as_json())
    write_if_changed(args.run_dir / "scores.json", report)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    for task in combined_tasks():
        parser.add_argument(
            f"--{task.name}",
            type=Path,
            metavar="FILE",
            help=f"logit table (default: RUN_DIR/{task.name}.csv); another file is decided by {RAW} alone",
        )
    add_run_dir(parser)
    parser.add_argument(
        "--decision",
        choices=[AUTO, *(rule.name for rule in RULES)],
        default=RAW,
        help="; ".join(f"{rule.name}: {rule.says}" for rule in RULES) + "; auto: the best that pays out of fold",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write (default: RUN_DIR/submission.csv)")
    parser.add_argument("--truth", type=Path, metavar="FILE", help="CSV with ImageID and ans to score against")
    parser.add_argument("--validate", type=Path, metavar="FILE", help="only check this CSV: rows, ids, range, columns")
    return parser.parse_args(argv)


def refuse_fit_on_other_models(args: argparse.Namespace) -> None:
    """UserError for a rule that would be fitted on out-of-fold logits of other models than the eval logits are of."""
    if args.decision == RAW:
        return
    for task in combined_tasks():
        table = table_path(args, task)
        if table.resolve() != own_table(args, task).resolve():
            raise UserError(
                f"--{task.name} {table}: --decision {args.decision} is fitted on the out-of-fold logits of --run-dir "
                f"{args.run_dir}; bring the runs into one folder with ensemble.py --run-dir, or decide by {RAW}"
            )


def table_path(args: argparse.Namespace, task: Task) -> Path:
    return getattr(args, task.name) or own_table(args, task)


def own_table(args: argparse.Namespace, task: Task) -> Path:
    return args.run_dir / f"{task.name}.csv"


def submission_order(run: Run) -> list[str]:
    """Image ids of all eval photos, in the order of info.csv, or sorted by name where there is none."""
    faces = read_faces(Path(run.crop_dir))
    return list(faces["image_id"][faces["split"] == "eval"])


def read_eval_logits(args: argparse.Namespace, run: Run) -> tuple[Sequence[str], dict[str, np.ndarray]]:
    """Image ids of the eval photos that could be read, and their logits (N, C) of each task in this order.

    UserError unless the table of each task has exactly these photos.
    """
    readable = load_crops(Path(run.crop_dir), "eval").image_ids
    logits = {}
    for task in combined_tasks():
        path = table_path(args, task)
        if not path.exists():
            raise UserError(f"{path}: no such file; run ensemble.py first, or give --{task.name}")
        table = read_table(path, task.classes)
        require_same_ids(path, table, set(readable), "the eval part")
        logits[task.name] = table.of(readable)
    return readable, logits


def decide(wanted: str, oof: OutOfFold | None, trials: Sequence[Trial], logits: Logits) -> Decision:
    """The rule to use, fitted on all out-of-fold photos; UserError if there is nothing to fit the wanted one on."""
    if trials:
        return rule_named(choose(wanted, trials)).fit(oof, logits)
    if wanted not in (RAW, AUTO):
        raise UserError(f"--decision {wanted}: no out-of-fold logits to fit it on; allowed here is {RAW}")
    return Decision.raw()


def labels_of(image_ids: Sequence[str], decided: Mapping[str, np.ndarray]) -> dict[str, dict[str, int]]:
    """The label of every photo, by image id and task."""
    rows = zip(*(labels.tolist() for labels in decided.values()), strict=True)
    return {image_id: dict(zip(decided, row, strict=True)) for image_id, row in zip(image_ids, rows, strict=True)}


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
    files.write_csv(path, frame)
    return True


def write_if_changed(path: Path, record: Mapping[str, object]) -> None:
    if not path.exists() or files.read_json(path) != json.loads(json.dumps(record)):
        files.write_json(path, record)


def columns(image_ids: Sequence[str], labels: Mapping[str, Mapping[str, int]]) -> Labels:
    """Labels by task, each in the order of the image ids."""
    return {task.name: [labels[image_id][task.name] for image_id in image_ids] for task in combined_tasks()}


def validate_submission(path: Path, image_ids: Sequence[str]) -> None:
    """UserError naming the first thing that is wrong: columns, number of rows, ids, or range of ans."""
    frame = files.read_csv(path, COLUMNS)
    if list(frame.columns) != COLUMNS:
        raise UserError(f"{path}: columns {', '.join(frame.columns)}; allowed are exactly {', '.join(COLUMNS)}")
    files.require_unique(path, frame, "ImageID")
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


def score_eval(
    run_dir: Path, image_ids: Sequence[str], predicted: Mapping, truth: EvalLabels, *, train: Crops, usual: Labels
) -> dict:
    """Scores of the submission. Every eval photo counts as a person of its own."""
    unknown = sorted(set(image_ids) - set(truth.labels))
    if unknown:
        raise UserError(f"truth: no row for {name_some(unknown)}, which the eval part has")
    facts = [truth.facts.get(image_id, {}) for image_id in image_ids]
    true, answers = columns(image_ids, truth.labels), columns(image_ids, predicted)
    record = beside_majority(true, answers, image_ids, learned_from=usual, facts=facts)
    learned_from = train.frame.to_dict("records")
    tables = value_tables(run_dir)
    record["values"] = value_errors(tables, image_ids, facts, persons=image_ids, learned_from=learned_from)
    return record


def print_report(report: Mapping[str, dict | None], trials: Sequence[Trial]) -> None:
    parts = {title: part for title, part in (("out of fold", report["oof"]), ("eval", report["eval"])) if part}
    blocks = []
    for title, part in parts.items():
        blocks += [format_scores(title, part["model"], part["majority"]), format_values(part["values"])]
    blocks.append(format_groups({title: part["groups"] for title, part in parts.items()}) if parts else "")
    if trials:
        blocks.append(format_trials(trials, report["oof"]["decisions"]["used"]))
    if report["oof"]:
        blocks.append(format_calibration(report["oof"]["calibration"]))
    title, scored = next(iter(parts.items()), ("", {}))
    if scored and "classes" in scored["model"]:
        blocks.append(f"per class, {title}\n{format_classes(scored['model'])}")
    print("".join(f"\n{block}\n" for block in blocks if block), end="")


if __name__ == "__main__":
    run_cli(main)
