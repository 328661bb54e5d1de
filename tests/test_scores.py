"""Scores per task and over the combined class."""

import json

import pytest
from sklearn.metrics import f1_score

from evaluation.scores import combine, format_classes, format_scores, majority, most_frequent, score

TRUTH = {"mask": [0, 1, 2, 0], "gender": [0, 1, 0, 1], "age": [0, 1, 2, 2]}
PREDICTED = {"mask": [0, 1, 2, 0], "gender": [0, 1, 0, 0], "age": [0, 1, 1, 2]}
PERSONS = ["a", "a", "b", "c"]


def test_labels_are_combined_photo_by_photo() -> None:
    assert combine(TRUTH) == [0, 10, 14, 5]
    assert combine(PREDICTED) == [0, 10, 13, 2]


def test_the_record() -> None:
    record = score(TRUTH, PREDICTED, PERSONS)
    assert (record["photos"], record["people"]) == (4, 3)
    assert {name: entry["accuracy"]["value"] for name, entry in record["tasks"].items()} == {
        "mask": 1.0, "gender": 0.75, "age": 0.75
    }  # fmt: skip
    assert record["combined"]["accuracy"]["value"] == 0.5
    expected = f1_score(combine(TRUTH), combine(PREDICTED), average="macro")
    assert record["combined"]["macro_f1"]["value"] == pytest.approx(expected)
    assert json.loads(json.dumps(record)) == record


def test_the_rows_of_the_classes() -> None:
    rows = score(TRUTH, PREDICTED, PERSONS)["classes"]
    assert [row["class"] for row in rows] == list(range(18))
    assert rows[10] == {"class": 10, "name": "incorrect female middle", "photos": 1, "predicted": 1, "f1": 1.0}
    assert rows[14] == {"class": 14, "name": "not_wear male old", "photos": 1, "predicted": 0, "f1": 0.0}
    assert rows[17]["f1"] is None


def test_a_task_alone_has_no_combined_class() -> None:
    record = score({"age": TRUTH["age"]}, {"age": PREDICTED["age"]}, PERSONS)
    assert list(record["tasks"]) == ["age"]
    assert "combined" not in record
    assert "classes" not in record


def test_the_commonest_label_and_the_lower_of_two() -> None:
    assert most_frequent([2, 1, 1, 2, 0]) == 1
    assert majority({"mask": [0, 2, 2], "age": [1]}, photos=2) == {"mask": [2, 2], "age": [1, 1]}


def test_the_printed_tables() -> None:
    record = score(TRUTH, PREDICTED, PERSONS)
    naive = score(TRUTH, majority(TRUTH, 4), PERSONS)
    lines = format_scores("out of fold", record, naive).splitlines()
    assert lines[0].startswith("out of fold: 4 photos of 3 people")
    assert [line.split()[0] for line in lines[1:]] == ["18", "mask", "gender", "age"]
    assert "0.7500 (" in lines[3]
    assert lines[1].endswith("0.0000 / 0.0000")
    assert lines[2].endswith("/ 0.5000")
    table = format_classes(record).splitlines()
    assert len(table) == 19
    assert table[11].split() == ["10", "incorrect", "female", "middle", "1", "1", "1.0000"]
    assert table[18].split()[-1] == "-"
