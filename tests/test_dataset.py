"""Who is shown in an epoch, how, and that a run repeats whatever the number of loader processes."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import albumentations as A
import numpy as np
import pytest
import torch

from core.photos import read_photo
from core.runtime import UserError
from dataset import (
    AUGMENTATIONS,
    CropDataset,
    Draw,
    PersonSampler,
    eval_transform,
    make_loader,
    seed_steps,
    train_transform,
)

PictureFiles = Callable[..., list[Path]]
PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
MASKS = (0, 0, 0, 0, 0, 1, 2)
"""Labels of the seven photos of a person: five masks worn, one worn wrong, none."""


def sampler_of(people: int, photos_per_person: int, seed: tuple[int, ...] = (0, 0), epoch: int = 0) -> PersonSampler:
    persons = [f"p{person}" for person in range(people) for _ in MASKS]
    sampler = PersonSampler(persons, list(MASKS) * people, photos_per_person=photos_per_person, seed=seed)
    sampler.epoch = epoch
    return sampler


def shown(sampler: PersonSampler) -> list[int]:
    return [draw.index for draw in sampler]


@pytest.mark.parametrize(("photos_per_person", "expected"), [(0, 7), (1, 1), (3, 3), (7, 7), (50, 7)])
def test_photos_of_each_person(photos_per_person: int, expected: int) -> None:
    sampler = sampler_of(20, photos_per_person)
    indices = shown(sampler)
    assert len(indices) == len(sampler) == 20 * expected
    assert len(set(indices)) == len(indices)
    assert set(Counter(index // 7 for index in indices).values()) == {expected}


def test_three_photos_are_one_of_each_class() -> None:
    for epoch in range(5):
        indices = shown(sampler_of(20, 3, epoch=epoch))
        assert Counter(MASKS[index % 7] for index in indices) == {0: 20, 1: 20, 2: 20}
    assert Counter(MASKS[index % 7] for index in shown(sampler_of(20, 5))) == {0: 60, 1: 20, 2: 20}


def test_every_photo_has_its_turn_over_the_epochs() -> None:
    counts = Counter(index % 7 for epoch in range(40) for index in shown(sampler_of(20, 3, epoch=epoch)))
    assert set(counts) == set(range(7))
    assert all(100 < counts[photo] < 220 for photo in range(5))


def test_with_one_class_photos_are_chosen_freely() -> None:
    sampler = PersonSampler(["p"] * 7, [1] * 7, photos_per_person=3, seed=(0,))
    counts: Counter = Counter()
    for epoch in range(140):
        sampler.epoch = epoch
        counts.update(shown(sampler))
    assert all(30 < counts[photo] < 90 for photo in range(7))


def test_the_draw_hangs_on_seed_and_epoch_alone() -> None:
    first = list(sampler_of(20, 3))
    assert list(sampler_of(20, 3)) == first
    others = [
        list(sampler_of(20, 3, epoch=1)),
        list(sampler_of(20, 3, seed=(0, 1))),
        list(sampler_of(20, 3, seed=(1, 0))),
    ]
    assert all(other != first for other in others)
    assert [draw.index for draw in first] != sorted(draw.index for draw in first)
    assert len({draw.seed for draw in first}) == len(first)


def training_set(paths: list[Path]) -> CropDataset:
    return CropDataset(paths, train_transform("strong", (24, 24), **PLAIN), [0] * len(paths))


def epoch_of(paths: list[Path], workers: int) -> list[torch.Tensor]:
    sampler = PersonSampler([path.name for path in paths], [0] * len(paths), photos_per_person=0, seed=(5, 1))
    batches = make_loader(training_set(paths), batch_size=4, workers=workers, pin_memory=False, sampler=sampler)
    return [tensor for batch in batches for tensor in batch]


def test_loader_processes_change_nothing(picture_files: PictureFiles) -> None:
    paths = picture_files(10)
    alone, repeated, by_two = epoch_of(paths, 0), epoch_of(paths, 0), epoch_of(paths, 2)
    assert [len(tensor) for tensor in alone] == [4, 4, 4, 4, 4, 4, 2, 2, 2]
    for one, again, other in zip(alone, repeated, by_two, strict=True):
        assert torch.equal(one, again)
        assert torch.equal(one, other)


def test_without_a_sampler_each_photo_once_in_order(picture_files: PictureFiles) -> None:
    dataset = CropDataset(picture_files(5), eval_transform((16, 24), **PLAIN))
    images, labels, indices = zip(*make_loader(dataset, batch_size=2, workers=0, pin_memory=False), strict=True)
    assert [tuple(batch.shape) for batch in images] == [(2, 3, 16, 24), (2, 3, 16, 24), (1, 3, 16, 24)]
    assert torch.cat(labels).tolist() == [0] * 5
    assert torch.cat(indices).tolist() == [0, 1, 2, 3, 4]


def test_the_eval_transform_is_resizing_and_normalising(picture_files: PictureFiles) -> None:
    path = picture_files(1)[0]
    image, _, _ = CropDataset([path], eval_transform((32, 32), mean=(0.5, 0.4, 0.3), std=(0.5, 0.2, 0.1)))[0]
    expected = (read_photo(path) / 255 - (0.5, 0.4, 0.3)) / (0.5, 0.2, 0.1)
    assert image.dtype == torch.float32
    assert np.allclose(image.permute(1, 2, 0).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_the_train_transform_varies_and_the_eval_transform_does_not(picture_files: PictureFiles, augment: str) -> None:
    paths = picture_files(1)
    training = CropDataset(paths, train_transform(augment, (32, 32), **PLAIN))
    plain = CropDataset(paths, eval_transform((32, 32), **PLAIN))
    draws = [Draw(0, seed) for seed in range(12)]
    evals = [plain[draw][0] for draw in draws]
    trains = [training[draw][0] for draw in draws]
    assert all(torch.equal(evals[0], other) for other in evals)
    assert {tuple(image.shape) for image in trains} == {(3, 32, 32)}
    if augment == "none":
        assert all(torch.equal(evals[0], other) for other in trains)
    else:
        assert len({image.numpy().tobytes() for image in trains}) > 1
        assert any(not torch.equal(evals[0], other) for other in trains)


def test_flipping_mirrors_and_keeps_labels(picture_files: PictureFiles) -> None:
    dataset = CropDataset(picture_files(1), train_transform("flip", (32, 32), **PLAIN), [2])
    items = [dataset[Draw(0, seed)] for seed in range(20)]
    upright = CropDataset(dataset.paths, eval_transform((32, 32), **PLAIN))[0][0]
    mirrored = [torch.equal(image, upright.flip(-1)) for image, _, _ in items]
    assert all(was or torch.equal(image, upright) for was, (image, _, _) in zip(mirrored, items, strict=True))
    assert 4 < sum(mirrored) < 16
    assert {(label, index) for _, label, index in items} == {(2, 0)}


def test_the_steps_of_a_transform_act_independently() -> None:
    steps = A.Compose([A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5), A.InvertImg(p=0.5)])
    corners = np.zeros((2, 2, 3), np.uint8)
    corners[..., 0] = ((10, 20), (30, 40))
    seen: Counter = Counter()
    for seed in range(400):
        seed_steps(steps, seed)
        seen[int(steps(image=corners)["image"][0, 0, 0])] += 1
    assert set(seen) == {10, 20, 30, 40, 245, 235, 225, 215}
    assert all(25 < count < 85 for count in seen.values())


def test_unknown_augmentation() -> None:
    with pytest.raises(UserError, match="--augment 'wild' is unknown; the augmentations are none, flip, standard, str"):
        train_transform("wild", (32, 32), **PLAIN)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_crop_that_cannot_be_read_is_named(picture_files: PictureFiles, workers: int) -> None:
    paths = picture_files(3)
    paths[1].write_bytes(b"")
    dataset = CropDataset(paths, eval_transform((32, 32), **PLAIN))
    with pytest.raises(UserError, match=r"crop .*001\.png: empty file; run preprocessing/crop_faces\.py again"):
        list(make_loader(dataset, batch_size=2, workers=workers, pin_memory=False))
