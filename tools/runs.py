"""Compare the runs in a folder: what is trained, how it scores, and in which settings they differ.

    python -m tools.runs list
    python -m tools.runs list --outputs outputs --json

Result: a table of runs, the newest first, with macro-F1 and its 95% interval over people, out of fold and, where the
labels are known, on the eval photos; or the same as JSON. submission.py makes the scores.
"""

if not __package__:
    raise SystemExit("run this as a module: python -m tools.runs")

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from core import files
from core.cli import UserError, command_parser, run_cli
from core.tasks import combined_class_count, task_names
from evaluation.metrics import format_estimate
from evaluation.run_scores import read_scores, scores_path
from storage.run_dir import CONFIG, DONE, finished_folds, read_config_of, read_run, run_path

NOTHING = "-"
PARTS = {"oof": "out of fold", "eval": "eval"}


@dataclass(frozen=True)
class RunRecord:
    """A run as JSON has it. `settings` by task and name, of training and of ensemble.py; `scores` as in scores.json.

    Scores of runs with another `train_hash` are of other training crops, and cannot be compared.
    """

    name: str
    changed: str
    data_root: str
    train_hash: str
    folds: int
    folds_done: dict[str, int]
    settings: dict[str, dict[str, Any]]
    averages: dict[str, dict[str, Any]]
    scores: dict[str, Any]


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    records, damaged = read_records(args.outputs)
    if args.json:
        listed = [
            asdict(record) | {"differs": differs} for record, differs in zip(records, differences(records), strict=True)
        ]
        print(json.dumps({"runs": listed, "damaged": damaged}, indent=2, ensure_ascii=False))
        return
    print(format_runs(records))
    for message in damaged:
        print(f"cannot be read: {message}")


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("action", choices=["list"], help="what to do")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="folder of the runs")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return parser.parse_args(argv)


def read_records(outputs: Path) -> tuple[list[RunRecord], list[str]]:
    """The runs of a folder, the newest first, and why others cannot be read. UserError if there is none."""
    run_dirs = sorted(path.parent for path in outputs.glob("*/run.json"))
    if not run_dirs:
        raise UserError(f"--outputs {outputs}: no run in it; run train.py first")
    records, damaged = [], []
    for run_dir in run_dirs:
        try:
            records.append(read_record(run_dir))
        except UserError as error:
            damaged.append(str(error))
    return sorted(records, key=lambda record: record.changed, reverse=True), damaged


def read_record(run_dir: Path) -> RunRecord:
    run = read_run(run_dir)
    done = {name: finished_folds(run_dir / name) for name in task_names()}
    settings = {name: settings_of(run_dir / name) for name in task_names()}
    stamps = {name: run_dir / f"{name}.json" for name in task_names()}
    markers = [folder / DONE for folders in done.values() for folder in folders]
    newest = max(path.stat().st_mtime for path in (run_path(run_dir), scores_path(run_dir), *markers) if path.exists())
    return RunRecord(
        run_dir.name,
        datetime.fromtimestamp(newest).isoformat(" ", "minutes"),
        run.data_root,
        run.train_hash,
        run.folds,
        {name: len(folders) for name, folders in done.items() if folders},
        {name: values for name, values in settings.items() if values},
        {name: {"average": files.read_json(path).get("average")} for name, path in stamps.items() if path.exists()},
        read_scores(run_dir),
    )


def settings_of(task_dir: Path) -> dict[str, Any]:
    """Settings that a task is trained with; empty where no fold of it was begun."""
    configs = sorted(task_dir.glob(f"fold*/{CONFIG}"))
    return read_config_of(configs[0].parent, task_dir.name)["settings"] if configs else {}


def differences(records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """For each run the settings that not all runs share: by name where its tasks agree, else by task.name.

    A run without a task, or that only averages others, has nothing to differ in there.
    """
    found: list[dict[str, Any]] = [{} for _ in records]
    for layer in ([record.settings for record in records], [record.averages for record in records]):
        for name in dict.fromkeys(name for of_run in layer for of_task in of_run.values() for name in of_task):
            values = {task: [of_run[task].get(name) for of_run in layer if task in of_run] for task in task_names()}
            differing = [task for task in values if not _agree(values[task])]
            for of_run, shown in zip(layer, found, strict=True):
                shown |= _shortened(name, {task: of_run[task].get(name) for task in of_run}, differing)
    return found


def _agree(values: Sequence[Any]) -> bool:
    return all(value == values[0] for value in values)


def _shortened(name: str, value_of: Mapping[str, Any], differing: Sequence[str]) -> dict[str, Any]:
    shown = {task: value for task, value in value_of.items() if task in differing}
    if shown and len(shown) == len(value_of) and _agree(list(shown.values())):
        return {name: next(iter(shown.values()))}
    return {f"{task}.{name}": value for task, value in shown.items()}


def format_runs(records: Sequence[RunRecord]) -> str:
    """A table of what is trained, one of scores for each part that has them, and the settings that differ."""
    trained = [
        {
            **{"run": record.name, "last change": record.changed},
            **{name: _progress(record, name) for name in task_names()},
            **{"training crops": record.train_hash},
        }
        for record in records
    ]
    blocks = [f"folds trained\n{format_table(trained)}"]
    for part, title in PARTS.items():
        rows = [
            {"run": record.name, **_scores_of(record.scores[part])} for record in records if record.scores.get(part)
        ]
        if rows:
            blocks.append(f"macro-F1 {title}\n{format_table(rows)}")
    texts = [", ".join(f"{name} {value}" for name, value in of_run.items()) for of_run in differences(records)]
    if any(texts):
        rows = [{"run": record.name, "": text or NOTHING} for record, text in zip(records, texts, strict=True)]
        blocks.append(f"settings that differ\n{format_table(rows)}")
    return "\n\n".join(blocks)


def _progress(record: RunRecord, task: str) -> str:
    return f"{record.folds_done.get(task, 0)}/{record.folds}" if record.folds_done.get(task) else NOTHING


def _scores_of(part: Mapping[str, Any]) -> dict[str, str]:
    """Macro-F1 of the combined class and of each task, and the mean error of tasks that give a number."""
    model = part["model"]
    found = {f"{combined_class_count()} classes": model["combined"]} if "combined" in model else {}
    found |= model["tasks"]
    cells = {name: format_estimate(entry["macro_f1"]) for name, entry in found.items()}
    errors = {f"{name} off by": entry for name, entry in part.get("values", {}).items()}
    return cells | {
        name: f"{format_estimate(entry['mean_absolute_error'], digits=2)} {entry['unit']}"
        for name, entry in errors.items()
    }


def format_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows as aligned text; a cell that a row has not got is NOTHING."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, *([row.get(name, NOTHING) for name in names] for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(names))]
    return "\n".join(
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


if __name__ == "__main__":
    run_cli(main)
