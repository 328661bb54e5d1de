"""Where the photos of a data set lie and what is known of each: the three input layouts.

A data root is only ever read. Labels of eval photos are not part of a scan: `read_truth` alone reads them, for scoring.
"""

import os
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from core.artifacts import read_csv, require_unique, text_hash
from core.photos import EXTENSIONS, is_photo_name
from core.runtime import UserError, name_some
from core.tasks import AgeEdges, combined_class_count, combined_tasks, decode

MASK_OF_STEM = {
    **{f"mask{number}": "wear" for number in range(1, 6)},
    "incorrect_mask": "incorrect",
    "normal": "not_wear",
}
MASK_OF_TYPE_PREFIX = {"mask": "wear", "incorrect": "incorrect", "normal": "not_wear"}
TRAIN_CSV_COLUMNS = ("id", "gender", "race", "age", "path")
OLDEST = 120

_PERSON_NAME = re.compile(r"(?P<id>.+)_(?P<gender>male|female)_(?P<race>[^_]+)_(?P<age>\d{1,3})", re.IGNORECASE)
_SCORED_NAME = re.compile(_PERSON_NAME.pattern + r"_(?P<type>mask|incorrect|normal)[^/]*", re.IGNORECASE)


@dataclass(frozen=True)
class Photo:
    """One photo. `path` is relative to the data root; `facts` are its labels as strings, empty for eval photos."""

    image_id: str
    split: str
    person: str
    path: str
    facts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset:
    """A scanned data root: photos of both splits, eval photos in the order a submission has."""

    root: Path
    layout: str
    photos: tuple[Photo, ...]
    ignored: tuple[str, ...]

    @cached_property
    def listing_hash(self) -> str:
        """Changes when a photo is added, removed, renamed or labelled anew; does not depend on listing order."""
        return text_hash(sorted(repr((p.image_id, p.path, sorted(p.facts.items()))) for p in self.photos))

    def of_split(self, split: str) -> list[Photo]:
        return [photo for photo in self.photos if photo.split == split]


def scan(data_dir: Path, layout: str | None = None) -> Dataset:
    """List the photos of a data root. UserError for a root, name or table that does not fit the layout."""
    root = Path(data_dir)
    if not root.is_dir():
        raise UserError(f"data folder {root}: {'not a folder' if root.exists() else 'no such folder'}")
    layout = layout or detect_layout(root)
    if layout not in LAYOUTS:
        raise UserError(f"layout {layout!r} is unknown; the layouts are {', '.join(LAYOUTS)}")
    ignored: list[str] = []
    photos = tuple(LAYOUTS[layout](root, ignored))
    if not photos:
        raise UserError(f"data folder {root}: no photos in the {layout} layout (endings {', '.join(EXTENSIONS)})")
    _refuse_repeated_ids(root, photos)
    return Dataset(root, layout, photos, tuple(sorted(ignored)))


def detect_layout(root: Path) -> str:
    if (root / "train" / "images").is_dir() or (root / "eval" / "images").is_dir():
        return "competition"
    if (root / "images" / "train").is_dir() or (root / "images" / "eval").is_dir():
        return "remade"
    return "photos"


def _competition_photos(root: Path, ignored: list[str]) -> Iterator[Photo]:
    table = _read_train_csv(root / "train" / "train.csv")
    yield from _train_photos(root, root / "train" / "images", table, ignored)
    yield from _listed_eval_photos(root, ignored)


def _remade_photos(root: Path, ignored: list[str]) -> Iterator[Photo]:
    yield from _train_photos(root, root / "images" / "train", None, ignored)
    folder = root / "images" / "eval"
    for name in _photo_names(folder, ignored):
        if not _SCORED_NAME.fullmatch(Path(name).stem):
            raise UserError(f"eval photo {folder / name}: expected id_gender_race_age_masktype, masktype starting with "
                            f"{', '.join(MASK_OF_TYPE_PREFIX)}")  # fmt: skip
        yield Photo(_key(name), "eval", _key(Path(name).stem), _relative(root, folder / name))


