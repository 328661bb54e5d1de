"""Recombine the tasks into submission.csv, check it, and score it wherever labels are known.

    python submission.py                                  outputs/default/submission.csv and scores.json
    python submission.py --mask outputs/a/mask.csv --gender outputs/a/gender.csv --age outputs/ab/age.csv
    python submission.py --decision shift                 for eval photos with other class priors
    python submission.py --decision auto                  the best rule that pays out of fold, else raw
    python submission.py --validate my.csv                check any CSV against the eval photos of the run

The out-of-fold score is of people whom the models were not trained on. The eval score appears if labels are at hand
(--truth, truth.csv in the data root, or the names of the re-made layout); nothing else ever reads them. Decision rules
are fitted on out-of-fold logits, and on no label of an eval photo; all of them are scored side by side, whichever is
used.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import core.environment  # noqa: F401  explains a missing package

import pandas as pd

from core import files
from core.cli import UserError, add_run_dir, command_parser, name_some, run_cli
from core.tasks import AgeEdges, combined_class_count, combined_tasks
from evaluation.calibration import calibration_record, describe_mixes, format_calibration
from evaluation.combined_class import combine_labels
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
from evaluation.logits import read_table, require_same_ids
from evaluation.results import EVAL_PHOTOS, OUT_OF_FOLD, RunResults, read_averaged_values
from evaluation.scores import (
    Labels,
    format_classes,
    format_groups,
    format_scores,
    format_values,
    most_frequent,
    score_beside_majority,
    value_errors,
)
from storage.crops import Crops, load_crops, read_faces
from storage.run_dir import Run

COLUMNS = ["ImageID", "ans"]


@dataclass(frozen=True)
class EvalLogits:
    """The eval photos that could be read, and their logits (N, C) of each combined task."""

    image_ids: Sequence[str]
    logits: Logits


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    results = RunResults(args.run_dir, args.truth)
    image_ids = submission_order(results.run)
    if args.validate:
        validate_submission(args.validate, image_ids)
        print(f"{args.validate}: valid, {len(image_ids)} rows")
        return

    tables = {task.name: getattr(args, task.name) for task in combined_tasks() if getattr(args, task.name)}
    refuse_fit_on_other_models(args.decision, args.run_dir, tables)
    readable = read_eval_logits(results, tables)
    oof = results.out_of_fold()
    trials = compare(oof) if oof and oof.has_combined_class else []
    decision = decide(args.decision, oof, trials, readable.logits)
    decided = {name: labels.tolist() for name, labels in decision.labels(readable.logits).items()}
    usual = train_labels(results.train, results.run.age_edges) if results.train.image_ids else decided
    predicted = with_unreadable(decided, readable.image_ids, image_ids, usual)
    path = args.out or args.run_dir / "submission.csv"
    is_new = write_submission(path, image_ids, predicted)
    validate_submission(path, image_ids)
    print(f"{path}: {len(image_ids)} rows, valid, decision {decision.rule}{'' if is_new else ', up to date'}")
    if decision.mixes:
        print(describe_mixes(decision.mixes, {task.name: task.classes for task in combined_tasks()}))

    report = {
        "oof": score_out_of_fold(results, oof, trials, decision.rule) if oof else None,
        "eval": score_eval(results, image_ids, predicted, usual) if results.eval_labels else None,
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
        help="; ".join(f"{rule.name}: {rule.summary}" for rule in RULES) + "; auto: the best that pays out of fold",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write (default: RUN_DIR/submission.csv)")
    parser.add_argument("--truth", type=Path, metavar="FILE", help="CSV with ImageID and ans to score against")
    parser.add_argument("--validate", type=Path, metavar="FILE", help="only check this CSV: rows, ids, range, columns")
    return parser.parse_args(argv)


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


def read_eval_logits(results: RunResults, tables: Mapping[str, Path]) -> EvalLogits:
    """Logits from `tables`, by default the run's own. UserError unless each has exactly the readable eval photos."""
    readable = load_crops(Path(results.run.crop_dir), "eval").image_ids
    logits = {}
    for task in combined_tasks():
        path = tables.get(task.name, EVAL_PHOTOS.averaged_path(results.run_dir, task))
        if not path.exists():
            raise UserError(f"{path}: no such file; run ensemble.py first, or give --{task.name}")
        table = read_table(path, task.classes)
        require_same_ids(path, table, set(readable), "the eval part")
        logits[task.name] = table.of(readable)
    return EvalLogits(readable, logits)


