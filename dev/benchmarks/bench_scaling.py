"""Scaling: time and memory of every step over several times the photos, as separate commands."""

import itertools
import tempfile
from collections.abc import Mapping
from pathlib import Path

from dev.benchmarks.measure import Report, Spread, spread
from dev.benchmarks.process_usage import ProcessUsage, run_command
from dev.benchmarks.setup import Setup, multiplied

TASKS = ("mask", "gender")
"""By default the first learns as a whole, the second is a head on stored features."""


def bench_scaling(setup: Setup) -> Report:
    """Seconds and memory of each step by number of photos.

    The ratio of time is of the cost of a further photo, last against first, so that starting a command does not count:
    1 where time is linear, with three sizes or more. The ratio of memory is 1 where memory is flat.
    """
    found: dict[str, dict[int, ProcessUsage]] = {}
    with tempfile.TemporaryDirectory(dir=setup.work_dir) as folder:
        for times in setup.size.times:
            place = Path(folder) / str(times)
            multiplied(setup.data, place / "photos", times)
            for name, words in commands(setup, place).items():
                found.setdefault(name, {})[times] = run_command(words)
    rates = {f"{name} x{times}": [one.seconds] for name, sizes in found.items() for times, one in sizes.items()}
    facts = {f"{name} x{times} peak MB": one.peak_mb for name, sizes in found.items() for times, one in sizes.items()}
    ratios = {title: value for name, sizes in found.items() for title, value in growth(name, sizes).items()}
    return Report("s", rates, ratios, {"photos x1": len(setup.data.photos), **facts})


def commands(setup: Setup, place: Path) -> dict[str, list[object]]:
    """The steps of the pipeline, in a folder that holds the photos."""
    crops, run = ["--crop-dir", place / "crops"], ["--run-dir", place / "run"]
    settings = [*setup.train_flags(), "--fold", 0, "--epochs", 1]
    return {
        "detect_faces": ["preprocessing/detect_faces.py", "--data-dir", place / "photos", *crops],
        "crop_faces": ["preprocessing/crop_faces.py", *crops],
        **{f"train {task}": ["train.py", "--task", task, *crops, *run, *settings] for task in TASKS},
        **{f"inference {task}": ["inference.py", "--task", task, *run] for task in TASKS},
    }


def growth(name: str, sizes: Mapping[int, ProcessUsage]) -> dict[str, Spread]:
    """Cost of a further photo at the end over that at the beginning; memory of the most photos over the fewest."""
    costs = [
        (sizes[more].seconds - sizes[less].seconds) / (more - less) for less, more in itertools.pairwise(sorted(sizes))
    ]
    ratios = {f"{name}, time of a further photo": costs[-1] / costs[0]} if len(costs) > 1 else {}
    fewest, most = min(sizes), max(sizes)
    if sizes[fewest].peak_mb and sizes[most].peak_mb:
        ratios[f"{name}, memory x{most} / x{fewest}"] = sizes[most].peak_mb / sizes[fewest].peak_mb
    return {title: spread([value]) for title, value in ratios.items()}
