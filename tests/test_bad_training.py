"""What train.py refuses, in one line, before it writes anything; what it refused leaves the way free."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest
from toy_data import (
    FAST,
    Toy,
    ToyRun,
    detect_by_hand,
    edit_csv,
    make_competition,
    make_photos,
    prepare,
    refusal,
    train_toy,
)

import train
from core.cli import UserError

pytest_plugins = ("toy_fixtures",)


class TestTrain:
    """What train.py refuses before it writes anything."""

    def refused(
        self, toy: Toy, run_dir: Path, *words: str, tasks: Sequence[str] = ("mask",), flags: Sequence[str] = ()
    ) -> None:
        argv = ["--task", *tasks, "--crop-dir", toy.crop_dir, "--run-dir", run_dir, *FAST, *flags]
        refusal(train.main, argv, *words, untouched=[toy.crop_dir, run_dir])

    @pytest.mark.parametrize(
        ("flags", "words"),
        [
            (("--backbone", "resnet1"), ("--backbone 'resnet1'", "did you mean")),
            (("--loss", "hinge"), ("--loss 'hinge'", "cross_entropy, label_smoothing, focal, f1")),
            (("--augment", "wild"), ("--augment 'wild'", "none, flip, standard, strong")),
            (("--device", "tpu9"), ("--device tpu9", "auto and cpu")),
            (("--device", "cuda:77"), ("--device cuda:77", "auto and cpu")),
            (("--task", "hat"), ("'hat'", "mask", "gender", "age")),
            (("--profile", "huge"), ("'huge'", "smoke", "quick", "full")),
            (("--tta", "spin"), ("--tta", "'spin'", "none, flip")),
            (("--class-weights", "some"), ("--class-weights", "'some'", "none, balanced")),
            (("--class-weights", "nan,1,1"), ("--class-weights", "'nan,1,1'", "numbers above 0")),
            (("--class-weights", "1,1e40,1"), ("--class-weights", "numbers above 0")),
            (("--folds", "1"), ("--folds 1", "2 to 100")),
            (("--folds", "13"), ("12 persons are too few for --folds 13", "--folds 12 or less")),
            (("--fold", "2"), ("--fold 2", "0 to 1")),
            (("--fold", "-1"), ("--fold -1", "0 to 1")),
            (("--jobs", "-1"), ("--jobs", "-1 is not a whole number of at least 0")),
            (("--epochs", "0"), ("--epochs 0",)),
            (("--epochs", "many"), ("--epochs", "'many'")),
            (("--lr", "nan"), ("--lr nan",)),
            (("--image-size", "8"), ("--image-size 8", "16 to 4096")),
            (("--age-edges", "40", "25"), ("--age-edges 40 25", "the first must be below the second")),
            (("--epoch", "3"), ("--epoch", "unrecognized")),
        ],
    )
    def test_settings(self, toy: Toy, tmp_path: Path, flags: Sequence[str], words: Sequence[str]) -> None:
        self.refused(toy, tmp_path / "run", *words, flags=flags)
        assert not (tmp_path / "run").exists()

    def test_a_bad_setting_does_not_cost_the_run_that_is_there(self, run_copy: ToyRun) -> None:
        for flags in (("--loss", "hinge"), ("--device", "tpu9")):
            self.refused(run_copy, run_copy.run_dir, flags[1], flags=(*flags, "--overwrite"))

    def test_weights_that_cannot_be_had_leave_no_fold_behind(
        self, toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("model._build_downloaded", raise_no_network)
        argv = ["--task", "mask", "--crop-dir", toy.crop_dir, "--run-dir", tmp_path / "run", *FAST, "--pretrained"]
        refusal(train.main, argv, "no network here")
        assert not (tmp_path / "run" / "mask").exists()
        train_toy(toy.crop_dir, tmp_path / "run", flags=("--fold", "0", "--epochs", "1"))

    @pytest.mark.parametrize("edges", [("5", "10"), ("20", "99"), ("50", "60")])
    def test_a_class_that_nobody_has(self, toy: Toy, tmp_path: Path, edges: Sequence[str]) -> None:
        words = ("task age", "no photo of class", "in at least two folds")
        self.refused(toy, tmp_path / "run", *words, tasks=("mask", "age"), flags=("--age-edges", *edges))
        train_toy(toy.crop_dir, tmp_path / "run", flags=("--fold", "0", "--epochs", "1"))

    def test_one_person_only(self, tmp_path: Path) -> None:
        toy = prepare(make_competition(tmp_path / "data", people_count=1), tmp_path / "crops")
        self.refused(toy, tmp_path / "run", "1 persons are too few for --folds 2")
        assert not (tmp_path / "run").exists()

    def test_no_training_photos(self, tmp_path: Path) -> None:
        toy = prepare(make_photos(tmp_path / "data"), tmp_path / "crops")
        self.refused(toy, tmp_path / "run", "no training photos", "layout photos")

    def test_faces_but_no_crops(self, toy: Toy, tmp_path: Path) -> None:
        detect_by_hand(make_competition(tmp_path / "data"), tmp_path / "crops")
        bare = Toy(tmp_path / "data", tmp_path / "crops")
        self.refused(bare, tmp_path / "run", "run preprocessing/crop_faces.py")

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda folds: pd.concat([folds, folds.iloc[:1].assign(fold="1")]), ("stands in more than one row",)),
            (lambda folds: folds.iloc[1:], ("has no fold", "give another --run-dir")),
            (lambda folds: folds.replace(folds["person"][0], "stranger"), ("has no fold",)),
            (lambda folds: pd.concat([folds, folds.iloc[:1].assign(person="guest")]), ("guest has no photos",)),
            (lambda folds: folds.assign(fold="0"), ("holds folds 0, but --folds is 2",)),
            (lambda folds: folds.assign(fold="first"), ("fold 'first'", "not a whole number")),
            (lambda folds: folds.drop(columns="fold"), ("column fold is missing",)),
        ],
    )
    def test_folds_csv_edited(self, run_copy: ToyRun, change: Callable, words: Sequence[str]) -> None:
        edit_csv(run_copy.run_dir / "folds.csv", change)
        self.refused(run_copy, run_copy.run_dir, "folds.csv", *words)

    def test_two_people_who_changed_folds(self, run_copy: ToyRun) -> None:
        """Each is still in one fold and no fold is empty: only the hash in config.json knows."""
        edit_csv(run_copy.run_dir / "folds.csv", lambda folds: folds.assign(fold=1 - folds["fold"].astype(int)))
        self.refused(run_copy, run_copy.run_dir, "trained with folds_hash", "give another --run-dir")

    @pytest.mark.parametrize(
        ("flags", "words"),
        [
            (("--folds", "3"), ("--folds 2, not 3",)),
            (("--fold-seed", "5"), ("--fold-seed 0, not 5",)),
            (("--age-edges", "30", "60"), ("--age-edges (25, 40), not (30, 60)",)),
            (("--lr", "0.5"), ("fold0", "lr 0.001, now 0.5", "--overwrite")),
            (("--seed", "3"), ("seed 0, now 3",)),
            (("--backbone", "test_resnet"), ("'test_efficientnet', now 'test_resnet'",)),
        ],
    )
    def test_other_settings_on_a_run_that_is_there(
        self, toy_run: ToyRun, flags: Sequence[str], words: Sequence[str]
    ) -> None:
        self.refused(toy_run, toy_run.run_dir, *words, "give another --run-dir", flags=flags)

    def test_another_device_may_go_on(self, toy_run: ToyRun) -> None:
        train_toy(toy_run.crop_dir, toy_run.run_dir, flags=("--device", "cpu", "--workers", "1"))

    def test_the_run_of_another_data_root(self, toy_run: ToyRun, data_copy: Toy) -> None:
        words = (str(toy_run.root), str(data_copy.root), "give another --run-dir")
        self.refused(data_copy, toy_run.run_dir, *words)

    def test_a_fact_that_is_no_label(self, data_copy: Toy, tmp_path: Path) -> None:
        edit_csv(data_copy.crop_dir / "faces.csv", lambda faces: faces.assign(gender="unknown"))
        self.refused(data_copy, tmp_path / "run", "no gender label", tasks=("gender",))

    def test_a_crop_that_has_gone_bad(self, data_copy: Toy, tmp_path: Path) -> None:
        for crop_path in (data_copy.crop_dir / "train").rglob("mask1.jpg"):
            crop_path.write_bytes(b"")
        with pytest.raises(UserError, match=r"mask1\.jpg.* changed since .*crop_faces\.py"):
            train_toy(data_copy.crop_dir, tmp_path / "run")


def raise_no_network(*_: object) -> None:
    raise UserError("no network here")
