"""The ridge head: solved exactly, judged by people left out, blended only in prediction."""

import pytest
import torch
from torch import Tensor, nn

from backbones.ridge_head import BlendedHead, RidgeHead
from core.cli import UserError
from core.tasks import task_named
from training import ridge
from training.config import from_dict, resolve
from training.heads import build_head
from training.ridge import best_solution, people_rows, solve_ridge

PENALTY = 3.0
AGE = build_head("values", task_named("age"), (25, 40))


@pytest.fixture(autouse=True)
def one_penalty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ridge, "PENALTIES", (PENALTY,))


def toy(photos: int, features: int) -> tuple[Tensor, Tensor, list[str]]:
    """Return rows (N, F), targets (N, 1), and three photos of each person, not beside one another."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(photos, features, generator=generator)
    targets = rows[:, :1].double() + torch.randn(photos, 1, generator=generator)
    return rows, targets, [f"p{number % (photos // 3)}" for number in range(photos)]


def refit(rows: Tensor, targets: Tensor) -> Tensor:
    """Ridge regression as in the books: weights (F, D)."""
    wide = rows.double()
    return torch.linalg.solve(wide.T @ wide + PENALTY * torch.eye(wide.shape[1]), wide.T @ targets)


@pytest.mark.parametrize(("photos", "features"), [(30, 50), (60, 20)], ids=["dual", "primal"])
def test_errors_are_those_of_a_person_left_out(photos: int, features: int) -> None:
    rows, targets, persons = toy(photos, features)
    groups = people_rows(persons)
    found = best_solution(rows, targets, groups)
    torch.testing.assert_close(found.weights, refit(rows, targets), atol=1e-4, rtol=0)
    first = 0
    for group in groups:
        others = torch.ones(photos, dtype=torch.bool)
        others[group] = False
        expected = targets[group] - rows[group].double() @ refit(rows[others], targets[others])
        torch.testing.assert_close(found.errors[first : first + len(group)], expected, atol=1e-4, rtol=0)
        first += len(group)


def test_the_penalty_is_that_of_the_least_error(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, targets, persons = toy(30, 50)
    errors = {}
    for penalty in (0.1, 10.0, 1000.0):
        monkeypatch.setattr(ridge, "PENALTIES", (penalty,))
        errors[penalty] = best_solution(rows, targets, people_rows(persons)).error
    monkeypatch.setattr(ridge, "PENALTIES", tuple(errors))
    assert best_solution(rows, targets, people_rows(persons)).error == min(errors.values())


def test_logits_of_years_are_a_bell_around_the_predicted_year() -> None:
    rows, targets, persons = toy(60, 20)
    years = 40 + 5 * targets.float()
    head = RidgeHead(20, AGE.outputs, 1)
    solve_ridge(head, rows, AGE.codes, AGE.codes_of(years[:, 0]), persons)
    log_probs = head(rows).log_softmax(dim=1)
    expected = log_probs.exp() @ AGE.bins
    # Second differences of a Gaussian's logarithm: minus one over its variance, everywhere.
    bends = log_probs.diff(dim=1).diff(dim=1)
    assert float(bends.max() - bends.min()) < 1e-3
    deviation = float((-1 / bends.mean()).sqrt())
    errors = expected - years[:, 0]
    assert deviation == pytest.approx(float(errors.square().mean().sqrt()), rel=0.6)
    assert float(torch.corrcoef(torch.stack([expected, years[:, 0]]))[0, 1]) > 0.8


@pytest.mark.parametrize("classes", [2, 3])
def test_classes_are_told_apart(classes: int) -> None:
    rows, _, persons = toy(90, 20)
    labels = torch.bucketize(rows[:, 0], torch.tensor([-0.5, 0.5][: classes - 1]))
    head = RidgeHead(20, classes, classes)
    solve_ridge(head, 100 + rows, torch.eye(classes), torch.eye(classes)[labels], persons)
    assert float((head(100 + rows).argmax(dim=1) == labels).float().mean()) > 0.8


def test_a_constant_feature_and_features_without_meaning_give_finite_logits() -> None:
    head = RidgeHead(4, 2, 2)
    solve_ridge(head, torch.ones(6, 4), torch.eye(2), torch.eye(2)[torch.tensor([0, 1] * 3)], list("aabbcc"))
    assert head(torch.ones(1, 4)).isfinite().all()


def test_a_network_of_few_features_counts_as_much_as_one_of_many() -> None:
    """The class shows in one feature, beside 400 of noise: it is found if it is a network of its own."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(60) % 2
    told = labels[:, None] + 0.5 * torch.randn(60, 1, generator=generator)
    features = torch.cat([torch.randn(60, 400, generator=generator), told], dim=1)
    codes, persons = (torch.eye(2), torch.eye(2)[labels]), [str(number // 2) for number in range(60)]
    apart = {}
    for blocks in (None, [400, 1]):
        head = RidgeHead(401, 2, 2)
        solve_ridge(head, features, *codes, persons, blocks=blocks)
        weights = head.weight[1] * features.std(dim=0)
        apart[str(blocks)] = float(weights[-1].abs() / weights.norm())
    assert apart["None"] < 0.3
    assert apart["[400, 1]"] > 0.8


def test_blended_in_prediction_alone() -> None:
    learned, ridge_head = nn.Linear(4, 3), RidgeHead(4, 3, 3)
    torch.nn.init.normal_(ridge_head.weight)
    ridge_head.codes.copy_(torch.eye(3))
    blended, features = BlendedHead(learned, ridge_head, 0.25), torch.randn(5, 4)
    assert torch.equal(blended.train()(features), learned(features))
    parts = learned(features).log_softmax(dim=1), ridge_head(features).log_softmax(dim=1)
    torch.testing.assert_close(blended.eval()(features), 0.75 * parts[0] + 0.25 * parts[1])


@pytest.mark.parametrize(
    ("typed", "share"),
    [({"backbone": "face_pair"}, 0.3), ({"backbone": "face_pair", "ridge_share": 0.0}, 0.0), ({}, 0.0),
     ({"backbone": "resnet18", "backbone_lr": 0.0}, 0.3), ({"backbone": "face_pair", "backbone_lr": 0.1}, 0.0)],
)  # fmt: skip
def test_a_frozen_backbone_brings_it(typed: dict, share: float) -> None:
    assert resolve("mask", "quick", typed).ridge_share == share


def test_folds_of_before_have_none() -> None:
    assert from_dict({"backbone": "face_pair", "backbone_lr": 0.0}).ridge_share == 0


def test_a_share_beyond_1_is_refused() -> None:
    with pytest.raises(UserError, match=r"--ridge-share 1\.5: allowed is 0 to 1"):
        resolve("age", "quick", {"ridge_share": 1.5})
