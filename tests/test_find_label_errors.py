"""Suspected labels: planted errors are found and ranked, people are judged whole, and nothing else is touched."""

import sys

import numpy as np
import pandas as pd
import pytest
from toy_data import ToyRun, refusal, sign, snapshot

from core.cli import UserError
from core.tasks import task_named
from evaluation.decision_rules import OutOfFold
from tools import find_label_errors

pytest_plugins = ("toy_fixtures",)

PEOPLE, PHOTOS = 120, 3


def out_of_fold() -> tuple[OutOfFold, dict[str, set[str]]]:
    """Confident and right models; the labels of 6 people's gender and of 6 photos' mask are wrong."""
    rng = np.random.default_rng(0)
    persons = np.repeat([f"p{number:03}" for number in range(PEOPLE)], PHOTOS)
    image_ids = [f"{person}/{row % PHOTOS}.jpg" for row, person in enumerate(persons)]
    true = {"gender": np.repeat(rng.integers(0, 2, PEOPLE), PHOTOS), "mask": np.arange(len(persons)) % 3}
    logits = {
        name: 4.0 * np.eye(size)[true[name]] + rng.normal(0, 0.7, (len(persons), size))
        for name, size in (("gender", 2), ("mask", 3))
    }
    wrong_people, wrong_photos = persons[:: PHOTOS * 20], np.arange(7, 360, 60)
    labels = {
        "gender": np.where(np.isin(persons, wrong_people), 1 - true["gender"], true["gender"]),
        "mask": np.where(np.isin(np.arange(len(persons)), wrong_photos), (true["mask"] + 1) % 3, true["mask"]),
    }
    wrong = {"gender": set(wrong_people), "mask": {image_ids[row] for row in wrong_photos}}
    folds = np.repeat(np.arange(PEOPLE) % 4, PHOTOS)
    return OutOfFold(logits, labels, persons, folds, tuple(image_ids)), wrong


def test_planted_errors_are_found_person_by_person_and_photo_by_photo() -> None:
    pytest.importorskip("cleanlab")
    oof, wrong = out_of_fold()
    people = find_label_errors.find_suspects(oof, task_named("gender"))
    assert set(people["person"]) == wrong["gender"]
    assert (people["photos"] == PHOTOS).all()
    photos = find_label_errors.find_suspects(oof, task_named("mask"))
    assert set(photos["image_id"]) == wrong["mask"]
    assert (photos["photos"] == 1).all()
    for found in (people, photos):
        assert found["score"].is_monotonic_increasing
        assert (found["label"] != found["predicted"]).all()
        assert (found["prob_predicted"] > found["prob_label"]).all()
        assert set(found["flagged"]) <= {0, 1}
        assert tuple(found.columns) == find_label_errors.COLUMNS
    assert people["flagged"].all()


def test_the_row_of_a_person_is_the_mean_of_the_photos_and_shows_the_clearest() -> None:
    pytest.importorskip("cleanlab")
    oof, _ = out_of_fold()
    first = find_label_errors.find_suspects(oof, task_named("gender")).iloc[0]
    rows = np.flatnonzero(oof.persons == first["person"])
    probs = np.exp(oof.logits["gender"][rows])
    probs /= probs.sum(axis=1, keepdims=True)
    answer = ("male", "female").index(first["predicted"])
    assert first["prob_predicted"] == pytest.approx(probs[:, answer].mean())
    assert first["image_id"] == oof.image_ids[rows[probs[:, answer].argmax()]]
    assert first["score"] == pytest.approx((1 + first["prob_label"] - first["prob_predicted"]) / 2)


def test_the_command_writes_one_table_and_nothing_else(run_copy: ToyRun, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("cleanlab")
    before = snapshot(run_copy.run_dir)
    find_label_errors.main(["--run-dir", str(run_copy.run_dir), "--most", "3"])
    path = run_copy.run_dir / "label_suspects.csv"
    after = snapshot(run_copy.run_dir)
    assert after.pop(str(path))
    assert after == before
    table = pd.read_csv(path)
    assert tuple(table.columns) == find_label_errors.COLUMNS
    assert table.groupby("task").size().max() <= 3
    assert "suspects and not errors" in capsys.readouterr().out


def test_what_is_refused(run_copy: ToyRun) -> None:
    argv = ["--run-dir", run_copy.run_dir]
    (run_copy.run_dir / "age_oof.csv").unlink()
    sign(run_copy.run_dir / "age_oof.csv")
    refusal(find_label_errors.main, [*argv, "--task", "age"], "no out-of-fold logits of age", "ensemble.py",
            untouched=[run_copy.run_dir])  # fmt: skip
    refusal(find_label_errors.main, [*argv, "--task", "hat"], "'hat'")
    for path in run_copy.run_dir.glob("*_oof.csv"):
        path.unlink()
        sign(path)
    refusal(find_label_errors.main, argv, "no out-of-fold logits in it", untouched=[run_copy.run_dir])


def test_without_cleanlab_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    with pytest.raises(UserError, match=r"python scripts/install\.py labels"):
        find_label_errors.flagged(np.array([0, 1]), np.eye(2))
