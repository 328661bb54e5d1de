"""Learning curves in TensorBoard, Weights & Biases or MLflow, beside history.csv, which has every number.

A tracker is a row of TRACKERS, or `module:function` of your own, which is called as `function(fold_dir, settings)` and
returns an object with `log(row)` and `close()`. After its first error a tracker is disabled; training goes on.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from core.cli import UserError, row_named
from core.files import write_text
from storage.run_dir import run_dir_of

Settings = Mapping[str, Any]
PROJECT = "mask-gender-age"
NONE = "none"
AUTO = "auto"
"""TensorBoard if it is installed, else nothing."""


class TensorBoardTracker:
    """Event files in <fold>/tensorboard, one curve per number."""

    def __init__(self, fold_dir: Path, _: Settings) -> None:
        self._writer = import_module("torch.utils.tensorboard").SummaryWriter(fold_dir / "tensorboard")

    def log(self, row: Mapping[str, float]) -> None:
        for name, value in _curves(row).items():
            self._writer.add_scalar(name, value, row["epoch"])

    def close(self) -> None:
        self._writer.close()


class WandbTracker:
    """A Weights & Biases run for each fold, grouped by run folder and configured by its own variables, as WANDB_MODE.

    A fold that is resumed goes on in the same run, whose id is in its folder.
    """

    def __init__(self, fold_dir: Path, settings: Settings) -> None:
        wandb = import_module("wandb")
        self._run = wandb.init(
            project=PROJECT,
            group=_run_name(fold_dir),
            name=_fold_name(fold_dir),
            dir=str(fold_dir.resolve()),
            config=dict(settings),
            id=_remembered(fold_dir / "wandb_run.txt", wandb.util.generate_id),
            resume="allow",
        )

    def log(self, row: Mapping[str, float]) -> None:
        self._run.log(_curves(row), step=row["epoch"])

    def close(self) -> None:
        self._run.finish()


class MlflowTracker:
    """An MLflow run for each fold, at MLFLOW_TRACKING_URI. A fold that is resumed keeps its run."""

    def __init__(self, fold_dir: Path, settings: Settings) -> None:
        # The client, and no active run, of which there is one per process: folds follow each other.
        self._client = import_module("mlflow").MlflowClient()
        self._run_id = _remembered(fold_dir / "mlflow_run.txt", lambda: self._create_run(fold_dir, settings))

    def _create_run(self, fold_dir: Path, settings: Settings) -> str:
        experiment = self._client.get_experiment_by_name(PROJECT)
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment(PROJECT)
        run = self._client.create_run(experiment_id, run_name=f"{_run_name(fold_dir)}/{_fold_name(fold_dir)}")
        for name, value in settings.items():
            self._client.log_param(run.info.run_id, name, value)
        return run.info.run_id

    def log(self, row: Mapping[str, float]) -> None:
        for name, value in _curves(row).items():
            self._client.log_metric(self._run_id, name, value, step=row["epoch"])

    def close(self) -> None:
        self._client.set_terminated(self._run_id)


@dataclass(frozen=True)
class Tracker:
    """Row of TRACKERS. `open` is called with the fold folder and settings; `package` is "" if none is needed.

    What it returns has `log(row)`, with a row of history.csv, and `close()`.
    """

    name: str
    open: Callable[[Path, Settings], Any]
    package: str = ""


TRACKERS: tuple[Tracker, ...] = (
    Tracker(NONE, lambda fold_dir, settings: None),
    Tracker("tensorboard", TensorBoardTracker, "tensorboard"),
    Tracker("wandb", WandbTracker, "wandb"),
    Tracker("mlflow", MlflowTracker, "mlflow"),
)


def tracker_named(choice: str) -> Tracker:
    """Return the row of that name, of `auto`, or of `module:function`. UserError if it is unknown or not installed."""
    if choice == AUTO:
        choice = "tensorboard" if find_spec("tensorboard") else NONE
    if ":" in choice:
        return Tracker(choice, _function_named(choice))
    tracker = row_named(TRACKERS, choice, what="tracker")
    if tracker.package and not find_spec(tracker.package):
        raise UserError(f"tracker {choice!r} needs a package that is not installed: pip install {tracker.package}")
    return tracker


def _function_named(choice: str) -> Callable[[Path, Settings], Any]:
    module_name, _, name = choice.partition(":")
    try:
        module = import_module(module_name)
    except (ImportError, ValueError) as error:
        raise UserError(f"tracker {choice!r}: cannot import {module_name!r} ({error})") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise UserError(f"tracker {choice!r}: {module_name} has no function {name!r}")
    return function


def open_tracker(fold_dir: Path, choice: str = AUTO, settings: Settings | None = None) -> "Guarded":
    """Open a tracker for a fold. UserError for an unknown choice; all other errors disable it."""
    return Guarded(tracker_named(choice), fold_dir, settings or {})


class Guarded:
    """Disables a tracker after its first error, which is printed."""

    def __init__(self, tracker: Tracker, fold_dir: Path, settings: Settings) -> None:
        self._name = tracker.name
        self._tracks: Any = None
        with self:
            self._tracks = tracker.open(fold_dir, settings)

    def log(self, row: Mapping[str, float]) -> None:
        with self:
            if self._tracks is not None:
                self._tracks.log(row)

    def close(self) -> None:
        with self:
            if self._tracks is not None:
                self._tracks.close()

    def __enter__(self) -> None:
        """Begin a call of the tracker."""

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        # Trackers raise whatever the network, a server or a user's code raises. Ctrl-C goes on.
        if not isinstance(error, Exception):
            return False
        reason = " ".join(str(error).split()) or kind.__name__
        print(f"tracker {self._name!r} failed and is left out from now on ({reason}); history.csv has every number")
        self._tracks = None
        return True


def _curves(row: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name != "epoch"}


def _run_name(fold_dir: Path) -> str:
    return run_dir_of(fold_dir.resolve()).name


def _fold_name(fold_dir: Path) -> str:
    return f"{fold_dir.resolve().parent.name}/{fold_dir.name}"


def _remembered(path: Path, make: Callable[[], str]) -> str:
    """Return the id in a file of the fold's folder, which is made at first use."""
    if not path.exists():
        write_text(path, make())
    return path.read_text(encoding="utf-8").strip()
