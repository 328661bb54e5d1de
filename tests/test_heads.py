"""Heads: what a network's outputs mean, and the loss over values."""

from collections.abc import Callable, Sequence
from math import exp, log

import pytest
import torch

from core.cli import UserError
from core.tasks import Task, Value, age_group, task_named
from loss import CrossEntropyLoss, ValueLoss
from storage.crops import Crops
from training.heads import HEADS, build_head

MakeCrops = Callable[[Sequence[dict[str, str]]], Crops]
EDGES = (2, 4)
SMALL = Task(
    "size",
    ("small", "medium", "large"),
    lambda facts, edges: age_group(int(facts["age"]), edges),
    value=Value("units", lambda facts: int(facts["age"]), age_group, low=0, high=5),
)


def test_a_class_head_is_the_classes() -> None:
    head = build_head("classes", task_named("gender"), EDGES)
    outputs = torch.randn(4, 2)
    assert head.outputs == 2
    assert head.bins is None
    assert head.values(outputs) is None
    assert torch.equal(head.class_logits(outputs), outputs)


def test_labels_are_the_targets_of_classes(toy_crops: MakeCrops) -> None:
    targets = build_head("classes", SMALL, EDGES).targets(toy_crops([{"age": "3"}, {"age": "0"}]), [1, 0])
    assert (targets.dtype, targets.tolist()) == (torch.int64, [1, 0])


def test_values_are_the_targets_of_a_value_head(toy_crops: MakeCrops) -> None:
    crops = toy_crops([{"age": "3"}, {"age": "0"}, {"age": "99"}])
    targets = build_head("values", SMALL, EDGES).targets(crops, [1, 0, 2])
    assert (targets.dtype, targets.tolist()) == (torch.float32, [3.0, 0.0, 5.0])


def test_classes_are_sums_of_values() -> None:
    head = build_head("values", SMALL, EDGES)
    probs = torch.tensor([[0.1, 0.2, 0.3, 0.1, 0.05, 0.25]])
    assert head.outputs == 6
    assert head.class_of_bin.tolist() == [0, 0, 1, 1, 2, 2]
    torch.testing.assert_close(head.class_logits(probs.log()).softmax(1), torch.tensor([[0.3, 0.4, 0.3]]))
    expected = 0.2 + 0.6 + 0.3 + 0.2 + 1.25
    assert head.values(probs.log() + 7).item() == pytest.approx(expected)


def test_age_has_a_bin_for_every_year() -> None:
    head = build_head("values", task_named("age"), (25, 40))
    assert head.outputs == 101
    assert head.class_of_bin.bincount().tolist() == [25, 15, 61]


def test_heads_that_are_not_there() -> None:
    with pytest.raises(UserError, match=f"--head 'sharp' is unknown; the heads are {', '.join(HEADS)}"):
        build_head("sharp", SMALL, EDGES)
    with pytest.raises(UserError, match="--head values: task mask has no values, only classes; allowed is classes"):
        build_head("values", task_named("mask"), EDGES)


def value_loss(sigma: float, class_share: float) -> ValueLoss:
    head = build_head("values", SMALL, EDGES)
    options = {"class_loss": CrossEntropyLoss(), "sigma": sigma, "class_share": class_share}
    return ValueLoss(head.bins, head.class_of_bin, head.class_logits, **options)


def test_the_target_is_a_normal_distribution() -> None:
    weights = [exp(-((value - 1) ** 2) / (2 * 1.5**2)) for value in range(6)]
    logits = torch.randn(1, 6, generator=torch.Generator().manual_seed(0))
    log_probs = logits.log_softmax(1)[0].tolist()
    expected = -sum(weight / sum(weights) * log_prob for weight, log_prob in zip(weights, log_probs, strict=True))
    assert value_loss(1.5, 0.0)(logits, torch.tensor([1.0])).item() == pytest.approx(expected, rel=1e-5)


def test_the_class_share_is_the_loss_of_the_summed_probabilities() -> None:
    logits = torch.tensor([[0.1, 0.2, 0.3, 0.1, 0.05, 0.25]]).log()
    assert value_loss(1.0, 1.0)(logits, torch.tensor([3.0])).item() == pytest.approx(-log(0.4), rel=1e-5)
    parts = [value_loss(1.0, share)(logits, torch.tensor([3.0])).item() for share in (0.0, 0.25, 1.0)]
    assert parts[1] == pytest.approx(0.75 * parts[0] + 0.25 * parts[2], rel=1e-5)
