"""Likelihood, temperature, reliability and calibration error, by hand and on probabilities known to be true or not."""

from math import log

import numpy as np
import pytest

from evaluation.calibration import (
    HOTTEST,
    calibration_record,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability,
)


def drawn(photos: int, *, heat: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels drawn from their very probabilities, the logits then multiplied by `heat`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (photos, 3))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return logits * heat, labels


def test_the_likelihood_by_hand() -> None:
    logits = np.log([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])
    assert negative_log_likelihood(logits, [0, 2]) == pytest.approx(-(log(0.5) + log(0.8)) / 2)


@pytest.mark.parametrize("heat", [0.5, 1.0, 3.0])
def test_the_temperature_takes_back_what_heat_did(heat: float) -> None:
    assert fit_temperature(*drawn(20_000, heat=heat)) == pytest.approx(heat, rel=0.05)


def test_flawless_logits_stay_within_the_bounds() -> None:
    assert 1 / HOTTEST <= fit_temperature(np.eye(3), [0, 1, 2]) < 0.06


def test_bins_by_hand() -> None:
    probs = np.array([[0.5, 0.5], [0.55, 0.45], [0.9, 0.1], [0.0, 1.0]])
    rows = reliability(probs, [0, 1, 0, 1], bins=4)
    # .5 lies in the bin that ends there, 1 in the last one.
    assert [(row["low"], row["high"], row["photos"], row["accuracy"]) for row in rows] == [
        (0.25, 0.5, 1, 1.0), (0.5, 0.75, 1, 0.0), (0.75, 1.0, 2, 1.0)
    ]  # fmt: skip
    assert [row["confidence"] for row in rows] == pytest.approx([0.5, 0.55, 0.95])
    assert expected_calibration_error(probs, [0, 1, 0, 1], bins=4) == pytest.approx((0.5 + 0.55 + 2 * 0.05) / 4)


def test_true_probabilities_have_a_small_error_and_hot_ones_a_large_one() -> None:
    errors = {}
    for heat in (1.0, 4.0):
        logits, labels = drawn(20_000, heat=heat)
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        errors[heat] = expected_calibration_error(probs, labels)
    assert errors[1.0] < 0.02
    assert errors[4.0] > 0.1


def test_the_record_scales_each_fold_by_the_others() -> None:
    logits, labels = drawn(3000, heat=2.0)
    folds = np.arange(3000) % 3
    record = calibration_record(logits, labels, folds)
    assert record["temperature"] == pytest.approx(fit_temperature(logits, labels))
    assert record["raw"]["nll"] == pytest.approx(negative_log_likelihood(logits, labels))
    scaled = np.concatenate(
        [logits[folds == k] / fit_temperature(logits[folds != k], labels[folds != k]) for k in range(3)]
    )
    in_order = np.concatenate([labels[folds == k] for k in range(3)])
    assert record["nested"]["nll"] == pytest.approx(negative_log_likelihood(scaled, in_order))
    assert record["nested"]["nll"] < record["raw"]["nll"]
    assert record["nested"]["ece"] < record["raw"]["ece"]
