"""Logit tables of a task folder with the folds that are trained, checked against one another."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core import files
from core.cli import UserError, name_some
from core.tasks import task_named
from evaluation.logits import EVAL_PHOTOS, OUT_OF_FOLD, LogitTable, join_out_of_fold, read_table, require_same_ids
from evaluation.results import refuse_changed_fold
from storage.crops import load_crops
from storage.folds import refuse_other_ages, refuse_other_folds
from storage.run_dir import (
    CONFIG,
    DONE,
    EVAL,
    EVAL_STAMP,
    first_difference,
    read_config_of,
    read_run,
    read_stamp,
    run_dir_of,
    run_path,
)

TRAINED = "trained"
"""In place of fold numbers: those that are trained."""
PARTS = (EVAL_PHOTOS, OUT_OF_FOLD)


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
        refuse_other_ages(run_dir, identity["settings"].get("age_edges"), member.folder)
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
