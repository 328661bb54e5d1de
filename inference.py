"""Logits of every fold's model on the eval photos.

    python inference.py --task age         outputs/default/age/fold*/eval.csv
    python inference.py                    all tasks of the run
    python inference.py --task mask --crop-dir other_crops --output-dir outputs/other      photos of another data set

Works from the fold folders alone: architecture and settings are those of training. What is up to date is left alone.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from core import files
from core.cli import UserError, add_run_dir, command_parser, cpu_count, name_some, not_negative, run_cli
from core.files import holding, require_room
from core.tasks import task_named, task_names
from storage.crop_cache import open_crop_cache
from storage.crops import Crops, load_crops
from storage.run_dir import (
    CONFIG,
    EVAL,
    MODEL,
    Run,
    backbone_path,
    begin_run,
    finished_folds,
    read_config_of,
    read_run,
    trained_tasks,
)
from training.config import from_dict
from training.device import pick_device, prepare_process
from training.feature_cache import Looks, Shard, describe, missing_shards
from training.feature_making import make_features
from training.launchers import LOCAL, add_launcher_flags, launch_all
from training.predictor import input_size, load_predictor, refuse_other_crops, write_prediction

STAMP = "eval.json"
ROW_BYTES = 200
"""A row of a logit table: a name and a few numbers of 12 characters."""
WORTH_A_PROCESS = 1500
"""Predictions of a small network that take about as long as to start a process."""


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    run = read_run(args.run_dir)
    with holding(args.output_dir or args.run_dir, "--run-dir" if args.output_dir is None else "--output-dir"):
        predict_tasks(args, run)


def predict_tasks(args: argparse.Namespace, run: Run) -> None:
    """Logits of all finished folds of the chosen tasks."""
    crops = load_crops(args.crop_dir or Path(run.crop_dir), "eval")
    if not crops.image_ids:
        raise UserError(f"crop folder {crops.crop_dir}: no eval photos in it (data root {crops.source['data_root']})")
    if crops.missing:
        print(f"{len(crops.missing)} unreadable eval photos get no logits: {name_some(crops.missing)}")
    folds_of = {task: folds_to_predict(args.run_dir / task) for task in args.task or trained_tasks(args.run_dir)}
    output_dir = open_output(args, run, crops)
    models = [(folder, output_dir / task / folder.name, task) for task, folds in folds_of.items() for folder in folds]
    models = [model for model in models if not is_up_to_date(*model, crops, args)]
    jobs = args.jobs or jobs_at_once(args.device, len(models), len(crops.image_ids))
    threads = max(1, cpu_count() // jobs) if args.launcher == LOCAL else args.job_cpus
    make_features(args, make_stores(models, crops), device=args.device, jobs=jobs, threads=threads)
    launch_all(args, partial(fold_predictor, crops, args, threads), models, processes=jobs)


def make_stores(models: Sequence[tuple[Path, Path, str]], crops: Crops) -> list[Shard]:
    """The stores of pictures that the models will read: here, once, lest all processes make the same one.

    Returns the work that the stores of features still need. UserError for a model that was trained on crops cut in
    another way.
    """
    shards = {}
    for fold_dir, _, task in models:
        identity = read_config_of(fold_dir, task)
        refuse_other_crops(fold_dir, identity, crops)
        config = from_dict(identity["settings"])
        size, weights = input_size(config, identity), backbone_path(fold_dir, identity)
        open_crop_cache(crops, size)
        if weights:
            shards |= {
                shard.path: shard
                for shard in missing_shards(crops, describe(config, weights, size, identity["normalisation"]), Looks())
            }
    return list(shards.values())


def jobs_at_once(device: str, models: int, photos: int) -> int:
    """Models that predict side by side: one a core on a CPU, where two of one thread each do about twice as much as one
    of two threads, but none for which there is less to do than its process takes to start."""
    if pick_device(device).type != "cpu":
        return 1
    return max(1, min(cpu_count(), models, models * photos // WORTH_A_PROCESS))


def fold_predictor(crops: Crops, args: argparse.Namespace, threads: int) -> Callable[[tuple[Path, Path, str]], None]:
    """What predicts with one fold's model, with so many threads, wherever it runs."""
    prepare_process(threads)
    return lambda model: predict_fold(*model, crops, args)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument(
        "--task", nargs="+", choices=task_names(), help="tasks to predict (default: all that are trained)"
    )
    add_run_dir(parser)
    add_launcher_flags(parser)
    parser.add_argument("--crop-dir", type=Path, help="crops to predict (default: those of the run)")
    parser.add_argument("--output-dir", type=Path, help="run folder to write to, for crops of another data set")
    parser.add_argument("--tta", choices=("none", "flip"), help="flip adds the mirror image (default: as in training)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps ...")
    parser.add_argument(
        "--jobs",
        type=not_negative,
        default=0,
        help="models that predict at once, which share the cores; 0 = up to one a core, or one at a time on a GPU",
    )
    parser.add_argument("--workers", type=int, default=-1, help="loader processes; -1 = as many as suit the machine")
    return parser.parse_args(argv)


