"""Setup of one fold of one task: its photos, its identity, and all that is built before the first step."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from backbones.licences import OPEN
from backbones.side_by_side import feature_blocks
from core import distributed
from core.cli import UserError
from core.tasks import UNKNOWN, Task
from dataset import JoinedDataset, PersonSampler, make_loader, train_transform
from loss import ValueLoss, build_loss, class_weights, loss_named, soften
from model import (
    OnPixels,
    build_model,
    descriptions,
    init_bias_from_priors,
    is_side_by_side,
    normalisation,
    parameter_groups,
    refuse_weights,
)
from storage.crop_cache import CropCache, Shown
from storage.crops import Crops
from storage.folds import hash_of_folds
from storage.run_dir import DRAWINGS_HASH, FORMAT, REFIT, fold_dir_of
from training.config import Config
from training.device import Precision, pick_device, place, seed_everything, versions
from training.engine import SCHEDULES, Mixup, Trainer, steps_per_epoch
from training.feature_cache import FeatureCache
from training.heads import Head, build_head
from training.inputs import TrainingInput, eval_batch_size, shown_of, training_input
from training.ridge import has_ridge_head, mean_features, solve_ridge, with_ridge_head
from training.starting_weights import DESCRIBED
from training.tracking import tracker_named

LEAST_PIXELS = 500
FUSED_ON = ("cpu", "cuda")
"""Devices on which a step of the optimiser is one operation over a tensor, instead of a dozen."""


@dataclass(frozen=True)
class FoldData:
    """Crops and labels of one fold of one task. Rows of `crops` whose person is in this fold are never learned from.

    Rows whose label is UNKNOWN are in no part of the fold. The number after that of the last fold stands for the
    training on all people (`is_refit`): nobody is in that fold. `drawn` are more crops to learn from, of people in
    `crops`.
    """

    task: Task
    fold: int
    crops: Crops
    labels: list[int]
    fold_of: Mapping[str, int]
    drawn: Crops | None = None

    def rows(self, *, out_of_fold: bool) -> list[int]:
        """Return the rows with a label: those of the fold's own people, predicted out of fold, or of all others."""
        labelled = enumerate(zip(self.crops.frame["person"], self.labels, strict=True))
        return [
            row
            for row, (person, label) in labelled
            if label != UNKNOWN and (self.fold_of[person] == self.fold) == out_of_fold
        ]

    def part(self, *, out_of_fold: bool) -> tuple[Crops, list[int]]:
        """Return crops and labels of these rows."""
        rows = self.rows(out_of_fold=out_of_fold)
        return self.crops.take(rows), [self.labels[row] for row in rows]

    def learned(self, config: Config) -> list[tuple[Crops, list[int]]]:
        """Return crops and labels to learn from: those of photos, and of drawings if there are any."""
        parts = [self.part(out_of_fold=False)]
        if self.drawn is not None:
            labels = self.drawn.labels(self.task, config.age_edges)
            parts.append(replace(self, crops=self.drawn, labels=labels, drawn=None).part(out_of_fold=False))
        return parts

    @property
    def is_refit(self) -> bool:
        return self.fold > max(self.fold_of.values())

    @property
    def title(self) -> str:
        return f"{self.task.name} {REFIT if self.is_refit else f'fold {self.fold}'}"

    def folder(self, run_dir: Path) -> Path:
        """Return the folder that this training writes to."""
        name = self.task.name
        return run_dir / name / REFIT if self.is_refit else fold_dir_of(run_dir, name, self.fold)

    def input_for(self, config: Config) -> TrainingInput:
        """Return the input of this fold's training under these settings."""
        return training_input(config, shown_of(config, self.crops.source))

    def identity(self, config: Config) -> dict:
        """Return config.json: enough to refuse a mismatch by name, and to predict from the folder alone."""
        mean, std = normalisation(config.backbone)
        described = descriptions(config.backbone)
        return {
            "format": FORMAT,
            "task": self.task.name,
            "classes": list(self.task.classes),
            "fold": self.fold,
            "settings": config.learned(),
            "crop": self.crops.source["crop"],
            "normalisation": {"mean": list(mean), "std": list(std)},
            **({DESCRIBED: described} if described else {}),
            "data_hash": self.crops.hash,
            **({} if self.drawn is None else {DRAWINGS_HASH: self.drawn.hash}),
            "folds_hash": hash_of_folds(self.fold_of),
            "versions": versions(),
        }


@dataclass(frozen=True)
class FoldTraining:
    """The parts of a fold's training, as `prepare_fold` makes them. Those of torch change while it learns.

    `learner` is fed with the batches; `saved` is the part of `model` whose weights are saved.
    """

    data: FoldData
    config: Config
    cache: CropCache | FeatureCache
    model: OnPixels
    learner: nn.Module
    saved: nn.Module
    head: Head
    sampler: PersonSampler
    train_loader: DataLoader
    out_of_fold_loader: DataLoader
    out_of_fold_labels: list[int]
    optimizer: Optimizer
    trainer: Trainer

    @property
    def precision(self) -> Precision:
        return self.trainer.precision

    @property
    def device(self) -> torch.device:
        return self.precision.device


