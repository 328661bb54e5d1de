"""Checkpoints, logit tables and runs that do not belong together are refused by name, and nothing is written."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest
from bad_files import FOLDS, Bad
from toy_data import (
    ALL_TASKS,
    Main,
    Toy,
    ToyRun,
    crop,
    edit_csv,
    infer,
    make_competition,
    prepare,
    refusal,
    sign,
    snapshot,
    train_toy,
)

import ensemble
import inference
import predict
import submission
from core import files
from core.cli import UserError
from core.cropping import CropSettings
from reporting import __main__ as report

pytest_plugins = ("toy_fixtures",)


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


class TestInference:
    def refused(self, run: ToyRun, *words: str, flags: Sequence[object] = ()) -> None:
        argv = ["--run-dir", run.run_dir, "--device", "cpu", "--workers", "0", *flags]
        refusal(inference.main, argv, *words, untouched=[run.run_dir])

    def test_no_run(self, tmp_path: Path) -> None:
        refusal(inference.main, ["--run-dir", tmp_path / "none"], "none", "run train.py first", untouched=[tmp_path])

    def test_a_task_that_is_not_trained(self, run_copy: ToyRun) -> None:
        shutil.rmtree(run_copy.run_dir / "gender")
        self.refused(run_copy, "no trained fold", "train.py --task gender", flags=["--task", "gender"])

    def test_a_checkpoint_of_another_task(self, run_copy: ToyRun) -> None:
        shutil.rmtree(run_copy.run_dir / "mask")
        shutil.copytree(run_copy.run_dir / "age", run_copy.run_dir / "mask")
        self.refused(run_copy, "fold0", "checkpoint of task 'age'", "'mask'", flags=["--task", "mask"])

    @pytest.mark.parametrize("keep", [0, 5, 4000])
    def test_a_truncated_checkpoint(self, run_copy: ToyRun, keep: int) -> None:
        weights_path = run_copy.run_dir / "age" / "fold1" / "model.safetensors"
        os.truncate(weights_path, keep)
        self.refused(run_copy, str(weights_path), "damaged", "train it anew", flags=["--task", "age"])

    def test_a_checkpoint_that_is_gone(self, run_copy: ToyRun) -> None:
        weights_path = run_copy.run_dir / "age" / "fold1" / "model.safetensors"
        weights_path.unlink()
        self.refused(run_copy, str(weights_path), "no such file", flags=["--task", "age"])

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"format": 99}, ("format 99", "reads format 1")),
            ({"classes": ["a", "b"]}, ("trained for the classes a, b, but those of age are young, middle, old",)),
            ({"settings": {"colour": "red"}}, ("setting 'colour' is unknown", "backbone")),
            ({"settings": {"lr": "fast"}}, ("setting lr", "'fast'", "float")),
        ],
    )
    def test_a_config_that_was_edited(self, run_copy: ToyRun, change: dict, words: Sequence[str]) -> None:
        fold_dir = run_copy.run_dir / "age" / "fold0"
        edit_json(fold_dir / "config.json", **change)
        sign(fold_dir / "config.json")
        (fold_dir / "eval.csv").unlink()
        self.refused(run_copy, *words, flags=["--task", "age"])

    @pytest.mark.parametrize("text", ["", "{", "[1]"])
    def test_a_config_that_is_no_json(self, run_copy: ToyRun, text: str) -> None:
        (run_copy.run_dir / "age" / "fold0" / "config.json").write_text(text)
        self.refused(run_copy, "config.json", "JSON", flags=["--task", "age"])

    @pytest.mark.parametrize("bad", FOLDS, ids=lambda bad: bad.name)
    def test_a_fold_from_a_stranger(self, run_copy: ToyRun, bad: Bad) -> None:
        fold_dir = run_copy.run_dir / "age" / "fold0"
        (fold_dir / "eval.csv").unlink()
        bad.make(fold_dir)
        self.refused(run_copy, *bad.words, flags=["--task", "age"])
        assert not (fold_dir / "trace").exists()

    def test_crops_cut_in_another_way(self, toy_run: ToyRun, data_copy: Toy, tmp_path: Path) -> None:
        crop(data_copy.crop_dir, "--margin", "0.5")
        flags = ["--crop-dir", data_copy.crop_dir, "--output-dir", tmp_path / "out"]
        words = ("margin 0.5", f"margin {CropSettings.margin}", "crop the photos with the same settings")
        self.refused(toy_run, *words, flags=flags)

    def test_crops_of_another_data_root(self, toy_run: ToyRun, data_copy: Toy) -> None:
        words = (str(toy_run.root), str(data_copy.root), "give an --output-dir")
        self.refused(toy_run, *words, flags=["--crop-dir", data_copy.crop_dir])

    def test_unknown_task_and_device(self, toy_run: ToyRun) -> None:
        self.refused(toy_run, "'hat'", "mask", flags=["--task", "hat"])
        self.refused(toy_run, "--tta", "'spin'", flags=["--tta", "spin"])


def test_an_unknown_device_for_inference(run_copy: ToyRun) -> None:
    (run_copy.run_dir / "age" / "fold0" / "eval.csv").unlink()
    argv = ["--run-dir", run_copy.run_dir, "--device", "tpu9"]
    refusal(inference.main, argv, "--device tpu9", "auto and cpu", untouched=[run_copy.run_dir])


class TestEnsemble:
    def refused(self, run_dir: Path, *words: str, flags: Sequence[object] = ()) -> None:
        refusal(ensemble.main, ["--run-dir", run_dir, *flags], *words, untouched=[run_dir])

    def test_nothing_trained(self, tmp_path: Path) -> None:
        self.refused(tmp_path / "none", "no trained task", "run train.py")

    def test_a_missing_fold(self, run_copy: ToyRun) -> None:
        shutil.rmtree(run_copy.run_dir / "age" / "fold1")
        self.refused(run_copy.run_dir, "fold1 is not trained", "train.py --task age")

    @pytest.mark.parametrize(
        ("name", "command"), [("eval.csv", "run inference.py"), ("oof.csv", "train.py --task age --fold 1 --overwrite")]
    )
    def test_a_missing_table(self, run_copy: ToyRun, name: str, command: str) -> None:
        (run_copy.run_dir / "age" / "fold1" / name).unlink()
        self.refused(run_copy.run_dir, f"fold1/{name}", "no such file", command)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda table: table.iloc[1:], ("no row for 0000.jpg", "fold0 has")),
            (lambda table: table.replace("0000.jpg", "guest.jpg"), ("no row for 0000.jpg",)),
            (lambda table: pd.concat([table, table.iloc[:1]]), ("'0000.jpg' stands in more than one row",)),
            (lambda table: table.assign(old="nan"), ("0000.jpg", "not a finite number")),
            (lambda table: table.assign(old="inf"), ("not a finite number",)),
            (lambda table: table.assign(old="high"), ("not a finite number",)),
            (lambda table: table.rename(columns={"old": "elder"}), ("elder", "expected image_id, young, middle, old")),
            (lambda table: table[["image_id", "old", "middle", "young"]], ("expected image_id, young",)),
            (lambda table: table.drop(columns="image_id"), ("column image_id is missing",)),
        ],
    )
    def test_an_edited_table(self, run_copy: ToyRun, change: Callable, words: Sequence[str]) -> None:
        edit_csv(run_copy.run_dir / "age" / "fold1" / "eval.csv", change)
        self.refused(run_copy.run_dir, "fold1/eval.csv", *words)

    def test_a_photo_held_out_twice(self, run_copy: ToyRun) -> None:
        folds = [run_copy.run_dir / "age" / f"fold{fold}" / "oof.csv" for fold in (0, 1)]
        first = pd.read_csv(folds[0], dtype=str).iloc[:1]
        edit_csv(folds[1], lambda table: pd.concat([table, first]))
        self.refused(run_copy.run_dir, first["image_id"][0], "every photo is out of fold in one table")

    def test_a_folder_of_another_task(self, run_copy: ToyRun) -> None:
        flags = ["--age", run_copy.run_dir / "mask"]
        self.refused(run_copy.run_dir, "checkpoint of task 'mask', not of 'age'", flags=flags)

    @pytest.mark.parametrize("flags", [("--fold-seed", "9"), ("--folds", "3")])
    def test_runs_of_other_folds(self, toy_run: ToyRun, tmp_path: Path, flags: Sequence[str]) -> None:
        other = tmp_path / "other"
        train_toy(toy_run.crop_dir, other, ("age",), (*flags, "--epochs", "1"))
        infer(other)
        both = ["--age", toy_run.run_dir / "age", other / "age"]
        words = (str(other / "age"), "trained with other folds", "cannot be averaged")
        refusal(ensemble.main, ["--run-dir", tmp_path / "both", *both], *words, untouched=[tmp_path])
        tasks = ["--mask", toy_run.run_dir / "mask", "--age", other / "age"]
        refusal(ensemble.main, ["--run-dir", tmp_path / "both", *tasks], *words, untouched=[tmp_path])

    def test_a_run_of_other_training_photos(self, toy_run: ToyRun, tmp_path: Path) -> None:
        other = tmp_path / "other"
        fewer = prepare(make_competition(tmp_path / "data", people_count=18), tmp_path / "crops")
        train_toy(fewer.crop_dir, other, ("age",), ("--epochs", "1"))
        infer(other)
        both = ["--age", toy_run.run_dir / "age", other / "age"]
        words = ("trained with other training photos", "cannot be averaged")
        refusal(ensemble.main, ["--run-dir", tmp_path / "both", *both], *words, untouched=[tmp_path])

    @pytest.mark.parametrize("flags", [(), ("--calibrate",)])
    def test_out_of_fold_logits_that_are_not_finite(self, run_copy: ToyRun, flags: Sequence[str]) -> None:
        path = run_copy.run_dir / "age" / "fold0" / "oof.csv"
        edit_csv(path, lambda table: table.assign(old="inf"))
        self.refused(run_copy.run_dir, str(path), "not a finite number", flags=flags)

    def test_an_unknown_average(self, toy_run: ToyRun) -> None:
        self.refused(toy_run.run_dir, "--average", "'median'", "logit", "log_prob", flags=["--average", "median"])


class TestSubmission:
    def refused(self, run_dir: Path, *words: str, flags: Sequence[object] = ()) -> None:
        refusal(submission.main, ["--run-dir", run_dir, *flags], *words, untouched=[run_dir])

    def test_no_run(self, tmp_path: Path) -> None:
        self.refused(tmp_path / "none", "no run in it")

    @pytest.mark.parametrize("task", ALL_TASKS)
    def test_a_missing_table(self, run_copy: ToyRun, task: str) -> None:
        (run_copy.run_dir / f"{task}.csv").unlink()
        self.refused(run_copy.run_dir, f"{task}.csv", "no such file", f"--{task}")

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda table: table.iloc[1:], ("no row for 0000.jpg",)),
            (lambda table: table.replace("0000.jpg", "guest.jpg"), ("no row for 0000.jpg",)),
            (lambda table: pd.concat([table, table.iloc[:1].assign(image_id="guest.jpg")]), ("row for guest.jpg",)),
            (lambda table: table.assign(male=""), ("not a finite number",)),
            (lambda table: table.rename(columns={"male": "man"}), ("expected image_id, male, female",)),
        ],
    )
    def test_an_edited_table(self, run_copy: ToyRun, change: Callable, words: Sequence[str]) -> None:
        edit_csv(run_copy.run_dir / "gender.csv", change)
        self.refused(run_copy.run_dir, "gender.csv", *words)

    def test_the_table_of_another_task(self, toy_run: ToyRun) -> None:
        self.refused(toy_run.run_dir, "expected image_id, wear", flags=["--mask", toy_run.run_dir / "age.csv"])

    @pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999"])
    @pytest.mark.parametrize("name", ["age.csv", "age_oof.csv"])
    def test_a_table_that_is_not_finite(self, run_copy: ToyRun, name: str, value: str) -> None:
        path = run_copy.run_dir / name
        row = pd.read_csv(path)["image_id"][3]
        edit_csv(path, lambda table: table.assign(old=table["old"].where(table["image_id"] != row, value)))
        self.refused(run_copy.run_dir, str(path), row, "not a finite number", flags=["--decision", "auto"])

    def test_an_out_of_fold_table_that_lacks_a_photo(self, run_copy: ToyRun) -> None:
        edit_csv(run_copy.run_dir / "age_oof.csv", lambda table: table.iloc[1:])
        before = snapshot(run_copy.run_dir)
        with pytest.raises(UserError, match=r"age_oof\.csv: no row for .*, which the training part has"):
            submission.main(["--run-dir", str(run_copy.run_dir)])
        assert snapshot(run_copy.run_dir) == before

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda truth: truth.iloc[1:], ("no row for 0000.jpg",)),
            (lambda truth: truth.assign(ans="18"), ("ans '18'", "0 to 17")),
            (lambda truth: truth.drop(columns="ans"), ("column ans is missing",)),
        ],
    )
    def test_truth(self, toy_run: ToyRun, tmp_path: Path, change: Callable, words: Sequence[str]) -> None:
        path = tmp_path / "truth.csv"
        shutil.copy(toy_run.root / "truth.csv", path)
        edit_csv(path, change)
        self.refused(toy_run.run_dir, "truth", *words, flags=["--truth", path])


@pytest.mark.parametrize(
    "oof", [[1], {"model": []}, {"model": {"tasks": {"mask": 3}}}, {"model": {"tasks": {"mask": {"macro_f1": {}}}}}]
)
def test_scores_of_another_form(run_copy: ToyRun, oof: object) -> None:
    path = run_copy.run_dir / "scores.json"
    path.write_text(json.dumps({"oof": oof, "eval": None}))
    words = (f"{path}: not the scores that submission.py writes; run it again",)
    refusal(report.main, ["--run-dir", run_copy.run_dir, "--no-heat"], *words)
    photo = next((run_copy.root / "eval" / "images").iterdir())
    refusal(predict.main, [photo, "--run-dir", run_copy.run_dir, "--out", run_copy.run_dir / "seen"], *words)
    submission.main(["--run-dir", str(run_copy.run_dir)])
    report.main(["--run-dir", str(run_copy.run_dir), "--no-heat"])


@pytest.mark.parametrize("main", [submission.main, report.main])
def test_half_written_files_of_a_killed_process_are_removed(run_copy: ToyRun, main: Main) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = run_copy.run_dir / "report" / f".{files._HOST}-{dead.pid}-0123abcd.tmp.html"
    left.parent.mkdir()
    left.write_bytes(b"half")
    main(["--run-dir", str(run_copy.run_dir), *(["--no-heat"] if main is report.main else [])])
    assert not left.exists()
