"""The layouts `table` and class folders: any photos with the labels that are known.

    photos.csv              path,person,split,mask,gender,age, and any further facts; only path is needed
    wear/ incorrect/ ...    a folder per mask class, also below train/ and eval/, under the names of storage.label_words

Paths are relative to the table. A photo without a person is a person of its own. Labels may be missing.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from core.cli import UserError
from storage.folders import Photo, Search, is_folder, name_key, refuse_outside
from storage.label_words import LABEL_COLUMNS, LABEL_WORDS, column_named, normalised, read_label
from storage.spreadsheets import EXCEL_SUFFIX, Spreadsheet, read_spreadsheet

TABLE_NAMES = ("photos.csv", "photos.xlsx")
OWN_COLUMNS = ("path", "person", "split")
MASK_OF_FOLDER = {word: label for label, words in LABEL_WORDS["mask"].items() for word in words}
SPLIT_OF_FOLDER = {word: split for split, words in LABEL_WORDS["split"].items() for word in words}


def is_table_name(name: str) -> bool:
    return name.lower().endswith((".csv", ".tsv", ".txt", EXCEL_SUFFIX))


def find_table(root: Path) -> Path | None:
    """The table of a data root; None where there is none. UserError where there are two."""
    found = [root / name for name in TABLE_NAMES if (root / name).is_file()]
    if len(found) > 1:
        raise UserError(f"data folder {root}: both {' and '.join(TABLE_NAMES)} are there; keep one")
    return found[0] if found else None


def labelled_photos(search: Search) -> Iterator[Photo]:
    """Yield the photos of a table or of class folders, eval photos without their labels."""
    for photo, facts in photos_and_facts(search):
        yield photo if photo.split == "eval" else replace(photo, facts=facts)


def photos_and_facts(search: Search) -> Iterator[tuple[Photo, dict[str, str]]]:
    """Yield each photo of a data root, without facts, and its facts. Those of eval photos are for scoring alone."""
    table_path = search.table_path or find_table(search.root)
    return _photos_of_table(search, table_path) if table_path else _photos_of_folders(search)


def _photos_of_table(search: Search, table_path: Path) -> Iterator[tuple[Photo, dict[str, str]]]:
    """Faults name the line, the value and what is allowed."""
    refuse_outside(search.root, table_path)
    table = read_spreadsheet(table_path)
    columns = _columns(table_path, table)
    search.notes.append(_description(table_path, table, columns))
    seen = _Seen(table_path)
    for line, row in zip(table.lines, table.frame.to_dict("records"), strict=True):
        named = {name: row[column] for name, column in columns.items()}
        with search.forgiving():
            photo, facts = _photo(search, table_path, line, named)
            seen.add(line, photo, facts)
            yield photo, facts
    # Photos that no row names are not used; counted, so that nothing is left out in silence.
    others = Search(search.root, [], faults=[])
    search.ignored.extend(path for path in others.photos_below(search.root) if name_key(path) not in seen.lines)
    search.ignored.extend(path for path in others.ignored if path != table_path.name)


def _description(table_path: Path, table: Spreadsheet, columns: Mapping[str, str]) -> str:
    called = [name if name == column else f"{column} as {name}" for name, column in columns.items()]
    return f"{table_path.name}: {table.form}, {len(table.lines)} rows, columns {', '.join(called)}"


def _columns(table_path: Path, table: Spreadsheet) -> dict[str, str]:
    """The table's column for each name of the project; UserError if one is named twice or `path` is missing."""
    columns: dict[str, str] = {}
    for column in table.frame.columns:
        name = column_named(column)
        if name in columns:
            raise UserError(f"{table_path}: columns {columns[name]!r} and {column!r} both mean {name}; keep one")
        columns[name] = column
    if "path" not in columns:
        raise UserError(f"{table_path}: column path is missing; it has {', '.join(table.frame.columns)}")
    return columns


