"""From photos to submission.csv: every file of the contract, and its numbers computed in another way."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import timm
import torch
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score, f1_score
from toy_data import (
    ALL_TASKS,
    ToyRun,
    edit_csv,
    infer,
    table,
    train_toy,
)

import ensemble
import submission
from core.tasks import TASKS
from evaluation.logits import DEFAULT_AVERAGE
from storage.crops import content_of, load_crops

pytest_plugins = ("toy_fixtures",)

FOLDS = (0, 1)
CLASSES = {task.name: list(task.classes) for task in TASKS}


def fold_tables(run_dir: Path, task: str, name: str) -> list[pd.DataFrame]:
    return [table(run_dir / task / f"fold{fold}" / name) for fold in FOLDS]


def by_id(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.set_index("image_id").sort_index()


class TestContract:
    """The drawn people's run, against the list of files and columns that others rely on."""

    def test_faces_csv(self, drawn_run: ToyRun) -> None:
        faces = table(drawn_run.crop_dir / "faces.csv")
        assert " ".join(faces.columns).startswith("image_id split person path x1 y1 x2 y2 score status mask gender age")
        assert faces["split"].value_counts().to_dict() == {"train": 56, "eval": 6}
        assert set(faces["status"]) <= {"detected", "fallback", "manual", "missing"}
        assert faces.loc[faces["split"] == "eval", ["mask", "gender", "age"]].isna().all().all()

    def test_crops_lie_in_the_tree_of_the_photos(self, drawn_run: ToyRun) -> None:
        for path in table(drawn_run.crop_dir / "faces.csv")["path"]:
            assert (drawn_run.root / path).is_file()
            assert cv2.imread(str(drawn_run.crop_dir / path)).shape == (46, 46, 3)

    def test_folds_csv(self, drawn_run: ToyRun) -> None:
        folds = table(drawn_run.run_dir / "folds.csv")
        assert list(folds.columns) == ["person", "fold"]
        assert sorted(folds["person"]) == sorted(path.name for path in (drawn_run.root / "train/images").iterdir())
        assert set(folds["fold"]) == set(FOLDS)

    @pytest.mark.parametrize("task", ALL_TASKS)
    def test_fold_folders(self, drawn_run: ToyRun, task: str) -> None:
        for fold in FOLDS:
            names = {path.name for path in (drawn_run.run_dir / task / f"fold{fold}").iterdir() if path.is_file()}
            assert {"config.json", "history.csv", "model.safetensors", "oof.csv", "eval.csv", "DONE"} <= names
            assert "state.safetensors" not in names

    @pytest.mark.parametrize("task", ALL_TASKS)
    def test_every_training_photo_is_held_out_once_and_by_the_fold_of_its_person(
        self, drawn_run: ToyRun, task: str
    ) -> None:
        faces = table(drawn_run.crop_dir / "faces.csv").set_index("image_id")
        fold_of = table(drawn_run.run_dir / "folds.csv").set_index("person")["fold"]
        seen: list[str] = []
        for fold, oof in enumerate(fold_tables(drawn_run.run_dir, task, "oof.csv")):
            assert list(oof.columns) == ["image_id", *CLASSES[task]]
            assert {fold_of[faces["person"][image_id]] for image_id in oof["image_id"]} == {fold}
            seen += list(oof["image_id"])
        assert sorted(seen) == sorted(faces.index[faces["split"] == "train"])

    @pytest.mark.parametrize("task", ALL_TASKS)
    def test_eval_tables_have_the_photos_of_info_csv(self, drawn_run: ToyRun, task: str) -> None:
        expected = set(table(drawn_run.root / "eval" / "info.csv")["ImageID"])
        for frame in [*fold_tables(drawn_run.run_dir, task, "eval.csv"), table(drawn_run.run_dir / f"{task}.csv")]:
            assert list(frame.columns) == ["image_id", *CLASSES[task]]
            assert set(frame["image_id"]) == expected and len(frame) == len(expected)
        assert list(table(drawn_run.run_dir / f"{task}_oof.csv").columns) == ["image_id", *CLASSES[task]]

    @pytest.mark.parametrize("run_name", ["drawn_run", "toy_run"])
    def test_submission(self, run_name: str, request: pytest.FixtureRequest) -> None:
        run = request.getfixturevalue(run_name)
        lines = (run.run_dir / "submission.csv").read_text().splitlines()
        info = table(run.root / "eval" / "info.csv")
        assert lines[0] == "ImageID,ans"
        assert [line.split(",")[0] for line in lines[1:]] == list(info["ImageID"])
        assert {line.split(",")[1] for line in lines[1:]} <= {str(answer) for answer in range(18)}

    def test_nothing_temporary_is_left(self, drawn_run: ToyRun) -> None:
        assert not list(drawn_run.root.parent.rglob("*.tmp*"))


