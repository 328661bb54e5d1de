"""One model trained by several processes: shares of the work, and two ranks under torchrun beside one process."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from toy_data import FAST, Toy, ToyRun, refusal, table

import ensemble
import train
from core import distributed
from core.cli import UserError
from core.tasks import task_named
from dataset import PersonSampler
from evaluation.metrics import confusion_matrix, macro_f1
from model import add_ridge_head, build_model, head_weights
from storage.run_dir import begin_fold
from training.device import seed_everything
from training.predictor import load_predictor

pytest_plugins = ("toy_fixtures",)

ROOT = Path(__file__).resolve().parents[1]
# Layer instead of batch normalisation, no dropout, no augmentation, no class weights, which are divided by their sum in
# the share of each rank: a step is then the mean over its photos, whoever handles them.
EXACT = (
    *(*FAST, "--backbone", "test_efficientnet_ln", "--drop-rate", "0", "--augment", "none", "--fold", "1"),
    *("--class-weights", "none", "--no-amp"),
)
KINDS = {"whole network": (), "head on stored features": ("--backbone-lr", "0")}
TRAININGS = """
import contextlib, json, pathlib
import train
from core import distributed

with distributed.joined():
    distributed.joined = contextlib.nullcontext
    for argv in json.loads(pathlib.Path("commands.json").read_text()):
        train.main(argv)
"""


def as_rank(number: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "number", lambda: number)
    monkeypatch.setattr(distributed, "count", lambda: count)


def torchrun(count: int, commands: Sequence[Sequence[object]], cwd: Path) -> subprocess.CompletedProcess:
    """Run train.py with each of the command lines, one after another in the same ranks: their start takes seconds.

    They join once: from the second time on a rank may find addresses of the first in torchrun's store.
    """
    (cwd / "commands.json").write_text(json.dumps([list(map(str, words)) for words in commands]))
    (cwd / "trainings.py").write_text(TRAININGS)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), "trainings.py")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *launcher]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=900)


class TestShares:
    """How the work is divided."""

    def test_alone_everything_is_ones_own(self) -> None:
        assert (
            distributed.share([1, 2, 3])
            == distributed.even_share([1, 2, 3])
            == distributed.gathered([1, 2, 3])
            == [1, 2, 3]
        )
        assert distributed.share_of_batch(7) == 7
        assert distributed.is_first()

    @pytest.mark.parametrize("count", [1, 2, 3, 5])
    def test_every_item_is_in_one_share(self, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
        shares = []
        for number in range(count):
            as_rank(number, count, monkeypatch)
            shares.append(list(distributed.share(range(7))))
        assert sorted(item for one in shares for item in one) == list(range(7))

    @pytest.mark.parametrize(("count", "times"), [(2, 1), (3, 1), (3, 4)])
    def test_the_batches_of_all_ranks_make_the_batches_of_one(
        self, count: int, times: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sampler = PersonSampler([str(n // 2) for n in range(26)], [0] * 26, photos_per_person=0, seed=(0,), times=times)
        whole = list(sampler)
        parts = []
        for number in range(count):
            as_rank(number, count, monkeypatch)
            parts.append(list(sampler))
            assert len(parts[-1]) == len(sampler) == 26 * times // count
        for step in range(4):
            together = {index for part in parts for index in part[2 * step : 2 * step + 2]}
            assert together == set(whole[2 * count * step : 2 * count * (step + 1)])

    def test_a_batch_that_cannot_be_divided_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        as_rank(0, 3, monkeypatch)
        assert distributed.share_of_batch(33) == 11
        with pytest.raises(UserError, match="--batch-size 32: allowed with 3 processes are multiples of 3"):
            distributed.share_of_batch(32)

    def test_a_rank_in_the_environment_alone_changes_nothing(
        self, run_copy: ToyRun, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RANK", "1")
        assert (distributed.number(), distributed.is_first()) == (0, True)
        (run_copy.run_dir / "age.csv").unlink(missing_ok=True)
        ensemble.main(["--run-dir", str(run_copy.run_dir)])
        assert (run_copy.run_dir / "age.csv").exists()

    @pytest.mark.parametrize(
        ("size", "wrong"), [("2", "RANK is not as torchrun sets it"), ("x", "'x', but WORLD_SIZE is not")]
    )
    def test_the_number_of_processes_in_the_environment_alone_is_refused(
        self, toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: str, wrong: str
    ) -> None:
        monkeypatch.setenv("WORLD_SIZE", size)
        argv = ["--task", "mask", "--crop-dir", toy.crop_dir, "--run-dir", tmp_path / "run", *FAST]
        refusal(train.main, argv, wrong, "start train.py with torchrun, or unset WORLD_SIZE")
        assert not (tmp_path / "run").exists()

    def test_a_fold_that_another_rank_writes_is_not_begun_here(self, tmp_path: Path) -> None:
        begin_fold(tmp_path / "age" / "fold0", {}, write=False)
        assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def ranks_folder(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of one process ("one") and of two ranks ("two") for each of KINDS, with crops of their own."""
    folder = tmp_path_factory.mktemp("ranks")
    commands = {"one": [], "two": []}
    for name, kind in product(commands, KINDS):
        home = folder / kind
        crop_dir = shutil.copytree(toy.crop_dir, home / f"crops_{name}")
        flags = ["--device", "cpu", "--task", "mask", *EXACT, *KINDS[kind]]
        commands[name].append([str(word) for word in ("--crop-dir", crop_dir, "--run-dir", home / name, *flags)])
    for argv in commands["one"]:
        train.main(argv)
    done = torchrun(2, commands["two"], folder)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("mask fold 1 epoch 2/2") == len(KINDS)
    return folder


