"""Bad data: one line that names the thing and what was allowed, exit code 2, and not a file half-written."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
from toy_data import (
    Toy,
    crop,
    detect_by_hand,
    finish_run,
    make_competition,
    make_photos,
    make_remade,
    refusal,
)

import train
from core.cli import EXIT_BAD_INPUT, run_cli
from preprocessing import crop_faces, detect_faces

pytest_plugins = ("toy_fixtures",)


def test_exit_code_2_and_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["train.py", "--task", "mask", "--crop-dir", "nowhere"])
    with pytest.raises(SystemExit) as caught:
        run_cli(train.main)
    assert caught.value.code == EXIT_BAD_INPUT == 2
    assert capsys.readouterr().err == (
        "error: crop folder nowhere: no faces.csv in it; run preprocessing/detect_faces.py first\n"
    )


class TestData:
    """Data roots that detect_faces refuses, leaving no crop folder behind. Their tables: test_bad_files.py."""

    def refused(self, tmp_path: Path, root: Path, *words: str, flags: Sequence[str] = ()) -> None:
        argv = ["--data-dir", root, "--crop-dir", tmp_path / "crops", "--workers", "1", *flags]
        refusal(detect_faces.main, argv, *words, untouched=[tmp_path])
        assert not (tmp_path / "crops").exists()

    def test_no_such_folder(self, tmp_path: Path) -> None:
        self.refused(tmp_path, tmp_path / "nowhere", "nowhere", "no such folder")

    def test_a_file_for_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        self.refused(tmp_path, tmp_path / "file", "not a folder")

    def test_nothing_in_it(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        self.refused(tmp_path, tmp_path / "data", "no photos", ".jpg", ".png")

    @pytest.mark.parametrize("folder", ["train/images", "eval/images", "train/images/000002-1_female_Asian_23"])
    def test_empty_split_or_person(self, tmp_path: Path, folder: str) -> None:
        root = make_competition(tmp_path / "data")
        target = next(root.glob(f"{folder.rsplit('_', 1)[0]}*"))
        shutil.rmtree(target)
        target.mkdir()
        if folder == "train/images":
            (root / "train" / "train.csv").unlink()
        self.refused(tmp_path, root, target.name, "no ")

    @pytest.mark.parametrize("name", ["Anna", "000001_woman_Asian_20", "000001_female_Asian_young", "female_Asian_20"])
    def test_a_person_folder_that_does_not_parse(self, tmp_path: Path, name: str) -> None:
        root = make_remade(tmp_path / "data")
        next((root / "images" / "train").iterdir()).rename(root / "images" / "train" / name)
        self.refused(tmp_path, root, name, "id_gender_race_age")

    def test_an_eval_name_of_the_remade_layout_that_does_not_parse(self, tmp_path: Path) -> None:
        root = make_remade(tmp_path / "data")
        next((root / "images" / "eval").iterdir()).rename(root / "images" / "eval" / "holiday.jpg")
        self.refused(tmp_path, root, "holiday.jpg", "id_gender_race_age_masktype", "mask, incorrect, normal")

    def test_two_photos_of_one_stem(self, tmp_path: Path) -> None:
        root = make_remade(tmp_path / "data")
        photo_path = next((root / "images" / "train").rglob("normal.*"))
        shutil.copy(photo_path, photo_path.with_suffix(".jpeg"))
        self.refused(tmp_path, root, "normal.jpeg", "one photo per stem")

    def test_unknown_layout_and_detector(self, tmp_path: Path) -> None:
        root = make_photos(tmp_path / "data")
        self.refused(tmp_path, root, "'flat'", "competition, remade, table, photos", flags=["--layout", "flat"])
        self.refused(tmp_path, root, "'dlib'", "retinaface, uniface", flags=["--detector", "dlib"])
        self.refused(tmp_path, root, "--threshold 1.5", "between 0 and 1", flags=["--threshold", "1.5"])

    def test_no_data_dir_at_all(self, tmp_path: Path) -> None:
        refusal(detect_faces.main, ["--crop-dir", tmp_path / "crops"], "--data-dir is needed", untouched=[tmp_path])

    def test_the_crop_folder_of_another_data_root(self, toy: Toy, tmp_path: Path) -> None:
        other = make_competition(tmp_path / "other")
        argv = ["--data-dir", other, "--crop-dir", toy.crop_dir]
        refusal(detect_faces.main, argv, str(toy.root), str(other), "give another --crop-dir", untouched=[toy.crop_dir])

    def test_crops_before_faces(self, tmp_path: Path) -> None:
        refusal(crop_faces.main, ["--crop-dir", tmp_path], "run preprocessing/detect_faces.py", untouched=[tmp_path])

    @pytest.mark.parametrize(("flag", "value"), [("--margin", "-1"), ("--aspect", "99"), ("--size", "0")])
    def test_crop_settings_out_of_range(self, toy: Toy, flag: str, value: str) -> None:
        argv = ["--crop-dir", toy.crop_dir, flag, value]
        refusal(crop_faces.main, argv, flag, value, "must be from", untouched=[toy.crop_dir])


def test_unreadable_photos_are_named_and_the_pipeline_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_competition(tmp_path / "data")
    person = sorted((root / "train" / "images").iterdir())[0].name
    broken = {"cut": root / "train" / "images" / person / "mask1.jpg", "text": root / "eval" / "images" / "0000.jpg"}
    broken["cut"].write_bytes(broken["cut"].read_bytes()[:-300])
    broken["text"].write_text("no picture")
    detect_by_hand(root, tmp_path / "crops")
    said = capsys.readouterr().out
    assert "2 photos cannot be read" in said
    assert f"{person}/mask1.jpg (" in said
    assert "0000.jpg (not a picture that can be decoded)" in said
    crop(tmp_path / "crops")
    assert "2 photos have no crop" in capsys.readouterr().out
    finish_run(Toy(root, tmp_path / "crops"), tmp_path / "run")
    said = capsys.readouterr().out
    assert f"1 unreadable photos are left out of training: {person}/mask1.jpg" in said
    assert "1 unreadable eval photos get no logits: 0000.jpg" in said
    assert "1 unreadable photos get the commonest labels: 0000.jpg" in said
    answers = pd.read_csv(tmp_path / "run" / "submission.csv").set_index("ImageID")["ans"]
    assert len(answers) == 7
    assert 0 <= answers["0000.jpg"] <= 5  # most training photos are of worn masks
    faces = pd.read_csv(tmp_path / "crops" / "faces.csv", dtype=str).set_index("image_id")
    assert faces.loc["0000.jpg", "status"] == "missing"
    assert faces.loc["0000.jpg", "reason"] == "not a picture that can be decoded"