class TestNumbers:
    """The same numbers, computed here in another way."""

    @pytest.mark.parametrize("fold", FOLDS)
    def test_a_checkpoint_alone_gives_the_out_of_fold_logits_again(self, toy_run: ToyRun, fold: int) -> None:
        """By timm, OpenCV and arithmetic alone, one photo at a time."""
        fold_dir = toy_run.run_dir / "mask" / f"fold{fold}"
        model = timm.create_model("test_efficientnet", num_classes=3)
        model.load_state_dict(load_file(fold_dir / "model.safetensors"))
        model.eval()
        config = json.loads((fold_dir / "config.json").read_text())
        scale, window = config["normalisation"], config["settings"]["window"]
        oof = by_id(table(fold_dir / "oof.csv"))
        paths = table(toy_run.crop_dir / "faces.csv").set_index("image_id")["path"]
        for image_id in oof.index[:10]:
            crop = cv2.imread(str(toy_run.crop_dir / paths[image_id]))[..., ::-1]
            assert (window, crop.shape) == ("wide", (46, 46, 3))
            rgb = cv2.resize(crop, (32, 32), interpolation=cv2.INTER_AREA) / 255.0
            image = (rgb - np.array(scale["mean"])) / np.array(scale["std"])
            with torch.inference_mode():
                logits = model(torch.tensor(image.transpose(2, 0, 1)[None], dtype=torch.float32))[0]
            np.testing.assert_allclose(logits.numpy(), oof.loc[image_id], atol=1e-4)

    def test_the_score_that_chose_the_weights_is_that_of_the_out_of_fold_table(self, toy_run: ToyRun) -> None:
        train_part = load_crops(toy_run.crop_dir, "train")
        for task in TASKS:
            labels = dict(zip(train_part.image_ids, train_part.labels(task, (25, 40)), strict=True))
            for fold, oof in enumerate(fold_tables(toy_run.run_dir, task.name, "oof.csv")):
                truth = [labels[image_id] for image_id in oof["image_id"]]
                predicted = oof[CLASSES[task.name]].to_numpy().argmax(axis=1)
                done = json.loads((toy_run.run_dir / task.name / f"fold{fold}" / "DONE").read_text())
                history = pd.read_csv(toy_run.run_dir / task.name / f"fold{fold}" / "history.csv")
                assert done["macro_f1"] == pytest.approx(f1_score(truth, predicted, average="macro"))
                assert done["macro_f1"] == pytest.approx(history["macro_f1"].max())

    def test_scores_json_is_what_scikit_learn_says(self, toy_run: ToyRun) -> None:
        train_part = load_crops(toy_run.crop_dir, "train")
        truth = pd.DataFrame(
            {task.name: train_part.labels(task, (25, 40)) for task in TASKS}, index=train_part.image_ids
        )
        oof = pd.DataFrame(
            {
                task: by_id(table(toy_run.run_dir / f"{task}_oof.csv")).loc[truth.index].to_numpy().argmax(axis=1)
                for task in ALL_TASKS
            },
            index=truth.index,
        )
        scores = json.loads((toy_run.run_dir / "scores.json").read_text())
        found = scores["oof"]["model"]
        for task in ALL_TASKS:
            assert_score(found["tasks"][task], truth[task], oof[task])
        assert_score(found["combined"], combined(truth), combined(oof))
        answers = table(toy_run.root / "truth.csv").merge(
            table(toy_run.run_dir / "submission.csv"), on="ImageID", suffixes=("_true", "")
        )
        assert_score(scores["eval"]["model"]["combined"], answers["ans_true"], answers["ans"])

    @pytest.mark.parametrize("average", ["logit", "log_prob"])
    def test_the_ensemble_is_the_mean_over_folds(self, run_copy: ToyRun, average: str) -> None:
        ensemble.main(["--run-dir", str(run_copy.run_dir), "--average", average])
        members = [by_id(frame) for frame in fold_tables(run_copy.run_dir, "gender", "eval.csv")]
        averaged = by_id(table(run_copy.run_dir / "gender.csv"))
        np.testing.assert_allclose(averaged, average_by_hand(members, average), atol=1e-6)

    def test_two_runs_averaged(self, toy_run: ToyRun, tmp_path: Path) -> None:
        other, both = tmp_path / "other", tmp_path / "both"
        train_toy(toy_run.crop_dir, other, ("age",), ("--seed", "1", "--epochs", "1"))
        infer(other)
        first = [f"--{task}={toy_run.run_dir / task}" for task in ("mask", "gender")]
        ages = ["--age", str(toy_run.run_dir / "age"), str(other / "age")]
        average = DEFAULT_AVERAGE
        ensemble.main([*first, *ages, "--run-dir", str(both)])
        submission.main(["--run-dir", str(both)])
        folds = [*fold_tables(toy_run.run_dir, "age", "eval.csv"), *fold_tables(other, "age", "eval.csv")]
        members = [by_id(frame) for frame in folds]
        np.testing.assert_allclose(by_id(table(both / "age.csv")), average_by_hand(members, average), atol=1e-6)
        oof = [by_id(pd.concat(fold_tables(run_dir, "age", "oof.csv"))) for run_dir in (toy_run.run_dir, other)]
        np.testing.assert_allclose(by_id(table(both / "age_oof.csv")), average_by_hand(oof, average), atol=1e-6)
        assert (both / "mask.csv").read_bytes() == (toy_run.run_dir / "mask.csv").read_bytes()

    def test_flip_averages_the_photo_and_its_mirror_image(self, run_copy: ToyRun, tmp_path: Path) -> None:
        mirrored = shutil.copytree(run_copy.crop_dir, tmp_path / "mirrored")
        for path in (mirrored / "eval").rglob("*.jpg"):
            # PNG under the name of a JPEG: the pixels stay exact, and content decides how a picture is read.
            flipped = cv2.imencode(".png", cv2.imread(str(path))[:, ::-1])[1]
            path.write_bytes(flipped.tobytes())
        listed = {"content": lambda frame: [content_of(mirrored / file) for file in frame["file"]]}
        edit_csv(mirrored / "crops.csv", lambda frame: frame.assign(**listed))
        plain = by_id(table(run_copy.run_dir / "mask" / "fold0" / "eval.csv"))
        elsewhere = ("--crop-dir", str(mirrored), "--output-dir", str(tmp_path / "flipped"))
        infer(run_copy.run_dir, "--task", "mask", *elsewhere)
        infer(run_copy.run_dir, "--task", "mask", "--tta", "flip")
        both = by_id(table(run_copy.run_dir / "mask" / "fold0" / "eval.csv"))
        turned = by_id(table(tmp_path / "flipped" / "mask" / "fold0" / "eval.csv"))
        assert not np.allclose(plain, turned, atol=1e-4)
        np.testing.assert_allclose(both, (plain + turned) / 2, atol=1e-4)


def assert_score(found: dict, truth: pd.Series, predicted: pd.Series) -> None:
    assert found["accuracy"]["value"] == pytest.approx(accuracy_score(truth, predicted))
    assert found["macro_f1"]["value"] == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert found["macro_f1"]["low"] <= found["macro_f1"]["high"]


def combined(labels: pd.DataFrame) -> pd.Series:
    return labels["mask"] * 6 + labels["gender"] * 3 + labels["age"]


def average_by_hand(members: list[pd.DataFrame], average: str) -> np.ndarray:
    stack = torch.tensor(np.stack([member.to_numpy() for member in members]))
    return (stack.mean(0) if average == "logit" else stack.softmax(-1).mean(0).log()).numpy()
