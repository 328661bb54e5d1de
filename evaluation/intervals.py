"""Metrics of predictions with their 95% intervals over people and seeds, and paired differences of two settings.

A predictions table has one row a photo: image_id, person, truth, predicted, nll (negative log-likelihood of the truth,
in nats) and value_off (absolute error of the task's value, such as years; empty where none was predicted). Each person
is summed up once, so that a thousand bootstrap samples are one matrix product.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from core.cli import UserError
from evaluation.metrics import METRICS, RESAMPLES, Estimate

PREDICTION_COLUMNS = ("image_id", "person", "truth", "predicted", "nll", "value_off")
MEASURES = (*METRICS, "nll", "mae")
LABELS = {"macro_f1": "macro-F1", "accuracy": "accuracy", "nll": "NLL", "mae": "mean error"}
LESS_IS_BETTER = frozenset({"nll", "mae"})


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
    """Without values, from image_id and person of each photo, its label, and its log-probabilities (N, C)."""
    nll = -log_probs[np.arange(len(truth)), truth]
    values = {"truth": truth, "predicted": log_probs.argmax(axis=1), "nll": nll, "value_off": np.nan}
    return pd.DataFrame({**who, **values}, columns=list(PREDICTION_COLUMNS))


def sum_people(predictions: dict[int, pd.DataFrame], num_classes: int) -> PeopleSums:
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
    return _percentiles(*_means(sample, name))


def difference(sample: PeopleSums, baseline: PeopleSums, name: str) -> Estimate | None:
    """How much more `sample` has than `baseline`: the same people and seeds are drawn for both.

    None where they share no seed, or are not of the same people: then nothing can be paired.
    """
    shared = [seed for seed in sample.seeds if seed in baseline.seeds]
    if not shared or sample.people != baseline.people:
        return None
    mine, mine_drawn = _means(sample.take_seeds(shared), name)
    other, other_drawn = _means(baseline.take_seeds(shared), name)
    return _percentiles(mine - other, mine_drawn - other_drawn)


def _means(sample: PeopleSums, name: str) -> tuple[float, np.ndarray]:
    """The mean over seeds, and (RESAMPLES,) that of every bootstrap sample; the draws are always the same ones."""
    seeds, people, _ = sample.sums.shape
    rng = np.random.default_rng(0)
    people_drawn = rng.multinomial(people, np.full(people, 1 / people), size=RESAMPLES)  # (R, P)
    seeds_drawn = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES) / seeds  # (R, S)
    totals = np.einsum("rp,spk->rsk", people_drawn.astype(float), sample.sums, optimize=True)
    value = sample.measure(name, sample.sums.sum(axis=1)).mean()
    return float(value), (sample.measure(name, totals) * seeds_drawn).sum(axis=1)


def _percentiles(value: float, drawn: np.ndarray) -> Estimate:
    low, high = np.percentile(drawn, (2.5, 97.5))
    return {"value": value, "low": float(low), "high": float(high)}
