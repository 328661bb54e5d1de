"""Training step: photos a second of a real epoch, and of the same steps on a batch that lies on the device."""

import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from core.cli import progress
from dev.benchmarks.measure import Report, in_turn, ratios_of
from dev.benchmarks.setup import Setup
from training.device import prepare_process
from training.fold_setup import FoldTraining

TASK = "mask"
REAL, ON_DEVICE = "real epoch", "batch on the device"


def bench_step(setup: Setup) -> Report:
    """Speed of an epoch as a fraction of that of its steps alone."""
    prepare_process(setup.threads_of_a_job)
    with tempfile.TemporaryDirectory() as folder:
        training = setup.new_training(TASK, Path(folder), photos_per_person=0)
        loader = training.train_loader
        batch = tuple(part.to(training.device) for part in next(iter(loader)))
        epochs = {REAL: loader, ON_DEVICE: [batch] * len(loader)}
        rates = in_turn({name: partial(_train, training, epoch) for name, epoch in epochs.items()}, setup.size.rounds)
    facts = {"device": str(setup.device), "batch": len(batch[0]), "threads": setup.threads_of_a_job}
    return Report("photos/s", rates, ratios_of(rates, REAL), facts)


def _train(training: FoldTraining, batches: Iterable) -> int:
    training.sampler.epoch += 1
    with progress(None, title="step") as bar:
        result = training.trainer.train_one_epoch(batches, first_step=0, bar=bar)
    return round(result.images_per_second * result.seconds)
