"""The models of a run folder as one classifier: of each task its refit, or its folds averaged as in ensemble.py."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core import files
from core.cli import UserError
from core.cropping import CropImages, CropSettings, shared_settings
from evaluation.logits import AVERAGES, DEFAULT_AVERAGE, log_softmax
from evaluation.run_scores import read_scores
from serving.types import BatchPrediction
from storage.folds import folds_path, read_folds
from storage.run_dir import REFIT, finished_folds, is_of_drawn_people, read_run, trained_tasks
from training.device import pick_device
from training.inputs import PredictOptions
from training.predictor import BackboneTensors, Predictor, load_predictor, predict_images
from training.refit import usable_refit


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
    """The models of each task, its refit or its folds, all of them with the same crop settings."""

    models: Mapping[str, tuple[Predictor, ...]]
    averaging: Mapping[str, Averaging]
    crop: CropSettings
    device: str = "auto"

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.models)

    def __call__(self, crops: Sequence[np.ndarray]) -> dict[str, BatchPrediction]:
        """Predict, by task, for crops (h, w, 3) uint8 RGB; values are the mean of the models' expected ones."""
        features: dict = {}
        return {task: self._of_task(task, CropImages(crops, self.crop), features) for task in self.models}

    def made_of(self, task: str) -> str:
        """Return which models speak for a task, in words: 'refit on all people', '5 of 5 folds'."""
        predictors = self.models[task]
        if predictors[0].fold_dir.name == REFIT:
            return "refit on all people"
        return f"{len(predictors)} of {predictors[0].config.folds} folds"

    def _of_task(self, task: str, images: CropImages, features: dict) -> BatchPrediction:
        """Predict one task. `features` holds those of frozen backbones, each of which runs once for all folds."""
        predictors = self.models[task]
        predictions = [
            predict_images(predictor, images, PredictOptions(self.device, tta=predictor.config.tta), features)
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
    run_dir: Path, *, tasks: Sequence[str] = (), folds: Sequence[int] | None = None, device: str = "auto"
) -> RunClassifier:
    """Load the run's models: of all trained tasks, or those named. UserError for one that is not trained.

    By default the refit of a task speaks for it, where there is one, else all folds. `folds`: these, empty for all.
    """
    read_run(run_dir)
    chosen = tasks or trained_tasks(run_dir)
    if not chosen:
        raise UserError(f"run folder {run_dir}: no trained fold in it; run train.py first, or give --run-dir")
    backbones: BackboneTensors = {}
    predictors = {task: _load_models(run_dir / task, folds, backbones) for task in chosen}
    return classifier_of(predictors, {task: averaging_of(run_dir, task) for task in chosen}, device)


def classifier_of(
    models: Mapping[str, tuple[Predictor, ...]], averaging: Mapping[str, Averaging], device: str
) -> RunClassifier:
    """Return the classifier of these models.

    UserError if they were trained on crops of different settings, and for a device that is not there.
    """
    pick_device(device)
    return RunClassifier(models, averaging, _common_crop(models), device)


def describe_run(run_dir: Path, classifier: RunClassifier) -> str:
    """Return lines that name the models and their folds, what they were trained on, and how good they are."""
    run, folds = read_run(run_dir), folds_path(run_dir)
    models = [f"{task} ({classifier.made_of(task)})" for task in classifier.models]
    people = f", {len(read_folds(folds))} people" if folds.exists() else ""
    drawn = ": drawn people, predictions mean nothing" if is_of_drawn_people(run_dir) else ""
    tasks = ((read_scores(run_dir).get("oof") or {}).get("model") or {}).get("tasks", {})
    right = [f"{task} {tasks[task]['accuracy']['value']:.1%}" for task in classifier.models if task in tasks]
    refit = any(predictors[0].fold_dir.name == REFIT for predictors in classifier.models.values())
    scores_of = "right out of fold (its folds, which the refit stands in for)" if refit else "right out of fold"
    return "\n".join([
        f"models of {run_dir}: {', '.join(models)}",
        f"  trained on {Path(run.data_root).name}{people}{drawn}",
        f"  {scores_of}: {', '.join(right) or 'not scored yet; submission.py does'}",
    ])  # fmt: skip


def _are_temperatures(values: object) -> bool:
    return isinstance(values, list) and all(type(one) in (int, float) and 0 < one < np.inf for one in values)


def averaging_of(run_dir: Path, task: str) -> Averaging:
    """Return the averaging of ensemble.py if it averaged this run alone, else the default."""
    stamp_path = run_dir / f"{task}.json"
    if not stamp_path.exists():
        return Averaging()
    stamp = files.read_json(stamp_path, {"average": str, "made_from": dict})
    temperatures, own = stamp.get("temperatures", [1.0]), (run_dir / task).resolve()
    if stamp["average"] not in AVERAGES or not _are_temperatures(temperatures):
        raise UserError(f"{stamp_path}: not what ensemble.py writes; run it again")
    if len(temperatures) != 1 or any(own not in Path(path).resolve().parents for path in stamp["made_from"]):
        return Averaging()
    return Averaging(stamp["average"], temperatures[0])


def _load_models(task_dir: Path, folds: Sequence[int] | None, backbones: BackboneTensors) -> tuple[Predictor, ...]:
    refit_dir = usable_refit(task_dir.parent, task_dir.name) if folds is None else None
    if refit_dir:
        return (load_predictor(refit_dir, task_dir.name, backbones),)
    finished = {int(folder.name.removeprefix("fold")): folder for folder in finished_folds(task_dir)}
    lacking = [fold for fold in folds or () if fold not in finished]
    if lacking or not finished:
        trained = ", ".join(map(str, finished)) or "none"
        raise UserError(f"{task_dir}: fold {lacking[0] if lacking else 0} is not trained; trained are: {trained}")
    return tuple(load_predictor(finished[fold], task_dir.name, backbones) for fold in dict.fromkeys(folds or finished))


def _common_crop(predictors: Mapping[str, Sequence[Predictor]]) -> CropSettings:
    """Return settings of crops for all folds. UserError naming a fold that was trained on other crops."""
    every = [predictor for of_task in predictors.values() for predictor in of_task]
    first, windows = every[0], {predictor.config.window for predictor in every}
    for predictor in every:
        if shared_settings([first.crop, predictor.crop], windows) is None:
            raise UserError(
                f"{predictor.fold_dir}: trained on crops made with {predictor.crop}, {first.fold_dir} with "
                f"{first.crop}; they cannot look at the same crops"
            )
    return shared_settings([first.crop], windows)
