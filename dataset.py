"""Augmentations, the dataset of cached crops, and the sampler that chooses the photos of an epoch.

Every random choice depends on (seed, epoch, position) alone, so a run repeats whatever the number of loader processes,
and an epoch can be begun again after a stop.
"""

import signal
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import albumentations as A
import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from core import distributed
from core.cli import UserError
from storage.crop_cache import CropCache


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
            [
                A.GaussianBlur(sigma_limit=(0.3, 1.2)),
                A.ImageCompression(quality_range=(40, 90)),
                A.GaussNoise(std_range=(0.02, 0.08)),
            ],
            p=0.3,
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


def train_transform(augment: str) -> A.Compose:
    """Return the transform of an image (H, W, 3) uint8 RGB of the network's size to a random view of that shape."""
    if augment not in AUGMENTATIONS:
        raise UserError(f"--augment {augment!r} is unknown; the augmentations are {', '.join(AUGMENTATIONS)}")
    return A.Compose(AUGMENTATIONS[augment]())


def eval_transform() -> A.Compose:
    """Return the transform that changes nothing."""
    return A.Compose(_no_augmentation())


def seed_steps(transform: A.Compose, seed: int) -> None:
    """Seed every step on its own. With one seed for all, as `set_random_seed` does, all steps act or none does."""
    step_seeds = np.random.SeedSequence(seed).generate_state(len(transform.transforms)).tolist()
    for step, step_seed in zip(transform.transforms, step_seeds, strict=True):
        step.set_random_seed(step_seed)


@dataclass(frozen=True)
class Draw:
    """One photo to show: its index in the dataset, and the seed of its augmentation or of its cached view."""

    index: int
    seed: int


class CropDataset(Dataset):
    """Cached crops. An item is (image (H, W, 3) uint8 RGB, target, index); targets are 0 if none are given.

    Takes an index, or a Draw for a random transform. `rows` are the crops of this dataset in the cache.
    """

    def __init__(
        self, cache: CropCache, rows: Sequence[int], transform: A.Compose, targets: Tensor | None = None
    ) -> None:
        self.cache = cache
        self.rows = list(rows)
        self.transform = transform
        self.targets = torch.zeros(len(self.rows), dtype=torch.int64) if targets is None else targets

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int | Draw) -> tuple[Tensor, Tensor, int]:
        draw = item if isinstance(item, Draw) else Draw(item, 0)
        image = self.cache.image(self.rows[draw.index])
        seed_steps(self.transform, draw.seed)
        view = np.ascontiguousarray(self.transform(image=image)["image"])
        return torch.from_numpy(view), self.targets[draw.index], draw.index


class JoinedDataset(Dataset):
    """Datasets one after the other, as CropDataset and feature datasets are: takes an index or a Draw."""

    def __init__(self, parts: Iterable[Dataset]) -> None:
        self.parts = list(parts)
        self.ends = np.cumsum([len(part) for part in self.parts]).tolist()

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, item: int | Draw) -> tuple[Tensor, Tensor, int]:
        index = item.index if isinstance(item, Draw) else item
        number = bisect_right(self.ends, index)
        within = index - (self.ends[number - 1] if number else 0)
        image, target, _ = self.parts[number][replace(item, index=within) if isinstance(item, Draw) else within]
        return image, target, index


class PersonSampler(Sampler[Draw]):
    """This rank's photos of one epoch, shuffled: up to `photos_per_person` of each person, and at most `epoch_photos`.

    0 means all. Which people come within `epoch_photos` is drawn anew for each epoch.

    A person's photos are taken in turn from the classes they have: three photos of a person with five masked, one
    wrongly masked and one bare photo are one of each. Each is drawn `times`, with consecutive seeds, so that each of
    as many cached views, numbered by the seed, comes once.
    """

    def __init__(
        self,
        persons: Sequence[str],
        labels: Sequence[int],
        *,
        photos_per_person: int,
        seed: Sequence[int],
        times: int = 1,
        epoch_photos: int = 0,
    ) -> None:
        by_person: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        for index, (person, label) in enumerate(zip(persons, labels, strict=True)):
            by_person[person][label].append(index)
        self._by_person = [by_person[person] for person in sorted(by_person)]
        self._per_person = photos_per_person
        counts = (sum(map(len, by_class.values())) for by_class in self._by_person)
        eligible = sum(min(count, photos_per_person or count) for count in counts)
        self._photos = min(eligible, epoch_photos or eligible)
        self._is_limited = self._photos < eligible
        self._seed = seed
        self._times = times
        self.epoch = 0

    def __len__(self) -> int:
        return self._times * self._photos // distributed.count()

    def __iter__(self) -> Iterator[Draw]:
        rng = np.random.default_rng((*self._seed, self.epoch))
        people = rng.permutation(len(self._by_person)) if self._is_limited else range(len(self._by_person))
        chosen = [index for person in people for index in self._choose(self._by_person[person], rng)][: self._photos]
        seeds = rng.integers(2**31, size=len(chosen))
        turns, places = np.divmod(rng.permutation(self._times * len(chosen)), len(chosen))
        draws = [Draw(int(chosen[at]), int(seeds[at]) + int(turn)) for turn, at in zip(turns, places, strict=True)]
        yield from distributed.even_share(draws)

    def _choose(self, by_class: dict[int, list[int]], rng: np.random.Generator) -> list[int]:
        shuffled = [list(rng.permutation(by_class[label])) for label in rng.permutation(sorted(by_class))]
        rounds = max(map(len, shuffled))
        in_turn = [indices[turn] for turn in range(rounds) for indices in shuffled if turn < len(indices)]
        return in_turn[: self._per_person or None]


def make_loader(
    dataset: CropDataset, *, batch_size: int, workers: int, pin_memory: bool, sampler: PersonSampler | None = None
) -> DataLoader:
    """Return batches of images (N, H, W, 3) uint8, targets (N,), indices (N,). Without a sampler: all photos in order.

    With one, the photos of an epoch's incomplete last batch are dropped: batch normalisation fails for a single photo.
    """
    whole_batches_only = sampler is not None and len(sampler) > batch_size
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=distributed.share(range(len(dataset))) if sampler is None else sampler,
        drop_last=whole_batches_only,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=_quiet_worker,
        # Starting them anew for every epoch costs seconds.
        persistent_workers=workers > 0 and sampler is not None,
        # A loader draws a seed for its workers. From the generator of the training, it would change the result with
        # the number of workers, and after a stop.
        generator=torch.Generator(),
    )


def _quiet_worker(_: int) -> None:
    # Ctrl-C reaches the whole process group; the main process ends the loaders, which need not say anything.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
