"""What folds cost that were trained side by side, kept in the run folder as they go.

    <run>/times.json      {"age/fold0": {"seconds": 81.2, "cpu_seconds": 80.4, "jobs": [2]}, ...}

They have one wall-clock together. Each gets the share of it that its epochs have of all epochs done meanwhile, so that
the seconds of all folds of a run add up to the time that somebody waited for it, interruptions and all.
"""

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from core import files
from core.cli import UserError
from storage.run_dir import HISTORY, is_done

TIMES = "times.json"


@dataclass(frozen=True)
class Spent:
    """Shares of wall-clock and processor time, and how many folds were trained at once, in rising order."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    jobs: tuple[int, ...] = ()

    def __add__(self, other: "Spent") -> "Spent":
        jobs = tuple(sorted({*self.jobs, *other.jobs}))
        return Spent(round(self.seconds + other.seconds, 3), round(self.cpu_seconds + other.cpu_seconds, 3), jobs)


def read_times(run_dir: Path) -> dict[str, Spent]:
    """What each fold has cost so far, by `task/fold`."""
    path = run_dir / TIMES
    stored = files.read_json(path) if path.exists() else {}
    return {name: Spent(of["seconds"], of["cpu_seconds"], tuple(of["jobs"])) for name, of in stored.items()}


def spent_on(run_dir: Path, fold_dirs: Iterable[Path]) -> Spent:
    """What some trained folds of a run have cost together; UserError for one of which nothing is known."""
    times = read_times(run_dir)
    names = [_name_of(folder) for folder in fold_dirs]
    for name in names:
        if name not in times:
            raise UserError(
                f"{run_dir / TIMES}: no time of {name}, which was trained by something else; remove that folder, "
                "to train it anew, or give another --run-dir"
            )
    return sum((times[name] for name in names), Spent())


class Clock:
    """The wall-clock of folds that are trained side by side from now on, added to what they cost before.

    A training that is killed, not interrupted, loses the time since the last `note`.
    """

    def __init__(self, run_dir: Path, fold_dirs: Sequence[Path], jobs: int) -> None:
        self._run_dir, self._jobs = run_dir, jobs
        self._before = read_times(run_dir)
        self._trained = {folder: _trained_seconds(folder) for folder in fold_dirs}
        self._began, self._cpu_began = time.monotonic(), cpu_seconds()

    def note(self) -> None:
        """Write down what everything has cost until now."""
        seconds, cpu = time.monotonic() - self._began, cpu_seconds() - self._cpu_began
        # Not below 0: an epoch whose state was not saved any more is done again, and may be faster then.
        gained = {folder: max(0.0, _trained_seconds(folder) - before) for folder, before in self._trained.items()}
        total = sum(gained.values())
        times = dict(self._before)
        for folder, own in gained.items():
            share = own / total if total else 1 / len(gained)
            if share or is_done(folder):
                name = _name_of(folder)
                times[name] = times.get(name, Spent()) + Spent(share * seconds, share * cpu, (self._jobs,))
        files.write_json(self._run_dir / TIMES, {name: asdict(spent) for name, spent in times.items()})


@contextmanager
def running(run_dir: Path, fold_dirs: Sequence[Path], jobs: int) -> Iterator[Clock]:
    """A clock that is noted down at the end, also at that of an interrupted training."""
    clock = Clock(run_dir, fold_dirs, jobs)
    try:
        yield clock
    finally:
        clock.note()


def cpu_seconds() -> float:
    """Processor time of this process, all its threads, and the processes it started that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _name_of(fold_dir: Path) -> str:
    return f"{fold_dir.parent.name}/{fold_dir.name}"


def _trained_seconds(fold_dir: Path) -> float:
    """How long the epochs took that a fold has behind it."""
    path = fold_dir / HISTORY
    return float(files.read_csv(path, ("seconds",))["seconds"].astype(float).sum()) if path.exists() else 0.0
