"""Corrections of training labels: exactly what the file says, nothing else, and refused by name where it cannot be."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from counted_ids import CountedId
from toy_data import FAST, Toy, infer, refusal, table, train_toy

import ensemble
import submission
import train
from core.cli import UserError
from core.tasks import task_named
from preprocessing.annotation import Mark, Marks
from storage.crops import Crops, load_crops
from storage.label_corrections import (
    apply_corrections,
    corrections_path,
    count_changes,
    crops_to_train,
    keep_corrections,
)
from storage.layouts import scan

pytest_plugins = ("toy_fixtures",)

EDGES = (25, 40)
Maker = Callable[[Sequence[dict[str, str]]], Crops]


@pytest.fixture
def crops(toy_crops: Maker) -> Crops:
    """Two people with three photos each, one race unknown to faces.csv."""
    return toy_crops([
        {"image_id": f"{person}/{mask}.jpg", "person": person, "mask": mask, "gender": gender, "age": age, "race": "A"}
        for person, gender, age in (("ann", "female", "24"), ("bob", "male", "50"))
        for mask in ("wear", "incorrect", "not_wear")
    ])  # fmt: skip


def write(folder: Path, text: str) -> Path:
    path = folder / "fixes.csv"
    path.write_text(text, encoding="utf-8")
    return path


def facts_of(crops: Crops, *columns: str) -> list[tuple[str, ...]]:
    return list(crops.frame[["image_id", *columns]].itertuples(index=False, name=None))


def test_a_person_gets_another_age_and_a_photo_another_mask(crops: Crops, tmp_path: Path) -> None:
    path = write(tmp_path, "image_id,person,mask,age\n,ann,,27\nbob/wear.jpg,,incorrect,\n")
    fixed = apply_corrections(crops, path)
    assert fixed.labels(task_named("age"), EDGES) == [1, 1, 1, 2, 2, 2]
    assert fixed.labels(task_named("mask"), EDGES) == [0, 1, 2, 1, 1, 2]
    assert facts_of(fixed, "gender") == facts_of(crops, "gender")
    assert count_changes(crops, fixed) == "4 photos of 2 people changed, 0 dropped"
    assert list(fixed.frame.columns) == list(crops.frame.columns)


def test_dropped_photos_and_people(crops: Crops, tmp_path: Path) -> None:
    fixed = apply_corrections(
        crops, write(tmp_path, "image_id,person,drop\nann/wear.jpg,,1\n,bob,1\nbob/wear.jpg,,0\n")
    )
    assert fixed.image_ids == ["ann/incorrect.jpg", "ann/not_wear.jpg", "bob/wear.jpg"]
    assert fixed.labels(task_named("gender"), EDGES) == [1, 1, 0]
    assert count_changes(crops, fixed) == "0 photos of 0 people changed, 3 dropped"


def test_the_row_of_a_photo_goes_before_that_of_its_person(crops: Crops, tmp_path: Path) -> None:
    fixed = apply_corrections(crops, write(tmp_path, "image_id,person,race\nann/wear.jpg,,A\n,ann,A\n"))
    assert fixed.hash == crops.hash
    rows = "image_id,person,mask\nann/wear.jpg,,not_wear\n,ann,incorrect\n"
    assert [mask for _, mask in facts_of(apply_corrections(crops, write(tmp_path, rows)), "mask")][:3] == [
        "not_wear", "incorrect", "incorrect"
    ]  # fmt: skip


def test_the_crops_themselves_and_their_hash(crops: Crops, tmp_path: Path) -> None:
    before = crops.frame.copy()
    fixed = apply_corrections(crops, write(tmp_path, "person,age\nann,30\n"))
    assert crops.frame.equals(before)
    assert fixed.hash != crops.hash


def test_rows_that_change_nothing_may_name_any_photo(crops: Crops, tmp_path: Path) -> None:
    fixed = apply_corrections(crops, write(tmp_path, "image_id,drop\neval.jpg,\nann/wear.jpg,1\n"))
    assert fixed.image_ids == crops.image_ids[1:]


def test_a_photo_that_could_not_be_read_may_be_dropped(crops: Crops, tmp_path: Path) -> None:
    path = write(tmp_path, "image_id,drop\nann/broken.jpg,1\n")
    assert apply_corrections(replace(crops, missing=("ann/broken.jpg",)), path).hash == crops.hash
    with pytest.raises(UserError, match=r"'ann/broken\.jpg' is not in the training part"):
        apply_corrections(crops, path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "image_id,colour\nann/wear.jpg,red\n",
            ("columns image_id, colour", "allowed are", "mask, gender, age", "race"),
        ),
        ("gender\nmale\n", ("columns gender", "image_id, person")),
        ("image_id,path\nann/wear.jpg,x\n", ("columns image_id, path",)),
        ("person,gender\neve,male\n", ("line 2", "person 'eve' is not in the training part")),
        ("image_id,mask\neval.jpg,wear\n", ("image_id 'eval.jpg' is not in the training part",)),
        ("image_id,person,age\nann/wear.jpg,ann,3\n", ("line 2", "names 2 of image_id and person")),
        ("image_id,person,age\n,,3\n", ("names 0 of image_id and person",)),
        ("person,age\nann,30\nann,31\n", ("line 3", "person 'ann' stands in more than one row")),
        ("person,gender\nann,woman\n", ("gender 'woman'", "allowed are female, male")),
        ("person,age\nann,old\n", ("age 'old'", "whole numbers")),
        ("person,drop\nann,yes\n", ("drop 'yes'", "1, 0 or empty")),
    ],
)
def test_what_is_refused(crops: Crops, tmp_path: Path, text: str, words: Sequence[str]) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UserError) as caught:
        apply_corrections(crops, path)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path), *words):
        assert word in message


class TestRuns:
    def test_a_run_keeps_its_copy_and_goes_on_with_it(self, crops: Crops, tmp_path: Path) -> None:
        run_dir, given = tmp_path / "run", write(tmp_path, "person,age\nann,30\n")
        fixed = crops_to_train(run_dir, crops, given)
        assert not run_dir.exists()
        keep_corrections(run_dir, given)
        (run_dir / "run.json").write_text("{}")
        given.write_text("person,age\nann,31\n")
        assert crops_to_train(run_dir, crops, None).hash == fixed.hash
        with pytest.raises(UserError, match=r"begun with those in .*label_fixes\.csv; give another --run-dir"):
            crops_to_train(run_dir, crops, given)

    def test_a_run_begun_without_any_refuses_them(self, crops: Crops, tmp_path: Path) -> None:
        (tmp_path / "run.json").write_text("{}")
        given = write(tmp_path, "person,age\nann,30\n")
        with pytest.raises(UserError, match=r"fixes\.csv: run folder .* was begun with none"):
            crops_to_train(tmp_path, crops, given)
        assert crops_to_train(tmp_path, crops, None) is crops

    def test_nothing_given_is_nothing_kept(self, crops: Crops, tmp_path: Path) -> None:
        keep_corrections(tmp_path, None)
        assert not corrections_path(tmp_path).exists()

    def test_a_file_that_is_not_there(self, crops: Crops, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"none\.csv: no such file"):
            crops_to_train(tmp_path, crops, tmp_path / "none.csv")


@pytest.fixture(scope="module")
def fixed_run(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run over labels with one person of another age and one photo dropped, and the file that says so."""
    folder = tmp_path_factory.mktemp("fixed")
    persons = sorted(path.name for path in (toy.root / "train" / "images").iterdir())
    fixes = folder / "fixes.csv"
    fixes.write_text(f"image_id,person,age,drop\n,{persons[0]},70,\n{persons[1]}/mask2.png,,,1\n")
    train_toy(toy.crop_dir, folder / "run", ("mask", "gender", "age"), ("--epochs", "1", "--label-fixes", str(fixes)))
    return folder / "run", fixes


