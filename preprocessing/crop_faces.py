"""Cut the faces out of the photos, as pictures that a person can look at and training reads.

    python preprocessing/crop_faces.py

Result: crop_images/<path of the photo> for each photo with a box in crop_images/faces.csv, and their list in
crop_images/crops.csv. Run again, it makes only what is new or changed, and removes the crops of photos that have gone.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

# Run as a script, only this folder is on the path, not the repository that `core` lies in.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from core import files
from core.alignment import points
from core.boxes import Box
from core.cli import UserError, add_crop_dir, command_parser, cpu_count, name_some, positive_int, progress, run_cli
from core.cropping import CropSettings, crop_face
from core.files import holding, require_room
from core.images import UnreadablePhoto, read_photo, write_photo
from core.parallel import run_parallel, with_flushes
from preprocessing.crop_table import Crop, forget_crops, inside, read_crop_table, write_crop_table
from preprocessing.faces_table import Outcome, photo_stamp, read_outcomes
from storage import crops

BLOCK = 4096
"""What even the smallest file takes on the disk."""


@dataclass(frozen=True)
class Task:
    """One crop to make. `key` is a hash of all it is made from."""

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
    with holding(args.crop_dir, "--crop-dir"):
        crop(args, settings)


def crop(args: argparse.Namespace, settings: CropSettings) -> None:
    """Make the crops that are new or have changed, and take away those that are out of date."""
    root, outcomes = open_faces(args.crop_dir)
    tasks = plan(args.crop_dir, root, outcomes, settings)
    table = read_crop_table(args.crop_dir)
    done = {task.image_id: table[task.image_id] for task in tasks if is_done(task, table)}
    forget_crops(args.crop_dir, table.keys() - done.keys())
    remember_settings(args.crop_dir, settings)
    todo = [task for task in tasks if task.image_id not in done]
    print(f"{args.crop_dir}: {len(tasks)} photos with a face, {len(done)} already cropped, {len(todo)} to crop")
    require_room(args.crop_dir, sum(crop_bytes(task, settings) for task in todo), "cropping")
    unreadable = crop_all(args.crop_dir, todo, done, settings, args.workers) if todo else []
    print_summary(args.crop_dir, outcomes, unreadable)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    add_crop_dir(parser)
    parser.add_argument("--margin", type=float, default=CropSettings.margin, help="share of the longer side added")
    parser.add_argument("--aspect", type=float, default=CropSettings.aspect, help="width / height of a crop")
    parser.add_argument("--size", type=int, default=CropSettings.size, help="height of a crop in pixels")
    parser.add_argument(
        "--align",
        action=argparse.BooleanOptionalAction,
        default=CropSettings.align,
        help="turn and scale each face so that its eyes, nose and mouth come to lie at the same places",
    )
    parser.add_argument("--workers", type=positive_int, default=cpu_count(), help="processes")
    return parser.parse_args(argv)


def open_faces(crop_dir: Path) -> tuple[Path, dict[str, Outcome]]:
    """The data root and the rows of faces.csv; UserError if faces have not been detected or the data is not there."""
    outcomes = read_outcomes(crops.faces_path(crop_dir))
    source = crops.read_source(crop_dir)
    if not outcomes or "data_root" not in source:
        raise UserError(f"crop folder {crop_dir}: no faces.csv in it; run preprocessing/detect_faces.py first")
    root = Path(source["data_root"])
    if not root.is_dir():
        raise UserError(f"crop folder {crop_dir} was made from {root}, which is not there")
    return root, outcomes


def plan(crop_dir: Path, root: Path, outcomes: Mapping[str, Outcome], settings: CropSettings) -> list[Task]:
    """One task for each photo with a box. UserError if a path in faces.csv leads out of the data root."""
    tasks, changed, table_path = [], [], crops.faces_path(crop_dir)
    for outcome in outcomes.values():
        photo_path = inside(root, outcome.path, table_path)
        if outcome.box is None:
            continue
        stamp = photo_stamp(photo_path)
        if stamp and not outcome.stamp.startswith(stamp):
            changed.append(outcome.path)
        made_from = (outcome.path, stamp, *map(repr, (*outcome.box, *outcome.landmarks)), repr(settings))
        key = files.text_hash(made_from)
        crop_path = crop_dir / outcome.path
        tasks.append(Task(outcome.image_id, photo_path, crop_path, outcome.path, outcome.box, key, outcome.landmarks))
    if changed:
        print(f"{len(changed)} photos have changed since detect_faces, which should run again: {name_some(changed)}")
    return tasks


def crop_bytes(task: Task, settings: CropSettings) -> int:
    """What a crop takes on the disk, nearly at most: 3 bytes a pixel as PNG, half a byte as JPEG of quality 95."""
    pixels = settings.size * round(settings.size * settings.aspect)
    return BLOCK + (pixels * 3 if task.crop_path.suffix.lower() == ".png" else pixels // 2)


def is_done(task: Task, table: Mapping[str, Crop]) -> bool:
    crop = table.get(task.image_id)
    return crop is not None and (crop.key, crop.file) == (task.key, task.file) and task.crop_path.exists()


def remember_settings(crop_dir: Path, settings: CropSettings) -> None:
    source = crops.read_source(crop_dir)
    if source.get("crop") != asdict(settings):
        files.write_json(crops.source_path(crop_dir), source | {"crop": asdict(settings)})


@dataclass(frozen=True)
class Result:
    """What became of a task: the hash of its crop, or the reason why its photo cannot be read."""

    task: Task
    content: str = ""
    reason: str = ""


def cropper(settings: CropSettings) -> Callable[[Task], Result]:
    """What makes one crop; runs once in each process."""
    return partial(_crop, settings=settings)


def _crop(task: Task, *, settings: CropSettings) -> Result:
    try:
        photo = read_photo(task.photo_path)
    except UnreadablePhoto as error:
        return Result(task, reason=error.reason)
    write_photo(task.crop_path, crop_face(photo, task.box, settings, points(task.landmarks)))
    return Result(task, content=files.file_sha256(task.crop_path)[:16])


def crop_all(
    crop_dir: Path, todo: Sequence[Task], table: dict[str, Crop], settings: CropSettings, workers: int
) -> list[str]:
    """Make the crops, list them in `table` and crops.csv, also on Ctrl-C; returns the photos that cannot be read."""
    unreadable = []
    keep = partial(write_crop_table, crop_dir, table)
    with closing(with_flushes(run_parallel(partial(cropper, settings), todo, workers), keep)) as results:
        for result in progress(results, title="crops", total=len(todo)):
            task = result.task
            if result.reason:
                unreadable.append(f"{task.file} ({result.reason})")
            else:
                table[task.image_id] = Crop(task.key, result.content, task.file)
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
