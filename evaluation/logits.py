"""Logit tables: `image_id`, then one column a class. Rows are joined by image id alone, never by position."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from core import files
from core.cli import UserError, name_some
from core.tasks import Task


@dataclass(frozen=True)
class Part:
    """Photos that a run predicts: the training photos, each out of fold, or the eval photos."""

    name: str
    title: str
    suffix: str

    def fold_path(self, fold_dir: Path, value: str = "") -> Path:
        """A fold's logits, or its expected values of that name."""
        return fold_dir / f"{self.name}{f'_{value}' if value else ''}.csv"

    def averaged_path(self, run_dir: Path, task: Task, value: str = "") -> Path:
        return run_dir / f"{task.name}{self.suffix}{f'_{value}' if value else ''}.csv"


OUT_OF_FOLD = Part("oof", "out of fold", "_oof")
EVAL_PHOTOS = Part("eval", "eval", "")


@dataclass(frozen=True)
class LogitTable:
    """Logits (N, C) float64 of N photos, sorted by image id."""

    image_ids: tuple[str, ...]
    classes: tuple[str, ...]
    logits: np.ndarray

    def of(self, image_ids: Sequence[str]) -> np.ndarray:
        """Rows for these photos in this order; KeyError for one that is not in the table."""
        position = {image_id: row for row, image_id in enumerate(self.image_ids)}
        return self.logits[[position[image_id] for image_id in image_ids]]


def make_table(image_ids: Sequence[str], classes: Sequence[str], logits: np.ndarray) -> LogitTable:
    order = sorted(range(len(image_ids)), key=lambda row: image_ids[row])
    ordered = np.asarray(logits, dtype=np.float64).reshape(len(image_ids), len(classes))[order]
    return LogitTable(tuple(image_ids[row] for row in order), tuple(classes), ordered)


def write_table(path: Path, table: LogitTable) -> None:
    frame = pd.DataFrame(table.logits, columns=list(table.classes))
    frame.insert(0, "image_id", table.image_ids)
    files.write_csv(path, frame)


def read_table(path: Path, classes: Sequence[str]) -> LogitTable:
    """Read a logit table. UserError for other classes, an id that occurs twice, or a cell that is not a finite number.

    All logits enter through this function, so nothing is ever computed from NaN or infinity.
    """
    frame = files.read_csv(path, ("image_id",))
    files.require_unique(path, frame, "image_id")
    if list(frame.columns) != ["image_id", *classes]:
        raise UserError(f"{path}: columns {', '.join(frame.columns)}; expected image_id, {', '.join(classes)}")
    numbers = frame[list(classes)].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    bad = ~np.isfinite(numbers).all(axis=1)
    if bad.any():
        raise UserError(f"{path}: the row of {frame['image_id'][bad].iloc[0]} has a cell that is not a finite number")
    return make_table(list(frame["image_id"]), classes, numbers)


def require_same_ids(path: Path, table: LogitTable, expected: set[str], expected_by: str) -> None:
    """UserError naming the ids that `path` lacks or has in excess of what `expected_by` has."""
    found = set(table.image_ids)
    if expected - found:
        raise UserError(f"{path}: no row for {name_some(sorted(expected - found))}, which {expected_by} has")
    if found - expected:
        raise UserError(f"{path}: row for {name_some(sorted(found - expected))}, which {expected_by} has not")


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """(N, C) log-probabilities."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def average_logits(stack: np.ndarray) -> np.ndarray:
    """(M, N, C) logits of M models to (N, C): their mean, which is a geometric mean of the probabilities."""
    return stack.mean(axis=0)


def average_log_probs(stack: np.ndarray) -> np.ndarray:
    """(M, N, C) logits of M models to (N, C): the logarithm of the mean of their probabilities."""
    probs = np.exp(np.stack([log_softmax(logits) for logits in stack]))
    return np.log(probs.mean(axis=0).clip(min=np.finfo(np.float64).tiny))


AVERAGES = {"logit": average_logits, "log_prob": average_log_probs}
DEFAULT_AVERAGE = "log_prob"


def average_tables(tables: Sequence[LogitTable], average: str) -> LogitTable:
    """One table from tables of the same photos, joined by image id."""
    image_ids = tables[0].image_ids
    stack = np.stack([table.of(image_ids) for table in tables])
    return make_table(image_ids, tables[0].classes, AVERAGES[average](stack))


def join_out_of_fold(tables: Mapping[Path, LogitTable]) -> LogitTable:
    """One table from the folds' out-of-fold tables, by file; UserError for a photo in two of them."""
    owner: dict[str, Path] = {}
    for path, table in tables.items():
        for image_id in table.image_ids:
            if image_id in owner:
                raise UserError(
                    f"{path}: {image_id} is in {owner[image_id]} too; every photo is out of fold in one table"
                )
            owner[image_id] = path
    classes = next(iter(tables.values())).classes
    return make_table(list(owner), classes, np.concatenate([table.logits for table in tables.values()]))
