"""Measure the speed and memory of the parts beside baselines, in one run.

    python -m dev.benchmarks                       all, into outputs/bench/results.json; most of an hour on two cores
    python -m dev.benchmarks loader step --quick   these two, in small, to see that they run
    python -m dev.benchmarks job --data-dir DIR --profile quick --backbone resnet18

prints medians with the lowest and highest figure, and ratios of contenders that ran in turn. It works on drawn people,
or on those of DIR. Settings of training may be given as in train.py. Other jobs on the machine spoil the figures.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from core.cli import command_parser, run_cli
from core.files import write_json
from dev.command import refuse_unknown
from training.config import PROFILES, add_flags, typed_settings

BENCHMARKS = ("loader", "step", "job", "detect", "inference", "export", "service", "stream")
"""Each is a function bench_NAME of learning.py or predicting.py in this folder."""


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    # Only now: torch takes seconds to import, for which --help and a mistyped flag need not wait.
    from dev.benchmarks import learning, predicting
    from dev.benchmarks.measure import format_report, machine
    from dev.benchmarks.setup import NORMAL, QUICK, Setup, drawn_dir, prepare

    size = QUICK if args.quick else NORMAL
    work_dir = (args.work_dir / (args.data_dir.resolve().name if args.data_dir else size.name)).resolve()
    data_dir = args.data_dir.resolve() if args.data_dir else drawn_dir(work_dir)
    setup = Setup(work_dir, data_dir, size, args.profile, typed_settings(args), args.run_dir)
    results = {"machine": machine(), "size": size.name, "began": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    prepare(setup)
    results |= {"photos": len(setup.data.photos), "profile": args.profile, "settings": dict(setup.typed)}
    results["benchmarks"] = {}
    for name in args.names or BENCHMARKS:
        module = learning if hasattr(learning, f"bench_{name}") else predicting
        report = getattr(module, f"bench_{name}")(setup)
        print(format_report(name, report), flush=True)
        results["benchmarks"][name] = report.record()
        write_json(args.out, results)
    print(f"results: {args.out}")


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="few photos, once: only to see that it runs")
    parser.add_argument("--data-dir", type=Path, help="photos to measure on (default: drawn people)")
    parser.add_argument("--run-dir", type=Path, help="a finished run to predict with (default: trained in seconds)")
    parser.add_argument("--work-dir", type=Path, default=Path("outputs/bench"), help="crops and runs, kept for later")
    parser.add_argument("--out", type=Path, default=Path("outputs/bench/results.json"), help="the figures as JSON")
    parser.add_argument("--profile", choices=list(PROFILES), default="quick", help="settings of training")
    add_flags(parser)
    args = parser.parse_args(argv)
    refuse_unknown(args.names, BENCHMARKS, "benchmark")
    return args


if __name__ == "__main__":
    run_cli(main)
