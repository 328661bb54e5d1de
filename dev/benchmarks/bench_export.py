"""Export: photos a second and agreement of the ONNX files with torch, all tasks and folds at once, on one CPU.

Many crops together, as from a folder, and one after the other, as from a camera.
"""

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from core.cli import UserError, cpu_count
from core.images import read_photo
from dev.benchmarks.material import Setup, some_run
from dev.benchmarks.measure import Report, in_turn, per_second, ratio
from dev.benchmarks.watch import watch
from serving.agreement import Classify, agreements
from serving.onnx_model import INT8_SUFFIX, load_exported
from serving.torch_model import load_run
from training.device import prepare_process

TORCH, ONNX, INT8 = "torch", "ONNX", "ONNX int8"
CROPS, ALONE = 64, 16
ONE_BY_ONE = ", one by one"


def bench_export(setup: Setup) -> Report:
    """The files that export.py writes, beside torch on the same crops. An int8 file that it did not keep is skipped."""
    run_dir, _ = some_run(setup)
    crops = [read_photo(path) for path in setup.eval_crops.paths[:CROPS]]
    with tempfile.TemporaryDirectory(dir=setup.work_dir) as folder:
        try:
            printed = watch(["-m", "serving.export", "--run-dir", run_dir, "--out", folder, "--int8"]).output
        except UserError as error:
            return Report(skipped={ONNX: str(error)})
        paths = {ONNX: Path(folder) / "all.onnx", INT8: Path(folder) / f"all{INT8_SUFFIX}"}
        exported = {name: load_exported(path) for name, path in paths.items() if path.exists()}
        prepare_process(cpu_count())
        contenders = {TORCH: load_run(run_dir, tasks=[], folds=(), device="cpu"), **exported}
        speeds = {name: partial(per_second, partial(_classify, one, crops)) for name, one in contenders.items()}
        speeds |= {
            name + ONE_BY_ONE: partial(per_second, partial(_classify_each, one, crops[:ALONE]))
            for name, one in contenders.items()
        }
        rates = in_turn(speeds, setup.size.rounds)
        facts = {"photos": len(crops), **_agreement(contenders, crops)}
    ratios = {
        f"{name}{how} / {TORCH}{how}": ratio(rates, name + how, TORCH + how)
        for name in exported
        for how in ("", ONE_BY_ONE)
    }
    # Its last line says why.
    skipped = {} if INT8 in exported else {INT8: printed.strip().splitlines()[-1]}
    return Report("photos/s", rates, ratios, facts, skipped)


def _classify(classify: Classify, crops: Sequence[np.ndarray]) -> int:
    classify(crops)
    return len(crops)


def _classify_each(classify: Classify, crops: Sequence[np.ndarray]) -> int:
    return sum(_classify(classify, [crop]) for crop in crops)


def _agreement(contenders: dict[str, Classify], crops: Sequence[np.ndarray]) -> dict[str, float]:
    """How the others answer beside torch, in the task where they differ most."""
    answers = {name: classify(crops) for name, classify in contenders.items()}
    found = {}
    for name in answers.keys() - {TORCH}:
        rows = agreements(answers[TORCH], answers[name])
        found[f"{name}, same label as torch"] = min(row.labels for row in rows)
        found[f"{name}, largest difference of a probability"] = max(row.largest for row in rows)
    return found
