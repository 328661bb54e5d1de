"""Scores of groups, and what is known of eval photos for scoring alone."""

import json
from pathlib import Path

import pytest
from toy_data import make_remade

from core.cli import UserError
from evaluation.groups import FEWEST_PEOPLE, format_groups, score_groups, weakest
from storage.eval_labels import find_eval_labels
from storage.run_dir import Run

PEOPLE = 2 * FEWEST_PEOPLE


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
    asian, black = lines[1:3]
    assert asian.split() == ["race:", "Asian,", "combined", "10", "1.000", "(1.000-1.000)"]
    assert black.split()[-6:] == ["10", "0.000", "(0.000-0.000)"] * 2
    assert "weakest eval by race: Black, combined 0.000 (0.000-0.000)" in lines[-2]
    assert all(len(line) <= 120 for line in lines)


def run_of(root: Path, layout: str) -> Run:
    return Run(str(root), layout, "crops", "hash", folds=2, fold_seed=0, age_edges=(25, 40))


class TestTruth:
    def test_names_of_the_remade_layout(self, tmp_path: Path) -> None:
        truth = find_eval_labels(None, run_of(make_remade(tmp_path / "data"), "remade"))
        incorrect = "900001_male_Asian_31_incorrect_mask.jpg"
        assert truth.labels[incorrect] == {"mask": 1, "gender": 0, "age": 1}
        assert truth.facts[incorrect] == {"gender": "male", "race": "Asian", "age": "31"}
        assert truth.facts.keys() == truth.labels.keys()
        assert all(facts["race"] == "Asian" for facts in truth.facts.values())

    def test_further_columns_of_a_csv_are_facts(self, tmp_path: Path) -> None:
        (tmp_path / "images").mkdir()
        (tmp_path / "truth.csv").write_text("ImageID,ans,race\na.jpg,17,Indian\nb.jpg,0,\n")
        truth = find_eval_labels(tmp_path / "truth.csv", run_of(tmp_path / "gone", "photos"))
        assert truth.labels["a.jpg"] == {"mask": 2, "gender": 1, "age": 2}
        assert truth.facts == {"a.jpg": {"race": "Indian"}, "b.jpg": {"race": ""}}

    def test_nobody_knows(self, tmp_path: Path) -> None:
        assert find_eval_labels(None, run_of(tmp_path / "gone", "competition")) is None

    def test_a_given_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"none\.csv: no such file"):
            find_eval_labels(tmp_path / "none.csv", run_of(tmp_path, "competition"))
