"""Loader: photos a second that reach the device as normalised batches.

Ours reads the crop cache that earlier steps have left, as training does; the baseline reads the photos.
"""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from core.cli import cpu_count
from dev.benchmarks.baselines import PhotoFiles
from dev.benchmarks.measure import Report, in_turn, ratios_of
from dev.benchmarks.setup import Setup
from training.device import pick_workers, prepare_process, to_device
from training.fold_setup import FoldTraining

TASK, OURS = "mask", "ours"


def bench_loader(setup: Setup) -> Report:
    """Photos a second of our loader, with mirror images alone and with its usual augmentation, and of the baseline."""
    prepare_process(cpu_count())
    config = setup.config(TASK)
    size = setup.fold_data(TASK, config).input_for(config).size
    with tempfile.TemporaryDirectory() as folder:
        flip = setup.new_training(TASK, Path(folder), augment="flip", photos_per_person=0)
        usual = setup.new_training(TASK, Path(folder), photos_per_person=0)
        epochs = {
            OURS: partial(_our_epoch, flip),
            "ours, usual augmentation": partial(_our_epoch, usual),
            "Pillow and torchvision": _baseline(setup, size),
        }
        rates = in_turn({name: partial(_load, setup, epoch) for name, epoch in epochs.items()}, setup.size.rounds)
    return Report("photos/s", rates, ratios_of(rates, OURS), {"input": "{} x {}".format(*size)})


def _our_epoch(training: FoldTraining) -> Iterator[Tensor]:
    training.sampler.epoch += 1
    for images, *_ in training.train_loader:
        pixels = to_device(images, training.device, training.config.channels_last)
        yield (pixels - training.model.mean) / training.model.std


def _baseline(setup: Setup, size: tuple[int, int]) -> Callable[[], Iterator[Tensor]]:
    """Epochs over the photo files. The loader, and so its processes, are the same for all of them."""
    paths = [setup.data_dir / photo.path for photo in setup.data.of_split("train")]
    config = setup.config(TASK)
    loader = DataLoader(
        PhotoFiles((paths, [0] * len(paths)), size, config.backbone, flip=True),
        batch_size=config.batch_size,
        shuffle=True,
        num_workers=pick_workers(config.workers, setup.device),
        pin_memory=setup.device.type == "cuda",
    )
    options = {"memory_format": torch.channels_last, "non_blocking": True}
    return lambda: (images.to(setup.device, **options) for images, _ in loader)


def _load(setup: Setup, epoch: Callable[[], Iterator[Tensor]]) -> int:
    photos = sum(len(images) for _ in range(setup.size.passes) for images in epoch())
    if setup.device.type == "cuda":
        torch.cuda.synchronize()
    return photos
