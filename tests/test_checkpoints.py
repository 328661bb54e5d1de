"""A fold's folder: weights and optimiser come back bit for bit, and what does not fit is refused by name."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from core.cli import UserError
from core.files import write_json
from storage.run_dir import CONFIG, begin_fold, first_difference, read_config
from training.checkpoints import load_state, load_weights, save_state, save_weights

IDENTITY: dict[str, Any] = {
    "format": 1,
    "task": "age",
    "classes": ["young", "middle", "old"],
    "fold": 0,
    "settings": {"lr": 0.001, "age_edges": [25, 40]},
    "crop": {"size": 224},
    "normalisation": {"mean": [0.5] * 3, "std": [0.5] * 3},
    "data_hash": "d",
    "folds_hash": "f",
}


def small_model(seed: int = 0, width: int = 4) -> nn.Module:
    torch.manual_seed(seed)
    layers = nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 3)
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=0.01)


def train_steps(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        images = torch.randn(8, 3, 6, 6, generator=generator).to(memory_format=torch.channels_last)
        optimizer.zero_grad()
        model(images).square().mean().backward()
        optimizer.step()


def assert_same_tensors(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def test_weights_come_back_bit_for_bit(tmp_path: Path) -> None:
    model = small_model()
    train_steps(model, adamw(model), 2, seed=0)
    save_weights(tmp_path / "model.safetensors", model)
    back = small_model(seed=1)
    load_weights(tmp_path / "model.safetensors", back)
    assert_same_tensors(model.state_dict(), back.state_dict())


def test_training_goes_on_from_a_state_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    whole = small_model()
    optimizer = adamw(whole)
    train_steps(whole, optimizer, 3, seed=0)
    save_state(path, whole, optimizer, {"epoch": 3, "history": [{"lr": 0.1}]})
    train_steps(whole, optimizer, 3, seed=1)

    resumed = small_model(seed=9)
    optimizer_of_resumed = adamw(resumed)
    assert load_state(path, resumed, optimizer_of_resumed) == {"epoch": 3, "history": [{"lr": 0.1}]}
    train_steps(resumed, optimizer_of_resumed, 3, seed=1)
    assert_same_tensors(whole.state_dict(), resumed.state_dict())
    for index, state in optimizer.state_dict()["state"].items():
        assert_same_tensors(state, optimizer_of_resumed.state_dict()["state"][index])


def test_loading_keeps_channels_last(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    model = small_model()
    optimizer = adamw(model)
    train_steps(model, optimizer, 1, seed=0)
    save_state(path, model, optimizer, {})
    back = small_model(seed=1)
    optimizer_of_back = adamw(back)
    load_state(path, back, optimizer_of_back)
    moment = optimizer_of_back.state_dict()["state"][0]["exp_avg"]
    assert back[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert moment.is_contiguous(memory_format=torch.channels_last)


def test_a_state_before_the_first_step(tmp_path: Path) -> None:
    model = small_model()
    save_state(tmp_path / "s", model, adamw(model), {"epoch": 0})
    assert load_state(tmp_path / "s", small_model(), adamw(model)) == {"epoch": 0}


@pytest.mark.parametrize("kept", [0, 5, 100, 0.5, 0.99])
def test_a_file_that_is_cut_short(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(path, small_model())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept if kept >= 1 else kept * len(whole))])
    with pytest.raises(UserError, match=r"model\.safetensors: damaged or no safetensors file"):
        load_weights(path, small_model())


def test_missing_weights_and_weights_of_another_architecture(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(UserError, match=r"model\.safetensors: no such file"):
        load_weights(path, small_model())
    save_weights(path, small_model(width=5))
    with pytest.raises(UserError, match=r"model\.safetensors: weights of another architecture") as raised:
        load_weights(path, small_model())
    assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match="weights of another architecture"):
        load_weights(path, nn.Linear(2, 2))


def test_a_fold_begins_once_and_refuses_another_identity(tmp_path: Path) -> None:
    begin_fold(tmp_path, IDENTITY)
    begin_fold(tmp_path, {**IDENTITY, "settings": {"lr": 0.001, "age_edges": (25, 40)}, "versions": {"torch": "3"}})
    with pytest.raises(UserError, match=r"config\.json: trained with lr 0\.001, now 0\.1; give another --run-dir"):
        begin_fold(tmp_path, {**IDENTITY, "settings": {"lr": 0.1, "age_edges": [25, 40]}})
    with pytest.raises(UserError, match="trained with data_hash 'd', now 'e'"):
        begin_fold(tmp_path, {**IDENTITY, "data_hash": "e"})
    assert read_config(tmp_path) == IDENTITY


@pytest.mark.parametrize("found", [2, None, "1"])
def test_another_format(tmp_path: Path, found: object) -> None:
    write_json(tmp_path / CONFIG, {**IDENTITY, "format": found})
    with pytest.raises(UserError, match=rf"config\.json: format {found!r}, this version reads format 1"):
        read_config(tmp_path)


def test_a_config_that_lacks_an_entry(tmp_path: Path) -> None:
    write_json(tmp_path / CONFIG, {name: IDENTITY[name] for name in IDENTITY if name not in ("fold", "classes")})
    with pytest.raises(UserError, match=r"config\.json: entry classes, fold is missing"):
        read_config(tmp_path)


def test_first_difference() -> None:
    assert first_difference(IDENTITY, {**IDENTITY, "versions": {}}) is None
    assert first_difference(IDENTITY, {**IDENTITY, "task": "mask"}) == ("task", "age", "mask")
    settings = {**IDENTITY, "settings": {"lr": 0.001, "age_edges": [25, 40], "new": 1}}
    assert first_difference(IDENTITY, settings) == ("new", None, 1)
