"""What is done is left alone, and what is done anew comes out the same, byte for byte."""

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from toy_data import (
    ALL_TASKS,
    ToyRun,
    crop,
    detect_by_hand,
    infer,
    make_competition,
    make_remade,
    snapshot,
    train_toy,
)

import ensemble
import submission
from preprocessing import detect_faces

pytest_plugins = ("toy_fixtures",)

FOLDS = (0, 1)


class TestAgain:
    """What is done is left alone, and what is done anew comes out the same."""

    def test_a_second_run_of_every_command_changes_no_file(
        self, toy_run: ToyRun, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folders = (toy_run.root, toy_run.crop_dir, toy_run.run_dir)
        before = snapshot(*folders)
        detect_faces.main(["--crop-dir", str(toy_run.crop_dir)])
        assert "0 to search" in capsys.readouterr().out
        crop(toy_run.crop_dir)
        assert "0 to crop" in capsys.readouterr().out
        train_toy(toy_run.crop_dir, toy_run.run_dir, ALL_TASKS)
        assert capsys.readouterr().out.count("done already") == len(ALL_TASKS) * len(FOLDS)
        infer(toy_run.run_dir)
        assert capsys.readouterr().out.count("up to date") == len(ALL_TASKS) * len(FOLDS)
        ensemble.main(["--run-dir", str(toy_run.run_dir)])
        assert capsys.readouterr().out.count("up to date") == len(ALL_TASKS)
        submission.main(["--run-dir", str(toy_run.run_dir)])
        assert "up to date" in capsys.readouterr().out
        assert snapshot(*folders) == before

    def test_same_seed_same_bytes_other_seed_others(self, toy_run: ToyRun, tmp_path: Path) -> None:
        train_toy(toy_run.crop_dir, tmp_path / "same")
        train_toy(toy_run.crop_dir, tmp_path / "other", flags=("--seed", "7", "--fold", "0"))
        for name in ("model.safetensors", "oof.csv"):
            first = (toy_run.run_dir / "mask" / "fold0" / name).read_bytes()
            assert (tmp_path / "same" / "mask" / "fold0" / name).read_bytes() == first
            assert (tmp_path / "other" / "mask" / "fold0" / name).read_bytes() != first

    @pytest.mark.parametrize("make", [make_competition, make_remade])
    def test_the_order_of_a_directory_listing_does_not_matter(
        self, make: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = make(tmp_path / "data")
        detect_by_hand(root, tmp_path / "crops")
        crop(tmp_path / "crops")
        train_toy(tmp_path / "crops", tmp_path / "run", flags=("--epochs", "1"))
        shuffle_listings(monkeypatch)
        detect_by_hand(root, tmp_path / "crops_again")
        crop(tmp_path / "crops_again")
        train_toy(tmp_path / "crops_again", tmp_path / "run_again", flags=("--epochs", "1"))
        for again, first in (("crops_again/faces.csv", "crops/faces.csv"), ("run_again/folds.csv", "run/folds.csv")):
            assert (tmp_path / again).read_bytes() == (tmp_path / first).read_bytes()
        for name in ("model.safetensors", "oof.csv"):
            first = tmp_path / "run" / "mask" / "fold1" / name
            assert (tmp_path / "run_again" / "mask" / "fold1" / name).read_bytes() == first.read_bytes()

    def test_one_fold_alone_then_the_rest(self, toy_run: ToyRun, tmp_path: Path) -> None:
        train_toy(toy_run.crop_dir, tmp_path / "run", flags=("--fold", "1"))
        assert sorted(path.name for path in (tmp_path / "run" / "mask").iterdir()) == ["fold1"]
        before = snapshot(tmp_path / "run" / "mask" / "fold1")
        train_toy(toy_run.crop_dir, tmp_path / "run")
        assert snapshot(tmp_path / "run" / "mask" / "fold1") == before
        for fold in FOLDS:
            alone = tmp_path / "run" / "mask" / f"fold{fold}" / "model.safetensors"
            assert alone.read_bytes() == (toy_run.run_dir / "mask" / f"fold{fold}" / "model.safetensors").read_bytes()

    def test_overwrite_trains_the_named_fold_anew(self, run_copy: ToyRun) -> None:
        other, fold = run_copy.run_dir / "mask" / "fold1", run_copy.run_dir / "mask" / "fold0"
        before = snapshot(other)
        flags = ("--fold", "0", "--overwrite", "--lr", "0.0005")
        train_toy(run_copy.crop_dir, run_copy.run_dir, flags=flags)
        assert json.loads((fold / "config.json").read_text())["settings"]["lr"] == 0.0005
        assert not (fold / "eval.csv").exists()
        assert snapshot(other) == before


class Shuffled:
    """os.scandir, its entries in another order each time."""

    def __init__(self, entries: Iterator[os.DirEntry], rng: random.Random) -> None:
        with entries:
            self._entries = list(entries)
        rng.shuffle(self._entries)
        self._left = iter(self._entries)

    def __enter__(self) -> "Shuffled":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> "Shuffled":
        return self

    def __next__(self) -> os.DirEntry:
        return next(self._left)

    def close(self) -> None:
        self._left = iter(())


def shuffle_listings(monkeypatch: pytest.MonkeyPatch) -> None:
    scandir, listdir, rng = os.scandir, os.listdir, random.Random(3)
    monkeypatch.setattr(os, "scandir", lambda path=".": Shuffled(scandir(path), rng))
    monkeypatch.setattr(os, "listdir", lambda path=".": rng.sample(listdir(path), len(listdir(path))))
