"""Average the folds (and runs) of each task into one logit table.

    python ensemble.py                                                        every trained task of outputs/default
    python ensemble.py --age outputs/a/age outputs/b/age --run-dir outputs/ab     several runs of a task

Writes <run-dir>/<task>.csv for the eval photos and <run-dir>/<task>_oof.csv for the training photos, each of which is
predicted only by models that never saw its person. Several folders of a task must share their folds. A task that
learned a number (age: years) has it averaged too, as <task>_years.csv and <task>_oof_years.csv.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from core import files
from core.cli import UserError, add_run_dir, command_parser, run_cli
from core.files import holding
from core.tasks import Task, task_named, task_names
from evaluation.calibration import fit_temperature
from evaluation.logits import (
    AVERAGES,
    LogitTable,
    average_tables,
    join_held_out,
    make_table,
    read_table,
    require_same_ids,
    write_table,
)
from storage.folds import folds_path
from storage.label_corrections import corrections_path, training_crops
from storage.run_dir import CONFIG, EVAL, OOF, begin_run, finished_folds, first_difference, read_config_of, read_run

DEFAULT_AVERAGE = "log_prob"


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    task_dirs = given_or_found(args)
    with holding(args.run_dir, "--run-dir"):
        ensemble_tasks(args, task_dirs)


def ensemble_tasks(args: argparse.Namespace, task_dirs: Mapping[str, Sequence[Path]]) -> None:
    """Average each task, once all of its folders are known to agree."""
    members = {task: [read_member(folder, task) for folder in folders] for task, folders in task_dirs.items()}
    refuse_disagreement([member for of_task in members.values() for member in of_task])
    temperatures = {task: temperatures_of(task, of_task, args.calibrate) for task, of_task in members.items()}
    open_run(args.run_dir, next(iter(task_dirs.values()))[0].parent)
    for task, of_task in members.items():
        ensemble_task(args.run_dir, task, of_task, average=args.average, temperatures=temperatures[task])


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
    parser.add_argument(
        "--calibrate",
        action="store_true",
        help="scale each folder's logits first, by the temperature that fits its out-of-fold logits best",
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
    return bool(finished_folds(task_dir)) or any(task_dir.glob(f"fold*/{EVAL}"))


def open_run(run_dir: Path, made_from: Path) -> None:
    """Begin the run folder, or refuse it, and give it the split and the label fixes of the run it is made from."""
    begin_run(run_dir, read_run(made_from))
    for path_in in (folds_path, corrections_path):
        source, target = path_in(made_from), path_in(run_dir)
        if source.exists() and not target.exists():
            files.write_text(target, source.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Predictions:
    """What a folder's models say: each fold's table for the eval photos, and one table of all held-out photos."""

    folds: tuple[LogitTable, ...]
    oof: LogitTable | None
    sources: tuple[Path, ...]


@dataclass(frozen=True)
class Member:
    """One folder of a task: its logits, and the expected numbers of a task that learned a number."""

    folder: Path
    identity: dict
    logits: Predictions
    values: Predictions | None

    @property
    def sources(self) -> tuple[Path, ...]:
        return self.logits.sources + (self.values.sources if self.values else ())


def read_member(folder: Path, task_name: str) -> Member:
    """UserError if a fold is missing, of another task, or of other folds or photos than the rest."""
    task = task_named(task_name)
    first = read_config_of(_fold(folder, 0), task_name)
    fold_dirs = [_fold(folder, fold) for fold in range(first["settings"]["folds"])]
    for fold_dir in fold_dirs:
        _refuse_other_fold(fold_dir, read_config_of(fold_dir, task_name), first)
    logits = read_predictions(fold_dirs, task.classes, eval_name=EVAL, oof_name=OOF)
    return Member(folder, first, logits, read_values(fold_dirs, task))


def read_values(fold_dirs: Sequence[Path], task: Task) -> Predictions | None:
    """The expected numbers of a task; None where its models learned classes alone."""
    if task.value is None:
        return None
    name = task.value.name
    names = {"eval_name": f"eval_{name}.csv", "oof_name": f"oof_{name}.csv"}
    if not any((fold_dir / names["eval_name"]).exists() for fold_dir in fold_dirs):
        return None
    return read_predictions(fold_dirs, (name,), **names)


def read_predictions(
    fold_dirs: Sequence[Path], columns: Sequence[str], *, eval_name: str, oof_name: str
) -> Predictions:
    """The tables of all folds; UserError if one is missing or is not of the same photos."""
    eval_paths = [_made_by(fold_dir / eval_name, "inference.py") for fold_dir in fold_dirs]
    tables = [read_table(path, columns) for path in eval_paths]
    for path, table in zip(eval_paths, tables, strict=True):
        require_same_ids(path, table, set(tables[0].image_ids), fold_dirs[0].name)
    oof_paths = [fold_dir / oof_name for fold_dir in fold_dirs]
    # Predictions for another data set have no out-of-fold part; a run that lost one fold's is refused here.
    oof_paths = [_made_by(path, "train.py") for path in oof_paths] if any(path.exists() for path in oof_paths) else []
    oof = join_held_out({path: read_table(path, columns) for path in oof_paths}) if oof_paths else None
    return Predictions(tuple(tables), oof, tuple(eval_paths + oof_paths))


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
        here, there = member.logits, first.logits
        require_same_ids(member.folder, here.folds[0], set(there.folds[0].image_ids), str(first.folder))
        if here.oof and there.oof:
            require_same_ids(member.folder, here.oof, set(there.oof.image_ids), str(first.folder))


def temperatures_of(task: str, members: Sequence[Member], calibrate: bool) -> list[float]:
    """A temperature for each folder: 1, or the one of greatest likelihood on its out-of-fold logits."""
    return [_fit_temperature(task_named(task), member) if calibrate else 1.0 for member in members]


def _fit_temperature(task: Task, member: Member) -> float:
    if member.logits.oof is None:
        raise UserError(f"--calibrate: {member.folder} has no out-of-fold logits to fit a temperature on")
    run_dir = member.folder.parent
    run = read_run(run_dir)
    train = training_crops(run_dir, Path(run.crop_dir))
    return fit_temperature(member.logits.oof.of(train.image_ids), train.labels(task, run.age_edges))


def ensemble_task(
    run_dir: Path, task: str, members: Sequence[Member], *, average: str, temperatures: Sequence[float]
) -> None:
    """Write <task>.csv and <task>_oof.csv, unless those that are there were made from the same tables."""
    stamp = {"average": average, "temperatures": list(temperatures), "made_from": _sources(members)}
    stamp_path, eval_path = run_dir / f"{task}.json", run_dir / f"{task}.csv"
    if stamp_path.exists() and eval_path.exists() and files.read_json(stamp_path) == stamp:
        print(f"{task}: {eval_path} is up to date")
        return
    stamp_path.unlink(missing_ok=True)
    scaled = [_divided(member.logits, by) for member, by in zip(members, temperatures, strict=True)]
    write_averages(scaled, average, eval_path=eval_path, oof_path=run_dir / f"{task}_oof.csv")
    write_values(run_dir, task_named(task), members)
    files.write_json(stamp_path, stamp)
    models = sum(len(member.logits.folds) for member in members)
    cooled = (
        f" after temperatures {', '.join(f'{by:.2f}' for by in temperatures)}" if set(temperatures) != {1.0} else ""
    )
    print(f"{task}: {models} models averaged by {average}{cooled} into {eval_path}")


def write_values(run_dir: Path, task: Task, members: Sequence[Member]) -> None:
    """The mean expected number of each photo, if all models of the task have one."""
    values = [member.values for member in members if member.values]
    if len(values) < len(members):
        return
    name = f"{task.value.name}.csv"
    paths = {"eval_path": run_dir / f"{task.name}_{name}", "oof_path": run_dir / f"{task.name}_oof_{name}"}
    write_averages(values, "logit", **paths)


def write_averages(predictions: Sequence[Predictions], average: str, *, eval_path: Path, oof_path: Path) -> None:
    """The mean over all folds for the eval photos, and over the folders for the held-out ones."""
    write_table(eval_path, average_tables([table for of_member in predictions for table in of_member.folds], average))
    held_out = [of_member.oof for of_member in predictions]
    if all(held_out):
        write_table(oof_path, average_tables(held_out, average))


def _divided(predictions: Predictions, by: float) -> Predictions:
    def scale(table: LogitTable) -> LogitTable:
        return make_table(table.image_ids, table.classes, table.logits / by)

    oof = scale(predictions.oof) if predictions.oof else None
    return Predictions(tuple(map(scale, predictions.folds)), oof, predictions.sources)


def _sources(members: Sequence[Member]) -> Mapping[str, str]:
    return {str(path): files.file_sha256(path) for member in members for path in member.sources}


def _fold(folder: Path, fold: int) -> Path:
    fold_dir = folder / f"fold{fold}"
    if not (fold_dir / CONFIG).exists():
        raise UserError(f"{folder}: fold{fold} is not trained; run train.py --task {folder.name}")
    return fold_dir


def _refuse_other_fold(fold_dir: Path, config: dict, first: dict) -> None:
    difference = first_difference({**first, "fold": config["fold"]}, config)
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
