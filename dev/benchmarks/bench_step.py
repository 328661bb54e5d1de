"""Training step: photos a second of a real epoch, against the same steps on tensors that lie on the device already."""

import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from core.cli import progress
from dev.benchmarks.material import Setup
from dev.benchmarks.measure import Report, in_turn, ratio
from dev.benchmarks.ours import new_training, threads_of_a_job
from dev.benchmarks.resident import Resident
from training.device import pick_workers
from training.fold import FoldTraining

TASK = "mask"
REAL, CEILING = "real epoch", "resident tensors"


def bench_step(setup: Setup) -> Report:
    """What share of the step's own speed a real epoch reaches."""
    with tempfile.TemporaryDirectory() as folder, threads_of_a_job(setup.config(TASK)) as threads:
        training = new_training(setup, TASK, Path(folder), photos_per_person=0)
        loader = training.train_loader
        resident = Resident(next(iter(loader)), len(loader), training.device)
        contenders = {
            REAL: partial(_train, training, training.train_loader),
            CEILING: partial(_train, training, resident),
        }
        rates = in_turn(contenders, setup.size.rounds)
        workers = pick_workers(training.config.workers, training.device)
    facts = {"device": str(setup.device), "batch": training.config.batch_size, "workers": workers, "threads": threads}
    return Report("photos/s", rates, {f"{REAL} / {CEILING}": ratio(rates, REAL, CEILING)}, facts)


def _train(training: FoldTraining, batches: Iterable) -> float:
    training.sampler.epoch += 1
    with progress(None, title="step") as bar:
        return training.trainer.train_one_epoch(batches, first_step=0, bar=bar).images_per_second
