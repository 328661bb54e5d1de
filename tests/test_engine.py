"""The loops over batches, on networks of a few numbers."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from core.cli import Bar, progress
from training.device import Precision, to_device
from training.engine import Mixup, Trainer, predict, steps_per_epoch, warmup_cosine

CPU = Precision(torch.device("cpu"), enabled=True)
Batch = tuple[Tensor, Tensor, Tensor]


@pytest.fixture
def bar() -> Bar:
    return progress(None, title="", shown=False)


def data(photos: int = 12) -> tuple[Tensor, Tensor]:
    """Pictures (N, 4, 4, 3) of 0 to 2, so that gradients stay small, and labels."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(3, (photos, 4, 4, 3), generator=generator, dtype=torch.uint8)
    return pictures, torch.randint(3, (photos,), generator=generator)


def as_fed(pictures: Tensor) -> Tensor:
    return to_device(pictures, CPU.device, channels_last=False)


def batches_of(images: Tensor, labels: Tensor, size: int) -> list[Batch]:
    parts = torch.arange(len(images)).split(size)
    return [(images[part], labels[part], part) for part in parts]


def linear_model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 3))


def train(
    model: nn.Module, batches: Sequence[Batch], rates: Sequence[float] = (0.1,) * 99, **options: object
) -> tuple[float, list[float]]:
    """Mean loss of one epoch of plain gradient descent, and the learning rates that were asked for."""
    asked: list[float] = []

    def learning_rate(step: int) -> float:
        asked.append(rates[step])
        return rates[step]

    optimizer = torch.optim.SGD(model.parameters(), lr=123.0)
    trainer = Trainer(model, nn.CrossEntropyLoss(), optimizer, learning_rate, CPU, channels_last=False, **options)
    result = trainer.train_one_epoch(batches, first_step=0, bar=progress(None, title="", shown=False))
    assert result.images_per_second == pytest.approx(sum(len(batch[1]) for batch in batches) / result.seconds)
    return result.loss, asked


def test_warmup_cosine() -> None:
    rates = [warmup_cosine(step, total=110, warmup=0.1, peak=2.0) for step in range(110)]
    assert rates[0] == pytest.approx(2 / 11)
    assert rates[10] == rates[11] == 2.0
    assert rates[11 + 33] == pytest.approx(2 * 0.75)
    assert rates[11 + 66] == pytest.approx(2 * 0.25)
    assert 0 < rates[-1] < 0.001 * 2
    assert rates[:11] == sorted(rates[:11])
    assert rates[11:] == sorted(rates[11:], reverse=True)


@pytest.mark.parametrize(("total", "warmup"), [(1, 0.0), (1, 1.0), (2, 0.1), (10, 0.0), (10, 1.0)])
def test_warmup_cosine_of_short_trainings(total: int, warmup: float) -> None:
    rates = [warmup_cosine(step, total=total, warmup=warmup, peak=1.0) for step in range(total)]
    assert max(rates) == 1.0
    assert all(0 < rate <= 1 for rate in rates)


@pytest.mark.parametrize(("batches", "accumulate", "expected"), [(10, 1, 10), (10, 4, 3), (8, 4, 2), (1, 4, 1)])
def test_steps_per_epoch(batches: int, accumulate: int, expected: int) -> None:
    assert steps_per_epoch(batches, accumulate) == expected


