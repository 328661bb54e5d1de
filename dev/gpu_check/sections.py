"""Sections of the check: tests on the card, and benchmarks of training and inference with the memory that they take."""

import re
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import torch

from core.cli import UserError, progress
from dev.benchmarks.learning import bench_job, bench_step
from dev.benchmarks.measure import Report, in_turn, machine, ratios_of
from dev.benchmarks.predicting import bench_inference
from dev.benchmarks.setup import QUICK, Setup, Size, drawn_dir, prepare
from dev.command import run_command
from training.device import Precision
from training.engine import Trainer

TASK = "mask"
STEPS = 20
GPU_SIZE = Size("gpu", people=120, eval_photos=240, rounds=3, passes=1, folds=5, requests=0)
DRY = MappingProxyType({
    **{"backbone": "test_efficientnet", "pretrained": False, "image_size": 32, "epochs": 1, "batch_size": 16},
    **{"workers": 0, "device": "cpu", "folds": 2},
})  # fmt: skip
AT_ONCE = (1, 2, 4)
"""Folds that are trained at once on one card."""
TYPES = MappingProxyType({"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16})


def setup_of(out: Path, data_dir: Path | None, *, dry_run: bool) -> Setup:
    """Return photos and settings: the full profile on the GPU, a tiny network on the CPU. UserError without a GPU."""
    if not dry_run and not torch.cuda.is_available():
        raise UserError("torch finds no GPU here; --dry-run tries the check on the CPU")
    work_dir = out / ("dry" if dry_run else "work")
    size, profile, typed = (QUICK, "smoke", DRY) if dry_run else (GPU_SIZE, "full", {"device": "cuda"})
    return Setup(work_dir, data_dir or drawn_dir(work_dir), size, profile, typed)


def photos(setup: Setup) -> Report:
    """Draw or read the photos, detect and crop the faces; the facts are of the machine."""
    prepare(setup)
    return Report("", {}, facts={**machine(), "photos": len(setup.data.photos)})


def tests(_: Setup) -> Report:
    """Run the tests marked `gpu`, which are skipped where there is none. UserError names the first that fails."""
    done = run_command(["-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests/test_gpu.py"])
    last = done.output.strip().splitlines()[-1]
    return Report("", {}, facts={what: int(count) for count, what in re.findall(r"(\d+) (passed|skipped)", last)})


def precision(setup: Setup) -> Report:
    """Steps of each number format."""
    return _compare(setup, {name: partial(_in_format, dtype=dtype) for name, dtype in TYPES.items()}, "bfloat16")


def compiled(setup: Setup) -> Report:
    """Steps of the network as it is, and as torch.compile makes it."""
    backend = "inductor" if setup.device.type == "cuda" else "eager"

    def compile_it(trainer: Trainer) -> Trainer:
        return replace(trainer, model=torch.compile(trainer.model, backend=backend))

    return _compare(setup, {"plain": lambda trainer: trainer, "compiled": compile_it}, "compiled")


def folds(setup: Setup) -> Report:
    """Seconds of all folds of a task, several at once on one card."""
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(dir=setup.work_dir) as folder:
        for at_once in AT_ONCE:
            where = ["--crop-dir", setup.crop_dir, "--run-dir", Path(folder) / str(at_once), "--jobs", at_once]
            settings = setup.train_flags(folds=setup.size.folds, epochs=2)
            seconds[f"{at_once} at once"] = [run_command(["train.py", "--task", TASK, *where, *settings]).seconds]
    return Report("s", seconds, ratios_of(seconds, f"{AT_ONCE[0]} at once"))


def with_memory(benchmark: Callable[[Setup], Report]) -> Callable[[Setup], Report]:
    """Return the benchmark with the most memory of the GPU that this process has had among its facts."""

    def measured(setup: Setup) -> Report:
        report = benchmark(setup)
        memory = {"GPU memory, MB": peak_megabytes()} if torch.cuda.is_available() else {}
        return replace(report, facts={**report.facts, **memory})

    return measured


SECTIONS: MappingProxyType[str, Callable[[Setup], Report]] = MappingProxyType({
    **{"photos": photos, "tests": tests, "step": with_memory(bench_step), "precision": precision, "compile": compiled},
    **{"job": with_memory(bench_job), "folds": folds, "inference": with_memory(bench_inference)},
})  # fmt: skip


def peak_megabytes() -> float:
    return torch.cuda.max_memory_allocated() / 1e6


def _compare(setup: Setup, changes: dict[str, Callable[[Trainer], Trainer]], named: str) -> Report:
    """Photos a second of steps on a batch that lies on the device, by contender, and the memory of each."""
    contenders, memory = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, change in changes.items():
            training = setup.new_training(TASK, Path(folder), photos_per_person=0)
            batch = tuple(part.to(training.device) for part in next(iter(training.train_loader)))
            contenders[name] = partial(_train, change(training.trainer), [batch] * STEPS)
            if torch.cuda.is_available():
                contenders[name]()
                torch.cuda.reset_peak_memory_stats()
                contenders[name]()
                memory[f"GPU memory, {name}, MB"] = peak_megabytes()
        rates = in_turn(contenders, setup.size.rounds)
    return Report("photos/s", rates, ratios_of(rates, named), {"batch": len(batch[0]), **memory})


def _train(trainer: Trainer, batches: Iterable) -> int:
    with progress(None, title="", shown=False) as bar:
        result = trainer.train_one_epoch(batches, first_step=0, bar=bar)
    return round(result.images_per_second * result.seconds)


def _in_format(trainer: Trainer, *, dtype: torch.dtype) -> Trainer:
    device = trainer.precision.device
    chosen = Precision(device, dtype != torch.float32)
    chosen.dtype = dtype
    chosen.scaler = torch.amp.GradScaler(device.type, enabled=chosen.enabled and dtype == torch.float16)
    return replace(trainer, precision=chosen)
