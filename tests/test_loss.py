"""Losses by hand and against torch, on a CPU alone."""

from math import log

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from core.cli import UserError
from loss import LOSSES, SoftF1Loss, balanced_weights, build_loss

WEIGHTS = torch.tensor([0.1, 0.1, 0.8])


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(16, 3, generator=generator) * 3, torch.randint(3, (16,), generator=generator)


def logits_of(*probs: tuple[float, ...]) -> Tensor:
    return torch.tensor(probs, dtype=torch.float64).log()


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy_is_torchs(batch: tuple[Tensor, Tensor], weights: Tensor | None) -> None:
    found = build_loss("cross_entropy", class_weights=weights, label_smoothing=0.3)(*batch)
    torch.testing.assert_close(found, functional.cross_entropy(*batch, weight=weights))


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_label_smoothing_is_torchs(batch: tuple[Tensor, Tensor], weights: Tensor | None) -> None:
    found = build_loss("label_smoothing", class_weights=weights, label_smoothing=0.3)(*batch)
    torch.testing.assert_close(found, functional.cross_entropy(*batch, weight=weights, label_smoothing=0.3))


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_focal_without_gamma_is_cross_entropy(batch: tuple[Tensor, Tensor], weights: Tensor | None) -> None:
    found = build_loss("focal", class_weights=weights, focal_gamma=0.0)(*batch)
    torch.testing.assert_close(found, functional.cross_entropy(*batch, weight=weights))


def test_focal_by_hand() -> None:
    logits, target = logits_of((0.5, 0.25, 0.25), (0.1, 0.1, 0.8)), torch.tensor([0, 2])
    easy, easier = 0.5**2 * log(2), 0.2**2 * -log(0.8)
    assert build_loss("focal", focal_gamma=2.0)(logits, target).item() == pytest.approx((easy + easier) / 2)
    weighted = build_loss("focal", class_weights=WEIGHTS.double(), focal_gamma=2.0)(logits, target).item()
    assert weighted == pytest.approx((0.1 * easy + 0.8 * easier) / 0.9)


def test_soft_f1_by_hand() -> None:
    logits, target = logits_of((0.75, 0.25), (0.5, 0.5), (0.25, 0.75)), torch.tensor([0, 0, 1])
    f1 = (2 * (0.75 + 0.5) / (2 + 1.5), 2 * 0.75 / (1 + 1.5))
    assert build_loss("f1")(logits, target).item() == pytest.approx(1 - sum(f1) / 2, abs=1e-6)
    weighted = build_loss("f1", class_weights=torch.tensor([3.0, 1.0]).double())(logits, target).item()
    assert weighted == pytest.approx(1 - (3 * f1[0] + f1[1]) / 4, abs=1e-6)


def test_soft_f1_of_certain_answers_is_one_minus_macro_f1() -> None:
    target = torch.tensor([0, 0, 1, 2, 2, 2])
    answers = functional.one_hot(torch.tensor([0, 1, 1, 2, 2, 0]), 3) * 200.0
    expected = (2 * 1 / (2 + 2) + 2 * 1 / (1 + 2) + 2 * 2 / (3 + 2)) / 3
    assert build_loss("f1")(answers, target).item() == pytest.approx(1 - expected, abs=1e-6)


def test_soft_f1_of_a_class_that_is_nowhere_counts_as_found() -> None:
    sure = torch.tensor([[200.0, 0.0, 0.0]])
    assert SoftF1Loss()(sure, torch.tensor([0])).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("name", [loss.name for loss in LOSSES])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("size", [1e2, 1e4])
def test_extreme_logits_keep_gradients_finite(name: str, gamma: float, size: float) -> None:
    logits = torch.tensor([[size, 0.0, -size], [-size, size, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    loss = build_loss(name, class_weights=WEIGHTS, focal_gamma=gamma)(logits, torch.tensor([0, 0, 2]))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", [loss.name for loss in LOSSES])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_every_loss_is_learnable(batch: tuple[Tensor, Tensor], name: str, weights: Tensor | None) -> None:
    logits, target = batch[0].clone().requires_grad_(), batch[1]
    criterion = build_loss(name, class_weights=weights)
    before = criterion(logits, target)
    before.backward()
    assert before.shape == ()
    assert criterion(logits.detach() - 0.1 * logits.grad, target) < before


@pytest.mark.parametrize("name", [loss.name for loss in LOSSES])
def test_weights_move_with_the_module(name: str) -> None:
    criterion = build_loss(name, class_weights=WEIGHTS)
    assert {buffer.device.type for buffer in criterion.buffers()} == {"cpu"}
    assert {buffer.device.type for buffer in criterion.to("meta").buffers()} == {"meta"}


def test_unknown_loss() -> None:
    with pytest.raises(UserError, match=r"--loss 'mse' is unknown; the losses are cross_entropy, label_smoothing, foc"):
        build_loss("mse")


def test_balanced_weights() -> None:
    weights = balanced_weights([10, 30, 60])
    assert weights.tolist() == pytest.approx([100 / 30, 100 / 90, 100 / 180])
    assert sum(weights[label] * count for label, count in enumerate([10, 30, 60])) / 100 == pytest.approx(1)
    assert balanced_weights([5, 5]).tolist() == [1, 1]
