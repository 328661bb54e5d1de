"""Which crops a command looks at, and where its picture goes."""

import argparse
from pathlib import Path

from core.cli import UserError, add_run_dir, positive_int
from core.images import EXTENSIONS
from storage.run_dir import read_run, run_path

DEFAULT_CROP_DIR = Path("crop_images")


def add_places(parser: argparse.ArgumentParser, out: str) -> None:
    """--run-dir, --crop-dir, --count and --out, whose default is `out`."""
    add_run_dir(parser)
    parser.add_argument("--crop-dir", type=Path, help="look at these crops, and at no run (default: the run's)")
    parser.add_argument("--count", type=positive_int, default=32, help="crops at most")
    parser.add_argument("--out", type=_picture_path, metavar="FILE", default=Path(out), help="picture to write")


def _picture_path(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in EXTENSIONS:
        raise argparse.ArgumentTypeError(f"{text}: allowed endings are {', '.join(EXTENSIONS)}")
    return path


def has_run(args: argparse.Namespace) -> bool:
    """Whether a run is looked at: the one of --run-dir, unless crops were named."""
    return args.crop_dir is None and run_path(args.run_dir).exists()


def crop_dir_of(args: argparse.Namespace) -> Path:
    """The crops that were named, or else the run's, or else the default. UserError for a run that cannot be read."""
    return Path(read_run(args.run_dir).crop_dir) if has_run(args) else args.crop_dir or DEFAULT_CROP_DIR


def refuse_no_crops(image_ids: list[str], crop_dir: Path, split: str) -> None:
    if not image_ids:
        raise UserError(f"crop folder {crop_dir}: no photos in its {split} part")
