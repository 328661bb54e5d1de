"""A new task is one row and the function that reads its label: nothing else is changed, and every step knows it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import toy_data

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("core", "storage", "backbones", "evaluation", "training", "preprocessing", "synthesis")
NEW_FUNCTION = """
def _glasses_label(facts: Facts, _: AgeEdges) -> int:
    return class_index(facts["glasses"], ("without", "with"))


TASKS: tuple[Task, ...] = (
"""
NEW_ROW = '    Task("glasses", ("without", "with"), _glasses_label),\n'
STEPS = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import torch
import ensemble, submission, train
from toy_data import ALL_TASKS, FAST, infer, make_competition, prepare, train_toy
torch.set_num_threads(1)
toy = prepare(Path("data"), Path("crops"))
train_toy(toy.crop_dir, Path("run"), ALL_TASKS, ("--epochs", "1"))
infer(Path("run"))
ensemble.main(["--run-dir", "run"])
submission.main(["--run-dir", "run"])

toy = prepare(make_competition(Path("plain")), Path("plain_crops"))
train.main(["--crop-dir", "plain_crops", "--run-dir", "plain_run", *FAST, "--epochs", "1"])
infer(Path("plain_run"))
ensemble.main(["--run-dir", "plain_run"])
submission.main(["--run-dir", "plain_run"])
"""
"""On data with the new task's column, then on data without it."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code with the row and its function, in which every step has been run, with and without labels."""
    folder = tmp_path_factory.mktemp("repository")
    copy_code(folder)
    add_task(folder / "core" / "tasks.py")
    toy_data.make_competition(folder / "data")
    wear_glasses(folder / "data" / "train" / "train.csv")
    run(folder, "-c", STEPS.format(tests=str(ROOT / "tests")))
    return folder


def copy_code(folder: Path) -> None:
    for path in [*ROOT.glob("*.py"), *(path for name in FOLDERS for path in (ROOT / name).rglob("*.py"))]:
        copy = folder / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())


def add_task(tasks_path: Path) -> None:
    text = tasks_path.read_text(encoding="utf-8")
    head, table = text.split("\nTASKS: tuple[Task, ...] = (\n")
    rows, rest = table.split("\n)\n", maxsplit=1)
    tasks_path.write_text(f"{head}{NEW_FUNCTION}{rows}\n{NEW_ROW})\n{rest}", encoding="utf-8")


def wear_glasses(train_csv: Path) -> None:
    """Every other person of each gender and age group."""
    frame = pd.read_csv(train_csv, dtype=str)
    frame["glasses"] = ["with" if row // 6 % 2 else "without" for row in range(len(frame))]
    frame.to_csv(train_csv, index=False)


def run(folder: Path, *arguments: str) -> str:
    process = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_run_all_sees_the_task(repository: Path) -> None:
    assert run(repository, "-c", "import run_all; print(*run_all.task_names())") == "mask gender age glasses\n"


def test_its_tables_are_there(repository: Path) -> None:
    info = pd.read_csv(repository / "data" / "eval" / "info.csv")
    for name, count in (("glasses.csv", len(info)), ("glasses_oof.csv", 84)):
        table = pd.read_csv(repository / "run" / name)
        assert list(table.columns) == ["image_id", "without", "with"]
        assert len(table) == count
    for fold in (0, 1):
        config = json.loads((repository / "run" / "glasses" / f"fold{fold}" / "config.json").read_text())
        assert (config["task"], config["classes"]) == ("glasses", ["without", "with"])


def test_it_is_scored_by_itself_and_the_18_classes_stay(repository: Path) -> None:
    scores = json.loads((repository / "run" / "scores.json").read_text())
    assert set(scores["oof"]["model"]["tasks"]) == {"mask", "gender", "age", "glasses"}
    assert set(scores["eval"]["model"]["tasks"]) == {"mask", "gender", "age"}
    assert len(scores["oof"]["model"]["classes"]) == 18
    answers = pd.read_csv(repository / "run" / "submission.csv")
    assert list(answers.columns) == ["ImageID", "ans"]
    assert answers["ans"].between(0, 17).all()


def test_data_without_its_column_is_trained_on_as_before(repository: Path) -> None:
    assert (repository / "plain_run" / "submission.csv").exists()
    assert not (repository / "plain_run" / "glasses").exists()
