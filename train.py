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
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from core import distributed
from core.cli import UserError, add_crop_dir, add_run_dir, command_parser, cpu_count, name_some, not_negative, run_cli
from core.files import holding, require_room
from core.tasks import Task, task_named, task_names
from storage.crops import Crops, load_crops
from storage.folds import load_or_make_folds, plan_folds
from storage.label_corrections import crops_to_train, keep_corrections
from storage.run_dir import begin_run, describe_run, fold_dir_of, is_done, refuse_other_run, remove_spent_states
from training.checkpoints import training_bytes
from training.config import PROFILES, Config, add_flags, resolve, typed_settings
from training.device import pick_device
from training.feature_making import make_features
from training.fold import refuse_unusable
from training.fold_data import FoldData
from training.jobs import Cell, cell_trainer, jobs_at_once, longest_first, stores_to_make, train_cell, weight_bytes
from training.launchers import LOCAL, add_launcher_flags, launch


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    tasks = [task_named(name) for name in args.task]
    profile = args.profile or default_profile(args)
    configs = {task.name: resolve(task.name, profile, typed_settings(args)) for task in tasks}
    for task in tasks:
        refuse_unusable(task, configs[task.name])
        chosen_folds(args.fold, configs[task.name].folds)
    if args.show_settings:
        print(json.dumps({name: config.learned() for name, config in configs.items()}, indent=2))
        return
    with distributed.joined(), ExitStack() as stack:
        # Rank 0 holds the folder for all ranks.
        if distributed.is_first():
            stack.enter_context(holding(args.run_dir, "--run-dir"))
        train_tasks(args, tasks, configs, profile)


def train_tasks(args: argparse.Namespace, tasks: Sequence[Task], configs: Mapping[str, Config], profile: str) -> None:
    """Train the chosen folds of the tasks, after all that could hinder a later one has been looked at."""
    crops = crops_to_train(args.run_dir, load_crops(args.crop_dir, "train"), args.label_fixes)
    if not crops.image_ids:
        raise UserError(f"crop folder {args.crop_dir}: no training photos in it (layout {crops.source['layout']})")
    say_what_is_missing(crops)
    labels_of = {task.name: crops.labels(task, configs[task.name].age_edges) for task in tasks}
    for task in tasks:
        refuse_other_split(args.run_dir, task, labels_of[task.name], crops, configs[task.name])
    remove_spent_states(args.run_dir)
    require_room_for_training(args, tasks, configs)
    if distributed.is_first():
        keep_corrections(args.run_dir, args.label_fixes)
    folds_of = {task.name: open_run(args.run_dir, crops, configs[task.name]) for task in tasks}
    print(f"{len(crops.image_ids)} photos of {crops.frame['person'].nunique()} people, profile {profile}")

    cells = [
        Cell(fold_dir_of(args.run_dir, task.name, fold), configs[task.name], args.overwrite, data)
        for task in tasks
        for fold in chosen_folds(args.fold, configs[task.name].folds)
        for data in [FoldData(task, fold, crops, labels_of[task.name], folds_of[task.name])]
    ]
    train_cells(args, cells)


def train_cells(args: argparse.Namespace, cells: Sequence[Cell]) -> None:
    """Say which cells are done, and train the others, several at once."""
    todo = longest_first([cell for cell in cells if cell.overwrite or not is_done(cell.fold_dir)])
    for cell in cells:
        if cell not in todo:
            train_cell(cell)
    jobs = args.jobs or jobs_at_once([cell.config for cell in cells])
    if distributed.count() > 1 and (jobs > 1 or args.launcher != LOCAL):
        raise UserError("--jobs and --launcher: under torchrun one fold is trained at a time, by all its processes")
    # Threads change the last bits of a sum, so they must not hang on how many folds are still to be trained.
    own_share = max(1, cpu_count() // (jobs * distributed.count_here()))
    # Here, once, lest all processes make the same stores; features are shared out.
    shards = distributed.share(distributed.gathered(stores_to_make(todo) if distributed.is_first() else []))
    make_features(args, shards, device=cells[0].config.device, jobs=jobs, threads=own_share)
    distributed.wait_for_all()
    start = partial(cell_trainer, threads=own_share if args.launcher == LOCAL else args.job_cpus)
    with closing(launch(args, start, todo, processes=min(jobs, len(todo) or 1))) as finished:
        for title in finished:
            print(f"{title}: done", flush=True)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument(
        "--task", nargs="+", default=task_names(), choices=task_names(), help="what to learn (default: all)"
    )
    parser.add_argument("--fold", type=int, nargs="+", metavar="K", help="train these folds only (default: all)")
    parser.add_argument("--profile", choices=list(PROFILES), help="named settings (default: full on a GPU, else quick)")
    add_crop_dir(parser)
    add_run_dir(parser)
    parser.add_argument(
        "--label-fixes", type=Path, metavar="FILE", help="corrections of training labels, as docs/decisions.md has them"
    )
    parser.add_argument(
        "--jobs",
        type=not_negative,
        default=0,
        help="folds trained at once, which share the cores; 0 = one a core, or one at a time on a GPU",
    )
    add_launcher_flags(parser)
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
    write = distributed.is_first()
    begin_run(run_dir, describe_run(crops, **split, fold_seed=config.fold_seed), write=write)
    return load_or_make_folds(run_dir, crops, **split, seed=config.fold_seed, write=write)


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


def require_room_for_training(args: argparse.Namespace, tasks: Sequence[Task], configs: Mapping[str, Config]) -> None:
    """UserError if the disk cannot take what is yet to be trained."""
    needed = 0
    for task in tasks:
        config = configs[task.name]
        folds = [fold_dir_of(args.run_dir, task.name, fold) for fold in chosen_folds(args.fold, config.folds)]
        todo = [folder for folder in folds if args.overwrite or not is_done(folder)]
        at_once = args.jobs or jobs_at_once([config])
        needed += training_bytes(weight_bytes(task, config), len(todo), at_once) if todo else 0
    require_room(args.run_dir, needed, "training")


def chosen_folds(asked: Sequence[int] | None, folds: int) -> list[int]:
    if asked is None:
        return list(range(folds))
    for fold in asked:
        if not 0 <= fold < folds:
            raise UserError(f"--fold {fold}: allowed is 0 to {folds - 1}")
    return sorted(set(asked))


if __name__ == "__main__":
    run_cli(main)
