"""Labels and facts of eval photos, known for scoring alone."""

from pathlib import Path

import pytest
from toy_data import make_remade

from core.cli import UserError
from storage.eval_labels import find_eval_labels
from storage.run_dir import Run


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
