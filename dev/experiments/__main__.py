"""Train settings with some seeds, and compare them out of fold.

    python -m dev.experiments baselines --crop-dir crop_images      train; each setting and seed in a run folder of its
                                                                    own below outputs/experiments
    python -m dev.experiments default focal --task age --fold 0 1 --seeds 0 1 2
    python -m dev.experiments                                       all that is trained, as Markdown
    python -m dev.experiments default --final                       the eval part as well, at the end

Names are of settings and grids of dev/experiments/grid.py. Settings of train.py may be given, below the rows' own.
Folds that are done are not trained again. Eval labels are read under --final alone, and only for settings typed one by
one.
"""

import argparse
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from core.cli import UserError, add_crop_dir, command_parser, run_cli
from core.tasks import task_names
from dev.command import as_flags, run_command
from dev.experiments.grid import DEFAULT, SETTINGS, chosen_settings, settings_of
from dev.experiments.table import markdown, run_of
from evaluation.logits import EVAL_PHOTOS, OUT_OF_FOLD
from evaluation.metrics import MEASURES
from training.config import PROFILES, add_flags, typed_settings


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    typed = typed_settings(args)
    shared = ["--profile", args.profile, "--crop-dir", args.crop_dir.resolve()]
    shared += ["--fold", *args.fold] if args.fold else []
    for seed, setting, task in product(args.seeds, chosen_settings(args.names), args.task):
        run_dir = run_of(args.run_dir, setting, seed).resolve()
        print(f"{run_dir.name}, {task}:", flush=True)
        where = ["--task", task, "--run-dir", run_dir]
        run_command(["train.py", *where, *shared, *as_flags(settings_of(setting, task, typed, seed))], shown=True)
        if args.final:
            run_command(["inference.py", *where], shown=True)
    for part in (OUT_OF_FOLD, EVAL_PHOTOS) if args.final else (OUT_OF_FOLD,):
        print(markdown(args.run_dir, part, baseline=args.baseline, measure=args.measure))


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="settings and grids to train (default: none)")
    parser.add_argument("--task", nargs="+", default=task_names(), choices=task_names(), help="tasks to train")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N", help="seeds of training")
    parser.add_argument("--fold", nargs="+", type=int, metavar="K", help="folds to train (default: all)")
    parser.add_argument("--profile", choices=list(PROFILES), default="quick", help="named settings to start from")
    add_crop_dir(parser)
    parser.add_argument("--run-dir", type=Path, default=Path("outputs/experiments"), help="folder of the run folders")
    parser.add_argument("--final", action="store_true", help="score the eval part as well; not for choosing")
    parser.add_argument("--baseline", default=DEFAULT, help="setting that the others are compared with")
    parser.add_argument("--measure", choices=MEASURES, default="macro_f1", help="measure of the difference")
    add_flags(parser)
    args = parser.parse_args(argv)
    grids = [name for name in args.names if name not in SETTINGS]
    if args.final and grids:
        raise UserError(
            f"--final {grids[0]}: the eval part is for settings typed one by one, allowed are {', '.join(SETTINGS)}"
        )
    return args


if __name__ == "__main__":
    run_cli(main)
