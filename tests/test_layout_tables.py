"""The tables of a data root: train.csv, info.csv, and the truth that is read for scoring alone."""

from pathlib import Path

import pytest
from layout_toys import ANNA, BORIS, HEADER, ROWS, add_person, make_competition, make_remade, touch

from core.cli import UserError
from storage.eval_labels import read_eval_labels, read_eval_labels_csv
from storage.layouts import scan


@pytest.fixture
def competition(tmp_path: Path) -> Path:
    return make_competition(tmp_path)


@pytest.fixture
def remade(tmp_path: Path) -> Path:
    return make_remade(tmp_path)


def test_without_train_csv_the_folder_names_say_the_same(competition: Path) -> None:
    with_table = scan(competition)
    (competition / "train" / "train.csv").unlink()
    assert scan(competition).photos == with_table.photos


def test_without_info_csv_photos_come_by_name(competition: Path) -> None:
    (competition / "eval" / "info.csv").unlink()
    assert [photo.image_id for photo in scan(competition).of_split("eval")] == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    ("fact", "said", "row"),
    [
        ("age", ("32", "31"), f"1,female,Asian,32,{ANNA}"),
        ("gender", ("male", "female"), f"1,Male,Asian,31,{ANNA}"),
        ("race", ("White", "Asian"), f"1,female,White,31,{ANNA}"),
    ],
)
def test_train_csv_and_folder_name_disagree(competition: Path, fact: str, said: tuple[str, str], row: str) -> None:
    touch(competition / "train" / "train.csv", f"{HEADER}{row}\n001498-1,male,Asian,23,{BORIS}\n")
    with pytest.raises(UserError) as raised:
        scan(competition)
    message = str(raised.value)
    assert f"train.csv says {fact} {said[0]!r} and the folder name says {said[1]!r}" in message
    assert ANNA in message


def test_train_csv_may_know_people_whose_folder_says_nothing(competition: Path) -> None:
    add_person(competition / "train" / "images" / "carla")
    rows = f"9,Female,x,64,carla,yes\n1,female,Asian,31,{ANNA},no\n2,male,Asian,23,{BORIS},no\n"
    touch(competition / "train" / "train.csv", HEADER.replace("path", "path,glasses") + rows)
    facts = next(photo.facts for photo in scan(competition).photos if photo.image_id == "carla/normal.jpg")
    assert facts == {"gender": "female", "race": "x", "age": "64", "glasses": "yes", "mask": "not_wear"}


@pytest.mark.parametrize("age", ["130", "-3", "3.5", "", "²"])
def test_odd_age_in_train_csv(competition: Path, age: str) -> None:
    add_person(competition / "train" / "images" / "carla")
    touch(competition / "train" / "train.csv", f"{HEADER}{ROWS}9,female,x,{age},carla\n")
    with pytest.raises(UserError, match=r"age .* of .*carla is not a whole number from 0 to 120$"):
        scan(competition)


def test_odd_gender_in_train_csv(competition: Path) -> None:
    add_person(competition / "train" / "images" / "carla")
    touch(competition / "train" / "train.csv", f"{HEADER}{ROWS}9,woman,x,30,carla\n")
    with pytest.raises(UserError, match=r"gender 'woman' of .*carla is unknown; allowed are male, female$"):
        scan(competition)


@pytest.mark.parametrize(
    ("table", "match"),
    [
        ("ImageID,ans\na.jpg,0\nb.jpg,0\na.jpg,0\n", r"info\.csv: ImageID 'a\.jpg' stands in more than one row"),
        ("ImageID,ans\na.jpg,0\nb.jpg,0\nc.jpg,0\n", r"info\.csv names c\.jpg, but no such photo is in .*eval"),
        ("ImageID,ans\na.jpg,0\n", r"photo b\.jpg in .*eval.images is not in info\.csv"),
        ("image,ans\na.jpg,0\nb.jpg,0\n", r"info\.csv: column ImageID is missing; it has image, ans"),
        ("", r"info\.csv: not a readable CSV"),
    ],
)
def test_info_csv_that_does_not_fit(competition: Path, table: str, match: str) -> None:
    touch(competition / "eval" / "info.csv", table)
    with pytest.raises(UserError, match=match):
        scan(competition)


@pytest.mark.parametrize(
    ("table", "match"),
    [
        (HEADER + ROWS + ROWS.splitlines()[0] + "\n", r"train\.csv: path '000001_female_Asian_31' stands in more than"),
        (HEADER + ROWS + "7,male,x,9,7_male_x_9\n", r"train\.csv names 7_male_x_9, but no such folder is in"),
        (HEADER + ROWS.splitlines()[0] + "\n", rf"folder {BORIS} in .*images is not in train\.csv"),
    ],
)
def test_train_csv_that_does_not_fit(competition: Path, table: str, match: str) -> None:
    touch(competition / "train" / "train.csv", table)
    with pytest.raises(UserError, match=match):
        scan(competition)


def test_tables_may_begin_with_a_byte_order_mark(competition: Path) -> None:
    before = scan(competition)
    touch(competition / "train" / "train.csv", "\ufeff" + HEADER + ROWS)
    touch(competition / "eval" / "info.csv", "\ufeffImageID,ans\nb.jpg,0\na.jpg,0\n")
    assert scan(competition) == before


def test_labels_of_eval_photos_are_read_for_scoring_alone(remade: Path) -> None:
    dataset = scan(remade)
    assert all(photo.facts == {} for photo in dataset.of_split("eval"))
    assert read_eval_labels(dataset, (25, 40)) == {
        "000007_male_White_40_mask3.jpg": {"mask": 0, "gender": 0, "age": 2},
        "000008_Female_Black_24_incorrect_mask.PNG": {"mask": 1, "gender": 1, "age": 0},
        "9_male_x_39_Normal.jpeg": {"mask": 2, "gender": 0, "age": 1},
    }
    assert read_eval_labels(dataset, (40, 60))["000007_male_White_40_mask3.jpg"]["age"] == 1


def test_truth_of_the_competition_layout(competition: Path) -> None:
    dataset = scan(competition)
    assert all(photo.facts == {} for photo in dataset.of_split("eval"))
    assert read_eval_labels(dataset, (25, 40)) is None
    touch(competition / "truth.csv", "ImageID,ans\na.jpg,17\nb.jpg,7\n")
    assert read_eval_labels(dataset, (25, 40)) == {
        "a.jpg": {"mask": 2, "gender": 1, "age": 2},
        "b.jpg": {"mask": 1, "gender": 0, "age": 1},
    }


@pytest.mark.parametrize("answer", ["18", "-1", "1.0", ""])
def test_truth_out_of_range(tmp_path: Path, answer: str) -> None:
    path = touch(tmp_path / "truth.csv", f"ImageID,ans\na.jpg,{answer}\n")
    with pytest.raises(UserError, match=rf"truth\.csv: ans '{answer}' of a\.jpg is not a whole number from 0 to 17"):
        read_eval_labels_csv(path)
