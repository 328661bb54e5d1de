"""Scores against scikit-learn, and an interval that counts people, not photos."""

import math

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as reference

from core.cli import UserError
from evaluation.metrics import (
    PREDICTION_COLUMNS,
    accuracy,
    confusion_matrix,
    difference,
    estimate,
    f1_per_class,
    macro_f1,
    mean_over_photos,
    paired_difference,
    scores,
    sum_people,
)


@pytest.mark.parametrize("seed", range(20))
def test_as_scikit_learn_has_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(2, 19))
    present = rng.choice(classes, size=int(rng.integers(1, classes + 1)), replace=False)
    truth, predicted = rng.choice(present, 60), rng.choice(present, 60)
    confusion = confusion_matrix(truth, predicted, classes)
    assert (confusion == reference.confusion_matrix(truth, predicted, labels=range(classes))).all()
    assert macro_f1(confusion) == pytest.approx(reference.f1_score(truth, predicted, average="macro"))
    assert accuracy(confusion) == pytest.approx(reference.accuracy_score(truth, predicted))
    expected = reference.f1_score(truth, predicted, labels=range(classes), average=None, zero_division=np.nan)
    assert np.allclose(f1_per_class(confusion), expected, equal_nan=True)


def test_by_hand() -> None:
    # Class 0: 2 of 3 found, 2 right answers of 2. Class 1: found, but of 2 answers. Class 2 is nowhere.
    confusion = confusion_matrix([0, 0, 0, 1], [0, 0, 1, 1], 3)
    assert confusion.tolist() == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert np.allclose(f1_per_class(confusion), [4 / 5, 2 / 3, np.nan], equal_nan=True)
    assert macro_f1(confusion) == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert accuracy(confusion) == 0.75


def test_a_class_that_is_only_predicted_counts_as_zero() -> None:
    assert macro_f1(confusion_matrix([0, 0], [0, 2], 3)) == pytest.approx((2 / 3 + 0) / 2)


def test_many_confusions_at_once() -> None:
    rng = np.random.default_rng(0)
    stack = rng.integers(0, 9, (5, 4, 4))
    for metric in (macro_f1, accuracy):
        assert metric(stack) == pytest.approx([float(metric(one)) for one in stack])


def people_with_photos(people: int, photos: int) -> tuple[list[int], list[int], list[str]]:
    """Every photo of a person is the same, and so is every prediction: right for about three people in four."""
    rng = np.random.default_rng(7)
    truth = rng.integers(0, 3, people)
    predicted = np.where(rng.random(people) < 0.75, truth, (truth + 1) % 3)
    persons = [f"p{number:03}" for number in range(people)]
    return [int(t) for t in truth for _ in range(photos)], [int(p) for p in predicted for _ in range(photos)], [
        person for person in persons for _ in range(photos)
    ]  # fmt: skip


def test_more_photos_of_the_same_people_do_not_shrink_the_interval() -> None:
    one = scores(*people_with_photos(50, 1), num_classes=3)
    seven = scores(*people_with_photos(50, 7), num_classes=3)
    for metric, entry in one.items():
        assert seven[metric] == pytest.approx(entry)


def test_more_people_do_shrink_it() -> None:
    few, many = (scores(*people_with_photos(people, 2), num_classes=3)["accuracy"] for people in (40, 640))
    assert (many["high"] - many["low"]) < 0.4 * (few["high"] - few["low"])
    # A share of .75 among 640: 1.96 * sqrt(.75 * .25 / 640) on either side.
    assert many["high"] - many["low"] == pytest.approx(2 * 1.96 * (0.75 * 0.25 / 640) ** 0.5, rel=0.15)


def test_the_value_is_that_of_all_photos_and_lies_in_the_interval() -> None:
    truth, predicted, persons = people_with_photos(60, 3)
    found = scores(truth, predicted, persons, num_classes=3)
    assert found["macro_f1"]["value"] == pytest.approx(reference.f1_score(truth, predicted, average="macro"))
    assert found["accuracy"]["value"] == pytest.approx(reference.accuracy_score(truth, predicted))
    assert all(entry["low"] < entry["value"] < entry["high"] for entry in found.values())


def test_neither_order_nor_a_second_call_changes_the_interval() -> None:
    truth, predicted, persons = people_with_photos(30, 2)
    order = np.random.default_rng(0).permutation(len(truth))
    shuffled = ([column[n] for n in order] for column in (truth, predicted, persons))
    assert scores(truth, predicted, persons, num_classes=3) == scores(*shuffled, num_classes=3)


