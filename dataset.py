"""Crops as tensors: transforms for training and for evaluation side by side, the dataset, and who is shown in an epoch.

Every random choice hangs on (seed, epoch, position) alone, so a run repeats whatever the number of loader processes,
and an epoch can be begun again after a stop.
"""

import signal
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import albumentations as A
import cv2
import numpy as np
import torch
from albumentations.pytorch import ToTensorV2
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from core.photos import UnreadablePhoto, read_photo
from core.runtime import UserError

Channels = tuple[float, ...]


def _no_augmentation() -> list[A.BasicTransform]:
    return []


def _flip() -> list[A.BasicTransform]:
    return [A.HorizontalFlip(p=0.5)]


def _standard() -> list[A.BasicTransform]:
    return [
        *_flip(),
        A.Affine(
            scale=(0.9, 1.12), translate_percent=0.06, rotate=(-12, 12), border_mode=cv2.BORDER_REFLECT_101, p=0.8
        ),
        A.ColorJitter(brightness=0.25, contrast=0.25, saturation=0.25, hue=0.02, p=0.7),
        A.OneOf(
            [A.GaussianBlur(sigma_limit=(0.3, 1.2)), A.ImageCompression(quality_range=(40, 90)), A.GaussNoise()], p=0.3
        ),
    ]


def _strong() -> list[A.BasicTransform]:
    return [
        *_standard(),
        A.RandomGamma(gamma_limit=(60, 150), p=0.3),
        A.ToGray(p=0.1),
        A.CoarseDropout(num_holes_range=(1, 2), hole_height_range=(0.1, 0.3), hole_width_range=(0.1, 0.3), p=0.4),
    ]


AUGMENTATIONS: MappingProxyType[str, Callable[[], list[A.BasicTransform]]] = MappingProxyType(
    {"none": _no_augmentation, "flip": _flip, "standard": _standard, "strong": _strong}
)


def train_transform(augment: str, size: tuple[int, int], *, mean: Channels, std: Channels) -> A.Compose:
    """(h, w, 3) uint8 RGB to a randomly changed (3, H, W) float32 tensor; `size` is (H, W)."""
    if augment not in AUGMENTATIONS:
        raise UserError(f"--augment {augment!r} is unknown; the augmentations are {', '.join(AUGMENTATIONS)}")
    return A.Compose([_resize(size), *AUGMENTATIONS[augment](), *_to_tensor(mean, std)])


def eval_transform(size: tuple[int, int], *, mean: Channels, std: Channels) -> A.Compose:
    """(h, w, 3) uint8 RGB to a (3, H, W) float32 tensor, always the same one; `size` is (H, W)."""
    return A.Compose([_resize(size), *_to_tensor(mean, std)])


def _resize(size: tuple[int, int]) -> A.BasicTransform:
    return A.Resize(*size, interpolation=cv2.INTER_AREA)


def _to_tensor(mean: Channels, std: Channels) -> list[A.BasicTransform]:
    return [A.Normalize(mean=mean, std=std), ToTensorV2()]


def seed_steps(transform: A.Compose, seed: int) -> None:
    """Seed every step on its own. With one seed for all, as `set_random_seed` gives, all steps act or none does."""
    step_seeds = np.random.SeedSequence(seed).generate_state(len(transform.transforms)).tolist()
    for step, step_seed in zip(transform.transforms, step_seeds, strict=True):
        step.set_random_seed(step_seed)


@dataclass(frozen=True)
class Draw:
    """One photo to show: its position in the dataset, and the seed of its augmentation."""

    index: int
    seed: int


class CropDataset(Dataset):
    """Crops from disk. An item is (image (3, H, W) float32, label, index); labels are 0 where nobody knows them.

    Takes an index, or a Draw for a random transform. UserError names a crop that cannot be read.
    """

    def __init__(self, paths: Sequence[Path], transform: A.Compose, labels: Sequence[int] | None = None) -> None:
        self.paths = list(paths)
        self.transform = transform
        self.labels = [0] * len(self.paths) if labels is None else list(labels)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, item: int | Draw) -> tuple[Tensor, int, int]:
        draw = item if isinstance(item, Draw) else Draw(item, 0)
        try:
            crop = read_photo(self.paths[draw.index])
        except UnreadablePhoto as error:
            raise UserError(f"crop {error}; run preprocessing/crop_faces.py again") from error
        seed_steps(self.transform, draw.seed)
        return self.transform(image=crop)["image"], self.labels[draw.index], draw.index


class PersonSampler(Sampler[Draw]):
    """The photos of one epoch, shuffled: up to `photos_per_person` of each person, 0 meaning all.

    A person's photos are taken in turn from the classes they have, so that three photos of somebody with five masked,
    one wrongly masked and one bare photo are one of each, while gender and age, being the person's, choose freely.
    """

    def __init__(
        self, persons: Sequence[str], labels: Sequence[int], *, photos_per_person: int, seed: Sequence[int]
    ) -> None:
        by_person: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        for index, (person, label) in enumerate(zip(persons, labels, strict=True)):
            by_person[person][label].append(index)
        self._by_person = [by_person[person] for person in sorted(by_person)]
        self._per_person = photos_per_person
        self._seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        counts = (sum(map(len, by_class.values())) for by_class in self._by_person)
        return sum(min(count, self._per_person or count) for count in counts)

    def __iter__(self) -> Iterator[Draw]:
        rng = np.random.default_rng((*self._seed, self.epoch))
        chosen = [index for by_class in self._by_person for index in self._choose(by_class, rng)]
        for index in rng.permutation(chosen):
            yield Draw(int(index), int(rng.integers(2**31)))

    def _choose(self, by_class: dict[int, list[int]], rng: np.random.Generator) -> list[int]:
        shuffled = [list(rng.permutation(by_class[label])) for label in rng.permutation(sorted(by_class))]
        rounds = max(map(len, shuffled))
        in_turn = [indices[turn] for turn in range(rounds) for indices in shuffled if turn < len(indices)]
        return in_turn[: self._per_person or None]


def make_loader(
    dataset: CropDataset, *, batch_size: int, workers: int, pin_memory: bool, sampler: PersonSampler | None = None
) -> DataLoader:
    """Batches of (images (N, 3, H, W), labels (N,), indices (N,)). Without a sampler: each photo once, in order.

    With one, a last batch of a single photo is left out, as batch normalisation has nothing to normalise it with.
    """
    lone = sampler is not None and 1 < batch_size < len(sampler) and len(sampler) % batch_size == 1
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        drop_last=lone,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=_quiet_worker,
    )


def _quiet_worker(_: int) -> None:
    # Ctrl-C reaches the whole process group; the main process ends the loaders, which need not say anything.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
