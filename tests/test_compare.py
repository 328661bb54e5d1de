"""Runs compared on the photos that both have predicted: paired differences, words for them, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from toy_data import ToyRun, edit_csv, refusal, sign, snapshot, table

from core.files import read_json, write_json
from core.tasks import TASKS, Task, task_named
from evaluation.combined_class import COMBINED
from evaluation.logits import log_softmax
from evaluation.metrics import mean_over_photos, paired_difference
from storage.crops import load_crops
from storage.label_corrections import apply_corrections
from tools import compare
from tools.compare import BETTER, SAME, WORSE, in_words, verdict

pytest_plugins = ("toy_fixtures",)

AGE = task_named("age")
ALL = [*(task.name for task in TASKS), COMBINED]
OOF, EVAL = "out of fold", "eval"


@pytest.fixture
def other(run_copy: ToyRun, tmp_path: Path) -> Path:
    """A second run folder beside `run_copy`, the same until a test changes it."""
    return shutil.copytree(run_copy.run_dir, tmp_path / "other")


def compared(*argv: object) -> list[dict]:
    """What the command writes as JSON for each further run."""
    path = Path(str(argv[0])).parent / "compared.json"
    compare.main([*map(str, argv), "--json", str(path)])
    return json.loads(path.read_text())["compared"]


def by_task(records: list[dict]) -> dict[str, dict]:
    return {record["task"]: record for record in records}


def labels_of(run: ToyRun, task: Task) -> dict[str, int]:
    train = load_crops(run.crop_dir, "train")
    return dict(zip(train.image_ids, train.labels(task, (25, 40)), strict=True))


def answer(run_dir: Path, task: Task, labels: dict[str, int], sure: float) -> None:
    """Put these answers in the folds' held-out tables, each as sure as a logit of that size makes it."""
    for path in (run_dir / task.name).glob("fold*/oof.csv"):
        frame = table(path)
        frame[list(task.classes)] = sure * np.eye(len(task.classes))[[labels[name] for name in frame["image_id"]]]
        frame.to_csv(path, index=False)
        sign(path)


def held_out(run_dir: Path, task: Task) -> tuple[list[str], np.ndarray]:
    """Image ids and logits of all folds, sorted by image id."""
    folds = [table(path).set_index("image_id") for path in (run_dir / task.name).glob("fold*/oof.csv")]
    rows = {name: row for fold in folds for name, row in zip(fold.index, fold.to_numpy(), strict=True)}
    names = sorted(rows)
    return names, np.array([rows[name] for name in names])


def change_json(path: Path, **entries: object) -> None:
    write_json(path, read_json(path) | entries)
    sign(path)


