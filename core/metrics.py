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


def scores(
    truth: Sequence[int], predicted: Sequence[int], persons: Sequence[str], *, num_classes: int, resamples: int = 1000
) -> dict[str, dict[str, float]]:
    """Value and 95% interval of every metric, as {"macro_f1": {"value", "low", "high"}, ...}.

    The interval is the percentile bootstrap over people, since photos of one person are not independent.
    """
    of_person = _confusion_of_each_person(truth, predicted, persons, num_classes)
    rng = np.random.default_rng(0)
    times_drawn = rng.multinomial(len(of_person), np.full(len(of_person), 1 / len(of_person)), size=resamples)
    resampled = np.tensordot(times_drawn, of_person, axes=1)  # (resamples, C, C)
    summary = {}
    for name, metric in METRICS.items():
        low, high = np.percentile(metric(resampled), (2.5, 97.5))
        summary[name] = {"value": float(metric(of_person.sum(axis=0))), "low": float(low), "high": float(high)}
    return summary


def _confusion_of_each_person(
    truth: Sequence[int], predicted: Sequence[int], persons: Sequence[str], num_classes: int
) -> np.ndarray:
    """(P, C, C) float, persons in sorted order."""
    names, rows = np.unique(np.asarray(persons, dtype=str), return_inverse=True)
    counts = np.zeros((len(names), num_classes, num_classes))
    np.add.at(counts, (rows, np.asarray(truth), np.asarray(predicted)), 1)
    return counts
