"""Find the main face of every photo and write where it is to crop_images/faces.csv.

    python preprocessing/detect_faces.py --data-dir data

Result: crop_images/faces.csv (one row a photo: box, score, status and facts), crop_images/review.csv (photos to
review, and why) and a summary. Run again, it handles only new or changed photos. To correct boxes by hand, write
them to a table image_id,x1,y1,x2,y2 in pixels and give it as --manual boxes.csv: they override the detector and
are remembered. A row deleted from faces.csv is searched anew.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

# Run as a script, only this folder is on the path, not the repository that `core` lies in.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import core.environment  # noqa: F401  explains a missing package

import pandas as pd

from core import files
from core.cli import UserError, add_crop_dir, command_parser, cpu_count, name_some, positive_int, run_cli
from core.files import require_room
from preprocessing.detection import DetectionSettings, SearchOptions, search, still_valid, verified
from preprocessing.detectors import detector_named, detector_names
from preprocessing.faces_table import Outcome, forget_crops, read_outcomes, write_outcomes
from preprocessing.fallback_boxes import fill, manual_outcomes, review
from preprocessing.find_face import DEFAULT_THRESHOLD
from storage import crops
from storage.layouts import LAYOUTS, Dataset, Photo, scan
from storage.sources import shared_faces
from training.launchers import add_launcher_flags, launch, resources_of

ROW_BYTES = 3 * 300
"""Bytes of a row of faces.csv, of its unfinished predecessor, and of the one that is written aside."""
PHOTOS_OF_A_JOB = 256
"""Photos sent to a cluster's worker at once: some seconds of work."""


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    dataset = open_dataset(args.crop_dir, args.data_dir, args.layout)
    with crops.changing(args.crop_dir):
        detect(args, dataset)


def detect(args: argparse.Namespace, dataset: Dataset) -> None:
    """Search the photos that are new or have changed, and write all tables."""
    settings = DetectionSettings(args.detector, args.threshold)
    before = read_outcomes(crops.faces_path(args.crop_dir))
    unfinished_path = args.crop_dir / "faces.unfinished.csv"
    known = still_valid(dataset, before | read_outcomes(unfinished_path), settings)
    if args.verify:
        known = verified(dataset.root, known)
    known |= manual_outcomes(args.manual, dataset, known)
    todo = [photo for photo in dataset.photos if photo.image_id not in known]
    print(f"{dataset.root}: {len(dataset.photos)} photos, {len(known)} already done, {len(todo)} to search for faces")
    for note in dataset.notes:
        print(note)
    shared = shared_faces(dataset.root, dataset.photos)
    if shared:
        print(f"warning: {shared}: scores will be too good")
    name_dropped(before, todo)
    if todo:
        require_room(args.crop_dir, ROW_BYTES * len(dataset.photos), "detection")
        remember(args.crop_dir, data_root=str(dataset.source), layout=dataset.layout)
        run = partial(launch, resources_of(args, processes=args.workers, shard=PHOTOS_OF_A_JOB))
        known = search(dataset, todo, known, SearchOptions(settings, run, unfinished_path))
    outcomes = fill(dataset.photos, known)
    if shared != crops.read_source(args.crop_dir).get("shared", ""):
        remember(args.crop_dir, shared=shared)
    save(args.crop_dir, dataset, before, outcomes, settings)
    unfinished_path.unlink(missing_ok=True)
    print_summary(args.crop_dir, dataset, outcomes)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("--data-dir", type=Path, help="folder of the photos, if not the one of the run before")
    parser.add_argument(
        "--photos", dest="data_dir", type=Path, metavar="FILE", help="table of photos, in place of --data-dir"
    )
    parser.add_argument("--layout", help=f"{', '.join(LAYOUTS)} (default: detected)")
    add_crop_dir(parser)
    parser.add_argument("--manual", type=Path, help="table of boxes that override the detector: image_id,x1,y1,x2,y2")
    parser.add_argument("--detector", default="retinaface", help=f"one of {', '.join(detector_names())}")
    parser.add_argument("--threshold", type=float, default=DEFAULT_THRESHOLD, help="least score of a detected face")
    parser.add_argument(
        "--verify", action="store_true", help="read all photos, and search those again whose content has changed"
    )
    parser.add_argument("--workers", type=positive_int, default=cpu_count(), help="processes")
    add_launcher_flags(parser)
    args = parser.parse_args(argv)
    detector_named(args.detector)
    if not 0 < args.threshold < 1:
        raise UserError(f"--threshold {args.threshold}: must be between 0 and 1")
    return args


