"""Folds: whole people, even, covering, seeded, and audited at every use."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from core.cli import UserError
from storage.crops import Crops
from storage.folds import (
    audit_folds,
    covers,
    folds_path,
    make_folds,
    person_strata,
    plan_folds,
    read_folds,
    write_folds,
)

EDGES = (25, 40)
Strata = Mapping[str, tuple[int, ...]]
ToyCrops = Callable[..., Crops]


def people(*counts: int) -> dict[str, tuple[int, ...]]:
    """So many people of (gender, age group) = (0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)."""
    return {f"p{cell}-{n:02}": divmod(cell, 3) for cell, count in enumerate(counts) for n in range(count)}


def random_people(rng: np.random.Generator, at_most: int) -> dict[str, tuple[int, ...]]:
    return people(*rng.integers(0, at_most + 1, 6))


def spread(counts: Counter, folds: int) -> int:
    numbers = [counts[fold] for fold in range(folds)]
    return max(numbers) - min(numbers)


def crop_rows(persons: int = 12) -> list[dict[str, str]]:
    """Two photos each of so many people of both genders and all ages."""
    return [
        {"image_id": f"p{n}/{stem}.jpg", "person": f"p{n}", "gender": ("male", "female")[n % 2], "age": str(20 + 5 * n)}
        for n in range(persons)
        for stem in ("mask1", "normal")
    ]


def assert_even(strata: Strata, assignment: Mapping[str, int], folds: int) -> None:
    assert assignment.keys() == strata.keys()
    assert set(assignment.values()) == set(range(folds))
    assert spread(Counter(assignment.values()), folds) <= 1
    for stratum in set(strata.values()):
        of_stratum = Counter(fold for person, fold in assignment.items() if strata[person] == stratum)
        assert spread(of_stratum, folds) <= 1


@pytest.mark.parametrize("seed", range(60))
def test_everyone_once_even_and_every_class_in_every_fold_where_numbers_allow(seed: int) -> None:
    rng = np.random.default_rng(seed)
    strata, folds = random_people(rng, at_most=(4, 7, 30)[seed % 3]), int(rng.integers(2, 6))
    if len(strata) < folds:
        pytest.skip("fewer people than folds are another test's business")
    assignment = make_folds(strata, folds=folds, seed=seed)
    assert_even(strata, assignment, folds)
    assert covers(strata, assignment, folds)


@pytest.mark.parametrize(
    "counts", [(3, 1, 1, 2, 4, 4), (1, 4, 0, 4, 1, 0), (5, 0, 0, 0, 5, 5), (1, 2, 3, 4, 3, 2), (0, 5, 0, 5, 0, 0)]
)
def test_classes_with_just_enough_people(counts: tuple[int, ...]) -> None:
    strata = people(*counts)
    for seed in range(10):
        assignment = make_folds(strata, folds=5, seed=seed)
        assert_even(strata, assignment, 5)
        assert covers(strata, assignment, 5)


def test_covers_by_hand() -> None:
    strata = {"a": (0, 0), "b": (0, 0), "c": (1, 0), "d": (1, 0)}
    assert covers(strata, {"a": 0, "b": 1, "c": 0, "d": 1}, 2)
    assert not covers(strata, {"a": 0, "b": 0, "c": 1, "d": 1}, 2)
    assert covers(strata | {"e": (0, 1)}, {"a": 0, "b": 1, "c": 0, "d": 1, "e": 0}, 2)


def test_the_seed_decides_and_the_order_of_people_does_not() -> None:
    strata = people(9, 8, 7, 6, 5, 4)
    backwards = dict(reversed(strata.items()))
    first = make_folds(strata, folds=5, seed=3)
    assert make_folds(backwards, folds=5, seed=3) == first
    assert make_folds(strata, folds=5, seed=4) != first


def test_too_few_people() -> None:
    with pytest.raises(UserError, match="3 persons are too few for --folds 5; give --folds 3 or less"):
        make_folds(people(1, 1, 1), folds=5, seed=0)
    assert sorted(make_folds(people(2, 2, 1), folds=5, seed=0).values()) == [0, 1, 2, 3, 4]


def test_strata_of_people(toy_crops: ToyCrops) -> None:
    assert person_strata(toy_crops(crop_rows(5)), EDGES) == {
        "p0": (0, 0), "p1": (1, 1), "p2": (0, 1), "p3": (1, 1), "p4": (0, 2)
    }  # fmt: skip


@pytest.mark.parametrize("change", [{"age": "80"}, {"gender": "female"}])
def test_one_person_with_two_strata(toy_crops: ToyCrops, change: dict[str, str]) -> None:
    rows = crop_rows()
    rows[1] |= change
    with pytest.raises(UserError, match="person p0: photos with different gender or age"):
        person_strata(toy_crops(rows), EDGES)


def kept_folds(run_dir: Path, crops: Crops, **split: object) -> dict[str, int]:
    """The folds of a run as train.py keeps them."""
    fold_of = plan_folds(run_dir, crops, **split)
    write_folds(run_dir, fold_of)
    return fold_of


def test_folds_are_made_once(tmp_path: Path, toy_crops: ToyCrops) -> None:
    crops = toy_crops(crop_rows())
    made = kept_folds(tmp_path, crops, folds=3, seed=0, age_edges=EDGES)
    written = folds_path(tmp_path).read_bytes()
    assert written.startswith(b"person,fold\n")
    assert kept_folds(tmp_path, crops, folds=3, seed=99, age_edges=EDGES) == made
    assert folds_path(tmp_path).read_bytes() == written
    assert read_folds(folds_path(tmp_path)) == made


def test_shuffled_rows_give_the_same_file(tmp_path: Path, toy_crops: ToyCrops) -> None:
    rows = crop_rows()
    shuffled = [rows[n] for n in np.random.default_rng(1).permutation(len(rows))]
    for name, order in (("a", rows), ("b", shuffled)):
        kept_folds(tmp_path / name, toy_crops(order), folds=3, seed=0, age_edges=EDGES)
    assert folds_path(tmp_path / "a").read_bytes() == folds_path(tmp_path / "b").read_bytes()


def test_folds_of_other_data(tmp_path: Path, toy_crops: ToyCrops) -> None:
    options = {"seed": 0, "age_edges": EDGES}
    kept_folds(tmp_path, toy_crops(crop_rows(12)), folds=3, **options)
    with pytest.raises(UserError, match=r"folds\.csv: person p12, p13 has no fold; folds of other data"):
        kept_folds(tmp_path, toy_crops(crop_rows(14)), folds=3, **options)
    with pytest.raises(UserError, match=r"folds\.csv: person p10, p11 has no photos; folds of other data"):
        kept_folds(tmp_path, toy_crops(crop_rows(10)), folds=3, **options)
    with pytest.raises(UserError, match=r"folds\.csv: holds folds 0, 1, 2, but --folds is 4"):
        kept_folds(tmp_path, toy_crops(crop_rows(12)), folds=4, **options)


def test_an_empty_fold(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds folds 0, 2, but --folds is 3"):
        audit_folds(tmp_path / "folds.csv", {"a": 0, "b": 2}, {"a", "b"}, 3)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("person,fold\na,0\nb,1\na,1\n", "person 'a' stands in more than one row"),
        ("person,fold\na,0\nb,-1\n", "fold '-1' of b is not a whole number"),
        ("person,fold\na,0\nb,²\n", "fold '²' of b is not a whole number"),
        ("person,fold\na,\n", "fold '' of a is not a whole number"),
        ("who,fold\na,0\n", "column person is missing"),
    ],
)
def test_damaged_folds(tmp_path: Path, text: str, match: str) -> None:
    path = tmp_path / "folds.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=match):
        read_folds(path)
