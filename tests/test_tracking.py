"""Learning curves: each tracker gets every number, the right one is chosen, and none can stop a training."""

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core.cli import UserError
from training import tracking
from training.tracking import open_tracker, tracker_named

ROWS = ({"epoch": 1, "loss": 0.5, "macro_f1": 0.75}, {"epoch": 2, "loss": 0.25, "macro_f1": 0.875})
SETTINGS = {"lr": 0.001, "epochs": 2}
CURVES = {("loss", 0.5, 1), ("macro_f1", 0.75, 1), ("loss", 0.25, 2), ("macro_f1", 0.875, 2)}
Install = Callable[..., None]


@pytest.fixture
def fold_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "first_run" / "age" / "fold3"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts stand-ins in the place of packages; the only trackers that are installed then are those."""

    def make(**modules: object) -> None:
        named = {name.replace("__", "."): module for name, module in modules.items()}
        for name, module in named.items():
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(tracking, "find_spec", lambda name: named.get(name))

    return make


def track(fold_dir: Path, choice: str) -> None:
    tracker = open_tracker(fold_dir, choice, SETTINGS)
    for row in ROWS:
        tracker.log(row)
    tracker.close()


class Writer:
    """Stands for TensorBoard's writer."""

    points: set[tuple[str, float, int]]
    folders: list[Path]

    def __init__(self, folder: Path) -> None:
        self.folders.append(folder)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.points.add((name, value, step))

    def close(self) -> None:
        self.points.add(("closed", 0, 0))


@pytest.mark.parametrize("choice", ["auto", "tensorboard"])
def test_tensorboard_is_the_default_where_it_is_installed(fold_dir: Path, install: Install, choice: str) -> None:
    class Fresh(Writer):
        points, folders = set(), []

    install(tensorboard=object(), torch__utils__tensorboard=SimpleNamespace(SummaryWriter=Fresh))
    track(fold_dir, choice)
    assert Fresh.points == {*CURVES, ("closed", 0, 0)}
    assert Fresh.folders == [fold_dir / "tensorboard"]


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_without_tensorboard_nothing_is_written(
    fold_dir: Path, install: Install, choice: str, capsys: pytest.CaptureFixture
) -> None:
    install()
    track(fold_dir, choice)
    assert list(fold_dir.iterdir()) == []
    assert capsys.readouterr().out == ""


class FakeWandb:
    """Stands for the package wandb: remembers what was begun and logged."""

    def __init__(self) -> None:
        self.begun: list[dict[str, Any]] = []
        self.points: set[tuple[str, float, int]] = set()
        self.finished = 0
        self.util = SimpleNamespace(generate_id=lambda: f"id{len(self.begun)}")

    def init(self, **options: object) -> "FakeWandb":
        self.begun.append(options)
        return self

    def log(self, curves: Mapping[str, float], *, step: int) -> None:
        self.points |= {(name, value, step) for name, value in curves.items()}

    def finish(self) -> None:
        self.finished += 1


def test_a_fold_is_one_wandb_run_also_after_a_stop(fold_dir: Path, install: Install) -> None:
    wandb = FakeWandb()
    install(wandb=wandb)
    track(fold_dir, "wandb")
    track(fold_dir, "wandb")
    assert wandb.points == CURVES
    assert wandb.finished == 2
    assert wandb.begun[0] == {
        **{"project": "mask-gender-age", "group": "first_run", "name": "age/fold3", "dir": str(fold_dir)},
        **{"config": SETTINGS, "id": "id0", "resume": "allow"},
    }
    assert wandb.begun[1] == wandb.begun[0]


