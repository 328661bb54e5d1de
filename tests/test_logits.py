"""Logit tables joined by image id alone, and the two averages by hand."""

from math import exp, log
from pathlib import Path

import numpy as np
import pytest

from core.cli import UserError
from evaluation.logits import (
    AVERAGES,
    average_log_probs,
    average_logits,
    average_tables,
    join_out_of_fold,
    log_softmax,
    make_table,
    read_table,
    require_same_ids,
    write_table,
)

CLASSES = ("wear", "incorrect", "not_wear")


def test_rows_are_found_by_id(tmp_path: Path) -> None:
    table = make_table(["b", "a", "c"], CLASSES, np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]]))
    assert table.image_ids == ("a", "b", "c")
    assert table.of(["c", "a"]).tolist() == [[7, 8, 9], [4, 5, 6]]
    with pytest.raises(KeyError):
        table.of(["d"])


def test_float32_logits_come_back_bit_for_bit(tmp_path: Path) -> None:
    logits = np.random.default_rng(0).normal(scale=30, size=(100, 3)).astype(np.float32)
    ids = [f"p,{n}/mask.jpg" for n in range(100)]
    write_table(tmp_path / "mask.csv", make_table(ids, CLASSES, logits))
    back = read_table(tmp_path / "mask.csv", CLASSES)
    assert (back.of(ids).astype(np.float32) == logits).all()
    assert (tmp_path / "mask.csv").read_text().splitlines()[0] == "image_id,wear,incorrect,not_wear"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("image_id,wear,incorrect\na,1,2\n", "columns image_id, wear, incorrect; expected image_id, wear, inc"),
        ("image_id,incorrect,wear,not_wear\na,1,2,3\n", "expected image_id, wear, incorrect, not_wear"),
        ("image_id,wear,incorrect,not_wear,x\na,1,2,3,4\n", "expected image_id, wear, incorrect, not_wear"),
        ("id,wear,incorrect,not_wear\na,1,2,3\n", "column image_id is missing"),
        ("image_id,wear,incorrect,not_wear\na,1,2,3\nb,1,nan,3\n", "row of b has a cell that is not a finite number"),
        ("image_id,wear,incorrect,not_wear\na,1,2,inf\n", "row of a has a cell that is not a finite number"),
        ("image_id,wear,incorrect,not_wear\na,1,,3\n", "row of a has a cell that is not a finite number"),
        ("image_id,wear,incorrect,not_wear\na,1,two,3\n", "row of a has a cell that is not a finite number"),
        ("image_id,wear,incorrect,not_wear\na,1,2,3\na,1,2,3\n", "image_id 'a' stands in more than one row"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, text: str, match: str) -> None:
    path = tmp_path / "mask.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"mask\.csv: .*{match}"):
        read_table(path, CLASSES)


def test_ids_that_lack_or_are_in_excess() -> None:
    table = make_table(["a", "b"], CLASSES, np.zeros((2, 3)))
    require_same_ids(Path("x.csv"), table, {"b", "a"}, "the eval part")
    with pytest.raises(UserError, match=r"x\.csv: no row for c, which the eval part has$"):
        require_same_ids(Path("x.csv"), table, {"a", "b", "c"}, "the eval part")
    with pytest.raises(UserError, match=r"x\.csv: row for b, which the eval part has not$"):
        require_same_ids(Path("x.csv"), table, {"a"}, "the eval part")


def test_log_softmax_by_hand_and_without_overflow() -> None:
    found = log_softmax(np.array([[0.0, log(3)], [1e4, 0.0], [-1e4, -1e4]]))
    assert np.allclose(found, [[log(1 / 4), log(3 / 4)], [0, -1e4], [log(1 / 2), log(1 / 2)]])


def test_mean_of_logits_by_hand() -> None:
    stack = np.array([[[0.0, 2.0]], [[4.0, -1.0]]])
    assert average_logits(stack).tolist() == [[2.0, 0.5]]


def test_logarithm_of_the_mean_probability_by_hand() -> None:
    stack = np.array([[[0.0, log(3)]], [[log(9), 0.0]]])
    assert np.allclose(np.exp(average_log_probs(stack)), [[(1 / 4 + 9 / 10) / 2, (3 / 4 + 1 / 10) / 2]])


def test_averaged_probabilities_sum_to_one_and_stay_finite() -> None:
    stack = np.random.default_rng(0).normal(scale=2000, size=(5, 40, 3))
    found = average_log_probs(stack)
    assert np.isfinite(found).all()
    assert np.allclose(np.exp(found).sum(axis=1), 1)


def test_the_two_averages_can_decide_differently() -> None:
    # One model is sure of class 0, two lean towards class 1.
    stack = np.array([[[9.0, 0.0]], [[0.0, 1.0]], [[0.0, 1.0]]])
    assert average_logits(stack).argmax() == 0
    lean = exp(1) / (1 + exp(1))
    assert np.exp(average_log_probs(stack))[0, 1] == pytest.approx((1 / (1 + exp(9)) + 2 * lean) / 3)
    assert average_log_probs(np.array([[[9.0, 0.0]], [[0.0, 3.0]], [[0.0, 3.0]]])).argmax() == 1
    assert average_logits(np.array([[[9.0, 0.0]], [[0.0, 3.0]], [[0.0, 3.0]]])).argmax() == 0


@pytest.mark.parametrize("name", AVERAGES)
def test_one_model_keeps_its_order_of_classes(name: str) -> None:
    logits = np.random.default_rng(0).normal(size=(30, 3))
    assert (AVERAGES[name](logits[None]).argsort(axis=1) == logits.argsort(axis=1)).all()


def test_tables_are_averaged_by_id() -> None:
    first = make_table(["a", "b"], ("no", "yes"), np.array([[0, 2], [4, 6]]))
    second = make_table(["b", "a"], ("no", "yes"), np.array([[0, 0], [2, 4]]))
    mean = average_tables([first, second], "logit")
    assert mean.image_ids == ("a", "b")
    assert mean.logits.tolist() == [[1, 3], [2, 3]]


def test_out_of_fold_tables_are_joined_and_a_photo_twice_is_refused() -> None:
    first = make_table(["c", "a"], ("no", "yes"), np.array([[5, 6], [1, 2]]))
    second = make_table(["b"], ("no", "yes"), np.array([[3, 4]]))
    joined = join_out_of_fold({Path("fold0"): first, Path("fold1"): second})
    assert joined.image_ids == ("a", "b", "c")
    assert joined.logits.tolist() == [[1, 2], [3, 4], [5, 6]]
    with pytest.raises(UserError, match="fold1: a is in fold0 too"):
        join_out_of_fold({Path("fold0"): first, Path("fold1"): first})