def folds_to_predict(task_dir: Path) -> list[Path]:
    """Folders of a task's finished folds; UserError if there is none."""
    folds = finished_folds(task_dir)
    if not folds:
        raise UserError(f"{task_dir}: no trained fold in it; run train.py --task {task_dir.name}")
    return folds


def open_output(args: argparse.Namespace, run: Run, crops: Crops) -> Path:
    """The run folder to write to; UserError if these crops do not belong to it."""
    root = crops.source["data_root"]
    if args.output_dir is None:
        if root != run.data_root:
            raise UserError(
                f"run folder {args.run_dir} belongs to {run.data_root}, the crops of {crops.crop_dir} to {root}; "
                f"give an --output-dir to predict them"
            )
        return args.run_dir
    other = {"data_root": root, "layout": crops.source["layout"], "crop_dir": str(crops.crop_dir.resolve())}
    begin_run(args.output_dir, replace(run, **other))
    return args.output_dir


def stamp_of(fold_dir: Path, task: str, crops: Crops, args: argparse.Namespace) -> dict[str, str]:
    """What the eval logits of a fold are made from."""
    identity = read_config_of(fold_dir, task)
    weights = files.file_sha256(fold_dir / MODEL)
    tta = args.tta or from_dict(identity["settings"]).tta
    return {"weights_sha256": weights, "crops_hash": crops.hash, "tta": tta}


def is_up_to_date(fold_dir: Path, output_dir: Path, task: str, crops: Crops, args: argparse.Namespace) -> bool:
    """Whether the eval.csv that is there was made from the same weights, crops and options."""
    table_path, stamp_path = output_dir / EVAL, output_dir / STAMP
    known = table_path.exists() and stamp_path.exists()
    if not known or files.read_json(stamp_path) != stamp_of(fold_dir, task, crops, args):
        return False
    print(f"{task} {fold_dir.name}: eval logits are up to date")
    return True


def predict_fold(fold_dir: Path, output_dir: Path, task: str, crops: Crops, args: argparse.Namespace) -> None:
    """Write eval.csv of one fold."""
    stamp, stamp_path = stamp_of(fold_dir, task, crops, args), output_dir / STAMP
    title = f"{task} {fold_dir.name}"
    require_room(output_dir, ROW_BYTES * len(crops.image_ids), "inference")
    predictor = load_predictor(fold_dir, task)
    prediction = predictor.of_crops(crops, device=args.device, workers=args.workers, tta=stamp["tta"], title=title)
    stamp_path.unlink(missing_ok=True)
    write_prediction(output_dir / EVAL, task_named(task), crops.image_ids, prediction)
    if output_dir != fold_dir:
        files.write_json(output_dir / CONFIG, predictor.identity)
    files.write_json(stamp_path, stamp)
    print(f"{title}: {len(crops.image_ids)} eval photos")


if __name__ == "__main__":
    run_cli(main)
