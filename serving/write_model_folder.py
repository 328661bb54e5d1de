"""Write a model folder (serving/model_folder.py) from the refits of a run."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backbones.side_by_side import parts_of
from core import files
from core.cli import UserError
from model import PACKAGED_WEIGHTS
from serving.model_card import Card, card_text
from serving.model_folder import CARD, FORMAT, MODEL_FILE, packaged_tensors
from serving.torch_model import RunClassifier
from serving.types import BatchPrediction
from storage.backbone_files import backbone_files
from storage.crops import read_source
from storage.folds import folds_path, read_folds
from storage.run_dir import BACKBONES, CONFIG, MODEL, REFIT, read_run
from training import checkpoints
from training.predictor import Predictor

HALF = torch.float16


@dataclass(frozen=True)
class Origin:
    """Run, name and terms of a model folder; `sample`: crops (N, h, w, 3) uint8 on which half precision is tried.

    `real`: scores of dev.benchmarks.real, or nothing.
    """

    run_dir: Path
    name: str
    terms: str
    sample: np.ndarray
    real: Mapping[str, Any] = field(default_factory=dict)


def write_model_folder(folder: Path, run: RunClassifier, origin: Origin) -> dict[str, str]:
    """Write a model folder, whole or not at all; return the precision of each task's weights.

    UserError for a task without a refit, and for a folder that is there already.
    """
    for task, predictors in run.models.items():
        if predictors[0].fold_dir.name != REFIT:
            raise UserError(f"run folder {origin.run_dir}: no refit of {task}; run train.py --refit first")
    if folder.exists():
        raise UserError(f"--out {folder}: there already; give another folder, or remove it")
    with files.new_folder(folder) as place:
        precision = {task: _write_task(place, task, run, origin.sample) for task in run.models}
        backbones = _write_backbones(place, run)
        about = _about(run, origin, backbones) | {"precision": precision}
        about["files"] = {
            path.relative_to(place).as_posix(): files.file_sha256(path)
            for path in sorted(place.rglob("*"))
            if path.is_file()
        }
        files.write_json(place / MODEL_FILE, about)
        learned = {task: predictors[0].config.backbone for task, predictors in run.models.items()}
        card = Card(about, _scores(origin.run_dir), learned, origin.real)
        files.write_text(place / CARD, card_text(card))
    return precision


def _write_task(place: Path, task: str, run: RunClassifier, sample: np.ndarray) -> str:
    """Write settings and weights of a task, and return their precision: the half where no label changes."""
    (predictor,) = run.models[task]
    target = place / task / REFIT
    target.mkdir(parents=True)
    shutil.copyfile(predictor.fold_dir / CONFIG, target / CONFIG)
    saved = predictor.input.saved(predictor.model.network)
    alone = RunClassifier({task: (predictor,)}, {task: run.averaging[task]}, run.crop, run.device)
    expected = alone(sample)[task]
    before = {name: tensor.clone() for name, tensor in saved.state_dict().items()}
    halved = {name: part.to(HALF) if part.is_floating_point() else part for name, part in before.items()}
    saved.load_state_dict(halved)
    same = _labels_are_same(expected, alone(sample)[task])
    saved.load_state_dict(before)
    checkpoints.save_weights(target / MODEL, saved, HALF if same else None)
    return "float16" if same else "float32"


def _labels_are_same(expected: BatchPrediction, found: BatchPrediction) -> bool:
    one, other = expected.log_probs, found.log_probs
    return bool(np.isfinite(other).all() and (one.argmax(axis=1) == other.argmax(axis=1)).all())


def _write_backbones(place: Path, run: RunClassifier) -> dict[str, str]:
    """Copy frozen weights that no installed package carries; return the backbones that packages do, by file name."""
    packaged = {}
    for predictor in _frozen(run):
        path = predictor.input.backbone.weights
        backbone = predictor.config.backbone
        if (
            set(parts_of(backbone)) <= set(PACKAGED_WEIGHTS)
            and packaged_tensors(backbone, predictor.input.size)[1] == path.name
        ):
            packaged[path.name] = backbone
            continue
        (place / BACKBONES).mkdir(exist_ok=True)
        for file in backbone_files(path):
            shutil.copyfile(file, place / BACKBONES / file.name)
    return packaged


def _frozen(run: RunClassifier) -> Sequence[Predictor]:
    """Return one model for each frozen backbone."""
    every = [predictor for (predictor,) in run.models.values() if predictor.input.is_frozen]
    return list({predictor.input.backbone.weights: predictor for predictor in every}.values())


def _about(run: RunClassifier, origin: Origin, backbones: Mapping[str, str]) -> dict[str, Any]:
    of_run, people = read_run(origin.run_dir), folds_path(origin.run_dir)
    oof = (_scores(origin.run_dir).get("oof") or {}).get("model", {})
    first = next(iter(run.models.values()))[0]
    return {
        "format": FORMAT,
        "name": origin.name,
        "tasks": list(run.models),
        "classes": {task: predictors[0].identity["classes"] for task, predictors in run.models.items()},
        "detector": read_source(Path(of_run.crop_dir)).get("detect", {}).get("detector", "retinaface"),
        "crop": first.identity["crop"],
        "averaging": {
            task: {"average": averaging.average, "temperature": float(averaging.temperature)}
            for task, averaging in run.averaging.items()
        },
        "backbones": dict(backbones),
        "trained_on": {
            "name": Path(of_run.data_root).name,
            "people": len(read_folds(people)) if people.exists() else None,
            "photos": oof.get("photos"),
            "data_hash": of_run.train_hash,
            "age_edges": list(of_run.age_edges),
        },
        "accuracy": {task: found["accuracy"]["value"] for task, found in oof.get("tasks", {}).items()},
        "terms": origin.terms,
        "versions": first.identity.get("versions", {}),
    }


def _scores(run_dir: Path) -> dict[str, Any]:
    path = run_dir / "scores.json"
    return files.read_json(path) if path.exists() else {}
