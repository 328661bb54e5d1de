"""check_data on tables and class folders, and on data sets made from the same faces."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
from layout_toys import touch
from picture_toys import scene
from test_check_data import examined
from toy_data import crop, detect_by_hand, make_remade, train_toy

from check_data.findings import OK, PROBLEM, WARNING
from core.images import read_photo, write_photo
from preprocessing import detect_faces

LABELS = ("with_mask", "incorrect", "no mask")


def make_table(root: Path, count: int = 12, **columns: Sequence[object]) -> Path:
    """Photos 0.jpg, 1.jpg ... of different scenes, every label of the mask in turn."""
    for number in range(count):
        write_photo(root / f"{number}.jpg", scene(number))
    table = {"path": [f"{number}.jpg" for number in range(count)], "mask": [LABELS[n % 3] for n in range(count)]}
    pd.DataFrame(table | columns).to_csv(root / "photos.csv", index=False, sep=";", encoding="cp949")
    return root


def test_a_table_of_masks_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_table(tmp_path, 15, 메모=["가나다"] * 15)
    write_photo(root / "new" / "unused.jpg", scene(99))
    code, found = examined(root, capsys)
    assert code == 0
    assert found["layout"]["summary"].startswith("table: 15 training photos of 15 people")
    assert found["layout"]["details"] == ["photos.csv: cp949, semicolons, 15 rows, columns path, mask, 메모"]
    assert found["other files"]["severity"] == WARNING
    assert found["other files"]["summary"].startswith("1 picture not used: in no row of the table")
    assert found["other files"]["details"] == ["new/unused.jpg"]
    assert found["labels"]["details"] == [f"{task}: 15 of 15 photos have none" for task in ("gender", "age")]
    assert found["people"]["summary"] == "15 photos without a person, each taken for one"
    assert found["folds"]["summary"] == "5 folds are possible; every class has as many people or more"
    printed = " ".join(check["summary"] for check in found.values())
    assert "seven" not in printed and "7 photos" not in printed


def test_photos_of_a_person_and_their_ages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ages = ["31", "55", "20대", "40", "45", "", "108", *["30"] * 5]
    root = make_table(tmp_path, person=["anna", "anna", "anna", "b", "b", *["c"] * 7], age=ages)
    _, found = examined(root, capsys)
    assert found["people"]["summary"] == "3 people with up to 7 photos"
    assert found["people"]["numbers"] == {"photos": {"2": 1, "3": 1, "7": 1}}
    assert (found["ages apart"]["severity"], found["ages apart"]["details"]) == (
        WARNING,
        ["anna: 31 and 55 years", "c: 30 and 108 years"],
    )


def test_an_age_beyond_those_that_are_learned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, found = examined(make_table(tmp_path, age=[*range(20, 31), 119]), capsys)
    assert found["ages"]["severity"] == WARNING
    assert found["ages"]["details"] == ["11.jpg: 119 years"]
    assert "1 above 100 years" in found["ages"]["summary"]


@pytest.mark.parametrize(
    ("masks", "severity", "words"),
    [
        (["wear"] * 4 + ["incorrect"] * 5 + ["no mask"] * 3, WARNING, "mask wear 4 people, mask not_wear 3 people"),
        (["wear", "incorrect", "no mask", "wear", *[""] * 8], PROBLEM, "fewer labelled people than 5 folds: mask"),
    ],
)
def test_folds_are_judged_by_the_labelled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], masks: list[str], severity: str, words: str
) -> None:
    _, found = examined(make_table(tmp_path, mask=masks), capsys)
    assert found["folds"]["severity"] == severity
    assert words in found["folds"]["summary"]


def test_two_genders_of_a_person_are_a_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_table(tmp_path, person=["anna"] * 12, gender=["m", "f", *["m"] * 10])
    code, found = examined(root, capsys)
    assert (code, found["names"]["severity"]) == (1, PROBLEM)
    assert "person 'anna' has gender male in line 2 and female in line 3" in found["names"]["details"][0]


def test_photos_that_look_alike_although_each_is_a_person(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_table(tmp_path)
    write_photo(root / "5.jpg", read_photo(root / "4.jpg")[:-1, :-1], quality=70)
    _, found = examined(root, capsys)
    assert found["people"]["severity"] == WARNING
    assert found["people"]["summary"].endswith("need one name in the column person")
    assert found["people"]["details"] == ["4.jpg = 5.jpg"]
    make_table(root, person=["", "", "", "", "x", "x", *[""] * 6])
    write_photo(root / "5.jpg", read_photo(root / "4.jpg")[:-1, :-1], quality=70)
    _, found = examined(root, capsys)
    assert (found["people"]["severity"], found["near copies"]["severity"]) == (OK, OK)


def test_a_picture_twice_contradicts_itself_only_where_both_labels_are_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for masks, severity in ((["wear", ""], OK), (["wear", "incorrect"], PROBLEM)):
        root = make_table(tmp_path, mask=[*masks, *["wear", "incorrect", "no mask"] * 3, "wear"])
        (root / "1.jpg").write_bytes((root / "0.jpg").read_bytes())
        _, found = examined(root, capsys)
        assert found["two labels"]["severity"] == severity


def test_class_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(15):
        write_photo(tmp_path / LABELS[number % 3].replace(" ", "_") / f"{number}.jpg", scene(number))
    write_photo(tmp_path / "other" / "x.jpg", scene(99))
    _, found = examined(tmp_path, capsys)
    assert found["layout"]["details"] == [
        "train: folders incorrect as incorrect, no_mask as not_wear, with_mask as wear"
    ]
    assert found["classes"]["numbers"]["mask"]["photos"] == {"wear": 5, "incorrect": 5, "not_wear": 5}


def add_manifest(root: Path, *shared: str) -> None:
    """A manifest in which the photos whose paths begin with one of `shared` have one source."""
    paths = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*.*g"))]
    own = [path if "/eval/" in path else path.rsplit("/", 1)[0] for path in paths]
    sources = ["one.jpg" if path.startswith(shared) else name for path, name in zip(paths, own, strict=True)]
    pd.DataFrame({"path": paths, "source": sources}).to_csv(root / "manifest.csv", index=False)


def test_people_of_one_source_face_are_told_by_every_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_remade(tmp_path / "data", people_count=12, eval_photos=7)
    first = sorted(path.name for path in (root / "images" / "train").iterdir())[0]
    add_manifest(root, f"images/train/{first}", "images/eval/900002")
    code, found = examined(root, capsys)
    assert (code, found["same faces"]["severity"]) == (1, PROBLEM)
    assert "1 eval photo also in the training part" in found["same faces"]["summary"]
    sentence = "2 people share source faces (1, 1 of them in train and eval at once): scores will be too good"
    detect_by_hand(root, tmp_path / "crops")
    assert f"warning: {sentence}\n" in capsys.readouterr().out
    crop(tmp_path / "crops")
    train_toy(tmp_path / "crops", tmp_path / "run", flags=("--fold", "0"))
    assert f"warning: {sentence}\n" in capsys.readouterr().out
    add_manifest(root, "nothing")
    detect_faces.main(["--crop-dir", str(tmp_path / "crops"), "--workers", "1"])
    train_toy(tmp_path / "crops", tmp_path / "run", flags=("--fold", "1"))
    assert "warning" not in capsys.readouterr().out


def test_a_foreign_manifest_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_remade(tmp_path / "data")
    touch(root / "manifest.csv", "path,source\n\x00\n")
    _, found = examined(root, capsys)
    assert found["same faces"]["severity"] == OK
