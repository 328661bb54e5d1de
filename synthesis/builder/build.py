"""Build a data set of masked faces from photos of faces.

    python -m synthesis.builder.build --faces faces/ --labels labels.csv --out data --train-people 2700

writes `data`, ready for DATA_DIR=data bash run_all.sh: seven photos of each train person, one of each eval person.

    images/train/000001_female_Asian_31/{mask1..5,incorrect_mask,normal}.jpg
    images/eval/002701_male_White_44_mask.jpg
    manifest.csv    one row per photo: person, source, labels, pose and all parameters
    rejected.csv    one row per photo of --faces that was not used, with the reason
    sheets/*.jpg    contact sheets by kind of mask and by wear
    build.json      the arguments

labels.csv has the columns file, gender, race and age; without it --labeler predicts them. An unfinished data set is
named data.unfinished, and the same command resumes it. Equal arguments give equal bytes.
"""

import argparse
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import core.environment  # noqa: F401  explains a missing package

import numpy as np
import pandas as pd

from core import locks
from core.cli import OneLineParser, UserError, command_parser, cpu_count, not_negative, positive_int, progress, run_cli
from core.files import file_sha256, read_json, remove_stale, text_hash, write_csv, write_json
from core.images import fingerprint
from core.parallel import run_parallel
from synthesis.builder.labels import LABELLERS, Label, check_files, read_labels
from synthesis.builder.measure import MeasuredFace, list_photos, measure_photos
from synthesis.builder.photos import DRAWINGS, PLAIN, PersonPlan, manifest_rows, painter, write_sheets
from synthesis.builder.select import (
    AGE_NAMES,
    Limits,
    Request,
    SelectedPeople,
    SelectedPerson,
    check_shares,
    remove_copies,
    select,
    split_usable,
)
from synthesis.layout import (
    EvalPhoto,
    Identity,
    already_made,
    deal_masks,
    layout_named,
    layout_names,
    refuse_other,
)

BUILD_VERSION = 1
RECORD_NAME = "build.json"
WORK_DIR = ".work"
TRAIN_STREAM, EVAL_STREAM, SELECTION_STREAM, MASK_STREAM = 11, 12, 13, 14


@dataclass(frozen=True)
class BuildSettings:
    """Settings of a build. Equal settings and photos give equal bytes."""

    faces: Path
    labels: Path | None
    labeler: str
    layout: str
    seed: int
    request: Request
    limits: Limits
    drawings: str = PLAIN

    def record(self, names: Sequence[str]) -> dict:
        """Return the settings as JSON, with files replaced by hashes of their contents."""
        listing = text_hash(f"{name} {fingerprint(self.faces / name)}" for name in names)
        return {
            "build_version": BUILD_VERSION,
            "faces": listing,
            "labels": file_sha256(self.labels)[:16] if self.labels else self.labeler,
            "layout": self.layout,
            "seed": self.seed,
            **{key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self.request).items()},
            **{f"least_{name}": value for name, value in asdict(self.limits).items()},
            **({} if self.drawings == PLAIN else {"drawings": self.drawings}),
        }


def main(argv: Sequence[str] | None = None) -> None:
    args = _parser().parse_args(argv)
    settings = _settings(args)
    names = list_photos(settings.faces)
    faults: dict[str, str] = {}
    labels = read_labels(settings.labels, faults) if settings.labels else None
    if labels is not None:
        if faults:
            print(f"{settings.labels}: rows left out: {len(faults)}; the first: {next(iter(faults.values()))}")
        check_files(settings.labels, labels.keys() | faults.keys(), settings.faces, names)
    record = settings.record(names)
    if already_made(args.out, RECORD_NAME, record, kind="built data set"):
        print(f"{args.out}: already built with these arguments, nothing to do")
        return
    if labels is None:
        # Loaded here once, so that a labeller that is not installed fails before anything is written.
        LABELLERS[settings.labeler]()
    root = _unfinished(args.out, record)
    faces = measure_photos(
        settings.faces,
        names,
        settings.labeler if labels is None else None,
        work_dir=root / WORK_DIR,
        workers=args.workers,
    )
    selection = _select(settings, faces, labels, faults)
    _report_selection(selection, settings.request, strict=args.strict)
    people = plan_people(selection, settings)
    _paint(settings.faces, root, people, args.workers)
    manifest = _write_tables(root, people, selection, settings)
    sheets = write_sheets(root, manifest)
    _finish(root, args.out)
    print(
        f"{args.out}: {len(selection.train)} people with 7 photos each to train on, {len(selection.evaluation)} others "
        f"with one photo each to score; {len(sheets)} contact sheets in {args.out / 'sheets'}"
    )


