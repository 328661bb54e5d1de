"""Data-set builder: photos a second and memory of the command, start included, on drawn faces."""

import tempfile
from pathlib import Path

import numpy as np

from core.images import write_photo
from dev.benchmarks.measure import Report
from dev.benchmarks.process_usage import run_command
from dev.benchmarks.setup import Setup
from synthesis.drawn.person import random_person
from synthesis.drawn.portrait import draw_person


def bench_build(setup: Setup) -> Report:
    """Photos a second of `synthesis.builder.build`, one face a person and one more for the eval photo."""
    people = setup.size.people
    with tempfile.TemporaryDirectory(dir=setup.work_dir) as folder:
        faces_dir, labels_path = Path(folder) / "faces", Path(folder) / "labels.csv"
        names = [_draw_face(faces_dir, seed) for seed in range(people + 1)]
        labels_path.write_text("\n".join(["file,gender,race,age", *(f"{name},female,unknown,30" for name in names)]))
        faces = ["--faces", faces_dir, "--labels", labels_path, "--out", Path(folder) / "data"]
        asked = ["--train-people", people, "--eval-people", 1]
        usage = run_command(["-m", "synthesis.builder.build", *faces, *asked])
        photos = len(list((Path(folder) / "data" / "images").rglob("*.jpg")))
    return Report("photos/s", {"built": [photos / usage.seconds]}, facts={"photos": photos, "peak MB": usage.peak_mb})


def _draw_face(folder: Path, seed: int) -> str:
    """Write the tight crop of a drawn face, about 200 pixels high, and return its file name."""
    rng = np.random.default_rng(seed)
    portrait = draw_person(random_person(rng, "female", 30), rng)
    x1, y1, x2, y2 = (max(0, round(edge)) for edge in portrait.box)
    write_photo(folder / f"{seed}.png", np.ascontiguousarray(portrait.photo[y1:y2, x1:x2]))
    return f"{seed}.png"
