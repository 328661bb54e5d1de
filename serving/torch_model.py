"""The models of a run folder as one classifier, the folds of each task averaged as in ensemble.py."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core import files
from core.cli import UserError
from core.cropping import CropSettings
from evaluation.logits import AVERAGES, DEFAULT_AVERAGE, log_softmax
from evaluation.run_scores import read_scores
from serving.types import BatchPrediction
from storage.folds import folds_path, read_folds
from storage.run_dir import CONFIG, finished_folds, is_of_drawn_people, read_run, trained_tasks
from training.inputs import PredictOptions
from training.predictor import BackboneTensors, Predictor, load_predictor, predict_images


@dataclass(frozen=True)
class Averaging:
    """Average over a task's folds: a row of evaluation.logits.AVERAGES, over logits divided by a temperature."""

    average: str = DEFAULT_AVERAGE
    temperature: float = 1.0

    def __call__(self, stack: np.ndarray) -> np.ndarray:
        """Average (M, N, C) logits of M models to (N, C) log-probabilities."""
        return log_softmax(AVERAGES[self.average](stack.astype(np.float64) / self.temperature))


@dataclass(frozen=True)
class RunClassifier:
    """The trained folds of each task, all of them with the same crop settings."""

    folds: Mapping[str, tuple[Predictor, ...]]
    averaging: Mapping[str, Averaging]
    crop: CropSettings
    device: str = "auto"

    def __call__(self, crops: Sequence[np.ndarray]) -> dict[str, BatchPrediction]:
        """Predict, by task, for crops (h, w, 3) uint8 RGB; values are the mean of the folds' expected ones."""
        features: dict = {}
        return {task: self._of_task(task, crops, features) for task in self.folds}

    def _of_task(self, task: str, crops: Sequence[np.ndarray], features: dict) -> BatchPrediction:
        """Predict one task. `features` holds those of frozen backbones, each of which runs once for all folds."""
        predictors = self.folds[task]
        predictions = [
            predict_images(predictor, crops, PredictOptions(self.device, tta=predictor.config.tta), features)
            for predictor in predictors
        ]
        values = [prediction.value for prediction in predictions if prediction.value is not None]
        first = predictors[0]
        return BatchPrediction(
            tuple(first.identity["classes"]),
            self.averaging[task](np.stack([prediction.logits for prediction in predictions])),
            np.mean(values, axis=0) if values else None,
            first.head.task.value.name if values else "",
        )


def load_run(
    run_dir: Path, *, tasks: Sequence[str] = (), folds: Sequence[int] = (), device: str = "auto"
) -> RunClassifier:
    """Load the run's models: all trained tasks and folds, or those named. UserError for one that is not trained."""
    read_run(run_dir)
    chosen = tasks or trained_tasks(run_dir)
    if not chosen:
        raise UserError(f"run folder {run_dir}: no trained fold in it; run train.py first, or give --run-dir")
    backbones: BackboneTensors = {}
    predictors = {task: _load_folds(run_dir / task, folds, backbones) for task in chosen}
    averaging = {task: _averaging_of(run_dir, task) for task in chosen}
    return RunClassifier(predictors, averaging, _common_crop(predictors), device)


def describe_run(run_dir: Path, classifier: RunClassifier) -> str:
    """Return lines that name the models and their folds, what they were trained on, and how good they are."""
    run, folds = read_run(run_dir), folds_path(run_dir)
    models = [f"{task} ({len(predictors)} of {run.folds} folds)" for task, predictors in classifier.folds.items()]
    people = f", {len(read_folds(folds))} people" if folds.exists() else ""
    drawn = ": drawn people, predictions mean nothing" if is_of_drawn_people(run_dir) else ""
    tasks = ((read_scores(run_dir).get("oof") or {}).get("model") or {}).get("tasks", {})
    right = [f"{task} {tasks[task]['accuracy']['value']:.1%}" for task in classifier.folds if task in tasks]
    return "\n".join([
        f"models of {run_dir}: {', '.join(models)}",
        f"  trained on {Path(run.data_root).name}{people}{drawn}",
        f"  right out of fold: {', '.join(right) or 'not scored yet; submission.py does'}",
    ])  # fmt: skip


def _averaging_of(run_dir: Path, task: str) -> Averaging:
    """Return the averaging of ensemble.py if it averaged this run alone, else the default."""
    stamp_path = run_dir / f"{task}.json"
    if not stamp_path.exists():
        return Averaging()
    stamp = files.read_json(stamp_path, {"average": str, "made_from": dict})
    temperatures, own = stamp.get("temperatures", [1.0]), (run_dir / task).resolve()
    if len(temperatures) != 1 or any(own not in Path(path).resolve().parents for path in stamp["made_from"]):
        return Averaging()
    return Averaging(stamp["average"], temperatures[0])


def _load_folds(task_dir: Path, folds: Sequence[int], backbones: BackboneTensors) -> tuple[Predictor, ...]:
    finished = {int(folder.name.removeprefix("fold")): folder for folder in finished_folds(task_dir)}
    lacking = [fold for fold in folds if fold not in finished]
    if lacking or not finished:
        trained = ", ".join(map(str, finished)) or "none"
        raise UserError(f"{task_dir}: fold {lacking[0] if lacking else 0} is not trained; trained are: {trained}")
    return tuple(load_predictor(finished[fold], task_dir.name, backbones) for fold in folds or finished)


def _common_crop(predictors: Mapping[str, Sequence[Predictor]]) -> CropSettings:
    """Return the crop settings of all folds. UserError naming a fold that was trained on other crops."""
    every = [predictor for of_task in predictors.values() for predictor in of_task]
    first = every[0]
    for predictor in every:
        if predictor.identity["crop"] != first.identity["crop"]:
            raise UserError(
                f"{predictor.fold_dir}: trained on crops made with {predictor.identity['crop']}, {first.fold_dir} with "
                f"{first.identity['crop']}; they cannot look at the same crops"
            )
    return CropSettings.read(f"{first.fold_dir / CONFIG}: crop", first.identity["crop"])
