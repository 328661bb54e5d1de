"""Training honours label fixes, end to end."""

import json
from pathlib import Path

import pytest
from toy_data import FAST, Toy, infer, refusal, table, train_toy

import ensemble
import submission
import train
from preprocessing.annotation import Mark, Marks
from storage.crops import load_crops
from storage.label_corrections import apply_corrections
from storage.layouts import scan

pytest_plugins = ("toy_fixtures",)


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
