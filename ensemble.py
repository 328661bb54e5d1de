"""Average the folds (and runs) of each task into one logit table.

    python ensemble.py                                                        every trained task of outputs/default
    python ensemble.py --age outputs/a/age outputs/b/age --run-dir outputs/ab     several runs of a task
    python ensemble.py --folds 0 1                                            some folds; "trained": those there are

Writes <run-dir>/<task>.csv for the eval photos and <run-dir>/<task>_oof.csv for the training photos, each of which is
predicted only by models that were not trained on its person. Without eval photos there is the latter alone. Several
folders of a task must have the same folds. Where
a task learned values (age: years), they are averaged too, into <task>_years.csv and <task>_oof_years.csv.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from core import files
from core.cli import UserError, add_run_dir, command_parser, name_some, run_cli
from core.locks import holding
from core.tasks import Task, task_named, task_names
from evaluation.calibration import fit_temperature
from evaluation.logits import (
    AVERAGES,
    DEFAULT_AVERAGE,
    LogitTable,
    average_tables,
    join_out_of_fold,
    make_table,
    read_table,
    require_same_ids,
    write_table,
)
from evaluation.results import EVAL_PHOTOS, OUT_OF_FOLD, RunResults, averaged_stamp_path, refuse_changed_fold
from storage.crops import load_crops
from storage.folds import folds_path, refuse_other_folds
from storage.label_corrections import corrections_path
from storage.run_dir import (
    CONFIG,
    DIGESTS,
    DONE,
    EVAL,
    EVAL_STAMP,
    begin_run,
    first_difference,
    read_config_of,
    read_run,
    read_stamp,
    run_dir_of,
    run_path,
)

TRAINED = "trained"
PARTS = (EVAL_PHOTOS, OUT_OF_FOLD)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    given = {name: getattr(args, name) for name in task_names() if getattr(args, name)}
    task_dirs = given or find_task_dirs(args.run_dir)
    with holding(args.run_dir, "--run-dir"):
        members = {
            task: [read_task_folder(folder, task, args.folds) for folder in task_dirs[task]] for task in task_dirs
        }
        refuse_disagreement([member for of_task in members.values() for member in of_task])
        temperatures = {task: temperatures_of(task, of_task, args.calibrate) for task, of_task in members.items()}
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
    found = {name: [run_dir / name] for name in task_names() if has_results(run_dir / name)}
    if not found:
        raise UserError(f"run folder {run_dir}: no trained task in it; run train.py and inference.py first")
    return found


def has_results(task_dir: Path) -> bool:
    """True if a fold is trained here, or, in a folder of predictions for other photos, predicted."""
    return any(map(is_usable, task_dir.glob("fold*")))


def open_run(run_dir: Path, made_from: Path) -> None:
    """Begin the run folder, or refuse it, and copy the folds and label corrections of the run it is made from."""
    begin_run(run_dir, read_run(made_from))
    for path_in in (folds_path, corrections_path):
        source, target = path_in(made_from), path_in(run_dir)
        if source.exists() and not target.exists():
            files.write_text(target, source.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class FolderTables:
    """Tables of a task folder: of each fold for the eval photos, and one of all out-of-fold photos if there is one.

    `folds` is empty where there are no eval photos.
    """

    folds: tuple[LogitTable, ...]
    oof: LogitTable | None
    sources: tuple[Path, ...]


@dataclass(frozen=True)
class TaskFolder:
    """A folder with the folds of a task: its logits, and its expected values if the task learned them.

    `crops` is the hash of the eval crops that were predicted, empty where that is not known.
    """

    folder: Path
    identity: dict
    logits: FolderTables
    values: FolderTables | None
    models: int
    crops: str = ""

    @property
    def sources(self) -> tuple[Path, ...]:
        return self.logits.sources + (self.values.sources if self.values else ())


def read_task_folder(folder: Path, task_name: str, folds: Sequence[int | str] | None = None) -> TaskFolder:
    """Read these folds, by default all. UserError if one is missing, of another task, or of other folds or photos."""
    task = task_named(task_name)
    fold_dirs = chosen_folds(folder, task_name, folds)
    first = read_config_of(fold_dirs[0], task_name)
    for fold_dir in fold_dirs[1:]:
        _refuse_other_fold(fold_dir, read_config_of(fold_dir, task_name), fold_dirs[0].name, first)
    values = None
    if task.value and any(
        part.fold_path(fold_dir, task.value.name).exists() for fold_dir in fold_dirs for part in PARTS
    ):
        values = read_tables(fold_dirs, (task.value.name,), task.value.name)
    crops = sorted({read_stamp(fold_dir / EVAL_STAMP).get("crops_hash", "") for fold_dir in fold_dirs} - {""})
    if len(crops) > 1:
        raise UserError(f"{folder}: its folds predict different eval crops; run inference.py again")
    return TaskFolder(folder, first, read_tables(fold_dirs, task.classes), values, len(fold_dirs), *crops)


def chosen_folds(folder: Path, task_name: str, folds: Sequence[int | str] | None) -> list[Path]:
    """Return the folders of these folds, by default of all. UserError naming those that are not there."""
    there = {int(path.name[4:]): path for path in folder.glob("fold*") if is_usable(path)}
    if not there:
        raise UserError(f"{folder}: no trained fold in it; run train.py --task {folder.name}")
    any_fold = next(iter(there.values()))
    settings = read_config_of(any_fold, task_name)["settings"]
    files.require_entries(f"{any_fold / CONFIG}: settings", settings, {"folds": int})
    total = settings["folds"]
    wanted = sorted(there) if folds and TRAINED in folds else sorted(set(folds or range(total)))
    lacking = [f"fold{fold}" for fold in wanted if fold not in there]
    if lacking:
        some = "" if folds else f", or average those there are by --folds {' '.join(map(str, sorted(there)))}"
        verb = "is" if len(lacking) == 1 else "are"
        raise UserError(f"{folder}: {name_some(lacking)} {verb} not trained; run train.py --task {folder.name}{some}")
    if len(wanted) < total:
        print(f"{task_name}: {len(wanted)} of {total} folds, {name_some([f'fold{fold}' for fold in wanted])}")
    return [there[fold] for fold in wanted]


def is_usable(fold_dir: Path) -> bool:
    """True for a fold that is trained, or, in a folder of predictions for other photos, predicted."""
    has_table = (fold_dir / DONE).exists() or (fold_dir / EVAL).exists()
    return fold_dir.name[4:].isdigit() and (fold_dir / CONFIG).exists() and has_table


def read_tables(fold_dirs: Sequence[Path], columns: Sequence[str], value: str = "") -> FolderTables:
    """Logits of all folds, or values of that name; UserError if a table is missing or is not of the same photos."""
    eval_paths = [EVAL_PHOTOS.fold_path(fold_dir, value) for fold_dir in fold_dirs]
    if any(path.exists() for path in eval_paths) or has_eval_photos(run_dir_of(fold_dirs[0])):
        eval_paths = [_made_by(path, "inference.py") for path in eval_paths]
    else:
        eval_paths = []
    for fold_dir in fold_dirs:
        for part in PARTS:
            refuse_changed_fold(fold_dir, part)
    tables = [read_table(path, columns) for path in eval_paths]
    for path, table in zip(eval_paths, tables, strict=True):
        require_same_ids(path, table, set(tables[0].image_ids), fold_dirs[0].name)
    oof_paths = [OUT_OF_FOLD.fold_path(fold_dir, value) for fold_dir in fold_dirs]
    # Predictions for another data set have no out-of-fold part; a run that lost one fold's is refused here.
    oof_paths = [_made_by(path, "train.py") for path in oof_paths] if any(path.exists() for path in oof_paths) else []
    oof = join_out_of_fold({path: read_table(path, columns) for path in oof_paths}) if oof_paths else None
    return FolderTables(tuple(tables), oof, tuple(eval_paths + oof_paths))


def has_eval_photos(run_dir: Path) -> bool:
    return bool(load_crops(Path(read_run(run_dir).crop_dir), "eval").image_ids)


def refuse_disagreement(members: Sequence[TaskFolder]) -> None:
    """UserError unless all folders come from the same photos, folds and eval photos."""
    first = members[0]
    for member in members:
        run_dir, identity = member.folder.parent, member.identity
        if identity["data_hash"] != read_run(run_dir).train_hash:
            raise UserError(f"{member.folder}: trained with other photos or labels than {run_path(run_dir)} says")
        refuse_other_folds(run_dir, identity["folds_hash"], member.folder)
        if member.crops != first.crops:
            raise UserError(f"{member.folder}: predicts other eval crops than {first.folder}; run inference.py again")
    for member in members[1:]:
        for name, what in (("data_hash", "training photos"), ("folds_hash", "folds")):
            if member.identity[name] != first.identity[name]:
                raise UserError(
                    f"{member.folder}: trained with other {what} than {first.folder}; they cannot be averaged"
                )
        here, there = member.logits, first.logits
        if here.folds and there.folds:
            require_same_ids(member.folder, here.folds[0], set(there.folds[0].image_ids), str(first.folder))
        of_task = next(other for other in members if other.identity["task"] == member.identity["task"])
        if here.oof and of_task.logits.oof:
            require_same_ids(member.folder, here.oof, set(of_task.logits.oof.image_ids), str(of_task.folder))


def temperatures_of(task_name: str, members: Sequence[TaskFolder], calibrate: bool) -> list[float]:
    """A temperature for each folder: 1, or the one of greatest likelihood on its out-of-fold logits."""
    return [_fit_temperature(task_named(task_name), member) if calibrate else 1.0 for member in members]


def _fit_temperature(task: Task, member: TaskFolder) -> float:
    if member.logits.oof is None:
        raise UserError(f"--calibrate: {member.folder} has no out-of-fold logits to fit a temperature on")
    results = RunResults(member.folder.parent)
    results.refuse_other_labels()
    label_of = dict(zip(results.train.image_ids, results.train_labels(task), strict=True))
    image_ids = [image_id for image_id in label_of if image_id in set(member.logits.oof.image_ids)]
    return fit_temperature(member.logits.oof.of(image_ids), [label_of[image_id] for image_id in image_ids])


def ensemble_task(
    run_dir: Path, task_name: str, members: Sequence[TaskFolder], *, average: str, temperatures: Sequence[float]
) -> None:
    """Write <task>.csv and <task>_oof.csv, unless those that are there were made from the same tables."""
    task = task_named(task_name)
    stamp = {"average": average, "temperatures": list(temperatures), "made_from": _sources(members)}
    stamp |= {name: members[0].identity[name] for name in ("data_hash", "folds_hash")}
    stamp |= {"crops_hash": members[0].crops}
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
    print(f"{task.name}: {models} models averaged by {average}{divided} into {table_path}")


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
    return [part.averaged_path(run_dir, task, value) for value in values for part in PARTS]


def _digests(paths: Iterable[Path]) -> dict[str, dict[str, str]]:
    return {DIGESTS: {path.name: files.file_sha256(path) for path in paths}}


def _divided(tables: FolderTables, by: float) -> FolderTables:
    def scale(table: LogitTable) -> LogitTable:
        return make_table(table.image_ids, table.classes, table.logits / by)

    return replace(tables, folds=tuple(map(scale, tables.folds)), oof=scale(tables.oof) if tables.oof else None)


def _sources(members: Sequence[TaskFolder]) -> Mapping[str, str]:
    return {str(path): files.file_sha256(path) for member in members for path in member.sources}


def _refuse_other_fold(fold_dir: Path, config: dict, first_name: str, first: dict) -> None:
    difference = first_difference({**first, "fold": config["fold"]}, config)
    if difference:
        name, of_first, here = difference
        raise UserError(
            f"{fold_dir}: trained with {name} {here!r}, {first_name} with {of_first!r}; folds of a task must agree"
        )


def _made_by(path: Path, command: str) -> Path:
    if not path.exists():
        raise UserError(f"{path}: no such file; run {command} first")
    return path


if __name__ == "__main__":
    run_cli(main)