def _unfinished(out: Path, record: dict) -> Path:
    """Create or reopen the folder of the unfinished data set. UserError if it was made with other arguments."""
    root = out.with_name(out.name + ".unfinished")
    if root.is_dir():
        # A run killed in its first write leaves nothing else.
        remove_stale(root)
    if (root / RECORD_NAME).is_file():
        refuse_other(root, read_json(root / RECORD_NAME), record)
    elif root.exists() and any(entry.name != locks.GIT_IGNORE for entry in root.iterdir()):
        raise UserError(f"{root} is in the way and holds something else; name another --out, or remove it")
    locks.keep_out_of_git(root)
    write_json(root / RECORD_NAME, record)
    return root


def _finish(root: Path, out: Path) -> None:
    shutil.rmtree(root / WORK_DIR)
    if out.exists():
        out.rmdir()
    root.replace(out)


def _select(
    settings: BuildSettings,
    faces: Sequence[MeasuredFace],
    labels: Mapping[str, Label] | None,
    faults: Mapping[str, str],
) -> SelectedPeople:
    """Select the people of the data set from the measured faces; the same for the same settings."""
    usable, unusable = split_usable(faces, labels, settings.limits, faults)
    single, copies = remove_copies(usable)
    selection = select(single, settings.request, np.random.default_rng((settings.seed, SELECTION_STREAM)))
    selection.rejected = sorted([*unusable, *copies, *selection.rejected], key=lambda one: one.file)
    return selection


def _report_selection(selection: SelectedPeople, request: Request, *, strict: bool) -> None:
    """Print rejections, relaxed limits and missing people. UserError for an empty split, or a small one if `strict`."""
    reasons = Counter(one.reason for one in selection.rejected)
    if reasons:
        print("not used: " + ", ".join(f"{count} {reason}" for reason, count in reasons.most_common()))
    for factor in sorted(set(selection.relaxed.values())):
        scarce = [f"{AGE_NAMES[age]} {gender} {race}" for (age, gender, race), limit in selection.relaxed.items()
                  if limit == factor]  # fmt: skip
        print(f"heads turned up to {factor:g} x the limits, since there are few of these: {', '.join(scarce)}")
    have, asked = len(selection.train) + len(selection.evaluation), request.train_people + request.eval_people
    if not selection.train or (request.eval_people and not selection.evaluation):
        raise UserError(f"--faces has {have} usable faces, one a part is needed at least; reasons: {dict(reasons)}")
    if have == asked:
        return
    short = f"--faces has {have} usable faces of the {asked} people asked for"
    if strict:
        raise UserError(f"{short}; ask for fewer --train-people and --eval-people, or leave out --strict")
    print(
        f"{short}: {len(selection.train)} are used to train on and {len(selection.evaluation)} to score, in proportion"
    )


def plan_people(selection: SelectedPeople, settings: BuildSettings) -> list[PersonPlan]:
    """Plan all people with their numbers, paths and seeds, train first."""
    layout = layout_named(settings.layout)
    train = sorted(selection.train, key=_file_of)
    evaluation = sorted(selection.evaluation, key=_file_of)
    masks = deal_masks(len(evaluation), np.random.default_rng((settings.seed, MASK_STREAM)))
    people = []
    for number, selected in enumerate(train, start=1):
        identity = _identity(number, selected)
        stream = (settings.seed, TRAIN_STREAM, number)
        paths = layout.train_paths(identity)
        people.append(PersonPlan("train", identity, selected, paths, stream, settings.drawings))
    for number, (selected, mask) in enumerate(zip(evaluation, masks, strict=True), start=len(train) + 1):
        identity, stream = _identity(number, selected), (settings.seed, EVAL_STREAM, number)
        photos = ((layout.eval_path(identity, mask, unique=f"{settings.seed}/{number}"), mask),)
        people.append(PersonPlan("eval", identity, selected, photos, stream, settings.drawings))
    return people


def _file_of(selected: SelectedPerson) -> str:
    return selected.candidate.face.file


def _identity(number: int, selected: SelectedPerson) -> Identity:
    label = selected.candidate.label
    return Identity(number, label.gender, label.race, label.age)


