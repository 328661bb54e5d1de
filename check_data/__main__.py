"""Check a data set and this machine before a long run.

    python -m check_data --data-dir data

Prints one line per check (ok, warning or problem) with the photos or people concerned, then a verdict. A problem stops
a run or makes its scores false; a warning costs accuracy or time. Every photo is read once; nothing is written. Exit
code 0: fit to train on; 1: not fit; 2: no data set found. `--json` prints all details as JSON.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import core.environment  # noqa: F401  explains a missing package

from check_data.checks import as_json, as_text, is_fit, run_checks
from check_data.scan import DataScan, scan_photos
from core.cli import add_crop_dir, command_parser, cpu_count, positive_int, run_cli
from storage.layouts import LAYOUTS, scan
from training.config import Config

NOT_FIT = 1


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    faults: list[str] = []
    dataset = scan(args.data_dir, args.layout, faults=faults)
    if not args.json:
        print(f"{dataset.root}: checking {len(dataset.photos)} photos\n")
    data = DataScan(
        dataset,
        tuple(faults),
        scan_photos(dataset.root, dataset.photos, args.workers),
        age_edges=args.age_edges,
        folds=args.folds,
        crop_dir=args.crop_dir,
        layout_is_forced=args.layout is not None,
    )
    findings = run_checks(data)
    if args.json:
        print(json.dumps(as_json(data, findings), indent=2, ensure_ascii=False))
    else:
        print(as_text(data, findings))
    if not is_fit(findings):
        sys.exit(NOT_FIT)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--data-dir", type=Path, help="folder of the photos; only read")
    data.add_argument(
        "--photos", dest="data_dir", type=Path, metavar="FILE", help="table of photos, in place of --data-dir"
    )
    parser.add_argument("--layout", help=f"{', '.join(LAYOUTS)}; detected by default")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--age-edges", type=int, nargs=2, default=Config.age_edges, metavar="N",
                        help="first age of the middle and of the old group")  # fmt: skip
    parser.add_argument("--folds", type=positive_int, default=Config.folds, help="number of folds of the training")
    add_crop_dir(parser)
    parser.add_argument("--workers", type=positive_int, default=cpu_count(), help="processes")
    args = parser.parse_args(argv)
    Config(age_edges=tuple(args.age_edges), folds=args.folds)
    return args


if __name__ == "__main__":
    run_cli(main)
