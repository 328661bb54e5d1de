"""Corrections of training labels, laid over the data without touching it.

    image_id,person,mask,gender,age,drop
    ,000017_female_White_31,,,27,          all photos of a person: another age
    000020_male_Black_40/mask3.jpg,,,,,1   one photo: not learned from

A row names a photo or a person. Empty cells change nothing, and a row with no other cell may name any photo. A run
keeps its own copy, so that every later step sees the labels of training. The hash of the training crops, which fold and
run carry, covers them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from core import files
from core.cli import UserError, name_some
from core.tasks import TASKS
from storage.crops import CROP_COLUMNS, FACE_COLUMNS, LANDMARKS, Crops, load_crops
from storage.label_words import LABEL_COLUMNS
from storage.run_dir import run_path

KEYS, DROP, YES_NO = ("image_id", "person"), "drop", ("", "0", "1")
NO_FACTS = frozenset((*FACE_COLUMNS, *CROP_COLUMNS, LANDMARKS)) - {*LABEL_COLUMNS}


def corrections_path(run_dir: Path) -> Path:
    """Return the path of the corrections that a run keeps."""
    return run_dir / "label_fixes.csv"


def training_crops(run_dir: Path, crop_dir: Path) -> Crops:
    """Load the training crops as the run learned from them: with its corrections, if it has any."""
    crops, kept = load_crops(crop_dir, "train"), corrections_path(run_dir)
    return apply_corrections(crops, kept) if kept.exists() else crops


def crops_to_train(run_dir: Path, crops: Crops, given: Path | None) -> Crops:
    """Return the crops with the corrections of a file, or of the run if none is given. Writes nothing.

    UserError if the run was begun with other corrections, or without any.
    """
    kept = corrections_path(run_dir)
    if given and run_path(run_dir).exists() and not _same(kept, given):
        before = f"those in {kept}" if kept.exists() else "none"
        raise UserError(f"--label-fixes {given}: run folder {run_dir} was begun with {before}; give another --run-dir")
    path = given or (kept if kept.exists() else None)
    if path is None:
        return crops
    corrected = apply_corrections(crops, path)
    print(f"label corrections of {path}: {count_changes(crops, corrected)}")
    return corrected


def keep_corrections(run_dir: Path, given: Path | None) -> None:
    """Keep the corrections in the run folder. Call it before run.json is written."""
    if given and not _same(corrections_path(run_dir), given):
        files.write_text(corrections_path(run_dir), given.read_text(encoding="utf-8-sig"))


def apply_corrections(crops: Crops, path: Path) -> Crops:
    """Return the crops with the corrections in `path`. A photo's own row goes before that of its person.

    UserError naming a column, photo, person or value that the training part does not have.
    """
    corrections = read_corrections(path, crops.frame, unread=crops.missing)
    frame = crops.frame.assign(**{DROP: ""})
    cells = {name: frame[name].tolist() for name in frame}
    for key in reversed(KEYS):
        rows_of = frame.groupby(key).indices
        changed = ((row, target) for target in corrections[key] for row in rows_of.get(target, ()))
        for row, target in changed:
            for column, value in corrections[key][target].items():
                cells[column][row] = value
    frame = frame.assign(**{name: pd.Series(cells[name], frame.index, frame[name].dtype) for name in frame})
    kept = frame.pop(DROP) != "1"
    return replace(crops, frame=frame[kept].reset_index(drop=True), every=crops.whole)


def read_corrections(
    path: Path, frame: pd.DataFrame, *, unread: Sequence[str] = ()
) -> dict[str, dict[str, dict[str, str]]]:
    """Return for image_id and person, by its value, the new values of columns to change. Errors as `apply_corrections`.

    `unread` are training photos that have no crop, and so nothing that could be changed.
    """
    table = files.read_csv(path, ())
    facts = [column for column in frame.columns if column not in NO_FACTS]
    unknown = [column for column in table.columns if column not in (*KEYS, DROP, *facts)]
    if unknown or not set(KEYS) & set(table.columns):
        raise UserError(
            f"{path}: columns {', '.join(table.columns)}; allowed are image_id, person, drop, {', '.join(facts)}"
        )
    known = {key: set(frame[key]) for key in KEYS}
    known["image_id"].update(unread)
    allowed = {column: _values_of(column, frame) for column in facts}
    corrections: dict[str, dict[str, dict[str, str]]] = {key: {} for key in KEYS}
    for number, row in enumerate(table.to_dict("records"), start=2):
        where = f"{path}: line {number}"
        key, target = _target_of(where, row)
        if target in corrections[key]:
            raise UserError(f"{where}: {key} {target!r} stands in more than one row")
        corrections[key][target] = _changes_of(where, row, allowed)
        if corrections[key][target] and target not in known[key]:
            raise UserError(f"{where}: {key} {target!r} is not in the training part")
    return corrections


def count_changes(before: Crops, after: Crops) -> str:
    """Return '3 photos of 1 people changed, 1 dropped'."""
    old = before.frame.set_index("image_id").loc[after.image_ids]
    new = after.frame.set_index("image_id")
    changed = new[(new != old).any(axis=1)]
    dropped = len(before.frame) - len(after.frame)
    return f"{len(changed)} photos of {changed['person'].nunique()} people changed, {dropped} dropped"


def _target_of(where: str, row: Mapping[str, str]) -> tuple[str, str]:
    named = [(key, row[key]) for key in KEYS if row.get(key)]
    if len(named) != 1:
        raise UserError(f"{where}: names {len(named)} of image_id and person; allowed is one of them")
    return named[0]


@dataclass(frozen=True)
class _Values:
    """Values that a column may have: these texts, and whole numbers if it has any."""

    texts: frozenset[str]
    numbers: bool


def _values_of(column: str, frame: pd.DataFrame) -> _Values:
    classes = {name for task in TASKS if column in (task.reads or (task.name,)) for name in task.classes}
    known = frozenset(frame[column]) - {""}
    numbers = any(name.isdecimal() for name in known)
    return _Values(known if numbers else known | classes, numbers)


def _changes_of(where: str, row: Mapping[str, str], allowed: Mapping[str, _Values]) -> dict[str, str]:
    """Return the cells that are not empty; UserError for a value that no training photo could have."""
    changes = {column: value for column, value in row.items() if column not in KEYS and value}
    if changes.get(DROP, "") not in YES_NO:
        raise UserError(f"{where}: drop {changes[DROP]!r}; allowed are 1, 0 or empty")
    for column in changes.keys() - {DROP}:
        _refuse_foreign_value(where, column, changes[column], allowed[column])
    return changes


def _refuse_foreign_value(where: str, column: str, value: str, allowed: _Values) -> None:
    """UserError for text in a column of numbers, or for a name that is neither in the training part nor a class."""
    if not (value in allowed.texts or (allowed.numbers and value.isdecimal())):
        names = sorted(name for name in allowed.texts if not name.isdecimal())
        numbers = ["whole numbers"] * allowed.numbers
        raise UserError(f"{where}: {column} {value!r}; allowed are {name_some(numbers + names)}")


def _same(kept: Path, given: Path) -> bool:
    """Return True if the kept file has the content of the given one; UserError if the latter is not there."""
    if not given.is_file():
        raise UserError(f"--label-fixes {given}: no such file")
    return kept.exists() and kept.read_text(encoding="utf-8") == given.read_text(encoding="utf-8-sig")