def _paint(faces_dir: Path, root: Path, people: Sequence[PersonPlan], workers: int) -> None:
    """Write the photos of all people that are not done yet."""
    todo = [person for person in people if not (root / person.target).exists()]
    total = sum(len(person.photos) for person in people)
    with (
        progress(None, title="photos", total=total) as bar,
        closing(run_parallel(partial(painter, faces_dir, root), todo, workers)) as painted,
    ):
        bar.update(total - sum(len(person.photos) for person in todo))
        for count in painted:
            bar.update(count)


def _write_tables(
    root: Path, people: Sequence[PersonPlan], selection: SelectedPeople, settings: BuildSettings
) -> pd.DataFrame:
    """Write manifest.csv, rejected.csv and the tables of the layout; return the manifest."""
    manifest = pd.DataFrame([row for person in people for row in manifest_rows(person)])
    write_csv(root / "manifest.csv", manifest)
    columns = ["file", "reason", "detail"]
    write_csv(root / "rejected.csv", pd.DataFrame([asdict(one) for one in selection.rejected], columns=columns))
    train = [person.identity for person in people if person.split == "train"]
    photos = [EvalPhoto(path, person.identity, mask) for person in people if person.split == "eval"
              for path, mask in person.photos]  # fmt: skip
    layout_named(settings.layout).write_tables(root, train, photos, settings.request.age_edges)
    return manifest


def _settings(args: argparse.Namespace) -> BuildSettings:
    """Build the settings from the flags. UserError for values out of range."""
    if args.seed < 0:
        raise UserError(f"--seed {args.seed} is negative; allowed are whole numbers from 0")
    low, high = args.age_edges
    if not 0 < low < high:
        raise UserError(f"--age-edges {low} {high}: allowed are two rising ages above 0")
    check_shares("--age-shares", args.age_shares)
    check_shares("--gender-shares", args.gender_shares)
    request = Request(
        args.train_people, args.eval_people, (low, high), tuple(args.age_shares), tuple(args.gender_shares)
    )
    limits = Limits(args.least_face, args.least_sharpness, args.least_confidence)
    return BuildSettings(args.faces, args.labels, args.labeler, args.layout, args.seed, request, limits, args.drawings)


def _parser() -> OneLineParser:
    parser = command_parser(__doc__)
    parser.add_argument("--faces", type=Path, required=True, help="folder of photos, one face each")
    parser.add_argument("--labels", type=Path, help="CSV with file, gender, race, age (and confidence) of the photos")
    parser.add_argument("--labeler", choices=list(LABELLERS), default=next(iter(LABELLERS)),
                        help="model that predicts the labels where --labels is not given")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder to create")
    parser.add_argument("--train-people", type=positive_int, default=2700, help="people to train on, 7 photos each")
    parser.add_argument("--eval-people", type=not_negative, default=12600, help="people to score, one photo each")
    parser.add_argument("--strict", action="store_true", help="fail if there are fewer usable faces than people")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    parser.add_argument("--drawings", choices=DRAWINGS, default=PLAIN,
                        help="everyday: masks worn in all ways, hands, cups, collars, poor photos")  # fmt: skip
    parser.add_argument("--layout", choices=layout_names(), default="remade", help="layout of the folders")
    parser.add_argument("--age-edges", type=int, nargs=2, default=[25, 40], metavar=("LOW", "HIGH"),
                        help="first ages of the middle and of the old group")  # fmt: skip
    parser.add_argument("--age-shares", type=float, nargs=3, default=[1.0, 1.0, 1.0],
                        metavar=("YOUNG", "MIDDLE", "OLD"), help="relative numbers per age group")  # fmt: skip
    parser.add_argument("--gender-shares", type=float, nargs=2, default=[1.0, 1.0], metavar=("MALE", "FEMALE"),
                        help="relative numbers per gender")  # fmt: skip
    limits = Limits()
    parser.add_argument(
        "--least-face", type=float, default=limits.face_height, help="smallest height of a face in pixels"
    )
    parser.add_argument(
        "--least-sharpness",
        type=float,
        default=limits.sharpness,
        help="smallest sharpness, see docs/dataset-builder.md",
    )
    parser.add_argument("--least-confidence", type=float, default=limits.confidence,
                        help="lowest confidence of a label, 0 to 1")  # fmt: skip
    parser.add_argument("--workers", type=positive_int, default=cpu_count(), help="processes; changes no byte")
    return parser


if __name__ == "__main__":
    run_cli(main)
