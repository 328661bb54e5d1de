"""Draw sample people into a data folder, so that every step can be tried without a photo of anybody.

    python -m synthesis.drawn.sample --out sample_data --train-people 60 --eval-photos 120 --seed 0

writes sample_data in the competition layout, the true answers of the eval photos beside it in truth.csv:

    train/train.csv  train/images/000000_female_unknown_23/{mask1..5,incorrect_mask,normal}.jpg
    eval/info.csv    eval/images/<name>.jpg
    truth.csv        sample.json (the arguments)

The same arguments always draw the same bytes. These people do not exist: a score on them says nothing about real ones.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from core import tasks
from core.cli import OneLineParser, UserError, command_parser, cpu_count, positive_int, progress, run_cli
from core.files import read_json, write_json
from core.images import write_photo
from core.parallel import run_parallel
from synthesis.camera import random_camera, take_photo
from synthesis.drawn.person import OLDEST, YOUNGEST, Person, random_person
from synthesis.drawn.portrait import draw_person
from synthesis.layout import (
    GENDERS,
    TRAIN_PHOTOS,
    UNKNOWN_RACE,
    EvalPhoto,
    Identity,
    deal_masks,
    layout_named,
    new_folder,
    refuse_other,
    unworn_spec,
)
from synthesis.masks.masks import put_on_mask

DRAWING_VERSION = 2
RECORD_NAME = "sample.json"
TRAIN_STREAM, EVAL_STREAM, DEAL_STREAM = 1, 2, 3
LAYOUT = layout_named("competition")
WAYS: tuple[tuple[str, ...], ...] = (("worn",), ("below_nose", "chin"), ())
"""Ways to wear the mask, by mask label."""


@dataclass(frozen=True)
class Settings:
    """What decides the sample: equal settings draw equal bytes."""

    train_people: int
    eval_photos: int
    seed: int
    age_edges: tuple[int, int]

    def record(self) -> dict:
        return {
            "train_people": self.train_people,
            "eval_photos": self.eval_photos,
            "seed": self.seed,
            "age_edges": list(self.age_edges),
            "drawing_version": DRAWING_VERSION,
        }


@dataclass(frozen=True)
class Sitting:
    """One person and the photos taken of them: (path below the data root, mask label) each."""

    stream: tuple[int, ...]
    identity: Identity
    photos: tuple[tuple[str, int], ...]

    def person(self) -> Person:
        return random_person(np.random.default_rng(self.stream), self.identity.gender, self.identity.age)


def main(argv: Sequence[str] | None = None) -> None:
    args = _parser().parse_args(argv)
    settings = Settings(args.train_people, args.eval_photos, args.seed, tuple(args.age_edges))
    _check(settings)
    if already_drawn(args.out, settings):
        print(f"{args.out}: already drawn with these arguments, nothing to do")
        return
    with new_folder(args.out) as folder:
        draw_sample(folder, settings, args.workers)
    print(
        f"{args.out}: {settings.train_people} people with {len(TRAIN_PHOTOS)} photos each to train on, "
        f"{settings.eval_photos} other people with one photo each to score"
    )


def already_drawn(out: Path, settings: Settings) -> bool:
    """Whether `out` holds this very sample; UserError if it holds anything else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    if not (out / RECORD_NAME).is_file():
        raise UserError(f"--out {out} holds something that is not a drawn sample; name a new or an empty folder")
    refuse_other(out, read_json(out / RECORD_NAME), settings.record())
    return True


def draw_sample(root: Path, settings: Settings, workers: int) -> None:
    """Draw all photos and write all tables of the sample into `root`."""
    train, evaluation = plan_train(settings), plan_eval(settings)
    _draw_photos(root, [*train, *evaluation], workers)
    _write_tables(root, train, evaluation, settings)
    write_json(root / RECORD_NAME, settings.record())


def plan_train(settings: Settings) -> list[Sitting]:
    """The people of the train part, seven photos each."""
    sittings = []
    for index, (gender, age) in enumerate(_deal(settings.train_people, settings, TRAIN_STREAM)):
        identity = Identity(index, gender, UNKNOWN_RACE, age)
        sittings.append(Sitting((settings.seed, TRAIN_STREAM, index), identity, LAYOUT.train_paths(identity)))
    return sittings


