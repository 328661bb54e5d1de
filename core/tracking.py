"""Learning curves for TensorBoard, if it is installed. history.csv remains the truth."""

from collections.abc import Mapping
from pathlib import Path

try:
    from torch.utils.tensorboard import SummaryWriter
except ImportError:
    SummaryWriter = None


class NoTracker:
    """Tracks nothing: what runs without TensorBoard get, so that training has one code path."""

    def log(self, row: Mapping[str, float]) -> None:
        """Take no notice of a row of history.csv."""

    def close(self) -> None:
        """Nothing is open."""


class TensorBoardTracker(NoTracker):
    """Writes every number of a row of history.csv as a curve over epochs."""

    def __init__(self, log_dir: Path) -> None:
        self._writer = SummaryWriter(log_dir)

    def log(self, row: Mapping[str, float]) -> None:
        for name in row.keys() - {"epoch"}:
            self._writer.add_scalar(name, row[name], row["epoch"])

    def close(self) -> None:
        self._writer.close()


def open_tracker(fold_dir: Path) -> NoTracker:
    return TensorBoardTracker(fold_dir / "tensorboard") if SummaryWriter else NoTracker()
