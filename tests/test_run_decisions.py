"""A finished run through ensemble.py and submission.py: decisions, temperatures, years, groups, label fixes."""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toy_data import ALL_TASKS, ToyRun, edit_csv, infer, make_photos, prepare, refusal, sign, snapshot, table

import ensemble
import submission
from core.tasks import combined_class_count, task_named
from evaluation.calibration import KEPT, fit_temperature
from evaluation.combined_class import combine_labels
from evaluation.decision_rules import RULES
from evaluation.logits import read_table
from evaluation.results import RunResults
from storage.crops import load_crops
from storage.label_corrections import apply_corrections

pytest_plugins = ("toy_fixtures",)

AGE = task_named("age")


def submit(run_dir: Path, *flags: str) -> dict:
    submission.main(["--run-dir", str(run_dir), *flags])
    return json.loads((run_dir / "scores.json").read_text())


def put_years(run_dir: Path, *, wrong_by: int) -> None:
    """Expected years beside the logits of every age fold: too high by `wrong_by`, and one more for each fold."""
    for fold in (0, 1):
        fold_dir = run_dir / "age" / f"fold{fold}"
        for part in ("oof", "eval"):
            ids = table(fold_dir / f"{part}.csv")["image_id"]
            true = [int(name.split("/")[0].split("_")[3]) if part == "oof" else 0 for name in ids]
            years = np.array(true) + wrong_by + fold
            pd.DataFrame({"image_id": ids, "years": years}).to_csv(fold_dir / f"{part}_years.csv", index=False)
            sign(fold_dir / f"{part}_years.csv")


def put_sure_ages(frame: pd.DataFrame, *, old_alone: bool) -> pd.DataFrame:
    """Logits that are sure of the age in the name of each photo; or that all of them are old."""
    classes = AGE.classes
    ages = [None if old_alone else int(name.split("/")[0].split("_")[3]) for name in frame["image_id"]]
    said = [2 if age is None else min(2, (age >= 25) + (age >= 40)) for age in ages]
    return frame.assign(**{name: [6.0 * (label == column) for label in said] for column, name in enumerate(classes)})


def read_answers(run_dir: Path) -> tuple[list[int], dict[str, np.ndarray]]:
    """What submission.csv says, and the logits of each task in the order of its rows."""
    answers = table(run_dir / "submission.csv")
    tables = {name: read_table(run_dir / f"{name}.csv", task_named(name).classes) for name in ALL_TASKS}
    return list(answers["ans"]), {name: logits.of(list(answers["ImageID"])) for name, logits in tables.items()}


