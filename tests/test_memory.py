"""A training step that cannot fit the memory is refused before anything is written."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from toy_data import Toy

import train
from core.cli import UserError
from core.cropping import CropSettings
from model import build_model
from training import memory
from training.config import Config
from training.memory import image_bytes, refuse_beyond_memory

pytest_plugins = ("toy_fixtures",)
SOURCE = {"crop": asdict(CropSettings(aspect=0.75))}


def test_the_estimate_is_what_a_step_keeps() -> None:
    kept = []
    network = build_model("test_resnet", 1, image_size=(64, 64)).train()

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel() * tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(torch.rand(2, 3, 64, 64))
    assert image_bytes("test_resnet", (64, 64), learns=True) == pytest.approx(sum(kept) / 2, rel=0.05)
    assert image_bytes("test_resnet", (64, 64), learns=False) < sum(kept) / 2


@pytest.mark.parametrize(("backbone", "lr"), [("tf_efficientnet_lite0", 1.0), ("face_resnet29", 0.0)])
def test_images_too_large_are_refused(backbone: str, lr: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_memory", lambda _: 4 << 30)
    refuse_beyond_memory(Config(backbone=backbone, backbone_lr=lr, image_size=112, device="cpu"), SOURCE)
    with pytest.raises(UserError, match=r"--image-size 4096: a step of \d+ images takes about .* of memory, and 4"):
        refuse_beyond_memory(Config(backbone=backbone, backbone_lr=lr, image_size=4096, device="cpu"), SOURCE)


def test_nothing_is_written(toy: Toy, tmp_path: Path) -> None:
    flags = ["--crop-dir", str(toy.crop_dir), "--run-dir", str(tmp_path / "run"), "--profile", "smoke"]
    with pytest.raises(UserError, match="--image-size 4096: a step of"):
        train.main([*flags, "--image-size", "4096", "--batch-size", "4096", "--device", "cpu"])
    assert not list((tmp_path / "run").glob("[!.]*"))
