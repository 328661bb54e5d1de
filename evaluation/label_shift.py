"""How common each class is among photos without labels, estimated from what a model says of them.

A model's probabilities hold the mix of classes that it has learned from. Where other photos have another mix, while
each class looks as it did (label shift), they are put right by new share / old share. The new shares are those under
which the photos are likeliest, found by expectation maximisation (Saerens, Latinne and Decaestecker, Adjusting the
Outputs of a Classifier to New a Priori Probabilities, Neural Computation 14, 2002). Probabilities should be calibrated
before (Alexandari, Kundaje and Shrikumar, Maximum Likelihood with Bias-Corrected Calibration, 2020).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from evaluation.logits import log_softmax

SURELY = 0.001
"""How improbable the photos must be under the old mix before another one is believed (likelihood ratio test).

Strict, as photos of one person are no independent witnesses.
"""
KEPT = 0.3
"""The old mix counts as much as this share of the photos: an estimate from unsure probabilities goes too far."""
MISJUDGED = 0.1
"""A model that puts the share of a class wrong by more than this, of photos whose labels are known, is not believed."""
MOST_STEPS, ENOUGH = 1000, 1e-7


@dataclass(frozen=True)
class Mix:
    """Shares (C,) of the classes: those learned from, and those estimated for other photos."""

    learned: tuple[float, ...]
    found: tuple[float, ...]

    @property
    def biases(self) -> np.ndarray:
        """(C,) what the new mix adds to log-probabilities; zeros where it is the old one."""
        return np.log(self.found) - np.log(self.learned)


def estimate_mix(log_probs: np.ndarray, learned: np.ndarray) -> Mix:
    """The mix among photos of which log_probs (N, C) was said by a model that learned with the shares `learned` (C,).

    It stays the old one, unless another one explains the photos surely better.
    """
    old = tuple(learned.tolist())
    likeliest = _maximise(log_probs, learned, kept=0.0)
    gain = _log_likelihood(log_probs, learned, likeliest) - _log_likelihood(log_probs, learned, learned)
    if chi2.sf(2 * gain, len(learned) - 1) >= SURELY:
        return Mix(old, old)
    return Mix(old, tuple(_maximise(log_probs, learned, kept=KEPT).tolist()))


def knows_mix(log_probs: np.ndarray, shares: np.ndarray) -> bool:
    """Whether the shares (C,) of photos whose labels are known can be told from log_probs (N, C) about."""
    return bool(np.abs(_maximise(log_probs, shares, kept=0.0) - shares).max() <= MISJUDGED)


def describe_mixes(mixes: Mapping[str, Mix], classes: Mapping[str, tuple[str, ...]]) -> str:
    """A line for each task whose photos have another mix than it has learned from."""
    lines = []
    for task, mix in mixes.items():
        shares = ", ".join(
            f"{name} {found:.0%} (learned from {learned:.0%})"
            for name, found, learned in zip(classes[task], mix.found, mix.learned, strict=True)
        )
        lines.append(f"  {task}: these photos seem to have another mix: {shares}")
    return "\n".join(lines)


def _maximise(log_probs: np.ndarray, learned: np.ndarray, *, kept: float) -> np.ndarray:
    """(C,) shares of greatest likelihood, or of greatest posterior where the old ones count as `kept` of the photos."""
    shares = learned
    for _ in range(MOST_STEPS):
        # No share is 0: its logarithm is needed, and no class is impossible.
        expected = np.exp(log_softmax(log_probs + np.log(shares / learned))).mean(axis=0) if len(log_probs) else shares
        after = np.maximum((expected + kept * learned) / (1 + kept), 1e-6)
        after /= after.sum()
        moved = np.abs(after - shares).max()
        shares = after
        if moved < ENOUGH:
            break
    return shares


def _log_likelihood(log_probs: np.ndarray, learned: np.ndarray, shares: np.ndarray) -> float:
    """Up to what all shares have in common."""
    return float(np.log((np.exp(log_probs) * (shares / learned)).sum(axis=1)).sum())
