"""Whether probabilities can be believed: likelihood, temperature, reliability curve, expected calibration error."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize_scalar

from evaluation.logits import log_softmax

HOTTEST = 20.0
"""Temperatures are looked for from 1 / HOTTEST to HOTTEST: a flawless table has no best one, it would go to 0."""


def negative_log_likelihood(logits: np.ndarray, labels: Sequence[int]) -> float:
    """Mean of -log p(label), in nats, over (N, C) logits and N labels."""
    return float(-log_softmax(logits)[np.arange(len(labels)), np.asarray(labels)].mean())


def fit_temperature(logits: np.ndarray, labels: Sequence[int]) -> float:
    """The T for which logits / T have the greatest likelihood; above 1 where the model is too sure of itself.

    Temperature scaling after Guo et al., On Calibration of Modern Neural Networks, 2017, section 4.2. It changes the
    likeliest class of no photo.
    """
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
    """Mean over photos of |accuracy - confidence| of their bin, from 0 (believable) to 1.

    Guo et al., On Calibration of Modern Neural Networks, 2017, equation 3: sum over bins of n_bin / n * |acc - conf|.
    """
    rows = reliability(probs, labels, bins)
    gaps = sum(row["photos"] * abs(row["accuracy"] - row["confidence"]) for row in rows)
    return gaps / len(labels)


def calibration_record(logits: np.ndarray, labels: Sequence[int], folds: Sequence[int]) -> dict:
    """The temperature of all photos, and likelihood and calibration error with and without it.

    Without: as the logits stand. With: every fold's photos under the temperature of the other folds.
    """
    labels, folds = np.asarray(labels), np.asarray(folds)
    scaled = np.array(logits, dtype=np.float64)
    for fold in np.unique(folds):
        held_out = folds == fold
        scaled[held_out] /= fit_temperature(logits[~held_out], labels[~held_out])
    return {
        "temperature": fit_temperature(logits, labels),
        "raw": _quality(logits, labels),
        "nested": _quality(scaled, labels),
    }


def _quality(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    probs = np.exp(log_softmax(logits))
    return {"nll": negative_log_likelihood(logits, labels), "ece": expected_calibration_error(probs, labels)}
