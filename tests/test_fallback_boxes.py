"""Boxes given by hand: they override, are remembered, and are checked."""

import os
from pathlib import Path

import pytest
from face_data import PERSONS, box_of, make_data, run_detect

from core.boxes import Box
from core.cli import UserError


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return make_data(tmp_path / "data")


def manual(path: Path, *rows: str) -> list[str]:
    path.write_text("\n".join(("image_id,x1,y1,x2,y2", *rows)) + "\n", encoding="utf-8")
    return ["--manual", str(path)]


def test_a_manual_box_overrides_and_is_remembered(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    image_id = f"{PERSONS[0]}/mask1.jpg"
    row = run_detect(data, *manual(tmp_path / "boxes.csv", f"{image_id},1,2,30.5,40"))[image_id]
    assert (row["status"], box_of(row)) == ("manual", Box(1, 2, 30.5, 40))
    row = run_detect(data, "--threshold", "0.8")[image_id]
    assert (row["status"], box_of(row)) == ("manual", Box(1, 2, 30.5, 40))
    row = run_detect(data, "--threshold", "0.8", *manual(tmp_path / "boxes.csv", f"{image_id},5,6,50,60"))[image_id]
    assert (row["status"], box_of(row)) == ("manual", Box(5, 6, 50, 60))
    os.utime(data / row["path"], (1, 1))
    capsys.readouterr()
    assert run_detect(data, "--threshold", "0.8")[image_id]["status"] == "detected"
    assert f"manual box is dropped, since the photo has changed: {image_id}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("nobody/mask1.jpg,1,2,3,4", r"boxes.csv row 2: image_id 'nobody/mask1.jpg' is no photo of"),
        ("{},30,2,20,40", r"boxes.csv row 2: x2 20 is not more than x1 30"),
        ("{},1,40,20,40", r"boxes.csv row 2: y2 40 is not more than y1 40"),
        ("{},one,2,3,4", r"boxes.csv row 2: x1 'one' is not a number of pixels"),
        ("{},1,2,nan,4", r"boxes.csv row 2: x2 'nan' is not a number of pixels"),
        ("{},500,2,600,40", r"boxes.csv: box .* does not lie in its photo \(96 x 128\)"),
        ("{0},1,2,3,4\n{0},1,2,3,4", r"boxes.csv: image_id .* stands in more than one row"),
    ],
)
def test_a_bad_manual_table_names_the_row_and_value(data: Path, tmp_path: Path, row: str, message: str) -> None:
    flags = manual(tmp_path / "boxes.csv", row.format(f"{PERSONS[0]}/mask1.jpg"))
    with pytest.raises(UserError, match=message):
        run_detect(data, *flags)
    assert not Path("crop_images").exists()


def test_a_manual_table_without_its_columns_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "boxes.csv").write_text("image_id,x,y\n")
    with pytest.raises(UserError, match="column x1, y1, x2, y2 is missing"):
        run_detect(data, "--manual", str(tmp_path / "boxes.csv"))
