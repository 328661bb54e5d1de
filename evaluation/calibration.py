"""Calibration of probabilities: temperature, reliability, and class priors of photos without labels (label shift).

A model's probabilities hold the class priors of its training photos. Where other photos have other priors, while each
class looks as it did, they are corrected by new prior / old prior. The new priors are those of greatest likelihood,
found by expectation maximisation (Saerens, Latinne and Decaestecker, Adjusting the Outputs of a Classifier to New a
Priori Probabilities, Neural Computation 14, 2002). Probabilities should be calibrated before (Alexandari, Kundaje and
Shrikumar, Maximum Likelihood with Bias-Corrected Calibration, 2020).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.logits import log_softmax

HOTTEST = 20.0
"""Temperatures are looked for from 1 / HOTTEST to HOTTEST: a flawless table has no best one, it would go to 0."""
SIGNIFICANCE = 0.001
"""New class priors are used only if a likelihood ratio test gives the old ones a p-value below this.

Strict, as photos of one person are not independent.
"""
KEPT = 0.3
"""The old priors count as much as this fraction of the photos: an estimate from unsure probabilities goes too far."""
MISJUDGED = 0.1
"""A model whose estimate of a class prior is off by more than this on photos with labels is not used."""
MOST_STEPS, TOLERANCE = 1000, 1e-7


def negative_log_likelihood(logits: np.ndarray, labels: Sequence[int]) -> float:
    """Mean of -log p(label), in nats, over (N, C) logits and N labels."""
    return float(-log_softmax(logits)[np.arange(len(labels)), np.asarray(labels)].mean())


def fit_temperature(logits: np.ndarray, labels: Sequence[int]) -> float:
    """The T for which logits / T have the greatest likelihood; above 1 where the model is overconfident.

    Temperature scaling of Guo et al., On Calibration of Modern Neural Networks, 2017, section 4.2. It does not change
    the likeliest class of any photo.
    """
    from scipy.optimize import minimize_scalar  # here, because it would slow the start of every command

    bound = np.log(HOTTEST)
    found = minimize_scalar(
        lambda log_t: negative_log_likelihood(logits / np.exp(log_t), labels), bounds=(-bound, bound), method="bounded"
    )
    return float(np.exp(found.x))


def reliability(probs: np.ndarray, labels: Sequence[int], bins: int = 15) -> list[dict[str, float]]:
    """Photos in bins by the probability of their likeliest class: {"low", "high", "photos", "confidence", "accuracy"}.

    `probs` is (N, C). Bins are of equal width from 0 to 1, each with its upper edge; empty ones are left out.
    """
    confidence, right = probs.max(axis=1), probs.argmax(axis=1) == np.asarray(labels)
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return [
        {
            "low": number / bins,
            "high": (number + 1) / bins,
            "photos": int((bin_of == number).sum()),
            "confidence": float(confidence[bin_of == number].mean()),
            "accuracy": float(right[bin_of == number].mean()),
        }
        for number in np.unique(bin_of).tolist()
    ]


def expected_calibration_error(probs: np.ndarray, labels: Sequence[int], bins: int = 15) -> float:
    """Mean over photos of |accuracy - confidence| of their bin, from 0 (calibrated) to 1.

    Guo et al., On Calibration of Modern Neural Networks, 2017, equation 3: sum over bins of n_bin / n * |acc - conf|.
    """
    rows = reliability(probs, labels, bins)
    gaps = sum(row["photos"] * abs(row["accuracy"] - row["confidence"]) for row in rows)
    return gaps / len(labels)


def mean_confidence(probs: np.ndarray) -> float:
    """Mean probability of the likeliest class over (N, C) probabilities."""
    return float(probs.max(axis=1).mean())


def expected_accuracy(accuracy: float, confidence: float, elsewhere: float) -> float:
    """Estimate the accuracy on photos without labels, 0 to 1, from accuracy and mean confidence on photos with them.

    The accuracy falls by as much as the mean confidence does (the difference of confidences of Guillory et al.,
    Predicting with Confidence on Unseen Distributions, 2021). `elsewhere` is the mean confidence without labels.
    """
    return float(np.clip(accuracy - (confidence - elsewhere), 0.0, 1.0))


def calibration_record(logits: np.ndarray, labels: Sequence[int], folds: Sequence[int]) -> dict:
    """The temperature of all photos, and likelihood and calibration error with and without it.

    "raw" is without it; "nested" scales every fold's photos by the temperature of the other folds.
    """
    labels, folds = np.asarray(labels), np.asarray(folds)
    scaled = np.array(logits, dtype=np.float64)
    for fold in np.unique(folds):
        in_fold = folds == fold
        scaled[in_fold] /= fit_temperature(logits[~in_fold], labels[~in_fold])
    return {
        "temperature": fit_temperature(logits, labels),
        "raw": _quality(logits, labels),
        "nested": _quality(scaled, labels),
    }


def _quality(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    probs = np.exp(log_softmax(logits))
    return {"nll": negative_log_likelihood(logits, labels), "ece": expected_calibration_error(probs, labels)}


def format_calibration(calibration: Mapping[str, Mapping]) -> str:
    """Temperature, likelihood and calibration error of each task, without and with the temperature."""
    lines = ["probabilities out of fold"]
    lines += [f"  {'task':<12}{'temperature':>12}{'-log p':>10}{'scaled':>10}{'ECE':>10}{'scaled':>10}"]
    for name, entry in calibration.items():
        raw, nested = entry["raw"], entry["nested"]
        cells = (raw["nll"], nested["nll"], raw["ece"], nested["ece"])
        lines.append(f"  {name:<12}{entry['temperature']:>12.3f}" + "".join(f"{cell:>10.4f}" for cell in cells))
    return "\n".join(lines)


@dataclass(frozen=True)
class Mix:
    """Class priors (C,): those of the training photos, and those estimated for other photos."""

    learned: tuple[float, ...]
    found: tuple[float, ...]

    @property
    def biases(self) -> np.ndarray:
        """(C,) added to log-probabilities to correct them; zeros where the priors are the learned ones."""
        return np.log(self.found) - np.log(self.learned)


def estimate_mix(log_probs: np.ndarray, learned: np.ndarray) -> Mix:
    """Class priors of photos from their log_probs (N, C), by a model trained with the priors `learned` (C,).

    They stay the learned ones unless others explain the photos significantly better.
    """
    from scipy.special import chdtrc  # here, because it would slow the start of every command

    old = tuple(learned.tolist())
    likeliest = _maximise(log_probs, learned, kept=0.0)
    gain = _log_likelihood(log_probs, learned, likeliest) - _log_likelihood(log_probs, learned, learned)
    if chdtrc(len(learned) - 1, max(2 * gain, 0.0)) >= SIGNIFICANCE:
        return Mix(old, old)
    return Mix(old, tuple(_maximise(log_probs, learned, kept=KEPT).tolist()))


def knows_mix(log_probs: np.ndarray, priors: np.ndarray) -> bool:
    """True if log_probs (N, C) estimate the class priors `priors` (C,) of photos with labels to within MISJUDGED."""
    return bool(np.abs(_maximise(log_probs, priors, kept=0.0) - priors).max() <= MISJUDGED)


def describe_mixes(mixes: Mapping[str, Mix], classes: Mapping[str, tuple[str, ...]]) -> str:
    """A line for each task whose photos have other class priors than its training photos."""
    lines = []
    for task, mix in mixes.items():
        priors = ", ".join(
            f"{name} {found:.0%} (learned from {learned:.0%})"
            for name, found, learned in zip(classes[task], mix.found, mix.learned, strict=True)
        )
        lines.append(f"  {task}: these photos seem to have another mix: {priors}")
    return "\n".join(lines)


def _maximise(log_probs: np.ndarray, learned: np.ndarray, *, kept: float) -> np.ndarray:
    """(C,) priors of greatest likelihood, or of greatest posterior where the old ones count as `kept` of the photos."""
    priors = learned
    for _ in range(MOST_STEPS):
        # No prior is 0: its logarithm is needed, and no class is impossible.
        expected = np.exp(log_softmax(log_probs + np.log(priors / learned))).mean(axis=0) if len(log_probs) else priors
        after = np.maximum((expected + kept * learned) / (1 + kept), 1e-6)
        after /= after.sum()
        moved = np.abs(after - priors).max()
        priors = after
        if moved < TOLERANCE:
            break
    return priors


def _log_likelihood(log_probs: np.ndarray, learned: np.ndarray, priors: np.ndarray) -> float:
    """Log-likelihood of the photos, up to a term that does not depend on the priors."""
    return float(np.log((np.exp(log_probs) * (priors / learned)).sum(axis=1)).sum())
