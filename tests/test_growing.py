"""Pictures that grow from epoch to epoch."""

from pathlib import Path

import pytest
import torch
from toy_data import Toy, train_toy

from core import engine
from core.config import Config
from fold_training import growing_size

pytest_plugins = ("toy_fixtures",)


def sizes(whole: tuple[int, int], epochs: int, **settings: object) -> list[tuple[int, int] | None]:
    config = Config(epochs=epochs, **settings)
    return [growing_size(whole, config, epoch) for epoch in range(epochs)]


def test_sizes_grow_evenly_to_the_whole() -> None:
    assert sizes((112, 112), 3, grow_from=0.6) == [(64, 64), (88, 88), None]
    assert sizes((100, 80), 5, grow_from=0.5) == [(48, 38), (64, 51), (72, 58), (88, 70), None]
    assert sizes((32, 26), 2, grow_from=0.1) == [(8, 6), None]


@pytest.mark.parametrize(
    ("epochs", "settings"),
    [
        (3, {"grow_from": 1.0}),
        (1, {"grow_from": 0.5}),
        (3, {"grow_from": 0.5, "backbone_lr": 0.0}),
        (3, {"grow_from": 0.5, "backbone": "vit_tiny_patch16_224"}),
    ],
)
def test_what_does_not_grow(epochs: int, settings: dict[str, object]) -> None:
    """Also sizes that are no multiple of 8, heads on stored features, and networks of one size."""
    assert sizes((90, 90), epochs, **settings) == [None] * epochs


def test_training_shows_the_sizes_and_scores_the_whole(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, to_device = [], engine.to_device

    def record(*args: object) -> torch.Tensor:
        pictures = to_device(*args)
        shown.append(tuple(pictures.shape[-2:]))
        return pictures

    resized, shrunk = engine.resized, []
    monkeypatch.setattr(engine, "to_device", record)
    monkeypatch.setattr(engine, "resized", lambda pictures, size: shrunk.append(size) or resized(pictures, size))
    train_toy(toy.crop_dir, tmp_path, flags=("--fold", "0", "--epochs", "3", "--patience", "3", "--grow-from", "0.5"))
    # 42 photos in whole batches of 16; the store and the held-out photos are of the whole size.
    assert shrunk == [(16, 16)] * 2 + [(24, 24)] * 2
    assert set(shown) == {(32, 32)}
