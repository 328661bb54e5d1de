"""Where the photos of a data set lie and what is known of each: the three input layouts.

A data root is only ever read, and nothing outside of it: links that lead out are refused. Labels of eval photos are not
part of a scan: `read_truth` alone reads them, for scoring.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from core.cli import UserError, name_some
from core.files import read_csv, require_unique, text_hash
from core.images import EXTENSIONS, is_photo_name
from core.tasks import AgeEdges, combined_class_count, combined_tasks, decode
from storage.folders import Search, is_folder, refuse_outside

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


def scan(data_dir: Path, layout: str | None = None, *, faults: list[str] | None = None) -> Dataset:
    """List the photos of a data root. UserError for a root, name or table that does not fit the layout.

    With a list `faults`, each name and row that does not fit is put there and left out, and the scan goes on.
    """
    root = Path(data_dir)
    if not root.is_dir():
        raise UserError(f"data folder {root}: {'not a folder' if root.exists() else 'no such folder'}")
    layout = layout or detect_layout(root)
    if layout not in LAYOUTS:
        raise UserError(f"layout {layout!r} is unknown; the layouts are {', '.join(LAYOUTS)}")
    search = Search(root, [], faults)
    photos = _without_repeated_ids(search, LAYOUTS[layout](search))
    if not photos and not faults:
        others = f"; other files: {name_some(sorted(search.ignored))}" if search.ignored else ""
        endings = ", ".join(EXTENSIONS)
        raise UserError(f"data folder {root}: no photos in the {layout} layout (endings {endings}){others}")
    return Dataset(root, layout, photos, tuple(sorted(search.ignored)))


def detect_layout(root: Path) -> str:
    if (root / "train" / "images").is_dir() or (root / "eval" / "images").is_dir():
        return "competition"
    if (root / "images" / "train").is_dir() or (root / "images" / "eval").is_dir():
        return "remade"
    return "photos"


def _competition_photos(search: Search) -> Iterator[Photo]:
    with search.forgiving():
        yield from _train_photos(search, search.root / "train" / "images", _read_train_csv(search))
    with search.forgiving():
        yield from _listed_eval_photos(search)


def _remade_photos(search: Search) -> Iterator[Photo]:
    with search.forgiving():
        yield from _train_photos(search, search.root / "images" / "train", None)
    with search.forgiving():
        yield from _scored_eval_photos(search, search.root / "images" / "eval")


def _scored_eval_photos(search: Search, folder: Path) -> Iterator[Photo]:
    """Eval photos whose names hold the truth, of which nothing is kept."""
    for name in _photo_names(search, folder):
        if _SCORED_NAME.fullmatch(Path(name).stem):
            yield Photo(_key(name), "eval", _key(Path(name).stem), _relative(search.root, folder / name))
            continue
        with search.forgiving():
            raise UserError(f"eval photo {folder / name}: expected id_gender_race_age_masktype, masktype starting with "
                            f"{', '.join(MASK_OF_TYPE_PREFIX)}")  # fmt: skip


def _loose_photos(search: Search) -> Iterator[Photo]:
    """Folder by folder, each one's own photos first. Linked folders, which could lead in circles, are not."""
    waiting = [search.root]
    while waiting:
        entries, folders = search.entries(waiting.pop()), []
        for entry in entries:
            path = _relative(search.root, Path(entry.path))
            if is_folder(entry) and not entry.is_symlink():
                folders += [] if entry.name.startswith(".") else [Path(entry.path)]
            elif is_photo_name(entry.name) and not is_folder(entry):
                yield Photo(_key(path), "eval", _key(path), path)
            else:
                search.ignored.append(path)
        waiting += reversed(folders)


