"""Average the folds (and runs) of each task into one logit table.

    python ensemble.py                                                        every trained task of outputs/default
    python ensemble.py --age outputs/a/age outputs/b/age --run-dir outputs/ab     several runs of a task
    python ensemble.py --folds 0 1                                            some folds; "trained": those there are

Writes <run-dir>/<task>.csv for the eval photos and <run-dir>/<task>_oof.csv for the training photos, each of which is
predicted only by models that were not trained on its person. Without eval photos there is the latter alone. Several
folders of a task must have the same folds. Where a task learned values (age: years), they are averaged too, into
<task>_years.csv and <task>_oof_years.csv.
"""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from core import files
from core.cli import UserError, add_run_dir, command_parser, counted, run_cli
from core.locks import holding
from core.tasks import Task, task_named, task_names
from evaluation.calibration import fit_temperature
from evaluation.logits import (
    AVERAGES,
    DEFAULT_AVERAGE,
    EVAL_PHOTOS,
    OUT_OF_FOLD,
    LogitTable,
    average_tables,
    make_table,
    write_table,
)
from evaluation.results import RunResults, averaged_stamp_path
from evaluation.task_folders import TRAINED, FolderTables, TaskFolder, is_usable, read_task_folder, refuse_disagreement
from storage.folds import folds_path, refuse_other_folds
from storage.label_corrections import corrections_path
from storage.run_dir import (
    DIGESTS,
    begin_run,
    read_run,
)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    given = {name: getattr(args, name) for name in task_names() if getattr(args, name)}
    task_dirs = given or find_task_dirs(args.run_dir)
    with holding(args.run_dir, "--run-dir"):
        members = {
            task: [read_task_folder(folder, task, args.folds) for folder in task_dirs[task]] for task in task_dirs
        }
        refuse_disagreement([member for of_task in members.values() for member in of_task])
        temperatures = {
            task: [fitted_temperature(task_named(task), member) if args.calibrate else 1.0 for member in of_task]
            for task, of_task in members.items()
        }
        open_run(args.run_dir, next(iter(task_dirs.values()))[0].parent)
        first = next(iter(members.values()))[0]
        refuse_other_folds(args.run_dir, first.identity["folds_hash"], first.folder)
        for task, of_task in members.items():
            ensemble_task(args.run_dir, task, of_task, average=args.average, temperatures=temperatures[task])


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    for name in task_names():
        parser.add_argument(f"--{name}", type=Path, nargs="+", metavar="DIR", help=f"folders of {name} folds")
    add_run_dir(parser)
    parser.add_argument(
        "--folds", nargs="+", type=fold_number, metavar="K", help=f"folds to average, or {TRAINED} (default: all)"
    )
    parser.add_argument(
        "--average",
        choices=list(AVERAGES),
        default=DEFAULT_AVERAGE,
        help="logit: mean of the logits; log_prob: logarithm of the mean probability",
    )
    parser.add_argument(
        "--calibrate",
        action="store_true",
        help="scale each folder's logits first, by the temperature that fits its out-of-fold logits best",
    )
    return parser.parse_args(argv)


def fold_number(text: str) -> int | str:
    """Parse a value of --folds: a number, or the word for all that are trained."""
    return TRAINED if text == TRAINED else int(text)


def find_task_dirs(run_dir: Path) -> dict[str, list[Path]]:
    """Folders of every task that is trained or predicted in the run. UserError if there is none."""
    found = {name: [run_dir / name] for name in task_names() if any(map(is_usable, (run_dir / name).glob("fold*")))}
    if not found:
        raise UserError(f"run folder {run_dir}: no trained task in it; run train.py and inference.py first")
    return found


def open_run(run_dir: Path, made_from: Path) -> None:
    """Begin the run folder, or refuse it, and copy the folds and label corrections of the run it is made from."""
    begin_run(run_dir, read_run(made_from))
    for path_in in (folds_path, corrections_path):
        source, target = path_in(made_from), path_in(run_dir)
        if source.exists() and not target.exists():
            files.write_text(target, source.read_text(encoding="utf-8"))


