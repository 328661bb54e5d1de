"""Likelihood, temperature and calibration error, by hand and on drawn photos; class priors of unlabelled photos."""

from math import log

import numpy as np
import pytest

from evaluation.calibration import (
    HOTTEST,
    KEPT,
    Mix,
    calibration_record,
    describe_mixes,
    estimate_mix,
    expected_accuracy,
    expected_calibration_error,
    fit_temperature,
    knows_mix,
    mean_confidence,
    negative_log_likelihood,
    reliability,
)
from evaluation.logits import log_softmax

LEARNED = np.array([0.5, 0.3, 0.2])


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


def test_accuracy_falls_as_confidence_does() -> None:
    assert mean_confidence(np.array([[0.5, 0.5], [0.1, 0.9]])) == pytest.approx(0.7)
    assert expected_accuracy(0.95, confidence=0.9, elsewhere=0.7) == pytest.approx(0.75)
    assert [expected_accuracy(0.9, 0.5, 1.0), expected_accuracy(0.3, 0.9, 0.4)] == [1.0, 0.0]


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


def sure(*counts: int) -> np.ndarray:
    """Log-probabilities of photos whose class is beyond doubt."""
    labels = np.repeat(np.arange(len(counts)), counts)
    return log_softmax(100 * np.eye(len(counts))[labels])


def measured(shares: np.ndarray, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels with these shares, and the true log-probabilities under LEARNED of a measurement 1.5 apart a class."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, count, p=shares)
    places = 1.5 * np.arange(3)
    seen = places[labels] + rng.normal(0, 1, count)
    return labels, log_softmax(np.log(LEARNED) - (seen[:, None] - places) ** 2 / 2)


def test_sure_photos_are_counted_and_drawn_towards_what_was_learned() -> None:
    mix = estimate_mix(sure(20, 30, 150), LEARNED)
    expected = (np.array([0.1, 0.15, 0.75]) + KEPT * LEARNED) / (1 + KEPT)
    assert mix.learned == tuple(LEARNED)
    assert mix.found == pytest.approx(expected, abs=1e-5)
    assert mix.biases == pytest.approx(np.log(expected / LEARNED), abs=1e-4)


@pytest.mark.parametrize(
    "photos",
    [
        sure(100, 60, 40),  # the very mix
        sure(4, 1, 3),  # too few to tell
        np.tile(np.log(LEARNED), (500, 1)),  # nothing can be told
        np.zeros((0, 3)),
        measured(LEARNED, 500)[1],
    ],
    ids=["the same", "few", "unsure", "none", "drawn with the same"],
)
def test_the_mix_stays_where_nothing_tells_of_another(photos: np.ndarray) -> None:
    mix = estimate_mix(photos, LEARNED)
    assert mix.found == mix.learned == tuple(LEARNED)
    assert (mix.biases == 0).all()


def test_unsure_photos_are_put_right() -> None:
    """Two thirds are of the rarest class: the estimate goes most of the way, and more answers are right."""
    shares = np.array([0.1, 0.23, 0.67])
    labels, photos = measured(shares, 1000)
    mix = estimate_mix(photos, LEARNED)
    assert np.abs(np.array(mix.found) - shares).max() < 0.4 * np.abs(LEARNED - shares).max()
    right, before = (np.mean((photos + added).argmax(axis=1) == labels) for added in (mix.biases, 0))
    assert right > before + 0.05


def test_a_class_that_no_photo_has_keeps_a_share() -> None:
    mix = estimate_mix(sure(0, 200, 0), LEARNED)
    assert sum(mix.found) == pytest.approx(1)
    assert min(mix.found) == pytest.approx(0.2 * KEPT / (1 + KEPT), abs=1e-5)


def test_a_model_that_misjudges_what_is_known_is_not_believed() -> None:
    labels, photos = measured(LEARNED, 1000)
    assert knows_mix(photos, LEARNED)
    assert knows_mix(sure(55, 27, 18), LEARNED)
    assert not knows_mix(sure(62, 20, 18), LEARNED)
    blind = photos[np.random.default_rng(0).permutation(len(labels))] + [0, 2, 0]
    assert not knows_mix(log_softmax(blind), LEARNED)


def test_the_words_name_task_classes_and_both_shares() -> None:
    told = describe_mixes({"age": Mix((0.5, 0.5), (0.25, 0.75))}, {"age": ("young", "old")})
    assert told.startswith("  age: these photos seem to have another mix: ")
    assert told.endswith("young 25% (learned from 50%), old 75% (learned from 50%)")
