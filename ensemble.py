"""Average the folds (and runs) of each task into one logit table.

    python ensemble.py                                                        every trained task of outputs/default
    python ensemble.py --age outputs/a/age outputs/b/age --run-dir outputs/ab     several runs of a task

Writes <run-dir>/<task>.csv for the eval photos and <run-dir>/<task>_oof.csv for the training photos, each of which is
predicted only by models that never saw its person. Several folders of a task must share their folds.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core import artifacts, checkpoints
from core.logits import AVERAGES, LogitTable, make_table, read_table, require_same_ids, write_table
from core.runs import begin_run, finished_folds, read_run
from core.runtime import UserError, add_run_dir, command_parser, run_cli
from core.tasks import task_named, task_names

DEFAULT_AVERAGE = "log_prob"


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    task_dirs = given_or_found(args)
    members = {task: [read_member(folder, task) for folder in folders] for task, folders in task_dirs.items()}
    refuse_disagreement([member for of_task in members.values() for member in of_task])
    begin_run(args.run_dir, read_run(next(iter(task_dirs.values()))[0].parent))
    for task, of_task in members.items():
        ensemble_task(args.run_dir, task, of_task, args.average)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    for name in task_names():
        parser.add_argument(f"--{name}", type=Path, nargs="+", metavar="DIR", help=f"folders of {name} folds")
    add_run_dir(parser)
    parser.add_argument(
        "--average",
        choices=list(AVERAGES),
        default=DEFAULT_AVERAGE,
        help="logit: mean of the logits; log_prob: logarithm of the mean probability",
    )
    return parser.parse_args(argv)


def given_or_found(args: argparse.Namespace) -> dict[str, list[Path]]:
    """Folders by task: those typed, or else those of every task that is trained or predicted in the run."""
    given = {name: getattr(args, name) for name in task_names() if getattr(args, name)}
    found = given or {name: [args.run_dir / name] for name in task_names() if has_results(args.run_dir / name)}
    if not found:
        raise UserError(f"run folder {args.run_dir}: no trained task in it; run train.py and inference.py first")
    return found


def has_results(task_dir: Path) -> bool:
    """Whether a fold is trained here, or, in a folder of predictions for other photos, predicted."""
    return bool(finished_folds(task_dir)) or any(task_dir.glob(f"fold*/{checkpoints.EVAL}"))


@dataclass(frozen=True)
class Member:
    """One folder of a task: the eval logits of each fold's model, and the out-of-fold logits of all folds together."""

    folder: Path
    identity: dict
    fold_tables: tuple[LogitTable, ...]
    oof: LogitTable | None
    sources: tuple[Path, ...]


def read_member(folder: Path, task: str) -> Member:
    """UserError if a fold is missing, of another task, or of other folds or photos than the rest."""
    classes = task_named(task).classes
    first = checkpoints.read_config_of(_fold(folder, 0), task)
    fold_dirs = [_fold(folder, fold) for fold in range(first["settings"]["folds"])]
    for fold_dir in fold_dirs:
        _refuse_other_fold(fold_dir, checkpoints.read_config_of(fold_dir, task), first)
    tables = [read_table(_made_by(fold_dir / checkpoints.EVAL, "inference.py"), classes) for fold_dir in fold_dirs]
    for fold_dir, table in zip(fold_dirs, tables, strict=True):
        require_same_ids(fold_dir / checkpoints.EVAL, table, set(tables[0].image_ids), fold_dirs[0].name)
    oof_paths = [fold_dir / checkpoints.OOF for fold_dir in fold_dirs]
    # Predictions for another data set have no out-of-fold part; a run that lost one fold's is refused below.
    oof = join_oof(oof_paths, classes) if any(path.exists() for path in oof_paths) else None
    sources = [fold_dir / checkpoints.EVAL for fold_dir in fold_dirs] + (oof_paths if oof else [])
    return Member(folder, first, tuple(tables), oof, tuple(sources))


def join_oof(paths: Sequence[Path], classes: Sequence[str]) -> LogitTable:
    """The folds' out-of-fold logits as one table; UserError for a photo that two folds held out."""
    tables = [read_table(_made_by(path, "train.py"), classes) for path in paths]
    owner: dict[str, Path] = {}
    for path, table in zip(paths, tables, strict=True):
        for image_id in table.image_ids:
            if image_id in owner:
                raise UserError(
                    f"{path}: {image_id} is held out in {owner[image_id]} too; every photo is held out once"
                )
            owner[image_id] = path
    return make_table(list(owner), classes, np.concatenate([table.logits for table in tables]))


def refuse_disagreement(members: Sequence[Member]) -> None:
    """UserError unless all folders come from the same photos, folds and eval photos."""
    first = members[0]
    for member in members[1:]:
        for name in ("data_hash", "folds_hash"):
            if member.identity[name] != first.identity[name]:
                what = {"data_hash": "training photos", "folds_hash": "folds"}[name]
                raise UserError(
                    f"{member.folder}: trained with other {what} than {first.folder}; they cannot be averaged"
                )
        ids = set(first.fold_tables[0].image_ids)
        require_same_ids(member.folder, member.fold_tables[0], ids, str(first.folder))
        if member.oof and first.oof:
            require_same_ids(member.folder, member.oof, set(first.oof.image_ids), str(first.folder))


def ensemble_task(run_dir: Path, task: str, members: Sequence[Member], average: str) -> None:
    """Write <task>.csv and <task>_oof.csv, unless those that are there were made from the same tables."""
    classes = task_named(task).classes
    stamp = {"average": average, "made_from": _sources(members)}
    stamp_path, eval_path, oof_path = run_dir / f"{task}.json", run_dir / f"{task}.csv", run_dir / f"{task}_oof.csv"
    if stamp_path.exists() and eval_path.exists() and artifacts.read_json(stamp_path) == stamp:
        print(f"{task}: {eval_path} is up to date")
        return
    stamp_path.unlink(missing_ok=True)
    models = [table for member in members for table in member.fold_tables]
    write_table(eval_path, average_tables(models, classes, average))
    if all(member.oof for member in members):
        write_table(oof_path, average_tables([member.oof for member in members], classes, average))
    artifacts.write_json(stamp_path, stamp)
    print(f"{task}: {len(models)} models averaged by {average} into {eval_path}")


def average_tables(tables: Sequence[LogitTable], classes: Sequence[str], average: str) -> LogitTable:
    """One table from tables of the same photos, joined by image id."""
    image_ids = tables[0].image_ids
    return make_table(image_ids, classes, AVERAGES[average](np.stack([table.of(image_ids) for table in tables])))


def _sources(members: Sequence[Member]) -> Mapping[str, str]:
    return {str(path): artifacts.file_sha256(path) for member in members for path in member.sources}


def _fold(folder: Path, fold: int) -> Path:
    fold_dir = folder / f"fold{fold}"
    if not (fold_dir / checkpoints.CONFIG).exists():
        raise UserError(f"{folder}: fold{fold} is not trained; run train.py --task {folder.name}")
    return fold_dir


def _refuse_other_fold(fold_dir: Path, config: dict, first: dict) -> None:
    difference = checkpoints.first_difference({**first, "fold": config["fold"]}, config)
    if difference:
        name, of_first, here = difference
        raise UserError(
            f"{fold_dir}: trained with {name} {here!r}, fold0 with {of_first!r}; folds of a task must agree"
        )


def _made_by(path: Path, command: str) -> Path:
    if not path.exists():
        raise UserError(f"{path}: no such file; run {command} first")
    return path


if __name__ == "__main__":
    run_cli(main)