def test_one_person_or_no_error_has_no_width() -> None:
    perfect = {"value": 1.0, "low": 1.0, "high": 1.0}
    assert scores([0, 1], [0, 1], ["a", "b"], num_classes=2)["accuracy"] == perfect
    assert scores([0, 1], [0, 0], ["a", "a"], num_classes=2)["accuracy"] == {"value": 0.5, "low": 0.5, "high": 0.5}


class TestPairedDifference:
    def test_two_predictions_that_are_the_same_differ_by_nothing(self) -> None:
        truth, predicted, persons = people_with_photos(40, 2)
        assert set(paired_difference(truth, predicted, predicted, persons, num_classes=3).values()) == {0.0}

    def test_the_value_and_the_sign(self) -> None:
        truth, predicted, persons = people_with_photos(60, 2)
        gain = paired_difference(truth, predicted, truth, persons, num_classes=3)
        before = reference.f1_score(truth, predicted, average="macro")
        assert gain["value"] == pytest.approx(1 - before)
        loss = paired_difference(truth, truth, predicted, persons, num_classes=3)
        assert [loss["value"], loss["low"], loss["high"]] == pytest.approx(
            [-gain["value"], -gain["high"], -gain["low"]]
        )

    def test_what_both_share_cancels_out(self) -> None:
        """Better for 20 people of 300, never worse: surely better, though both intervals overlap."""
        truth, predicted, persons = people_with_photos(300, 1)
        wrong = [row for row, (t, p) in enumerate(zip(truth, predicted, strict=True)) if t != p][:20]
        better = [truth[row] if row in wrong else label for row, label in enumerate(predicted)]
        one, other = (scores(truth, labels, persons, num_classes=3)["macro_f1"] for labels in (predicted, better))
        assert other["low"] < one["high"]
        assert paired_difference(truth, predicted, better, persons, num_classes=3)["low"] > 0.03


def test_the_mean_over_photos() -> None:
    values, persons = [1.0, 3.0, 5.0, 5.0], ["a", "a", "b", "c"]
    found = mean_over_photos(values, persons)
    assert found["value"] == pytest.approx(3.5)
    assert 2.0 <= found["low"] < 3.5 < found["high"] <= 5.0
    assert mean_over_photos([2.0, 4.0], ["a", "a"]) == {"value": 3.0, "low": 3.0, "high": 3.0}


def frame(persons: str, truth: str, predicted: str, nll: float = 1.0, value_off: float = math.nan) -> pd.DataFrame:
    """A predictions table of photos given as a letter (person) and two digits (classes) each."""
    rows = zip(persons, map(int, truth), map(int, predicted), strict=True)
    cells = [(f"{number}.jpg", *row, nll, value_off) for number, row in enumerate(rows)]
    return pd.DataFrame(cells, columns=list(PREDICTION_COLUMNS))


def test_estimates_of_one_seed() -> None:
    sums = sum_people({0: frame("aabb", "0011", "0010", nll=0.5, value_off=3.0)}, 2)
    values = {name: estimate(sums, name)["value"] for name in ("macro_f1", "accuracy", "nll", "mae")}
    assert values == pytest.approx({"macro_f1": (4 / 5 + 2 / 3) / 2, "accuracy": 0.75, "nll": 0.5, "mae": 3.0})
    # Person a alone is all right, person b alone is half right.
    assert estimate(sums, "accuracy") == {"value": 0.75, "low": 0.5, "high": 1.0}


def test_a_measure_that_does_not_exist_is_no_number() -> None:
    assert math.isnan(estimate(sum_people({0: frame("ab", "01", "01")}, 2), "mae")["value"])


def test_seeds_are_averaged_and_drawn() -> None:
    sums = sum_people({0: frame("ab", "01", "01"), 1: frame("ab", "01", "10")}, 2)
    assert estimate(sums, "accuracy") == {"value": 0.5, "low": 0.0, "high": 1.0}


def test_what_a_difference_pairs_cancels_out() -> None:
    """Two settings that answer alike differ by nothing, however wide the interval of each is."""
    answers = frame("abcd", "0101", "0001")
    mine, other = sum_people({0: answers}, 2), sum_people({0: answers, 1: frame("abcd", "0101", "1010")}, 2)
    assert estimate(mine, "macro_f1")["low"] < estimate(mine, "macro_f1")["high"]
    assert difference(mine, other, "macro_f1") == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_nothing_is_paired_across_seeds_or_people() -> None:
    mine = sum_people({0: frame("ab", "01", "01")}, 2)
    assert difference(mine, sum_people({1: frame("ab", "01", "01")}, 2), "accuracy") is None
    assert difference(mine, sum_people({0: frame("ac", "01", "01")}, 2), "accuracy") is None


def test_seeds_of_other_people_are_refused() -> None:
    with pytest.raises(UserError, match="different people"):
        sum_people({0: frame("ab", "01", "01"), 1: frame("ac", "01", "01")}, 2)