def _loose_photos(root: Path, ignored: list[str]) -> Iterator[Photo]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not is_photo_name(name):
                ignored.append(_relative(root, Path(folder) / name))
                continue
            path = _relative(root, Path(folder) / name)
            yield Photo(_key(path), "eval", _key(path), path)


LAYOUTS: dict[str, Callable[[Path, list[str]], Iterator[Photo]]] = {
    "competition": _competition_photos,
    "remade": _remade_photos,
    "photos": _loose_photos,
}


def parse_person(name: str) -> dict[str, str] | None:
    """Facts from a name like 000123_female_Asian_31, or None if it is no such name."""
    match = _PERSON_NAME.fullmatch(name)
    return _facts(match) if match else None


def _facts(match: re.Match) -> dict[str, str]:
    return {"gender": match["gender"].lower(), "race": match["race"], "age": str(int(match["age"]))}


def _train_photos(root: Path, folder: Path, table: dict[str, dict] | None, ignored: list[str]) -> Iterator[Photo]:
    """Seven photos a person, in folders that name the person."""
    if not folder.is_dir():
        return
    persons = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    ignored += (_relative(root, Path(entry)) for entry in os.scandir(folder) if not entry.is_dir())
    if not persons:
        raise UserError(f"train folder {folder}: no person in it (folders named id_gender_race_age)")
    if table is not None:
        _refuse_unpaired("train.csv", set(table), "folder", {_key(name) for name in persons}, folder)
    for person in persons:
        facts = _person_facts(folder / person, None if table is None else table[_key(person)])
        for stem, name in _photos_of_person(folder / person, ignored).items():
            path = _relative(root, folder / person / name)
            yield Photo(_key(f"{person}/{name}"), "train", _key(person), path, facts | {"mask": MASK_OF_STEM[stem]})


def _person_facts(folder: Path, row: dict[str, str] | None) -> dict[str, str]:
    """What the folder name and the row of train.csv say, which must be the same where both say it."""
    named = parse_person(_key(folder.name))
    facts = row if row is not None else named
    if facts is None:
        raise UserError(
            f"train folder {folder}: name is not id_gender_race_age with gender male or female, age a number"
        )
    for fact in ("gender", "age", "race"):
        if named and named[fact] != facts[fact]:
            raise UserError(
                f"train.csv says {fact} {facts[fact]!r} and the folder name says {named[fact]!r} for {folder}"
            )
    if facts["gender"] not in ("male", "female"):
        raise UserError(f"gender {facts['gender']!r} of {folder} is unknown; allowed are male, female")
    if not facts["age"].isdecimal() or int(facts["age"]) > OLDEST:
        raise UserError(f"age {facts['age']!r} of {folder} is not a whole number from 0 to {OLDEST}")
    return facts


def _photos_of_person(folder: Path, ignored: list[str]) -> dict[str, str]:
    """File names by stem, for the stems that carry a mask label. Foreign files are counted, doubles refused."""
    found: dict[str, str] = {}
    for name in _photo_names(folder, ignored):
        stem = Path(name).stem
        if stem not in MASK_OF_STEM:
            ignored.append(f"{folder.name}/{name}")
            continue
        if stem in found:
            raise UserError(f"train folder {folder}: both {found[stem]} and {name} are there; one photo per stem")
        found[stem] = name
    return found


def _read_train_csv(path: Path) -> dict[str, dict] | None:
    """Facts by folder name; further columns are kept as further facts. None where there is no such file."""
    if not path.exists():
        return None
    frame = read_csv(path, TRAIN_CSV_COLUMNS)
    require_unique(path, frame, "path")
    frame["gender"] = frame["gender"].str.lower()
    return {_key(row.pop("path")): row for row in frame.drop(columns="id").to_dict("records")}