def test_a_run_does_not_differ_from_itself(run_copy: ToyRun, other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(run_copy.run_dir, other)
    (record,) = compared(run_copy.run_dir, other, "--eval")
    assert snapshot(run_copy.run_dir, other) == before
    assert (record["run"], record["note"]) == (str(other), "")
    for part, photos, people in ((OOF, 84, 12), (EVAL, 7, 7)):
        assert [of_task["task"] for of_task in record[part]] == ALL
        for of_task in record[part]:
            assert (of_task["photos"], of_task["people"], of_task["folds"]) == (photos, people, ["fold0", "fold1"])
            for found in of_task["measures"].values():
                assert found["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0}
                assert (found["baseline"], found["verdict"]) == (found["run"], SAME)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{other} against {run_copy.run_dir}"
    assert lines[1] == "mask, out of fold: 84 photos of 12 people, fold0, fold1"
    assert lines[3].split() == ["macro-F1", *2 * [lines[3].split()[1]], "+0.0000", "(+0.0000", "to", "+0.0000)"]
    assert lines.count(f"  {SAME}") == 2 * len(ALL)
    assert lines.index(compare.NOT_FOR_SELECTION) == lines.index("mask, eval: 7 photos of 7 people, fold0, fold1") - 1


def test_scores_are_those_of_scores_json(run_copy: ToyRun, other: Path) -> None:
    expected = read_json(run_copy.run_dir / "scores.json")
    (record,) = compared(run_copy.run_dir, other, "--eval")
    for part, name in ((OOF, "oof"), (EVAL, "eval")):
        for task in TASKS:
            of_task, stored = by_task(record[part])[task.name], expected[name]["model"]["tasks"][task.name]
            assert of_task["measures"]["accuracy"]["run"]["value"] == pytest.approx(stored["accuracy"]["value"])
            assert of_task["measures"]["macro_f1"]["run"]["value"] == pytest.approx(stored["macro_f1"]["value"])
        combined = by_task(record[part])[COMBINED]["measures"]["accuracy"]["run"]["value"]
        assert combined == pytest.approx(expected[name]["model"][COMBINED]["accuracy"]["value"])
    years = by_task(record[OOF])["age"]["measures"]["mae"]["run"]["value"]
    assert years == pytest.approx(expected["oof"]["values"]["age"]["mean_absolute_error"]["value"])
    # A truth of classes alone says nothing of years.
    assert "mae" not in by_task(record[EVAL])["age"]["measures"]


def test_the_difference_is_paired(run_copy: ToyRun, other: Path) -> None:
    """As evaluation.metrics has it, where the same people are drawn."""
    labels, rng = labels_of(run_copy, AGE), np.random.default_rng(3)
    noisy = {name: label if rng.random() < 0.8 else int(rng.integers(3)) for name, label in labels.items()}
    answer(other, AGE, noisy, sure=2.0)
    (record,) = compared(run_copy.run_dir, other, "--task", "age")
    assert [of_task["task"] for of_task in record[OOF]] == ["age"]
    found = record[OOF][0]["measures"]
    names, before = held_out(run_copy.run_dir, AGE)
    _, after = held_out(other, AGE)
    truth, persons = [labels[name] for name in names], [name.split("/")[0] for name in names]
    expected = paired_difference(truth, before.argmax(axis=1), after.argmax(axis=1), persons, num_classes=3)
    assert found["macro_f1"]["difference"] == pytest.approx(expected)
    rows = np.arange(len(truth))
    gained = log_softmax(before)[rows, truth] - log_softmax(after)[rows, truth]
    assert found["nll"]["difference"] == pytest.approx(mean_over_photos(gained, persons))


def test_better_and_worse(run_copy: ToyRun, other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = labels_of(run_copy, AGE)
    answer(run_copy.run_dir, AGE, dict.fromkeys(labels, 0), sure=3.0)
    answer(other, AGE, labels, sure=3.0)
    for runs, word in (((run_copy.run_dir, other), BETTER), ((other, run_copy.run_dir), WORSE)):
        (record,) = compared(*runs)
        found = by_task(record[OOF])["age"]["measures"]
        verdicts = {name: of_measure["verdict"] for name, of_measure in found.items()}
        assert verdicts == {"macro_f1": word, "accuracy": word, "nll": word, "mae": SAME}
        lines = capsys.readouterr().out.splitlines()
        assert f"  {word} in macro-F1, accuracy, NLL; {SAME} in mean error in years" in lines


def test_words() -> None:
    up, down, unsure = (
        {"value": sum(pair) / 2, "low": pair[0], "high": pair[1]} for pair in ((1, 3), (-3, -1), (-1, 3))
    )
    assert [verdict("accuracy", change) for change in (up, down, unsure)] == [BETTER, WORSE, SAME]
    assert [verdict("nll", change) for change in (up, down, unsure)] == [WORSE, BETTER, SAME]
    assert verdict("mae", {"value": -1.0, "low": -2.0, "high": 0.0}) == SAME
    assert verdict("mae", {"value": -1e-17, "low": -2e-17, "high": -1e-17}) == SAME
    found = {"macro_f1": BETTER, "accuracy": SAME, "nll": WORSE, "mae": SAME}
    record = {"unit": "years", "measures": {name: {"verdict": word} for name, word in found.items()}}
    assert in_words(record) == f"better in macro-F1; worse in NLL; {SAME} in accuracy, mean error in years"


def test_only_folds_and_photos_of_both(run_copy: ToyRun, other: Path) -> None:
    shutil.rmtree(other / "age" / "fold0")
    edit_csv(other / "mask" / "fold1" / "oof.csv", lambda frame: frame.iloc[7:])
    (record,) = compared(run_copy.run_dir, other, "--eval")
    found = by_task(record[OOF])
    folds = {name: of_task["folds"] for name, of_task in found.items()}
    assert folds == {"mask": ["fold0", "fold1"], "gender": ["fold0", "fold1"], "age": ["fold1"], COMBINED: ["fold1"]}
    assert [found[name]["photos"] for name in ALL] == [77, 84, 42, 35]
    # The baseline's eval answers are those of the folds that the other has, and no more.
    assert by_task(record[EVAL])["age"]["measures"]["nll"]["difference"]["value"] == 0
    shutil.rmtree(other / "gender")
    (record,) = compared(run_copy.run_dir, other)
    assert list(by_task(record[OOF])) == ["mask", "age"]


def test_years_where_both_have_them(run_copy: ToyRun, other: Path) -> None:
    for path in (other / "age").glob("fold*/oof_years.csv"):
        frame = table(path)
        true = frame["image_id"].str.split("/").str[0].str.split("_").str[3].astype(float)
        frame.assign(years=true + 2).to_csv(path, index=False)
        sign(path)
    (record,) = compared(run_copy.run_dir, other, "--task", "age")
    assert record[OOF][0]["measures"]["mae"]["run"] == pytest.approx({"value": 2.0, "low": 2.0, "high": 2.0})
    (other / "age" / "fold1" / "oof_years.csv").unlink()
    sign(other / "age" / "fold1" / "oof_years.csv")
    (record,) = compared(run_copy.run_dir, other, "--task", "age")
    assert list(record[OOF][0]["measures"]) == ["macro_f1", "accuracy", "nll"]


def test_each_run_against_the_first(run_copy: ToyRun, other: Path, tmp_path: Path) -> None:
    third = shutil.copytree(run_copy.run_dir, tmp_path / "third")
    answer(third, AGE, labels_of(run_copy, AGE), sure=3.0)
    records = compared(run_copy.run_dir, other, third)
    assert [record["run"] for record in records] == [str(other), str(third)]
    changes = [by_task(record[OOF])["age"]["measures"]["accuracy"]["difference"]["value"] for record in records]
    assert changes[0] == 0 < changes[1]


def test_other_label_fixes_are_said(
    run_copy: ToyRun, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = load_crops(run_copy.crop_dir, "train")
    fixes = other / "label_fixes.csv"
    fixes.write_text(f"image_id,mask,drop\n{train.image_ids[0]},,1\n{train.image_ids[1]},not_wear,\n")
    change_json(other / "run.json", train_hash=apply_corrections(train, fixes).hash)
    mask = task_named("mask")
    labels = labels_of(run_copy, mask)
    answer(run_copy.run_dir, mask, labels, sure=3.0)
    answer(other, mask, labels, sure=3.0)
    edit_csv(next(path for path in (other / "mask").glob("fold*/oof.csv") if train.image_ids[0] in path.read_text()),
             lambda frame: frame[frame["image_id"] != train.image_ids[0]])  # fmt: skip
    for runs, right in (((run_copy.run_dir, other), 83), ((other, run_copy.run_dir), 82)):
        (record,) = compared(*runs, "--task", "mask")
        assert record["note"].endswith(f"both are scored on the labels of {runs[0]}")
        assert f"note: {record['note']}" in capsys.readouterr().out
        assert record[OOF][0]["photos"] == 83
        assert record[OOF][0]["measures"]["accuracy"]["run"]["value"] == pytest.approx(right / 83)


def test_eval_photos_that_nobody_knows(run_copy: ToyRun, other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(other / "gender" / "fold0")
    (other / "gender" / "fold1" / "eval.csv").unlink()
    (record,) = compared(run_copy.run_dir, other, "--eval")
    assert list(by_task(record[EVAL])) == ["mask", "age"]
    assert "gender, eval: no labels, or no predictions of both runs; inference.py predicts" in capsys.readouterr().out


def test_runs_of_other_data_are_refused(run_copy: ToyRun, other: Path) -> None:
    folders, argv = [run_copy.run_dir, other], [run_copy.run_dir, other]
    change_json(other / "age" / "fold1" / "eval.json", crops_hash="zz")
    refusal(compare.main, [*argv, "--eval"], f"{other} has eval crops of hash zz", untouched=folders)
    compared(*argv)
    change_json(other / "age" / "fold1" / "config.json", folds_hash="zz")
    refusal(compare.main, argv, f"{other} has folds of hash zz, {run_copy.run_dir}", untouched=folders)
    compared(*argv, "--task", "mask")
    change_json(other / "run.json", train_hash="zz")
    refusal(compare.main, argv, f"{other} has training crops of hash zz", untouched=folders)
    change_json(other / "run.json", age_edges=[30, 60])
    refusal(compare.main, argv, f"{other} has age groups that begin at (30, 60)", untouched=folders)


def test_what_cannot_be_compared(run_copy: ToyRun, other: Path, tmp_path: Path) -> None:
    run_dir = run_copy.run_dir
    refusal(compare.main, [run_dir], "one run alone")
    refusal(compare.main, [run_dir, tmp_path / "none"], "none: no run in it")
    shutil.rmtree(other / "mask")
    refusal(compare.main, [run_dir, other, "--task", "mask"], f"--task mask: {other} has no trained fold of it")
    shutil.rmtree(other / "age" / "fold0")
    shutil.rmtree(run_dir / "age" / "fold1")
    refusal(compare.main, [run_dir, other], f"age: no fold is in both runs: {run_dir} has fold0; {other} has fold1")
    shutil.rmtree(other / "age")
    shutil.rmtree(other / "gender")
    refusal(compare.main, [run_dir, other], "no trained task in common")
