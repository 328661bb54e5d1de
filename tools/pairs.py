"""Photos that two runs have both predicted: what each says of them, and what is true. Runs of other data are refused.

Both must have learned from the same crops, which a hash in run.json tells, and the same split, which one in every
fold's config.json does; where they lie on the disk does not matter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from core import files
from core.cli import UserError
from core.tasks import Task, combined_class_count, combined_tasks
from evaluation.decision_rules import combine_labels, combined_log_probs
from evaluation.fold_tables import AVERAGE, Known, read_tables
from evaluation.logits import LogitTable, average_tables, join_held_out, log_softmax, read_table, require_same_ids
from evaluation.results import known_values
from evaluation.scores import COMBINED
from storage.crops import load_crops
from storage.label_corrections import corrections_path
from storage.run_dir import OOF, read_config, read_run

Runs = tuple[Path, Path]
"""Folders of the baseline and of the run that is compared with it."""


@dataclass(frozen=True)
class Answers:
    """What some folds of a run say: a table of logits, and one of values such as years if they learned those."""

    logits: LogitTable
    values: LogitTable | None

    def value_errors(self, known: Known, image_ids: Sequence[str]) -> np.ndarray:
        """(N,) absolute errors of the task's value; NaN where it was not predicted or is not known."""
        errors = np.full(len(image_ids), np.nan)
        if self.values is not None:
            true = known_values(known.task, [known.facts.get(image_id, {}) for image_id in image_ids])
            predicted = self.values.of(image_ids)[:, 0]
            errors[list(true)] = np.abs(predicted[list(true)] - list(true.values()))
        return errors


@dataclass(frozen=True)
class Pair:
    """N photos of one task that both runs have predicted.

    Of the two runs: `log_probs` (2, N, C), and `value_errors` (2, N), NaN where not both have one. `unit` is what the
    value is counted in, if the task has one.
    """

    name: str
    unit: str | None
    folds: tuple[str, ...]
    image_ids: tuple[str, ...]
    persons: np.ndarray
    truth: np.ndarray
    log_probs: np.ndarray
    value_errors: np.ndarray

    @cached_property
    def row_of(self) -> dict[str, int]:
        return {image_id: row for row, image_id in enumerate(self.image_ids)}


def label_note(runs: Runs) -> str:
    """What has to be said of the labels of two runs: nothing, unless they have different label fixes.

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
    return f"{runs[1]} learned from other label fixes than {runs[0]}; both are scored on the labels of {runs[0]}"


def _refuse(runs: Runs, what: str, baseline: object, other: object) -> None:
    raise UserError(f"{runs[1]} has {what} {other}, {runs[0]} {baseline}; only runs of the same can be compared")


def has_tables(run_dir: Path, task: Task, name: str) -> bool:
    return any((run_dir / task.name).glob(f"fold*/{name}"))


def read_pair(runs: Runs, known: Known, name: str) -> Pair:
    """What both say in their tables of that name; UserError if they share no fold, or are of other folds or photos."""
    task = known.task
    tables = [read_tables(run_dir / task.name, name, task) for run_dir in runs]
    paths = [{path.parent.name: path for path in of_run} for of_run in tables]
    folds = sorted(paths[0].keys() & paths[1].keys(), key=lambda fold: (len(fold), fold))
    if not folds:
        found = (f"{run_dir} has {', '.join(of_run)}" for run_dir, of_run in zip(runs, paths, strict=True))
        raise UserError(f"{task.name}: no fold is in both runs: {'; '.join(found)}")
    for fold in folds:
        _refuse_other_photos(runs, paths[0][fold], paths[1][fold])
    shared = [
        {by_fold[fold]: of_run[by_fold[fold]] for fold in folds} for by_fold, of_run in zip(paths, tables, strict=True)
    ]
    return make_pair(runs, tuple(folds), known, [_answers(logits, task, name) for logits in shared])


def _refuse_other_photos(runs: Runs, *paths: Path) -> None:
    """UserError for tables of another split, or of eval crops that are not the same."""
    splits = [read_config(path.parent)["folds_hash"] for path in paths]
    if splits[0] != splits[1]:
        _refuse(runs, "folds of hash", *splits)
    stamps = [path.with_suffix(".json") for path in paths]
    made_from = [files.read_json(path).get("crops_hash") for path in stamps if path.exists()]
    if len(set(made_from)) > 1:
        _refuse(runs, "eval crops of hash", *made_from)


def _answers(logits: Mapping[Path, LogitTable], task: Task, name: str) -> Answers:
    """From the tables of that name that some folds have, and those of the task's value where all have one."""
    joined = _one_table(logits, AVERAGE, name)
    if task.value is None:
        return Answers(joined, None)
    beside = {path: path.with_stem(f"{path.stem}_{task.value.name}") for path in logits}
    if not all(path.exists() for path in beside.values()):
        return Answers(joined, None)
    values = {path: read_table(path, (task.value.name,)) for path in beside.values()}
    for path, value_path in beside.items():
        require_same_ids(value_path, values[value_path], set(logits[path].image_ids), str(path))
    return Answers(joined, _one_table(values, "logit", name))


def _one_table(tables: Mapping[Path, LogitTable], average: str, name: str) -> LogitTable:
    """Held-out tables put together; those of eval photos, which every fold has all of, averaged."""
    if name == OOF:
        return join_held_out(tables)
    (first, table), *others = tables.items()
    for path, other in others:
        require_same_ids(path, other, set(table.image_ids), str(first))
    return average_tables(list(tables.values()), average)


def make_pair(runs: Runs, folds: tuple[str, ...], known: Known, answers: Sequence[Answers]) -> Pair:
    """The photos that both have answered, sorted by image id. UserError if there is none."""
    image_ids = sorted(set(answers[0].logits.image_ids) & set(answers[1].logits.image_ids))
    if not image_ids:
        raise UserError(f"{known.task.name}: {runs[0]} and {runs[1]} have predicted no photo in common")
    errors = np.stack([of_run.value_errors(known, image_ids) for of_run in answers])
    errors[:, np.isnan(errors).any(axis=0)] = np.nan
    return Pair(
        known.task.name,
        known.task.value.name if known.task.value else None,
        folds,
        tuple(image_ids),
        truth=np.array(known.labels_of(image_ids)),
        persons=np.array(known.persons_of(image_ids), dtype=str),
        log_probs=np.stack([log_softmax(of_run.logits.of(image_ids)) for of_run in answers]),
        value_errors=errors,
    )


def combine_pairs(pairs: Mapping[str, Pair]) -> Pair | None:
    """The combined class of the photos that all of its tasks have; None where a task is lacking, or they share none."""
    names = [task.name for task in combined_tasks()]
    if not all(name in pairs for name in names):
        return None
    first, *others = (pairs[name] for name in names)
    image_ids = tuple(filter(lambda image_id: all(image_id in other.row_of for other in others), first.image_ids))
    if not image_ids:
        return None
    rows = {name: [pairs[name].row_of[image_id] for image_id in image_ids] for name in names}
    log_probs = [
        combined_log_probs({name: pairs[name].log_probs[side][rows[name]] for name in names}) for side in (0, 1)
    ]
    return Pair(
        COMBINED,
        None,
        tuple(fold for fold in first.folds if all(fold in other.folds for other in others)),
        image_ids,
        truth=combine_labels({name: pairs[name].truth[rows[name]] for name in names}),
        persons=first.persons[rows[first.name]],
        log_probs=np.stack(log_probs).reshape(2, len(image_ids), combined_class_count()),
        value_errors=np.full((2, len(image_ids)), np.nan),
    )
