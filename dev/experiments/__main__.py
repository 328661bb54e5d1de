"""Train settings with some seeds, score them out of fold, and keep all results in one table.

    python -m dev.experiments baselines --crop-dir crop_images     ->  outputs/experiments/results.csv, a row per
                                                                       setting, seed and task
    python -m dev.experiments default focal --task age --folds 0 1 --seeds 0 1 2       two settings, folds, three seeds
    python -m dev.experiments --show                                                   the table as Markdown
    python -m dev.experiments default --final                                          the eval part as well, at the end

Rows in the table are not trained again, and an interrupted training goes on from where it was. Eval labels are read
under --final alone, and only for settings typed one by one. `--list` prints the grids and settings of
dev/experiments/grid.py.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.cli import OneLineParser, UserError, add_crop_dir, command_parser, not_negative, run_cli
from core.locks import holding
from core.tasks import task_names
from dev.experiments.grid import DEFAULT, GRIDS, SETTINGS, chosen_settings
from dev.experiments.table import markdown, read_results
from evaluation.metrics import MEASURES
from storage.crops import load_crops
from training.config import PROFILES, add_flags, typed_settings


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    if args.list:
        print(listing())
        return
    if args.show:
        print(markdown(args.out, args.run_dir, baseline=args.baseline, measure=args.measure))
        return
    settings = chosen_settings(args.names)
    refuse_grids(args)
    # Only now: torch takes seconds to import, for which --help and a mistyped flag need not wait.
    from dev.experiments.runner import Experiment, refuse_unusable_settings, run_setting

    experiment = Experiment(
        run_dir=args.run_dir,
        out=args.out,
        train_crops=load_crops(args.crop_dir, "train"),
        eval_crops=load_crops(args.crop_dir, "eval") if args.final else None,
        task_names=tuple(args.task),
        profile=args.profile,
        typed=typed_as_flags(args.typed),
        folds=tuple(sorted(set(args.folds or ()))),
        jobs=args.jobs,
    )
    refuse_unusable_settings(experiment, settings)
    with holding(args.run_dir, "--run-dir"):
        for seed in args.seeds:
            for setting in settings:
                run_setting(experiment, setting, seed)
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
        "--jobs",
        type=not_negative,
        default=0,
        help="folds trained at once, which share the cores; 0 = one a core, or one at a time on a GPU",
    )
    add_crop_dir(parser)
    parser.add_argument("--run-dir", type=Path, default=Path("outputs/experiments"), help="folder of the runs")
    parser.add_argument("--out", type=Path, metavar="FILE", help="table of results (default: RUN_DIR/results.csv)")
    parser.add_argument("--final", action="store_true", help="score the eval part as well; not for choosing")
    parser.add_argument("--show", action="store_true", help="print the table as Markdown, and stop")
    parser.add_argument("--baseline", default=DEFAULT.name, help="setting that --show compares with")
    parser.add_argument("--measure", choices=MEASURES, default="macro_f1", help="measure of the difference in --show")
    parser.add_argument("--list", action="store_true", help="print grids and settings, and stop")
    args = parser.parse_args(argv)
    args.out = args.out or args.run_dir / "results.csv"
    if not (args.names or args.show or args.list):
        raise UserError(f"name a grid or a setting; the grids are {', '.join(grid.name for grid in GRIDS)}")
    return args


def listing() -> str:
    lines = [f"{DEFAULT.name:<20}{DEFAULT.title}"]
    for grid in GRIDS:
        lines += ["", f"{grid.name:<20}{grid.title}: {DEFAULT.name} and"]
        lines += [f"  {setting.name:<18}{setting.title}" for setting in grid.settings]
    return "\n".join(lines)


def typed_as_flags(words: Sequence[str]) -> dict[str, Any]:
    """Settings from words such as `epochs=2`, `age-edges=30,60` and `no-pretrained`, read by the flags of train.py."""
    parser = OneLineParser(prog="--set", add_help=False, allow_abbrev=False)
    add_flags(parser)
    flags = []
    for word in words:
        name, _, value = word.partition("=")
        flags += [f"--{name.replace('_', '-')}", *filter(None, value.split(","))]
    return typed_settings(parser.parse_args(flags))


def refuse_grids(args: argparse.Namespace) -> None:
    """UserError for a grid under --final, which takes single settings."""
    names = [setting.name for setting in SETTINGS]
    grids = [name for name in args.names if name not in names]
    if args.final and grids:
        raise UserError(
            f"--final {grids[0]}: the eval part is for settings typed one by one, allowed are {', '.join(names)}"
        )


if __name__ == "__main__":
    run_cli(main)