LAYOUTS: dict[str, Callable[[Search], Iterator[Photo]]] = {
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


def _train_photos(search: Search, folder: Path, table: dict[str, dict] | None) -> Iterator[Photo]:
    """Seven photos a person, in folders that name the person."""
    if not folder.is_dir():
        return
    entries = search.entries(folder)
    search.ignored.extend(_relative(search.root, Path(entry.path)) for entry in entries if not is_folder(entry))
    persons = [entry.name for entry in entries if is_folder(entry) and not entry.name.startswith(".")]
    if not persons:
        raise UserError(f"train folder {folder}: no person in it (folders named id_gender_race_age)")
    if table is not None:
        _refuse_unpaired(search, folder, {_key(name) for name in persons}, set(table), called=("folder", "train.csv"))
    for person in persons:
        with search.forgiving():
            row = None if table is None else table.get(_key(person))
            yield from _photos_of_person(search, folder / person, _person_facts(folder / person, row))


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


def _photos_of_person(search: Search, folder: Path, facts: dict[str, str]) -> list[Photo]:
    """The photos whose stems carry a mask label. Foreign files are counted, doubles refused."""
    found: dict[str, str] = {}
    for name in _photo_names(search, folder):
        stem = Path(name).stem.lower()
        if stem not in MASK_OF_STEM:
            search.ignored.append(f"{folder.name}/{name}")
            continue
        if stem in found:
            raise UserError(f"train folder {folder}: both {found[stem]} and {name} are there; one photo per stem")
        found[stem] = name
    person = _key(folder.name)
    return [
        Photo(_key(f"{person}/{name}"), "train", person, _relative(search.root, folder / name),
              facts | {"mask": MASK_OF_STEM[stem]})
        for stem, name in found.items()
    ]  # fmt: skip


def _read_train_csv(search: Search) -> dict[str, dict] | None:
    """Facts by folder name; further columns are kept as further facts. None where there is no such file."""
    frame = search.table(search.root / "train" / "train.csv", TRAIN_CSV_COLUMNS, key="path")
    if frame is None:
        return None
    frame["gender"] = frame["gender"].str.lower()
    return {_key(row.pop("path")): row for row in frame.drop(columns="id").to_dict("records")}


def _listed_eval_photos(search: Search) -> Iterator[Photo]:
    """Eval photos in the order of info.csv, or by name where there is none."""
    folder = search.root / "eval" / "images"
    listed = _photo_names(search, folder)
    names = {_key(name): name for name in listed}
    for twin in (name for name in listed if names[_key(name)] != name):
        with search.forgiving():
            raise UserError(f"folder {folder}: two photos whose names look the same, {twin}; letters composed and not")
    ids = list(names)
    frame = search.table(search.root / "eval" / "info.csv", ("ImageID",), key="ImageID")
    if frame is not None:
        rows = {_key(image_id) for image_id in frame["ImageID"]}
        _refuse_unpaired(search, folder, set(names), rows, called=("photo", "info.csv"))
        ids = [image_id for image_id in frame["ImageID"] if _key(image_id) in names]
    for image_id in ids:
        yield Photo(image_id, "eval", image_id, _relative(search.root, folder / names[_key(image_id)]))


def _photo_names(search: Search, folder: Path) -> list[str]:
    """Names of the pictures in a folder, sorted; everything else is put on the list of ignored files."""
    if not folder.is_dir():
        return []
    names = []
    for entry in search.entries(folder):
        is_photo = is_photo_name(entry.name) and not is_folder(entry)
        (names if is_photo else search.ignored).append(entry.name if is_photo else f"{folder.name}/{entry.name}")
    if not names:
        raise UserError(f"folder {folder}: no photos in it (endings {', '.join(EXTENSIONS)})")
    return names


def _refuse_unpaired(search: Search, folder: Path, found: set[str], rows: set[str], *, called: tuple[str, str]) -> None:
    """UserError unless the things in a folder and the rows of its table, `called` so, are the same."""
    thing, table_name = called
    with search.forgiving():
        if rows - found:
            raise UserError(f"{table_name} names {name_some(sorted(rows - found))}, but no such {thing} is in {folder}")
    with search.forgiving():
        if found - rows:
            raise UserError(f"{thing} {name_some(sorted(found - rows))} in {folder} is not in {table_name}")


def _without_repeated_ids(search: Search, photos: Iterator[Photo]) -> tuple[Photo, ...]:
    seen: dict[str, Photo] = {}
    for photo in photos:
        with search.forgiving():
            first = seen.setdefault(photo.image_id, photo)
            if first is not photo:
                paths = f"{first.path} and {photo.path}"
                raise UserError(f"data folder {search.root}: {paths} have the same id {photo.image_id!r}")
    return tuple(seen.values())


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
    refuse_outside(dataset.root, path)
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
