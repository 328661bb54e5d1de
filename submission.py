"""Recombine the tasks into submission.csv, check it, and score it wherever labels are known.

    python submission.py                                  outputs/default/submission.csv and scores.json
    python submission.py --mask outputs/a/mask.csv --gender outputs/a/gender.csv --age outputs/ab/age.csv
    python submission.py --decision shift                 for eval photos with other class priors
    python submission.py --decision auto                  the best rule that pays out of fold, else raw
    python submission.py --validate my.csv                check any CSV against the eval photos of the run
    python submission.py --validate my.csv --ids info.csv     the same without a run, also with --data-dir DIR

predictions.csv has one row an eval photo: of each task the class, its probability, and years if the task has them.
Without eval photos there is predictions_oof.csv instead, the same for the training photos, out of fold.
Where a task of the 18 classes has no model, it is all that is written, and submission.csv is not.
The out-of-fold score is of people whom the models were not trained on. The eval score appears if labels are at hand
(--truth, truth.csv in the data root, or the names of the re-made layout); nothing else ever reads them. Decision rules
are fitted on out-of-fold logits, and on no label of an eval photo; all of them are scored side by side, whichever is
used.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import core.environment  # noqa: F401  explains a missing package

import numpy as np
import pandas as pd

from core import files
from core.cli import UserError, add_run_dir, command_parser, name_some, run_cli
from core.tasks import TASKS, UNKNOWN, combined_class_count, combined_tasks, task_named
from evaluation.calibration import describe_mixes
from evaluation.combined_class import combine_labels, has_combined_tasks
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
    rule_named,
)
from evaluation.logits import EVAL_PHOTOS, OUT_OF_FOLD, LogitTable, log_softmax, require_same_ids
from evaluation.results import RunResults, averaged_stamp_path, read_averaged_file, read_averaged_values
from evaluation.run_scores import out_of_fold_predictions, print_report, score_eval, score_out_of_fold, scores_path
from evaluation.scores import Labels, most_frequent
from storage.crops import load_crops, read_faces
from storage.layouts import scan
from storage.run_dir import Run, read_run, read_stamp, trained_tasks, written_digests

COLUMNS = ["ImageID", "ans"]


@dataclass(frozen=True)
class EvalLogits:
    """The eval photos that could be read, and their logits (N, C) of each combined task."""

    image_ids: Sequence[str]
    logits: Logits


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    if args.validate:
        image_ids = expected_ids(args)
        validate_submission(args.validate, image_ids)
        print(f"{args.validate}: valid, {len(image_ids)} rows")
        return

    results = RunResults(args.run_dir, args.truth)
    files.remove_stale(args.run_dir)
    image_ids = submission_order(results.run)
    given = {task.name: getattr(args, task.name) for task in combined_tasks() if getattr(args, task.name)}
    refuse_fit_on_other_models(args.decision, args.run_dir, given)
    readable = read_eval_logits(results, given)
    oof = results.out_of_fold([task.name for task in combined_tasks()])
    trials = compare(oof) if oof and len(set(oof.folds.tolist())) > 1 else []
    decision = decide(args.decision, oof, trials, readable.logits)
    usual = {task.name: results.train_labels(task) for task in TASKS}
    usual = {name: labels for name, labels in usual.items() if set(labels) - {UNKNOWN}}
    predicted = predict_labels(decision, readable, image_ids, usual)
    values = read_averaged_values(results.run_dir, EVAL_PHOTOS)
    write_predictions(results, readable, predicted, {name: values[name] for name in values.keys() - given.keys()})
    lacking = [task.name for task in combined_tasks() if task.name not in readable.logits]
    if lacking:
        have = f"task {lacking[0]} has" if len(lacking) == 1 else f"tasks {name_some(lacking)} have"
        print(f"no 18-class file: {have} no model")
    elif image_ids:
        write_valid(args.out or args.run_dir / "submission.csv", image_ids, predicted, decision)
    report = {
        "oof": score_out_of_fold(results, trials, decision.rule),
        "eval": score_eval(results, image_ids, predicted, usual) if results.eval_labels else None,
    }
    print_report(report, trials)
    if not lacking:
        write_if_changed(args.run_dir / "decision.json", decision.as_json())
    write_if_changed(scores_path(args.run_dir), report)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    for task in combined_tasks():
        parser.add_argument(
            f"--{task.name}",
            type=Path,
            metavar="FILE",
            help=f"logit table (default: RUN_DIR/{task.name}.csv); with another file only --decision {RAW} is allowed",
        )
    add_run_dir(parser)
    parser.add_argument(
        "--decision",
        choices=[AUTO, *(rule.name for rule in RULES)],
        default=RAW,
        help="; ".join(f"{rule.name}: {rule.summary}" for rule in RULES) + "; auto: the best that pays out of fold",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write (default: RUN_DIR/submission.csv)")
    parser.add_argument("--truth", type=Path, metavar="FILE", help="CSV with ImageID and ans to score against")
    parser.add_argument("--validate", type=Path, metavar="FILE", help="only check this CSV: rows, ids, range, columns")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--ids", type=Path, metavar="FILE", help="with --validate: a CSV whose column ImageID it must have"
    )
    source.add_argument("--data-dir", type=Path, help="with --validate: the data root whose eval photos it must have")
    args = parser.parse_args(argv)
    if (args.ids or args.data_dir) and not args.validate:
        raise UserError("--ids and --data-dir: they go with --validate FILE")
    return args


def expected_ids(args: argparse.Namespace) -> list[str]:
    """Image ids that a file to validate must have: of a CSV, of a data root, or else of the run."""
    if args.ids:
        frame = files.read_csv(args.ids, ("ImageID",))
        files.require_unique(args.ids, frame, "ImageID")
        return list(frame["ImageID"])
    if args.data_dir:
        return [photo.image_id for photo in scan(args.data_dir).of_split("eval")]
    return submission_order(read_run(args.run_dir))


def refuse_fit_on_other_models(rule: str, run_dir: Path, tables: Mapping[str, Path]) -> None:
    """UserError for a rule that would be fitted on out-of-fold logits of other models than the eval logits are of."""
    for task in combined_tasks():
        own = EVAL_PHOTOS.averaged_path(run_dir, task)
        table = tables.get(task.name, own)
        if rule != RAW and table.resolve() != own.resolve():
            raise UserError(
                f"--{task.name} {table}: --decision {rule} is fitted on the out-of-fold logits of --run-dir {run_dir}; "
                f"bring the runs into one folder with ensemble.py --run-dir, or decide by {RAW}"
            )


def submission_order(run: Run) -> list[str]:
    """Image ids of all eval photos, in the order of info.csv, or sorted by name where there is none."""
    faces = read_faces(Path(run.crop_dir))
    return list(faces["image_id"][faces["split"] == "eval"])


def read_eval_logits(results: RunResults, given: Mapping[str, Path]) -> EvalLogits:
    """Logits by task from the files given, by default the run's own, as far as the run has models.

    UserError unless each table has exactly the readable eval photos. Without eval photos there are none of each task
    that has a model.
    """
    crops, logits = load_crops(Path(results.run.crop_dir), "eval"), {}
    readable = crops.image_ids
    for task in TASKS:
        path = given.get(task.name, EVAL_PHOTOS.averaged_path(results.run_dir, task))
        is_averaged = path.exists() or OUT_OF_FOLD.averaged_path(results.run_dir, task).exists()
        if not is_averaged and task.name not in {*given, *trained_tasks(results.run_dir)}:
            continue
        if not readable and is_averaged:
            logits[task.name] = np.zeros((0, len(task.classes)))
            continue
        if not path.exists():
            hint = f", or give --{task.name}" if task.in_combined_class else ""
            raise UserError(f"{path}: no such file; run ensemble.py first{hint}")
        stamp_path = averaged_stamp_path(path.parent, task)
        table = read_averaged_file(path, stamp_path, task.classes)
        predicted = read_stamp(stamp_path).get("crops_hash") if path.name in written_digests(stamp_path) else ""
        if predicted and predicted != crops.hash:
            raise UserError(f"{path}: the eval crops have changed since; run inference.py and ensemble.py again")
        require_same_ids(path, table, set(readable), "the eval part")
        logits[task.name] = table.of(readable)
    if not logits:
        raise UserError(f"{results.run_dir}: no averaged task in it; run train.py, inference.py and ensemble.py first")
    return EvalLogits(readable, logits)


def decide(wanted: str, oof: OutOfFold | None, trials: Sequence[Trial], logits: Logits) -> Decision:
    """Fit the rule to use on all out-of-fold photos; UserError if there is nothing to fit the wanted one on."""
    if trials:
        return rule_named(choose(wanted, trials)).fit(oof, logits)
    if wanted not in (RAW, AUTO):
        raise UserError(f"--decision {wanted}: no out-of-fold logits to fit it on; allowed here is {RAW}")
    return Decision.raw()


def predict_labels(decision: Decision, readable: EvalLogits, image_ids: Sequence[str], usual: Labels) -> Labels:
    """Labels of all eval photos by task, of the decision rule where all tasks of the combined class have a model."""
    likeliest = {name: logits.argmax(axis=1) for name, logits in readable.logits.items()}
    decided = decision.labels(readable.logits) if has_combined_tasks(readable.logits) else {}
    labels = {name: of_task.tolist() for name, of_task in {**likeliest, **decided}.items()}
    return with_unreadable(labels, readable.image_ids, image_ids, {**labels, **usual})


def with_unreadable(decided: Labels, readable: Sequence[str], image_ids: Sequence[str], usual: Labels) -> Labels:
    """Labels of all eval photos from those of the readable ones; the others get the commonest of the usual labels."""
    row_of = {image_id: row for row, image_id in enumerate(readable)}
    unreadable = [image_id for image_id in image_ids if image_id not in row_of]
    if unreadable:
        print(f"{len(unreadable)} unreadable photos get the commonest labels: {name_some(unreadable)}")
    guess = {name: most_frequent(usual[name]) for name in decided} if unreadable else {}
    return {
        name: [labels[row_of[image_id]] if image_id in row_of else guess[name] for image_id in image_ids]
        for name, labels in decided.items()
    }


def write_valid(path: Path, image_ids: Sequence[str], labels: Labels, decision: Decision) -> None:
    """Write the submission, check it, and say so."""
    is_new = write_table_if_changed(path, pd.DataFrame({"ImageID": image_ids, "ans": combine_labels(labels)}))
    validate_submission(path, image_ids)
    print(f"{path}: {len(image_ids)} rows, valid, decision {decision.rule}{'' if is_new else ', up to date'}")
    if decision.mixes:
        print(describe_mixes(decision.mixes, {task.name: task.classes for task in combined_tasks()}))


def write_predictions(
    results: RunResults, readable: EvalLogits, predicted: Labels, values: Mapping[str, LogitTable]
) -> None:
    """Write predictions.csv: class and probability of each task, and years, of the eval photos that can be read."""
    if not readable.image_ids:
        print("no eval photos: out-of-fold scores alone")
        if results.out_of_fold_logits:
            path = results.run_dir / "predictions_oof.csv"
            write_table_if_changed(path, out_of_fold_predictions(results))
            print(f"{path}: the training photos, out of fold")
        return
    order = submission_order(results.run)
    row_of = {image_id: row for row, image_id in enumerate(order)}
    columns: dict[str, Sequence[object]] = {"ImageID": readable.image_ids}
    for name, logits in readable.logits.items():
        task = task_named(name)
        labels = [predicted[name][row_of[image_id]] for image_id in readable.image_ids]
        columns[name] = [task.classes[label] for label in labels]
        probs = np.exp(log_softmax(logits))[np.arange(len(labels)), labels]
        columns[f"{name}_probability"] = [f"{prob:.4f}" for prob in probs]
        if name in values:
            columns[f"{name}_{task.value.name}"] = [
                f"{value:.1f}" for value in values[name].of(readable.image_ids)[:, 0]
            ]
    path = results.run_dir / "predictions.csv"
    write_table_if_changed(path, pd.DataFrame(columns))
    print(f"{path}: {len(readable.image_ids)} photos, {', '.join(readable.logits)}")


def write_table_if_changed(path: Path, frame: pd.DataFrame) -> bool:
    """Write the table; return whether it differs from the one that was there."""
    if path.exists() and path.read_bytes() == frame.to_csv(index=False).encode():
        return False
    files.write_csv(path, frame)
    return True


def write_if_changed(path: Path, record: Mapping[str, object]) -> None:
    if not files.holds_json(path, record):
        files.write_json(path, record)


def validate_submission(path: Path, image_ids: Sequence[str]) -> None:
    """UserError naming the first fault: columns, number of rows, ids, or range of ans."""
    frame = files.read_csv(path, COLUMNS)
    if list(frame.columns) != COLUMNS:
        raise UserError(f"{path}: columns {', '.join(frame.columns)}; allowed are exactly {', '.join(COLUMNS)}")
    files.require_unique(path, frame, "ImageID")
    given, expected = set(frame["ImageID"]), set(image_ids)
    if given != expected:
        wrong, verb = (expected - given, "lacks") if expected - given else (given - expected, "has in excess")
        raise UserError(f"{path}: {len(frame)} rows, expected {len(image_ids)}; it {verb} {name_some(sorted(wrong))}")
    allowed = set(map(str, range(combined_class_count())))
    bad = frame[~frame["ans"].isin(allowed)]
    if len(bad):
        row = bad.iloc[0]
        raise UserError(
            f"{path}: ans {row['ans']!r} of {row['ImageID']}; allowed are whole numbers 0 to {len(allowed) - 1}"
        )


if __name__ == "__main__":
    run_cli(main)
