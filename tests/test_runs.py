"""Whole runs of every layout: the same answers whatever the eval labels say, and CSVs checked."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from toy_data import (
    ALL_TASKS,
    FAST,
    Toy,
    ToyRun,
    infer,
    make_photos,
    make_remade,
    prepare,
    refusal,
    snapshot,
    table,
    train_toy,
)

import ensemble
import submission
import train

pytest_plugins = ("toy_fixtures",)


class TestLayouts:
    def test_the_remade_layout_is_scored_from_the_names(self, tmp_path: Path) -> None:
        toy = prepare(make_remade(tmp_path / "data"), tmp_path / "crops")
        submit_one_epoch(toy, tmp_path / "run")
        answers = table(tmp_path / "run" / "submission.csv")
        assert list(answers["ImageID"]) == sorted(path.name for path in (toy.root / "images" / "eval").iterdir())
        assert json.loads((tmp_path / "run" / "scores.json").read_text())["eval"]["model"]["photos"] == 7

    def test_eval_labels_decide_nothing(self, tmp_path: Path) -> None:
        """The same remade photos under names that lie about every label: the same answers in the same places."""
        honest = prepare(make_remade(tmp_path / "honest"), tmp_path / "crops")
        submit_one_epoch(honest, tmp_path / "run")
        liars = shutil.copytree(honest.root, tmp_path / "liars")
        names = sorted(path.name for path in (liars / "images" / "eval").iterdir())
        lies = {name: f"{name.split('_')[0]}_female_Black_70_normal.jpg" for name in names}
        for name, lie in lies.items():
            (liars / "images" / "eval" / name).rename(liars / "images" / "eval" / lie)
        submit_one_epoch(prepare(liars, tmp_path / "crops_of_liars"), tmp_path / "run_of_liars")
        first, again = (table(tmp_path / run / "submission.csv") for run in ("run", "run_of_liars"))
        assert list(again["ImageID"]) == [lies[image_id] for image_id in first["ImageID"]]
        assert list(again["ans"]) == list(first["ans"])

    def test_a_scrambled_truth_changes_the_score_alone(self, run_copy: ToyRun, tmp_path: Path) -> None:
        truth = table(run_copy.root / "truth.csv")
        truth["ans"] = (truth["ans"] + 7) % 18
        truth.to_csv(tmp_path / "scrambled.csv", index=False)
        before = (run_copy.run_dir / "submission.csv").read_bytes()
        scores = (run_copy.run_dir / "scores.json").read_text()
        submission.main(["--run-dir", str(run_copy.run_dir), "--truth", str(tmp_path / "scrambled.csv")])
        assert (run_copy.run_dir / "submission.csv").read_bytes() == before
        found, expected = json.loads((run_copy.run_dir / "scores.json").read_text()), json.loads(scores)
        assert found["eval"] != expected["eval"]
        assert found["oof"] == expected["oof"]

    def test_photos_of_another_data_set(self, toy_run: ToyRun, tmp_path: Path) -> None:
        other, output = prepare(make_photos(tmp_path / "album"), tmp_path / "album_crops"), tmp_path / "album_run"
        before = snapshot(toy_run.run_dir)
        infer(toy_run.run_dir, "--crop-dir", str(other.crop_dir), "--output-dir", str(output))
        ensemble.main(["--run-dir", str(output)])
        submission.main(["--run-dir", str(output)])
        answers = table(output / "submission.csv")
        expected = sorted(path.relative_to(other.root).as_posix() for path in other.root.rglob("*.png"))
        assert sorted(answers["ImageID"]) == expected
        assert not (output / "mask_oof.csv").exists()
        assert json.loads((output / "scores.json").read_text()) == {"oof": None, "eval": None}
        assert snapshot(toy_run.run_dir) == before

    def test_photos_of_another_data_set_with_truth_and_an_unreadable_one(self, toy_run: ToyRun, tmp_path: Path) -> None:
        root = make_photos(tmp_path / "album")
        (root / "photo 0.png").write_bytes(b"no picture")
        other, output = prepare(root, tmp_path / "album_crops"), tmp_path / "album_run"
        infer(toy_run.run_dir, "--crop-dir", str(other.crop_dir), "--output-dir", str(output))
        ensemble.main(["--run-dir", str(output)])
        ids = [path.relative_to(root).as_posix() for path in root.rglob("*.png")]
        pd.DataFrame({"ImageID": ids, "ans": 3}).to_csv(tmp_path / "truth.csv", index=False)
        submission.main(["--run-dir", str(output), "--truth", str(tmp_path / "truth.csv")])
        assert set(table(output / "submission.csv")["ImageID"]) == set(ids)
        scored = json.loads((output / "scores.json").read_text())["eval"]
        assert scored["model"]["photos"] == len(ids)


def submit_one_epoch(toy: Toy, run_dir: Path) -> None:
    train_toy(toy.crop_dir, run_dir, ALL_TASKS, ("--epochs", "1"))
    infer(run_dir)
    ensemble.main(["--run-dir", str(run_dir)])
    submission.main(["--run-dir", str(run_dir)])


class TestFlags:
    def test_show_settings_prints_and_writes_nothing(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        run_dir = tmp_path / "run"
        train.main(["--task", "mask", "age", "--run-dir", str(run_dir), *FAST, "--lr", "0.5", "--show-settings"])
        settings = json.loads(capsys.readouterr().out)
        assert list(settings) == ["mask", "age"]
        assert (settings["age"]["lr"], settings["age"]["folds"], settings["age"]["age_edges"]) == (0.5, 2, [25, 40])
        assert not run_dir.exists()

    def test_a_last_batch_of_one_photo_does_not_stop_the_training(self, toy: Toy, tmp_path: Path) -> None:
        """42 photos in batches of 41, and a network whose last maps are of one pixel."""
        train_toy(toy.crop_dir, tmp_path / "run", flags=("--batch-size", "41", "--epochs", "1", "--fold", "0"))
        assert len(table(tmp_path / "run" / "mask" / "fold0" / "oof.csv")) == 42

    def test_other_age_edges_give_other_groups(self, toy: Toy, tmp_path: Path) -> None:
        flags = ("--age-edges", "30", "60", "--epochs", "1", "--fold", "0")
        train_toy(toy.crop_dir, tmp_path / "run", ("age",), flags)
        config = json.loads((tmp_path / "run" / "age" / "fold0" / "config.json").read_text())
        assert config["settings"]["age_edges"] == [30, 60]

    def test_validate_accepts_the_submission(self, toy_run: ToyRun, capsys: pytest.CaptureFixture[str]) -> None:
        submission.main(["--run-dir", str(toy_run.run_dir), "--validate", str(toy_run.run_dir / "submission.csv")])
        assert "valid, 7 rows" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("spoil", "words"),
        [
            (lambda frame: frame.reset_index(), ("index", "ImageID, ans")),
            (lambda frame: frame[["ans", "ImageID"]], ("ans, ImageID", "allowed are exactly")),
            (lambda frame: frame.drop(columns="ans"), ("column ans is missing",)),
            (lambda frame: frame.iloc[1:], ("6 rows, expected 7", "lacks 0000.jpg")),
            (lambda frame: frame.replace({"ImageID": {"0000.jpg": "none.jpg"}}), ("lacks 0000.jpg",)),
            (lambda frame: pd.concat([frame, frame.iloc[:1].assign(ImageID="x.jpg")]), ("in excess x.jpg",)),
            (lambda frame: pd.concat([frame, frame.iloc[:1]]), ("'0000.jpg' stands in more than one row",)),
            (lambda frame: frame.assign(ans=18), ("ans '18' of 0000.jpg", "0 to 17")),
            (lambda frame: frame.assign(ans=-1), ("ans '-1'", "0 to 17")),
            (lambda frame: frame.assign(ans=3.0), ("ans '3.0'", "whole numbers")),
            (lambda frame: frame.assign(ans=""), ("ans ''", "whole numbers")),
        ],
    )
    def test_validate_names_what_is_wrong(
        self, toy_run: ToyRun, tmp_path: Path, spoil: object, words: tuple[str, ...]
    ) -> None:
        path = tmp_path / "bad.csv"
        spoil(table(toy_run.run_dir / "submission.csv")).to_csv(path, index=False)
        argv = ["--run-dir", toy_run.run_dir, "--validate", path]
        refusal(submission.main, argv, "bad.csv", *words, untouched=[toy_run.run_dir, tmp_path])
