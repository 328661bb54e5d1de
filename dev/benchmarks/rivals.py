"""How others feed a network with photos: each row a loader over the 384 x 512 JPEG files, found by name.

All give batches of normalised float images of the same size, flipped at random, shuffled, from as many processes.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
import timm.data
import torch
from albumentations.pytorch import ToTensorV2
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T

from core.cli import UserError


@dataclass(frozen=True)
class Feed:
    """What a loader is asked for. `size` is (H, W); `root` holds one folder a person, in which `paths` lie."""

    root: Path
    paths: Sequence[Path]
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    batch_size: int
    workers: int
    device: torch.device

    @property
    def in_gpu(self) -> bool:
        return self.device.type == "cuda"


@dataclass(frozen=True)
class Rival:
    """`build` makes an iterable of batches that begin with (N, 3, H, W) float32; UserError for a missing package."""

    name: str
    build: Callable[[Feed], Iterable]


class Files(Dataset):
    """Photos read one by one: (image, 0)."""

    def __init__(self, paths: Sequence[Path], read: Callable[[Path], Tensor]) -> None:
        self.paths, self.read = list(paths), read

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.read(self.paths[index]), 0


class WithPillow:
    """Pillow and torchvision, photo by photo."""

    def __init__(self, feed: Feed) -> None:
        steps = [T.Resize(feed.size), T.RandomHorizontalFlip(), T.ToTensor(), T.Normalize(feed.mean, feed.std)]
        self.transform = T.Compose(steps)

    def __call__(self, path: Path) -> Tensor:
        with Image.open(path) as photo:
            return self.transform(photo.convert("RGB"))


class WithOpenCV:
    """OpenCV and albumentations, photo by photo."""

    def __init__(self, feed: Feed) -> None:
        resize = A.Resize(*feed.size, interpolation=cv2.INTER_AREA)
        self.transform = A.Compose([resize, A.HorizontalFlip(), A.Normalize(feed.mean, feed.std), ToTensorV2()])

    def __call__(self, path: Path) -> Tensor:
        bgr = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_COLOR)
        return self.transform(image=cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))["image"]


def _with_dataloader(reader: Callable[[Feed], Callable[[Path], Tensor]], feed: Feed) -> DataLoader:
    return DataLoader(
        Files(feed.paths, reader(feed)),
        batch_size=feed.batch_size,
        shuffle=True,
        num_workers=feed.workers,
        pin_memory=feed.in_gpu,
    )


def _pillow(feed: Feed) -> DataLoader:
    return _with_dataloader(WithPillow, feed)


def _opencv(feed: Feed) -> DataLoader:
    return _with_dataloader(WithOpenCV, feed)


def _timm(feed: Feed) -> DataLoader:
    return timm.data.create_loader(
        timm.data.ImageDataset(str(feed.root)),
        input_size=(3, *feed.size),
        batch_size=feed.batch_size,
        is_training=True,
        use_prefetcher=feed.in_gpu,
        scale=(1.0, 1.0),
        ratio=(1.0, 1.0),
        color_jitter=None,
        mean=feed.mean,
        std=feed.std,
        num_workers=feed.workers,
        device=feed.device,
    )


def _fastai(feed: Feed) -> Iterable:
    try:
        from fastai.vision import all as fastai
    except ImportError as error:
        raise UserError(f"fastai cannot be imported ({error}); pip install -r requirements-bench.txt") from None
    flip = fastai.Flip(p=0.5)
    return fastai.ImageDataLoaders.from_lists(
        feed.root,
        list(feed.paths),
        [0] * len(feed.paths),
        valid_pct=0,
        bs=feed.batch_size,
        num_workers=feed.workers,
        item_tfms=fastai.Resize(feed.size, method=fastai.ResizeMethod.Squish),
        batch_tfms=[flip, fastai.Normalize.from_stats(feed.mean, feed.std)],
        device=feed.device,
    ).train


RIVALS = (
    Rival("pillow_torchvision", _pillow),
    Rival("opencv_albumentations", _opencv),
    Rival("timm_create_loader", _timm),
    Rival("fastai", _fastai),
)
