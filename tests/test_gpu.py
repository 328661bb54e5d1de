"""What only a GPU can show. GPU_TESTS_ON=cpu tries the tests themselves on the CPU."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_data import FAST, Toy, infer, table, train_toy

from core.cli import progress
from core.images import read_photo
from serving.onnx_model import load_exported
from serving.torch_model import load_run
from storage.array_file import ArrayFile
from training import fold
from training.device import Precision, pick_device
from training.fold_setup import FUSED_ON

pytest_plugins = ("toy_fixtures",)
DEVICE = os.environ.get("GPU_TESTS_ON") or "cuda"
THERE = DEVICE == "cpu" or torch.cuda.is_available()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not THERE, reason="there is no GPU")]
ROOT = Path(__file__).resolve().parents[1]
ON_IT = ("--device", DEVICE, "--workers", "1")
FROZEN = ("--backbone", "test_efficientnet", "--backbone-lr", "0")


@pytest.fixture(scope="module")
def trained(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two folds, trained on the device with loader processes, and so with pinned memory."""
    run_dir = tmp_path_factory.mktemp("gpu") / "run"
    train_toy(toy.crop_dir, run_dir, ("mask",), ON_IT)
    return run_dir


def logits(path: Path) -> np.ndarray:
    return table(path).drop(columns=["image_id"]).to_numpy(dtype=float)


def test_the_device_is_found_and_its_number_format_is_one_that_it_multiplies() -> None:
    assert pick_device("auto").type == DEVICE
    precision = Precision(pick_device(DEVICE), enabled=True)
    assert precision.dtype in (torch.bfloat16, torch.float16)
    assert precision.scaler.is_enabled() == (precision.enabled and precision.dtype == torch.float16)
    assert DEVICE in FUSED_ON


@pytest.mark.parametrize("flags", [("--amp",), ("--no-amp",), ("--no-channels-last",), ("--accumulate", "2")])
def test_it_learns_in_every_format_and_layout(toy: Toy, tmp_path: Path, flags: tuple[str, ...]) -> None:
    train_toy(toy.crop_dir, tmp_path, ("mask",), (*ON_IT, *flags, "--fold", "0", "--epochs", "8", "--lr", "0.01"))
    losses = table(tmp_path / "mask" / "fold0" / "history.csv")["train_loss"].astype(float)
    assert np.isfinite(losses).all() and losses.iloc[-1] < losses.iloc[0]


def test_an_interrupted_training_goes_on_after_its_last_whole_epoch(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, flags = fold.record, (*ON_IT, "--fold", "0", "--epochs", "3")

    def stop_after_two(*args: object, **options: object) -> None:
        record(*args, **options)
        if len(table(tmp_path / "mask" / "fold0" / "history.csv")) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(fold, "record", stop_after_two)
        train_toy(toy.crop_dir, tmp_path, ("mask",), flags)
    train_toy(toy.crop_dir, tmp_path, ("mask",), flags)
    assert len(table(tmp_path / "mask" / "fold0" / "history.csv")) == 3
    assert (tmp_path / "mask" / "fold0" / "DONE").exists()


def test_several_folds_share_the_card(toy: Toy, tmp_path: Path) -> None:
    words = ["train.py", "--task", "mask", "--crop-dir", toy.crop_dir, "--run-dir", tmp_path, *FAST, *ON_IT]
    command = [sys.executable, *map(str, words), "--jobs", "2"]
    assert subprocess.run(command, cwd=ROOT, timeout=300, check=False).returncode == 0
    assert all((tmp_path / "mask" / f"fold{number}" / "DONE").exists() for number in range(2))


def test_one_rank_under_torchrun(toy: Toy, tmp_path: Path) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1", "train.py"]
    words = ["--task", "mask", "--crop-dir", toy.crop_dir, "--run-dir", tmp_path, *FAST, *ON_IT, "--fold", "0"]
    command = [sys.executable, *map(str, (*launcher, *words))]
    assert subprocess.run(command, cwd=ROOT, timeout=300, check=False).returncode == 0
    assert (tmp_path / "mask" / "fold0" / "DONE").exists()


def test_predictions_are_those_of_the_cpu(trained: Path, tmp_path: Path) -> None:
    found = {}
    for device in (DEVICE, "cpu"):
        run_dir = shutil.copytree(trained, tmp_path / device, dirs_exist_ok=True)
        infer(run_dir, "--device", device)
        found[device] = logits(run_dir / "mask" / "fold0" / "eval.csv")
    assert np.abs(found[DEVICE] - found["cpu"]).max() < 0.05


def test_an_exported_model_gives_the_labels_of_the_card(toy: Toy, trained: Path, tmp_path: Path) -> None:
    from serving import export

    export.main(["--run-dir", str(trained), "--task", "mask", "--out", str(tmp_path)])
    crops = [read_photo(path) for path in sorted((toy.crop_dir / "eval").rglob("*.*"))]
    on_card = load_run(trained, device=DEVICE)(crops)["mask"].log_probs
    exported = load_exported(tmp_path / "mask.onnx")(crops)["mask"].log_probs
    assert np.abs(np.exp(on_card) - np.exp(exported)).max() < 0.02


def test_features_of_a_frozen_backbone_are_those_of_the_cpu(toy: Toy, tmp_path: Path) -> None:
    features = []
    for number, device in enumerate(("cpu", DEVICE)):
        shutil.rmtree(toy.crop_dir / "features", ignore_errors=True)
        flags = ("--device", device, "--workers", "0", *FROZEN, "--fold", "0")
        train_toy(toy.crop_dir, tmp_path / str(number), ("mask",), flags)
        files = [ArrayFile(path) for path in sorted((toy.crop_dir / "features").rglob("*.npy"))]
        features.append(np.concatenate([file.read(0, file.shape[0]).reshape(-1).astype(float) for file in files]))
    shutil.rmtree(toy.crop_dir / "features")
    assert np.abs(features[0] - features[1]).max() < 0.02 * np.abs(features[0]).max()


def test_no_step_waits_for_a_number_from_the_card(
    toy: Toy, tmp_path: Path, new_training: Callable[..., object]
) -> None:
    """An epoch reads its loss every LOSS_READ_EVERY steps alone."""
    training = new_training(toy, tmp_path)
    images, targets, _ = (part.to(DEVICE) for part in next(iter(training.train_loader)))
    trainer = replace(training.trainer, grad_clip=0.0)
    with progress(None, title="", shown=False) as bar:
        trainer.train_one_epoch([(images, targets, targets)], first_step=0, bar=bar)
        if DEVICE == "cuda":
            torch.cuda.set_sync_debug_mode("error")
        try:
            trainer._backward(images, targets, 1)
        finally:
            if DEVICE == "cuda":
                torch.cuda.set_sync_debug_mode("default")


@pytest.fixture
def new_training() -> Callable[..., object]:
    """A maker of a fold's training on the device, before its first step."""
    from dev.benchmarks.setup import QUICK, Setup

    def make(toy: Toy, folder: Path) -> object:
        settings = {"backbone": "test_efficientnet", "pretrained": False, "image_size": 32, "folds": 2}
        link = folder / "work"
        link.mkdir()
        shutil.copytree(toy.crop_dir, link / "crops")
        typed = {**settings, "batch_size": 16, "workers": 0, "device": DEVICE}
        return Setup(link, toy.root, QUICK, "smoke", typed).new_training("mask", folder)

    return make
