"""Train the folds of one or more tasks on the crops.

    python train.py --task age                     all folds  ->  outputs/default/age/fold0 .. fold4
    python train.py --task age --fold 0 --loss focal --run-dir outputs/focal
    python train.py --profile quick                all tasks that the photos have labels of
    python train.py --refit                        after the folds: one model a task of all people  ->  .../age/refit

Each fold writes its weights, its history and the logits of the people it was not trained on (out of fold). A fold that
is done is left alone, an interrupted one goes on after its last epoch. Settings: defaults < task < profile < flag.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from core.cli import UserError, add_crop_dir, add_run_dir, command_parser, name_some, not_negative, run_cli
from core.cropping import CropSettings
from core.locks import holding
from core.tasks import UNKNOWN, Task, known_values, task_named, task_names
from storage.crops import Crops, load_crops, read_source, reading
from storage.folds import plan_folds, write_folds
from storage.label_corrections import crops_to_train, keep_corrections
from storage.run_dir import Run, describe_run, refuse_other_run, remove_spent_states, trained_tasks, write_run
from training.config import PROFILES, Config, add_flags, resolve, typed_settings
from training.launchers import add_launcher_flags, resources_of
from training.refit import refit_config, refuse_other_data

if TYPE_CHECKING:
    from training.jobs import FoldJob


def main(argv: Sequence[str] | None = None) -> None:
    """Check everything first, then write; a refused command leaves no file behind."""
    args = parse_args(argv)
    # Only now: torch takes seconds to import, for which --help and a mistyped flag need not wait.
    from core import distributed
    from training.device import pick_device
    from training.dry_step import refuse_untrainable
    from training.fold_setup import FoldData, refuse_unusable
    from training.jobs import FoldJob, require_room_for, train_jobs
    from training.memory import refuse_beyond_memory

    tasks = [task_named(name) for name in args.task or default_tasks(args)]
    on_cpu = pick_device(getattr(args, "device", "auto")).type == "cpu"
    profile = args.profile or ("quick" if on_cpu else "full")
    configs = {task.name: settings_of(task.name, args, profile) for task in tasks}
    folds_of = {task.name: chosen_folds(args, configs[task.name].folds) for task in tasks}
    for task in tasks:
        refuse_unusable(task, configs[task.name])
    if args.show_settings:
        source = {"crop": asdict(CropSettings())} | read_source(args.crop_dir)
        for task in tasks:
            refuse_untrainable(task, replace(configs[task.name], pretrained=False), source)
        print(json.dumps({name: config.learned() for name, config in configs.items()}, indent=2))
        return
    with distributed.joined(), ExitStack() as stack:
        # Rank 0 holds the folder, and writes, for all ranks.
        if distributed.is_first():
            stack.enter_context(holding(args.run_dir, "--run-dir"))
            stack.enter_context(reading(args.crop_dir))
        crops = training_crops(args)
        for config in configs.values():
            refuse_beyond_memory(config, crops.source)
        labels_of = {task.name: crops.labels(task, configs[task.name].age_edges) for task in tasks}
        tasks = labelled_tasks(tasks, labels_of, typed=args.task is not None)
        run, fold_of = plan_run(args.run_dir, crops, configs[tasks[0].name])
        for task in tasks:
            refuse_absent_class(task, labels_of[task.name], crops, fold_of)
            configs[task.name] = config_of_labels(task, configs[task.name], crops, labels_of[task.name])
            warn_of_random_features(task, configs[task.name])
        jobs = [
            FoldJob(args.run_dir, configs[task.name], args.overwrite, data)
            for task in tasks
            for fold in folds_of[task.name]
            for data in [FoldData(task, fold, crops, labels_of[task.name], fold_of)]
        ]
        for job in {job.config: job for job in jobs if job.is_left}.values():
            refuse_untrainable(job.data.task, job.config, crops.source)
        jobs = with_drawings(jobs)
        for job in jobs if args.refit else []:
            refuse_other_data(args.run_dir, job.data.task.name, job.data.identity(job.config))
        remove_spent_states(args.run_dir)
        require_room_for(jobs, args.jobs)
        if distributed.is_first():
            keep_corrections(args.run_dir, args.label_fixes)
            write_run(args.run_dir, run)
            write_folds(args.run_dir, fold_of)
        how = "settings of the folds" if args.refit else f"profile {profile}"
        print(f"{len(crops.image_ids)} photos of {crops.frame['person'].nunique()} people, {how}")
        train_jobs(jobs, at_once=args.jobs, resources=resources_of(args))


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument(
        "--task", nargs="+", choices=task_names(), help="what to learn (default: all tasks that have labels)"
    )
    parser.add_argument("--fold", type=int, nargs="+", metavar="K", help="train these folds only (default: all)")
    parser.add_argument(
        "--refit", action="store_true", help="train one model on all people, with the settings and epochs of the folds"
    )
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
    parser.add_argument("--overwrite", action="store_true", help="train folds again that are done")
    parser.add_argument("--show-settings", action="store_true", help="print the settings that would be used, and stop")
    add_flags(parser)
    return parser.parse_args(argv)


def training_crops(args: argparse.Namespace) -> Crops:
    """Return the training crops with their corrections. UserError if there are none."""
    crops = crops_to_train(args.run_dir, load_crops(args.crop_dir, "train"), args.label_fixes)
    if not crops.image_ids:
        raise UserError(f"crop folder {args.crop_dir}: no training photos in it (layout {crops.source['layout']})")
    if crops.source.get("shared"):
        print(f"warning: {crops.source['shared']}: scores will be too good")
    crops.refuse_changed()
    if crops.missing:
        print(f"{len(crops.missing)} unreadable photos are left out of training: {name_some(crops.missing)}")
    return crops


def plan_run(run_dir: Path, crops: Crops, config: Config) -> tuple[Run, dict[str, int]]:
    """Return data and split of the run, which its tasks share, and the fold of every person. Writes nothing.

    UserError if the run folder belongs to other data or another split.
    """
    split = {"folds": config.folds, "age_edges": config.age_edges}
    run = describe_run(crops, **split, fold_seed=config.fold_seed)
    refuse_other_run(run_dir, run)
    return run, plan_folds(run_dir, crops, **split, seed=config.fold_seed)


def labelled_tasks(tasks: Sequence[Task], labels_of: Mapping[str, Sequence[int]], *, typed: bool) -> list[Task]:
    """Return the tasks that have labels, and print what is left out. UserError for a typed one without, or for none."""
    there = [task for task in tasks if any(label != UNKNOWN for label in labels_of[task.name])]
    lacking = ", ".join(task.name for task in tasks if task not in there)
    if lacking and (typed or not there):
        raise UserError(f"{'--task ' if typed else ''}{lacking}: no training photo has a label of it")
    if lacking:
        print(f"{lacking}: no training photo has a label of it; not trained")
    for task in there:
        unknown = sum(label == UNKNOWN for label in labels_of[task.name])
        if unknown:
            total = len(labels_of[task.name])
            print(f"{task.name}: {unknown} of {total} photos have no {task.name} label and are left out")
    return there


def config_of_labels(task: Task, config: Config, crops: Crops, labels: Sequence[int]) -> Config:
    """Return the settings with a head of classes, and say so, where a labelled photo lacks the exact value."""
    if config.head == "classes":
        return config
    known = known_values(task, crops.frame.to_dict("records"))
    rough = [row for row, label in enumerate(labels) if label != UNKNOWN and row not in known]
    if not rough:
        return config
    unit, names = task.value.name, name_some([crops.image_ids[row] for row in rough])
    print(f"{task.name}: {len(rough)} photos have no exact {unit} ({names}); learns classes instead")
    return replace(config, head="classes")


def warn_of_random_features(task: Task, config: Config) -> None:
    """Print a line where the backbone neither learns nor has learned before."""
    if not config.pretrained and config.backbone_lr == 0:
        print(
            f"warning: {task.name}: backbone {config.backbone} has random weights (--no-pretrained) and learns nothing "
            f"(frozen); give --backbone-lr 1, or leave out --no-pretrained"
        )


def refuse_absent_class(task: Task, labels: Sequence[int], crops: Crops, fold_of: Mapping[str, int]) -> None:
    """UserError if the photos that some fold is trained on lack a class, or if a fold has no photo with a label."""
    folds = [fold_of[person] for person in crops.frame["person"]]
    known = [(label, fold) for label, fold in zip(labels, folds, strict=True) if label != UNKNOWN]
    empty = set(folds) - {fold for _, fold in known}
    if empty:
        raise UserError(f"task {task.name}: nobody in fold {min(empty)} has a label; give fewer --folds, or --task")
    for fold in sorted(set(folds)):
        learned = {label for label, other in known if other != fold}
        for label, name in enumerate(task.classes):
            if label not in learned:
                raise UserError(
                    f"task {task.name}: no photo of class {name!r} to train fold {fold} on; "
                    f"allowed are data in which every class has people in at least two folds"
                )


def default_tasks(args: argparse.Namespace) -> list[str]:
    """Return all tasks, or, with --refit, those that have a trained fold. UserError if none has."""
    if not args.refit:
        return list(task_names())
    trained = trained_tasks(args.run_dir)
    if not trained:
        raise UserError(f"--refit: run folder {args.run_dir} has no trained folds; train them first, without --refit")
    return trained


def settings_of(task: str, args: argparse.Namespace, profile: str) -> Config:
    """Return the settings of a task: of the profile and what was typed, or, with --refit, those of its folds."""
    typed = typed_settings(args)
    return refit_config(args.run_dir, task, typed, args.profile) if args.refit else resolve(task, profile, typed)


def with_drawings(jobs: "Sequence[FoldJob]") -> "list[FoldJob]":
    """Return the jobs with what they learn from beside the photos, drawn first if need be."""
    from synthesis.draw_crops import drawings_of

    crops_of = {job.config: job.data.crops for job in jobs}
    drawn = {config: drawings_of(crops, config.drawn) for config, crops in crops_of.items()}
    return [replace(job, data=replace(job.data, drawn=drawn[job.config])) for job in jobs]


def chosen_folds(args: argparse.Namespace, folds: int) -> list[int]:
    """Return the folds of --fold, sorted; all if none is given. With --refit: the one after them, with nobody in it."""
    asked = args.fold
    if args.refit and asked is not None:
        raise UserError("--refit: it learns from all people; leave out --fold")
    if args.refit:
        return [folds]
    if asked is None:
        return list(range(folds))
    for fold in asked:
        if not 0 <= fold < folds:
            raise UserError(f"--fold {fold}: allowed is 0 to {folds - 1}")
    return sorted(set(asked))


if __name__ == "__main__":
    run_cli(main)