def plan_eval(settings: Settings) -> list[Sitting]:
    """Other people, one photo each, the three mask labels as frequent as in train; the names tell nothing."""
    rng = np.random.default_rng((settings.seed, DEAL_STREAM, EVAL_STREAM, len(TRAIN_PHOTOS)))
    masks = deal_masks(settings.eval_photos, rng)
    sittings = []
    for index, (gender, age) in enumerate(_deal(settings.eval_photos, settings, EVAL_STREAM)):
        identity = Identity(index, gender, UNKNOWN_RACE, age)
        path = LAYOUT.eval_path(identity, masks[index], secret=f"{settings.seed}/{index}")
        sittings.append(Sitting((settings.seed, EVAL_STREAM, index), identity, ((path, masks[index]),)))
    return sittings


def _deal(count: int, settings: Settings, stream: int) -> list[tuple[str, int]]:
    """`count` times gender and age (years), the gender x age-group cells as equal as can be, in random order."""
    rng = np.random.default_rng((settings.seed, DEAL_STREAM, stream))
    cells = [(gender, group) for group in range(3) for gender in GENDERS]
    rng.shuffle(cells)
    dealt = []
    for number in range(count):
        gender, group = cells[number % len(cells)]
        dealt.append((gender, int(rng.choice(_ages_of(group, settings.age_edges)))))
    rng.shuffle(dealt)
    return dealt


def _ages_of(group: int, edges: tuple[int, int]) -> list[int]:
    return [age for age in range(YOUNGEST, OLDEST + 1) if tasks.age_group(age, edges) == group]


def _draw_photos(root: Path, sittings: list[Sitting], workers: int) -> None:
    total = sum(len(sitting.photos) for sitting in sittings)
    with (
        progress(None, title="sample people", total=total) as bar,
        closing(run_parallel(partial(_drawer, root), sittings, workers)) as drawn,
    ):
        for count in drawn:
            bar.update(count)


def _drawer(root: Path) -> Callable[[Sitting], int]:
    return partial(_draw_sitting, root)


def _draw_sitting(root: Path, sitting: Sitting) -> int:
    """Draw and write all photos of one person; returns how many."""
    person, worn = sitting.person(), set()
    for number, (path, mask) in enumerate(sitting.photos):
        rng = np.random.default_rng((*sitting.stream, number + 1))
        portrait = draw_person(person, rng)
        photo = portrait.photo
        if WAYS[mask]:
            spec = unworn_spec(rng, str(rng.choice(WAYS[mask])), worn)
            photo = put_on_mask(photo, portrait.landmarks, spec, rng)
        camera = random_camera(rng)
        write_photo(root / path, take_photo(photo, camera, rng), quality=camera.quality)
    return len(sitting.photos)


def _write_tables(root: Path, train: list[Sitting], evaluation: list[Sitting], settings: Settings) -> None:
    photos = [EvalPhoto(path, one.identity, mask) for one in evaluation for path, mask in one.photos]
    LAYOUT.write_tables(root, [one.identity for one in train], photos, settings.age_edges)


def _check(settings: Settings) -> None:
    if settings.seed < 0:
        raise UserError(f"--seed {settings.seed} is negative; allowed are whole numbers from 0")
    empty = [group for group in range(3) if not _ages_of(group, settings.age_edges)]
    low, high = settings.age_edges
    if empty or low >= high:
        raise UserError(
            f"--age-edges {low} {high} leave an age group empty; allowed are two rising ages, "
            f"{YOUNGEST + 1} to {OLDEST}"
        )


def _parser() -> OneLineParser:
    parser = command_parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("sample_data"), help="folder to make")
    parser.add_argument("--train-people", type=positive_int, default=60, help="people to train on, 7 photos each")
    parser.add_argument("--eval-photos", type=positive_int, default=120, help="photos to score, one each of others")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same people and photos")
    parser.add_argument(
        "--age-edges",
        type=int,
        nargs=2,
        default=[25, 40],
        metavar=("LOW", "HIGH"),
        help="first ages of the middle and of the old group",
    )
    parser.add_argument("--workers", type=positive_int, default=cpu_count(), help="processes, for speed only")
    return parser


if __name__ == "__main__":
    run_cli(main)
