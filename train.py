"""Train the folds of one or more tasks on the crops.

    python train.py --task age                     all folds  ->  outputs/default/age/fold0 .. fold4
    python train.py --task age --fold 0 --loss focal --run-dir outputs/focal
    python train.py --task mask gender age --profile quick

Each fold leaves its best weights, its history and the out-of-fold logits of the people it held out. A fold that is done
is left alone, one that was interrupted goes on after its last epoch. Settings: defaults < task < profile < flag.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from core.checkpoints import fold_dir_of
from core.config import PROFILES, Config, add_flags, resolve, typed_settings
from core.crops import Crops, load_crops
from core.device import pick_device
from core.folds import load_or_make_folds, plan_folds
from core.runs import begin_run, describe_run, refuse_other_run
from core.runtime import UserError, add_crop_dir, add_run_dir, command_parser, name_some, run_cli
from core.tasks import Task, task_named, task_names
from fold_training import FoldData, refuse_unusable, train_fold


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    tasks = [task_named(name) for name in args.task]
    profile = args.profile or default_profile(args)
    configs = {task.name: resolve(task.name, profile, typed_settings(args)) for task in tasks}
    for config in configs.values():
        refuse_unusable(config)
        chosen_folds(args.fold, config.folds)
    if args.show_settings:
        print(json.dumps({name: config.learned() for name, config in configs.items()}, indent=2))
        return

    crops = load_crops(args.crop_dir, "train")
    if not crops.image_ids:
        raise UserError(f"crop folder {args.crop_dir}: no training photos in it (layout {crops.source['layout']})")
    say_what_is_missing(crops)
    labels_of = {task.name: crops.labels(task, configs[task.name].age_edges) for task in tasks}
    for task in tasks:
        refuse_other_split(args.run_dir, task, labels_of[task.name], crops, configs[task.name])
    folds_of = {task.name: open_run(args.run_dir, crops, configs[task.name]) for task in tasks}
    print(f"{len(crops.image_ids)} photos of {crops.frame['person'].nunique()} people, profile {profile}")

    for task in tasks:
        config = configs[task.name]
        for fold in chosen_folds(args.fold, config.folds):
            data = FoldData(task, fold, crops, labels_of[task.name], folds_of[task.name])
            train_fold(fold_dir_of(args.run_dir, task.name, fold), data, config, overwrite=args.overwrite)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument(
        "--task", nargs="+", default=task_names(), choices=task_names(), help="what to learn (default: all)"
    )
    parser.add_argument("--fold", type=int, default=None, help="train this fold only (default: all)")
    parser.add_argument("--profile", choices=list(PROFILES), help="named settings (default: full on a GPU, else quick)")
    add_crop_dir(parser)
    add_run_dir(parser)
    parser.add_argument("--overwrite", action="store_true", help="train anew what is already there")
    parser.add_argument("--show-settings", action="store_true", help="print the settings that would be used, and stop")
    add_flags(parser)
    return parser.parse_args(argv)


def default_profile(args: argparse.Namespace) -> str:
    return "quick" if pick_device(getattr(args, "device", "auto")).type == "cpu" else "full"


def say_what_is_missing(crops: Crops) -> None:
    if crops.missing:
        print(f"{len(crops.missing)} unreadable photos are left out of training: {name_some(crops.missing)}")


def refuse_other_split(run_dir: Path, task: Task, labels: Sequence[int], crops: Crops, config: Config) -> None:
    """UserError unless the run folder belongs to this data and split, and the split can be trained. Writes nothing."""
    split = {"folds": config.folds, "age_edges": config.age_edges}
    refuse_other_run(run_dir, describe_run(crops, **split, fold_seed=config.fold_seed))
    refuse_absent_class(task, labels, crops, plan_folds(run_dir, crops, **split, seed=config.fold_seed))


def open_run(run_dir: Path, crops: Crops, config: Config) -> dict[str, int]:
    """Fold of every person, now that run folder and split are known to fit; both are written at first use."""
    split = {"folds": config.folds, "age_edges": config.age_edges}
    begin_run(run_dir, describe_run(crops, **split, fold_seed=config.fold_seed))
    return load_or_make_folds(run_dir, crops, **split, seed=config.fold_seed)


def refuse_absent_class(task: Task, labels: Sequence[int], crops: Crops, fold_of: Mapping[str, int]) -> None:
    """UserError if the photos from which some fold learns lack a class: its model could never answer with it."""
    folds = [fold_of[person] for person in crops.frame["person"]]
    for held_out in sorted(set(folds)):
        learned = {label for label, fold in zip(labels, folds, strict=True) if fold != held_out}
        for label, name in enumerate(task.classes):
            if label not in learned:
                raise UserError(
                    f"task {task.name}: no photo of class {name!r} to train fold {held_out} on; "
                    f"allowed are data in which every class has people in at least two folds"
                )


def chosen_folds(fold: int | None, folds: int) -> list[int]:
    if fold is None:
        return list(range(folds))
    if not 0 <= fold < folds:
        raise UserError(f"--fold {fold}: allowed is 0 to {folds - 1}")
    return [fold]


if __name__ == "__main__":
    run_cli(main)
