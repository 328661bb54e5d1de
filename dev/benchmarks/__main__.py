"""Measure how fast the parts are beside how others do the same, side by side in one run.

    python -m dev.benchmarks                       all, into outputs/bench/results.json; most of an hour on two cores
    python -m dev.benchmarks loader step --quick   these two, in small, to see that they run
    python -m dev.benchmarks job --data-dir DIR --profile quick --backbone resnet18

prints medians with the lowest and highest figure, and ratios of what ran in turn. Drawn people are measured, or the
people of DIR. Settings of training may be given as in train.py. Other jobs on the machine spoil the figures.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.tables import row_named

from core.cli import command_parser, run_cli
from core.files import write_json
from dev.benchmarks.bench_detect import bench_detect
from dev.benchmarks.bench_export import bench_export
from dev.benchmarks.bench_inference import bench_inference
from dev.benchmarks.bench_job import bench_job
from dev.benchmarks.bench_loader import bench_loader
from dev.benchmarks.bench_scaling import bench_scaling
from dev.benchmarks.bench_step import bench_step
from dev.benchmarks.material import NORMAL, QUICK, Setup, drawn_dir, prepare
from dev.benchmarks.measure import Report, format_report, machine
from dev.benchmarks.watch import watch
from training.config import PROFILES, add_flags, typed_settings


@dataclass(frozen=True)
class Benchmark:
    name: str
    measure: Callable[[Setup], Report]


def bench_build(setup: Setup) -> Report:
    """The data-set builder, a command of its own."""
    printed = watch(
        [
            "-m",
            "dev.benchmarks.bench_build",
            "--people",
            setup.size.people,
            "--faces",
            min(24, setup.size.people),
            "--workers",
            setup.processes,
        ]
    ).output
    facts = json.loads(printed.strip().splitlines()[-1])
    return Report("photos/s", {"built": [facts.pop("photos_per_second")]}, facts=facts)


BENCHMARKS = (
    Benchmark("loader", bench_loader),
    Benchmark("step", bench_step),
    Benchmark("job", bench_job),
    Benchmark("detect", bench_detect),
    Benchmark("inference", bench_inference),
    Benchmark("export", bench_export),
    Benchmark("scaling", bench_scaling),
    Benchmark("build", bench_build),
)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    chosen = [row_named(BENCHMARKS, name, what="benchmark") for name in args.names or names()]
    size = QUICK if args.quick else NORMAL
    results = {"machine": machine(), "size": size.name, "began": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    work_dir = args.work_dir / (args.data_dir.resolve().name if args.data_dir else size.name)
    data_dir = args.data_dir or drawn_dir(work_dir)
    places = [path.resolve() for path in (work_dir, data_dir)]
    setup = Setup(*places, size, args.profile, typed_settings(args), args.run_dir)
    prepare(setup)
    results |= {"photos": len(setup.data.photos), "profile": args.profile, "settings": dict(setup.typed)}
    results["benchmarks"] = {}
    for benchmark in chosen:
        report = benchmark.measure(setup)
        print(format_report(benchmark.name, report), flush=True)
        results["benchmarks"][benchmark.name] = report.record()
        write_json(args.out, results)
    print(f"results: {args.out}")


def names() -> list[str]:
    return [benchmark.name for benchmark in BENCHMARKS]


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(names())} (default: all)")
    parser.add_argument("--quick", action="store_true", help="few photos, once: only to see that it runs")
    parser.add_argument("--data-dir", type=Path, help="photos to measure on (default: drawn people)")
    parser.add_argument("--run-dir", type=Path, help="a finished run to predict with (default: trained in seconds)")
    parser.add_argument("--work-dir", type=Path, default=Path("outputs/bench"), help="crops and runs, kept for later")
    parser.add_argument("--out", type=Path, default=Path("outputs/bench/results.json"), help="the figures as JSON")
    parser.add_argument("--profile", choices=list(PROFILES), default="quick", help="settings of training")
    add_flags(parser)
    return parser.parse_args(argv)


if __name__ == "__main__":
    run_cli(main)
