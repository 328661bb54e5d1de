"""The clock of folds that are trained side by side: whose time it is, and that none is lost."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from toy_data import Toy

from core.cli import UserError
from core.tasks import task_named
from dev.experiments import clock, training
from dev.experiments.clock import Spent
from dev.experiments.scoring import TrainedRun
from storage.crops import load_crops
from training.config import Config
from training.jobs import longest_first

pytest_plugins = ("toy_fixtures",)


class FakeTime:
    """Wall-clock and processor time that pass when they are told to: two cores, both busy."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now

    def cpu(self) -> float:
        return 2 * self.now

    def passes(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def fake_time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr(clock.time, "monotonic", fake.monotonic)
    monkeypatch.setattr(clock, "cpu_seconds", fake.cpu)
    return fake


@pytest.fixture
def fold(tmp_path: Path) -> Callable[..., Path]:
    """A maker of the folder of a fold that has spent so many seconds in its epochs."""

    def train(name: str, *epochs: float, done: bool = False) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        if epochs:
            pd.DataFrame({"seconds": epochs}).to_csv(folder / "history.csv")
        if done:
            (folder / "DONE").touch()
        return folder

    return train


def test_the_wall_clock_is_shared_out_by_the_epochs(
    tmp_path: Path, fake_time: FakeTime, fold: Callable[..., Path]
) -> None:
    folders = [fold("mask/fold0"), fold("age/fold0"), fold("age/fold1")]
    with clock.running(tmp_path, folders, 2):
        fold("mask/fold0", 1.0, 1.0, done=True)
        fold("age/fold0", 3.0, 3.0, done=True)
        fake_time.passes(10)
    assert clock.read_times(tmp_path) == {"mask/fold0": Spent(2.5, 5.0, (2,)), "age/fold0": Spent(7.5, 15.0, (2,))}
    assert clock.spent_on(tmp_path, folders[:2]) == Spent(10.0, 20.0, (2,))


def test_an_interrupted_run_counts_all_its_time(tmp_path: Path, fake_time: FakeTime, fold: Callable[..., Path]) -> None:
    folders = [fold("age/fold0"), fold("age/fold1")]
    with pytest.raises(KeyboardInterrupt), clock.running(tmp_path, folders, 2):
        fold("age/fold0", 3.0)
        fake_time.passes(8)
        raise KeyboardInterrupt
    with clock.running(tmp_path, folders, 1):
        fold("age/fold0", 3.0, 2.0, done=True)
        fold("age/fold1", 2.0, 2.0, done=True)
        fake_time.passes(6)
    assert clock.spent_on(tmp_path, folders) == Spent(14.0, 28.0, (1, 2))
    assert clock.spent_on(tmp_path, folders[:1]).seconds == 10.0


def test_time_without_a_whole_epoch_is_everybodys(
    tmp_path: Path, fake_time: FakeTime, fold: Callable[..., Path]
) -> None:
    folders = [fold("age/fold0"), fold("age/fold1")]
    with clock.running(tmp_path, folders, 2):
        fake_time.passes(4)
    assert [clock.spent_on(tmp_path, [folder]).seconds for folder in folders] == [2.0, 2.0]


def test_notes_on_the_way_add_nothing(tmp_path: Path, fake_time: FakeTime, fold: Callable[..., Path]) -> None:
    folders = [fold("age/fold0"), fold("age/fold1")]
    with clock.running(tmp_path, folders, 2) as running:
        for epochs in range(1, 4):
            fold("age/fold0", *[1.0] * epochs)
            fake_time.passes(1)
            running.note()
    assert clock.read_times(tmp_path) == {"age/fold0": Spent(3.0, 6.0, (2,))}


def test_a_fold_of_unknown_time_is_refused(tmp_path: Path, fold: Callable[..., Path]) -> None:
    folder = fold("age/fold3", 1.0, done=True)
    (tmp_path / "wall_clock.json").write_text('{"age/fold3": [5.0, 9.0]}')
    with pytest.raises(UserError, match=r"times.json: no time of age/fold3, .*; remove that folder.*--run-dir"):
        clock.spent_on(tmp_path, [folder])


def test_cores_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "cpu_count", lambda: 8)
    monkeypatch.setattr(training, "jobs_at_once", lambda configs: 8)
    shared = {asked: training.share_cores(asked, [Config()]) for asked in (0, 1, 3, 16)}
    assert {asked: (jobs.count, jobs.threads) for asked, jobs in shared.items()} == {
        **{0: (8, 1), 1: (1, 8), 3: (3, 2), 16: (16, 1)}
    }
    assert {asked: jobs.cores_each for asked, jobs in shared.items()} == {0: 1, 1: 8, 3: 2, 16: 0.5}


def test_the_longest_fold_is_begun_first(toy: Toy, tmp_path: Path) -> None:
    short = Config(folds=2, epochs=2, photos_per_person=1)
    configs = {task_named("mask"): short, task_named("age"): replace(short, photos_per_person=5)}
    run = TrainedRun(tmp_path, {**configs, task_named("gender"): replace(short, epochs=4)}, (0, 1), 0)
    cells = longest_first(training.cells_of(run, load_crops(toy.crop_dir, "train")))
    assert [cell.data.title for cell in cells] == [
        f"{task} fold {number}" for task in ("age", "gender", "mask") for number in (0, 1)
    ]


def test_what_trains_begins_nothing_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "cell_trainer", lambda threads: lambda cell: f"{cell} with {threads}")
    assert training.trainer_until(3, time.monotonic() + 60)("a") == "a with 3"
    assert training.trainer_until(3, time.monotonic() - 1)("a") is None
