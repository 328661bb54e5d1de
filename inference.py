"""Logits of every fold's model on the eval photos.

    python inference.py --task age         outputs/default/age/fold*/eval.csv
    python inference.py                    all tasks of the run
    python inference.py --task mask --crop-dir other_crops --output-dir outputs/other      photos of another data set

Works from the fold folders alone: architecture and settings are those of training. What is up to date is left alone.
"""

import argparse
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from core import files
from core.cli import UserError, add_run_dir, command_parser, cpu_count, name_some, not_negative, progress, run_cli
from core.files import require_room
from core.locks import holding
from core.tasks import task_named, task_names
from storage.crops import Crops, load_crops, reading
from storage.run_dir import (
    CONFIG,
    DIGESTS,
    EVAL,
    EVAL_STAMP,
    MODEL,
    Run,
    begin_run,
    finished_folds,
    is_trained_here,
    read_config_of,
    read_run,
    refuse_incomplete,
    trained_tasks,
)
from training.config import from_dict
from training.launchers import LOCAL, add_launcher_flags, launch, resources_of

ROW_BYTES = 200
"""A row of a logit table: a name and a few numbers of 12 characters."""
WORTH_A_PROCESS = 1500
"""Predictions of a small network that take about as long as to start a process."""


@dataclass(frozen=True)
class PredictionJob:
    """One trained fold, and the folder that its eval.csv is written to. `tta` is None for that of training."""

    task: str
    fold_dir: Path
    output_dir: Path
    device: str
    workers: int
    tta: str | None

    @property
    def title(self) -> str:
        return f"{self.task} {self.fold_dir.name}"

    def stamp(self, crops: Crops) -> dict[str, str]:
        """Return the weights, crops and options that the eval logits are made from."""
        refuse_incomplete(self.fold_dir, MODEL)
        settings = read_config_of(self.fold_dir, self.task)["settings"]
        weights = files.file_sha256(self.fold_dir / MODEL)
        tta = self.tta or from_dict(settings).tta
        return {"weights_sha256": weights, "crops_hash": crops.hash, "tta": tta}

    def is_up_to_date(self, crops: Crops) -> bool:
        """Return whether the tables that are there are whole, and made from the same weights, crops and options."""
        table_path, stamp_path = self.output_dir / EVAL, self.output_dir / EVAL_STAMP
        known = table_path.exists() and stamp_path.exists()
        return known and files.holds_json(stamp_path, self.stamp(crops) | self.digests())

    def digests(self) -> dict[str, dict[str, str]]:
        """Return the digests of the tables that are there."""
        return {DIGESTS: {path.name: files.file_sha256(path) for path in sorted(self.output_dir.glob("eval*.csv"))}}


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    run = read_run(args.run_dir)
    with (
        holding(args.output_dir or args.run_dir, "--run-dir" if args.output_dir is None else "--output-dir"),
        reading(args.crop_dir or Path(run.crop_dir)),
    ):
        predict_tasks(args, run)


