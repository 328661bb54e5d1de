"""Losses by name. Each takes logits (N, C) float and target (N,) int64 and returns a scalar.

`build_loss("focal", class_weights=torch.tensor([.2, .8]), focal_gamma=2.0)`

To add one: a module here, a row in LOSSES, and for each parameter a field of its name with of_class_loss=True in
training/config.py, from which its flag is made.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.cli import UserError


class CrossEntropyLoss(nn.Module):
    """Cross-entropy, weighted by class if weights (C,) are given, with the target softened by `label_smoothing`."""

    def __init__(self, class_weights: Tensor | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("class_weights", class_weights)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(logits, target, self.class_weights, label_smoothing=self.label_smoothing)


class FocalLoss(nn.Module):
    """Cross-entropy times (1 - p)^focal_gamma, p being the probability of the true class (Lin et al. 2017, eq. 5).

    With weights (C,) the mean over photos is weighted, as in cross-entropy. With gamma 0 it is cross-entropy.
    """

    def __init__(self, class_weights: Tensor | None = None, focal_gamma: float = 2.0) -> None:
        super().__init__()
        self.register_buffer("class_weights", class_weights)
        self.gamma = focal_gamma

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        log_p = functional.log_softmax(logits, dim=1).gather(1, target[:, None])[:, 0]
        # 1 - p without rounding; at exactly 0 a power below 1 would have no gradient.
        missed = (-torch.expm1(log_p)).clamp(min=torch.finfo(log_p.dtype).tiny)
        losses = missed**self.gamma * -log_p
        weights = torch.ones_like(losses) if self.class_weights is None else self.class_weights[target]
        return (weights * losses).sum() / weights.sum()


class SoftF1Loss(nn.Module):
    """One minus the macro-F1 of a batch, with probabilities in place of decisions.

    A class with neither a target nor a probability in the batch counts as found (F1 near 1 through epsilon).
    With weights (C,) the mean over classes is weighted.
    """

    epsilon = 1e-7

    def __init__(self, class_weights: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("class_weights", class_weights)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        probs = logits.softmax(dim=1)
        labels = functional.one_hot(target, logits.shape[1]).to(probs.dtype)
        overlap = (labels * probs).sum(dim=0)  # (C,)
        f1 = (2 * overlap + self.epsilon) / (labels.sum(dim=0) + probs.sum(dim=0) + self.epsilon)
        weights = torch.ones_like(f1) if self.class_weights is None else self.class_weights
        return 1 - (weights * f1).sum() / weights.sum()


class ValueLoss(nn.Module):
    """Loss of a head with one output per value (bins (K,) float): logits (N, K) and targets (N,) float to a scalar.

    (1 - class_share) * cross-entropy over the bins, with the true value softened by `sigma`, + class_share *
    `class_loss` over classes, which are ranges of bins: `class_of_bin` (K,) int64 is the class of each bin, and
    `class_logits` maps (N, K) to (N, C).
    """

    def __init__(
        self,
        bins: Tensor,
        class_of_bin: Tensor,
        class_logits: Callable[[Tensor], Tensor],
        *,
        class_loss: nn.Module,
        sigma: float,
        class_share: float,
    ) -> None:
        super().__init__()
        self.register_buffer("bins", bins)
        self.register_buffer("class_of_bin", class_of_bin)
        self.class_logits, self.class_loss = class_logits, class_loss
        self.sigma, self.class_share = sigma, class_share

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        of_values = functional.cross_entropy(logits, soften(target, self.bins, self.sigma))
        labels = self.class_of_bin[(self.bins - target[:, None]).abs().argmin(dim=1)]
        of_classes = self.class_loss(self.class_logits(logits), labels)
        return (1 - self.class_share) * of_values + self.class_share * of_classes


def soften(values: Tensor, bins: Tensor, sigma: float) -> Tensor:
    """Return a normal distribution over bins (K,) about each of the values (N,), as (N, K) (Gao et al. 2017, eq. 3)."""
    return (-(((bins - values[:, None]) / sigma) ** 2) / 2).softmax(dim=1)


def _smoothed_cross_entropy(class_weights: Tensor | None, label_smoothing: float = 0.1) -> nn.Module:
    return CrossEntropyLoss(class_weights, label_smoothing)


@dataclass(frozen=True)
class Loss:
    """Row of LOSSES. `build` takes class weights (C,) or None, and by name each of `parameters`.

    The parameters are settings of training/config.py.
    """

    name: str
    build: Callable[..., nn.Module]
    parameters: tuple[str, ...] = ()


LOSSES = (
    Loss("cross_entropy", CrossEntropyLoss),
    Loss("label_smoothing", _smoothed_cross_entropy, ("label_smoothing",)),
    Loss("focal", FocalLoss, ("focal_gamma",)),
    Loss("f1", SoftF1Loss),
)


def loss_named(name: str) -> Loss:
    """Return the row of that name. UserError lists the names there are."""
    for loss in LOSSES:
        if loss.name == name:
            return loss
    raise UserError(f"--loss {name!r} is unknown; the losses are {', '.join(loss.name for loss in LOSSES)}")


def build_loss(name: str, *, class_weights: Tensor | None = None, **parameters: float) -> nn.Module:
    """Build the loss of that name. Parameters left out have its defaults; those of other losses are ignored."""
    loss = loss_named(name)
    own = {parameter: value for parameter, value in parameters.items() if parameter in loss.parameters}
    return loss.build(class_weights, **own)


def class_weights(how: str, counts: list[int]) -> Tensor | None:
    """Return weights (C,) float for "none" (None), "balanced" or numbers with commas between; else UserError."""
    if how in ("none", "balanced"):
        return balanced_weights(counts) if how == "balanced" else None
    try:
        weights = torch.tensor([float(number) for number in how.split(",")])
    except ValueError:
        weights = torch.empty(0)
    if len(weights) != len(counts) or not (weights.isfinite() & (weights > 0)).all():
        allowed = f"none, balanced, or {len(counts)} numbers above 0 with commas between"
        raise UserError(f"--class-weights {how!r}: allowed is {allowed}")
    return weights


def balanced_weights(counts: list[int]) -> Tensor:
    """Return weights (C,) float, n / (C * n_c): every class counts alike, and the mean weight of a photo is 1."""
    numbers = torch.tensor(counts, dtype=torch.float32)
    return numbers.sum() / (len(counts) * numbers)
