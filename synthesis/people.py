"""Draw sample people into a data folder, so that every step can be tried without a photo of anybody.

    python -m synthesis.people --out sample_data --train-people 60 --eval-photos 120 --seed 0

writes sample_data in the competition layout, the true answers of the eval photos beside it in truth.csv:

    train/train.csv  train/images/000000_female_unknown_23/{mask1..5,incorrect_mask,normal}.jpg
    eval/info.csv    eval/images/<name>.jpg
    truth.csv        sample.json (the arguments)

The same arguments always draw the same bytes. These people do not exist: a score on them says nothing about real ones.
"""

import hashlib
import multiprocessing
import shutil
import signal
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from core import tasks
from core.artifacts import read_json, write_csv, write_json
from core.photos import write_photo
from core.runtime import OneLineParser, UserError, command_parser, cpu_count, positive_int, progress, run_cli
from synthesis.masks import MaskSpec, put_on_mask, random_spec
from synthesis.person import OLDEST, YOUNGEST, Person, random_person
from synthesis.portrait import draw_person, take_photo

DRAWING_VERSION = 1
RECORD_NAME = "sample.json"
GENDERS = ("male", "female")
RACE = "unknown"
TRAIN_STREAM, EVAL_STREAM, DEAL_STREAM = 1, 2, 3
WORN, INCORRECT, BARE = range(3)
WAYS: tuple[tuple[str, ...], ...] = (("worn",), ("below_nose", "chin"), ())
TRAIN_PHOTOS: tuple[tuple[str, int], ...] = (
    *((f"mask{number}", WORN) for number in range(1, 6)),
    ("incorrect_mask", INCORRECT),
    ("normal", BARE),
)


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
    gender: str
    age: int
    photos: tuple[tuple[str, int], ...]

    def person(self) -> Person:
        return random_person(np.random.default_rng(self.stream), self.gender, self.age)


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
    found, wanted = read_json(out / RECORD_NAME), settings.record()
    different = [
        f"{name} {found.get(name)} (asked for: {value})" for name, value in wanted.items() if found.get(name) != value
    ]
    if different:
        raise UserError(f"--out {out} holds a sample with {', '.join(different)}; name another folder, or remove it")
    return True


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
        folder = f"train/images/{index:06d}_{gender}_{RACE}_{age}"
        photos = tuple((f"{folder}/{stem}.jpg", mask) for stem, mask in TRAIN_PHOTOS)
        sittings.append(Sitting((settings.seed, TRAIN_STREAM, index), gender, age, photos))
    return sittings


def plan_eval(settings: Settings) -> list[Sitting]:
    """Other people, one photo each, the three mask labels as frequent as in train; the names tell nothing."""
    labels = [mask for _, mask in TRAIN_PHOTOS]
    rng = np.random.default_rng((settings.seed, DEAL_STREAM, EVAL_STREAM, len(labels)))
    # Spread evenly over the count, then shuffled: the proportions hold for any number of photos.
    masks = rng.permutation(
        [labels[place * len(labels) // settings.eval_photos] for place in range(settings.eval_photos)]
    )
    sittings = []
    for index, (gender, age) in enumerate(_deal(settings.eval_photos, settings, EVAL_STREAM)):
        name = hashlib.sha1(f"{settings.seed}/{index}".encode()).hexdigest()
        photos = ((f"eval/images/{name}.jpg", int(masks[index])),)
        sittings.append(Sitting((settings.seed, EVAL_STREAM, index), gender, age, photos))
    return sittings


def answer(sitting: Sitting, mask: int, edges: tuple[int, int]) -> int:
    """The combined class of a photo of this person with this mask label."""
    age_group = tasks.age_group(sitting.age, edges)
    return tasks.encode({"mask": mask, "gender": GENDERS.index(sitting.gender), "age": age_group})


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
    draw = partial(_draw_sitting, root)
    with progress(None, title="sample people", total=total) as bar:
        if workers == 1:
            for sitting in sittings:
                bar.update(draw(sitting))
            return
        # spawn: a forked child can hang in libraries whose threads the parent has already started.
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker)
        try:
            for drawn in pool.map(draw, sittings, chunksize=4):
                bar.update(drawn)
        finally:
            pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)


def _draw_sitting(root: Path, sitting: Sitting) -> int:
    """Draw and write all photos of one person; returns how many."""
    person, worn = sitting.person(), set()
    for number, (path, mask) in enumerate(sitting.photos):
        rng = np.random.default_rng((*sitting.stream, number + 1))
        portrait = draw_person(person, rng)
        photo = portrait.photo
        if WAYS[mask]:
            spec = _unworn_spec(rng, str(rng.choice(WAYS[mask])), worn)
            photo = put_on_mask(photo, portrait.landmarks, spec, rng)
        write_photo(root / path, take_photo(photo, rng), quality=int(rng.integers(78, 97)))
    return len(sitting.photos)


def _unworn_spec(rng: np.random.Generator, way: str, worn: set[tuple[str, str]]) -> MaskSpec:
    """A mask whose kind and colour this person has not worn yet; `worn` is brought up to date."""
    while True:
        spec = random_spec(rng, way)
        if (spec.kind, spec.colour) not in worn:
            worn.add((spec.kind, spec.colour))
            return spec


def _write_tables(root: Path, train: list[Sitting], evaluation: list[Sitting], settings: Settings) -> None:
    folders = [Path(sitting.photos[0][0]).parent.name for sitting in train]
    write_csv(
        root / "train" / "train.csv",
        pd.DataFrame(
            {
                "id": [folder.split("_")[0] for folder in folders],
                "gender": [sitting.gender for sitting in train],
                "race": RACE,
                "age": [sitting.age for sitting in train],
                "path": folders,
            }
        ),
    )
    answers = {
        Path(path).name: answer(sitting, mask, settings.age_edges)
        for sitting in evaluation
        for path, mask in sitting.photos
    }
    truth = pd.DataFrame(sorted(answers.items()), columns=["ImageID", "ans"])
    write_csv(root / "truth.csv", truth)
    write_csv(root / "eval" / "info.csv", truth.assign(ans=0))


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
