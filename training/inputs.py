"""Input of a fold's training and prediction: pixels, or the features of a frozen backbone.

`training_input` and `trained_input` choose between the two. Both have the same attributes and methods, so that most of
their callers have one code path; the others ask `is_frozen`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from core import distributed
from core.cli import progress
from core.cropping import CropImages, CropSettings
from dataset import CropDataset, eval_transform, make_loader, train_transform
from model import OnPixels, head_on_features, head_weights
from storage.crop_cache import CropCache, Shown, open_crop_cache
from storage.crops import Crops
from storage.run_dir import BACKBONE_FILE, backbone_path
from training.config import Config
from training.device import Precision, pick_device, pick_workers, place, to_device
from training.engine import predict
from training.feature_cache import (
    MIRRORED,
    PLAIN,
    FeatureCache,
    FeatureDataset,
    Shard,
    Views,
    missing_shards,
    open_features,
    views_of,
)
from training.frozen_backbone import FrozenBackbone, freeze, frozen_backbone

EVAL_BATCH_FACTOR = 2
"""Prediction keeps no gradients, so larger batches fit than in training."""


@dataclass(frozen=True)
class PredictOptions:
    """Device, loader processes, test-time augmentation ("none" or "flip") and title of the progress bar."""

    device: str = "auto"
    workers: int = -1
    tta: str = "none"
    title: str = ""


@dataclass(frozen=True)
class _Input:
    """Settings of a fold, and what its network, or its frozen backbone, is shown."""

    config: Config
    shown: Shown

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the network's images."""
        return self.shown.size


@dataclass(frozen=True)
class PixelInput(_Input):
    """Windows of crops at the network's size, from the crop cache. The whole network learns, and all of it is saved."""

    @property
    def is_frozen(self) -> bool:
        return False

    @property
    def backbone(self) -> None:
        """No part of the network is shared by folds."""

    @property
    def config_entry(self) -> dict[str, str]:
        """Entries of config.json beside the identity of the fold: none."""
        return {}

    @property
    def views_per_epoch(self) -> int:
        """Views of each photo that an epoch shows."""
        return 1

    @property
    def pixels(self) -> int:
        """Pixels of a view: a measure of how long a photo takes."""
        return self.config.image_size**2

    def prepared(self, run_dir: Path) -> "PixelInput":
        """Return the input ready to be opened. Pixels need nothing in the run folder."""
        return self

    def missing_shards(self, crops: Crops) -> list[Shard]:
        """Make the crop cache; return the work that is left to do before folds are trained: none."""
        self.open(crops)
        return []

    def open(self, crops: Crops, *, device: str = "auto") -> CropCache:
        """Open the crop cache of all these crops, which is made first if need be."""
        return open_crop_cache(crops, self.shown)

    def train_set(self, cache: CropCache, image_ids: Sequence[str], targets: Tensor) -> CropDataset:
        """Return the dataset of augmented crops."""
        return CropDataset(cache, cache.rows(image_ids), train_transform(self.config.augment), targets)

    def eval_set(self, cache: CropCache, image_ids: Sequence[str]) -> CropDataset:
        """Return the dataset of plain crops, without targets."""
        return CropDataset(cache, cache.rows(image_ids), eval_transform())

    def workers(self, device: torch.device) -> int:
        """Return the number of loader processes of a training."""
        return pick_workers(self.config.workers, device)

    def learner(self, model: OnPixels) -> nn.Module:
        """Return the module that is fed with the batches: the model."""
        return model

    def saved(self, network: nn.Module) -> nn.Module:
        """Return the module whose weights a fold saves: the network."""
        return network

    def cached_outputs(
        self, model: OnPixels, cache: CropCache, image_ids: Sequence[str], options: PredictOptions
    ) -> Tensor:
        """Return the network's outputs (N, K) for cached crops."""
        device = pick_device(options.device)
        loader = make_loader(
            self.eval_set(cache, image_ids),
            batch_size=eval_batch_size(self.config),
            workers=pick_workers(options.workers, device, augments=False),
            pin_memory=device.type == "cuda",
        )
        return self._outputs(model, loader, len(image_ids), options)

    def image_outputs(self, model: OnPixels, images: CropImages, options: PredictOptions, features: dict) -> Tensor:
        """Return the network's outputs (N, K) for crops in memory."""
        batches = ((some, None, numbers) for numbers, some in shown_batches(self, images))
        return self._outputs(model, batches, len(images.crops), options)

    def _outputs(self, model: OnPixels, batches: Iterable, total: int, options: PredictOptions) -> Tensor:
        device = pick_device(options.device)
        with progress(None, title=options.title, total=total, shown=distributed.is_first()) as bar:
            return predict(
                place(model, device, self.config.channels_last),
                batches,
                precision=Precision(device, self.config.amp),
                channels_last=self.config.channels_last,
                tta=options.tta,
                bar=bar,
            )


