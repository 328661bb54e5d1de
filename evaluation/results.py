"""Reader of a run folder's results: logit tables by task, joined with labels, persons and facts by image id.

<task>/fold<k>/oof.csv, eval.csv      a fold's logits of its out-of-fold photos, and of the eval photos
<task>_oof.csv, <task>.csv            averages of them, written by ensemble.py
..._years.csv beside each             expected values of a task that learned them
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from core import files
from core.cli import UserError, name_some
from core.tasks import TASKS, UNKNOWN, Facts, Task, known_values, task_named
from evaluation.decision_rules import OutOfFold
from evaluation.logits import (
    DEFAULT_AVERAGE,
    OUT_OF_FOLD,
    LogitTable,
    Part,
    average_tables,
    join_out_of_fold,
    log_softmax,
    read_table,
    require_same_ids,
)
from evaluation.predictions import TaskPredictions
from storage.crops import Crops
from storage.eval_labels import EvalLabels, find_eval_labels
from storage.folds import audit_folds, folds_path, read_folds, refuse_other_ages, refuse_other_folds
from storage.label_corrections import training_crops
from storage.run_dir import (
    CONFIG,
    DONE,
    EVAL_STAMP,
    OOF,
    Run,
    finished_folds,
    read_config,
    read_config_of,
    read_run,
    read_stamp,
    refuse_changed,
    refuse_incomplete,
    written_digests,
)


@dataclass(frozen=True)
class TaskTables:
    """Logits of one task, and expected values (one column) where its models learned them. `path` names them."""

    path: Path
    folds: tuple[str, ...]
    logits: LogitTable
    values: LogitTable | None = None


def fold_paths(run_dir: Path, task: Task, part: Part) -> list[Path]:
    """The logit tables of a task's folds, sorted."""
    return sorted((run_dir / task.name).glob(f"fold*/{part.name}.csv"))


def refuse_changed_fold(fold_dir: Path, part: Part) -> None:
    """UserError if a fold's tables of that part are not those that were written."""
    if part is OUT_OF_FOLD:
        tables = [name for name in written_digests(fold_dir / DONE) if name.startswith(part.name)]
        refuse_incomplete(fold_dir, OOF, *tables)
        return
    for name in written_digests(fold_dir / EVAL_STAMP):
        refuse_changed(fold_dir / name, fold_dir / EVAL_STAMP, "inference.py")


def read_fold_tables(run_dir: Path, task: Task, part: Part, folds: Collection[str] | None = None) -> TaskTables | None:
    """The tables of a task's folds as one: joined out of fold, averaged for eval photos. None without a table.

    `folds` such as {"fold0"} are the ones to read, by default all there are. Expected values are read where all of
    these folds have them. UserError for a table of another task, or of other photos than the first fold's.
    """
    paths = [path for path in fold_paths(run_dir, task, part) if folds is None or path.parent.name in folds]
    if not paths:
        return None
    for path in paths:
        read_config_of(path.parent, task.name)
        refuse_changed_fold(path.parent, part)
    logits = {path: read_table(path, task.classes) for path in paths}
    values: dict[Path, LogitTable] = {}
    value_paths = [part.fold_path(path.parent, task.value.name) for path in paths] if task.value else []
    if value_paths and all(path.exists() for path in value_paths):
        values = {path: read_table(path, (task.value.name,)) for path in value_paths}
        for path, (value_path, table) in zip(paths, values.items(), strict=True):
            require_same_ids(value_path, table, set(logits[path].image_ids), str(path))
    names = tuple(path.parent.name for path in paths)
    joined = _one_table(values, part, "logit") if values else None
    return TaskTables(run_dir / task.name, names, _one_table(logits, part, DEFAULT_AVERAGE), joined)


def _one_table(tables: Mapping[Path, LogitTable], part: Part, average: str) -> LogitTable:
    if part is OUT_OF_FOLD:
        return join_out_of_fold(tables)
    (first, table), *others = tables.items()
    for path, other in others:
        require_same_ids(path, other, set(table.image_ids), str(first))
    return average_tables(list(tables.values()), average)


def averaged_stamp_path(run_dir: Path, task: Task) -> Path:
    """Return the path of the record of what the averaged tables of a task were made from."""
    return run_dir / f"{task.name}.json"


