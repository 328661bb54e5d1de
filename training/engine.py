"""Loops over batches of one network: an epoch of training, and prediction."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from core import distributed
from core.cli import Bar
from training.device import Precision, to_device

LOSS_READ_EVERY = 20
"""Steps. A GPU works through a queue of them, which runs empty whenever a number is read."""


@dataclass(frozen=True)
class EpochResult:
    """Mean loss per photo, and duration of an epoch."""

    loss: float
    seconds: float
    images_per_second: float


@dataclass(frozen=True)
class Mixup:
    """Blend of the photos of a batch in pairs, weighted by Beta(alpha, alpha) (Zhang et al. 2018); 0 = never."""

    alpha: float = 0.0

    def loss(self, model: nn.Module, criterion: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Return the weighted mean of the losses of the blended photos against either photo's target."""
        if not self.alpha:
            return criterion(model(images).float(), targets)
        weight = float(np.random.beta(self.alpha, self.alpha))
        partner = torch.randperm(len(images), device=images.device)
        # The loss in full precision: exponents of half-precision logits overflow early.
        outputs = model(images.lerp(images[partner], 1 - weight)).float()
        return weight * criterion(outputs, targets) + (1 - weight) * criterion(outputs, targets[partner])


@dataclass(frozen=True)
class Trainer:
    """Parts of a training loop. `learning_rate` maps the number of a step to its learning rate."""

    model: nn.Module
    criterion: nn.Module
    optimizer: Optimizer
    learning_rate: Callable[[int], float]
    precision: Precision
    accumulate: int = 1
    grad_clip: float = 0.0
    channels_last: bool = True
    mixup: Mixup = Mixup()

    def train_one_epoch(self, batches: Iterable, *, first_step: int, bar: Bar) -> EpochResult:
        """Train on batches of (images, targets, indices). The loss is not finite if training diverged."""
        self.model.train()
        began, photos, loss_sum, unread, step = time.perf_counter(), 0, 0.0, [], first_step
        self.optimizer.zero_grad()
        number = len(batches)
        for position, (images, targets, _) in enumerate(batches):
            group_size = min(self.accumulate, number - position // self.accumulate * self.accumulate)
            loss = self._backward(images, targets, group_size)
            if (position + 1) % self.accumulate == 0 or position + 1 == number:
                self._step(self.learning_rate(step))
                step += 1
            photos += len(targets)
            unread.append(loss * len(targets))
            if (position + 1) % LOSS_READ_EVERY == 0 or position + 1 == number:
                loss_sum += torch.stack(unread).cpu().double().sum().item()
                unread.clear()
                bar.set_note(f"loss {loss_sum / photos:.3f}")
            bar.update(len(targets))
        photos, loss_sum = (sum(distributed.gathered([part])) for part in (photos, loss_sum))
        seconds = time.perf_counter() - began
        return EpochResult(loss_sum / photos, seconds, photos / seconds)

    def _backward(self, images: Tensor, targets: Tensor, group_size: int) -> Tensor:
        """Add to the gradients, and return the mean loss () of the batch, on the device."""
        device = self.precision.device
        images = to_device(images, device, self.channels_last)
        with self.precision.autocast():
            loss = self.mixup.loss(self.model, self.criterion, images, targets.to(device, non_blocking=True))
        self.precision.scaler.scale(loss / group_size).backward()
        return loss.detach()

    def _step(self, learning_rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group.get("lr_scale", 1.0)
        scaler = self.precision.scaler
        if self.grad_clip:
            scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.grad_clip)
        scaler.step(self.optimizer)
        scaler.update()
        self.optimizer.zero_grad()


def steps_per_epoch(batches: int, accumulate: int) -> int:
    """Return the number of optimiser steps of an epoch."""
    return math.ceil(batches / accumulate)


def warmup_cosine(step: int, *, total: int, warmup: float, peak: float) -> float:
    """Learning rate of step 0 .. total-1: linear to `peak` over a fraction of the steps, then half a cosine to 0."""
    rising = max(1, round(total * warmup))
    if step < rising:
        return peak * (step + 1) / rising
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))


def warmup_constant(step: int, *, total: int, warmup: float, peak: float) -> float:
    """Learning rate of step 0 .. total-1: linear to `peak` over a fraction of the steps, then `peak`."""
    return peak * min(1.0, (step + 1) / max(1, round(total * warmup)))


SCHEDULES = MappingProxyType({"cosine": warmup_cosine, "constant": warmup_constant})


@torch.inference_mode()
def predict(
    model: nn.Module,
    batches: Iterable,
    *,
    precision: Precision,
    channels_last: bool = True,
    tta: str = "none",
    bar: Bar,
) -> Tensor:
    """Return outputs (N, K) float32 for batches of (images, targets, indices): row i is that of index i.

    tta "flip" averages the outputs of each image and its mirror image.
    """
    model.eval()
    rows, order = [], []
    for raw, _, indices in batches:
        images = to_device(raw, precision.device, channels_last)
        with precision.autocast():
            logits = model(images).float()
            if tta == "flip":
                logits = (logits + model(images.flip(-1)).float()) / 2
        rows.append(logits.cpu())
        order.append(indices)
        bar.update(len(indices))
    return torch.cat(distributed.gathered(rows))[torch.cat(distributed.gathered(order)).argsort()]
