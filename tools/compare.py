"""Is the new run really better? Each run against the first one, on the photos that both have predicted.

    python -m tools.compare outputs/a outputs/b
    python -m tools.compare outputs/a outputs/b outputs/c --task age --json compared.json
    python -m tools.compare outputs/a outputs/b --eval

Prints for each task, and for the combined class where both have all of its tasks, macro-F1, accuracy, negative
log-likelihood (NLL, in nats) and the mean error in years of both runs, and how much more the second has, with its 95%
interval over people. The same people are drawn for both, so what is hard for both cancels out. Out of fold: only folds
that both runs have trained; runs of other crops, or of another split, are refused.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from core import files
from core.cli import UserError, command_parser, run_cli
from core.tasks import TASKS, Task, task_named, task_names
from evaluation.fold_tables import Known, known_of_eval, known_of_training
from evaluation.intervals import (
    LABELS,
    LESS_IS_BETTER,
    MEASURES,
    PeopleSums,
    difference,
    estimate,
    predictions_table,
    sum_people,
)
from evaluation.metrics import Estimate
from storage.label_corrections import training_crops
from storage.run_dir import EVAL, OOF, read_run
from tools.pairs import Pair, Runs, combine_pairs, has_tables, label_note, read_pair

OUT_OF_FOLD, EVAL_PART = "out of fold", "eval"
NOT_FOR_CHOOSING = "eval photos, not for choosing: a run that is chosen by them has no score left that can be believed"
ROUNDING = 1e-12
BETTER, WORSE, SAME = "better", "worse", "no difference can be told"


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    baseline, *others = args.runs
    asked = [task_named(name) for name in args.task or ()]
    pairs = [(baseline, run_dir) for run_dir in others]
    tasks = {runs: tasks_to_compare(runs, asked) for runs in pairs}
    notes = {runs: label_note(runs) for runs in pairs}
    compared = []
    for runs in pairs:
        record = {"run": str(runs[1]), "note": notes[runs], OUT_OF_FOLD: compare_held_out(runs, tasks[runs])}
        print(format_comparison(runs, record), flush=True)
        if args.eval:
            record[EVAL_PART] = compare_eval(runs, tasks[runs])
            print(format_eval(record[EVAL_PART], tasks[runs]), flush=True)
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


def tasks_to_compare(runs: Runs, asked: Sequence[Task]) -> list[Task]:
    """Those asked for, or else all that both have; UserError naming the run that lacks one."""
    for run_dir in runs:
        read_run(run_dir)
    for task in asked:
        for run_dir in runs:
            if not has_tables(run_dir, task, OOF):
                raise UserError(f"--task {task.name}: {run_dir} has no trained fold of it")
    tasks = [
        task
        for task in TASKS
        if (not asked or task in asked) and all(has_tables(run_dir, task, OOF) for run_dir in runs)
    ]
    if not tasks:
        raise UserError(f"{runs[0]} and {runs[1]} have no trained task in common; run train.py first")
    return tasks


def compare_held_out(runs: Runs, tasks: Sequence[Task]) -> list[dict]:
    """Each task, and the combined class: held-out people of the folds that both have."""
    run = read_run(runs[0])
    train = training_crops(runs[0], Path(run.crop_dir))
    return _compare_all(runs, OOF, [known_of_training(train, run, task) for task in tasks])


def compare_eval(runs: Runs, tasks: Sequence[Task]) -> list[dict]:
    """The same on the eval photos, for tasks of which they have labels, and predictions of both runs."""
    predicted = [task for task in tasks if all(has_tables(run_dir, task, EVAL) for run_dir in runs)]
    known = [known_of_eval(read_run(runs[0]), task) for task in predicted]
    return _compare_all(runs, EVAL, [of_task for of_task in known if of_task])


def _compare_all(runs: Runs, name: str, known: Sequence[Known]) -> list[dict]:
    pairs = {of_task.task.name: read_pair(runs, of_task, name) for of_task in known}
    combined = combine_pairs(pairs)
    return [compare(pair) for pair in (*pairs.values(), *([combined] if combined else []))]


def compare(pair: Pair) -> dict:
    """Every measure that both runs have: {"baseline", "run", "difference"}, each an estimate, and the "verdict"."""
    baseline, run = _sums(pair, 0), _sums(pair, 1)
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
        "task": pair.name,
        "unit": pair.unit,
        "folds": list(pair.folds),
        "photos": len(pair.image_ids),
        "people": len(set(pair.persons)),
        "measures": measures,
    }


def _sums(pair: Pair, side: int) -> PeopleSums:
    who = {"image_id": pair.image_ids, "person": pair.persons}
    predictions = predictions_table(who, pair.truth, pair.log_probs[side])
    num_classes = pair.log_probs.shape[2]
    return sum_people({0: predictions.assign(value_off=pair.value_errors[side])}, num_classes)


def verdict(name: str, change: Estimate) -> str:
    """In plain words, whether a measure is better or worse than the baseline's; neither if the interval holds 0."""
    if change["low"] <= ROUNDING and change["high"] >= -ROUNDING:
        return SAME
    return BETTER if (change["value"] < 0) == (name in LESS_IS_BETTER) else WORSE


def format_comparison(runs: Runs, record: Mapping) -> str:
    lines = [f"{runs[1]} against {runs[0]}", *([f"note: {record['note']}"] if record["note"] else [])]
    return "\n".join([*lines, *(format_task(OUT_OF_FOLD, of_task) for of_task in record[OUT_OF_FOLD])])


def format_eval(compared: Sequence[Mapping], tasks: Sequence[Task]) -> str:
    done = {of_task["task"] for of_task in compared}
    lacking = [task.name for task in tasks if task.name not in done]
    lines = [NOT_FOR_CHOOSING, *(format_task(EVAL_PART, of_task) for of_task in compared)]
    if lacking:
        lines.append(
            f"{', '.join(lacking)}, {EVAL_PART}: no labels, or no predictions of both runs; inference.py predicts\n"
        )
    return "\n".join(lines)


def format_task(title: str, record: Mapping) -> str:
    """A line for each measure, and one in plain words."""
    head = f"{record['task']}, {title}: {record['photos']} photos of {record['people']} people"
    lines = [f"{head}, {', '.join(record['folds'])}", f"  {'':<22}{'baseline':>10}{'run':>10}  difference"]
    for name, found in record["measures"].items():
        change = "{value:+.4f} ({low:+.4f} to {high:+.4f})".format(**found["difference"])
        cells = "".join(f"{found[whose]['value']:>10.4f}" for whose in ("baseline", "run"))
        lines.append(f"  {_title(name, record):<22}{cells}  {change}")
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