def decide(wanted: str, oof: OutOfFold | None, trials: Sequence[Trial], logits: Logits) -> Decision:
    """Fit the rule to use on all out-of-fold photos; UserError if there is nothing to fit the wanted one on."""
    if trials:
        return rule_named(choose(wanted, trials)).fit(oof, logits)
    if wanted not in (RAW, AUTO):
        raise UserError(f"--decision {wanted}: no out-of-fold logits to fit it on; allowed here is {RAW}")
    return Decision.raw()


def train_labels(train: Crops, age_edges: AgeEdges) -> Labels:
    return {task.name: train.labels(task, age_edges) for task in combined_tasks()}


def with_unreadable(decided: Labels, readable: Sequence[str], image_ids: Sequence[str], usual: Labels) -> Labels:
    """Labels of all eval photos from those of the readable ones; the others get the commonest of the usual labels."""
    row_of = {image_id: row for row, image_id in enumerate(readable)}
    unreadable = [image_id for image_id in image_ids if image_id not in row_of]
    if unreadable:
        print(f"{len(unreadable)} unreadable photos get the commonest labels: {name_some(unreadable)}")
    guess = {name: most_frequent(labels) for name, labels in usual.items()} if unreadable else {}
    return {
        name: [labels[row_of[image_id]] if image_id in row_of else guess[name] for image_id in image_ids]
        for name, labels in decided.items()
    }


def write_submission(path: Path, image_ids: Sequence[str], labels: Labels) -> bool:
    """Write the table; return whether it differs from the one that was there."""
    frame = pd.DataFrame({"ImageID": image_ids, "ans": combine_labels(labels)})
    if path.exists() and path.read_bytes() == frame.to_csv(index=False).encode():
        return False
    files.write_csv(path, frame)
    return True


def write_if_changed(path: Path, record: Mapping[str, object]) -> None:
    if not path.exists() or files.read_json(path) != json.loads(json.dumps(record)):
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


def score_out_of_fold(results: RunResults, oof: OutOfFold, trials: Sequence[Trial], used: str) -> dict:
    """Scores of the rule in use on people it was not fitted on, of all rules side by side, and of probabilities."""
    likeliest = {name: logits.argmax(axis=1) for name, logits in oof.logits.items()}
    decided = next((trial.labels for trial in trials if trial.rule == used), {})
    predicted = {name: labels.tolist() for name, labels in {**likeliest, **decided}.items()}
    truth = {name: labels.tolist() for name, labels in oof.labels.items()}
    facts, persons = results.train_facts, oof.persons.tolist()
    record = score_beside_majority(truth, predicted, persons, learned_from=truth, facts=facts)
    if trials:
        record["decisions"] = {"used": used, "rules": [trial.as_json() for trial in trials]}
    record["calibration"] = {
        name: calibration_record(oof.logits[name], oof.labels[name], oof.folds) for name in oof.logits
    }
    tables = read_averaged_values(results.run_dir, OUT_OF_FOLD)
    record["values"] = value_errors(tables, results.train.image_ids, facts, persons=persons, learned_from=facts)
    return record


def score_eval(results: RunResults, image_ids: Sequence[str], predicted: Labels, usual: Labels) -> dict:
    """Scores of the submission. Every eval photo counts as a person of its own."""
    known = results.eval_labels
    unknown = sorted(set(image_ids) - set(known.labels))
    if unknown:
        raise UserError(f"truth: no row for {name_some(unknown)}, which the eval part has")
    facts = [known.facts.get(image_id, {}) for image_id in image_ids]
    truth = {task.name: [known.labels[image_id][task.name] for image_id in image_ids] for task in combined_tasks()}
    record = score_beside_majority(truth, predicted, image_ids, learned_from=usual, facts=facts)
    tables = read_averaged_values(results.run_dir, EVAL_PHOTOS)
    record["values"] = value_errors(tables, image_ids, facts, persons=image_ids, learned_from=results.train_facts)
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