class TestDecisions:
    def test_raw_is_the_default_and_all_rules_stand_side_by_side(self, toy_run: ToyRun) -> None:
        scores = json.loads((toy_run.run_dir / "scores.json").read_text())
        decisions = scores["oof"]["decisions"]
        assert decisions["used"] == "raw"
        assert [row["rule"] for row in decisions["rules"]] == [rule.name for rule in RULES]
        assert decisions["rules"][0]["macro_f1"] == scores["oof"]["model"]["combined"]["macro_f1"]
        assert set(scores["oof"]["calibration"]) == {"mask", "gender", "age"}
        stored = json.loads((toy_run.run_dir / "decision.json").read_text())
        assert stored == {"rule": "raw", "temperatures": dict.fromkeys(("mask", "gender", "age"), 1.0),
                          "biases": [0.0] * combined_class_count(), "mixes": {}}  # fmt: skip
        answers, logits = read_answers(toy_run.run_dir)
        assert answers == combine_labels({name: of_task.argmax(axis=1) for name, of_task in logits.items()}).tolist()

    def test_another_mix_of_the_photos_is_told_and_kept(
        self, run_copy: ToyRun, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for suffix in ("_oof", ""):
            edit_csv(run_copy.run_dir / f"age{suffix}.csv", partial(put_sure_ages, old_alone=not suffix))
        submit(run_copy.run_dir, "--decision", "shift")
        assert "age: these photos seem to have another mix: young" in capsys.readouterr().out
        mixes = json.loads((run_copy.run_dir / "decision.json").read_text())["mixes"]
        assert mixes["age"]["learned"] == pytest.approx([1 / 3] * 3)
        assert mixes["age"]["found"][2] == pytest.approx((1 + KEPT / 3) / (1 + KEPT), abs=0.02)

    def test_a_tuned_decision_is_fitted_on_all_held_out_photos_and_used(self, run_copy: ToyRun) -> None:
        scores = submit(run_copy.run_dir, "--decision", "tuned")
        oof = RunResults(run_copy.run_dir).out_of_fold(("mask", "gender", "age"))
        answers, logits = read_answers(run_copy.run_dir)
        decision = next(rule for rule in RULES if rule.name == "tuned").fit(oof, logits)
        assert json.loads((run_copy.run_dir / "decision.json").read_text())["biases"] == list(decision.biases)
        assert answers == combine_labels(decision.labels(logits)).tolist()
        nested = next(row for row in scores["oof"]["decisions"]["rules"] if row["rule"] == "tuned")
        assert scores["oof"]["decisions"]["used"] == "tuned"
        assert scores["oof"]["model"]["combined"]["macro_f1"] == nested["macro_f1"]

    def test_auto_takes_a_rule_that_pays_or_raw(self, run_copy: ToyRun) -> None:
        decisions = submit(run_copy.run_dir, "--decision", "auto")["oof"]["decisions"]
        paying = [row for row in decisions["rules"] if row["pays"]]
        best = max(paying, key=lambda row: row["over_raw"]["value"])["rule"] if paying else "raw"
        assert decisions["used"] == best

    def test_eval_labels_change_no_decision(self, run_copy: ToyRun, tmp_path: Path) -> None:
        submit(run_copy.run_dir, "--decision", "tuned")
        before = (run_copy.run_dir / "decision.json").read_text(), (run_copy.run_dir / "submission.csv").read_text()
        table(run_copy.root / "truth.csv").assign(ans=3).to_csv(tmp_path / "truth.csv", index=False)
        submit(run_copy.run_dir, "--decision", "tuned", "--truth", str(tmp_path / "truth.csv"))
        after = (run_copy.run_dir / "decision.json").read_text(), (run_copy.run_dir / "submission.csv").read_text()
        assert after == before

    def test_nothing_to_fit_on(self, toy_run: ToyRun, tmp_path: Path) -> None:
        other, output = prepare(make_photos(tmp_path / "album"), tmp_path / "crops"), tmp_path / "out"
        infer(toy_run.run_dir, "--crop-dir", str(other.crop_dir), "--output-dir", str(output))
        ensemble.main(["--run-dir", str(output)])
        argv = ["--run-dir", output]
        for rule in ("tuned", "shift"):
            refusal(submission.main, [*argv, "--decision", rule], f"--decision {rule}", "allowed here is raw",
                    untouched=[output])  # fmt: skip
        refusal(
            submission.main,
            [*argv, "--decision", "best"],
            "'best'",
            "auto",
            "raw",
            "shift",
            "tuned",
            untouched=[output],
        )
        submission.main([*map(str, argv), "--decision", "auto"])
        assert json.loads((output / "decision.json").read_text())["rule"] == "raw"
        refusal(ensemble.main, [*argv, "--calibrate"], "--calibrate", "no out-of-fold logits", untouched=[output])

    def test_tables_of_other_models_are_not_decided_by_what_this_run_s_models_answered(
        self, run_copy: ToyRun, tmp_path: Path
    ) -> None:
        for other in (tmp_path / "age.csv", run_copy.run_dir / "age_of_others.csv"):
            shutil.copy(run_copy.run_dir / "age.csv", other)
            argv = ["--run-dir", run_copy.run_dir, "--age", other]
            for rule in ("tuned", "auto"):
                refusal(submission.main, [*argv, "--decision", rule], f"--age {other}", "ensemble.py", "raw",
                        untouched=[run_copy.run_dir])  # fmt: skip
        submission.main([*map(str, argv)])
        own = run_copy.run_dir / "gender.csv"
        submission.main(["--run-dir", str(run_copy.run_dir), "--gender", str(own), "--decision", "tuned"])

    def test_folds_that_are_gone(self, run_copy: ToyRun) -> None:
        (run_copy.run_dir / "folds.csv").unlink()
        refusal(submission.main, ["--run-dir", run_copy.run_dir], "folds.csv", "run ensemble.py first")

    def test_the_same_files_again(self, run_copy: ToyRun) -> None:
        submit(run_copy.run_dir, "--decision", "tuned")
        before = snapshot(run_copy.run_dir)
        submit(run_copy.run_dir, "--decision", "tuned")
        assert snapshot(run_copy.run_dir) == before


class TestEnsemble:
    def test_calibrated_logits_are_divided_by_the_temperature_of_their_folder(self, run_copy: ToyRun) -> None:
        held_out = load_crops(run_copy.crop_dir, "train")
        raw = read_table(run_copy.run_dir / "age_oof.csv", AGE.classes)
        temperature = fit_temperature(raw.of(held_out.image_ids), held_out.labels(AGE, (25, 40)))
        flags = ["--age", str(run_copy.run_dir / "age"), "--run-dir", str(run_copy.run_dir), "--average", "logit"]
        ensemble.main(flags)
        plain = read_table(run_copy.run_dir / "age.csv", AGE.classes)
        ensemble.main([*flags, "--calibrate"])
        scaled = read_table(run_copy.run_dir / "age.csv", AGE.classes)
        np.testing.assert_allclose(scaled.logits, plain.logits / temperature, rtol=1e-3, atol=1e-5)
        assert json.loads((run_copy.run_dir / "age.json").read_text())["temperatures"] == [
            pytest.approx(temperature, rel=1e-3)
        ]

    def test_an_average_of_runs_gets_their_split(self, toy_run: ToyRun, tmp_path: Path) -> None:
        both = tmp_path / "both"
        ensemble.main([*(f"--{name}={toy_run.run_dir / name}" for name in ("mask", "gender", "age")),
                       "--run-dir", str(both)])  # fmt: skip
        assert (both / "folds.csv").read_bytes() == (toy_run.run_dir / "folds.csv").read_bytes()
        assert submit(both)["oof"] == json.loads((toy_run.run_dir / "scores.json").read_text())["oof"]

    def test_expected_years_are_averaged_and_scored(self, run_copy: ToyRun) -> None:
        put_years(run_copy.run_dir, wrong_by=2)
        ensemble.main(["--run-dir", str(run_copy.run_dir)])
        eval_years = table(run_copy.run_dir / "age_years.csv")
        assert list(eval_years.columns) == ["image_id", "years"]
        assert set(eval_years["years"]) == {2.5}
        scores = submit(run_copy.run_dir)
        found = scores["oof"]["values"]["age"]
        assert (found["unit"], found["photos"]) == ("years", 84)
        # Half of the people are held out by fold 0, two years wrong, the others by fold 1, three years wrong.
        assert found["mean_absolute_error"]["value"] == pytest.approx(2.5)
        ages = np.array([int(age) for age in load_crops(run_copy.crop_dir, "train").frame["age"]])
        assert found["always_median"]["value"] == pytest.approx(np.abs(ages - np.median(ages)).mean())
        assert scores["eval"]["values"] == {}

    def test_years_of_eval_photos_are_scored_where_the_truth_has_ages(self, run_copy: ToyRun, tmp_path: Path) -> None:
        put_years(run_copy.run_dir, wrong_by=2)
        ensemble.main(["--run-dir", str(run_copy.run_dir)])
        truth = table(run_copy.root / "truth.csv").assign(age=[1, 2, 3, 4, 5, 6, ""])
        truth.to_csv(tmp_path / "truth.csv", index=False)
        found = submit(run_copy.run_dir, "--truth", str(tmp_path / "truth.csv"))["eval"]["values"]["age"]
        assert found["photos"] == 6
        assert found["mean_absolute_error"]["value"] == pytest.approx((1.5 + 0.5 + 0.5 + 1.5 + 2.5 + 3.5) / 6)

    def test_a_fold_that_lost_its_years(self, run_copy: ToyRun) -> None:
        put_years(run_copy.run_dir, wrong_by=0)
        (run_copy.run_dir / "age" / "fold1" / "eval_years.csv").unlink()
        refusal(ensemble.main, ["--run-dir", run_copy.run_dir], "fold1/eval_years.csv", "run inference.py first")


def test_the_labels_that_are_scored_are_those_the_run_learned_from(run_copy: ToyRun) -> None:
    before = submit(run_copy.run_dir)["oof"]["model"]["tasks"]["age"]["accuracy"]["value"]
    person = table(run_copy.run_dir / "folds.csv")["person"][0]
    logits = table(run_copy.run_dir / "age_oof.csv")
    of_person = logits["image_id"].str.startswith(f"{person}/")
    answers = logits.loc[of_person, list(AGE.classes)].to_numpy().argmax(axis=1)
    true = AGE.read_label({"age": person.split("_")[3]}, (25, 40))
    other_age, other = ("70", 2) if true != 2 else ("20", 0)
    fixes = run_copy.run_dir / "label_fixes.csv"
    fixes.write_text(f"person,age\n{person},{other_age}\n")
    refusal(submission.main, ["--run-dir", run_copy.run_dir], "no longer those it was", "label_fixes.csv")
    run = json.loads((run_copy.run_dir / "run.json").read_text())
    learned = apply_corrections(load_crops(run_copy.crop_dir, "train"), fixes)
    (run_copy.run_dir / "run.json").write_text(json.dumps(run | {"train_hash": learned.hash}))
    after = submit(run_copy.run_dir)["oof"]["model"]["tasks"]["age"]["accuracy"]["value"]
    assert after - before == pytest.approx(((answers == other).sum() - (answers == true).sum()) / 84)


def test_race_is_scored_where_it_is_known(run_copy: ToyRun, tmp_path: Path) -> None:
    truth = table(run_copy.root / "truth.csv").assign(race=["Black", "White"] * 3 + [""])
    truth.to_csv(tmp_path / "truth.csv", index=False)
    scores = submit(run_copy.run_dir, "--truth", str(tmp_path / "truth.csv"))
    assert [(row["group"], row["photos"]) for row in scores["eval"]["groups"] if row["by"] == "race"] == [
        ("Black", 3), ("White", 3)
    ]  # fmt: skip
    assert [(row["group"], row["people"]) for row in scores["oof"]["groups"] if row["by"] == "race"] == [("Asian", 12)]


def test_a_task_alone_is_scored_without_decisions(run_copy: ToyRun) -> None:
    for name in ("mask", "gender"):
        (run_copy.run_dir / f"{name}_oof.csv").unlink()
        sign(run_copy.run_dir / f"{name}_oof.csv")
    oof = submit(run_copy.run_dir)["oof"]
    assert "decisions" not in oof
    assert list(oof["model"]["tasks"]) == list(oof["calibration"]) == ["age"]
    shutil.rmtree(run_copy.run_dir / "age")
    edit_csv(run_copy.run_dir / "age_oof.csv", lambda rows: rows.iloc[1:])
    refusal(submission.main, ["--run-dir", run_copy.run_dir], "age_oof.csv", "no row for")
