"""Scaling: time and memory of every step over 1, 4 and 16 times the photos, as separate commands."""

import itertools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dev.benchmarks.material import Setup, multiplied
from dev.benchmarks.measure import Report, Spread, spread
from dev.benchmarks.watch import Watched, watch


@dataclass(frozen=True)
class Places:
    """Where one size of the data set is worked on."""

    photos_dir: Path
    crop_dir: Path
    run_dir: Path
    settings: Sequence[str]


@dataclass(frozen=True)
class Step:
    """A command of the pipeline; `words` gives what follows `python`."""

    name: str
    words: Callable[[Places], Sequence[object]]


def _detect(places: Places) -> Sequence[object]:
    return ["preprocessing/detect_faces.py", "--data-dir", places.photos_dir, "--crop-dir", places.crop_dir]


def _crop(places: Places) -> Sequence[object]:
    return ["preprocessing/crop_faces.py", "--crop-dir", places.crop_dir]


def _train(task: str, places: Places) -> Sequence[object]:
    where = ["--crop-dir", places.crop_dir, "--run-dir", places.run_dir]
    return ["train.py", "--task", task, "--fold", 0, *where, *places.settings, "--epochs", 1]


def _infer(task: str, places: Places) -> Sequence[object]:
    return ["inference.py", "--task", task, "--run-dir", places.run_dir]


STEPS = (
    Step("detect_faces", _detect),
    Step("crop_faces", _crop),
    # The one learns as a whole, by default, the other is a head on stored features, which are made first.
    *(Step(f"train {task}", partial(_train, task)) for task in ("mask", "gender")),
    *(Step(f"inference {task}", partial(_infer, task)) for task in ("mask", "gender")),
)


def bench_scaling(setup: Setup) -> Report:
    """Seconds and memory of each step by number of photos.

    The ratio of time is of what a further photo costs, last against first, so that starting a command does not count:
    it is 1 where time is linear, and needs three sizes. The ratio of memory is 1 where memory is flat.
    """
    found: dict[int, dict[str, Watched]] = {}
    with tempfile.TemporaryDirectory(dir=setup.work_dir) as folder:
        for times in setup.size.times:
            found[times] = {step.name: _run(setup, step, Path(folder) / str(times), times) for step in STEPS}
    rates = {f"{name} x{times}": [one.seconds] for times, row in found.items() for name, one in row.items()}
    facts = {f"{name} x{times} peak MB": one.peak_mb for times, row in found.items() for name, one in row.items()}
    ratios = {name: ratio for step in STEPS for name, ratio in _growth(step.name, found).items()}
    return Report("s", rates, ratios, {"photos x1": len(setup.data.photos), **facts})


def _run(setup: Setup, step: Step, folder: Path, times: int) -> Watched:
    photos_dir = folder / "photos"
    if not photos_dir.exists():
        multiplied(setup.data, photos_dir, times)
    settings = ["--profile", setup.profile, *setup.typed_flags()]
    return watch(step.words(Places(photos_dir, folder / "crops", folder / "run", settings)))


def _growth(name: str, found: dict[int, dict[str, Watched]]) -> dict[str, Spread]:
    """Of one step: cost of a further photo at the end over that at the beginning, and memory of the most photos over
    that of the fewest."""
    sizes = sorted(found)
    costs = [
        (found[more][name].seconds - found[less][name].seconds) / (more - less)
        for less, more in itertools.pairwise(sizes)
    ]
    ratios = {f"{name}, time of a further photo": costs[-1] / costs[0]} if len(costs) > 1 else {}
    fewest, most = found[sizes[0]][name].peak_mb, found[sizes[-1]][name].peak_mb
    if fewest and most:
        ratios[f"{name}, memory x{sizes[-1]} / x{sizes[0]}"] = most / fewest
    return {pair: spread([value]) for pair, value in ratios.items()}
