"""Train settings x seeds, score them on the people that their folds held out, and keep one table of all results.

    python -m dev.experiments baselines --crop-dir crop_images     ->  outputs/experiments/results.csv, a row per
                                                                       setting, seed and task
    python -m dev.experiments default focal --task age --folds 0 1 --seeds 0 1 2       some rows, two folds, three seeds
    python -m dev.experiments plain single --budget-minutes 25                         epochs to fill 25 minutes
    python -m dev.experiments --show                                                   the table as Markdown
    python -m dev.experiments default --final                                          the eval part as well, at the end

What is in the table is left alone, and an interrupted training goes on where it was. Eval labels are read under --final
alone, and only for settings typed one by one. `--list` names grids and settings; dev/experiments/grid.py has them.
"""

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.locks import holding
from evaluation.intervals import MEASURES

from core.cli import OneLineParser, UserError, add_crop_dir, command_parser, not_negative, run_cli
from core.tasks import task_names
from dev.experiments.bench import Bench, refuse_unrunnable, run_setting
from dev.experiments.grid import GRIDS, SETTINGS, chosen_settings
from dev.experiments.table import EVAL, OOF, markdown, read_results
from storage.crops import load_crops
from training.config import PROFILES, add_flags, typed_settings

RUN_DIR = Path("outputs/experiments")
TABLE = "results.csv"


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    if args.list:
        print(listing())
        return
    if args.show:
        print(markdown(args.out, args.run_dir, baseline=args.baseline, measure=args.measure))
        return
    settings = chosen_settings(args.names)
    bench = open_bench(args)
    refuse_unrunnable(bench, settings)
    with holding(args.run_dir, "--run-dir"):
        runs = ((setting, seed) for seed in args.seeds for setting in settings)
        finished = all(run_setting(bench, setting, seed) for setting, seed in runs)
    if not finished:
        print(f"--max-minutes {args.max_minutes:g} are over: the same command goes on from here")
    print(f"{args.out}: {len(read_results(args.out))} rows; --show prints them")


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="grids and settings to run")
    parser.add_argument("--task", nargs="+", default=task_names(), choices=task_names(), help="tasks to train")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N", help="seeds of training")
    parser.add_argument("--folds", nargs="+", type=int, metavar="K", help="folds to train and score (default: all)")
    parser.add_argument("--profile", choices=list(PROFILES), default="quick", help="named settings to start from")
    parser.add_argument(
        "--set", action="extend", nargs="+", default=[], dest="typed", metavar="NAME=VALUE",
        help="settings of train.py for all rows, below the rows' own: epochs=2 image-size=64 no-pretrained",
    )  # fmt: skip
    parser.add_argument(
        "--budget-minutes", type=above_zero, metavar="M", help="choose epochs: M for all folds and tasks"
    )
    parser.add_argument("--max-minutes", type=float, default=math.inf, metavar="M", help="begin no fold after M")
    parser.add_argument(
        "--jobs",
        type=not_negative,
        default=0,
        help="folds trained at once, which share the cores; 0 = one a core, or one at a time on a GPU",
    )
    add_crop_dir(parser)
    parser.add_argument("--run-dir", type=Path, default=RUN_DIR, help="folder of the runs")
    parser.add_argument("--out", type=Path, metavar="FILE", help=f"table of results (default: RUN_DIR/{TABLE})")
    parser.add_argument("--final", action="store_true", help="score the eval part as well; not for choosing")
    parser.add_argument("--show", action="store_true", help="print the table as Markdown, and stop")
    parser.add_argument("--baseline", default="default", help="setting that --show compares with")
    parser.add_argument("--measure", choices=MEASURES, default="macro_f1", help="what --show takes the difference of")
    parser.add_argument("--list", action="store_true", help="print grids and settings, and stop")
    args = parser.parse_args(argv)
    args.out = args.out or args.run_dir / TABLE
    if not (args.names or args.show or args.list):
        raise UserError(f"name a grid or a setting; the grids are {', '.join(grid.name for grid in GRIDS)}")
    return args


def above_zero(text: str) -> float:
    """An argparse type: a number above 0."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def listing() -> str:
    grids = [f"  {grid.name:<18}{grid.what}: {' '.join(grid.rows)}" for grid in GRIDS]
    settings = [f"  {setting.name:<18}{setting.what}" for setting in SETTINGS]
    return "\n".join(["grids", *grids, "", "settings", *settings])


def typed_as_flags(words: Sequence[str]) -> dict[str, Any]:
    """Settings from words such as `epochs=2`, `age-edges=30,60` and `no-pretrained`, read by the flags of train.py."""
    parser = OneLineParser(prog="--set", add_help=False, allow_abbrev=False)
    add_flags(parser)
    flags = []
    for word in words:
        name, _, value = word.partition("=")
        flags += [f"--{name.replace('_', '-')}", *filter(None, value.split(","))]
    return typed_settings(parser.parse_args(flags))


def open_bench(args: argparse.Namespace) -> Bench:
    """The crops, and what the flags say of all rows. Eval crops are opened under --final alone."""
    if args.final:
        refuse_grids(args.names)
    parts = {OOF: load_crops(args.crop_dir, "train")}
    if args.final:
        parts[EVAL] = load_crops(args.crop_dir, "eval")
    return Bench(
        run_dir=args.run_dir,
        out=args.out,
        parts=parts,
        task_names=tuple(args.task),
        profile=args.profile,
        typed=typed_as_flags(args.typed),
        folds=tuple(sorted(set(args.folds or ()))),
        budget_minutes=args.budget_minutes,
        jobs=args.jobs,
        deadline=time.monotonic() + args.max_minutes * 60,
    )


def refuse_grids(names: Sequence[str]) -> None:
    """UserError for a grid where single settings are meant."""
    settings = [setting.name for setting in SETTINGS]
    for name in names:
        if name not in settings:
            raise UserError(
                f"--final {name}: the eval part is for settings typed one by one, allowed are {', '.join(settings)}"
            )


if __name__ == "__main__":
    run_cli(main)