def read_averaged_file(path: Path, stamp_path: Path, columns: Sequence[str]) -> LogitTable:
    """Read a table of ensemble.py. UserError if it, or a table it was made from, has been changed since."""
    refuse_changed(path, stamp_path, "ensemble.py")
    made_from = read_stamp(stamp_path).get("made_from", {}) if path.name in written_digests(stamp_path) else {}
    for source, digest in made_from.items():
        if Path(source).exists() and files.file_sha256(Path(source)) != digest:
            raise UserError(f"{path}: made from {source}, which has changed since; run ensemble.py again")
    return read_table(path, columns)


def read_averaged(run_dir: Path, task: Task, part: Part) -> TaskTables | None:
    """The tables that ensemble.py wrote for a task; None if it wrote none."""
    path, stamp_path = part.averaged_path(run_dir, task), averaged_stamp_path(run_dir, task)
    if not path.exists() and path.name not in written_digests(stamp_path):
        return None
    return TaskTables(path, (), read_averaged_file(path, stamp_path, task.classes))


def read_averaged_values(run_dir: Path, part: Part) -> dict[str, LogitTable]:
    """The expected values that ensemble.py wrote, by task."""
    found = {}
    for task in (task for task in TASKS if task.value):
        path, stamp_path = part.averaged_path(run_dir, task, task.value.name), averaged_stamp_path(run_dir, task)
        if path.exists() or path.name in written_digests(stamp_path):
            found[task.name] = read_averaged_file(path, stamp_path, (task.value.name,))
    return found