def open_dataset(crop_dir: Path, data_dir: Path | None, layout: str | None) -> Dataset:
    """Scan the given or remembered data root. UserError if the crop folder was made from another."""
    source = crops.read_source(crop_dir)
    if data_dir is None:
        if "data_root" not in source:
            raise UserError(f"--data-dir is needed: crop folder {crop_dir} has not been made from any data yet")
        data_dir = Path(source["data_root"])
    if layout is None and str(data_dir.resolve()) == source.get("data_root"):
        layout = source.get("layout")
    dataset = scan(data_dir.resolve(), layout)
    crops.refuse_other_data(crop_dir, dataset)
    refuse_crops_among_photos(crop_dir, dataset)
    return dataset


def refuse_crops_among_photos(crop_dir: Path, dataset: Dataset) -> None:
    """UserError if the crop folder lies among the photos: crops have the same names and would overwrite them."""
    folder = crop_dir.resolve()
    among = folder.is_relative_to(dataset.root) if dataset.layout == "photos" else folder == dataset.root
    if among:
        raise UserError(f"crop folder {crop_dir} lies among the photos of {dataset.root}; give another --crop-dir")


def name_dropped(before: Mapping[str, Outcome], todo: Sequence[Photo]) -> None:
    manual = [outcome.image_id for outcome in before.values() if outcome.status == "manual"]
    dropped = sorted({photo.image_id for photo in todo}.intersection(manual))
    if dropped:
        print(f"manual box is dropped, since the photo has changed: {name_some(dropped)}")


def remember(crop_dir: Path, **facts: object) -> None:
    """Add facts to source.json."""
    files.write_json(crops.source_path(crop_dir), crops.read_source(crop_dir) | facts)


def save(
    crop_dir: Path,
    dataset: Dataset,
    before: Mapping[str, Outcome],
    outcomes: Mapping[str, Outcome],
    settings: DetectionSettings,
) -> None:
    """Write all tables, unless nothing has changed. Crops of changed boxes are removed."""
    facts = {"listing_hash": dataset.listing_hash, "detect": asdict(settings)}
    source = crops.read_source(crop_dir)
    if before == outcomes and source == source | facts:
        return
    forget_crops(crop_dir, [image_id for image_id, outcome in before.items() if outcomes.get(image_id) != outcome])
    write_outcomes(crops.faces_path(crop_dir), dataset.photos, outcomes)
    write_review(crop_dir, dataset, outcomes)
    remember(crop_dir, data_root=str(dataset.source), layout=dataset.layout, **facts)


def review_path(crop_dir: Path) -> Path:
    return crop_dir / "review.csv"


def write_review(crop_dir: Path, dataset: Dataset, outcomes: Mapping[str, Outcome]) -> None:
    whys = review(dataset.photos, outcomes)
    rows = [
        (image_id, outcomes[image_id].path, outcomes[image_id].status, outcomes[image_id].reason, why)
        for image_id, why in whys.items()
    ]
    columns = ["image_id", "path", "status", "reason", "why"]
    files.write_csv(review_path(crop_dir), pd.DataFrame(rows, columns=columns, dtype=str))


def print_summary(crop_dir: Path, dataset: Dataset, outcomes: Mapping[str, Outcome]) -> None:
    splits = {photo.image_id: photo.split for photo in dataset.photos}
    counts = pd.crosstab(
        pd.Series([splits[outcome.image_id] for outcome in outcomes.values()], name="split"),
        pd.Series([outcome.status for outcome in outcomes.values()], name="status"),
    )
    print(counts.reindex(columns=list(crops.STATUSES), fill_value=0).to_string())
    attempts = Counter(outcome.reason for outcome in outcomes.values() if outcome.status == "fallback")
    if attempts:
        print("fallback by attempt:", ", ".join(f"{name} {count}" for name, count in attempts.most_common()))
    missing = [f"{outcome.path} ({outcome.reason})" for outcome in outcomes.values() if outcome.status == "missing"]
    if missing:
        print(f"{len(missing)} photos cannot be read: {name_some(missing)}")
    if dataset.ignored:
        print(
            f"{len(dataset.ignored)} files are no photos of this layout and are ignored: {name_some(dataset.ignored)}"
        )
    print(f"{len(review(dataset.photos, outcomes))} photos to review: {review_path(crop_dir)}")
    print(f"faces: {crops.faces_path(crop_dir)}")


if __name__ == "__main__":
    run_cli(main)
