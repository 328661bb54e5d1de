"""Solve the ridge head of a frozen backbone on the features of a fold's training photos.

Features are the mean of the plain and the mirrored view, standardised, and those of networks side by side weighted so
that each network's have the same total variance: few features count as much as many. The penalty and the variance of
the predicted codes are those of people left out, one at a time: for ridge regression their errors follow from a single
solution (Allen 1974, doi:10.1080/00401706.1974.10489157, for groups of rows), so nothing is trained twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from backbones.ridge_head import RidgeHead
from model import add_ridge_head
from training.config import Config
from training.feature_cache import MIRRORED, PLAIN, FeatureCache
from training.heads import Head

PENALTIES = (1.0, 3.0, 10.0)
"""Tried penalties, in units of the mean squared length of a photo's features."""
LEAST_SPREAD = 0.01
"""Added to the standard deviation of each feature, as a fraction of their mean: constant features stay small."""
LEAST_VARIANCE = 1e-4
"""Least variance of the predicted codes, as a fraction of that of all codes: flawless predictions have none."""
TINY = 1e-12
MOST_LEFT_OUT = 3000
"""Photos whose errors are computed where there are more photos than features; people are taken evenly."""


@dataclass(frozen=True)
class Solution:
    """Weights (F + 1, D) of the standardised features and a constant, and errors (M, D) of people left out."""

    weights: Tensor
    errors: Tensor

    @property
    def error(self) -> float:
        """Mean squared length of the errors."""
        return float(self.errors.square().sum(dim=1).mean())


def has_ridge_head(config: Config) -> bool:
    """Return whether these settings blend a ridge head with the learned one."""
    return config.backbone_lr == 0 and config.ridge_share > 0


def with_ridge_head(network: nn.Module, config: Config, head: Head) -> nn.Module:
    """Return the network, with an unsolved ridge head if these settings have one."""
    if has_ridge_head(config):
        code_size = head.codes.shape[1]
        add_ridge_head(network, outputs=head.outputs, code_size=code_size, share=config.ridge_share)
    return network


def mean_features(cache: FeatureCache, image_ids: Sequence[str]) -> Tensor:
    """Return the mean features (N, F) of the plain and the mirrored crops."""
    return torch.cat([views.mean(dim=0) for views in cache.batches(cache.rows(image_ids), (PLAIN, MIRRORED))])


@torch.no_grad()
def solve_ridge(
    head: RidgeHead,
    features: Tensor,
    codes: Tensor,
    targets: Tensor,
    persons: Sequence[str],
    *,
    blocks: Sequence[int] | None = None,
) -> None:
    """Fill in the head from features (N, F), the outputs' codes (K, D), the photos' codes (N, D), and their people.

    `blocks` are the numbers of features of each network; by default all are of one.
    """
    parts = features.split(list(blocks or features.shape[1:]), dim=1)
    mean, scale = features.mean(dim=0), torch.cat([_scale(part) for part in parts])
    rows = (features - mean) * scale
    length = rows.square().sum(dim=1).mean().sqrt() + TINY
    rows = torch.cat([rows / length, torch.ones(len(rows), 1)], dim=1)
    middle = codes.double().mean(dim=0)
    distances, wanted = codes.double() - middle, targets.double() - middle
    found = best_solution(rows, wanted, people_rows(persons))
    # Codes of C classes, which add up to 1, have C - 1 dimensions.
    dimensions = int(torch.linalg.matrix_rank(distances))
    least = LEAST_VARIANCE * float(wanted.square().sum(dim=1).mean())
    variance = max(found.error, least) / dimensions
    constant = found.weights[-1] / variance
    head.mean.copy_(mean)
    head.weight.copy_(found.weights[:-1].T / variance * (scale / length))
    head.codes.copy_(distances)
    head.cost.copy_(distances.square().sum(dim=1) / (2 * variance) - distances @ constant)


def _scale(features: Tensor) -> Tensor:
    """Return factors (F,) that standardise the features (N, F) of a network, for a total variance of at most 1."""
    spread = features.std(dim=0, correction=0)
    scale = 1 / (spread + LEAST_SPREAD * spread.mean() + TINY)
    return scale / ((spread * scale).square().sum().sqrt() + TINY)


def people_rows(persons: Sequence[str]) -> list[Tensor]:
    """Return the rows of each person, in sorted order of the names."""
    _, person_of_row, photos = np.unique(np.asarray(persons, dtype=str), return_inverse=True, return_counts=True)
    order = np.argsort(person_of_row, kind="stable")
    return [torch.from_numpy(rows) for rows in np.split(order, np.cumsum(photos)[:-1])]


def best_solution(rows: Tensor, wanted: Tensor, groups: Sequence[Tensor]) -> Solution:
    """Return the solution with the penalty of the least error, for rows (N, F) float32 and codes (N, D) float64."""
    solve = _dual if rows.shape[0] <= rows.shape[1] else _primal
    products = (rows @ rows.T if solve is _dual else rows.T @ rows).double()
    tried = []
    for penalty in PENALTIES:
        penalised = products + penalty * torch.eye(len(products), dtype=torch.float64)
        tried.append(solve(rows, wanted, groups, torch.cholesky_inverse(torch.linalg.cholesky(penalised))))
    return min(tried, key=lambda one: one.error)


def _dual(rows: Tensor, wanted: Tensor, groups: Sequence[Tensor], inverse: Tensor) -> Solution:
    """Solve by the inverse (N, N) of the penalised products of rows."""
    dual = inverse @ wanted
    errors = [torch.linalg.solve(inverse[group][:, group], dual[group]) for group in groups]
    return Solution(rows.double().T @ dual, torch.cat(errors))


def _primal(rows: Tensor, wanted: Tensor, groups: Sequence[Tensor], inverse: Tensor) -> Solution:
    """Solve by the inverse (F, F) of the penalised products of columns, which is the smaller one for many photos."""
    weights = inverse @ (rows.T @ wanted.float()).double()
    errors = []
    for group in groups[:: -(-len(rows) // MOST_LEFT_OUT)]:
        part = rows[group].double()
        inside = torch.eye(len(part), dtype=torch.float64) - part @ inverse @ part.T
        errors.append(torch.linalg.solve(inside, wanted[group] - part @ weights))
    return Solution(weights, torch.cat(errors))
