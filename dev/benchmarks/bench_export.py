"""Export: photos a second and agreement of the ONNX files with torch, all tasks and folds at once, on one CPU.

Many crops together, as from a folder, and one after the other, as from a camera.
"""

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from core.cli import UserError, cpu_count
from dev.benchmarks.measure import Report, in_turn, ratio
from dev.benchmarks.setup import Setup, images_for
from dev.command import run_command
from serving.agreement import Classify, agreements
from serving.onnx_model import INT8_SUFFIX, load_exported
from serving.torch_model import load_run
from training.device import prepare_process

TORCH, ONNX, INT8 = "torch", "ONNX", "ONNX int8"
CROPS, ALONE = 64, 16
WAYS = {"all at once": CROPS, "one by one": 1}
"""Crops that are handed over together."""


def bench_export(setup: Setup) -> Report:
    """Speed of the files that `serving.export` writes beside torch; a file that it does not write is skipped."""
    run_dir = setup.some_run()
    crops = images_for(load_run(run_dir, device="cpu"), setup.eval_crops)[:CROPS]
    with tempfile.TemporaryDirectory(dir=setup.work_dir) as folder:
        try:
            printed = run_command(["-m", "serving.export", "--run-dir", run_dir, "--out", folder, "--int8"]).output
        except UserError as error:
            return Report("photos/s", {}, facts={f"{ONNX}, skipped": str(error)})
        paths = {ONNX: Path(folder) / "all.onnx", INT8: Path(folder) / f"all{INT8_SUFFIX}"}
        exported = {name: load_exported(path) for name, path in paths.items() if path.exists()}
        models = {TORCH: load_run(run_dir, device="cpu"), **exported}
        prepare_process(cpu_count())
        contenders = {
            f"{name}, {how}": partial(_classify, model, crops[: ALONE * together], together)
            for name, model in models.items()
            for how, together in WAYS.items()
        }
        rates = in_turn(contenders, setup.size.rounds)
        facts: dict[str, object] = {"photos": len(crops)}
        for name, model in exported.items():
            rows = agreements(models[TORCH](crops), model(crops))
            facts[f"{name}, same label as torch"] = min(row.labels for row in rows)
            facts[f"{name}, largest difference of a probability"] = max(row.largest for row in rows)
    if INT8 not in exported:
        # The last line says why.
        facts[f"{INT8}, skipped"] = printed.strip().splitlines()[-1]
    pairs = [(f"{name}, {how}", f"{TORCH}, {how}") for name in exported for how in WAYS]
    return Report("photos/s", rates, {f"{name} / {torch}": ratio(rates, name, torch) for name, torch in pairs}, facts)


def _classify(classify: Classify, crops: Sequence[np.ndarray], together: int) -> int:
    for first in range(0, len(crops), together):
        classify(crops[first : first + together])
    return len(crops)