@dataclass(frozen=True)
class FeatureInput(_Input):
    """Features of a frozen backbone, from the feature cache. The head learns, and it alone is saved.

    `backbone` is None before `prepared`.
    """

    views: Views
    backbone: FrozenBackbone | None = None

    @property
    def is_frozen(self) -> bool:
        return True

    @property
    def config_entry(self) -> dict[str, str]:
        """Entries of config.json beside the identity of the fold."""
        return {BACKBONE_FILE: self.backbone.weights.name}

    @property
    def views_per_epoch(self) -> int:
        """Views of each photo that an epoch shows: the plain one alone where nothing is augmented."""
        return self.views.count if self.config.augment != "none" else 1

    @property
    def pixels(self) -> int:
        """Pixels of a view, in effect: a head is trained in almost no time."""
        return 1

    def prepared(self, run_dir: Path) -> "FeatureInput":
        """Return the input with its backbone, whose weights are written to the run folder if need be."""
        return replace(self, backbone=freeze(run_dir, self.config, self.shown))

    def missing_shards(self, crops: Crops) -> list[Shard]:
        """Return the features that are still to be computed before folds are trained."""
        return missing_shards(crops, self.backbone, self.views)

    def open(self, crops: Crops, *, device: str = "auto") -> FeatureCache:
        """Open the features of all these crops; missing ones are computed here."""
        return open_features(crops, self.backbone, self.views, device=device)

    def train_set(self, cache: FeatureCache, image_ids: Sequence[str], targets: Tensor) -> FeatureDataset:
        """Return the dataset of the features of all views."""
        return FeatureDataset(cache, cache.rows(image_ids), views=self.views_per_epoch, targets=targets)

    def eval_set(self, cache: FeatureCache, image_ids: Sequence[str]) -> FeatureDataset:
        """Return the dataset of the features of plain crops, without targets."""
        return FeatureDataset(cache, cache.rows(image_ids))

    def workers(self, device: torch.device) -> int:
        """Return the number of loader processes of a training: reading features costs nothing."""
        return 0

    def learner(self, model: OnPixels) -> nn.Module:
        """Return the module that is fed with the batches: the head."""
        return head_on_features(model.network)

    def saved(self, network: nn.Module) -> nn.Module:
        """Return the module whose weights a fold saves: the head."""
        return head_weights(network)

    def cached_outputs(
        self, model: OnPixels, cache: FeatureCache, image_ids: Sequence[str], options: PredictOptions
    ) -> Tensor:
        """Return the head's outputs (N, K) for crops whose features are cached."""
        batches = cache.batches(cache.rows(image_ids), _views(options.tta))
        return self._outputs(model, batches, pick_device(options.device))

    def image_outputs(self, model: OnPixels, images: CropImages, options: PredictOptions, features: dict) -> Tensor:
        """Return the head's outputs (N, K) for crops in memory.

        The features are put into `features`, or taken from there if the same backbone has put them there before.
        """
        key, device = (self.backbone, options.tta), pick_device(options.device)
        if key not in features:
            features[key] = image_features(self, model, images, device=device, tta=options.tta)
        return self._outputs(model, [features[key]], device)

    def _outputs(self, model: OnPixels, batches: Iterable[Tensor], device: torch.device) -> Tensor:
        """Return the mean of the views' outputs for features in batches (V, n, F)."""
        head = self.learner(model).to(device).eval()
        with torch.inference_mode():
            outputs = [torch.stack([head(view.to(device)) for view in views]).mean(dim=0).cpu() for views in batches]
        return torch.cat(outputs)


TrainingInput = PixelInput | FeatureInput


def training_input(config: Config, shown: Shown) -> TrainingInput:
    """Return the input of a training: features where the backbone does not learn, else pixels."""
    return FeatureInput(config, shown, views_of(config)) if config.backbone_lr == 0 else PixelInput(config, shown)


def trained_input(fold_dir: Path, identity: dict, config: Config) -> TrainingInput:
    """Return the input of a trained fold, as its config.json says."""
    shown, weights = shown_of(config, identity), backbone_path(fold_dir, identity)
    if weights is None:
        return PixelInput(config, shown)
    return FeatureInput(config, shown, Views(), frozen_backbone(config, weights, shown, identity))


def shown_of(config: Config, source: dict) -> Shown:
    """Return what a network is shown of crops: the height is a setting, the width follows the window's aspect.

    `source` holds the settings of the crops. UserError if they lack the window.
    """
    height, width = CropSettings.read("crop settings", source["crop"]).shape_of(config.window)
    return Shown(config.window, (config.image_size, max(1, round(config.image_size * width / height))))


def eval_batch_size(config: Config) -> int:
    return config.batch_size * EVAL_BATCH_FACTOR


def shown_batches(fold_input: TrainingInput, images: CropImages) -> Iterable[tuple[Tensor, Tensor]]:
    """Yield row numbers (n,) and images (n, H, W, 3) uint8 as the network is shown them."""
    shown = torch.from_numpy(np.stack([fold_input.shown.of(crop, images.settings) for crop in images.crops]))
    batch_size = eval_batch_size(fold_input.config)
    return zip(torch.arange(len(shown)).split(batch_size), shown.split(batch_size), strict=True)


def image_features(
    fold_input: FeatureInput, model: OnPixels, images: CropImages, *, device: torch.device, tta: str
) -> Tensor:
    """Features (V, N, F) of crops in memory and, with tta "flip", of their mirror images."""
    config = fold_input.config
    placed = place(model, device, config.channels_last).eval()
    parts = []
    with torch.inference_mode(), Precision(device, config.amp).autocast():
        for _, some in shown_batches(fold_input, images):
            pixels = to_device(some, device, config.channels_last)
            views = [pixels.flip(-1) if view == MIRRORED else pixels for view in _views(tta)]
            parts.append([placed.features(view).float() for view in views])
    return torch.stack([torch.cat(of_view) for of_view in zip(*parts, strict=True)])


def _views(tta: str) -> tuple[int, ...]:
    return (PLAIN, MIRRORED) if tta == "flip" else (PLAIN,)
