"""Crop the faces of the photos for training, as image files.

    python preprocessing/crop_faces.py

Result: crop_images/<path of the photo> for each photo with a box in crop_images/faces.csv, and their list in
crop_images/crops.csv. Run again, it makes only what is new or changed, and removes the crops of photos that have gone.
"""

import argparse
import math
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

# Run as a script, only this folder is on the path, not the repository that `core` lies in.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import core.environment  # noqa: F401  explains a missing package

import pandas as pd

from core import files
from core.alignment import points
from core.boxes import Box
from core.cli import UserError, add_crop_dir, command_parser, cpu_count, name_some, positive_int, progress, run_cli
from core.cropping import CropSettings, crop_face
from core.files import require_room
from core.images import UnreadablePhoto, read_photo, write_photo
from core.parallel import run_parallel, with_flushes
from preprocessing.faces_table import (
    CropRow,
    Outcome,
    forget_crops,
    inside,
    photo_stamp,
    read_crop_table,
    read_outcomes,
    write_crop_table,
)
from storage import crops
from storage.layouts import photo_root

BLOCK = 4096
"""Bytes that the smallest file takes on the disk."""


@dataclass(frozen=True)
class CropJob:
    """One crop to make. `key` is a hash of all its sources."""

    image_id: str
    photo_path: Path
    crop_path: Path
    file: str
    box: Box
    key: str
    landmarks: tuple[float, ...] = ()


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    settings = CropSettings(args.margin, args.aspect, args.size, args.align)
    # Before the lock, which makes the folder: where no faces were found, there is nothing to make.
    open_faces(args.crop_dir)
    with crops.changing(args.crop_dir):
        crop(args, settings)


def crop(args: argparse.Namespace, settings: CropSettings) -> None:
    """Make the crops that are new or have changed, and remove those that are out of date."""
    root, outcomes = open_faces(args.crop_dir)
    jobs = plan(args.crop_dir, root, outcomes, settings)
    table = read_crop_table(args.crop_dir)
    done = {job.image_id: table[job.image_id] for job in jobs if is_done(job, table)}
    refuse_changed(args.crop_dir, done)
    forget_crops(args.crop_dir, table.keys() - done.keys())
    remember_settings(args.crop_dir, settings)
    todo = [job for job in jobs if job.image_id not in done]
    print(f"{args.crop_dir}: {len(jobs)} photos with a face, {len(done)} already cropped, {len(todo)} to crop")
    require_room(args.crop_dir, sum(crop_bytes(job, settings) for job in todo), "cropping")
    unreadable = crop_all(args.crop_dir, todo, done, settings, args.workers) if todo else []
    print_summary(args.crop_dir, outcomes, unreadable)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    add_crop_dir(parser)
    parser.add_argument("--margin", type=float, default=CropSettings.margin, help="fraction of the longer side added")
    parser.add_argument("--aspect", type=float, default=CropSettings.aspect, help="width / height of the face's window")
    parser.add_argument("--size", type=int, default=CropSettings.size, help="height of the face's window in pixels")
    parser.add_argument(
        "--align",
        action=argparse.BooleanOptionalAction,
        default=CropSettings.align,
        help="turn and scale each face so that eyes, nose and mouth lie at the same places",
    )
    parser.add_argument("--workers", type=positive_int, default=cpu_count(), help="processes")
    return parser.parse_args(argv)


def open_faces(crop_dir: Path) -> tuple[Path, dict[str, Outcome]]:
    """Return the data root and the rows of faces.csv. UserError if either is not there."""
    outcomes = read_outcomes(crops.faces_path(crop_dir))
    source = crops.read_source(crop_dir)
    if not outcomes or "data_root" not in source:
        raise UserError(f"crop folder {crop_dir}: no faces.csv in it; run preprocessing/detect_faces.py first")
    root = photo_root(Path(source["data_root"]))
    if not root.is_dir():
        raise UserError(f"crop folder {crop_dir} was made from {root}, which is not there")
    return root, outcomes


