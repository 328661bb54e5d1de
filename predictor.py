"""A trained fold: from its folder alone to logits of pictures. Training, inference and what follows share it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from core import artifacts, checkpoints
from core.config import Config, from_dict
from core.cropping import CropSettings
from core.crops import Crops
from core.device import Precision, pick_device, pick_workers
from core.engine import predict
from core.heads import Head, build_head
from core.logits import make_table, write_table
from core.pixels import PixelStore, open_pixels, shrink
from core.runtime import UserError, progress
from core.tasks import Task, task_named
from dataset import CropDataset, eval_transform, make_loader
from model import OnPixels, build_model

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
    def size(self) -> tuple[int, int]:
        """(H, W) of the pictures that the network sees."""
        return input_size(self.config, self.identity)

    def of_crops(self, crops: Crops, *, device: str, workers: int, tta: str, title: str) -> Prediction:
        """Of all crops of a split. UserError if they were cropped in another way than the crops of training."""
        refuse_other_crops(self.fold_dir, self.identity, crops)
        store = open_pixels(crops, self.size)
        return self.of_stored(store, crops.image_ids, device=device, workers=workers, tta=tta, title=title)

    def of_stored(
        self, store: PixelStore, image_ids: Sequence[str], *, device: str, workers: int, tta: str, title: str
    ) -> Prediction:
        """Of some pictures of a store that has the network's size."""
        where = pick_device(device)
        loader = make_loader(
            CropDataset(store, store.rows(image_ids), eval_transform()),
            batch_size=self.config.batch_size * EVAL_BATCH_FACTOR,
            workers=pick_workers(workers, where, augments=False),
            pin_memory=where.type == "cuda",
        )
        return self._of_batches(loader, len(image_ids), device=where, tta=tta, title=title)

    def of_arrays(self, pictures: Sequence[np.ndarray], *, device: str = "auto", tta: str = "none") -> Prediction:
        """Of crops (h, w, 3) uint8 RGB in memory, cut as those of training were."""
        seen = torch.from_numpy(np.stack([shrink(picture, self.size) for picture in pictures]))
        indices = torch.arange(len(seen))
        batches = zip(
            *(tensor.split(self.config.batch_size * EVAL_BATCH_FACTOR) for tensor in (seen, indices)), strict=True
        )
        triples = ((some, None, numbers) for some, numbers in batches)
        return self._of_batches(triples, len(seen), device=pick_device(device), tta=tta, title="")

    def _of_batches(self, batches: Iterable, total: int, *, device: torch.device, tta: str, title: str) -> Prediction:
        with progress(None, title=title, total=total) as bar:
            outputs = predict(
                place(self.model, device, self.config.channels_last),
                batches,
                precision=Precision(device, self.config.amp),
                channels_last=self.config.channels_last,
                tta=tta,
                bar=bar,
            )
        values = self.head.values(outputs)
        return Prediction(self.head.class_logits(outputs).numpy(), None if values is None else values.numpy())


def load_predictor(fold_dir: Path, task: Task | str) -> Predictor:
    """The model of a finished fold. UserError if it is of another task or not finished.

    A task that is in no table, such as an experiment's, is given as its row.
    """
    row = task_named(task) if isinstance(task, str) else task
    identity = checkpoints.read_config_of(fold_dir, row.name)
    crop, normalisation = identity["crop"], identity["normalisation"]
    where = fold_dir / checkpoints.CONFIG
    CropSettings.read(f"{where}: crop", crop)
    artifacts.require_entries(f"{where}: normalisation", normalisation, {"mean": list, "std": list})
    config = from_dict(identity["settings"])
    refuse_other_classes(fold_dir, identity["classes"], row)
    head = build_head(config.head, row, config.age_edges)
    size = input_size(config, identity)
    network = build_model(config.backbone, head.outputs, image_size=size, drop_rate=config.drop_rate)
    checkpoints.load_weights(fold_dir / checkpoints.MODEL, network)
    model = OnPixels(network, normalisation["mean"], normalisation["std"])
    return Predictor(fold_dir, identity, config, model, head)


def write_prediction(path: Path, task: Task, image_ids: Sequence[str], prediction: Prediction) -> None:
    """The logit table, and beside it the values, as `oof_years.csv` beside `oof.csv`."""
    if prediction.value is not None:
        frame = pd.DataFrame({"image_id": image_ids, task.value.name: prediction.value})
        artifacts.write_csv(path.with_stem(f"{path.stem}_{task.value.name}"), frame)
    write_table(path, make_table(image_ids, task.classes, prediction.logits))


def input_size(config: Config, source: dict) -> tuple[int, int]:
    """(H, W) of the network's input: the height is a setting, the width follows the crops' aspect (width / height)."""
    return config.image_size, max(1, round(config.image_size * source["crop"]["aspect"]))


def place(model: nn.Module, device: torch.device, channels_last: bool) -> nn.Module:
    return model.to(device, memory_format=torch.channels_last if channels_last else torch.preserve_format)


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
