"""Look at a data set and at this machine before a long run, and say what will hurt.

    python -m check_data --data-dir data

Result: one line a check (ok, warning, problem) with the photos or people it means, and a verdict. Problems stop a run
or make its scores false; warnings cost accuracy or time. Every photo is read once, nothing is written. Exit code 0: fit
to train on; 1: not fit, there are problems; 2: no data set at all. `--json` prints all of it for machines.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from check_data import telling
from check_data.checks import examine
from check_data.scan import Survey, look_at_all
from core.cli import add_crop_dir, command_parser, cpu_count, positive_int, run_cli
from storage.layouts import LAYOUTS, scan
from training.config import Config

NOT_FIT = 1


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    faults: list[str] = []
    dataset = scan(args.data_dir, args.layout, faults=faults)
    if not args.json:
        print(f"{dataset.root}: looking at {len(dataset.photos)} photos\n")
    looks = look_at_all(dataset.root, dataset.photos, args.workers)
    survey = Survey(dataset, tuple(faults), looks, age_edges=args.age_edges, folds=args.folds, folder=args.crop_dir)
    findings = examine(survey, online=args.online)
    if args.json:
        print(json.dumps(telling.as_json(survey, findings), indent=2, ensure_ascii=False))
    else:
        print(telling.as_text(findings))
    if not telling.is_fit(findings):
        sys.exit(NOT_FIT)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of the photos; only read")
    parser.add_argument("--layout", help=f"{', '.join(LAYOUTS)}; found by itself by default")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--online", action="store_true", help="ask also whether the hub of weights can be reached")
    parser.add_argument("--age-edges", type=int, nargs=2, default=Config.age_edges, metavar="N",
                        help="first age of the middle and of the old group")  # fmt: skip
    parser.add_argument("--folds", type=positive_int, default=Config.folds, help="number of folds that is meant")
    add_crop_dir(parser)
    parser.add_argument("--workers", type=positive_int, default=cpu_count(), help="processes")
    args = parser.parse_args(argv)
    Config(age_edges=tuple(args.age_edges), folds=args.folds)
    return args


if __name__ == "__main__":
    run_cli(main)
