"""The input layouts: from a data root to its photos and the facts of each.

A data root is only read, and nothing outside of it: links that lead out are refused. A scan holds no labels of eval
photos; storage/eval_labels.py reads those, for scoring.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from core.cli import UserError, name_some
from core.files import text_hash
from core.image_formats import EXTENSIONS
from core.images import is_photo_name
from storage.folders import Photo, Search, is_folder, name_key
from storage.label_words import OLDEST
from storage.photo_table import find_table, has_class_folders, is_table_name, labelled_photos

MASK_OF_STEM = {
    **{f"mask{number}": "wear" for number in range(1, 6)},
    "incorrect_mask": "incorrect",
    "normal": "not_wear",
}
MASK_OF_TYPE_PREFIX = {"mask": "wear", "incorrect": "incorrect", "normal": "not_wear"}
TABLE = "table"
_FOLDERS = {"competition": ("train", "eval"), "remade": ("images",)}
TRAIN_CSV_COLUMNS = ("id", "gender", "race", "age", "path")

PERSON_NAME = re.compile(r"(?P<id>.+)_(?P<gender>male|female)_(?P<race>[^_]+)_(?P<age>\d{1,3})", re.IGNORECASE)
SCORED_NAME = re.compile(PERSON_NAME.pattern + r"_(?P<type>mask|incorrect|normal)[^/]*", re.IGNORECASE)


@dataclass(frozen=True)
class Dataset:
    """Photos of both splits of a data root, eval photos in the order of a submission, and what was ignored.

    `root` is the folder of the photos; `source` is the path that was scanned, a table or the same folder. `notes` say
    how a table was read.
    """

    root: Path
    layout: str
    photos: tuple[Photo, ...]
    ignored: tuple[str, ...]
    source: Path
    notes: tuple[str, ...] = ()

    @cached_property
    def listing_hash(self) -> str:
        """Hash that changes when a photo is added, removed, renamed or labelled anew, not with the listing order."""
        return text_hash(sorted(repr((p.image_id, p.path, sorted(p.facts.items()))) for p in self.photos))

    def of_split(self, split: str) -> list[Photo]:
        return [photo for photo in self.photos if photo.split == split]


def scan(data_dir: Path, layout: str | None = None, *, faults: list[str] | None = None) -> Dataset:
    """List the photos of a data root. UserError for a root, name or table that does not fit the layout.

    With a list `faults`, each name and row that does not fit is put there and left out, and the scan goes on.
    """
    source = Path(data_dir)
    root = photo_root(source)
    if not root.is_dir() or not source.exists():
        raise UserError(f"data folder {source}: {'not a folder' if root.exists() else 'no such folder'}")
    layout = layout or (TABLE if source != root else detect_layout(root))
    if layout not in LAYOUTS:
        raise UserError(f"layout {layout!r} is unknown; the layouts are {', '.join(LAYOUTS)}")
    search = Search(root, [], faults, table_path=source if source != root else None)
    photos = _without_repeated_ids(search, LAYOUTS[layout](search))
    if not faults:
        search.ignored.extend(_unlisted(search, layout, photos))
    if not photos and not faults:
        others = f"; other files: {name_some(sorted(search.ignored))}" if search.ignored else ""
        endings = ", ".join(EXTENSIONS)
        raise UserError(f"data folder {root}: no photos in the {layout} layout (endings {endings}){others}")
    return Dataset(root, layout, photos, tuple(sorted(search.ignored)), source, tuple(search.notes))


def _unlisted(search: Search, layout: str, photos: Sequence[Photo]) -> list[str]:
    """Return photos that lie in the folders of a layout where it looks for none."""
    listed = {photo.path for photo in photos}.union(search.ignored)
    others = Search(search.root, [], faults=[])
    folders = (search.root / name for name in _FOLDERS.get(layout, ()))
    below = (path for folder in folders if folder.is_dir() for path in others.photos_below(folder))
    return [path for path in below if path not in listed]


def photo_root(source: Path) -> Path:
    """Return the folder that the photos of a data root lie in: of a table, the folder it is in."""
    return source.parent if is_table_name(source.name) and source.is_file() else source


def detect_layout(root: Path) -> str:
    """Return the name of the layout that the folders of a data root show."""
    if (root / "train" / "images").is_dir() or (root / "eval" / "images").is_dir():
        return "competition"
    if (root / "images" / "train").is_dir() or (root / "images" / "eval").is_dir():
        return "remade"
    return TABLE if find_table(root) or has_class_folders(root) else "photos"


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
    """Yield eval photos whose names hold their labels; the labels are dropped."""
    for name in _photo_names(search, folder):
        if SCORED_NAME.fullmatch(Path(name).stem):
            yield Photo(name_key(name), "eval", name_key(Path(name).stem), _relative(search.root, folder / name))
            continue
        with search.forgiving():
            raise UserError(f"eval photo {folder / name}: expected id_gender_race_age_masktype, masktype starting with "
                            f"{', '.join(MASK_OF_TYPE_PREFIX)}")  # fmt: skip


def _loose_photos(search: Search) -> Iterator[Photo]:
    for path in search.photos_below(search.root):
        yield Photo(name_key(path), "eval", name_key(path), path)


LAYOUTS: dict[str, Callable[[Search], Iterator[Photo]]] = {
    "competition": _competition_photos,
    "remade": _remade_photos,
    TABLE: labelled_photos,
    "photos": _loose_photos,
}


def parse_person(name: str) -> dict[str, str] | None:
    """Return the facts of a name like 000123_female_Asian_31, or None for another name."""
    match = PERSON_NAME.fullmatch(name)
    return facts_of_match(match) if match else None


def facts_of_match(match: re.Match) -> dict[str, str]:
    """Return gender, race and age of a match of PERSON_NAME or SCORED_NAME."""
    return {"gender": match["gender"].lower(), "race": match["race"], "age": str(int(match["age"]))}


def _train_photos(search: Search, folder: Path, table: dict[str, dict] | None) -> Iterator[Photo]:
    """Yield the photos of train folders, seven a person, whose names are those of the persons."""
    if not folder.is_dir():
        return
    entries = search.entries(folder)
    search.ignored.extend(_relative(search.root, Path(entry.path)) for entry in entries if not is_folder(entry))
    persons = [entry.name for entry in entries if is_folder(entry) and not entry.name.startswith(".")]
    if not persons:
        raise UserError(f"train folder {folder}: no person in it (folders named id_gender_race_age)")
    if table is not None:
        _refuse_unpaired(
            search, folder, {name_key(name) for name in persons}, set(table), called=("folder", "train.csv")
        )
    for person in persons:
        with search.forgiving():
            row = None if table is None else table.get(name_key(person))
            yield from _photos_of_person(search, folder / person, _person_facts(folder / person, row))


def _person_facts(folder: Path, row: dict[str, str] | None) -> dict[str, str]:
    """Return the facts of the folder name or the row of train.csv; UserError where the two disagree."""
    named = parse_person(name_key(folder.name))
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
    """Return the photos whose stems carry a mask label. Other files are ignored; UserError for two of one stem."""
    found: dict[str, str] = {}
    for name in _photo_names(search, folder):
        stem = Path(name).stem.lower()
        if stem not in MASK_OF_STEM:
            search.ignored.append(_relative(search.root, folder / name))
            continue
        if stem in found:
            raise UserError(f"train folder {folder}: both {found[stem]} and {name} are there; one photo per stem")
        found[stem] = name
    person = name_key(folder.name)
    return [
        Photo(name_key(f"{person}/{name}"), "train", person, _relative(search.root, folder / name),
              facts | {"mask": MASK_OF_STEM[stem]})
        for stem, name in found.items()
    ]  # fmt: skip


def _read_train_csv(search: Search) -> dict[str, dict] | None:
    """Return facts by folder name, further columns as further facts; None where there is no train.csv."""
    frame = search.table(search.root / "train" / "train.csv", TRAIN_CSV_COLUMNS, key="path")
    if frame is None:
        return None
    frame["gender"] = frame["gender"].str.lower()
    return {name_key(row.pop("path")): row for row in frame.drop(columns="id").to_dict("records")}


def _listed_eval_photos(search: Search) -> Iterator[Photo]:
    """Yield eval photos in the order of info.csv, or by name where there is none."""
    folder = search.root / "eval" / "images"
    listed = _photo_names(search, folder)
    names = {name_key(name): name for name in listed}
    for twin in (name for name in listed if names[name_key(name)] != name):
        with search.forgiving():
            raise UserError(f"folder {folder}: two photos whose names look the same, {twin}; letters composed and not")
    ids = list(names)
    frame = search.table(search.root / "eval" / "info.csv", ("ImageID",), key="ImageID")
    if frame is not None:
        rows = {name_key(image_id) for image_id in frame["ImageID"]}
        _refuse_unpaired(search, folder, set(names), rows, called=("photo", "info.csv"))
        ids = [image_id for image_id in frame["ImageID"] if name_key(image_id) in names]
    for image_id in ids:
        yield Photo(image_id, "eval", image_id, _relative(search.root, folder / names[name_key(image_id)]))


def _photo_names(search: Search, folder: Path) -> list[str]:
    """Return the sorted names of the photos in a folder; the rest goes on the list of ignored files."""
    if not folder.is_dir():
        return []
    names = []
    for entry in search.entries(folder):
        if is_photo_name(entry.name) and not is_folder(entry):
            names.append(entry.name)
        else:
            search.ignored.append(_relative(search.root, folder / entry.name))
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
