"""Everyday drawings: each way to wear a mask shows what its label says, things leave the rest, poor photos."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from test_compose import person
from test_masks import LEFT_MOUTH, NOSE, RIGHT_MOUTH, STRONG, UNTOUCHED, change, change_at, toy

from synthesis.builder.photos import EVERYDAY, manifest_rows, photo_plans
from synthesis.camera import PoorPhoto, random_poor_photo, spoil
from synthesis.layout import BARE, INCORRECT, WORN
from synthesis.masks.everyday import (
    WORN_LOOSELY,
    WRONG_FREQUENCIES,
    Everyday,
    draw_everyday,
    everyday_spec,
    random_everyday,
    random_wrong_way,
)
from synthesis.masks.overlay import Surface
from synthesis.masks.tables import wrong_ways
from synthesis.masks.things import AT_MOUTH, CLOTHES, THINGS, draw_thing

MASK_ALONE = Everyday((), (), relief=0.0)
GOOD = PoorPhoto(cut=0, face=0, motion=0, angle=0, quality=0)
SEEDS = range(25)


def masked(wear: str, seed: int, drawing: Everyday = MASK_ALONE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A toy face without and with a mask in a colour that it does not have, and its landmarks."""
    photo, landmarks = toy(size=400, centre=(0.5, 0.4))
    rng = np.random.default_rng(seed)
    spec = replace(everyday_spec(rng, wear), colour="royal", trim="navy", strap="none", shadow=0.0, match=0.5)
    return photo, draw_everyday(photo, landmarks, spec, drawing, rng), landmarks


def covered_points(wear: str, seed: int) -> list[bool]:
    """Whether the mask covers an eye, the nose just above its tip, and the middle of the mouth."""
    photo, drawn, landmarks = masked(wear, seed)
    eyes, mouth = landmarks[:2].mean(axis=0), landmarks[[LEFT_MOUTH, RIGHT_MOUTH]].mean(axis=0)
    nose, lips = (eyes + height * (mouth - eyes) for height in (0.57, 1.02))
    eye = max(change_at(photo, drawn, place) for place in landmarks[:2])
    return [eye > STRONG, *(change_at(photo, drawn, place) > STRONG for place in (nose, lips))]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_mask_worn_loosely_covers_nose_and_mouth_and_never_the_eyes(seed: int) -> None:
    assert covered_points(WORN_LOOSELY, seed) == [False, True, True]


@pytest.mark.parametrize("wear", ["nose_just_out", "nose_out"])
def test_the_nose_is_out_and_the_mouth_is_covered(wear: str) -> None:
    assert {tuple(covered_points(wear, seed)) for seed in SEEDS} == {(False, False, True)}


@pytest.mark.parametrize("wear", ["lip_out", "under_chin", "on_neck", "hanging"])
def test_nose_and_mouth_are_out_and_the_mask_is_there(wear: str) -> None:
    for seed in SEEDS:
        assert covered_points(wear, seed) == [False, False, False]
        photo, drawn, _ = masked(wear, seed)
        assert (change(photo, drawn) > STRONG).sum() > 300


def test_relief_changes_the_cloth_alone() -> None:
    photo, plain, _ = masked(WORN_LOOSELY, 3)
    lit = masked(WORN_LOOSELY, 3, replace(MASK_ALONE, relief=1.0))[1]
    outside = change(photo, plain) <= UNTOUCHED
    assert change(plain, lit)[outside].mean() < 0.5
    assert change(plain, lit)[~outside].mean() > 1