def test_every_step_sees_the_corrected_labels(fixed_run: tuple[Path, Path]) -> None:
    run_dir, fixes = fixed_run
    assert (run_dir / "label_fixes.csv").read_text() == fixes.read_text()
    dropped = fixes.read_text().splitlines()[2].split(",")[0]
    held_out = [
        image_id for fold in (0, 1) for image_id in table(run_dir / "age" / f"fold{fold}" / "oof.csv")["image_id"]
    ]
    assert len(held_out) == 83
    assert dropped not in held_out
    infer(run_dir)
    ensemble.main(["--run-dir", str(run_dir)])
    submission.main(["--run-dir", str(run_dir)])
    assert json.loads((run_dir / "scores.json").read_text())["oof"]["model"]["photos"] == 83


def test_photos_marked_as_showing_no_face_are_not_learned_from(toy: Toy, tmp_path: Path) -> None:
    dataset = scan(toy.root)
    unwanted, unanswered = dataset.of_split("train")[3].image_id, dataset.of_split("eval")[0].image_id
    marks = Marks(tmp_path / "boxes.csv", dataset)
    for image_id in (unwanted, unanswered):
        marks.put(image_id, Mark(no_face=True))
    assert marks.no_face_path.read_text() == f"image_id,drop\n{unwanted},1\n{unanswered},\n"
    crops = load_crops(toy.crop_dir, "train")
    assert set(crops.image_ids) - set(apply_corrections(crops, marks.no_face_path).image_ids) == {unwanted}


def test_the_run_goes_on_with_them_and_refuses_others(fixed_run: tuple[Path, Path], toy: Toy, tmp_path: Path) -> None:
    run_dir, _ = fixed_run
    train_toy(toy.crop_dir, run_dir, ("mask",), ("--epochs", "1"))
    other = tmp_path / "other.csv"
    other.write_text("person,age\n")
    argv = ["--task", "mask", "--crop-dir", toy.crop_dir, "--run-dir", run_dir, *FAST, "--epochs", "1"]
    refusal(
        train.main, [*argv, "--label-fixes", other], "other.csv", "label_fixes.csv", "--run-dir", untouched=[run_dir]
    )
    new = ["--task", "mask", "--crop-dir", toy.crop_dir, "--run-dir", tmp_path / "new", *FAST]
    other.write_text("person,age\neve,3\n")
    refusal(train.main, [*new, "--label-fixes", other], "line 2", "'eve'", untouched=[tmp_path])


def uses_of_cells(toy_crops: Maker, folder: Path, photos: int) -> int:
    """Hashes and comparisons of cells while every one of so many photos gets a correction."""
    rows = [{"image_id": f"{number}", "person": f"p{number}", "gender": "male"} for number in range(photos)]
    crops = toy_crops(rows)
    frame = crops.frame.astype(object).map(CountedId)
    lines = "".join(f"{number},,female\n" for number in range(photos))
    CountedId.used = 0
    fixed = apply_corrections(replace(crops, frame=frame), write(folder, f"image_id,person,gender\n{lines}"))
    assert set(fixed.frame["gender"]) == {"female"}
    return CountedId.used


def test_the_work_grows_with_the_corrections_and_not_with_their_square(toy_crops: Maker, tmp_path: Path) -> None:
    assert uses_of_cells(toy_crops, tmp_path, 800) < 5 * uses_of_cells(toy_crops, tmp_path, 200)
