"""Who becomes a person of the data set: shares, supply, copies, pose limits and the split."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from core.cli import UserError
from synthesis.builder.labels import Label
from synthesis.builder.measure import MeasuredFace
from synthesis.builder.select import (
    RELAXED,
    Candidate,
    Limits,
    Request,
    SelectedPeople,
    apportion,
    check_shares,
    remove_copies,
    select,
    split_usable,
)

AGES = (20, 30, 60)


def face(number: int, **changes: object) -> MeasuredFace:
    image_hash = np.random.default_rng(number).bytes(32).hex()
    row = MeasuredFace(f"f{number:04d}.jpg", box=(20, 10, 180, 190), landmarks=(1.0,) * 10, score=0.99, sharpness=0.4)
    return replace(row, image_hash=image_hash, digest=str(number), **changes)


def crowd(counts: dict[tuple[int, str, str], int], **changes: object) -> list[Candidate]:
    """So many candidates of each age, gender and race."""
    people = [label for (age, gender, race), count in counts.items() for label in [Label(gender, race, age)] * count]
    return [Candidate(face(number, **changes), label) for number, label in enumerate(people)]


def even_crowd(each: int, **changes: object) -> list[Candidate]:
    return crowd({(age, gender, race): each for age in AGES for gender in ("male", "female")
                  for race in ("Asian", "White")}, **changes)  # fmt: skip


def chosen_by(candidates: Sequence[Candidate], request: Request, seed: int = 0) -> SelectedPeople:
    return select(candidates, request, np.random.default_rng(seed))


def names(selection: SelectedPeople) -> tuple[list[str], list[str]]:
    return tuple([one.candidate.face.file for one in side] for side in (selection.train, selection.evaluation))


@pytest.mark.parametrize(
    ("total", "shares", "supply", "given"),
    [
        (6, (1, 1, 1), (9, 9, 9), [2, 2, 2]),
        (6, (1, 2, 3), (9, 9, 9), [1, 2, 3]),
        (8, (1, 1, 1), (1, 9, 9), [1, 4, 3]),
        (99, (1, 1), (3, 4), [3, 4]),
        (5, (0, 1), (9, 3), [0, 3]),
        (0, (1, 1), (3, 4), [0, 0]),
        (4, (), (), []),
    ],
)
def test_what_one_lacks_the_others_give(
    total: int, shares: tuple[float, ...], supply: tuple[int, ...], given: list[int]
) -> None:
    assert apportion(total, shares, supply) == given


def test_unusable_faces_are_named_with_their_reason() -> None:
    faces = [
        face(0),
        face(1, reason="no face", detail="none"),
        face(2, box=(0, 0, 40, 50)),
        replace(face(3), sharpness=0.01),
        face(4),
        face(5),
    ]
    labels = {f"f{number:04d}.jpg": Label("male", "White", 30, confidence=0.9) for number in (0, 1, 2, 3, 5)}
    labels["f0005.jpg"] = Label("male", "White", 30, confidence=0.2)
    usable, rejected = split_usable(faces, labels, Limits(confidence=0.5))
    assert [one.face.file for one in usable] == ["f0000.jpg"]
    assert [one.reason for one in rejected] == ["no face", "too small", "blurred", "no label", "unsure label"]
    assert rejected[1].detail == "face of 50 pixels, at least 80"


def test_without_a_table_the_guessed_label_counts() -> None:
    usable, rejected = split_usable([face(0, label=Label("female", "unknown", 20, 0.6)), face(1)], None, Limits())
    assert usable[0].label.gender == "female" and [one.reason for one in rejected] == ["no label"]


def test_of_copies_the_largest_face_stays() -> None:
    small, large, other = face(0, box=(0, 0, 90, 90)), face(1), face(2)
    label = Label("male", "White", 30)
    copies = [Candidate(one, label) for one in (replace(small, image_hash=large.image_hash), large, other)]
    kept, rejected = remove_copies(copies)
    assert [one.face.file for one in kept] == ["f0001.jpg", "f0002.jpg"]
    assert [(one.file, one.reason, one.detail) for one in rejected] == [("f0000.jpg", "same picture", "as f0001.jpg")]
    same_bytes = [Candidate(replace(one, image_hash=large.image_hash, digest="x"), label) for one in (small, large)]
    assert remove_copies(same_bytes)[1][0].reason == "copy"


def test_groups_and_sides_are_in_proportion() -> None:
    selection = chosen_by(even_crowd(20), Request(96, 48, (25, 40)))
    for side, each in ((selection.train, 8), (selection.evaluation, 4)):
        labels = [one.candidate.label for one in side]
        counted = Counter((label.age, label.gender, label.race) for label in labels)
        assert len(counted) == 12 and set(counted.values()) == {each}
    train, evaluation = names(selection)
    assert not set(train) & set(evaluation)
    assert len(train) + len(evaluation) + len(selection.rejected) == 240
    assert {one.reason for one in selection.rejected} == {"spare"} and not selection.relaxed


def test_shares_asked_for_are_kept() -> None:
    request = Request(60, 20, (25, 40), age_shares=(1, 2, 1), gender_shares=(3, 1))
    side = [*(selection := chosen_by(even_crowd(20), request)).train, *selection.evaluation]
    assert Counter(one.candidate.label.age for one in side) == {20: 20, 30: 40, 60: 20}
    assert Counter(one.candidate.label.gender for one in side) == {"male": 60, "female": 20}


def test_a_scarce_group_may_turn_further_and_no_other() -> None:
    turned = [
        Candidate(replace(one.face, file=f"t{one.face.file}", yaw=29.0), one.label)
        for one in even_crowd(10)
        if one.label.age == 60
    ]
    plenty = [one for one in even_crowd(10) if one.label.age != 60 or int(one.face.file[1:5]) % 10 < 2]
    selection = chosen_by([*plenty, *turned], Request(36, 12, (25, 40)))
    assert set(selection.relaxed) == {(2, gender, race) for gender in ("female", "male") for race in ("Asian", "White")}
    assert set(selection.relaxed.values()) == {RELAXED[1]}
    both = [*selection.train, *selection.evaluation]
    assert {one.candidate.label.age for one in both if one.candidate.turn > 1} == {60}
    assert Counter(one.candidate.label.age for one in both) == {20: 16, 30: 16, 60: 16}


def test_beyond_the_last_limit_nobody_is_taken() -> None:
    selection = chosen_by(even_crowd(2, yaw=80.0), Request(4, 4, (25, 40)))
    assert not selection.train and not selection.evaluation
    assert {one.reason for one in selection.rejected} == {"turned away"}


@pytest.mark.parametrize(("train", "evaluation"), [(60, 30), (2700, 12600), (1, 1000), (1000, 1)])
def test_too_few_faces_are_dealt_in_proportion(train: int, evaluation: int) -> None:
    selection = chosen_by(even_crowd(5), Request(train, evaluation, (25, 40)))
    count = min(60, train + evaluation)
    assert len(selection.train) + len(selection.evaluation) == count
    assert abs(len(selection.train) - count * train / (train + evaluation)) <= 1
    assert selection.train and selection.evaluation


def test_order_of_the_faces_does_not_matter_and_the_seed_does() -> None:
    candidates, request = even_crowd(10), Request(24, 12, (25, 40))
    assert names(chosen_by(candidates, request)) == names(chosen_by(candidates[::-1], request))
    assert names(chosen_by(candidates, request)) != names(chosen_by(candidates, request, seed=1))


@pytest.mark.parametrize("shares", [(0, 0, 0), (1, -1, 1)])
def test_shares_that_cannot_be(shares: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match="--age-shares"):
        check_shares("--age-shares", shares)
