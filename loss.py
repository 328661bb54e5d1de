"""Losses by name. Each takes logits (N, C) float and target (N,) int64 and gives a scalar.

`build_loss("focal", class_weights=torch.tensor([.2, .8]), focal_gamma=2.0)`
"""

from collections.abc import Callable
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.cli import UserError


class CrossEntropyLoss(nn.Module):
    """Cross-entropy, weighted by class if weights (C,) are given, with the target softened by `smoothing`.

    Weights move with the module, so nothing here needs a GPU to be imported or built.
    """

    def __init__(self, class_weights: Tensor | None = None, smoothing: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("class_weights", class_weights)
        self.smoothing = smoothing

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(logits, target, self.class_weights, label_smoothing=self.smoothing)


class FocalLoss(nn.Module):
    """Cross-entropy times (1 - p)^gamma, p being the probability of the true class (Lin et al. 2017, eq. 5).

    With weights it is their weighted mean, as in cross-entropy; with gamma 0 it is cross-entropy.
    """

    def __init__(self, class_weights: Tensor | None = None, gamma: float = 2.0) -> None:
        super().__init__()
        self.register_buffer("class_weights", class_weights)
        self.gamma = gamma

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
        truth = functional.one_hot(target, logits.shape[1]).to(probs.dtype)
        overlap = (truth * probs).sum(dim=0)  # (C,)
        f1 = (2 * overlap + self.epsilon) / (truth.sum(dim=0) + probs.sum(dim=0) + self.epsilon)
        weights = torch.ones_like(f1) if self.class_weights is None else self.class_weights
        return 1 - (weights * f1).sum() / weights.sum()


class ValueLoss(nn.Module):
    """For networks with one output per value (bins (K,) float): logits (N, K) and targets (N,) float to a scalar.

    The target is the true value, softened by `sigma`. A share of the loss is `class_loss` over ranges of bins:
    `class_of_bin` (K,) int64 says which bin lies in which class, `class_logits` sums (N, K) to (N, C).
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
    """(N, K) a normal distribution over bins (K,) about each of the values (N,): Gao et al. 2017, DLDL, eq. 3."""
    return (-(((bins - values[:, None]) / sigma) ** 2) / 2).softmax(dim=1)


LOSSES: MappingProxyType[str, Callable[[Tensor | None, float, float], nn.Module]] = MappingProxyType({
    "cross_entropy": lambda weights, gamma, smoothing: CrossEntropyLoss(weights),
    "label_smoothing": lambda weights, gamma, smoothing: CrossEntropyLoss(weights, smoothing),
    "focal": lambda weights, gamma, smoothing: FocalLoss(weights, gamma),
    "f1": lambda weights, gamma, smoothing: SoftF1Loss(weights),
})  # fmt: skip


def build_loss(
    name: str, *, class_weights: Tensor | None = None, focal_gamma: float = 2.0, label_smoothing: float = 0.1
) -> nn.Module:
    """The loss of that name; UserError lists the names there are."""
    if name not in LOSSES:
        raise UserError(f"--loss {name!r} is unknown; the losses are {', '.join(LOSSES)}")
    return LOSSES[name](class_weights, focal_gamma, label_smoothing)


def class_weights(how: str, counts: list[int]) -> Tensor | None:
    """(C,) float weights for "none", "balanced" or numbers with commas between; UserError for anything else."""
    if how in ("none", "balanced"):
        return balanced_weights(counts) if how == "balanced" else None
    try:
        weights = [float(number) for number in how.split(",")]
    except ValueError:
        weights = []
    if len(weights) != len(counts) or min(weights) <= 0:
        allowed = f"none, balanced, or {len(counts)} numbers above 0 with commas between"
        raise UserError(f"--class-weights {how!r}: allowed is {allowed}")
    return torch.tensor(weights)


def balanced_weights(counts: list[int]) -> Tensor:
    """(C,) float weights n / (C * n_c): every class counts alike, and the mean weight of a photo is 1."""
    numbers = torch.tensor(counts, dtype=torch.float32)
    return numbers.sum() / (len(counts) * numbers)
