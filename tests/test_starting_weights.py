"""Weights from folders and from the hub: recorded by hash and commit, refused if they change, needed to train alone.

The hub is its client's cache, filled by hand.
"""

import shutil
from pathlib import Path

import pytest
import timm
import torch
from timm.models import save_for_hf
from toy_data import FAST, Toy, infer, refusal, table, train_toy

import train
from core.cli import UserError
from core.files import read_json, write_json
from model import normalisation
from serving import export
from training.starting_weights import described_in, pinned_name

pytest_plugins = ("toy_fixtures",)

FIRST, SECOND = "a" * 40, "b" * 40
REPOSITORY = "hf-hub:owner/net"
FLAGS = ("--pretrained", "--fold", "0", "--epochs", "1")


@pytest.fixture(autouse=True)
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.cpu_count", lambda: 1)


def save(folder: Path, seed: int) -> Path:
    """Save a network of another mean and another number of classes as timm does."""
    torch.manual_seed(seed)
    network = timm.create_model("test_resnet", num_classes=5, pretrained_cfg_overlay={"mean": (0.1, 0.2, 0.3)})
    save_for_hf(network, folder, safe_serialization=True)
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a repository with two commits in the cache, of which the branch names the first."""
    repository = tmp_path / "hub" / "models--owner--net"
    for seed, commit in enumerate((FIRST, SECOND)):
        save(repository / "snapshots" / commit, seed)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(FIRST)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return repository


def start_of(run_dir: Path) -> dict:
    return read_json(run_dir / "gender" / "fold0" / "config.json")["started_from"]


def test_a_commit_is_recorded_and_other_weights_are_refused(toy: Toy, hub: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    flags = ("--backbone", REPOSITORY, *FLAGS)
    train_toy(toy.crop_dir, run_dir, ("gender",), flags)
    fold_dir, first = run_dir / "gender" / "fold0", start_of(run_dir)
    assert first.keys() == {"sha256", "backbone"} and first["backbone"] == f"{REPOSITORY}@{FIRST}"
    assert read_json(fold_dir / "config.json")["normalisation"]["mean"] == [0.1, 0.2, 0.3]
    (fold_dir / "DONE").unlink()
    (hub / "refs" / "main").write_text(SECOND)
    argv = ["--task", "gender", "--crop-dir", toy.crop_dir, "--run-dir", run_dir, *FAST, *flags]
    message = refusal(train.main, argv, "begun with other pretrained weights of", first["sha256"])
    assert message.endswith(f"train anew with --overwrite; the first ones are --backbone {REPOSITORY}@{FIRST}")
    # A fold of an earlier version does not tell.
    config = read_json(fold_dir / "config.json")
    write_json(fold_dir / "config.json", {name: value for name, value in config.items() if name != "started_from"})
    train_toy(toy.crop_dir, run_dir, ("gender",), flags)
    assert (fold_dir / "DONE").exists()


def test_a_revision_pins_the_weights_and_prediction_needs_no_hub(
    toy: Toy, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir, pinned = tmp_path / "run", f"{REPOSITORY}@{SECOND}"
    assert (pinned_name(REPOSITORY), pinned_name(pinned)) == (f"{REPOSITORY}@{FIRST}", pinned)
    assert pinned_name("face_pair") == "face_pair"
    train_toy(toy.crop_dir, run_dir, ("gender",), ("--backbone", pinned, *FLAGS))
    assert start_of(run_dir).keys() == {"sha256"}
    shutil.rmtree(hub)
    infer(run_dir)
    assert len(table(run_dir / "gender" / "fold0" / "eval.csv")) > 0


def test_an_entry_that_is_no_object(toy: Toy, tmp_path: Path) -> None:
    folder = save(tmp_path / "net", 0)
    flags = ("--backbone", f"local-dir:{folder}", *FLAGS)
    train_toy(toy.crop_dir, tmp_path / "run", ("gender",), flags)
    fold_dir = tmp_path / "run" / "gender" / "fold0"
    (fold_dir / "DONE").unlink()
    write_json(fold_dir / "config.json", {**read_json(fold_dir / "config.json"), "started_from": "here"})
    argv = ["--task", "gender", "--crop-dir", toy.crop_dir, "--run-dir", tmp_path / "run", *FAST, *flags]
    refusal(train.main, argv, "started_from is 'here', expected an object")


@pytest.mark.parametrize(
    "entry", ["x", {"a": 1}, {"a": {"model_name": "none", "pretrained_cfg": {}}}, {"a": {"pretrained_cfg": {"x": 1}}}]
)
def test_a_description_that_is_none(entry: object) -> None:
    with pytest.raises(UserError, match=r"^config\.json: described .* is no network of timm"):
        described_in({"described": entry})


@pytest.mark.parametrize(("beside", "frozen"), [("", True), ("", False), ("test_vit+", True)])
def test_a_folder_is_needed_for_training_alone(
    beside: str, frozen: bool, toy: Toy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, run_dir = save(tmp_path / "net", 0), tmp_path / "run"
    crop_dir = shutil.copytree(toy.crop_dir, tmp_path / "crops")
    # test_vit has no weights in a package.
    flags = [*FLAGS, "--no-pretrained"] if beside else FLAGS
    flags = ("--backbone", f"{beside}local-dir:{folder}", "--backbone-lr", "0" if frozen else "1", *flags)
    train_toy(crop_dir, run_dir, ("gender",), flags)
    assert normalisation(f"local-dir:{folder}")[0] == (0.1, 0.2, 0.3)
    shutil.rmtree(folder)
    shutil.rmtree(crop_dir / "features", ignore_errors=True)
    infer(run_dir)
    assert len(table(run_dir / "gender" / "fold0" / "eval.csv")) > 0
    export.main(["--run-dir", str(run_dir), "--folds", "0", "--crops", "4"])
    assert "torch and ONNX on" in capsys.readouterr().out