@pytest.fixture(params=KINDS)
def two_ranks(ranks_folder: Path, request: pytest.FixtureRequest) -> Path:
    """A run of two ranks; its crops, and the run of one process with its crops, lie beside it."""
    return ranks_folder / request.param / "two"


def test_two_ranks_learn_what_one_process_learns(two_ranks: Path) -> None:
    found, expected = (load_file(run / "mask/fold1/model.safetensors") for run in (two_ranks, two_ranks.parent / "one"))
    start = load_untrained()
    assert expected
    for name, weights in expected.items():
        moved = (weights - start[name]).abs().max()
        assert torch.allclose(found[name], weights, rtol=0, atol=max(1e-5, 0.02 * float(moved))), name


def test_features_of_both_ranks_are_those_of_one_process(two_ranks: Path) -> None:
    """84 photos make two files: one of each rank."""
    made, expected = (sorted((two_ranks.parent / name / "features").rglob("*")) for name in ("crops_two", "crops_one"))
    assert [path.name for path in made] == [path.name for path in expected]
    for path, twin in zip(made, expected, strict=True):
        assert path.is_dir() or np.array_equal(np.load(path), np.load(twin))
    is_frozen = (two_ranks / "backbones").exists()
    assert [path.name for path in made if path.is_file()] == ["00000.npy", "00001.npy"] * is_frozen


def load_untrained() -> dict[str, torch.Tensor]:
    """Weights before the first step, those that the seed gives; the head's by their names in it as well."""
    seed_everything(0, 1)
    network = build_model("test_efficientnet_ln", 3, image_size=(32, 32))
    whole = network.state_dict()
    add_ridge_head(network, outputs=3, code_size=3, share=0.3)
    return {**whole, **head_weights(network).state_dict()}


def test_every_held_out_photo_is_there_once_and_as_the_saved_weights_say(two_ranks: Path, toy: Toy) -> None:
    oof, one = (table(run / "mask/fold1/oof.csv") for run in (two_ranks, two_ranks.parent / "one"))
    assert list(oof["image_id"]) == list(one["image_id"])
    assert oof["image_id"].is_unique
    classes = list(oof.columns[1:])
    assert (oof[classes] - one[classes]).abs().to_numpy().max() < 0.01
    fold = load_predictor(two_ranks / "mask/fold1", task_named("mask"))
    assert fold.config.batch_size == 16


def test_the_score_is_that_of_the_table(two_ranks: Path, toy: Toy) -> None:
    oof = table(two_ranks / "mask/fold1/oof.csv")
    faces = table(toy.crop_dir / "faces.csv").set_index("image_id")
    classes = task_named("mask").classes
    truth = [classes.index(faces["mask"][image_id]) for image_id in oof["image_id"]]
    predicted = oof[list(classes)].to_numpy().argmax(axis=1)
    done = pd.read_json(two_ranks / "mask/fold1/DONE", typ="series")
    assert macro_f1(confusion_matrix(truth, predicted, 3)) == pytest.approx(done["macro_f1"])


def test_nothing_is_left_half_written(two_ranks: Path) -> None:
    left = {path.name for path in two_ranks.rglob("*") if path.is_file()}
    assert [name for name in left if name.startswith(".")] == [".gitignore"]
    assert left >= {"run.json", "folds.csv", "DONE", "oof.csv", "history.csv", "model.safetensors", "config.json"}
    assert len(table(two_ranks / "mask/fold1/history.csv")) == 2
