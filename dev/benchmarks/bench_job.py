"""Whole job: all folds of every task trained and their eval photos predicted, ours beside the original recipe.

Same backbone, input size, epochs, folds and crops. In an epoch the recipe shows every photo once; ours shows some of
each person's, or, to a head on a frozen backbone, every kept view of a photo. Ours are the commands, started as a user
starts them; the recipe runs in this process. Task after task the two run in turn; what the times are worth is seen
from storage.run_dir import OOF, fold_dir_of
from the out-of-fold scores beside them, with their intervals over people.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from core.tables import row_named
from training.fold_data import FoldData

from core.tasks import combined_class_count, combined_tasks
from dev.benchmarks.material import Setup
from dev.benchmarks.measure import Report, ratio
from dev.benchmarks.original import CRITERIA, OriginalFold, Recipe
from dev.benchmarks.ours import fold_data
from dev.benchmarks.watch import watch
from evaluation.decision_rules import combine_labels
from evaluation.logits import read_table
from evaluation.metrics import scores
from storage.crop_cache import FOLDER as PIXELS
from storage.run_dir import OOF, fold_dir_of
from training.feature_cache import FOLDER as FEATURES
from training.predictor import input_size

OURS, ORIGINAL = "ours", "original recipe"
Side = Callable[[Setup, Sequence[FoldData], Path], list[np.ndarray]]
"""Trains all folds of a task, predicts the eval photos, and returns what each fold answers for its held-out photos."""


def bench_job(setup: Setup) -> Report:
    """Seconds of each task for both, and the scores of both."""
    sides: dict[str, Side] = {OURS: _ours, ORIGINAL: _original}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    found: dict[str, object] = {}
    truth: dict[str, np.ndarray] = {}
    answered: dict[str, dict[str, np.ndarray]] = {name: {} for name in sides}
    # Making the stores is a part of our time.
    for store in (PIXELS, FEATURES):
        shutil.rmtree(setup.crop_dir / store, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=setup.work_dir) as folder:
        for number, task in enumerate(combined_tasks()):
            config = setup.config(task.name, folds=setup.size.folds)
            folds = [fold_data(setup, task.name, config, fold) for fold in range(config.folds)]
            truth[task.name], persons = _held_out(folds)
            for name in list(sides)[:: -1 if number % 2 else 1]:
                began = time.perf_counter()
                answers = np.concatenate(sides[name](setup, folds, Path(folder)))
                seconds[name].append(time.perf_counter() - began)
                answered[name][task.name] = answers
                found[f"{task.name} macro-F1, {name}"] = _score(truth[task.name], answers, persons, len(task.classes))
    # All tasks have the same folds, and so the same photos in the same order.
    for name, labels in answered.items():
        true, answers = combine_labels(truth), combine_labels(labels)
        found[f"combined macro-F1, {name}"] = _score(true, answers, persons, combined_class_count())
    totals = {f"all tasks, {name}, s": sum(runs) for name, runs in seconds.items()}
    totals["all tasks, times faster"] = sum(seconds[ORIGINAL]) / sum(seconds[OURS])
    return Report("s a task", seconds, {f"{ORIGINAL} / {OURS}": ratio(seconds, ORIGINAL, OURS)}, totals | found)


def _ours(setup: Setup, folds: Sequence[FoldData], folder: Path) -> list[np.ndarray]:
    task, run_dir = folds[0].task, folder / "run"
    settings = ["--profile", setup.profile, *setup.typed_flags(), "--folds", len(folds)]
    watch(["train.py", "--task", task.name, "--crop-dir", setup.crop_dir, "--run-dir", run_dir, *settings])
    watch(["inference.py", "--task", task.name, "--run-dir", run_dir, "--device", setup.device])
    answers = []
    for data in folds:
        held_out, _ = data.part(held_out=True)
        table = read_table(fold_dir_of(run_dir, task.name, data.fold) / OOF, task.classes)
        answers.append(table.of(held_out.image_ids).argmax(axis=1))
    return answers


def _original(setup: Setup, folds: Sequence[FoldData], _: Path) -> list[np.ndarray]:
    task = folds[0].task
    config = setup.config(task.name)
    recipe = Recipe(
        config.backbone,
        config.pretrained,
        input_size(config, folds[0].crops.source),
        config.epochs,
        len(task.classes),
        setup.device,
        setup.loader_workers,
    )
    return [_original_fold(setup, recipe, data) for data in folds]


def _original_fold(setup: Setup, recipe: Recipe, data: FoldData) -> np.ndarray:
    fold = OriginalFold(recipe, row_named(CRITERIA, data.task.name, what="criterion"))
    crops, labels = data.part(held_out=False)
    held_out, truth = data.part(held_out=True)
    fold.train(crops.paths, labels, held_out=(held_out.paths, truth))
    fold.predict(setup.eval_crops.paths)
    return fold.predict(held_out.paths).argmax(dim=1).numpy()


def _held_out(folds: Sequence[FoldData]) -> tuple[np.ndarray, list[str]]:
    """Labels and persons of what the folds hold out, one fold after the other."""
    parts = [data.part(held_out=True) for data in folds]
    truth = [label for _, labels in parts for label in labels]
    return np.array(truth), [person for crops, _ in parts for person in crops.frame["person"]]


def _score(truth: np.ndarray, answers: np.ndarray, persons: Sequence[str], classes: int) -> dict[str, float]:
    """Macro-F1 out of fold, with its interval over people."""
    return scores(truth, answers, persons, num_classes=classes)["macro_f1"]
