"""Scores from predictions: macro-F1, accuracy, and their interval over people.

Everything is computed from confusion matrices (..., C, C) of counts, rows the truth, columns the prediction, so that
a thousand bootstrap samples are one matrix product.
"""

from collections.abc import Callable, Sequence

import numpy as np

Metric = Callable[[np.ndarray], np.ndarray]


def confusion_matrix(truth: Sequence[int], predicted: Sequence[int], num_classes: int) -> np.ndarray:
    """(C, C) counts."""
    pairs = np.asarray(truth, dtype=np.int64) * num_classes + np.asarray(predicted, dtype=np.int64)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def f1_per_class(confusion: np.ndarray) -> np.ndarray:
    """(..., C) F1 of each class, NaN where a class is neither in the truth nor predicted."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    total = confusion.sum(axis=-1) + confusion.sum(axis=-2)
    with np.errstate(invalid="ignore"):
        return 2 * hits / total


def macro_f1(confusion: np.ndarray) -> np.ndarray:
    """(...) mean F1 over the classes that are in the truth or predicted, as scikit-learn's f1_score has it."""
    f1 = f1_per_class(confusion)
    present = ~np.isnan(f1)
    return np.where(present, f1, 0).sum(axis=-1) / present.sum(axis=-1)


def accuracy(confusion: np.ndarray) -> np.ndarray:
    """(...) share of right predictions."""
    return np.trace(confusion, axis1=-2, axis2=-1) / confusion.sum(axis=(-2, -1))


METRICS: dict[str, Metric] = {"macro_f1": macro_f1, "accuracy": accuracy}


Estimate = dict[str, float]
"""{"value", "low", "high"}: a score and its 95% interval, the percentile bootstrap over people.

People are drawn, not photos, since photos of one person are not independent.
"""
RESAMPLES = 1000


def scores(
    truth: Sequence[int],
    predicted: Sequence[int],
    persons: Sequence[str],
    *,
    num_classes: int,
    resamples: int = RESAMPLES,
) -> dict[str, Estimate]:
    """An estimate of every metric, as {"macro_f1": {"value", "low", "high"}, ...}."""
    of_person = _confusion_of_each_person(truth, predicted, persons, num_classes)
    whole, resampled = of_person.sum(axis=0), _resample(of_person, resamples)
    return {name: _estimate(metric(whole), metric(resampled)) for name, metric in METRICS.items()}


def paired_difference(
    truth: Sequence[int],
    before: Sequence[int],
    after: Sequence[int],
    persons: Sequence[str],
    *,
    num_classes: int,
    metric: Metric = macro_f1,
) -> Estimate:
    """How much higher a metric is with the predictions `after` than with `before`.

    Both are scored on the same draws of people, so that what makes a draw easy or hard for both cancels out.
    """
    pair = [_confusion_of_each_person(truth, predicted, persons, num_classes) for predicted in (before, after)]
    low, high = (metric(_resample(of_person, RESAMPLES)) for of_person in pair)
    value = metric(pair[1].sum(axis=0)) - metric(pair[0].sum(axis=0))
    return _estimate(value, high - low)


def mean_over_photos(values: Sequence[float], persons: Sequence[str]) -> Estimate:
    """The mean of one number a photo, such as an absolute error."""
    names, rows = np.unique(np.asarray(persons, dtype=str), return_inverse=True)
    of_person = np.zeros((len(names), 2))
    np.add.at(of_person, rows, np.column_stack([values, np.ones(len(rows))]))
    (total, count), resampled = of_person.sum(axis=0), _resample(of_person, RESAMPLES)
    return _estimate(total / count, resampled[:, 0] / resampled[:, 1])


def _resample(of_person: np.ndarray, resamples: int) -> np.ndarray:
    """(resamples, ...) sums over people drawn with replacement, from the (P, ...) share of each.

    For the same number of people always the same draws.
    """
    rng = np.random.default_rng(0)
    times_drawn = rng.multinomial(len(of_person), np.full(len(of_person), 1 / len(of_person)), size=resamples)
    return np.tensordot(times_drawn, of_person, axes=1)


def _estimate(value: float, resampled: np.ndarray) -> Estimate:
    low, high = np.percentile(resampled, (2.5, 97.5))
    return {"value": float(value), "low": float(low), "high": float(high)}


def _confusion_of_each_person(
    truth: Sequence[int], predicted: Sequence[int], persons: Sequence[str], num_classes: int
) -> np.ndarray:
    """(P, C, C) float, persons in sorted order."""
    names, rows = np.unique(np.asarray(persons, dtype=str), return_inverse=True)
    counts = np.zeros((len(names), num_classes, num_classes))
    np.add.at(counts, (rows, np.asarray(truth), np.asarray(predicted)), 1)
    return counts