@pytest.mark.parametrize("accumulate", [2, 3, 4])
def test_accumulation_equals_a_big_batch(accumulate: int) -> None:
    small, big = linear_model(), linear_model()
    of_small, _ = train(small, batches_of(*data(), 12 // accumulate), accumulate=accumulate)
    of_big, _ = train(big, batches_of(*data(), 12))
    assert of_small == pytest.approx(of_big)
    torch.testing.assert_close(small[1].weight, big[1].weight)


def test_batches_left_over_at_the_end_move_the_weights_too() -> None:
    model, twice = linear_model(), linear_model()
    _, asked = train(model, batches_of(*data(12), 4), accumulate=2)
    assert len(asked) == 2
    images, labels = data(12)
    train(twice, batches_of(images[:8], labels[:8], 8))
    train(twice, batches_of(images[8:], labels[8:], 4))
    torch.testing.assert_close(model[1].weight, twice[1].weight)


def test_the_learning_rate_of_each_step_is_used() -> None:
    model = linear_model()
    before = model[1].weight.clone()
    _, asked = train(model, batches_of(*data(), 4), rates=[0.0, 0.0, 0.0])
    assert asked == [0.0, 0.0, 0.0]
    assert torch.equal(model[1].weight, before)


def test_a_group_has_its_share_of_the_learning_rate(bar: Bar) -> None:
    model, (pictures, labels) = linear_model(), data()
    layer = model[1]
    nn.functional.cross_entropy(model(as_fed(pictures)), labels).backward()
    expected = layer.weight.detach() - 0.05 * layer.weight.grad, layer.bias.detach() - 0.1 * layer.bias.grad
    optimizer = torch.optim.SGD([{"params": [layer.weight], "lr_scale": 0.5}, {"params": [layer.bias]}], lr=123.0)
    trainer = Trainer(model, nn.CrossEntropyLoss(), optimizer, lambda _: 0.1, CPU, channels_last=False)
    trainer.train_one_epoch(batches_of(pictures, labels, 12), first_step=0, bar=bar)
    torch.testing.assert_close((layer.weight.detach(), layer.bias.detach()), expected)


def test_a_small_last_batch_counts_by_its_photos() -> None:
    images, labels = data(5)
    model = linear_model()
    expected = nn.functional.cross_entropy(model(as_fed(images)), labels).item()
    loss, _ = train(model, batches_of(images, labels, 4), rates=[0.0, 0.0])
    assert loss == pytest.approx(expected)


@pytest.mark.parametrize("photos", [39, 40, 41])
def test_the_loss_is_the_mean_over_all_steps_however_often_it_is_read(photos: int) -> None:
    images, labels = data(photos)
    model = linear_model()
    with torch.no_grad():
        expected = nn.functional.cross_entropy(model(as_fed(images)), labels).item()
    found, _ = train(model, batches_of(images, labels, 1), rates=(0.0,) * photos)
    assert found == pytest.approx(expected)


def test_gradients_are_clipped() -> None:
    images, labels = data()
    free, clipped = linear_model(), linear_model()
    train(free, batches_of(images * 100, labels, 12), rates=[1.0])
    train(clipped, batches_of(images * 100, labels, 12), rates=[1.0], grad_clip=0.5)
    start = linear_model()
    moved = [
        torch.cat(
            [(one - two).flatten() for one, two in zip(model.parameters(), start.parameters(), strict=True)]
        ).norm()
        for model in (free, clipped)
    ]
    assert moved[0] > 5
    assert moved[1].item() == pytest.approx(0.5, rel=1e-3)


def test_mixup_of_nothing_is_the_plain_loss() -> None:
    pictures, labels = data()
    model = linear_model()
    expected = nn.functional.cross_entropy(model(as_fed(pictures)), labels)
    assert Mixup(0).loss(model, nn.CrossEntropyLoss(), as_fed(pictures), labels) == expected


def test_mixup_blends_photos_and_losses_by_the_same_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.engine.np.random.beta", lambda a, b: 0.75)
    monkeypatch.setattr("training.engine.torch.randperm", lambda count, device: torch.tensor([1, 0]))
    images, targets = torch.tensor([[0.0, 100.0], [40.0, 20.0]]), torch.tensor([0, 1])
    blended = torch.tensor([[10.0, 80.0], [30.0, 40.0]])
    criterion = nn.CrossEntropyLoss()
    expected = 0.75 * criterion(blended, targets) + 0.25 * criterion(blended, targets.flip(0))
    torch.testing.assert_close(Mixup(1.0).loss(nn.Identity(), criterion, images, targets), expected)


def test_pictures_go_to_the_network_as_they_are() -> None:
    pictures, _ = data(2)
    for channels_last in (False, True):
        fed = to_device(pictures, CPU.device, channels_last=channels_last)
        assert (fed.dtype, tuple(fed.shape)) == (torch.float32, (2, 3, 4, 4))
        assert torch.equal(fed.permute(0, 2, 3, 1).to(torch.uint8), pictures)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        assert fed.is_contiguous(memory_format=layout)


def test_the_loss_of_a_diverged_epoch_is_not_finite() -> None:
    model = linear_model()
    nn.init.constant_(model[1].weight, torch.nan)
    assert math.isnan(train(model, batches_of(*data(), 4))[0])


def test_training_turns_training_mode_on_and_prediction_off(bar: Bar) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(48, 3))
    batches = batches_of(*data(), 4)
    first = predict(model, batches, precision=CPU, channels_last=False, bar=bar)
    assert not model.training
    assert torch.equal(predict(model, batches, precision=CPU, channels_last=False, bar=bar), first)
    train(model, batches)
    assert model.training


def test_predictions_are_in_the_order_of_the_indices(bar: Bar) -> None:
    images, labels = data(11)
    model = linear_model()
    in_order = predict(model, batches_of(images, labels, 4), precision=CPU, channels_last=False, bar=bar)
    order = torch.randperm(11, generator=torch.Generator().manual_seed(1))
    shuffled = [(images[part], labels[part], part) for part in order.split(3)]
    found = predict(model, shuffled, precision=CPU, channels_last=False, bar=bar)
    assert found.shape == (11, 3)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, in_order)
    torch.testing.assert_close(in_order, model(as_fed(images)).detach())


def test_flip_tta_is_the_mean_of_a_photo_and_its_mirror_image(bar: Bar) -> None:
    left_column = nn.Sequential(nn.Conv2d(3, 1, (1, 2), bias=False), nn.Flatten())
    with torch.no_grad():
        left_column[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]).reshape(1, 3, 1, 2))
    photo = torch.tensor([[10, 0, 0], [30, 0, 0]], dtype=torch.uint8).reshape(1, 1, 2, 3)
    batches = [(photo, torch.zeros(1), torch.zeros(1, dtype=torch.long))]
    found = {tta: predict(left_column, batches, precision=CPU, tta=tta, bar=bar).item() for tta in ("none", "flip")}
    assert found == {"none": 10.0, "flip": 20.0}


@pytest.mark.parametrize("has_bfloat16", [True, False])
@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("enabled", [True, False])
def test_on_a_cpu_precision_is_mixed_only_where_nothing_learns(
    has_bfloat16: bool, learns: bool, enabled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.device.cpu_has_bfloat16", lambda: has_bfloat16)
    precision = Precision(torch.device("cpu"), enabled=enabled, learns=learns)
    with precision.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if enabled and has_bfloat16 and not learns else torch.float32)
    assert not precision.scaler.is_enabled()
