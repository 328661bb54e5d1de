"""A trained fold: from its folder alone to logits of crops. Training and inference share it."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from core import checkpoints
from core.config import Config, from_dict
from core.crops import Crops
from core.device import Precision, pick_device, pick_workers
from core.engine import predict
from core.logits import LogitTable, make_table
from core.runtime import UserError, progress
from dataset import CropDataset, eval_transform, make_loader
from model import build_model

EVAL_BATCH_FACTOR = 2
"""Prediction keeps no gradients, so larger batches fit than in training."""


@dataclass(frozen=True)
class Predictor:
    """A fold's network with all that is needed to feed it."""

    fold_dir: Path
    identity: dict
    config: Config
    model: nn.Module

    def logits_of(self, crops: Crops, *, device: str, workers: int, tta: str, title: str) -> LogitTable:
        """Logits of all crops. UserError if they were cropped in another way than the crops of training."""
        refuse_other_crops(self.fold_dir, self.identity["crop"], crops)
        where = pick_device(device)
        mean, std = self.identity["normalisation"]["mean"], self.identity["normalisation"]["std"]
        dataset = CropDataset(crops.paths, eval_transform(input_size(self.config, crops.source), mean=mean, std=std))
        loader = make_loader(
            dataset,
            batch_size=self.config.batch_size * EVAL_BATCH_FACTOR,
            workers=pick_workers(workers, where),
            pin_memory=where.type == "cuda",
        )
        with progress(None, title=title, total=len(dataset)) as bar:
            logits = predict(
                place(self.model, where, self.config.channels_last),
                loader,
                precision=Precision(where, self.config.amp),
                channels_last=self.config.channels_last,
                tta=tta,
                bar=bar,
            )
        return make_table(crops.image_ids, self.identity["classes"], logits.numpy())


def load_predictor(fold_dir: Path, task: str) -> Predictor:
    """The model of a finished fold. UserError if it is of another task or not finished."""
    identity = checkpoints.read_config_of(fold_dir, task)
    config = from_dict(identity["settings"])
    size = input_size(config, {"crop": identity["crop"]})
    model = build_model(config.backbone, len(identity["classes"]), image_size=size, drop_rate=config.drop_rate)
    checkpoints.load_weights(fold_dir / checkpoints.MODEL, model)
    return Predictor(fold_dir, identity, config, model)


def input_size(config: Config, source: dict) -> tuple[int, int]:
    """(H, W) of the network's input: the height is a setting, the width follows the crops' aspect (width / height)."""
    return config.image_size, max(1, round(config.image_size * source["crop"]["aspect"]))


def place(model: nn.Module, device: torch.device, channels_last: bool) -> nn.Module:
    return model.to(device, memory_format=torch.channels_last if channels_last else torch.preserve_format)


def refuse_other_crops(fold_dir: Path, trained_on: dict, crops: Crops) -> None:
    found = crops.source["crop"]
    for name in sorted(trained_on.keys() | found.keys()):
        if trained_on.get(name) != found.get(name):
            raise UserError(
                f"crop folder {crops.crop_dir}: cropped with {name} {found.get(name)}, but {fold_dir} was trained with "
                f"{name} {trained_on.get(name)}; crop the photos with the same settings"
            )
