"""Draw a data set of sample people, to try every step without real photos.

    python -m synthesis.drawn.sample --out sample_data --train-people 60 --eval-photos 120 --seed 0

writes sample_data in the competition layout, with the eval labels in truth.csv:

    train/train.csv  train/images/000000_female_unknown_23/{mask1..5,incorrect_mask,normal}.jpg
    eval/info.csv    eval/images/<name>.jpg
    truth.csv        sample.json (the arguments)

Equal arguments give equal bytes. These people do not exist: scores on them say nothing about real photos.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import core.environment  # noqa: F401  explains a missing package

import numpy as np

from core import tasks
from core.cli import OneLineParser, UserError, command_parser, cpu_count, positive_int, progress, run_cli
from core.files import write_json
from core.images import write_photo
from core.locks import keep_out_of_git
from core.parallel import run_parallel
from storage.run_dir import SAMPLE_RECORD
from synthesis.camera import random_camera, take_photo
from synthesis.drawn.person import OLDEST, YOUNGEST, Person, random_person
from synthesis.drawn.portrait import draw_person
from synthesis.layout import (
    GENDERS,
    TRAIN_PHOTOS,
    UNKNOWN_RACE,
    EvalPhoto,
    Identity,
    already_made,
    deal_masks,
    layout_named,
    new_folder,
    new_mask,
)
from synthesis.masks.masks import put_on_mask

DRAWING_VERSION = 2
TRAIN_STREAM, EVAL_STREAM, DEAL_STREAM = 1, 2, 3
LAYOUT = layout_named("competition")
WEARS: tuple[tuple[str, ...], ...] = (("worn",), ("below_nose", "chin"), ())
"""Ways to wear the mask, by mask label."""


@dataclass(frozen=True)
class SampleSettings:
    """Settings of the sample. Equal settings give equal bytes."""

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
class SamplePerson:
    """Drawn person and its photos: (path below the data root, mask label) each."""

    stream: tuple[int, ...]
    identity: Identity
    photos: tuple[tuple[str, int], ...]

    def person(self) -> Person:
        return random_person(np.random.default_rng(self.stream), self.identity.gender, self.identity.age)


def main(argv: Sequence[str] | None = None) -> None:
    args = _parser().parse_args(argv)
    settings = SampleSettings(args.train_people, args.eval_photos, args.seed, tuple(args.age_edges))
    _check(settings)
    if already_made(args.out, SAMPLE_RECORD, settings.record(), kind="drawn sample"):
        print(f"{args.out}: already drawn with these arguments, nothing to do")
        return
    with new_folder(args.out) as folder:
        draw_sample(folder, settings, args.workers)
    print(
        f"{args.out}: {settings.train_people} people with {len(TRAIN_PHOTOS)} photos each to train on, "
        f"{settings.eval_photos} other people with one photo each to score"
    )


def draw_sample(root: Path, settings: SampleSettings, workers: int) -> None:
    """Draw all photos and write all tables of the sample into `root`."""
    keep_out_of_git(root)
    train, evaluation = plan_train(settings), plan_eval(settings)
    _draw_photos(root, [*train, *evaluation], workers)
    _write_tables(root, train, evaluation, settings)
    write_json(root / SAMPLE_RECORD, settings.record())


def plan_train(settings: SampleSettings) -> list[SamplePerson]:
    """Plan the train people, seven photos each."""
    people = []
    for index, (gender, age) in enumerate(_deal(settings.train_people, settings, TRAIN_STREAM)):
        identity = Identity(index, gender, UNKNOWN_RACE, age)
        people.append(SamplePerson((settings.seed, TRAIN_STREAM, index), identity, LAYOUT.train_paths(identity)))
    return people


def plan_eval(settings: SampleSettings) -> list[SamplePerson]:
    """Plan the eval people, one photo each, with the mask frequencies of train; file names are hashes."""
    rng = np.random.default_rng((settings.seed, DEAL_STREAM, EVAL_STREAM, len(TRAIN_PHOTOS)))
    masks = deal_masks(settings.eval_photos, rng)
    people = []
    for index, (gender, age) in enumerate(_deal(settings.eval_photos, settings, EVAL_STREAM)):
        identity = Identity(index, gender, UNKNOWN_RACE, age)
        path = LAYOUT.eval_path(identity, masks[index], unique=f"{settings.seed}/{index}")
        people.append(SamplePerson((settings.seed, EVAL_STREAM, index), identity, ((path, masks[index]),)))
    return people


def _deal(count: int, settings: SampleSettings, stream: int) -> list[tuple[str, int]]:
    """Return `count` pairs of gender and age in years, balanced over gender x age group, in random order."""
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


def _draw_photos(root: Path, people: list[SamplePerson], workers: int) -> None:
    total = sum(len(one.photos) for one in people)
    with (
        progress(None, title="sample people", total=total) as bar,
        closing(run_parallel(partial(_drawer, root), people, workers)) as drawn,
    ):
        for count in drawn:
            bar.update(count)


def _drawer(root: Path) -> Callable[[SamplePerson], int]:
    return partial(_draw_photos_of, root)


def _draw_photos_of(root: Path, one: SamplePerson) -> int:
    """Draw and write all photos of one person; return their number."""
    person, worn = one.person(), set()
    for number, (path, mask) in enumerate(one.photos):
        rng = np.random.default_rng((*one.stream, number + 1))
        portrait = draw_person(person, rng)
        photo = portrait.photo
        if WEARS[mask]:
            spec = new_mask(rng, str(rng.choice(WEARS[mask])), worn)
            photo = put_on_mask(photo, portrait.landmarks, spec, rng)
        camera = random_camera(rng)
        write_photo(root / path, take_photo(photo, camera, rng), quality=camera.quality)
    return len(one.photos)


def _write_tables(
    root: Path, train: list[SamplePerson], evaluation: list[SamplePerson], settings: SampleSettings
) -> None:
    photos = [EvalPhoto(path, one.identity, mask) for one in evaluation for path, mask in one.photos]
    LAYOUT.write_tables(root, [one.identity for one in train], photos, settings.age_edges)


def _check(settings: SampleSettings) -> None:
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
    parser.add_argument("--out", type=Path, default=Path("sample_data"), help="folder to create")
    parser.add_argument("--train-people", type=positive_int, default=60, help="people to train on, 7 photos each")
    parser.add_argument("--eval-photos", type=positive_int, default=120, help="photos to score, one person each")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    parser.add_argument(
        "--age-edges",
        type=int,
        nargs=2,
        default=[25, 40],
        metavar=("LOW", "HIGH"),
        help="first ages of the middle and of the old group",
    )
    parser.add_argument("--workers", type=positive_int, default=cpu_count(), help="processes; changes no byte")
    return parser


if __name__ == "__main__":
    run_cli(main)