def predict_tasks(args: argparse.Namespace, run: Run) -> None:
    """Write the logits of all finished folds of the chosen tasks."""
    # Only now: torch takes seconds to import, for which --help and a mistyped flag need not wait.
    from training.jobs import make_features

    crops = load_crops(args.crop_dir or Path(run.crop_dir), "eval")
    if not crops.image_ids:
        print(f"crop folder {crops.crop_dir}: no eval photos in it, nothing to predict")
        return
    crops.refuse_changed()
    if crops.missing:
        print(f"{len(crops.missing)} unreadable eval photos get no logits: {name_some(crops.missing)}")
    folds_of = {task: folds_to_predict(args.run_dir / task) for task in args.task or trained_tasks(args.run_dir)}
    output_dir = open_output(args.run_dir, args.output_dir, run, crops)
    options = {"device": args.device, "workers": args.workers, "tta": args.tta}
    jobs = [
        PredictionJob(task, fold_dir, output_dir / task / fold_dir.name, **options)
        for task, folds in folds_of.items()
        for fold_dir in folds
    ]
    left = [job for job in jobs if not job.is_up_to_date(crops)]
    for job in jobs:
        if job not in left:
            print(f"{job.title}: eval logits are up to date")
    # Threads change the last digits, so they depend on all models of the run, not on those that are left.
    models = sum(len(finished_folds(args.run_dir / task)) for task in trained_tasks(args.run_dir))
    at_once = args.jobs or models_at_once(args.device, models, len(crops.image_ids))
    threads = max(1, cpu_count() // at_once) if args.launcher == LOCAL else args.job_cpus
    resources = resources_of(args, processes=min(at_once, len(left) or 1))
    shards = missing_features(left, crops)
    make_features(shards, device=args.device, threads=threads, at_once=at_once, resources=resources)
    launched = launch(resources, partial(job_predictor, crops, threads), left)
    with closing(launched), progress(None, title="predicting", total=len(left), unit="model") as bar:
        for line in launched:
            bar.write(line)
            bar.update()


def missing_features(jobs: Sequence[PredictionJob], crops: Crops) -> list:
    """Make the crop caches that jobs read; return the work (training.feature_cache.Shard) left for feature caches.

    UserError for a fold that was trained on crops cut in another way.
    """
    from training.inputs import trained_input
    from training.predictor import refuse_other_crops

    shards = {}
    for job in jobs:
        identity = read_config_of(job.fold_dir, job.task)
        refuse_other_crops(job.fold_dir, identity, crops)
        fold_input = trained_input(job.fold_dir, identity, from_dict(identity["settings"]))
        shards |= {shard.path: shard for shard in fold_input.missing_shards(crops)}
    return list(shards.values())


def models_at_once(device: str, models: int, photos: int) -> int:
    """One job per CPU core, but no more than pay for their start-up time; one per GPU.

    On a CPU, two models of one thread each predict about twice as fast as one of two threads.
    """
    from training.device import pick_device

    if pick_device(device).type != "cpu":
        return 1
    return max(1, min(cpu_count(), models, models * photos // WORTH_A_PROCESS))


def job_predictor(crops: Crops, threads: int) -> Callable[[PredictionJob], str]:
    """Prepare this process with a number of threads, and return the function that does jobs in it."""
    from training.device import prepare_process

    prepare_process(threads)
    # Backbones that its folds share are read once.
    return partial(predict_fold, crops=crops, backbones={})


def predict_fold(job: PredictionJob, *, crops: Crops, backbones: dict) -> str:
    """Write eval.csv of one fold, and return a line that says so."""
    from training.inputs import PredictOptions
    from training.predictor import load_predictor, predict_crops, write_prediction

    stamp, stamp_path = job.stamp(crops), job.output_dir / EVAL_STAMP
    require_room(job.output_dir, ROW_BYTES * len(crops.image_ids), "inference")
    predictor = load_predictor(job.fold_dir, job.task, backbones)
    options = PredictOptions(job.device, job.workers, stamp["tta"], job.title)
    prediction = predict_crops(predictor, crops, options)
    stamp_path.unlink(missing_ok=True)
    write_prediction(job.output_dir / EVAL, task_named(job.task), crops.image_ids, prediction)
    if job.output_dir != job.fold_dir:
        files.write_json(job.output_dir / CONFIG, predictor.identity)
    files.write_json(stamp_path, stamp | job.digests())
    return f"{job.title}: {len(crops.image_ids)} eval photos"


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
    loaders = "loader processes; -1 = as many as suit the machine"
    parser.add_argument("--workers", type=loader_processes, default=-1, help=loaders)
    return parser.parse_args(argv)


def loader_processes(text: str) -> int:
    """Parse a flag's value: a whole number from -1."""
    value = int(text)
    if value < -1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from -1")
    return value


def folds_to_predict(task_dir: Path) -> list[Path]:
    """Return the folders of a task's finished folds. UserError if there is none."""
    folds = finished_folds(task_dir)
    if not folds:
        raise UserError(f"{task_dir}: no trained fold in it; run train.py --task {task_dir.name}")
    return folds


def open_output(run_dir: Path, output_dir: Path | None, run: Run, crops: Crops) -> Path:
    """Return the run folder to write to. UserError if these crops do not belong to it."""
    root = crops.source["data_root"]
    if output_dir is None:
        if root != run.data_root:
            raise UserError(
                f"run folder {run_dir} belongs to {run.data_root}, the crops of {crops.crop_dir} to {root}; "
                f"give an --output-dir to predict them"
            )
        return run_dir
    other = {"data_root": root, "layout": crops.source["layout"], "crop_dir": str(crops.crop_dir.resolve())}
    if output_dir.resolve() != run_dir.resolve() and is_trained_here(output_dir):
        raise UserError(f"--output-dir {output_dir}: a run is trained in it; give another folder")
    begin_run(output_dir, replace(run, **other))
    return output_dir


if __name__ == "__main__":
    run_cli(main)
