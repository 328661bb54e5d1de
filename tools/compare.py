"""Compare runs: each with the first, on the photos that both have predicted.

    python -m tools.compare outputs/a outputs/b
    python -m tools.compare outputs/a outputs/b outputs/c --task age --json compared.json
    python -m tools.compare outputs/a outputs/b --eval

Prints for each task, and for the combined class where both have all of its tasks, macro-F1, accuracy, negative
log-likelihood (NLL, in nats) and the mean error in years of both runs, and the difference with its 95% interval over
people. The same people are drawn for both, so what is hard for both cancels out. Out of fold: only folds that both runs
have trained; runs of other crops, or of another split, are refused, wherever their folders lie.
"""

if not __package__:
    raise SystemExit("run this as a module: python -m tools.compare")

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import core.environment  # noqa: F401  explains a missing package

import numpy as np

from core import files
from core.cli import UserError, command_parser, run_cli
from core.tasks import TASKS, Task, task_named, task_names
from evaluation.logits import EVAL_PHOTOS, OUT_OF_FOLD, Part
from evaluation.metrics import (
    LABELS,
    LESS_IS_BETTER,
    MEASURES,
    Estimate,
    difference,
    estimate,
    format_difference,
    sum_people,
)
from evaluation.predictions import TaskPredictions, combine_predictions
from evaluation.results import RunResults, fold_paths, read_fold_tables
from storage.crops import load_crops
from storage.label_corrections import corrections_path
from storage.run_dir import read_config, read_run

NOT_FOR_SELECTION = "eval scores: do not select a run by them"
ROUNDING = 1e-12
BETTER, WORSE, SAME = "better", "worse", "no difference can be told"
RunPair = tuple[Path, Path]
"""Folders of the baseline and of the run that is compared with it."""


@dataclass(frozen=True)
class Pair:
    """Predictions of the same photos by two runs. `folds` are those that both have."""

    folds: tuple[str, ...]
    baseline: TaskPredictions
    run: TaskPredictions


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    baseline, *others = args.runs
    asked = [task_named(name) for name in args.task or ()]
    pairs = [(baseline, run_dir) for run_dir in others]
    tasks = {runs: tasks_to_compare(runs, asked) for runs in pairs}
    notes = {runs: label_note(runs) for runs in pairs}
    compared = []
    for runs in pairs:
        record = {
            "run": str(runs[1]),
            "note": notes[runs],
            OUT_OF_FOLD.title: compare_part(runs, tasks[runs], OUT_OF_FOLD),
        }
        print(format_comparison(runs, record), flush=True)
        if args.eval:
            record[EVAL_PHOTOS.title] = compare_part(runs, tasks[runs], EVAL_PHOTOS)
            print(format_eval(record[EVAL_PHOTOS.title], tasks[runs]), flush=True)
        compared.append(record)
    if args.json:
        files.write_json(args.json, {"baseline": str(baseline), "compared": compared})


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN_DIR", help="run folders, the baseline first")
    parser.add_argument("--task", nargs="+", choices=task_names(), help="tasks to compare (default: all both have)")
    parser.add_argument("--eval", action="store_true", help="compare on the eval photos too, where labels are known")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the comparison here too")
    args = parser.parse_args(argv)
    if len(args.runs) < 2:
        raise UserError(f"{args.runs[0]}: one run alone; give the baseline and at least one run to compare with it")
    return args


def tasks_to_compare(runs: RunPair, asked: Sequence[Task]) -> list[Task]:
    """Those asked for, or else all that both have; UserError naming the run that lacks one."""
    for run_dir in runs:
        read_run(run_dir)
    for task in asked:
        for run_dir in runs:
            if not fold_paths(run_dir, task, OUT_OF_FOLD):
                raise UserError(f"--task {task.name}: {run_dir} has no trained fold of it")
    tasks = [
        task
        for task in TASKS
        if (not asked or task in asked) and all(fold_paths(run_dir, task, OUT_OF_FOLD) for run_dir in runs)
    ]
    if not tasks:
        raise UserError(f"{runs[0]} and {runs[1]} have no trained task in common; run train.py first")
    return tasks


