"""A run folder whose networks were never trained, drawn crowds, and stand-ins for the parts of a pipeline."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from drawn_faces import add_face, blank

from core.alignment import typical_landmarks
from core.boxes import Box
from core.cropping import CropSettings
from core.files import write_json
from core.tasks import task_named
from model import build_model
from preprocessing.find_face import ATTEMPTS, Detection
from serving.types import BatchPrediction, FacePrediction, TaskPrediction
from storage.run_dir import DONE, FORMAT, MODEL, REFIT, Run, begin_fold, fold_dir_of, run_path
from training import checkpoints
from training.config import resolve
from training.heads import build_head
from training.inputs import shown_of

CROP = CropSettings(margin=0.15, aspect=0.8, size=40)
FACE_CROP = replace(CROP, surroundings=False)
SETTINGS = {"backbone": "test_efficientnet", "pretrained": False, "image_size": 32, "folds": 2}
LOUD = 30.0
"""The heads of untrained networks say nearly the same of every picture; times this, they differ."""


def make_run(
    run_dir: Path,
    tasks: Sequence[str] = ("mask", "gender", "age"),
    *,
    crop: CropSettings = CROP,
    refit: bool = False,
    **settings: object,
) -> Path:
    """A run of two folds a task with random weights, and perhaps refits; `settings` are those of the age task."""
    run = Run("/data", "photos", str(run_dir / "crops"), "0", 2, 0, (25, 40))
    write_json(run_path(run_dir), asdict(run))
    for task in tasks:
        for fold in range(3 if refit else 2):
            make_fold(run_dir, task, fold, crop, SETTINGS | (settings if task == "age" else {}))
    return run_dir


def make_fold(run_dir: Path, task: str, fold: int, crop: CropSettings, settings: Mapping[str, object]) -> None:
    config = resolve(task, "smoke", settings)
    head, shown = build_head(config.head, task_named(task), config.age_edges), shown_of(config, {"crop": asdict(crop)})
    torch.manual_seed(fold + 10 * len(task))
    network = build_model(config.backbone, head.outputs, image_size=shown.size)
    torch.nn.init.normal_(network.get_classifier().weight, std=LOUD)
    fold_dir = fold_dir_of(run_dir, task, fold) if fold < 2 else run_dir / task / REFIT
    if fold_dir.name == REFIT:
        config = replace(config, keep="last")
    identity = {
        **{"format": FORMAT, "task": task, "classes": list(task_named(task).classes), "fold": fold},
        **{"settings": config.learned(), "crop": asdict(crop), "data_hash": "0", "folds_hash": "0"},
        "normalisation": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]},
    }
    begin_fold(fold_dir, identity)
    checkpoints.save_weights(fold_dir / MODEL, network)
    write_json(fold_dir / DONE, {})


def crowd(faces: Sequence[tuple[int, int, int]], width: int = 480, height: int = 320) -> tuple[np.ndarray, list[Box]]:
    """A picture with a face for each (x, y, height), and their boxes."""
    rgb = blank(width, height)
    return rgb, [add_face(rgb, (x, y), tall) for x, y, tall in faces]


def random_crops(count: int, crop: CropSettings = CROP) -> np.ndarray:
    """(count, h, w, 3) uint8: blurred noise, which networks tell apart."""
    coarse = np.random.default_rng(0).integers(0, 256, (count, 5, 4, 3), dtype=np.uint8)
    height, width = crop.shape
    return coarse.repeat(-(-height // 5), axis=1).repeat(-(-width // 4), axis=2)[:, :height, :width]


@dataclass(frozen=True)
class GivenFaces:
    """Finds the same boxes in every picture."""

    boxes: tuple[Box, ...]

    def __call__(self, _: np.ndarray) -> list[Detection]:
        return [Detection(box, 0.99, ATTEMPTS[0], typical_landmarks(box)) for box in self.boxes]


@dataclass(frozen=True)
class MeanColour:
    """A classifier that says `not_wear` the surer the redder a crop is, and keeps the crops it was shown."""

    crop: CropSettings = FACE_CROP
    shown: list[np.ndarray] = field(default_factory=list)
    tasks: tuple[str, ...] = ("mask",)

    def __call__(self, crops: Sequence[np.ndarray]) -> dict[str, BatchPrediction]:
        self.shown.extend(crops)
        red = np.array([crop[..., 0].mean() / 255 for crop in crops])
        probs = np.stack([(1 - red) * 0.9, (1 - red) * 0.1, red], axis=1)
        return {
            "mask": BatchPrediction(
                ("wear", "incorrect", "not_wear"), np.log(probs + 1e-9), values=100 * red, unit="percent"
            )
        }


def face_at(box: Box, probs: Sequence[float], value: float | None = None) -> FacePrediction:
    """A face about which one task, the mask, has been answered."""
    classes = ("wear", "incorrect", "not_wear")
    answer = TaskPrediction(classes, np.log(np.array(probs)), value, "years" if value is not None else "")
    return FacePrediction(box, 0.99, "coarse", {"mask": answer})