def fitted_temperature(task: Task, member: TaskFolder) -> float:
    """The temperature of greatest likelihood on the out-of-fold logits of a folder."""
    if member.logits.oof is None:
        raise UserError(f"--calibrate: {member.folder} has no out-of-fold logits to fit a temperature on")
    results = RunResults(member.folder.parent)
    results.refuse_other_labels()
    label_of = dict(zip(results.train.image_ids, results.train_labels(task), strict=True))
    predicted = set(member.logits.oof.image_ids)
    image_ids = [image_id for image_id in label_of if image_id in predicted]
    return fit_temperature(member.logits.oof.of(image_ids), [label_of[image_id] for image_id in image_ids])


def ensemble_task(
    run_dir: Path, task_name: str, members: Sequence[TaskFolder], *, average: str, temperatures: Sequence[float]
) -> None:
    """Write <task>.csv and <task>_oof.csv, unless those that are there were made from the same tables."""
    task = task_named(task_name)
    sources = {str(path): files.file_sha256(path) for member in members for path in member.sources}
    stamp = {"average": average, "temperatures": list(temperatures), "made_from": sources}
    stamp |= {name: members[0].identity[name] for name in ("data_hash", "folds_hash")}
    stamp |= {"crops_hash": members[0].crops, "age_edges": members[0].identity["settings"].get("age_edges")}
    part = EVAL_PHOTOS if members[0].logits.folds else OUT_OF_FOLD
    stamp_path, table_path = averaged_stamp_path(run_dir, task), part.averaged_path(run_dir, task)
    there = [path for path in averaged_paths(run_dir, task) if path.exists()]
    if table_path.exists() and files.holds_json(stamp_path, stamp | _digests(there)):
        print(f"{task.name}: {table_path} is up to date")
        return
    # Tables of other members must not stay. The eval logits come last: where they are, all is.
    for path in (stamp_path, *there):
        path.unlink(missing_ok=True)
    values = [member.values for member in members if member.values]
    if len(values) == len(members):
        write_averages(run_dir, task, values, average="logit", value=task.value.name)
    scaled = [_divided(member.logits, by) for member, by in zip(members, temperatures, strict=True)]
    write_averages(run_dir, task, scaled, average=average)
    files.write_json(stamp_path, stamp | _digests(path for path in averaged_paths(run_dir, task) if path.exists()))
    models = sum(member.models for member in members)
    divided = f" after temperatures {', '.join(f'{by:.2f}' for by in temperatures)}" if set(temperatures) != {1} else ""
    print(f"{task.name}: {counted(models, 'model')} averaged by {average}{divided} into {table_path}")


def write_averages(
    run_dir: Path, task: Task, folders: Sequence[FolderTables], *, average: str, value: str = ""
) -> None:
    """The mean over all folds for the eval photos, and over the folders for the out-of-fold ones."""
    oof = [folder.oof for folder in folders]
    if all(oof):
        write_table(OUT_OF_FOLD.averaged_path(run_dir, task, value), average_tables(oof, average))
    folds = [table for folder in folders for table in folder.folds]
    if folds:
        write_table(EVAL_PHOTOS.averaged_path(run_dir, task, value), average_tables(folds, average))


def averaged_paths(run_dir: Path, task: Task) -> list[Path]:
    """Return the paths of all averaged tables that a task may have."""
    values = ["", task.value.name] if task.value else [""]
    return [part.averaged_path(run_dir, task, value) for value in values for part in (EVAL_PHOTOS, OUT_OF_FOLD)]


def _digests(paths: Iterable[Path]) -> dict[str, dict[str, str]]:
    return {DIGESTS: {path.name: files.file_sha256(path) for path in paths}}


def _divided(tables: FolderTables, by: float) -> FolderTables:
    def scale(table: LogitTable) -> LogitTable:
        return make_table(table.image_ids, table.classes, table.logits / by)

    return replace(tables, folds=tuple(map(scale, tables.folds)), oof=scale(tables.oof) if tables.oof else None)


if __name__ == "__main__":
    run_cli(main)
