"""tools.learning_curve: parts of the people, scores out of fold, the table, and what is refused."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from toy_data import Toy, edit_csv, refusal, table, train_toy

from core.cli import UserError
from core.files import read_json, write_json
from reporting.data_sections import curve_section
from reporting.load import gather
from storage.learning_curve import read_curve
from tools import learning_curve

pytest_plugins = ("toy_fixtures",)

FROZEN = ("--backbone", "test_efficientnet_ln", "--backbone-lr", "0", "--epochs", "1")


@pytest.fixture(scope="module")
def run_dir(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("curve")
    crop_dir = shutil.copytree(toy.crop_dir, folder / "crops")
    train_toy(crop_dir, folder / "run", ("gender",), FROZEN)
    train_toy(crop_dir, folder / "run", ("mask",), ("--backbone", "test_efficientnet_ln", "--epochs", "1"))
    return folder / "run"


def test_a_row_for_each_part_of_the_people(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learning_curve.main(["--run-dir", str(run_dir), "--smallest", "3"])
    frame = table(run_dir / "learning_curve.csv")
    assert list(frame["task"]) == ["gender", "gender"]
    assert list(frame["people"].astype(int)) == [3, 6]
    assert frame["accuracy_value"].astype(float).between(0, 1).all()
    assert "gender, out of fold" in capsys.readouterr().out
    assert list(read_curve(run_dir)["people"]) == [3, 6]
    data = gather(run_dir)
    assert [row["people"] for row in curve_section(data)["rows"]] == [3, 6]
    assert curve_section(replace(data, curve=data.curve.assign(data_hash="of others"))) == {"rows": [], "is_old": True}


def test_photos_or_folds_that_nothing_was_trained_on(run_dir: Path, tmp_path: Path) -> None:
    copy, crops = (
        shutil.copytree(run_dir, tmp_path / "run"),
        shutil.copytree(run_dir.parent / "crops", tmp_path / "crops"),
    )
    edit_csv(copy / "folds.csv", lambda frame: frame.assign(fold=frame["fold"].to_numpy()[::-1]))
    refusal(learning_curve.main, ["--run-dir", copy], "folds.csv: not the folds that", "gender/fold0 was trained with")
    shutil.copyfile(run_dir / "folds.csv", copy / "folds.csv")
    settings = read_json(copy / "run.json")
    write_json(copy / "run.json", settings | {"crop_dir": str(crops)})
    edit_csv(crops / "faces.csv", lambda frame: frame.assign(gender="female"))
    edit_csv(crops / "crops.csv", lambda frame: frame)
    refusal(learning_curve.main, ["--run-dir", copy], "gender/fold0: trained with other photos or labels than")


def test_a_task_that_is_not_frozen(run_dir: Path) -> None:
    said = refusal(learning_curve.main, ["--run-dir", str(run_dir), "--task", "mask"])
    assert "no trained task with a frozen backbone" in said


def test_a_damaged_table(run_dir: Path, tmp_path: Path) -> None:
    text = "task,people,accuracy_value,accuracy_low,accuracy_high,macro_f1_value,macro_f1_low,macro_f1_high\n"
    (tmp_path / "learning_curve.csv").write_text(text + "age,many,1,1,1,1,1,1\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"learning_curve\.csv: .*many"):
        read_curve(tmp_path)
    assert read_curve(tmp_path / "other") is None


def test_a_table_of_an_earlier_version(tmp_path: Path) -> None:
    text = "task,people,accuracy_value,accuracy_low,accuracy_high,macro_f1_value,macro_f1_low,macro_f1_high\n"
    (tmp_path / "learning_curve.csv").write_text(text + "age,9,1,1,1,1,1,1\n", encoding="utf-8")
    assert read_curve(tmp_path)[["people", "data_hash"]].to_numpy().tolist() == [[9, ""]]
