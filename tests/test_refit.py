"""One model of all people after the folds: trained with their settings, resumed, refused, and used for prediction."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from test_resume import TIMES, stop_at
from toy_data import Toy, refusal, sign, snapshot, table, train_toy

import ensemble
import inference
import train
from core.cli import UserError
from core.files import read_json, write_json
from core.images import read_photo
from core.tasks import task_named
from dev.benchmarks import refit as benchmark
from serving import export
from serving.onnx_model import load_onnx
from serving.torch_model import describe_run, load_run
from storage.crops import load_crops
from storage.folds import read_folds
from training import checkpoints
from training.fold_setup import FoldData
from training.refit import refit_config

pytest_plugins = ("toy_fixtures",)

FROZEN = ("--backbone", "test_efficientnet_ln", "--backbone-lr", "0", "--lr", "0.05")
TASKS = ("mask", "gender")


@pytest.fixture(scope="module")
def folds(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two folds of each task: the mask's network has learned whole, gender's head on frozen features."""
    run_dir = tmp_path_factory.mktemp("refit") / "run"
    train_toy(toy.crop_dir, run_dir, ("mask",), ("--epochs", "3", "--validate-every", "2"))
    train_toy(toy.crop_dir, run_dir, ("gender",), FROZEN)
    for fold, kept in enumerate((2, 3)):
        path = run_dir / "mask" / f"fold{fold}" / "DONE"
        write_json(path, read_json(path) | {"best_epoch": kept})
    return run_dir


@pytest.fixture(scope="module")
def refitted(toy: Toy, folds: Path) -> Path:
    run_dir = shutil.copytree(folds, folds.parent / "refitted")
    refit(toy, run_dir)
    return run_dir


@pytest.fixture
def run_copy(refitted: Path, tmp_path: Path) -> Iterator[Path]:
    yield shutil.copytree(refitted, tmp_path / "run")


def refit(toy: Toy, run_dir: Path, *flags: str) -> None:
    train.main(["--refit", "--crop-dir", str(toy.crop_dir), "--run-dir", str(run_dir), *flags])


def test_it_has_the_settings_of_the_folds_and_the_epochs_that_they_kept(refitted: Path) -> None:
    for task, epochs in (("mask", 3), ("gender", 2)):
        of_fold, of_refit = (read_json(refitted / task / name / "config.json") for name in ("fold0", "refit"))
        own = {"epochs": epochs, "keep": "last"}
        assert of_refit == of_fold | {"fold": 2, "settings": of_fold["settings"] | own}
        done = read_json(refitted / task / "refit" / "DONE")
        assert (done["best_epoch"], sorted(done["sha256"])) == (epochs, ["config.json", "model.safetensors"])
        assert done["scores"].startswith("those of the folds, out of fold")
        assert {path.name for path in (refitted / task / "refit").iterdir()} == {
            *("config.json", "history.csv", "model.safetensors", "DONE")
        }


def test_it_learns_from_every_person(toy: Toy, folds: Path) -> None:
    crops, task = load_crops(toy.crop_dir, "train"), task_named("mask")
    data = FoldData(task, 2, crops, crops.labels(task, (25, 40)), read_folds(folds / "folds.csv"))
    assert data.is_refit
    assert data.part(out_of_fold=False)[0].image_ids == crops.image_ids
    assert data.rows(out_of_fold=True) == []