@pytest.mark.parametrize("name", THINGS)
def test_a_thing_is_drawn_the_same_by_seed_and_leaves_the_photo_alone(name: str) -> None:
    photo, landmarks = toy(size=400, centre=(0.5, 0.4))
    before = photo.copy()
    first, second, other = (
        draw_thing(Surface(photo, landmarks), photo, name, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert first.shape == photo.shape and first.dtype == np.uint8
    assert np.array_equal(first, second) and not np.array_equal(first, other)
    assert np.array_equal(photo, before)
    assert 50 < (change(photo, first) > STRONG).sum() < photo.shape[0] * photo.shape[1] * 0.9


@pytest.mark.parametrize("name", [*CLOTHES, "beard"])
def test_clothes_and_beards_leave_eyes_and_nose(name: str) -> None:
    photo, landmarks = toy(size=400, centre=(0.5, 0.4))
    for seed in SEEDS:
        drawn = draw_thing(Surface(photo, landmarks), photo, name, np.random.default_rng(seed))
        assert max(change_at(photo, drawn, place) for place in landmarks[: NOSE + 1]) < STRONG


@pytest.mark.parametrize("name", THINGS)
@pytest.mark.parametrize("centre", [(0.02, 0.05), (0.98, 0.95), (0.5, 1.2)])
def test_a_thing_on_a_face_at_the_edge_stays_inside_the_image(name: str, centre: tuple[float, float]) -> None:
    photo, landmarks = toy(size=90, unit=40, centre=centre)
    drawn = draw_thing(Surface(photo, landmarks), photo, name, np.random.default_rng(0))
    assert drawn.shape == photo.shape


def test_all_drawn_together_is_the_same_by_seed() -> None:
    full = Everyday(("shirt", "beard", "glasses"), ("hand_beside",), relief=0.8)
    assert np.array_equal(masked("under_chin", 5, full)[1], masked("under_chin", 5, full)[1])


def test_everyday_photos_have_the_labels_asked_for() -> None:
    for number in range(20):
        plans = photo_plans(replace(person(number), drawings=EVERYDAY))
        assert [plan.mask for plan in plans] == [WORN] * 5 + [INCORRECT, BARE]
        assert {plan.spec.wear for plan in plans[:5]} == {WORN_LOOSELY}
        assert plans[5].spec.wear in WRONG_FREQUENCIES and plans[6].spec is None
        for plan in plans[:6]:
            # Not at the mouth, where it would hide the mask; and the photo does not end above the mask.
            assert set(plan.drawing.over) <= {"hand_beside"}
            assert plan.poor.cut == 0 or plan.poor.cut > (plan.spec.top + plan.spec.bottom) / 2


def test_everyday_drawings_change_no_composition_and_no_plain_plan() -> None:
    plain, everyday = (photo_plans(replace(person(), drawings=name)) for name in ("plain", EVERYDAY))
    assert plain == photo_plans(person())
    assert [one.composition for one in plain] == [one.composition for one in everyday]
    assert [one.camera for one in plain] == [one.camera for one in everyday]
    assert all(one.drawing is None and one.poor is None for one in plain)


def test_the_manifest_has_further_columns_for_everyday_drawings_alone() -> None:
    plain, everyday = (manifest_rows(replace(placed_person(), drawings=name)) for name in ("plain", EVERYDAY))
    further = set(everyday[0]) - set(plain[0])
    drawn = {"drawn_below", "drawn_over", "drawn_relief"}
    assert further == drawn | {f"poor_{name}" for name in ("cut", "face", "motion", "angle", "quality")}
    assert list(plain[0]) == list(everyday[0])[: len(plain[0])]


def placed_person() -> object:
    """A person whose face has a box and landmarks."""
    plan = person()
    face = replace(plan.selected.candidate.face, box=(10.0, 10.0, 90.0, 110.0), landmarks=tuple(range(10)))
    candidate = replace(plan.selected.candidate, face=face)
    return replace(plan, selected=replace(plan.selected, candidate=candidate))


def test_ways_and_things_come_as_often_as_they_should() -> None:
    rng = np.random.default_rng(0)
    ways = Counter(random_wrong_way(rng) for _ in range(2000))
    assert set(ways) == set(WRONG_FREQUENCIES)
    assert 0.23 < (ways["under_chin"] / 2000) < 0.31
    bare = [random_everyday(rng, bare=True) for _ in range(500)]
    assert 0.45 < np.mean([bool(one.over) for one in bare]) < 0.65
    assert {name for one in bare for name in one.over} == {"hand", *AT_MOUTH}
    assert not set(WRONG_FREQUENCIES) - {"hanging"} & set(wrong_ways("eval"))


def test_a_photo_is_cut_below_the_place_asked_for() -> None:
    photo, landmarks = toy()
    eyes, mouth = landmarks[:2].mean(axis=0), landmarks[3:].mean(axis=0)
    cut = spoil(photo, landmarks, replace(GOOD, cut=1.8))
    assert cut.shape == (round(float(eyes[1] + 1.8 * (mouth - eyes)[1])), *photo.shape[1:])
    assert np.array_equal(cut, photo[: len(cut)])


@pytest.mark.parametrize("fault", [{"face": 24.0}, {"motion": 0.1}, {"quality": 25}])
def test_a_poor_photo_keeps_its_size_and_loses_detail(fault: dict[str, float]) -> None:
    photo, landmarks = toy()
    sharp = np.random.default_rng(0).integers(0, 255, photo.shape, dtype=np.uint8)
    poor = spoil(sharp, landmarks, replace(GOOD, **fault))
    assert poor.shape == photo.shape and poor.dtype == np.uint8
    assert poor.std() < 0.95 * sharp.std()
    assert np.array_equal(poor, spoil(sharp, landmarks, replace(GOOD, **fault)))


def test_a_good_photo_is_returned_as_it_is() -> None:
    photo, landmarks = toy()
    assert np.array_equal(spoil(photo, landmarks, GOOD), photo)


def test_faults_are_drawn_within_their_limits() -> None:
    rng = np.random.default_rng(0)
    drawn = [random_poor_photo(rng, shown=2.4) for _ in range(400)]
    assert all(one.cut == 0 or 2.4 <= one.cut <= 2.8 for one in drawn)
    assert all(one.face == 0 or 24 <= one.face <= 112 for one in drawn)
    assert 0.4 < np.mean([one.face > 0 for one in drawn]) < 0.6
