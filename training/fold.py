"""The training of one fold of one task: it begins or goes on, learns epoch by epoch, and leaves a whole fold folder.

The state is saved after every epoch, and every epoch is seeded by (seed, fold, epoch), so that a fold that was
interrupted ends with the very weights of one that was not.
"""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from core import distributed, files
from core.cli import progress
from core.tasks import Task
from dataset import CropDataset, PersonSampler, eval_transform, make_loader, train_transform
from evaluation.metrics import accuracy, confusion_matrix, macro_f1
from loss import ValueLoss, build_loss, class_weights, soften
from model import (
    OnPixels,
    begin_with_shares,
    build_model,
    head_on_features,
    head_weights,
    normalisation,
    parameter_groups,
)
from storage.crop_cache import open_crop_cache
from storage.run_dir import BACKBONE_FILE, DONE, HISTORY, MODEL, OOF, STATE, begin_fold, is_done, refuse_other_identity
from training import checkpoints
from training.config import Config
from training.device import Precision, pick_device, pick_workers, place, seed_everything
from training.engine import SCHEDULES, Mixup, Trainer, predict, steps_per_epoch
from training.feature_cache import FeatureDataset, freeze, is_frozen, looks_of, open_features, views_to_train_on
from training.fold_data import FoldData
from training.heads import Head, build_head
from training.predictor import EVAL_BATCH_FACTOR, input_size, load_predictor, write_prediction
from training.tracking import NONE, open_tracker, tracker_named

FUSED_ON = ("cpu", "cuda")
"""Devices on which a step of the optimiser is one operation over a tensor, instead of a dozen."""


@dataclass
class Progress:
    """How far a fold's training has come; saved after every epoch."""

    epoch: int = 0
    best_epoch: int = 0
    best_macro_f1: float = -1.0
    scaler: dict = field(default_factory=dict)
    history: list[dict] = field(default_factory=list)

    def is_over(self, config: Config) -> bool:
        return self.epoch >= config.epochs or self.epoch - self.best_epoch >= config.patience


def refuse_unusable(task: Task, config: Config) -> None:
    """UserError for a device, backbone, loss, augmentation or head that is not there; writes nothing."""
    pick_device(config.device)
    normalisation(config.backbone)
    train_transform(config.augment)
    build_loss(config.loss, class_weights=class_weights(config.class_weights, [1] * len(task.classes)))
    build_head(config.head, task, config.age_edges)
    tracker_named(config.tracker)
    if is_frozen(config):
        with torch.device("meta"):
            head_weights(build_model(config.backbone, 1, image_size=(config.image_size, config.image_size)))


def epoch_sampler(data: FoldData, config: Config) -> PersonSampler:
    """Whose photos an epoch of a fold shows, and how often."""
    crops, labels = data.part(held_out=False)
    return PersonSampler(
        list(crops.frame["person"]),
        labels,
        photos_per_person=config.photos_per_person,
        seed=(config.seed, data.fold),
        times=views_to_train_on(config),
    )


def train_fold(fold_dir: Path, data: FoldData, config: Config, *, overwrite: bool) -> None:
    """Train one fold from where it stands, and leave its weights, history and out-of-fold logits."""
    if not overwrite:
        refuse_other_identity(fold_dir, data.identity(config))
        if is_done(fold_dir):
            print(f"{data.title}: done already")
            return
    training = FoldTraining(fold_dir, data, config)
    # Only now: weights that cannot be had must neither cost the old fold nor leave a config.json behind.
    if overwrite and distributed.is_first() and fold_dir.exists():
        shutil.rmtree(fold_dir)
    distributed.wait_for_all()
    begin_fold(fold_dir, {**data.identity(config), **training.frozen_entry}, write=distributed.is_first())
    training.resume()
    training.run()
    training.finish()


