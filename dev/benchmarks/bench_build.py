"""How many photos a second the data set builder makes, and how much memory it takes.

    python -m dev.benchmarks.bench_build --people 120 --workers 2

prints JSON: {"workers": 2, "photos": 840, "photos_per_second": ..., "measured_per_second": ...,
"cpu_ms_a_photo": ..., "peak_mb_a_process": ...}

The faces are drawn crops of about 200 pixels, so that no photo is needed. Starting the processes is not counted in the
rates; on a machine that does other work as well, look at cpu_ms_a_photo.
"""

import argparse
import json
import resource
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from core import parallel
from core.cli import command_parser, cpu_count, positive_int, run_cli
from core.images import write_photo
from dev.benchmarks.spreading import timed_spread
from synthesis.builder.labels import Label
from synthesis.builder.measure import MeasuredFace, measurer
from synthesis.builder.photos import PersonPlan, painter
from synthesis.builder.select import Candidate, SelectedPerson
from synthesis.drawn.person import random_person
from synthesis.drawn.portrait import draw_person
from synthesis.layout import Identity, layout_named

LABEL = Label("female", "unknown", 30)


def main(argv: Sequence[str] | None = None) -> None:
    args = _arguments(argv)
    parallel.TOO_FEW_FOR_PROCESSES = 0
    with tempfile.TemporaryDirectory() as folder:
        faces_dir = Path(folder) / "faces"
        names = _draw_faces(faces_dir, args.faces)
        repeated = names * (args.people // args.faces + 1)
        faces, measured = timed_spread(partial(measurer, faces_dir, None), repeated, args.workers)
        usable = [face for face in faces if not face.reason]
        people = [_sitting(number, usable[number % len(usable)]) for number in range(args.people)]
        before = _cpu_seconds()
        counts, painted = timed_spread(partial(painter, faces_dir, Path(folder) / "data"), people, args.workers)
        spent = _cpu_seconds() - before
    peak = resource.getrusage(resource.RUSAGE_CHILDREN if args.workers > 1 else resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({
        "workers": args.workers,
        "photos": sum(counts),
        "photos_per_second": round(7 * painted, 1),
        "measured_per_second": round(measured, 1),
        "cpu_ms_a_photo": round(1000 * spent / sum(counts), 1),
        "peak_mb_a_process": round(peak / 1024),
    }))  # fmt: skip


def _cpu_seconds() -> float:
    """Of this process and of those that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _draw_faces(folder: Path, count: int) -> list[str]:
    """Tight crops of drawn people; returns their names."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        portrait = draw_person(random_person(rng, "female", 30), rng)
        x1, y1, x2, y2 = (max(0, round(edge)) for edge in portrait.box)
        write_photo(folder / f"{seed}.jpg", np.ascontiguousarray(portrait.photo[y1:y2, x1:x2]))
    return [f"{seed}.jpg" for seed in range(count)]


def _sitting(number: int, face: MeasuredFace) -> PersonPlan:
    identity = Identity(number, LABEL.gender, LABEL.race, LABEL.age)
    selected = SelectedPerson(Candidate(face, LABEL), 1.0)
    return PersonPlan("train", identity, selected, layout_named("remade").train_paths(identity), (0, number))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("--people", type=positive_int, default=120, help="people to make, 7 photos each")
    parser.add_argument("--faces", type=positive_int, default=24, help="different faces to make them from")
    parser.add_argument("--workers", type=positive_int, default=cpu_count(), help="processes")
    return parser.parse_args(argv)


if __name__ == "__main__":
    run_cli(main)
