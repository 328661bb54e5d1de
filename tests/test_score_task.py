"""One task scored alone: the same figures as the whole run's, from whatever folds there are."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score
from toy_data import Toy, ToyRun, infer, make_remade, prepare, refusal, snapshot, table, train_toy

from tools import score

pytest_plugins = ("toy_fixtures",)

CLASSES = ["wear", "incorrect", "not_wear"]


def scored(run_dir: Path, *flags: object, task: str = "mask") -> dict:
    """What the command writes as JSON."""
    path = run_dir.parent / "scored.json"
    score.main(["--task", task, "--run-dir", str(run_dir), "--json", str(path), *map(str, flags)])
    return json.loads(path.read_text())


def test_a_whole_run_scores_as_in_scores_json(run_copy: ToyRun, capsys: pytest.CaptureFixture[str]) -> None:
    expected = json.loads((run_copy.run_dir / "scores.json").read_text())
    before = snapshot(run_copy.run_dir)
    for task in ("mask", "age"):
        found = scored(run_copy.run_dir, task=task)
        for part, name in (("oof", "out of fold"), ("eval", "eval")):
            assert found[name]["macro_f1"] == expected[part]["model"]["tasks"][task]["macro_f1"]
            assert found[name]["accuracy"] == expected[part]["model"]["tasks"][task]["accuracy"]
        assert found["eval"]["folds"] == ["fold0", "fold1"]
    assert snapshot(run_copy.run_dir) == before
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "mask, eval: 7 photos of 7 people, fold0, fold1"
    assert lines[3].split() == ["true", "/", "predicted", *CLASSES, "F1"]


def test_one_fold_of_one_task(toy: Toy, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    train_toy(toy.crop_dir, run_dir, ("mask",), ("--fold", "1", "--epochs", "1"))
    assert scored(run_dir)["eval"] is None
    infer(run_dir)
    found = scored(run_dir)
    assert found["eval"]["folds"] == found["out of fold"]["folds"] == ["fold1"]
    logits = table(run_dir / "mask" / "fold1" / "eval.csv").set_index("image_id")[CLASSES]
    truth = table(toy.root / "truth.csv").set_index("ImageID").loc[logits.index, "ans"] // 6
    answers = logits.to_numpy().argmax(axis=1)
    assert found["eval"]["accuracy"]["value"] == pytest.approx(accuracy_score(truth, answers))
    assert found["eval"]["macro_f1"]["value"] == pytest.approx(f1_score(truth, answers, average="macro"))
    assert np.array(found["eval"]["confusion"]).tolist() == confusion_matrix(truth, answers, labels=range(3)).tolist()
    assert (found["out of fold"]["photos"], found["out of fold"]["people"]) == (42, 6)


def test_another_data_set(toy_run: ToyRun, tmp_path: Path) -> None:
    other, output = prepare(make_remade(tmp_path / "data"), tmp_path / "crops"), tmp_path / "output"
    infer(toy_run.run_dir, "--task", "mask", "--crop-dir", str(other.crop_dir), "--output-dir", str(output))
    path = tmp_path / "score.json"
    argv = ["--task", "mask", "--run-dir", toy_run.run_dir, "--output-dir", output, "--json", path]
    score.main([*map(str, argv)])
    found = json.loads(path.read_text())
    assert found["eval"]["photos"] == 7
    assert np.array(found["eval"]["confusion"]).sum(axis=1).tolist() == [3, 2, 2]
    assert found["out of fold"]["photos"] == 84


def test_a_truth_of_ones_own(run_copy: ToyRun, tmp_path: Path) -> None:
    truth = table(run_copy.root / "truth.csv").assign(ans=0)
    truth.to_csv(tmp_path / "zeros.csv", index=False)
    found = scored(run_copy.run_dir, "--truth", tmp_path / "zeros.csv")
    assert np.array(found["eval"]["confusion"])[0].sum() == 7
    truth.iloc[1:].to_csv(tmp_path / "short.csv", index=False)
    argv = ["--task", "mask", "--run-dir", run_copy.run_dir, "--truth", tmp_path / "short.csv"]
    refusal(score.main, argv, "--truth ", "short.csv: no mask label for 0000.jpg", untouched=[run_copy.run_dir])


def test_what_is_refused(run_copy: ToyRun, tmp_path: Path) -> None:
    argv = ["--task", "mask", "--run-dir", run_copy.run_dir]
    refusal(score.main, ["--task", "mask", "--run-dir", tmp_path / "none"], "no run in it")
    refusal(score.main, ["--run-dir", run_copy.run_dir], "--task")
    shutil.rmtree(run_copy.run_dir / "mask")
    refusal(score.main, argv, "no fold has a table that can be scored", untouched=[run_copy.run_dir])
    shutil.copytree(run_copy.run_dir / "age", run_copy.run_dir / "mask")
    refusal(score.main, argv, "checkpoint of task 'age', not of 'mask'", untouched=[run_copy.run_dir])
