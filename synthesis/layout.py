"""What both makers of data sets share: the photos of a person, the mask of each, and where a layout puts them."""

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
from core.files import write_csv
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
"""Stem and mask label of the seven photos that each train person has."""


@dataclass(frozen=True)
class Identity:
    """What the name of a person's folder says. `age` in years; `race` has no underscore in it."""

    number: int
    gender: str
    race: str
    age: int

    @property
    def name(self) -> str:
        return f"{self.number:06d}_{self.gender}_{self.race}_{self.age}"

    def answer(self, mask: int, edges: AgeEdges) -> int:
        """The combined class of a photo of this person with this mask label."""
        age_group = tasks.age_group(self.age, edges)
        return tasks.encode({"mask": mask, "gender": GENDERS.index(self.gender), "age": age_group})


@dataclass(frozen=True)
class EvalPhoto:
    """An eval photo: where it lies below the data root, of whom it is, and its mask label."""

    path: str
    identity: Identity
    mask: int


Tables = Callable[[Path, Sequence[Identity], Sequence[EvalPhoto], AgeEdges], None]


@dataclass(frozen=True)
class Layout:
    """Where a data set keeps its photos, and the tables it has beside them.

    `eval_name(identity, mask, secret)` names an eval photo; `secret` differs from photo to photo and tells nothing.
    """

    name: str
    train_folder: str
    eval_folder: str
    eval_name: Callable[[Identity, int, str], str]
    write_tables: Tables

    def train_paths(self, identity: Identity) -> tuple[tuple[str, int], ...]:
        """Path and mask label of the seven photos of a train person."""
        return tuple((f"{self.train_folder}/{identity.name}/{stem}.jpg", mask) for stem, mask in TRAIN_PHOTOS)

    def eval_path(self, identity: Identity, mask: int, secret: str) -> str:
        return f"{self.eval_folder}/{self.eval_name(identity, mask, secret)}.jpg"


def _hidden_name(_: Identity, __: int, secret: str) -> str:
    return hashlib.sha1(secret.encode()).hexdigest()


def _telling_name(identity: Identity, mask: int, _: str) -> str:
    return f"{identity.name}_{MASK_TYPES[mask]}"


def _competition_tables(
    root: Path, train: Sequence[Identity], evaluation: Sequence[EvalPhoto], edges: AgeEdges
) -> None:
    """train.csv, info.csv with no answers in it, and truth.csv outside of what a model gets to see."""
    rows = [(one.name.split("_")[0], one.gender, one.race, one.age, one.name) for one in train]
    write_csv(root / "train" / "train.csv", pd.DataFrame(rows, columns=["id", "gender", "race", "age", "path"]))
    answers = sorted((Path(photo.path).name, photo.identity.answer(photo.mask, edges)) for photo in evaluation)
    truth = pd.DataFrame(answers, columns=["ImageID", "ans"])
    write_csv(root / "truth.csv", truth)
    write_csv(root / "eval" / "info.csv", truth.assign(ans=0))


def _no_tables(_: Path, __: Sequence[Identity], ___: Sequence[EvalPhoto], ____: AgeEdges) -> None:
    """The names of the files say it all."""


LAYOUTS: tuple[Layout, ...] = (
    Layout("remade", "images/train", "images/eval", _telling_name, _no_tables),
    Layout("competition", "train/images", "eval/images", _hidden_name, _competition_tables),
)


def layout_names() -> tuple[str, ...]:
    return tuple(layout.name for layout in LAYOUTS)


def layout_named(name: str) -> Layout:
    """The layout's row; UserError lists the names there are."""
    return row_named(LAYOUTS, name, what="layout")


def deal_masks(count: int, rng: np.random.Generator) -> list[int]:
    """Mask labels for `count` single photos, as frequent as in train, in random order."""
    labels = [mask for _, mask in TRAIN_PHOTOS]
    # Spread evenly over the count, then shuffled: the proportions hold for any number of photos.
    return rng.permutation([labels[place * len(labels) // count] for place in range(count)]).tolist()


def unworn_spec(rng: np.random.Generator, way: str, worn: set[tuple[str, str]], pool: str = "train") -> MaskSpec:
    """A mask whose kind and colour this person has not worn yet; `worn` is brought up to date."""
    while True:
        spec = random_spec(rng, way, pool)
        if (spec.kind, spec.colour) not in worn:
            worn.add((spec.kind, spec.colour))
            return spec


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; renamed to `path` on success, removed on failure."""
    aside = path.absolute().with_name(f".{uuid.uuid4().hex[:12]}.tmp")
    aside.mkdir(parents=True)
    try:
        yield aside
        if path.exists():
            path.rmdir()
        aside.replace(path.absolute())
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def refuse_other(out: Path, found: dict, wanted: dict) -> None:
    """UserError naming the first arguments in which the data set at `out` differs from the one asked for."""
    different = [f"{name} {found.get(name)} (asked for: {value})" for name, value in wanted.items()
                 if found.get(name) != value]  # fmt: skip
    if different:
        raise UserError(f"--out {out} was made with {', '.join(different)}; name another folder, or remove it")
