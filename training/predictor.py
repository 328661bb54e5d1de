"""A trained fold: from its folder alone to logits of pictures. Training, inference and what follows share it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from core import distributed, files
from core.cli import UserError, progress
from core.cropping import CropSettings
from core.tasks import Task, task_named
from dataset import CropDataset, eval_transform, make_loader
from evaluation.logits import make_table, write_table
from model import OnPixels, build_model, head_on_features, head_weights
from storage.crop_cache import CropCache, open_crop_cache, shrink
from storage.crops import Crops
from storage.run_dir import CONFIG, MODEL, backbone_path, read_config_of
from training import checkpoints
from training.config import Config, from_dict
from training.device import Precision, pick_device, pick_workers, place, to_device
from training.engine import predict
from training.feature_cache import MIRRORED, PLAIN, FeatureStore, FrozenBackbone, Looks, describe, open_features
from training.heads import Head, build_head

EVAL_BATCH_FACTOR = 2
"""Prediction keeps no gradients, so larger batches fit than in training."""


@dataclass(frozen=True)
class Prediction:
    """What a network says of N pictures: logits (N, C) float32, and expected values (N,) where its head has values."""

    logits: np.ndarray
    value: np.ndarray | None


@dataclass(frozen=True)
class Predictor:
    """A fold's network with all that is needed to feed it, and to read its outputs."""

    fold_dir: Path
    identity: dict
    config: Config
    model: OnPixels
    head: Head

    @property
    def frozen(self) -> FrozenBackbone | None:
        """The backbone that other folds share, if it is frozen."""
        weights = backbone_path(self.fold_dir, self.identity)
        return describe(self.config, weights, self.size, self.identity["normalisation"]) if weights else None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the pictures that the network sees."""
        return input_size(self.config, self.identity)

    def of_crops(self, crops: Crops, *, device: str, workers: int, tta: str, title: str) -> Prediction:
        """Of all crops of a split. UserError if they were cropped in another way than the crops of training."""
        refuse_other_crops(self.fold_dir, self.identity, crops)
        frozen = self.frozen
        store = open_features(crops, frozen, Looks(), device=device) if frozen else open_crop_cache(crops, self.size)
        return self.of_stored(store, crops.image_ids, device=device, workers=workers, tta=tta, title=title)

    def of_stored(
        self,
        store: CropCache | FeatureStore,
        image_ids: Sequence[str],
        *,
        device: str,
        workers: int,
        tta: str,
        title: str,
    ) -> Prediction:
        """Of some pictures of a store that has the network's size, or of what its frozen backbone says of them."""
        where, rows = pick_device(device), store.rows(image_ids)
        if isinstance(store, FeatureStore):
            return self.of_views(store.batches(rows, _views(tta)), device=where)
        loader = make_loader(
            CropDataset(store, rows, eval_transform()),
            batch_size=self._batch_size,
            workers=pick_workers(workers, where, augments=False),
            pin_memory=where.type == "cuda",
        )
        return self._of_batches(loader, len(rows), device=where, tta=tta, title=title)

    def of_arrays(self, pictures: Sequence[np.ndarray], *, device: str = "auto", tta: str = "none") -> Prediction:
        """Of crops (h, w, 3) uint8 RGB in memory, cut as those of training were."""
        where, seen = pick_device(device), self._shrunk(pictures)
        batches = zip(seen.split(self._batch_size), torch.arange(len(seen)).split(self._batch_size), strict=True)
        triples = ((some, None, numbers) for some, numbers in batches)
        return self._of_batches(triples, len(seen), device=where, tta=tta, title="")

    def look_at(self, pictures: Sequence[np.ndarray], *, device: str, tta: str) -> Tensor:
        """What the backbone says of crops in memory: (V, N, F), of them and, with tta "flip", their mirror images."""
        where = pick_device(device)
        model = place(self.model, where, self.config.channels_last).eval()
        parts = []
        with torch.inference_mode(), Precision(where, self.config.amp).autocast():
            for some in self._shrunk(pictures).split(self._batch_size):
                seen = to_device(some, where, self.config.channels_last)
                parts.append(
                    [model.features(seen.flip(-1) if view == MIRRORED else seen).float() for view in _views(tta)]
                )
        return torch.stack([torch.cat(of_view) for of_view in zip(*parts, strict=True)])

    def of_views(self, batches: Iterable[Tensor], *, device: torch.device) -> Prediction:
        """Of features in batches (V, n, F), the mean of the V views' outputs."""
        learner = head_on_features(self.model.network).to(device).eval()
        with torch.inference_mode():
            outputs = [torch.stack([learner(view.to(device)) for view in views]).mean(dim=0).cpu() for views in batches]
        return self._read(torch.cat(outputs))

    @property
    def _batch_size(self) -> int:
        return self.config.batch_size * EVAL_BATCH_FACTOR

    def _shrunk(self, pictures: Sequence[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack([shrink(picture, self.size) for picture in pictures]))

    def _of_batches(self, batches: Iterable, total: int, *, device: torch.device, tta: str, title: str) -> Prediction:
        with progress(None, title=title, total=total, shown=distributed.is_first()) as bar:
            outputs = predict(
                place(self.model, device, self.config.channels_last),
                batches,
                precision=Precision(device, self.config.amp),
                channels_last=self.config.channels_last,
                tta=tta,
                bar=bar,
            )
        return self._read(outputs)

    def _read(self, outputs: Tensor) -> Prediction:
        values = self.head.values(outputs)
        return Prediction(self.head.class_logits(outputs).numpy(), None if values is None else values.numpy())


def _views(tta: str) -> tuple[int, ...]:
    return (PLAIN, MIRRORED) if tta == "flip" else (PLAIN,)


def load_predictor(fold_dir: Path, task: Task | str) -> Predictor:
    """The model of a finished fold. UserError if it is of another task or not finished.

    A task that is in no table, such as an experiment's, is given as its row.
    """
    row = task_named(task) if isinstance(task, str) else task
    identity = read_config_of(fold_dir, row.name)
    crop, normalisation = identity["crop"], identity["normalisation"]
    where = fold_dir / CONFIG
    CropSettings.read(f"{where}: crop", crop)
    files.require_entries(f"{where}: normalisation", normalisation, {"mean": list, "std": list})
    config = from_dict(identity["settings"])
    refuse_other_classes(fold_dir, identity["classes"], row)
    head = build_head(config.head, row, config.age_edges)
    size = input_size(config, identity)
    network = build_model(config.backbone, head.outputs, image_size=size, drop_rate=config.drop_rate)
    backbone = backbone_path(fold_dir, identity)
    if backbone:
        checkpoints.load_backbone(backbone, network)
    checkpoints.load_weights(fold_dir / MODEL, head_weights(network) if backbone else network)
    model = OnPixels(network, normalisation["mean"], normalisation["std"])
    return Predictor(fold_dir, identity, config, model, head)


def write_prediction(path: Path, task: Task, image_ids: Sequence[str], prediction: Prediction) -> None:
    """The logit table, and beside it the values, as `oof_years.csv` beside `oof.csv`."""
    if prediction.value is not None:
        frame = pd.DataFrame({"image_id": image_ids, task.value.name: prediction.value})
        files.write_csv(path.with_stem(f"{path.stem}_{task.value.name}"), frame)
    write_table(path, make_table(image_ids, task.classes, prediction.logits))


def input_size(config: Config, source: dict) -> tuple[int, int]:
    """(H, W) of the network's input: the height is a setting, the width follows the crops' aspect (width / height)."""
    return config.image_size, max(1, round(config.image_size * source["crop"]["aspect"]))


def refuse_other_classes(fold_dir: Path, trained_for: Sequence[str], task: Task) -> None:
    if list(trained_for) != list(task.classes):
        raise UserError(
            f"{fold_dir}: trained for the classes {', '.join(trained_for)}, but those of {task.name} are "
            f"{', '.join(task.classes)}"
        )


def refuse_other_crops(fold_dir: Path, identity: dict, crops: Crops) -> None:
    """UserError unless the crops were cut as those were that the fold, with that config.json, was trained on."""
    trained_on, found = identity["crop"], crops.source["crop"]
    for name in sorted(trained_on.keys() | found.keys()):
        if trained_on.get(name) != found.get(name):
            raise UserError(
                f"crop folder {crops.crop_dir}: cropped with {name} {found.get(name)}, but {fold_dir} was trained with "
                f"{name} {trained_on.get(name)}; crop the photos with the same settings"
            )
