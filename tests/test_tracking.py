"""Learning curves: written where TensorBoard is installed, and nowhere else."""

from pathlib import Path

import pytest

from core import tracking

ROW = {"epoch": 2, "train_loss": 0.5, "macro_f1": 0.75}


def test_every_number_of_an_epoch_becomes_a_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points: set[tuple[str, float, int]] = set()
    closed: list[Path] = []

    class Writer:
        def __init__(self, log_dir: Path) -> None:
            self.log_dir = log_dir

        def add_scalar(self, name: str, value: float, step: int) -> None:
            points.add((name, value, step))

        def close(self) -> None:
            closed.append(self.log_dir)

    monkeypatch.setattr(tracking, "SummaryWriter", Writer)
    tracker = tracking.open_tracker(tmp_path)
    tracker.log(ROW)
    tracker.close()
    assert points == {("train_loss", 0.5, 2), ("macro_f1", 0.75, 2)}
    assert closed == [tmp_path / "tensorboard"]


def test_nothing_is_written_without_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "SummaryWriter", None)
    tracker = tracking.open_tracker(tmp_path)
    tracker.log(ROW)
    tracker.close()
    assert list(tmp_path.iterdir()) == []