def label_note(runs: RunPair) -> str:
    """A remark where two runs have different label corrections, else nothing.

    UserError naming what differs if they learned from other crops or other age groups.
    """
    baseline, other = (read_run(run_dir) for run_dir in runs)
    if baseline.age_edges != other.age_edges:
        _refuse(runs, "age groups that begin at", baseline.age_edges, other.age_edges)
    if baseline.train_hash == other.train_hash:
        return ""
    fixes = [path.read_bytes() if path.exists() else b"" for path in map(corrections_path, runs)]
    if fixes[0] == fixes[1] or len({load_crops(Path(run.crop_dir), "train").hash for run in (baseline, other)}) > 1:
        _refuse(runs, "training crops of hash", baseline.train_hash, other.train_hash)
    return f"{runs[1]} learned from other label corrections than {runs[0]}; both are scored on the labels of {runs[0]}"


def _refuse(runs: RunPair, what: str, baseline: object, other: object) -> None:
    raise UserError(f"{runs[1]} has {what} {other}, {runs[0]} {baseline}; only runs of the same can be compared")


def compare_part(runs: RunPair, tasks: Sequence[Task], part: Part) -> list[dict]:
    """Measures of each task and of the combined class; of eval photos for tasks with labels and tables of both runs."""
    results = RunResults(runs[0])
    pairs: dict[str, Pair] = {}
    for task in tasks:
        is_known = part is OUT_OF_FOLD or results.labels(part, task) is not None
        if is_known and all(fold_paths(run_dir, task, part) for run_dir in runs):
            pairs[task.name] = read_pair(results, runs, task, part)
    combined = combine_pairs(pairs)
    return [measure_pair(pair) for pair in (*pairs.values(), *([combined] if combined else []))]


def read_pair(results: RunResults, runs: RunPair, task: Task, part: Part) -> Pair:
    """Predictions of both runs with the baseline's labels. UserError for runs without a common fold or photo."""
    paths = [{path.parent.name: path for path in fold_paths(run_dir, task, part)} for run_dir in runs]
    folds = sorted(paths[0].keys() & paths[1].keys(), key=lambda fold: (len(fold), fold))
    if not folds:
        found = (f"{run_dir} has {', '.join(of_run)}" for run_dir, of_run in zip(runs, paths, strict=True))
        raise UserError(f"{task.name}: no fold is in both runs: {'; '.join(found)}")
    for fold in folds:
        _refuse_other_photos(runs, paths[0][fold], paths[1][fold])
    tables = [read_fold_tables(run_dir, task, part, folds) for run_dir in runs]
    image_ids = sorted(set(tables[0].logits.image_ids) & set(tables[1].logits.image_ids))
    baseline, run = (results.predictions(part, task, of_run, image_ids).labelled for of_run in tables)
    if not baseline.image_ids:
        raise UserError(f"{task.name}: {runs[0]} and {runs[1]} have predicted no photo with a label in common")
    # Only values that both runs have can be compared.
    lacking = np.isnan(baseline.value_off) | np.isnan(run.value_off)
    sides = (replace(side, value_off=np.where(lacking, np.nan, side.value_off)) for side in (baseline, run))
    return Pair(tuple(folds), *sides)


def _refuse_other_photos(runs: RunPair, *paths: Path) -> None:
    """UserError for tables of another split, or of eval crops that are not the same."""
    splits = [read_config(path.parent)["folds_hash"] for path in paths]
    if splits[0] != splits[1]:
        _refuse(runs, "folds of hash", *splits)
    stamps = [path.with_suffix(".json") for path in paths]
    made_from = [files.read_json(path).get("crops_hash") for path in stamps if path.exists()]
    if len(set(made_from)) > 1:
        _refuse(runs, "eval crops of hash", *made_from)


