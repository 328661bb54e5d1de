"""Loader: photos a second that reach the device as batches, ours against how others load.

Others read the photos themselves; we read what the steps before training have left, which is what training does.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from core.cli import UserError
from dev.benchmarks.material import Setup
from dev.benchmarks.measure import Report, in_turn, per_second, ratios_of
from dev.benchmarks.ours import new_training, ready
from dev.benchmarks.rivals import RIVALS, Feed
from model import normalisation
from training.fold import FoldTraining
from training.predictor import input_size

TASK = "mask"
OURS = "ours"


def bench_loader(setup: Setup) -> Report:
    """Photos a second of every loader. Our own with the flip that the others have, and with its usual augmentation."""
    with tempfile.TemporaryDirectory() as folder:
        mine = {
            OURS: new_training(setup, TASK, Path(folder), augment="flip", photos_per_person=0),
            "ours, usual augmentation": new_training(setup, TASK, Path(folder), photos_per_person=0),
        }
        contenders = {name: _timed(setup, partial(_our_epoch, training)) for name, training in mine.items()}
        others, skipped = _others(setup)
        rates = in_turn(contenders | others, setup.size.rounds)
    facts = {"input": "{} x {}".format(*_feed(setup).size), "workers": setup.loader_workers}
    return Report("photos/s", rates, ratios_of(rates, OURS), facts, skipped)


def _others(setup: Setup) -> tuple[dict[str, Callable[[], float]], dict[str, str]]:
    """Contenders, and those that cannot be had, with the reason."""
    contenders, skipped = {}, {}
    for rival in RIVALS:
        try:
            loader = rival.build(_feed(setup))
        except UserError as error:
            skipped[rival.name] = str(error)
        else:
            contenders[rival.name] = _timed(setup, partial(_their_epoch, loader, setup.device))
    return contenders, skipped


def _feed(setup: Setup) -> Feed:
    config = setup.config(TASK)
    return Feed(
        setup.train_root,
        setup.train_photos,
        input_size(config, setup.train_crops.source),
        *normalisation(config.backbone),
        config.batch_size,
        setup.loader_workers,
        setup.device,
    )


def _our_epoch(training: FoldTraining) -> Iterator[Tensor]:
    training.sampler.epoch += 1
    return (ready(training, pictures) for pictures, *_ in training.train_loader)


def _their_epoch(loader: Iterable, device: torch.device) -> Iterator[Tensor]:
    return (images.to(device, memory_format=torch.channels_last, non_blocking=True) for images, *_ in loader)


def _timed(setup: Setup, epoch: Callable[[], Iterator[Tensor]]) -> Callable[[], float]:
    """A contender: some epochs of normalised batches on the device."""

    def load() -> int:
        photos = 0
        for _ in range(setup.size.passes):
            photos += sum(map(len, epoch()))
        if setup.device.type == "cuda":
            torch.cuda.synchronize()
        return photos

    return partial(per_second, load)
