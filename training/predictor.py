"""A trained fold: loaded from its folder alone, it predicts crops from the caches or in memory."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor

from core import files
from core.cli import UserError
from core.cropping import CropImages, CropSettings, shared_settings
from core.tasks import Task, task_named
from evaluation.logits import make_table, write_table
from model import OnPixels, build_model
from storage.crop_cache import CropCache
from storage.crops import Crops
from storage.run_dir import CONFIG, MODEL, read_config_of, refuse_incomplete
from training import checkpoints
from training.config import Config, from_dict
from training.feature_cache import FeatureCache
from training.heads import Head, build_head
from training.inputs import PredictOptions, TrainingInput, trained_input
from training.ridge import with_ridge_head
from training.starting_weights import described_in


@dataclass(frozen=True)
class Prediction:
    """Logits (N, C) float32 of N crops, and expected values (N,) where the head has values."""

    logits: np.ndarray
    value: np.ndarray | None


@dataclass(frozen=True)
class Predictor:
    """The network of a trained fold, with what is needed to feed it and to read its outputs."""

    fold_dir: Path
    identity: dict
    config: Config
    crop: CropSettings
    model: OnPixels
    head: Head
    input: TrainingInput


BackboneTensors = dict[Path, dict[str, Tensor]]
"""Tensors of frozen backbones by file: folds that are loaded with the same dictionary share them in memory."""


def load_predictor(fold_dir: Path, task: Task | str, backbones: BackboneTensors | None = None) -> Predictor:
    """Load the model of a finished fold. UserError if it is of another task or not finished.

    A task that is in no table, such as an experiment's, is given as its row.
    """
    row = task_named(task) if isinstance(task, str) else task
    refuse_incomplete(fold_dir, MODEL)
    identity = read_config_of(fold_dir, row.name)
    normalisation, crop = identity["normalisation"], CropSettings.read(f"{fold_dir / CONFIG}: crop", identity["crop"])
    config = from_dict(identity["settings"])
    refuse_other_classes(fold_dir, identity["classes"], row)
    head = build_head(config.head, row, config.age_edges)
    fold_input = trained_input(fold_dir, identity, config)
    options = {"drop_rate": config.drop_rate, "described": described_in(identity)}
    network = build_model(config.backbone, head.outputs, image_size=fold_input.size, **options)
    with_ridge_head(network, config, head)
    if fold_input.is_frozen:
        known, path = {} if backbones is None else backbones, fold_input.backbone.weights
        if path not in known:
            known[path] = checkpoints.read_backbone(path)
        checkpoints.load_backbone(network, known[path], path)
    checkpoints.load_weights(fold_dir / MODEL, fold_input.saved(network))
    model = OnPixels(network, normalisation["mean"], normalisation["std"])
    return Predictor(fold_dir, identity, config, crop, model, head, fold_input)


def predict_crops(predictor: Predictor, crops: Crops, options: PredictOptions) -> Prediction:
    """Predict all crops of a split, through the caches.

    UserError if they were cropped in another way than the crops of training.
    """
    refuse_other_crops(predictor.fold_dir, predictor.identity, crops)
    cache = predictor.input.open(crops, device=options.device)
    return predict_cached(predictor, cache, crops.image_ids, options)


def predict_cached(
    predictor: Predictor, cache: CropCache | FeatureCache, image_ids: Sequence[str], options: PredictOptions
) -> Prediction:
    """Predict some crops of a cache that the fold's input has opened."""
    return _read(predictor, predictor.input.cached_outputs(predictor.model, cache, image_ids, options))


def predict_images(
    predictor: Predictor, images: CropImages, options: PredictOptions, features: dict | None = None
) -> Prediction:
    """Predict crops in memory, cut as those of training were, with or without surroundings that it is not shown.

    Folds that predict the same images with the same dictionary `features` run a frozen backbone they share once.
    """
    known = {} if features is None else features
    return _read(predictor, predictor.input.image_outputs(predictor.model, images, options, known))


def _read(predictor: Predictor, outputs: Tensor) -> Prediction:
    """Return what the head makes of the network's outputs (N, K). UserError unless they are finite numbers."""
    if not outputs.isfinite().all():
        raise UserError(f"{predictor.fold_dir}: its model's outputs are not finite numbers; train it with a lower --lr")
    values = predictor.head.values(outputs)
    return Prediction(predictor.head.class_logits(outputs).numpy(), None if values is None else values.numpy())


def write_prediction(path: Path, task: Task, image_ids: Sequence[str], prediction: Prediction) -> list[Path]:
    """Write the logit table, and the values beside it, as `oof_years.csv` beside `oof.csv`; return their paths."""
    paths = [path]
    if prediction.value is not None:
        paths.append(path.with_stem(f"{path.stem}_{task.value.name}"))
        files.write_csv(paths[-1], pd.DataFrame({"image_id": image_ids, task.value.name: prediction.value}))
    write_table(path, make_table(image_ids, task.classes, prediction.logits))
    return paths


def refuse_other_classes(fold_dir: Path, trained_for: Sequence[str], task: Task) -> None:
    """UserError unless the fold was trained for the classes of the task."""
    if list(trained_for) != list(task.classes):
        raise UserError(
            f"{fold_dir}: trained for the classes {', '.join(map(str, trained_for))}, but those of {task.name} are "
            f"{', '.join(task.classes)}"
        )


def refuse_other_crops(fold_dir: Path, identity: dict, crops: Crops) -> None:
    """UserError unless the crops were cut with the settings in config.json of the fold, and hold what it is shown.

    Surroundings that it is not shown do not matter.
    """
    trained_on, found = CropSettings.read(f"{fold_dir / CONFIG}: crop", identity["crop"]), crops.settings
    window = from_dict(identity["settings"]).window
    if shared_settings([trained_on, found], [window]) is None:
        name = next(name for name, value in asdict(found).items() if value != getattr(trained_on, name))
        raise UserError(
            f"crop folder {crops.crop_dir}: cropped with {name} {getattr(found, name)}, but {fold_dir} was trained "
            f"with {name} {getattr(trained_on, name)}; crop the photos with the same settings"
        )
    found.refuse_absent(window)