def test_done_is_left_alone(toy: Toy, run_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(run_copy)
    refit(toy, run_copy)
    assert snapshot(run_copy) == before
    assert "mask refit: done already" in capsys.readouterr().out


@pytest.mark.parametrize("task", TASKS)
def test_stopped_and_called_again_it_ends_with_the_same_bytes(
    task: str, toy: Toy, folds: Path, refitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = shutil.copytree(folds, tmp_path / "run")
    with monkeypatch.context() as patched:
        stop_at(patched, checkpoints, "save_state", call=2)
        with pytest.raises(KeyboardInterrupt):
            refit(toy, run_dir, "--task", task)
    refit(toy, run_dir, "--task", task)
    for name in ("config.json", "model.safetensors", "DONE"):
        assert (run_dir / task / "refit" / name).read_bytes() == (refitted / task / "refit" / name).read_bytes()
    found, wanted = (table(folder / task / "refit" / "history.csv") for folder in (run_dir, refitted))
    assert found.drop(columns=TIMES).equals(wanted.drop(columns=TIMES))


class TestRefusals:
    def test_folds_that_are_missing(self, toy: Toy, folds: Path, tmp_path: Path) -> None:
        run_dir = shutil.copytree(folds, tmp_path / "run")
        (run_dir / "mask" / "fold1" / "DONE").unlink()
        argv = ["--refit", "--crop-dir", toy.crop_dir, "--run-dir", run_dir]
        refusal(train.main, argv, "mask: fold1 not trained; run train.py --task mask first", untouched=[run_dir])
        refusal(train.main, [*argv, "--task", "age"], "age: the folds not trained", untouched=[run_dir])
        nothing = [*argv[:-1], tmp_path / "none"]
        refusal(train.main, nothing, "none has no trained folds; train them first", untouched=[run_dir])
        refusal(train.main, [*argv, "--fold", "0"], "--refit", untouched=[run_dir])

    def test_a_fold(self, toy: Toy, folds: Path) -> None:
        argv = ["--refit", "--fold", "0", "--crop-dir", toy.crop_dir, "--run-dir", folds]
        refusal(train.main, argv, "--refit: it learns from all people; leave out --fold", untouched=[folds])

    def test_other_settings_than_the_folds(self, toy: Toy, folds: Path, tmp_path: Path) -> None:
        argv = ["--refit", "--crop-dir", toy.crop_dir, "--run-dir", folds, "--task", "mask"]
        refusal(train.main, [*argv, "--lr", "0.5"], "trained with lr 0.5, ", "was with 0.001", untouched=[folds])
        refusal(train.main, [*argv, "--profile", "full"], "was with", "--refit takes", untouched=[folds])
        run_dir = shutil.copytree(folds, tmp_path / "run")
        path = run_dir / "mask" / "fold1" / "config.json"
        config = read_json(path)
        write_json(path, config | {"settings": config["settings"] | {"lr": 0.7}})
        refusal(train.main, [*argv[:4], run_dir, *argv[5:]], "fold1: trained with lr 0.7", untouched=[run_dir])

    def test_other_data_than_the_folds(self, toy: Toy, folds: Path, tmp_path: Path) -> None:
        run_dir = shutil.copytree(folds, tmp_path / "run")
        for fold in (0, 1):
            path = run_dir / "mask" / f"fold{fold}" / "config.json"
            write_json(path, read_json(path) | {"data_hash": "another"})
        argv = ["--refit", "--crop-dir", toy.crop_dir, "--run-dir", run_dir, "--task", "mask"]
        refusal(train.main, argv, "fold0 was trained with data_hash 'another'", untouched=[run_dir])

    def test_folds_trained_anew_since(self, run_copy: Path) -> None:
        for fold in (0, 1):
            path = run_copy / "mask" / f"fold{fold}" / "config.json"
            config = read_json(path)
            write_json(path, config | {"settings": config["settings"] | {"lr": 0.7}})
            sign(path)
        with pytest.raises(UserError, match=r"refit: trained with lr 0\.001, the folds with 0\.7; make it anew"):
            load_run(run_copy)
        assert "mask (2 of 2 folds)" in describe_run(run_copy, load_run(run_copy, folds=()))

    def test_a_fold_copied_in_its_place(self, run_copy: Path) -> None:
        shutil.rmtree(run_copy / "mask" / "refit")
        shutil.copytree(run_copy / "mask" / "fold0", run_copy / "mask" / "refit")
        with pytest.raises(UserError, match=r"of fold 0; the folder holds another fold's files"):
            load_run(run_copy)

    def test_weights_that_are_gone(self, run_copy: Path) -> None:
        (run_copy / "mask" / "refit" / "model.safetensors").unlink()
        with pytest.raises(UserError, match=r"train it anew: train\.py --task mask --refit --overwrite"):
            load_run(run_copy)


def test_the_flags_of_the_folds_may_be_typed_again(toy: Toy, folds: Path) -> None:
    config = refit_config(folds, "mask", {"lr": 0.001, "device": "cpu", "folds": 2})
    assert (config.epochs, config.keep, config.device) == (3, "last", "cpu")


def test_it_speaks_where_it_is_there_and_the_folds_on_request(
    toy: Toy, refitted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crops = load_crops(toy.crop_dir, "eval")
    pictures = [read_photo(path) for path in crops.paths]
    one, all_folds, second = (load_run(refitted, folds=folds, device="cpu") for folds in (None, (), (1,)))
    assert "mask (refit on all people), gender (refit on all people)" in describe_run(refitted, one)
    assert "mask (2 of 2 folds), gender (2 of 2 folds)" in describe_run(refitted, all_folds)
    assert "mask (1 of 2 folds)" in describe_run(refitted, second)
    said, together = one(pictures), all_folds(pictures)
    assert all(np.abs(said[task].log_probs - together[task].log_probs).max() > 1e-4 for task in TASKS)
    export.main(["--run-dir", str(refitted), "--crops", "3"])
    assert "mask (refit on all people), gender (refit on all people)" in capsys.readouterr().out
    about = load_onnx(refitted / "onnx" / "all.onnx").about
    assert [[one["fold"] for one in task["folds"]] for task in about["tasks"]] == [["refit"], ["refit"]]


def test_submissions_are_of_the_folds(run_copy: Path) -> None:
    inference.main(["--run-dir", str(run_copy), "--device", "cpu", "--workers", "0"])
    ensemble.main(["--run-dir", str(run_copy)])
    assert not (run_copy / "mask" / "refit" / "eval.csv").exists()
    assert all("refit" not in source for source in json.loads((run_copy / "mask.json").read_text())["made_from"])


def test_the_backbone_is_that_of_the_folds(refitted: Path) -> None:
    assert len(list((refitted / "backbones").iterdir())) == 1
    names = {json.loads(path.read_text())["backbone_file"] for path in refitted.glob("gender/*/config.json")}
    assert len(names) == 1
    assert not any(name.startswith("conv_stem") for name in load_file(refitted / "gender/refit/model.safetensors"))


def test_settings_are_shown(toy: Toy, folds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refit(toy, folds, "--task", "gender", "--show-settings")
    shown = json.loads(capsys.readouterr().out)
    assert shown["gender"]["epochs"] == 2
    assert shown["gender"]["backbone"] == FROZEN[1]


def test_it_is_compared_with_the_folds(refitted: Path, toy: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark.main(["--run-dir", str(refitted), "--device", "cpu"])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(" ")][:2] == ["mask, 7 eval photos", "gender, 7 eval photos"]
    assert re.match(r"  accuracy  folds \d\.\d+ \(.*\), refit \d\.\d+ \(.*\), difference [+-]\d\.\d+ \(", lines[2])
    assert re.match(r"faces/s: folds [\d.]+, refit [\d.]+ \([\d.]+x\)", lines[-1])
