"""Layouts of the data sets that this package writes: identities, paths, mask labels and tables."""

import hashlib
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from core import tasks
from core.cli import UserError, row_named
from core.files import read_json, write_csv
from core.tasks import AgeEdges
from synthesis.masks.masks import MaskSpec, random_spec

GENDERS = ("male", "female")
UNKNOWN_RACE = "unknown"
WORN, INCORRECT, BARE = range(3)
MASK_TYPES = ("mask", "incorrect_mask", "normal")
TRAIN_PHOTOS: tuple[tuple[str, int], ...] = (
    *((f"mask{number}", WORN) for number in range(1, 6)),
    ("incorrect_mask", INCORRECT),
    ("normal", BARE),
)
"""Stem and mask label of the seven photos of each train person."""


@dataclass(frozen=True)
class Identity:
    """Facts in the name of a person's folder. `age` in years; `race` without an underscore."""

    number: int
    gender: str
    race: str
    age: int

    @property
    def name(self) -> str:
        return f"{self.number:06d}_{self.gender}_{self.race}_{self.age}"

    def combined_class(self, mask: int, edges: AgeEdges) -> int:
        """Return the combined class of a photo of this person with this mask label."""
        age_group = tasks.age_group(self.age, edges)
        return tasks.encode({"mask": mask, "gender": GENDERS.index(self.gender), "age": age_group})


@dataclass(frozen=True)
class EvalPhoto:
    """Eval photo: path below the data root, identity and mask label."""

    path: str
    identity: Identity
    mask: int


Tables = Callable[[Path, Sequence[Identity], Sequence[EvalPhoto], AgeEdges], None]


@dataclass(frozen=True)
class Layout:
    """Paths and tables of a data set.

    `eval_name(identity, mask, unique)` names an eval photo; `unique` is a string of its own for each photo.
    """

    name: str
    train_folder: str
    eval_folder: str
    eval_name: Callable[[Identity, int, str], str]
    write_tables: Tables

    def train_paths(self, identity: Identity) -> tuple[tuple[str, int], ...]:
        """Return path and mask label of the seven photos of a train person."""
        return tuple((f"{self.train_folder}/{identity.name}/{stem}.jpg", mask) for stem, mask in TRAIN_PHOTOS)

    def eval_path(self, identity: Identity, mask: int, unique: str) -> str:
        return f"{self.eval_folder}/{self.eval_name(identity, mask, unique)}.jpg"


def _hidden_name(_: Identity, __: int, unique: str) -> str:
    return hashlib.sha1(unique.encode()).hexdigest()


def _labelled_name(identity: Identity, mask: int, _: str) -> str:
    return f"{identity.name}_{MASK_TYPES[mask]}"


def _competition_tables(
    root: Path, train: Sequence[Identity], evaluation: Sequence[EvalPhoto], edges: AgeEdges
) -> None:
    """Write train.csv, info.csv without labels, and truth.csv with the eval labels outside of train/ and eval/."""
    rows = [(one.name.split("_")[0], one.gender, one.race, one.age, one.name) for one in train]
    write_csv(root / "train" / "train.csv", pd.DataFrame(rows, columns=["id", "gender", "race", "age", "path"]))
    labels = sorted((Path(photo.path).name, photo.identity.combined_class(photo.mask, edges)) for photo in evaluation)
    truth = pd.DataFrame(labels, columns=["ImageID", "ans"])
    write_csv(root / "truth.csv", truth)
    write_csv(root / "eval" / "info.csv", truth.assign(ans=0))


def _no_tables(_: Path, __: Sequence[Identity], ___: Sequence[EvalPhoto], ____: AgeEdges) -> None:
    """Write nothing: the file names hold all labels."""


LAYOUTS: tuple[Layout, ...] = (
    Layout("remade", "images/train", "images/eval", _labelled_name, _no_tables),
    Layout("competition", "train/images", "eval/images", _hidden_name, _competition_tables),
)


def layout_names() -> tuple[str, ...]:
    return tuple(layout.name for layout in LAYOUTS)


def layout_named(name: str) -> Layout:
    """Return the layout of that name. UserError lists the known names."""
    return row_named(LAYOUTS, name, what="layout")


def deal_masks(count: int, rng: np.random.Generator) -> list[int]:
    """Return mask labels for `count` single photos in random order, with the frequencies of train."""
    labels = [mask for _, mask in TRAIN_PHOTOS]
    # Spread evenly before the shuffle, so that the proportions hold for any number of photos.
    return rng.permutation([labels[place * len(labels) // count] for place in range(count)]).tolist()


def new_mask(rng: np.random.Generator, wear: str, used: set[tuple[str, str]], pool: str = "train") -> MaskSpec:
    """Draw a mask whose kind and colour are not in `used`, and add them to it."""
    while True:
        spec = random_spec(rng, wear, pool)
        if (spec.kind, spec.colour) not in used:
            used.add((spec.kind, spec.colour))
            return spec


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`, renamed to `path` on success and removed on failure."""
    aside = path.absolute().with_name(f".{uuid.uuid4().hex[:12]}.tmp")
    aside.mkdir(parents=True)
    try:
        yield aside
        if path.exists():
            path.rmdir()
        aside.replace(path.absolute())
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def already_made(out: Path, record_name: str, record: dict, *, kind: str) -> bool:
    """Return True if `out` holds the data set of this record, False if it is missing or empty. UserError otherwise."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    if not (out / record_name).is_file():
        raise UserError(f"--out {out} holds something that is not a {kind}; name a new or an empty folder")
    refuse_other(out, read_json(out / record_name), record)
    return True


def refuse_other(out: Path, found: dict, wanted: dict) -> None:
    """Raise UserError naming the arguments in which the data set at `out` differs from the wanted one."""
    different = [f"{name} {found.get(name)} (asked for: {wanted.get(name)})" for name in {**wanted, **found}
                 if found.get(name) != wanted.get(name)]  # fmt: skip
    if different:
        raise UserError(f"--out {out} was made with {', '.join(different)}; name another folder, or remove it")