@dataclass(frozen=True)
class RunResults:
    """Photos of a run with all that is known of them, and predictions joined with it. Read when first used."""

    run_dir: Path
    truth_path: Path | None = None
    refuses: bool = True
    """False for the report, which shows what does not belong together."""

    @cached_property
    def run(self) -> Run:
        return read_run(self.run_dir)

    @cached_property
    def train(self) -> Crops:
        """The training crops with the labels that the run learned from."""
        return training_crops(self.run_dir, Path(self.run.crop_dir))

    @cached_property
    def eval_labels(self) -> EvalLabels | None:
        """Labels and facts of the eval photos, for scoring alone; None where they are not known."""
        return find_eval_labels(self.truth_path, self.run)

    @property
    def eval_labels_source(self) -> str:
        """Name of the flag or folder of the eval labels, for messages."""
        return f"--truth {self.truth_path}" if self.truth_path else f"eval labels of {self.run.data_root}"

    @cached_property
    def train_facts(self) -> list[Facts]:
        """Facts of every training photo, in the order of `train`."""
        return self.train.frame.to_dict("records")

    def train_labels(self, task: Task) -> list[int]:
        """Label of every training photo, in the order of `train`; UNKNOWN where it has none."""
        return self.train.labels(task, self.run.age_edges)

    def facts(self, part: Part) -> Mapping[str, Facts]:
        """Further facts by image id, as far as they are known."""
        if part is OUT_OF_FOLD:
            return dict(zip(self.train.image_ids, self.train_facts, strict=True))
        return self.eval_labels.facts if self.eval_labels else {}

    def labels(self, part: Part, task: Task) -> dict[str, int] | None:
        """Labels of a task by image id, UNKNOWN where a photo has none; None where no photo has one."""
        if part is OUT_OF_FOLD:
            self.refuse_other_labels()
            return dict(zip(self.train.image_ids, self.train_labels(task), strict=True))
        known = self.eval_labels.labels if self.eval_labels else {}
        found = {image_id: labels.get(task.name, UNKNOWN) for image_id, labels in known.items()}
        return found if set(found.values()) - {UNKNOWN} else None

    def predictions(
        self, part: Part, task: Task, tables: TaskTables, image_ids: Sequence[str] | None = None
    ) -> TaskPredictions:
        """Predictions of these photos, by default of all in the tables, joined with labels and persons.

        Each eval photo counts as a person of its own. UserError for a photo without labels or person.
        """
        image_ids = tuple(tables.logits.image_ids if image_ids is None else image_ids)
        labels = self.labels(part, task)
        source = f"training part of {self.train.crop_dir}" if part is OUT_OF_FOLD else self.eval_labels_source
        unknown = [] if labels is None else [image_id for image_id in image_ids if image_id not in labels]
        if unknown:
            raise UserError(f"{source}: no {task.name} label for {name_some(unknown)}, which {tables.path} has")
        persons = image_ids
        if part is OUT_OF_FOLD:
            person_of = dict(zip(self.train.image_ids, self.train.frame["person"], strict=True))
            persons = tuple(person_of[image_id] for image_id in image_ids)
        logits = tables.logits.of(image_ids)
        truth = None if labels is None else np.array([labels[image_id] for image_id in image_ids], dtype=np.int64)
        value_off = self._value_off(part, task, tables.values, image_ids)
        return TaskPredictions(task, image_ids, persons, log_softmax(logits), logits.argmax(axis=1), truth, value_off)

    def _value_off(self, part: Part, task: Task, values: LogitTable | None, image_ids: Sequence[str]) -> np.ndarray:
        off = np.full(len(image_ids), np.nan)
        if values is not None:
            facts = self.facts(part)
            true = known_values(task, [facts.get(image_id, {}) for image_id in image_ids])
            rows = list(true)
            off[rows] = np.abs(values.of(image_ids)[rows, 0] - list(true.values()))
        return off

    def refuse_other_labels(self) -> None:
        """UserError unless labels, crops and folds are those that the run was trained with."""
        if not self.refuses:
            return
        if self.train.hash != self.run.train_hash:
            raise UserError(
                f"run folder {self.run_dir}: labels, people or crops in {self.run.crop_dir}, or its label_fixes.csv, "
                f"are no longer those it was trained with; put them back, or train anew in another --run-dir"
            )
        for task in TASKS:
            stamp_path = averaged_stamp_path(self.run_dir, task)
            configs = {path / CONFIG: read_config(path) for path in finished_folds(self.run_dir / task.name)}
            for path, record in (configs | {stamp_path: read_stamp(stamp_path)}).items():
                if "folds_hash" in record:
                    refuse_other_folds(self.run_dir, record["folds_hash"], path)
                refuse_other_ages(self.run_dir, record.get("settings", record).get("age_edges"), path)

    def folds(self) -> np.ndarray:
        """(N,) fold of every training photo, in the order of `train`."""
        path = folds_path(self.run_dir)
        if not path.exists():
            raise UserError(f"{path}: no such file; run ensemble.py first, which takes it from the run it averages")
        fold_of = read_folds(path)
        audit_folds(path, fold_of, set(self.train.frame["person"]), self.run.folds)
        return np.array([fold_of[person] for person in self.train.frame["person"]])

    @cached_property
    def out_of_fold_logits(self) -> dict[str, LogitTable]:
        """Averaged out-of-fold logits by task: of all photos with a label in the folds that are there.

        UserError for a table or a split that is not of these photos.
        """
        found = {}
        for task in TASKS:
            tables = read_averaged(self.run_dir, task, OUT_OF_FOLD)
            if tables:
                self.refuse_other_labels()
                self._require_labelled(task, tables)
                found[task.name] = tables.logits
        return found

    def _require_labelled(self, task: Task, tables: TaskTables) -> None:
        """UserError unless the table has all photos with a label of the folds that it has, and no others."""
        found, rows = set(tables.logits.image_ids), zip(self.train.image_ids, self.train_labels(task), strict=True)
        fold_of = {row[0]: fold for row, fold in zip(rows, self.folds(), strict=True) if row[1] != UNKNOWN}
        folds = {fold_of.get(image_id) for image_id in found}
        expected = {image_id for image_id, fold in fold_of.items() if fold in folds}
        require_same_ids(tables.path, tables.logits, expected, "the training part")

    def out_of_fold(self, tasks: Collection[str]) -> OutOfFold | None:
        """Averaged logits of the photos that all these tasks have, in the order of `train`; None without any."""
        if not tasks or not set(tasks) <= self.out_of_fold_logits.keys():
            return None
        logits = {task.name: self.out_of_fold_logits[task.name] for task in TASKS if task.name in tasks}
        shared = set.intersection(*(set(table.image_ids) for table in logits.values()))
        rows = [row for row, image_id in enumerate(self.train.image_ids) if image_id in shared]
        image_ids = [self.train.image_ids[row] for row in rows]
        labels = {name: np.array(self.train_labels(task_named(name)))[rows] for name in logits}
        persons = np.array(self.train.frame["person"], dtype=str)[rows]
        of_photos = {name: table.of(image_ids) for name, table in logits.items()}
        return OutOfFold(of_photos, labels, persons, self.folds()[rows], tuple(image_ids)) if rows else None