def _listed_eval_photos(root: Path, ignored: list[str]) -> Iterator[Photo]:
    """Eval photos in the order of info.csv, or by name where there is none."""
    folder, info = root / "eval" / "images", root / "eval" / "info.csv"
    listed = _photo_names(folder, ignored)
    names = {_key(name): name for name in listed}
    twins = [name for name in listed if names[_key(name)] != name]
    if twins:
        raise UserError(f"folder {folder}: two photos whose names look the same, {twins[0]}; letters composed and not")
    ids = list(names)
    if info.exists():
        frame = read_csv(info, ("ImageID",))
        require_unique(info, frame, "ImageID")
        ids = list(frame["ImageID"])
        _refuse_unpaired("info.csv", {_key(image_id) for image_id in ids}, "photo", set(names), folder)
    for image_id in ids:
        yield Photo(image_id, "eval", image_id, _relative(root, folder / names[_key(image_id)]))


def _photo_names(folder: Path, ignored: list[str]) -> list[str]:
    """Names of the pictures in a folder, sorted; everything else is put on the list of ignored files."""
    if not folder.is_dir():
        return []
    names = []
    for entry in os.scandir(folder):
        is_photo = is_photo_name(entry.name) and not entry.is_dir()
        (names if is_photo else ignored).append(entry.name if is_photo else f"{folder.name}/{entry.name}")
    if not names:
        raise UserError(f"folder {folder}: no photos in it (endings {', '.join(EXTENSIONS)})")
    return sorted(names)


def _refuse_unpaired(table_name: str, rows: set[str], thing: str, found: set[str], folder: Path) -> None:
    if rows - found:
        raise UserError(f"{table_name} names {name_some(sorted(rows - found))}, but no such {thing} is in {folder}")
    if found - rows:
        raise UserError(f"{thing} {name_some(sorted(found - rows))} in {folder} is not in {table_name}")


def _refuse_repeated_ids(root: Path, photos: tuple[Photo, ...]) -> None:
    seen: dict[str, str] = {}
    for photo in photos:
        if photo.image_id in seen:
            raise UserError(
                f"data folder {root}: {seen[photo.image_id]} and {photo.path} have the same id {photo.image_id!r}"
            )
        seen[photo.image_id] = photo.path


def _relative(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def _key(name: str) -> str:
    """Names that look the same are the same: Hangul comes composed or decomposed, depending on the system."""
    return unicodedata.normalize("NFC", name)


def read_truth(dataset: Dataset, edges: AgeEdges) -> dict[str, dict[str, int]] | None:
    """Labels of the eval photos by image id and task, for scoring alone; None where nobody knows them."""
    if dataset.layout == "remade":
        return {photo.image_id: _labels_of_name(photo, edges) for photo in dataset.of_split("eval")}
    path = dataset.root / "truth.csv"
    return read_truth_csv(path) if path.exists() else None


def read_truth_csv(path: Path) -> dict[str, dict[str, int]]:
    """Labels by image id and task from a CSV with ImageID and ans, the combined class."""
    frame = read_csv(path, ("ImageID", "ans"))
    require_unique(path, frame, "ImageID")
    allowed = {str(combined) for combined in range(combined_class_count())}
    for image_id, answer in zip(frame["ImageID"], frame["ans"], strict=True):
        if answer not in allowed:
            raise UserError(f"{path}: ans {answer!r} of {image_id} is not a whole number from 0 to {len(allowed) - 1}")
    return {image_id: decode(int(answer)) for image_id, answer in zip(frame["ImageID"], frame["ans"], strict=True)}


def _labels_of_name(photo: Photo, edges: AgeEdges) -> dict[str, int]:
    match = _SCORED_NAME.fullmatch(photo.person)
    facts = _facts(match) | {"mask": MASK_OF_TYPE_PREFIX[match["type"].lower()]}
    return {task.name: task.read_label(facts, edges) for task in combined_tasks()}
