"""Sets of photos with other class priors, drawn from out-of-fold logits, and the printed gains of the rules."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from test_decision_rules import out_of_fold
from toy_data import ToyRun, refusal

from evaluation.combined_class import combine_labels
from evaluation.decision_rules import Decision
from tools.simulate_label_shift import RULES_TRIED, draw_rows, format_mix, main, score_a_set

pytest_plugins = ("toy_fixtures",)


def test_a_set_has_the_photos_asked_for_in_a_random_mix() -> None:
    oof = out_of_fold(300)
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(40):
        rows = draw_rows(oof, "age", 200, 1.0, rng)
        assert rows.shape == (200,)
        shares.append(np.bincount(oof.labels["age"][rows], minlength=3) / 200)
    # Of a flat Dirichlet distribution over three classes a share has the standard deviation 1 / sqrt(18).
    assert np.std(shares) == pytest.approx(18**-0.5, abs=0.04)
    assert np.mean(shares, axis=0) == pytest.approx([1 / 3] * 3, abs=0.12)


def test_without_a_concentration_the_mix_is_that_of_the_photos() -> None:
    oof = out_of_fold(300)
    rows = draw_rows(oof, "age", 5000, None, np.random.default_rng(0))
    there, drawn = (np.bincount(labels, minlength=3) for labels in (oof.labels["age"], oof.labels["age"][rows]))
    assert drawn / 5000 == pytest.approx(there / 900, abs=0.03)
    assert len(set(oof.persons[rows])) == 300


def test_the_first_score_is_that_of_raw() -> None:
    oof = out_of_fold(200, noise=1.5)
    scores = np.array([score_a_set(oof, "age", 500, None, np.random.default_rng(seed)) for seed in range(10)])
    raw = (combine_labels(Decision.raw().labels(oof.logits)) == oof.combined_labels).mean()
    assert [rule.name for rule in RULES_TRIED] == ["raw", "shift"]
    assert scores[:, 0, 1].mean() == pytest.approx(raw, abs=0.04)


def test_the_command_prints_three_kinds_of_sets_the_same_each_time(
    toy_run: ToyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = []
    for _ in range(2):
        main(["--run-dir", str(toy_run.run_dir), "--draws", "3", "--photos", "20", "--task", "mask"])
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    lines = printed[0].splitlines()
    assert lines[0] == "3 sets of 20 photos for each mix of mask; 18-class macro-F1 | accuracy"
    assert [line.split(":")[0] for line in lines[1::2]] == ["as it is", "another", "quite another"]
    assert len(lines) == 7
    assert all(re.fullmatch(r"  shift +[+-][\d.]+ ± [\d.]+ \| [+-][\d.]+ ± [\d.]+", line) for line in lines[2::2])


def test_a_gain_is_what_a_rule_has_more_than_raw() -> None:
    """Two sets: macro-F1 | accuracy of raw and shift."""
    sets = np.array([[[0.5, 0.6], [0.4, 0.6]], [[0.5, 0.8], [0.2, 0.8]]])
    assert format_mix("another", sets).splitlines() == [
        "another: raw 0.5000 | 0.7000",
        "  shift   -0.2000 ± 0.1386 | +0.0000 ± 0.0000",
    ]


def test_a_run_without_held_out_logits_is_refused(toy_run: ToyRun, tmp_path: Path) -> None:
    run_dir = shutil.copytree(toy_run.run_dir, tmp_path / "run")
    for path in run_dir.glob("*_oof.csv"):
        path.unlink()
    refusal(
        main,
        ["--run-dir", run_dir],
        "_oof.csv",
        "ensemble.py",
        untouched=[run_dir],
    )
