"""Whole job: all folds of every task trained and their eval photos predicted, ours beside the original recipe.

Same backbone, input size, epochs, folds and crops. In an epoch the recipe shows every photo once; ours shows some of
each person's, or, to a head on a frozen backbone, every kept view of a photo. Ours are the commands, started as a user
starts them; the recipe runs in this process. The two run in turn, task after task.
"""

import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from core.tasks import combined_tasks
from dev.benchmarks.baselines import OriginalRecipe
from dev.benchmarks.measure import Report, ratios_of
from dev.benchmarks.setup import Setup
from dev.command import run_command
from evaluation.combined_class import COMBINED
from evaluation.logits import OUT_OF_FOLD, LogitTable, make_table
from evaluation.results import read_fold_tables
from evaluation.scores import score
from storage.crop_cache import FOLDER as PIXELS
from training.device import pick_workers
from training.feature_cache import FOLDER as FEATURES
from training.fold_setup import FoldData

OURS, ORIGINAL = "ours", "original recipe"


def bench_job(setup: Setup) -> Report:
    """Seconds of each task for both sides, and the out-of-fold scores of both with their intervals over people."""
    sides = {OURS: _ours, ORIGINAL: _original}
    crops, labels = setup.train_crops, {}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    predicted: dict[str, dict[str, list[int]]] = {name: {} for name in sides}
    # Making the caches is a part of our time.
    for cache in (PIXELS, FEATURES):
        shutil.rmtree(setup.crop_dir / cache, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=setup.work_dir) as folder:
        for number, task in enumerate(combined_tasks()):
            config = setup.config(task.name, folds=setup.size.folds)
            folds = [setup.fold_data(task.name, config, fold) for fold in range(config.folds)]
            labels[task.name] = folds[0].labels
            for name in list(sides)[:: -1 if number % 2 else 1]:
                began = time.perf_counter()
                table = sides[name](setup, folds, Path(folder))
                seconds[name].append(time.perf_counter() - began)
                predicted[name][task.name] = table.of(crops.image_ids).argmax(axis=1).tolist()
    facts: dict[str, object] = {f"all tasks, {name}, s": sum(of_tasks) for name, of_tasks in seconds.items()}
    facts["all tasks, times faster"] = sum(seconds[ORIGINAL]) / sum(seconds[OURS])
    for name in sides:
        record = score(labels, predicted[name], list(crops.frame["person"]))
        of_each = {**record["tasks"], COMBINED: record[COMBINED]}
        facts |= {f"{task} macro-F1, {name}": found["macro_f1"] for task, found in of_each.items()}
    return Report("s a task", seconds, ratios_of(seconds, ORIGINAL), facts)


def _ours(setup: Setup, folds: Sequence[FoldData], folder: Path) -> LogitTable:
    """Train and predict with the commands; return the out-of-fold logits."""
    task, run_dir = folds[0].task, folder / "run"
    where = ["--task", task.name, "--run-dir", run_dir]
    run_command(["train.py", *where, "--crop-dir", setup.crop_dir, *setup.train_flags(folds=len(folds))])
    run_command(["inference.py", *where, "--device", setup.device])
    return read_fold_tables(run_dir, task, OUT_OF_FOLD).logits


def _original(setup: Setup, folds: Sequence[FoldData], _: Path) -> LogitTable:
    """Train and predict with the original recipe; return the out-of-fold logits."""
    task, config = folds[0].task, setup.config(folds[0].task.name)
    size, workers = folds[0].input_for(config).size, pick_workers(config.workers, setup.device)
    rows, columns = setup.train_crops.settings.face_window
    box = columns.start, rows.start, columns.stop, rows.stop
    recipe = OriginalRecipe(config.backbone, config.pretrained, size, config.epochs, setup.device, workers, box)
    image_ids, logits = [], []
    for data in folds:
        (crops, labels), (out_of_fold, expected) = data.part(out_of_fold=False), data.part(out_of_fold=True)
        model = recipe.train(task.name, len(task.classes), (crops.paths, labels), (out_of_fold.paths, expected))
        recipe.predict(model, setup.eval_crops.paths)
        image_ids += out_of_fold.image_ids
        logits.append(recipe.predict(model, out_of_fold.paths).numpy())
    return make_table(image_ids, task.classes, np.concatenate(logits))
