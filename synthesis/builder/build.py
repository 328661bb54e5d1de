"""Build a masked-face data set from photos of faces.

    python -m synthesis.builder.build --faces faces/ --labels labels.csv --out data --train-people 2700

writes `data`, ready for DATA_DIR=data bash run_all.sh, seven photos for each train person and one for each eval person:

    images/train/000001_female_Asian_31/{mask1..5,incorrect_mask,normal}.jpg
    images/eval/002701_male_White_44_mask.jpg
    manifest.csv    one row a photo: person, source, labels, pose, and every parameter it was made with
    rejected.csv    one row for each photo of --faces that was not used, with the reason
    sheets/*.jpg    contact sheets by kind of mask and way of wearing it
    build.json      the arguments

labels.csv has the columns file, gender, race, age; without it --labeler guesses them. Until all is done the folder is
named data.unfinished; the same command goes on from there. The same arguments always give the same photos.
"""

import argparse
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from core.cli import OneLineParser, UserError, command_parser, cpu_count, positive_int, progress, run_cli
from core.contact_sheet import photo_grid
from core.files import file_sha256, read_json, text_hash, write_csv, write_json
from core.images import fingerprint, write_photo
from core.parallel import run_parallel
from synthesis.builder.labels import Label, labeller_named, labeller_names, read_labels
from synthesis.builder.measure import list_photos, measure_photos
from synthesis.builder.photos import Sitting, manifest_rows, painter
from synthesis.builder.select import AGE_NAMES, Ask, Choice, Chosen, Limits, check_shares, choose, sift, without_copies
from synthesis.layout import EvalPhoto, Identity, Layout, deal_masks, layout_named, layout_names, refuse_other

BUILD_VERSION = 1
RECORD_NAME = "build.json"
WORK_DIR = ".work"
SHEET_PHOTOS = 32
TRAIN_STREAM, EVAL_STREAM, CHOICE_STREAM, MASK_STREAM = 11, 12, 13, 14


@dataclass(frozen=True)
class Settings:
    """What decides the data set: equal settings over the same photos give equal bytes."""

    faces: Path
    labels: Path | None
    labeler: str
    layout: str
    seed: int
    ask: Ask
    limits: Limits

    def record(self, names: Sequence[str]) -> dict:
        """The settings as JSON has them; files by what is in them."""
        listing = text_hash(f"{name} {fingerprint(self.faces / name)}" for name in names)
        return {
            "build_version": BUILD_VERSION,
            "faces": listing,
            "labels": file_sha256(self.labels)[:16] if self.labels else self.labeler,
            "layout": self.layout,
            "seed": self.seed,
            **{name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self.ask).items()},
            **{f"least_{name}": value for name, value in asdict(self.limits).items()},
        }


def main(argv: Sequence[str] | None = None) -> None:
    args = _parser().parse_args(argv)
    settings = _settings(args)
    names = list_photos(settings.faces)
    labels = read_labels(settings.labels) if settings.labels else None
    record = settings.record(names)
    if _already_built(args.out, record):
        print(f"{args.out}: already built with these arguments, nothing to do")
        return
    if labels is None:
        # Asked for here, where a labeller that is not installed is a clear error and leaves nothing behind.
        labeller_named(settings.labeler).load()
    root = _unfinished(args.out, record)
    choice = _choose(settings, names, labels, work_dir=root / WORK_DIR, workers=args.workers)
    _say_choice(choice, settings.ask, strict=args.strict)
    sittings = plan_sittings(choice, settings)
    _paint(settings.faces, root, sittings, args.workers)
    manifest = _write_tables(root, sittings, choice, settings)
    sheets = _write_sheets(root, manifest)
    _finish(root, args.out)
    print(
        f"{args.out}: {len(choice.train)} people with 7 photos each to train on, {len(choice.evaluation)} others "
        f"with one photo each to score; {len(sheets)} contact sheets in {args.out / 'sheets'}"
    )