def combine_pairs(pairs: Mapping[str, Pair]) -> Pair | None:
    """The combined class where all of its tasks are there, of the photos that all of them have."""
    baseline = combine_predictions({name: pair.baseline for name, pair in pairs.items()})
    run = combine_predictions({name: pair.run for name, pair in pairs.items()})
    if baseline is None or run is None:
        return None
    of_tasks = [pair for name, pair in pairs.items() if task_named(name).in_combined_class]
    return Pair(
        tuple(fold for fold in of_tasks[0].folds if all(fold in pair.folds for pair in of_tasks)), baseline, run
    )


def measure_pair(pair: Pair) -> dict:
    """Every measure that both runs have: {"baseline", "run", "difference"}, each an estimate, and the "verdict"."""
    task = pair.baseline.task
    baseline, run = (sum_people({0: side.table()}, len(task.classes)) for side in (pair.baseline, pair.run))
    measures = {}
    for name in MEASURES:
        found = {
            "baseline": estimate(baseline, name),
            "run": estimate(run, name),
            "difference": difference(run, baseline, name),
        }
        if all(math.isfinite(number) for of_one in found.values() for number in of_one.values()):
            measures[name] = {**found, "verdict": verdict(name, found["difference"])}
    return {
        "task": task.name,
        "unit": task.value.name if task.value else None,
        "folds": list(pair.folds),
        "photos": len(pair.baseline.image_ids),
        "people": len(set(pair.baseline.persons)),
        "measures": measures,
    }


def verdict(name: str, change: Estimate) -> str:
    """In plain words, whether a measure is better or worse than the baseline's; neither if the interval holds 0."""
    if change["low"] <= ROUNDING and change["high"] >= -ROUNDING:
        return SAME
    return BETTER if (change["value"] < 0) == (name in LESS_IS_BETTER) else WORSE


def format_comparison(runs: RunPair, record: Mapping) -> str:
    lines = [f"{runs[1]} against {runs[0]}", *([f"note: {record['note']}"] if record["note"] else [])]
    return "\n".join([*lines, *(format_task(OUT_OF_FOLD.title, of_task) for of_task in record[OUT_OF_FOLD.title])])


def format_eval(compared: Sequence[Mapping], tasks: Sequence[Task]) -> str:
    done = {of_task["task"] for of_task in compared}
    lacking = [task.name for task in tasks if task.name not in done]
    lines = [NOT_FOR_SELECTION, *(format_task(EVAL_PHOTOS.title, of_task) for of_task in compared)]
    if lacking:
        reason = "no labels, or no predictions of both runs; inference.py predicts"
        lines.append(f"{', '.join(lacking)}, {EVAL_PHOTOS.title}: {reason}\n")
    return "\n".join(lines)


def format_task(title: str, record: Mapping) -> str:
    """A line for each measure, and one in plain words."""
    head = f"{record['task']}, {title}: {record['photos']} photos of {record['people']} people"
    lines = [f"{head}, {', '.join(record['folds'])}", f"  {'':<22}{'baseline':>10}{'run':>10}  difference"]
    for name, found in record["measures"].items():
        cells = "".join(f"{found[whose]['value']:>10.4f}" for whose in ("baseline", "run"))
        lines.append(f"  {_title(name, record):<22}{cells}  {format_difference(found['difference'])}")
    return "\n".join([*lines, f"  {in_words(record)}", ""])


def in_words(record: Mapping) -> str:
    """'no difference can be told', or 'better in NLL; no difference can be told in macro-F1, accuracy'."""
    names: dict[str, list[str]] = {BETTER: [], WORSE: [], SAME: []}
    for name, found in record["measures"].items():
        names[found["verdict"]].append(_title(name, record))
    if not names[BETTER] and not names[WORSE]:
        return SAME
    return "; ".join(f"{words} in {', '.join(of_words)}" for words, of_words in names.items() if of_words)


def _title(name: str, record: Mapping) -> str:
    return f"{LABELS[name]} in {record['unit']}" if name == "mae" else LABELS[name]


if __name__ == "__main__":
    run_cli(main)
