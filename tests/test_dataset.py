"""Who is shown in an epoch, how, and that a run repeats whatever the number of loader processes."""

from collections import Counter, defaultdict
from collections.abc import Callable

import albumentations as A
import numpy as np
import pytest
import torch

from core.cli import UserError
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
from storage.crop_cache import CropCache

MakeCropCache = Callable[..., CropCache]
MASKS = (0, 0, 0, 0, 0, 1, 2)
"""Labels of the seven photos of a person: five masks worn, one worn wrong, none."""


def sampler_of(
    people: int, photos_per_person: int, seed: tuple[int, ...] = (0, 0), epoch: int = 0, **options: int
) -> PersonSampler:
    persons = [f"p{person}" for person in range(people) for _ in MASKS]
    sampler = PersonSampler(persons, list(MASKS) * people, photos_per_person=photos_per_person, seed=seed, **options)
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


def test_a_photo_shown_several_times_has_seeds_that_follow_one_another() -> None:
    sampler = sampler_of(4, 3, times=3)
    seeds: dict[int, list[int]] = defaultdict(list)
    for draw in sampler:
        seeds[draw.index].append(draw.seed)
    assert len(sampler) == 36
    assert len(seeds) == 12
    assert all(sorted(found) == list(range(min(found), min(found) + 3)) for found in seeds.values())


def test_an_epoch_shows_no_more_photos_than_allowed_of_people_that_change() -> None:
    epochs = [
        Counter(index // 7 for index in shown(sampler_of(20, 3, epoch=epoch, epoch_photos=10))) for epoch in (0, 1)
    ]
    assert [sorted(people.values()) for people in epochs] == [[1, 3, 3, 3]] * 2
    assert epochs[0] != epochs[1]
    assert len(sampler_of(20, 3, epoch_photos=10)) == 10
    assert (
        len(shown(sampler_of(20, 3, epoch_photos=10, times=2)))
        == len(sampler_of(20, 3, epoch_photos=10, times=2))
        == 20
    )


@pytest.mark.parametrize("limit", [0, 60, 61])
def test_a_limit_that_is_not_reached_changes_nothing(limit: int) -> None:
    assert shown(sampler_of(20, 3, epoch_photos=limit)) == shown(sampler_of(20, 3))


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


def training_set(store: CropCache) -> CropDataset:
    rows = range(len(store.image_ids))
    return CropDataset(store, rows, train_transform("strong"), torch.zeros(len(rows), dtype=torch.int64))


def epoch_of(store: CropCache, workers: int) -> list[torch.Tensor]:
    dataset = training_set(store)
    sampler = PersonSampler([str(row) for row in dataset.rows], [0] * len(dataset), photos_per_person=0, seed=(5, 1))
    batches = make_loader(dataset, batch_size=4, workers=workers, pin_memory=False, sampler=sampler)
    return [tensor for batch in batches for tensor in batch]


def test_loader_processes_change_nothing(make_crop_cache: MakeCropCache) -> None:
    store = make_crop_cache(10)
    alone, repeated, by_two = epoch_of(store, 0), epoch_of(store, 0), epoch_of(store, 2)
    for one, again, other in zip(alone, repeated, by_two, strict=True):
        assert torch.equal(one, again)
        assert torch.equal(one, other)


def test_all_batches_of_training_are_whole(make_crop_cache: MakeCropCache) -> None:
    store = make_crop_cache(10)
    assert [len(tensor) for tensor in epoch_of(store, 0)] == [4, 4, 4] * 2
    few = PersonSampler(["p"] * 3, [0] * 3, photos_per_person=0, seed=(0,))
    batches = make_loader(training_set(store), batch_size=4, workers=0, pin_memory=False, sampler=few)
    assert [len(targets) for _, targets, _ in batches] == [3]


def test_without_a_sampler_each_photo_once_in_order(make_crop_cache: MakeCropCache) -> None:
    dataset = CropDataset(make_crop_cache(5, size=(16, 24)), range(5), eval_transform())
    pictures, targets, indices = zip(*make_loader(dataset, batch_size=2, workers=0, pin_memory=False), strict=True)
    assert [tuple(batch.shape) for batch in pictures] == [(2, 16, 24, 3), (2, 16, 24, 3), (1, 16, 24, 3)]
    assert torch.cat(targets).tolist() == [0] * 5
    assert torch.cat(indices).tolist() == [0, 1, 2, 3, 4]


def test_the_eval_transform_shows_the_stored_picture(make_crop_cache: MakeCropCache) -> None:
    store = make_crop_cache(3)
    picture, _, index = CropDataset(store, [2, 1], eval_transform())[0]
    assert picture.dtype == torch.uint8
    assert np.array_equal(picture.numpy(), store.image(2))
    assert index == 0


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_the_train_transform_varies_and_the_eval_transform_does_not(
    make_crop_cache: MakeCropCache, augment: str
) -> None:
    store = make_crop_cache(1)
    training = CropDataset(store, [0], train_transform(augment))
    plain = CropDataset(store, [0], eval_transform())
    draws = [Draw(0, seed) for seed in range(12)]
    evals = [plain[draw][0] for draw in draws]
    trains = [training[draw][0] for draw in draws]
    assert all(torch.equal(evals[0], other) for other in evals)
    assert {(picture.dtype, tuple(picture.shape)) for picture in trains} == {(torch.uint8, (32, 32, 3))}
    if augment == "none":
        assert all(torch.equal(evals[0], other) for other in trains)
    else:
        assert len({picture.numpy().tobytes() for picture in trains}) > 1
        assert any(not torch.equal(evals[0], other) for other in trains)


def test_the_store_is_never_drawn_on(make_crop_cache: MakeCropCache) -> None:
    store = make_crop_cache(1)
    before = store.path.read_bytes()
    training = CropDataset(store, [0], train_transform("strong"))
    for seed in range(12):
        training[Draw(0, seed)]
    assert store.path.read_bytes() == before


def test_flipping_mirrors_and_keeps_targets(make_crop_cache: MakeCropCache) -> None:
    store = make_crop_cache(1)
    dataset = CropDataset(store, [0], train_transform("flip"), torch.tensor([2]))
    items = [dataset[Draw(0, seed)] for seed in range(20)]
    upright = torch.from_numpy(store.image(0))
    mirrored = [torch.equal(picture, upright.flip(1)) for picture, _, _ in items]
    assert all(was or torch.equal(picture, upright) for was, (picture, _, _) in zip(mirrored, items, strict=True))
    assert 4 < sum(mirrored) < 16
    assert {(int(target), index) for _, target, index in items} == {(2, 0)}


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
        train_transform("wild")