class FoldTraining:
    """Everything that moves while a fold is trained, and how far it has come.

    `learner` is what learns from the batches, `kept` what its weights are kept of: the whole network, that is fed with
    pictures, or, with a frozen backbone, its head, that is fed with stored features.
    """

    def __init__(self, fold_dir: Path, data: FoldData, config: Config) -> None:
        self.fold_dir, self.data, self.config = fold_dir, data, config
        self.device = pick_device(config.device)
        self.precision = Precision(self.device, config.amp)
        self.progress = Progress()
        self.head = build_head(config.head, data.task, config.age_edges)
        size = input_size(config, data.crops.source)
        self.frozen = freeze(fold_dir.parents[1], config, size) if is_frozen(config) else None
        if self.frozen:
            self.store = open_features(data.crops, self.frozen, looks_of(config), device=config.device)
        else:
            self.store = open_crop_cache(data.crops, size)
        seed_everything(config.seed, data.fold)
        self.model = self._build_model()
        self.learner = head_on_features(self.model.network) if self.frozen else self.model
        self.kept = head_weights(self.model.network) if self.frozen else self.model.network
        self.sampler, self.train_set = self._build_train_set()
        self.train_loader = make_loader(
            self.train_set, **self._loader_options(distributed.share_of_batch(config.batch_size)), sampler=self.sampler
        )
        self.held_out_loader, self.held_out_labels = self._build_held_out_loader()
        groups = parameter_groups(self.model.network, config.weight_decay, config.backbone_lr)
        self.optimizer = torch.optim.AdamW(groups, lr=config.lr, fused=self.device.type in FUSED_ON)
        self.steps = steps_per_epoch(len(self.train_loader), config.accumulate)
        self.trainer = self._build_trainer()

    @property
    def frozen_entry(self) -> dict[str, str]:
        """What config.json says beside the identity."""
        return {BACKBONE_FILE: self.frozen.weights.name} if self.frozen else {}

    def resume(self) -> None:
        """Go back to the state after the last whole epoch, if there is one."""
        path = self.fold_dir / STATE
        if path.exists():
            self.progress = Progress(**checkpoints.load_state(path, self.kept, self.optimizer))
            self.precision.scaler.load_state_dict(self.progress.scaler)
            print(f"{self.data.title}: goes on after epoch {self.progress.epoch}")

    def run(self) -> None:
        """Epochs until the last one, or until the held-out macro-F1 has not risen for `patience` of them."""
        config = self.config
        left = range(self.progress.epoch, config.epochs)
        total = sum(len(self.sampler) + self._is_scored(epoch) * len(self.held_out_labels) for epoch in left)
        tracker = open_tracker(self.fold_dir, config.tracker if distributed.is_first() else NONE, config.learned())
        with progress(None, title=self.data.title, total=total, shown=distributed.is_first()) as bar:
            while not self.progress.is_over(config):
                row = self._run_epoch(bar)
                tracker.log(row)
                bar.write(describe_epoch(self.data.title, row, config.epochs))
        tracker.close()

    def finish(self) -> None:
        """Out-of-fold logits from the saved weights, then the marker that says the fold is whole."""
        distributed.wait_for_all()
        predictor = load_predictor(self.fold_dir, self.data.task)
        crops, _ = self.data.part(held_out=True)
        where = {"device": self.config.device, "workers": self.config.workers}
        title = f"{self.data.title} out of fold"
        prediction = predictor.of_stored(self.store, crops.image_ids, **where, tta=self.config.tta, title=title)
        if not distributed.is_first():
            return
        write_prediction(self.fold_dir / OOF, self.data.task, crops.image_ids, prediction)
        result = {"best_epoch": self.progress.best_epoch, "macro_f1": self.progress.best_macro_f1}
        files.write_json(self.fold_dir / DONE, result)
        (self.fold_dir / STATE).unlink(missing_ok=True)

    def _run_epoch(self, bar: tqdm) -> dict:
        """One epoch of training and its score on the held-out people; returns the row of history.csv."""
        epoch = self.progress.epoch
        best = f", best F1 {self.progress.best_macro_f1:.3f}" if self.progress.best_epoch else ""
        bar.set_description(f"{self.data.title} epoch {epoch + 1}/{self.config.epochs}{best}")
        seed_everything(self.config.seed, self.data.fold, epoch, *filter(None, [distributed.number()]))
        self.sampler.epoch = epoch
        result = self.trainer.train_one_epoch(self.train_loader, first_step=epoch * self.steps, bar=bar)
        distributed.broadcast_buffers(self.learner)
        row = {
            "epoch": epoch + 1,
            "train_loss": result.loss,
            **(self._held_out_scores(bar) if self._is_scored(epoch) else {}),
            "lr": self.optimizer.param_groups[0]["lr"],
            "images_per_second": result.images_per_second,
            "seconds": result.seconds,
        }
        self._record(row)
        return row

    def _is_scored(self, epoch: int) -> bool:
        return (epoch + 1) % self.config.validate_every == 0 or epoch + 1 == self.config.epochs

    def _held_out_scores(self, bar: tqdm) -> dict[str, float]:
        options = {"precision": self.precision, "channels_last": self.config.channels_last, "bar": bar}
        logits = self.head.class_logits(predict(self.learner, self.held_out_loader, **options))
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(self.held_out_labels))
        predicted = logits.argmax(dim=1).tolist()
        confusion = confusion_matrix(self.held_out_labels, predicted, len(self.data.task.classes))
        return {"loss": loss.item(), "macro_f1": float(macro_f1(confusion)), "accuracy": float(accuracy(confusion))}

    def _record(self, row: dict) -> None:
        """The state comes last: after a stop before it, the epoch is repeated and ends the same."""
        done = self.progress
        done.epoch = row["epoch"]
        done.history.append(row)
        done.scaler = self.precision.scaler.state_dict()
        is_best = "macro_f1" in row and (self.config.keep == "last" or row["macro_f1"] > done.best_macro_f1)
        if is_best:
            done.best_epoch, done.best_macro_f1 = row["epoch"], row["macro_f1"]
        if not distributed.is_first():
            return
        if is_best:
            checkpoints.save_weights(self.fold_dir / MODEL, self.kept)
        files.write_csv(self.fold_dir / HISTORY, pd.DataFrame(done.history))
        checkpoints.save_state(self.fold_dir / STATE, self.kept, self.optimizer, asdict(done))

    def _build_model(self) -> OnPixels:
        config = self.config
        network = build_model(
            config.backbone,
            self.head.outputs,
            image_size=input_size(config, self.data.crops.source),
            pretrained=config.pretrained,
            drop_rate=config.drop_rate,
        )
        if self.head.bins is not None:
            # Most years are those of old people, of whom there are few.
            values = self.head.targets(*self.data.part(held_out=False))
            begin_with_shares(network, soften(values, self.head.bins, config.value_sigma).mean(dim=0))
        return place(OnPixels(network, *normalisation(config.backbone)), self.device, config.channels_last)

    def _build_train_set(self) -> tuple[PersonSampler, CropDataset | FeatureDataset]:
        config = self.config
        crops, labels = self.data.part(held_out=False)
        sampler = epoch_sampler(self.data, config)
        rows, targets = self.store.rows(crops.image_ids), self.head.targets(crops, labels)
        if self.frozen:
            return sampler, FeatureDataset(self.store, rows, views=views_to_train_on(config), targets=targets)
        return sampler, CropDataset(self.store, rows, train_transform(config.augment), targets)

    def _build_held_out_loader(self) -> tuple[DataLoader, list[int]]:
        crops, labels = self.data.part(held_out=True)
        rows = self.store.rows(crops.image_ids)
        dataset = FeatureDataset(self.store, rows) if self.frozen else CropDataset(self.store, rows, eval_transform())
        return make_loader(dataset, **self._loader_options(self.config.batch_size * EVAL_BATCH_FACTOR)), labels

    def _loader_options(self, batch_size: int) -> dict:
        workers = 0 if self.frozen else pick_workers(self.config.workers, self.device)
        return {"batch_size": batch_size, "workers": workers, "pin_memory": self.device.type == "cuda"}

    def _build_trainer(self) -> Trainer:
        config = self.config
        total = config.epochs * self.steps
        return Trainer(
            distributed.averaging_gradients(self.learner),
            self._build_criterion(),
            self.optimizer,
            learning_rate=partial(SCHEDULES[config.schedule], total=total, warmup=config.warmup, peak=config.lr),
            precision=self.precision,
            accumulate=config.accumulate,
            grad_clip=config.grad_clip,
            channels_last=config.channels_last,
            mixup=Mixup(config.mixup),
        )

    def _build_criterion(self) -> torch.nn.Module:
        config = self.config
        _, labels = self.data.part(held_out=False)
        counts = [labels.count(label) for label in range(len(self.data.task.classes))]
        weights = class_weights(config.class_weights, counts)
        options = {"focal_gamma": config.focal_gamma, "label_smoothing": config.label_smoothing}
        of_classes = build_loss(config.loss, class_weights=weights, **options)
        return with_values(of_classes, self.head, config).to(self.device)


def with_values(class_loss: torch.nn.Module, head: Head, config: Config) -> torch.nn.Module:
    """The loss of a head: that of the classes alone, or one over values of which it is a share."""
    if head.bins is None:
        return class_loss
    options = {"sigma": config.value_sigma, "class_share": config.class_share}
    return ValueLoss(head.bins, head.class_of_bin, head.class_logits, class_loss=class_loss, **options)


def describe_epoch(title: str, row: Mapping[str, float], epochs: int) -> str:
    scores = f"held out macro-F1 {row['macro_f1']:.4f} accuracy {row['accuracy']:.4f}, " if "macro_f1" in row else ""
    return (
        f"{title} epoch {row['epoch']}/{epochs}: loss {row['train_loss']:.3f}, {scores}"
        f"{row['images_per_second']:.0f} img/s, {row['seconds']:.0f} s"
    )