def prepare_fold(data: FoldData, config: Config, fold_input: TrainingInput) -> FoldTraining:
    """Open the cache, and build network, loaders, optimiser and loss, before the first step. Writes caches alone."""
    device = pick_device(config.device)
    head = build_head(config.head, data.task, config.age_edges)
    cache = fold_input.open(data.crops, device=config.device)
    parts = data.learned(config)
    out_of_fold, out_of_fold_labels = data.part(out_of_fold=True)
    targets = [head.targets(*part) for part in parts]
    seed_everything(config.seed, data.fold)
    network = build_network(config, head, fold_input.size, torch.cat(targets))
    model = place(OnPixels(network, *normalisation(config.backbone)), device, config.channels_last)
    if has_ridge_head(config):
        features = torch.cat(
            [mean_features(fold_input.open(crops, device=config.device), crops.image_ids) for crops, _ in parts]
        )
        persons = [person for crops, _ in parts for person in crops.frame["person"]]
        codes = head.codes, head.codes_of(torch.cat(targets))
        solve_ridge(fold_input.saved(network).ridge, features, *codes, persons, blocks=feature_blocks(network))
    learner = fold_input.learner(model)
    sampler = epoch_sampler(data, config)
    options = {"workers": fold_input.workers(device), "pin_memory": device.type == "cuda"}
    sets = [
        fold_input.train_set(fold_input.open(crops, device=config.device), crops.image_ids, of_part)
        for (crops, _), of_part in zip(parts, targets, strict=True)
    ]
    train_loader = make_loader(
        JoinedDataset(sets) if len(sets) > 1 else sets[0],
        batch_size=distributed.share_of_batch(config.batch_size),
        sampler=sampler,
        **options,
    )
    out_of_fold_set = fold_input.eval_set(cache, out_of_fold.image_ids)
    out_of_fold_loader = make_loader(out_of_fold_set, batch_size=eval_batch_size(config), **options)
    groups = parameter_groups(network, config.weight_decay, config.backbone_lr)
    optimizer = torch.optim.AdamW(groups, lr=config.lr, fused=device.type in FUSED_ON)
    total = config.epochs * steps_per_epoch(len(train_loader), config.accumulate)
    trainer = Trainer(
        distributed.averaging_gradients(learner),
        build_criterion(config, head, [label for _, labels in parts for label in labels]).to(device),
        optimizer,
        learning_rate=partial(SCHEDULES[config.schedule], total=total, warmup=config.warmup, peak=config.lr),
        precision=Precision(device, config.amp),
        accumulate=config.accumulate,
        grad_clip=config.grad_clip,
        channels_last=config.channels_last,
        mixup=Mixup(config.mixup),
    )
    return FoldTraining(
        data, config, cache, model, learner, fold_input.saved(network), head, sampler, train_loader, out_of_fold_loader,
        out_of_fold_labels, optimizer, trainer,
    )  # fmt: skip


def build_network(config: Config, head: Head, size: tuple[int, int], targets: Tensor) -> nn.Module:
    """Build the network of these settings; a head of values starts at the priors of the training targets (N,)."""
    network = build_model(
        config.backbone, head.outputs, image_size=size, pretrained=config.pretrained, drop_rate=config.drop_rate
    )
    if head.bins is not None:
        # Most years are those of old people, of whom there are few.
        init_bias_from_priors(network, soften(targets, head.bins, config.value_sigma).mean(dim=0))
    return with_ridge_head(network, config, head)


def build_criterion(config: Config, head: Head, labels: list[int]) -> nn.Module:
    """Build the loss over classes; for a head of values, the one over values that it is a part of."""
    counts = [labels.count(label) for label in range(len(head.task.classes))]
    parameters = {name: getattr(config, name) for name in loss_named(config.loss).parameters}
    class_loss = build_loss(config.loss, class_weights=class_weights(config.class_weights, counts), **parameters)
    if head.bins is None:
        return class_loss
    options = {"sigma": config.value_sigma, "class_share": config.class_share}
    return ValueLoss(head.bins, head.class_of_bin, head.class_logits, class_loss=class_loss, **options)


def epoch_sampler(data: FoldData, config: Config) -> PersonSampler:
    """Return the sampler of the photos and views that an epoch of a fold shows."""
    parts = data.learned(config)
    return PersonSampler(
        [person for crops, _ in parts for person in crops.frame["person"]],
        [label for _, labels in parts for label in labels],
        photos_per_person=config.photos_per_person,
        seed=(config.seed, data.fold),
        times=data.input_for(config).views_per_epoch,
        epoch_photos=config.epoch_photos,
    )


def training_cost(data: FoldData, config: Config) -> int:
    """Return how much a training has to do: the pixels that it sees. A photo of a head on features costs a little."""
    pixels = max(LEAST_PIXELS, data.input_for(config).pixels)
    return config.epochs * len(epoch_sampler(data, config)) * pixels


def refuse_unusable(task: Task, config: Config) -> None:
    """UserError for a device, backbone, loss, augmentation, head or tracker that is not there or not let in."""
    pick_device(config.device)
    normalisation(config.backbone)
    if is_side_by_side(config.backbone) and config.backbone_lr > 0:
        raise UserError(
            f"--backbone {config.backbone}: networks side by side are frozen; give --backbone-lr 0, or one network"
        )
    if config.pretrained and config.weights_licence == OPEN:
        refuse_weights(config.backbone)
    train_transform(config.augment)
    build_criterion(config, build_head(config.head, task, config.age_edges), list(range(len(task.classes))))
    tracker_named(config.tracker)


def weight_bytes(task: Task, config: Config) -> int:
    """Return the size of the weights that a fold saves. Nothing but shapes is made."""
    size, head = (config.image_size, config.image_size), build_head(config.head, task, config.age_edges)
    with torch.device("meta"):
        network = with_ridge_head(build_model(config.backbone, head.outputs, image_size=size), config, head)
        saved = training_input(config, Shown(config.window, size)).saved(network)
    return sum(tensor.numel() * tensor.element_size() for tensor in saved.state_dict().values())