def plan(crop_dir: Path, root: Path, outcomes: Mapping[str, Outcome], settings: CropSettings) -> list[CropJob]:
    """Return one job for each photo with a box. UserError if a path in faces.csv leads out of the data root."""
    jobs, changed, table_path = [], [], crops.faces_path(crop_dir)
    for outcome in outcomes.values():
        photo_path = inside(root, outcome.path, table_path)
        if outcome.box is None:
            continue
        stamp = photo_stamp(photo_path)
        if stamp and not outcome.stamp.startswith(stamp):
            changed.append(outcome.path)
        made_from = (outcome.path, stamp, *map(repr, (*outcome.box, *outcome.landmarks)), repr(settings))
        key = files.text_hash(made_from)
        file = crops.crop_file(outcome.path)
        jobs.append(CropJob(outcome.image_id, photo_path, crop_dir / file, file, outcome.box, key, outcome.landmarks))
    twins = [file for file, count in Counter(job.file for job in jobs).items() if count > 1]
    if twins:
        raise UserError(f"{root}: two photos would have the crop {name_some(twins)}; rename one")
    if changed:
        print(f"{len(changed)} photos have changed since detect_faces, which should run again: {name_some(changed)}")
    return jobs


def crop_bytes(job: CropJob, settings: CropSettings) -> int:
    """Estimate the size of a crop file from above: 3 bytes a pixel as PNG, half a byte as JPEG of quality 95."""
    pixels = math.prod(settings.shape)
    return BLOCK + (pixels * 3 if job.crop_path.suffix.lower() == ".png" else pixels // 2)


def is_done(job: CropJob, table: Mapping[str, CropRow]) -> bool:
    crop = table.get(job.image_id)
    return crop is not None and (crop.key, crop.file) == (job.key, job.file) and job.crop_path.exists()


def refuse_changed(crop_dir: Path, done: Mapping[str, CropRow]) -> None:
    """UserError naming finished crops whose files were changed since."""
    frame = pd.DataFrame([(row.file, row.content) for row in done.values()], columns=["path", "content"], dtype=str)
    crops.Crops(crop_dir, frame, (), {}).refuse_changed()


def remember_settings(crop_dir: Path, settings: CropSettings) -> None:
    source = crops.read_source(crop_dir)
    if source.get("crop") != asdict(settings):
        files.write_json(crops.source_path(crop_dir), source | {"crop": asdict(settings)})


@dataclass(frozen=True)
class CropResult:
    """Result of a job: the hash of its crop, or the reason why its photo cannot be read."""

    job: CropJob
    content: str = ""
    reason: str = ""


def cropper(settings: CropSettings) -> Callable[[CropJob], CropResult]:
    """Return the function that makes one crop. Runs once in each process."""
    return partial(_crop, settings=settings)


def _crop(job: CropJob, *, settings: CropSettings) -> CropResult:
    try:
        photo = read_photo(job.photo_path)
    except UnreadablePhoto as error:
        return CropResult(job, reason=error.reason)
    write_photo(job.crop_path, crop_face(photo, job.box, settings, points(job.landmarks)))
    return CropResult(job, content=crops.content_of(job.crop_path))


def crop_all(
    crop_dir: Path, todo: Sequence[CropJob], table: dict[str, CropRow], settings: CropSettings, workers: int
) -> list[str]:
    """Make the crops and list them in `table` and crops.csv, also on Ctrl-C. Return the photos that cannot be read."""
    unreadable = []
    keep = partial(write_crop_table, crop_dir, table)
    with closing(with_flushes(run_parallel(partial(cropper, settings), todo, workers), keep)) as results:
        for result in progress(results, title="crops", total=len(todo)):
            job = result.job
            if result.reason:
                unreadable.append(f"{job.image_id} ({result.reason})")
            else:
                table[job.image_id] = CropRow(job.key, result.content, job.file)
    return unreadable


def print_summary(crop_dir: Path, outcomes: Mapping[str, Outcome], unreadable: Sequence[str]) -> None:
    if unreadable:
        print(f"{len(unreadable)} photos can no longer be read and have no crop: {name_some(unreadable)}")
    missing = sum(outcome.status == "missing" for outcome in outcomes.values())
    if missing:
        print(f"{missing} photos have no crop because faces.csv says that they cannot be read")
    print(f"crops: {crop_dir}, listed in {crops.crops_path(crop_dir)}")


if __name__ == "__main__":
    run_cli(main)
