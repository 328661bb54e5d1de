"""Macro-F1, accuracy, likelihood and mean errors, with 95% intervals: the percentile bootstrap over people.

People are drawn, not photos, since photos of one person are not independent. Everything is computed from sums over the
photos of each person, such as confusion matrices (..., C, C) of counts with a row for each true class, so that a
thousand bootstrap samples are one matrix product.

A predictions table has one row a photo: image_id, person, truth, predicted, nll (negative log-likelihood of the truth,
in nats) and value_off (absolute error of the task's value, such as years; empty where none was predicted).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from core.cli import UserError

Metric = Callable[[np.ndarray], np.ndarray]
Estimate = dict[str, float]
"""{"value", "low", "high"}: a measure and its 95% interval."""
RESAMPLES = 1000
NEAR_YEARS = 5
"""Errors of an expected value up to this count as near."""


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
    """(...) fraction of right predictions."""
    return np.trace(confusion, axis1=-2, axis2=-1) / confusion.sum(axis=(-2, -1))


METRICS: dict[str, Metric] = {"macro_f1": macro_f1, "accuracy": accuracy}
PREDICTION_COLUMNS = ("image_id", "person", "truth", "predicted", "nll", "value_off")
MEASURES = (*METRICS, "nll", "mae")
LABELS = {"macro_f1": "macro-F1", "accuracy": "accuracy", "nll": "NLL", "mae": "mean error"}
LESS_IS_BETTER = frozenset({"nll", "mae"})


def draw_counts(*sizes: int) -> list[np.ndarray]:
    """For each size n (RESAMPLES, n) int: times each of n units is drawn with replacement. The same at every call."""
    rng = np.random.default_rng(0)
    return [rng.multinomial(size, np.full(size, 1 / size), size=RESAMPLES) for size in sizes]


def percentile_interval(value: float, drawn: np.ndarray) -> Estimate:
    """The 95% percentile interval of a measure from its (RESAMPLES,) values in bootstrap samples."""
    low, high = np.percentile(drawn, (2.5, 97.5))
    return {"value": float(value), "low": float(low), "high": float(high)}


def format_estimate(found: Estimate, digits: int = 4) -> str:
    """'0.6450 (0.6030-0.6830)'."""
    value, low, high = (f"{found[name]:.{digits}f}" for name in ("value", "low", "high"))
    return f"{value} ({low}-{high})"


def format_difference(found: Estimate, digits: int = 4) -> str:
    """'+0.0070 (-0.0050 to +0.0190)'."""
    value, low, high = (f"{found[name]:+.{digits}f}" for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def scores(
    truth: Sequence[int], predicted: Sequence[int], persons: Sequence[str], *, num_classes: int
) -> dict[str, Estimate]:
    """An estimate of every metric, as {"macro_f1": {"value", "low", "high"}, ...}."""
    of_person = _confusion_of_each_person(truth, predicted, persons, num_classes)
    whole, resampled = of_person.sum(axis=0), _resample(of_person)
    return {name: percentile_interval(metric(whole), metric(resampled)) for name, metric in METRICS.items()}


def paired_difference(
    truth: Sequence[int],
    before: Sequence[int],
    after: Sequence[int],
    persons: Sequence[str],
    *,
    num_classes: int,
    metric: Metric = macro_f1,
) -> Estimate:
    """The increase of a metric from the predictions `before` to the predictions `after`.

    Both are scored on the same draws of people, so that what makes a draw easy or hard for both cancels out.
    """
    pair = [_confusion_of_each_person(truth, predicted, persons, num_classes) for predicted in (before, after)]
    low, high = (metric(_resample(of_person)) for of_person in pair)
    value = metric(pair[1].sum(axis=0)) - metric(pair[0].sum(axis=0))
    return percentile_interval(value, high - low)


def mean_over_photos(values: Sequence[float], persons: Sequence[str]) -> Estimate:
    """The mean of one number a photo, such as an absolute error."""
    names, rows = np.unique(np.asarray(persons, dtype=str), return_inverse=True)
    of_person = np.zeros((len(names), 2))
    np.add.at(of_person, rows, np.column_stack([values, np.ones(len(rows))]))
    (total, count), resampled = of_person.sum(axis=0), _resample(of_person)
    return percentile_interval(total / count, resampled[:, 0] / resampled[:, 1])


def _resample(of_person: np.ndarray) -> np.ndarray:
    """(RESAMPLES, ...) sums over people drawn with replacement, from (P, ...) values of P people."""
    (times_drawn,) = draw_counts(len(of_person))
    return np.tensordot(times_drawn, of_person, axes=1)


def _confusion_of_each_person(
    truth: Sequence[int], predicted: Sequence[int], persons: Sequence[str], num_classes: int
) -> np.ndarray:
    """(P, C, C) float, persons in sorted order."""
    names, rows = np.unique(np.asarray(persons, dtype=str), return_inverse=True)
    counts = np.zeros((len(names), num_classes, num_classes))
    np.add.at(counts, (rows, np.asarray(truth), np.asarray(predicted)), 1)
    return counts


@dataclass(frozen=True)
class PeopleSums:
    """Sums (S, P, K) over the photos of P people in S seeds.

    K are the C * C counts of a confusion matrix, then nll, error of the value, and photos that have a value.
    """

    people: tuple[str, ...]
    seeds: tuple[int, ...]
    num_classes: int
    sums: np.ndarray

    def take_seeds(self, seeds: Sequence[int]) -> "PeopleSums":
        rows = [self.seeds.index(seed) for seed in seeds]
        return PeopleSums(self.people, tuple(seeds), self.num_classes, self.sums[rows])

    def measure(self, name: str, totals: np.ndarray) -> np.ndarray:
        """A measure (...) from totals (..., K)."""
        cells = self.num_classes**2
        confusion = totals[..., :cells].reshape(*totals.shape[:-1], self.num_classes, self.num_classes)
        with np.errstate(invalid="ignore"):
            if name == "nll":
                return totals[..., cells] / confusion.sum(axis=(-2, -1))
            if name == "mae":
                return totals[..., cells + 1] / totals[..., cells + 2]
        return METRICS[name](confusion)


def predictions_table(who: Mapping[str, Sequence[str]], truth: Sequence[int], log_probs: np.ndarray) -> pd.DataFrame:
    """A predictions table without values, from image_id and person, label and log-probabilities (N, C) of N photos."""
    nll = -log_probs[np.arange(len(truth)), truth]
    values = {"truth": truth, "predicted": log_probs.argmax(axis=1), "nll": nll, "value_off": np.nan}
    return pd.DataFrame({**who, **values}, columns=list(PREDICTION_COLUMNS))


def sum_people(predictions: Mapping[int, pd.DataFrame], num_classes: int) -> PeopleSums:
    """From the predictions table of each seed; UserError if the seeds did not predict the same people."""
    people = [tuple(sorted(set(frame["person"]))) for frame in predictions.values()]
    if len(set(people)) != 1:
        raise UserError(
            "seeds of one setting have predictions of different people; train them on the same data and folds"
        )
    sums = [_sums_of_seed(frame, people[0], num_classes) for frame in predictions.values()]
    return PeopleSums(people[0], tuple(predictions), num_classes, np.stack(sums))


def _sums_of_seed(frame: pd.DataFrame, people: tuple[str, ...], num_classes: int) -> np.ndarray:
    """(P, K)"""
    cells = num_classes**2
    values = np.zeros((len(frame), cells + 3))
    cell = frame["truth"].to_numpy() * num_classes + frame["predicted"].to_numpy()
    values[np.arange(len(frame)), cell] = 1
    values[:, cells] = frame["nll"]
    values[:, cells + 1] = frame["value_off"].fillna(0)
    values[:, cells + 2] = frame["value_off"].notna()
    sums = np.zeros((len(people), cells + 3))
    np.add.at(sums, np.searchsorted(people, frame["person"].to_numpy(dtype=str)), values)
    return sums


def is_known(found: Estimate) -> bool:
    return not math.isnan(found["value"])


def estimate(sample: PeopleSums, name: str) -> Estimate:
    """Mean over the seeds, NaN where the measure does not exist. Every bootstrap sample draws people and seeds anew."""
    return percentile_interval(*_means(sample, name))


def difference(sample: PeopleSums, baseline: PeopleSums, name: str) -> Estimate | None:
    """The increase of a measure from `baseline` to `sample`: the same people and seeds are drawn for both.

    None where they share no seed, or are not of the same people: then nothing can be paired.
    """
    shared = [seed for seed in sample.seeds if seed in baseline.seeds]
    if not shared or sample.people != baseline.people:
        return None
    mine, mine_drawn = _means(sample.take_seeds(shared), name)
    other, other_drawn = _means(baseline.take_seeds(shared), name)
    return percentile_interval(mine - other, mine_drawn - other_drawn)


def _means(sample: PeopleSums, name: str) -> tuple[float, np.ndarray]:
    """The mean of a measure over seeds, and (RESAMPLES,) that of every bootstrap sample."""
    seeds, people, _ = sample.sums.shape
    people_drawn, seeds_drawn = draw_counts(people, seeds)
    totals = np.einsum("rp,spk->rsk", people_drawn.astype(float), sample.sums, optimize=True)
    value = sample.measure(name, sample.sums.sum(axis=1)).mean()
    return float(value), (sample.measure(name, totals) * (seeds_drawn / seeds)).sum(axis=1)


@dataclass(frozen=True)
class ValueErrors:
    """Errors of expected values: mean absolute error, fraction within NEAR_YEARS, and mean signed error."""

    photos: int
    mean_absolute: float
    near: float
    bias: float


def count_errors(true: np.ndarray, expected: np.ndarray) -> ValueErrors:
    """Compare true and expected values, both (N,) float."""
    signed, size = expected - true, np.abs(expected - true)
    return ValueErrors(len(signed), float(size.mean()), float((size <= NEAR_YEARS).mean()), float(signed.mean()))
