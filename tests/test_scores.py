"""Scores per task, over the combined class, of groups and of values."""

import json

import numpy as np
import pytest
from counted_ids import CountedId
from sklearn.metrics import f1_score

from evaluation.combined_class import combine_labels
from evaluation.logits import make_table
from evaluation.scores import (
    FEWEST_PEOPLE,
    format_classes,
    format_groups,
    format_scores,
    majority,
    most_frequent,
    score,
    score_groups,
    value_errors,
    weakest,
)

TRUTH = {"mask": [0, 1, 2, 0], "gender": [0, 1, 0, 1], "age": [0, 1, 2, 2]}
PREDICTED = {"mask": [0, 1, 2, 0], "gender": [0, 1, 0, 0], "age": [0, 1, 1, 2]}
PERSONS = ["a", "a", "b", "c"]
PEOPLE = 2 * FEWEST_PEOPLE


def test_labels_are_combined_photo_by_photo() -> None:
    assert combine_labels(TRUTH).tolist() == [0, 10, 14, 5]
    assert combine_labels(PREDICTED).tolist() == [0, 10, 13, 2]


def test_the_record() -> None:
    record = score(TRUTH, PREDICTED, PERSONS)
    assert (record["photos"], record["people"]) == (4, 3)
    assert {name: entry["accuracy"]["value"] for name, entry in record["tasks"].items()} == {
        "mask": 1.0, "gender": 0.75, "age": 0.75
    }  # fmt: skip
    assert record["combined"]["accuracy"]["value"] == 0.5
    expected = f1_score(combine_labels(TRUTH), combine_labels(PREDICTED), average="macro")
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
    assert [line.split()[0] for line in lines[2:]] == ["18", "mask", "gender", "age"]
    assert "0.7500 (" in lines[4]
    assert lines[2].endswith("0.0000 / 0.0000")
    assert lines[3].endswith("/ 0.5000")
    assert max(map(len, lines)) <= 80
    table = format_classes(record).splitlines()
    assert len(table) == 19
    assert table[11].split() == ["10", "incorrect", "female", "middle", "1", "1", "1.0000"]
    assert table[18].split()[-1] == "-"


def part(tasks: tuple[str, ...] = ("mask", "gender", "age")) -> tuple[dict, dict, list[str], list[dict[str, str]]]:
    """One photo a person: the first half is Asian and right, the second Black and of the wrong age; three are unknown.

    All of the first half are young men, all of the second old women.
    """
    half = [0] * FEWEST_PEOPLE
    truth = {"mask": [0] * (PEOPLE + 3), "gender": [*half, *(1 for _ in half), 0, 0, 0],
             "age": [*half, *(2 for _ in half), 1, 1, 1]}  # fmt: skip
    predicted = truth | {"age": [*half, *(1 for _ in half), 1, 1, 1]}
    facts = [{"race": "Asian"}] * FEWEST_PEOPLE + [{"race": "Black"}] * FEWEST_PEOPLE + [{"race": ""}, {}, {}]
    persons = [f"p{number}" for number in range(PEOPLE + 3)]
    return {name: truth[name] for name in tasks}, {name: predicted[name] for name in tasks}, persons, facts


def by_group(records: list[dict]) -> dict[tuple[str, str], dict]:
    return {(record["by"], record["group"]): record for record in records}


def test_each_group_is_scored_by_itself() -> None:
    found = by_group(score_groups(*part()))
    assert list(found) == [
        ("race", "Asian"), ("race", "Black"),
        ("gender x age", "female old"), ("gender x age", "male middle"), ("gender x age", "male young"),
    ]  # fmt: skip
    black = found["race", "Black"]
    assert (black["photos"], black["people"]) == (FEWEST_PEOPLE, FEWEST_PEOPLE)
    accuracies = {name: entry["accuracy"]["value"] for name, entry in black["scores"].items()}
    assert accuracies == {"combined": 0.0, "mask": 1.0, "gender": 1.0, "age": 0.0}
    assert found["race", "Asian"]["scores"]["combined"]["accuracy"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert "macro_f1" in black["scores"]["age"]
    assert list(found["gender x age", "female old"]["scores"]["age"]) == ["accuracy"]
    assert json.loads(json.dumps(list(found.values()))) == list(found.values())


def test_the_weakest_group_is_named() -> None:
    records = score_groups(*part())
    assert [(row["by"], row["group"], row["scored"]) for row in weakest(records)] == [
        ("race", "Black", "combined"), ("gender x age", "female old", "combined")
    ]  # fmt: skip
    alone = weakest(score_groups(*part(("age",))))
    assert [(row["by"], row["scored"], row["group"]) for row in alone] == [("race", "age", "Black")]


def test_a_small_group_is_listed_but_never_called_the_weakest() -> None:
    truth, predicted, persons, facts = part()
    predicted["mask"] = [*predicted["mask"][:-1], 1]
    records = score_groups(truth, predicted, persons, facts)
    assert by_group(records)["gender x age", "male middle"]["people"] == 3
    assert "male middle" not in [row["group"] for row in weakest(records)]


def test_the_printed_table_has_the_splits_side_by_side() -> None:
    records = score_groups(*part())
    lines = format_groups({"out of fold": records, "eval": records[1:]}).splitlines()
    assert lines[0].split("  ")[1].strip() == "accuracy of groups"
    title, asian, black = lines[1:4]
    assert title == "  by race, combined"
    assert asian.split() == ["Asian", "10", "1.000", "(1.000-1.000)"]
    assert black.split()[-6:] == ["10", "0.000", "(0.000-0.000)"] * 2
    assert "weakest eval by race: Black, combined 0.000 (0.000-0.000)" in lines[-2]
    assert all(len(line) <= 80 for line in lines)


def uses_of_ids(photos: int) -> int:
    """Hashes and comparisons of ids while values and groups of so many photos are scored."""
    ids = [CountedId(number) for number in range(photos)]
    facts = [{"age": str(20 + number % 50), "race": "Asian"} for number in range(photos)]
    labels = {name: [number % 2 for number in range(photos)] for name in TRUTH}
    table = make_table(ids, ("years",), np.ones((photos, 1)))
    CountedId.used = 0
    value_errors({"age": table}, ids, facts, persons=ids, learned_from=facts)
    score_groups(labels, labels, ids, facts)
    return CountedId.used


def test_the_work_of_scoring_grows_with_the_photos_and_not_with_their_square() -> None:
    assert uses_of_ids(2000) < 5 * uses_of_ids(500)