def _photo(search: Search, table_path: Path, line: int, row: Mapping[str, str]) -> tuple[Photo, dict[str, str]]:
    where = f"{table_path}: line {line}"
    path = _path_in_root(search.root, table_path, where, row["path"])
    try:
        split = read_label("split", row.get("split", "")) or "train"
        labels = {name: read_label(name, row[name]) for name in LABEL_COLUMNS if name in row}
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    further = {name: text for name, text in row.items() if name not in (*OWN_COLUMNS, *LABEL_COLUMNS)}
    image_id = name_key(path)
    return Photo(image_id, split, name_key(row.get("person", "")) or image_id, path), labels | further


def _path_in_root(root: Path, table_path: Path, where: str, text: str) -> str:
    """The path relative to the data root, with slashes; UserError if it leaves the root or no file is there."""
    if not text:
        raise UserError(f"{where}: path is empty")
    pure = PurePosixPath(text if (table_path.parent / text).is_file() else text.replace("\\", "/"))
    if pure.is_absolute() or ".." in pure.parts or ":" in pure.parts[0]:
        raise UserError(f"{where}: path {text!r} leaves the data folder {root}; allowed are paths below it")
    photo_path = table_path.parent / pure
    if not photo_path.is_file():
        raise UserError(f"{where}: path {text!r}: no such file")
    refuse_outside(root, photo_path)
    return photo_path.relative_to(root).as_posix()


class _Seen:
    """Rows read so far: a photo stands once, and a person in one split and with one gender."""

    def __init__(self, table_path: Path) -> None:
        self.table_path = table_path
        self.lines: dict[str, int] = {}
        self.of_person: dict[str, dict[str, tuple[str, int]]] = {}

    def add(self, line: int, photo: Photo, facts: Mapping[str, str]) -> None:
        """UserError for a photo named twice, a person in two splits, and a person of two genders."""
        first = self.lines.setdefault(photo.image_id, line)
        if first != line:
            raise UserError(f"{self.table_path}: lines {first} and {line} name the same photo {photo.path!r}")
        known = self.of_person.setdefault(photo.person, {})
        for name, value in {"split": photo.split, "gender": facts.get("gender", "")}.items():
            before, at = known.setdefault(name, (value, line)) if value else (value, line)
            if before != value:
                raise UserError(
                    f"{self.table_path}: person {photo.person!r} has {name} {before} in line {at} and {value} in line "
                    f"{line}; a person has one"
                )


def has_class_folders(root: Path) -> bool:
    """Return True if the folders of a data root, or of its train folder, are named after two mask classes or more."""
    return any(len(set(_class_folders(folder).values())) > 1 for folder, _ in _split_folders(root))


def _photos_of_folders(search: Search) -> Iterator[tuple[Photo, dict[str, str]]]:
    """Photos in a folder per mask class, each a person of its own. Other folders and files are counted as ignored."""
    folders = _split_folders(search.root)
    if not any(_class_folders(folder) for folder, _ in folders):
        names = ", ".join(TABLE_NAMES)
        raise UserError(f"data folder {search.root}: neither {names} nor folders named after mask classes in it")
    for folder, split in folders:
        labels = _class_folders(folder)
        search.notes.append(f"{split}: folders " + ", ".join(f"{name} as {label}" for name, label in labels.items()))
        for entry in search.entries(folder):
            if entry.name not in labels:
                search.ignored.append(Path(entry.path).relative_to(search.root).as_posix())
                continue
            for path in search.photos_below(Path(entry.path)):
                yield Photo(name_key(path), split, name_key(path), path), {"mask": labels[entry.name]}


def _split_folders(root: Path) -> list[tuple[Path, str]]:
    """The folders that hold class folders, and their splits: train/ and eval/ where they are there, else the root."""
    names = sorted(entry.name for entry in os.scandir(root) if is_folder(entry))
    splits = [(root / name, SPLIT_OF_FOLDER[normalised(name)]) for name in names if normalised(name) in SPLIT_OF_FOLDER]
    return [pair for pair in splits if _class_folders(pair[0])] or [(root, "train")]


def _class_folders(folder: Path) -> dict[str, str]:
    """Mask labels by folder name."""
    names = sorted(entry.name for entry in os.scandir(folder) if is_folder(entry))
    return {name: MASK_OF_FOLDER[normalised(name)] for name in names if normalised(name) in MASK_OF_FOLDER}
