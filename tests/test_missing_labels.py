"""Labels that are missing, no eval photos, and runs of some folds, through the whole chain."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from toy_data import ALL_TASKS, FAST, Toy, ToyRun, edit_csv, infer, make_competition, prepare, refusal, table, train_toy

import ensemble
import submission
import train
from check_data import data_checks
from check_data.findings import OK, PROBLEM, WARNING
from check_data.scan import DataScan
from core.tasks import UNKNOWN, known_labels, task_named
from reporting.__main__ import main as report
from storage.folds import make_folds, person_strata
from storage.layouts import Dataset, Photo
from tools import compare, find_label_errors, look, runs, score

pytest_plugins = ("toy_fixtures",)
EDGES = (25, 40)
Change = Callable[[pd.DataFrame], pd.DataFrame]


def blank(faces: pd.DataFrame, rows: pd.Series, *facts: str) -> pd.DataFrame:
    faces.loc[rows, list(facts)] = ""
    return faces


def masks_alone(faces: pd.DataFrame) -> pd.DataFrame:
    return blank(faces, faces["split"] == "train", "gender", "age")


def every_label_missing_somewhere(faces: pd.DataFrame) -> pd.DataFrame:
    """Of 24 people: 12 with all labels, 6 with masks alone, 5 with all but masks, 1 with nothing; ages as ranges."""
    train_part = faces["split"] == "train"
    order = faces[train_part]["person"].drop_duplicates().tolist()
    place = faces["person"].map(lambda person: order.index(person) if person in order else -1)
    faces = blank(faces, train_part & place.between(12, 17), "gender", "age")
    faces = blank(faces, train_part & place.between(18, 22), "mask")
    faces = blank(faces, place == 23, "mask", "gender", "age")
    faces.loc[place == 0, "age"] = "18-24"
    faces.loc[place == 1, "age"] = "middle"
    return faces


def run_all(crop_dir: Path, run_dir: Path, *flags: str, folds: tuple[str, ...] = ()) -> None:
    train.main(["--crop-dir", str(crop_dir), "--run-dir", str(run_dir), *FAST, "--epochs", "1", *flags])
    infer(run_dir)
    ensemble.main(["--run-dir", str(run_dir), *folds])
    submission.main(["--run-dir", str(run_dir)])
    report(["--run-dir", str(run_dir), "--no-heat"])


def made(folder: Path, change: Change, *, people: int = 12) -> Toy:
    toy = prepare(make_competition(folder / "data", people_count=people), folder / "crops")
    edit_csv(toy.crop_dir / "faces.csv", change)
    return toy


def scores_of(run_dir: Path) -> dict:
    return json.loads((run_dir / "scores.json").read_text())


@pytest.fixture(scope="module")
def masks_run(tmp_path_factory: pytest.TempPathFactory) -> ToyRun:
    toy = made(tmp_path_factory.mktemp("masks"), masks_alone)
    run_dir = toy.root.parent / "run"
    run_all(toy.crop_dir, run_dir)
    return ToyRun(toy.root, toy.crop_dir, run_dir)


@pytest.fixture(scope="module")
def mixed_run(tmp_path_factory: pytest.TempPathFactory) -> ToyRun:
    toy = made(tmp_path_factory.mktemp("mixed"), every_label_missing_somewhere, people=24)
    run_dir = toy.root.parent / "run"
    run_all(toy.crop_dir, run_dir)
    return ToyRun(toy.root, toy.crop_dir, run_dir)


class TestMasksAlone:
    def test_only_the_mask_task_is_trained(self, masks_run: ToyRun, capsys: pytest.CaptureFixture) -> None:
        run_all(masks_run.crop_dir, masks_run.run_dir)
        said = capsys.readouterr().out
        assert "gender, age: no training photo has a label of it; not trained" in said
        assert "no 18-class file: tasks gender, age have no model" in said
        assert not (masks_run.run_dir / "gender").exists()
        assert not (masks_run.run_dir / "submission.csv").exists()

    def test_predictions(self, masks_run: ToyRun) -> None:
        found = table(masks_run.run_dir / "predictions.csv")
        assert list(found.columns) == ["ImageID", "mask", "mask_probability"]
        assert len(found) == 7
        assert set(found["mask"]) <= {"wear", "incorrect", "not_wear"}
        assert found["mask_probability"].between(1 / 3 - 1e-4, 1).all()

    def test_scores(self, masks_run: ToyRun) -> None:
        scores = scores_of(masks_run.run_dir)
        for part, photos in (("oof", 84), ("eval", 7)):
            assert list(scores[part]["model"]["tasks"]) == ["mask"]
            assert scores[part]["model"]["counts"]["mask"]["photos"] == photos
            assert "combined" not in scores[part]["model"]

    def test_a_typed_task_without_labels(self, masks_run: ToyRun, tmp_path: Path) -> None:
        argv = ["--task", "mask", "age", "--crop-dir", masks_run.crop_dir, "--run-dir", tmp_path / "run", *FAST]
        refusal(train.main, argv, "--task age: no training photo has a label of it")

    def test_tools(self, masks_run: ToyRun, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
        run_dir = str(masks_run.run_dir)
        score.main(["--task", "mask", "--run-dir", run_dir])
        compare.main([run_dir, run_dir, "--eval"])
        runs.main(["list", "--outputs", str(masks_run.run_dir.parent)])
        look.main(["--class", "mask=wear", "--run-dir", run_dir, "--out", str(tmp_path / "look.jpg")])
        assert "gender?" in capsys.readouterr().out


class TestEveryLabelMissingSomewhere:
    def test_what_is_left_out_is_said(self, mixed_run: ToyRun, capsys: pytest.CaptureFixture) -> None:
        run_all(mixed_run.crop_dir, mixed_run.run_dir)
        said = capsys.readouterr().out
        assert "mask: 42 of 168 photos have no mask label and are left out" in said
        assert "gender: 49 of 168 photos have no gender label and are left out" in said
        assert "age: 14 photos have no exact years" in said
        assert "learns classes instead" in said
        assert "18 classes (84 photos of 12 people)" in said

    def test_out_of_fold_tables_have_the_labelled_photos(self, mixed_run: ToyRun) -> None:
        counts = {name: len(table(mixed_run.run_dir / f"{name}_oof.csv")) for name in ALL_TASKS}
        assert counts == {"mask": 126, "gender": 119, "age": 119}

    def test_scores_count_their_own_photos(self, mixed_run: ToyRun) -> None:
        model = scores_of(mixed_run.run_dir)["oof"]["model"]
        assert model["counts"] == {
            "combined": {"photos": 84, "people": 12},
            "mask": {"photos": 126, "people": 18},
            "gender": {"photos": 119, "people": 17},
            "age": {"photos": 119, "people": 17},
        }
        assert sum(row["photos"] for row in model["classes"]) == 84
        assert (model["photos"], model["people"]) == (161, 23)

    def test_submission_and_predictions(self, mixed_run: ToyRun) -> None:
        answers, found = (table(mixed_run.run_dir / name) for name in ("submission.csv", "predictions.csv"))
        assert list(found["ImageID"]) == list(answers["ImageID"])
        named = {name: found[name].map(task_named(name).classes.index) for name in ALL_TASKS}
        assert (named["mask"] * 6 + named["gender"] * 3 + named["age"] == answers["ans"]).all()
        assert "age_years" not in found.columns

    def test_every_person_is_in_one_fold(self, mixed_run: ToyRun) -> None:
        assert Counter(table(mixed_run.run_dir / "folds.csv")["fold"]) == {0: 12, 1: 12}

    def test_rules_and_suspects(self, mixed_run: ToyRun) -> None:
        submission.main(["--run-dir", str(mixed_run.run_dir), "--decision", "shift"])
        report(["--run-dir", str(mixed_run.run_dir), "--no-heat"])
        pytest.importorskip("cleanlab")
        find_label_errors.main(["--run-dir", str(mixed_run.run_dir)])


def test_an_age_range_over_an_edge(data_copy: Toy, tmp_path: Path) -> None:
    edit_csv(data_copy.crop_dir / "faces.csv", lambda faces: faces.assign(age=faces["age"].replace("20", "20-29")))
    argv = ["--crop-dir", data_copy.crop_dir, "--run-dir", tmp_path / "run", *FAST]
    refusal(train.main, argv, "photo 000000-1_male", "age 20-29", "groups begin at 25 and 40")


def test_labels_of_too_few_people(data_copy: Toy, tmp_path: Path) -> None:
    first = "000000-1_male_Asian_20"
    edit_csv(data_copy.crop_dir / "faces.csv", lambda faces: blank(faces, faces["person"] != first, "mask"))
    argv = ["--crop-dir", data_copy.crop_dir, "--run-dir", tmp_path / "run", *FAST]
    refusal(train.main, argv, "task mask: nobody in fold", "has a label", untouched=[tmp_path / "run"])


class TestWithoutEvalPhotos:
    @pytest.fixture
    def trained(self, tmp_path: Path) -> ToyRun:
        toy = made(tmp_path, lambda faces: faces[faces["split"] == "train"])
        run_all(toy.crop_dir, tmp_path / "run")
        return ToyRun(toy.root, toy.crop_dir, tmp_path / "run")

    def test_out_of_fold_alone(self, trained: ToyRun, capsys: pytest.CaptureFixture) -> None:
        scores = scores_of(trained.run_dir)
        assert scores["eval"] is None
        assert scores["oof"]["model"]["photos"] == 84
        names = {path.name for path in trained.run_dir.glob("*.csv")}
        tables = {*(f"{name}_oof.csv" for name in ALL_TASKS), "folds.csv", "age_oof_years.csv"}
        assert names == {*tables, "predictions_oof.csv"}
        predictions = table(trained.run_dir / "predictions_oof.csv")
        logits = table(trained.run_dir / "mask_oof.csv").set_index("image_id").loc[predictions["ImageID"]]
        assert (len(predictions), list(predictions["mask"])) == (84, list(logits.idxmax(axis=1)))
        assert predictions["mask_probability"].between(1 / 3, 1).all()
        infer(trained.run_dir)
        ensemble.main(["--run-dir", str(trained.run_dir)])
        submission.main(["--run-dir", str(trained.run_dir)])
        said = capsys.readouterr().out
        for words in ("no eval photos in it, nothing to predict", "_oof.csv is up to date", "no eval photos: out-of"):
            assert words in said
        assert "out of fold: 84 photos of 12 people" in said


@pytest.fixture(scope="module")
def one_fold(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("one") / "run"
    train_toy(toy.crop_dir, run_dir, ALL_TASKS, ("--epochs", "1", "--fold", "1"))
    infer(run_dir)
    return run_dir


class TestSomeFolds:
    def test_what_is_missing_is_named(self, one_fold: Path) -> None:
        words = ("fold0 is not trained", "run train.py --task mask", "by --folds 1")
        refusal(ensemble.main, ["--run-dir", one_fold], *words, untouched=[one_fold])
        refusal(ensemble.main, ["--run-dir", one_fold, "--folds", "0", "1"], "fold0 is not trained")

    @pytest.mark.parametrize("folds", ["1", "trained"])
    def test_the_folds_there_are(self, one_fold: Path, capsys: pytest.CaptureFixture, folds: str) -> None:
        ensemble.main(["--run-dir", str(one_fold), "--folds", folds])
        submission.main(["--run-dir", str(one_fold)])
        report(["--run-dir", str(one_fold), "--no-heat"])
        said = capsys.readouterr().out
        assert "mask: 1 of 2 folds, fold1" in said
        assert "out of fold: 42 photos of 6 people" in said
        assert len(table(one_fold / "submission.csv")) == 7


class TestFolds:
    def test_people_are_stratified_by_what_is_known(self, toy_crops: Callable) -> None:
        rows = [{"image_id": f"{n}.jpg", "person": f"p{n:02}", "mask": ("wear", "not_wear")[n % 2]} for n in range(40)]
        strata = person_strata(toy_crops(rows), EDGES)
        fold_of = make_folds(strata, folds=5, seed=0)
        pairs = Counter((fold, strata[person]) for person, fold in fold_of.items())
        assert set(pairs.values()) == {4}
        assert len(pairs) == 10

    def test_a_person_with_a_label_on_some_photos(self, toy_crops: Callable) -> None:
        known = {"person": "p", "gender": "male", "age": "30"}
        rows = [{"image_id": "a.jpg", **known}, {"image_id": "b.jpg", "person": "p"}]
        assert person_strata(toy_crops(rows), EDGES) == {"p": (0, 1)}

    def test_only_known_gender_and_age_make_a_stratum_of_two(self, toy_crops: Callable) -> None:
        rows = [{"image_id": "a.jpg", "person": "p", "gender": "male", "mask": "wear"}]
        assert person_strata(toy_crops(rows), EDGES) == {"p": (0, UNKNOWN, 1)}


@pytest.mark.parametrize(("age", "label"), [("31", 1), ("30-39", 1), ("60-120", 2), ("old", 2), ("", UNKNOWN)])
def test_ages(age: str, label: int) -> None:
    assert task_named("age").label({"age": age}, EDGES) == label
    assert known_labels({"age": age}, EDGES) == ({} if label == UNKNOWN else {"age": label})


class TestCheckData:
    def scanned(self, *facts: dict[str, str]) -> DataScan:
        photos = tuple(Photo(f"{n}.jpg", "train", f"p{n}", f"{n}.jpg", known) for n, known in enumerate(facts))
        return DataScan(Dataset(Path("data"), "competition", photos, (), Path("data")), (), {}, EDGES, 2, Path("none"))

    def test_missing_labels_are_counted_by_task(self) -> None:
        found = data_checks.labels(self.scanned({"mask": "wear", "age": "31"}, {"mask": "wear", "age": ""}))
        assert found.severity == WARNING
        assert found.details == ("gender: 2 of 2 photos have none", "age: 1 of 2 photos have none")

    def test_labels_that_cannot_be_read_and_none_at_all(self) -> None:
        found = data_checks.labels(self.scanned({"age": "20-29"}, {}))
        assert (found.severity, len(found.details)) == (PROBLEM, 1)
        assert "groups begin at 25 and 40" in found.details[0]
        assert data_checks.labels(self.scanned({}, {})).severity == PROBLEM

    def test_checks_of_masks_alone(self) -> None:
        data = self.scanned(*({"mask": mask} for mask in task_named("mask").classes * 2))
        assert list(data_checks.classes(data).numbers) == ["mask"]
        assert data_checks.classes(data).severity == data_checks.balance(data).severity == OK
        for check in (data_checks.ages, data_checks.folds):
            assert check(data).severity in (OK, WARNING)


class TestValidate:
    def test_without_a_run(self, toy: Toy, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
        ids = toy.root / "eval" / "info.csv"
        argv = ["--run-dir", str(tmp_path / "none"), "--validate", str(ids)]
        submission.main([*argv, "--ids", str(ids)])
        submission.main([*argv, "--data-dir", str(toy.root)])
        assert capsys.readouterr().out.count("valid, 7 rows") == 2
        short = tmp_path / "short.csv"
        pd.read_csv(ids, dtype=str).iloc[1:].to_csv(short, index=False)
        refusal(submission.main, ["--validate", short, "--ids", ids], "6 rows, expected 7", "lacks")
        refusal(submission.main, ["--ids", ids], "--validate FILE")