def _already_built(out: Path, record: dict) -> bool:
    """Whether `out` holds this very data set; UserError if it holds anything else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    if not (out / RECORD_NAME).is_file():
        raise UserError(f"--out {out} holds something that is not a built data set; name a new or an empty folder")
    refuse_other(out, read_json(out / RECORD_NAME), record)
    return True


def _unfinished(out: Path, record: dict) -> Path:
    """The folder in which the data set grows, new or left by a run that was ended; UserError if by another one."""
    root = out.with_name(out.name + ".unfinished")
    if (root / RECORD_NAME).is_file():
        refuse_other(root, read_json(root / RECORD_NAME), record)
    elif root.exists() and any(root.iterdir()):
        raise UserError(f"{root} is in the way and holds something else; name another --out, or remove it")
    write_json(root / RECORD_NAME, record)
    return root


def _write_sheets(root: Path, manifest: pd.DataFrame) -> list[str]:
    """Write a contact sheet of up to 32 photos for each kind of mask, each wrong way, and bare faces; return names."""
    worn = manifest["mask_wear"].eq("worn")
    sheet_of = ("kind_" + manifest["mask_kind"]).where(worn, "wrong_" + manifest["mask_wear"])
    sheet_of = sheet_of.where(manifest["mask_kind"].ne(""), "bare")
    names = sorted(set(sheet_of))
    for name in names:
        paths = manifest["path"][sheet_of == name].tolist()
        some = np.linspace(0, len(paths) - 1, min(len(paths), SHEET_PHOTOS)).round().astype(int)
        write_photo(root / "sheets" / f"{name}.jpg", photo_grid([root / paths[place] for place in some]), quality=85)
    return names


def _finish(root: Path, out: Path) -> None:
    shutil.rmtree(root / WORK_DIR)
    if out.exists():
        out.rmdir()
    root.replace(out)


def _choose(
    settings: Settings, names: Sequence[str], labels: Mapping[str, Label] | None, *, work_dir: Path, workers: int
) -> Choice:
    """Measure all photos and choose the people; the same for the same settings."""
    labeller = None if labels is not None else settings.labeler
    faces = measure_photos(settings.faces, names, labeller, work_dir=work_dir, workers=workers)
    usable, unusable = sift(faces, labels, settings.limits)
    single, copies = without_copies(usable)
    choice = choose(single, settings.ask, np.random.default_rng((settings.seed, CHOICE_STREAM)))
    choice.rejected = sorted([*unusable, *copies, *choice.rejected], key=lambda one: one.file)
    return choice


def _say_choice(choice: Choice, ask: Ask, *, strict: bool) -> None:
    """Print what was left out, relaxed and missing. UserError where nobody, or with `strict` anybody, is missing."""
    reasons = Counter(one.reason for one in choice.rejected)
    if reasons:
        print("not used: " + ", ".join(f"{count} {reason}" for reason, count in reasons.most_common()))
    for factor in sorted(set(choice.relaxed.values())):
        scarce = [f"{AGE_NAMES[age]} {gender} {race}" for (age, gender, race), limit in choice.relaxed.items()
                  if limit == factor]  # fmt: skip
        print(f"heads turned up to {factor:g} x the limits, since there are few of these: {', '.join(scarce)}")
    have, asked = len(choice.train) + len(choice.evaluation), ask.train_people + ask.eval_people
    if not choice.train or not choice.evaluation:
        raise UserError(f"--faces has {have} usable faces, at least 2 are needed; reasons: {dict(reasons)}")
    if have == asked:
        return
    short = f"--faces has {have} usable faces of the {asked} people asked for"
    if strict:
        raise UserError(f"{short}; ask for fewer --train-people and --eval-people, or leave out --strict")
    print(f"{short}: {len(choice.train)} are used to train on and {len(choice.evaluation)} to score, in proportion")


def plan_sittings(choice: Choice, settings: Settings) -> list[Sitting]:
    """All people with their numbers, paths and seeds, train first."""
    layout = layout_named(settings.layout)
    train = sorted(choice.train, key=_file_of)
    evaluation = sorted(choice.evaluation, key=_file_of)
    masks = deal_masks(len(evaluation), np.random.default_rng((settings.seed, MASK_STREAM)))
    sittings = []
    for number, chosen in enumerate(train, start=1):
        identity = _identity(number, chosen)
        stream = (settings.seed, TRAIN_STREAM, number)
        sittings.append(Sitting("train", identity, chosen, layout.train_paths(identity), stream))
    for number, (chosen, mask) in enumerate(zip(evaluation, masks, strict=True), start=len(train) + 1):
        sittings.append(_eval_sitting(_identity(number, chosen), chosen, mask, layout, settings.seed))
    return sittings


def _eval_sitting(identity: Identity, chosen: Chosen, mask: int, layout: Layout, seed: int) -> Sitting:
    path = layout.eval_path(identity, mask, secret=f"{seed}/{identity.number}")
    return Sitting("eval", identity, chosen, ((path, mask),), (seed, EVAL_STREAM, identity.number))


def _file_of(chosen: Chosen) -> str:
    return chosen.candidate.face.file


def _identity(number: int, chosen: Chosen) -> Identity:
    label = chosen.candidate.label
    return Identity(number, label.gender, label.race, label.age)


def _paint(faces_dir: Path, root: Path, sittings: Sequence[Sitting], workers: int) -> None:
    """Make the photos of all people who are not in place yet."""
    todo = [sitting for sitting in sittings if not (root / sitting.target).exists()]
    total = sum(len(sitting.photos) for sitting in sittings)
    with (
        progress(None, title="photos", total=total) as bar,
        closing(run_parallel(partial(painter, faces_dir, root), todo, workers)) as painted,
    ):
        bar.update(total - sum(len(sitting.photos) for sitting in todo))
        for count in painted:
            bar.update(count)


def _write_tables(root: Path, sittings: Sequence[Sitting], choice: Choice, settings: Settings) -> pd.DataFrame:
    """Manifest, rejected photos and the tables of the layout; returns the manifest."""
    manifest = pd.DataFrame([row for sitting in sittings for row in manifest_rows(sitting)])
    write_csv(root / "manifest.csv", manifest)
    columns = ["file", "reason", "detail"]
    write_csv(root / "rejected.csv", pd.DataFrame([asdict(one) for one in choice.rejected], columns=columns))
    train = [sitting.identity for sitting in sittings if sitting.split == "train"]
    photos = [EvalPhoto(path, sitting.identity, mask) for sitting in sittings if sitting.split == "eval"
              for path, mask in sitting.photos]  # fmt: skip
    layout_named(settings.layout).write_tables(root, train, photos, settings.ask.age_edges)
    return manifest


def _settings(args: argparse.Namespace) -> Settings:
    """The settings that the flags ask for; UserError for values that cannot be."""
    if args.seed < 0:
        raise UserError(f"--seed {args.seed} is negative; allowed are whole numbers from 0")
    low, high = args.age_edges
    if not 0 < low < high:
        raise UserError(f"--age-edges {low} {high}: allowed are two rising ages above 0")
    check_shares("--age-shares", args.age_shares)
    check_shares("--gender-shares", args.gender_shares)
    ask = Ask(args.train_people, args.eval_people, (low, high), tuple(args.age_shares), tuple(args.gender_shares))
    limits = Limits(args.least_face, args.least_sharpness, args.least_confidence)
    return Settings(args.faces, args.labels, args.labeler, args.layout, args.seed, ask, limits)


def _parser() -> OneLineParser:
    parser = command_parser(__doc__)
    parser.add_argument("--faces", type=Path, required=True, help="folder of photos, one face each")
    parser.add_argument("--labels", type=Path, help="CSV with file, gender, race, age (and confidence) of the photos")
    parser.add_argument("--labeler", choices=labeller_names(), default=labeller_names()[0],
                        help="who guesses the labels where --labels is not given")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--train-people", type=positive_int, default=2700, help="people to train on, 7 photos each")
    parser.add_argument("--eval-people", type=positive_int, default=12600, help="others to score, one photo each")
    parser.add_argument("--strict", action="store_true", help="stop where there are fewer usable faces than people")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same people and photos")
    parser.add_argument("--layout", choices=layout_names(), default="remade", help="how the folders are laid out")
    parser.add_argument("--age-edges", type=int, nargs=2, default=[25, 40], metavar=("LOW", "HIGH"),
                        help="first ages of the middle and of the old group")  # fmt: skip
    parser.add_argument("--age-shares", type=float, nargs=3, default=[1.0, 1.0, 1.0],
                        metavar=("YOUNG", "MIDDLE", "OLD"), help="people of each age group, in proportion")  # fmt: skip
    parser.add_argument("--gender-shares", type=float, nargs=2, default=[1.0, 1.0], metavar=("MALE", "FEMALE"),
                        help="people of each gender, in proportion")  # fmt: skip
    limits = Limits()
    parser.add_argument("--least-face", type=float, default=limits.face_height, help="height of a face in pixels")
    parser.add_argument("--least-sharpness", type=float, default=limits.sharpness, help="see docs/dataset-builder.md")
    parser.add_argument("--least-confidence", type=float, default=limits.confidence,
                        help="of a label, 0 to 1")  # fmt: skip
    parser.add_argument("--workers", type=positive_int, default=cpu_count(), help="processes, for speed only")
    return parser


if __name__ == "__main__":
    run_cli(main)
