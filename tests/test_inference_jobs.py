"""Inference over several processes: as many as pay, and the same logits."""

from collections.abc import Iterator
from functools import partial

import pytest
from toy_data import ToyRun, infer, refusal

import inference
from core.tasks import combined_tasks
from evaluation.logits import read_table
from storage.run_dir import finished_folds
from training.launchers import Resources

pytest_plugins = ("toy_fixtures",)

EVAL = "eval.csv"


@pytest.mark.parametrize(
    ("models", "photos", "jobs"),
    [(15, 0, 1), (15, 99, 1), (15, 200, 2), (15, 299, 2), (15, 400, 4), (15, 10**6, 4), (3, 10**6, 3), (1, 10**6, 1)],
)
def test_one_a_core_where_there_is_enough_to_do(
    monkeypatch: pytest.MonkeyPatch, models: int, photos: int, jobs: int
) -> None:
    monkeypatch.setattr(inference, "cpu_count", lambda: 4)
    assert inference.models_at_once("cpu", models, photos) == jobs


def test_threads_of_a_model_do_not_depend_on_how_many_are_left(
    run_copy: ToyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others would change the last digits of what was interrupted."""
    launched = []

    def record(resources: Resources, start: partial, left: list) -> Iterator[str]:
        launched.append((resources.processes, start.args[-1], len(left)))
        yield from ()

    monkeypatch.setattr(inference, "launch", record)
    monkeypatch.setattr(inference, "cpu_count", lambda: 4)
    monkeypatch.setattr(inference, "WORTH_A_PROCESS", 1)
    tables = sorted(run_copy.run_dir.glob("*/fold*/eval.csv"))
    tables[0].unlink()
    infer(run_copy.run_dir)
    for path in tables[1:]:
        path.unlink()
    infer(run_copy.run_dir)
    infer(run_copy.run_dir, "--task", "age")
    assert launched == [(1, 1, 1), (4, 1, 6), (2, 1, 2)]


def test_two_processes_predict_the_same(run_copy: ToyRun) -> None:
    folds = [(folder, task) for task in combined_tasks() for folder in finished_folds(run_copy.run_dir / task.name)]
    before = {folder: read_table(folder / EVAL, task.classes) for folder, task in folds}
    for folder, _ in folds:
        (folder / EVAL).unlink()
    infer(run_copy.run_dir, "--jobs", "2")
    for folder, task in folds:
        after = read_table(folder / EVAL, task.classes)
        assert after.image_ids == before[folder].image_ids
        assert after.logits == pytest.approx(before[folder].logits, abs=1e-4)


def test_a_number_of_loaders_that_there_cannot_be(toy_run: ToyRun) -> None:
    refusal(inference.main, ["--run-dir", toy_run.run_dir, "--workers", "-7"], "--workers: -7 is not", "from -1")