class FakeMlflow:
    """Stands for the package mlflow and its client: one experiment, numbered runs."""

    def __init__(self) -> None:
        self.experiment: SimpleNamespace | None = None
        self.runs: list[tuple[str, str]] = []
        self.params: dict[str, object] = {}
        self.points: set[tuple[str, float, int]] = set()
        self.ended: list[str] = []

    def MlflowClient(self) -> "FakeMlflow":  # noqa: N802 - the name the package has
        return self

    def get_experiment_by_name(self, name: str) -> SimpleNamespace | None:
        return self.experiment

    def create_experiment(self, name: str) -> str:
        self.experiment = SimpleNamespace(experiment_id="7", name=name)
        return "7"

    def create_run(self, experiment_id: str, *, run_name: str) -> SimpleNamespace:
        self.runs.append((experiment_id, run_name))
        return SimpleNamespace(info=SimpleNamespace(run_id=f"run{len(self.runs)}"))

    def log_param(self, run_id: str, name: str, value: object) -> None:
        self.params[name] = value

    def log_metric(self, run_id: str, name: str, value: float, *, step: int) -> None:
        assert run_id == f"run{len(self.runs)}"
        self.points.add((name, value, step))

    def set_terminated(self, run_id: str) -> None:
        self.ended.append(run_id)


def test_a_fold_is_one_mlflow_run_also_after_a_stop(fold_dir: Path, install: Install) -> None:
    mlflow = FakeMlflow()
    install(mlflow=mlflow)
    track(fold_dir, "mlflow")
    track(fold_dir, "mlflow")
    assert mlflow.runs == [("7", "first_run/age/fold3")]
    assert (mlflow.points, mlflow.params, mlflow.ended) == (CURVES, SETTINGS, ["run1", "run1"])
    (fold_dir / "mlflow_run.txt").unlink()
    track(fold_dir, "mlflow")
    assert mlflow.runs == [("7", "first_run/age/fold3")] * 2


def write_module(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (folder / "my_curves.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "my_curves", raising=False)
    importlib.invalidate_caches()


def test_a_function_of_ones_own_is_called_by_its_name(
    fold_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "class Mine(list):\n    log = list.append\n    def close(self):\n        self.append('closed')\n"
        "made = []\ndef begin(fold_dir, settings):\n    made.append((fold_dir, settings, Mine()))\n"
        "    return made[-1][2]\n"
    )
    write_module(tmp_path, monkeypatch, text)
    track(fold_dir, "my_curves:begin")
    assert sys.modules["my_curves"].made == [(fold_dir, SETTINGS, [*ROWS, "closed"])]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("paper", r"tracker 'paper' is unknown; the trackers are none, tensorboard, wandb, mlflow"),
        ("wandb", r"tracker 'wandb' needs a package that is not installed: pip install wandb"),
        ("no_such_module:begin", r"tracker 'no_such_module:begin': cannot import 'no_such_module'"),
        (":begin", r"tracker ':begin': cannot import ''"),
        ("json:begin", r"tracker 'json:begin': json has no function 'begin'"),
    ],
)
def test_a_tracker_that_cannot_be_had_is_named(fold_dir: Path, install: Install, choice: str, message: str) -> None:
    install()
    with pytest.raises(UserError, match=message):
        tracker_named(choice)
    with pytest.raises(UserError, match=message):
        open_tracker(fold_dir, choice)


@pytest.mark.parametrize("fails_in", ["begin", "log", "close"])
def test_a_tracker_that_fails_says_so_once_and_training_goes_on(
    fold_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, fails_in: str
) -> None:
    text = (
        f"def fail(name):\n    if name == {fails_in!r}:\n        raise RuntimeError('no\\nconnection')\n"
        "class Mine:\n    def log(self, row):\n        fail('log')\n    def close(self):\n        fail('close')\n"
        "def begin(fold_dir, settings):\n    fail('begin')\n    return Mine()\n"
    )
    write_module(tmp_path, monkeypatch, text)
    track(fold_dir, "my_curves:begin")
    assert capsys.readouterr().out == (
        "tracker 'my_curves:begin' failed and is left out from now on (no connection); history.csv has every number\n"
    )


def test_ctrl_c_is_no_failure_of_a_tracker(fold_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_module(tmp_path, monkeypatch, "def begin(fold_dir, settings):\n    raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        open_tracker(fold_dir, "my_curves:begin")
