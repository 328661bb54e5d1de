"""Settings are tried on one step before anything is written; what fails is one line that says what would work."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest
from toy_data import FAST, Toy, refusal, train_toy

import train
from core.cli import UserError
from core.cropping import CropSettings
from core.tasks import task_named
from training import dry_step
from training.config import resolve
from training.dry_step import refuse_untrainable

pytest_plugins = ("toy_fixtures",)
SQUARE = {"crop": asdict(CropSettings())}


def tried(backbone: str, task: str = "mask", **settings: object) -> None:
    config = resolve(task, "smoke", {"backbone": backbone, "pretrained": False, "backbone_lr": 1.0, **settings})
    refuse_untrainable(task_named(task), config, SQUARE)


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_vit", "resnet18.a1_in1k", "levit_128s"])
def test_families(backbone: str) -> None:
    tried(backbone, image_size=224)


def test_defaults_of_all_tasks() -> None:
    for task in ("mask", "gender", "age"):
        refuse_untrainable(task_named(task), resolve(task, "quick", {}), SQUARE)


def test_a_frozen_backbone_with_a_head_of_values() -> None:
    tried("test_resnet", task="age", backbone_lr=0.0, head="values")


def test_a_size_that_a_backbone_cannot_take_names_one_that_it_can() -> None:
    with pytest.raises(UserError, match=r"dla34: cannot be trained on images of 100 x 100 .*; give --image-size 128"):
        tried("dla34", image_size=100)
    tried("dla34", image_size=128)


def test_a_backbone_whose_size_is_fixed_when_it_is_built() -> None:
    with pytest.raises(UserError, match=r"hiera_tiny_224: cannot be trained on images of 100 x 100 .*--image-size 128"):
        tried("hiera_tiny_224", image_size=100)


def test_a_batch_of_one() -> None:
    with pytest.raises(UserError, match=r"--batch-size 1 \(.*\); give --batch-size 2 or more"):
        tried("test_resnet", batch_size=1, image_size=32)
    tried("test_vit", batch_size=1)


def test_layers_with_which_the_process_would_end() -> None:
    with pytest.raises(UserError, match=r"torch crashes on a CPU in channels_last with its layer stem.*--no-channels"):
        tried("fastvit_t8")
    tried("fastvit_t8", channels_last=False, image_size=64)


def test_memory_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: 9 bytes")

    monkeypatch.setattr(dry_step, "_step", no_memory)
    with pytest.raises(UserError, match=r"can't allocate memory.*give a smaller --batch-size"):
        tried("test_vit")


def test_nothing_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise AttributeError("'NoneType' object has no attribute\n'shape'")

    monkeypatch.setattr(dry_step, "_step", broken)
    with pytest.raises(UserError, match=r"has no attribute 'shape'\); give another --backbone") as refused:
        tried("test_vit")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--backbone", "dla34", "--image-size", "100"), ("dla34", "--image-size 128")),
        (("--backbone", "test_resnet", "--batch-size", "1"), ("give --batch-size 2 or more",)),
        (("--backbone", "fastvit_t8"), ("--no-channels-last",)),
        (("--device", "hpu"), ("--device hpu: cannot be used",)),
        (("--device", "meta"), ("--device meta: cannot be used",)),
    ],
)
@pytest.mark.parametrize("shown", [(), ("--show-settings",)])
def test_train_writes_nothing(
    toy: Toy, tmp_path: Path, flags: Sequence[str], words: Sequence[str], shown: bool
) -> None:
    argv = ["--task", "mask", "--crop-dir", toy.crop_dir, "--run-dir", tmp_path / "run", *FAST, *flags]
    refusal(train.main, [*argv, *shown], *words, untouched=[toy.crop_dir])
    assert not (tmp_path / "run").exists()


def test_nothing_is_tried_where_nothing_is_left(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--fold", "0", "--epochs", "1")
    train_toy(toy.crop_dir, tmp_path / "run", flags=flags)
    monkeypatch.setattr(dry_step, "_step", pytest.fail)
    train_toy(toy.crop_dir, tmp_path / "run", flags=flags)
    assert "done already" in capsys.readouterr().out
