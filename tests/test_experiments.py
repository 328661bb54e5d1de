"""Experiments: which rows are run with which settings, what they leave, and what is made of it."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from evaluation.intervals import PREDICTION_COLUMNS, difference, estimate, sum_people
from toy_data import Toy, refusal, snapshot, table

from core.cli import UserError
from core.tasks import TASKS, Task, task_named
from dev.experiments import __main__ as run
from dev.experiments import budget, grid
from dev.experiments.bench import changed_settings
from dev.experiments.grid import GRIDS, PLAIN, SETTINGS, SINGLE, Setting, chosen_settings
from dev.experiments.scoring import marginal
from dev.experiments.table import Key, read_results
from dev.experiments.training import Jobs
from evaluation.scores import COMBINED
from storage.crops import load_crops
from training.config import Config, resolve

pytest_plugins = ("toy_fixtures",)

FAST = (
    *("backbone=test_efficientnet", "no-pretrained", "image-size=32", "folds=2", "epochs=2", "batch-size=16"),
    *("workers=0", "photos_per_person=0"),
)
SMALL = {**PLAIN, "image_size": 32, "epochs": 2, "batch_size": 16}
NOT_THE_RECIPE = {
    *("backbone", "pretrained", "age_edges", "folds", "fold_seed", "seed", "amp", "channels_last"),
    *("device", "workers", "tracker"),
}
"""Settings that baselines share with all rows."""
WITHOUT_EFFECT = {"focal_gamma", "label_smoothing", "value_sigma", "class_share", "views"}
"""Settings that a plain loss and head, and a backbone that learns, do not look at."""
OUT = ("--out", "results.csv")
Runner = Callable[..., dict[Key, dict[str, str]]]


@pytest.fixture(autouse=True, scope="module")
def one_job() -> Iterator[None]:
    """Folds are trained in this process, with one thread, unless a test says otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dev.experiments.training.jobs_at_once", lambda configs: 1)
        patch.setattr("dev.experiments.training.cpu_count", lambda: 1)
        patch.setattr("dev.experiments.bench.cpu_count", lambda: 1)
        yield


@pytest.fixture
def bench(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """A runner of experiments on the toy, with two small rows more, that returns the rows of the results."""
    small = (
        Setting("plain_small", "", SMALL, from_scratch=True),
        Setting("single_small", "", SMALL, tasks=(SINGLE,), from_scratch=True),
    )
    monkeypatch.setattr(grid, "SETTINGS", (*SETTINGS, *small))
    monkeypatch.setattr(run, "SETTINGS", (*SETTINGS, *small))
    monkeypatch.chdir(tmp_path)

    def start(*words: str) -> dict[Key, dict[str, str]]:
        where = ("--crop-dir", str(toy.crop_dir), *OUT)
        run.main([*words, *where, "--profile", "smoke", "--set", *FAST])
        return read_results(Path("results.csv"))

    return start


def frame(persons: str, truth: str, predicted: str, nll: float = 1.0, value_off: float = math.nan) -> pd.DataFrame:
    """A predictions table of photos given as a letter (person) and two digits (classes) each."""
    rows = zip(persons, map(int, truth), map(int, predicted), strict=True)
    cells = [(f"{number}.jpg", *row, nll, value_off) for number, row in enumerate(rows)]
    return pd.DataFrame(cells, columns=list(PREDICTION_COLUMNS))


# the tables


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_row_has_settings_that_exist(setting: Setting) -> None:
    for task in setting.tasks_asked(["mask", "gender", "age"]):
        assert setting.config(task.name, "quick", {}, seed=3).seed == 3
    assert set(setting.of_task) <= {task.name for task in TASKS}


def test_names_are_unique_and_grids_name_rows() -> None:
    names = [row.name for row in (*SETTINGS, *GRIDS)]
    assert len(names) == len(set(names))
    assert {name for row in GRIDS for name in row.rows} <= {setting.name for setting in SETTINGS}
    assert all(row.rows[0] == "default" for row in GRIDS)


def test_the_default_row_is_what_train_does() -> None:
    (default,) = chosen_settings(["default"])
    for profile in ("smoke", "quick", "full"):
        assert default.config("age", profile, {}, seed=0) == resolve("age", profile, {})


@pytest.mark.parametrize("name", [setting.name for setting in SETTINGS if setting.from_scratch])
def test_a_baseline_names_every_setting_of_its_recipe(name: str) -> None:
    """So that nothing of what it is compared with creeps into it when a default changes."""
    (setting,) = chosen_settings([name])
    recipe = {entry.name for entry in fields(Config)} - NOT_THE_RECIPE
    assert set(setting.changes) & recipe == recipe - WITHOUT_EFFECT


def test_plain_is_the_same_for_all_tasks() -> None:
    (plain,) = chosen_settings(["plain"])
    configs = {plain.config(task.name, "quick", {}, seed=0) for task in (*TASKS, SINGLE)}
    assert len(configs) == 1


def test_a_row_beats_what_was_typed() -> None:
    (row,) = chosen_settings(["size_96"])
    config = row.config("age", "quick", {"image_size": 64, "epochs": 1}, seed=0)
    assert (config.image_size, config.epochs) == (96, 1)


def test_a_grid_and_its_rows_are_each_run_once() -> None:
    names = [setting.name for setting in chosen_settings(["focal", "loss", "focal"])]
    assert names[0] == "focal"
    assert sorted(names) == sorted({"focal", *next(row.rows for row in GRIDS if row.name == "loss")})


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(UserError, match=r"'nothing' is neither a grid nor a setting; there are .*baselines.*plain"):
        chosen_settings(["nothing"])


def test_settings_are_typed_as_to_train() -> None:
    typed = run.typed_as_flags(["epochs=2", "no-pretrained", "age_edges=30,60", "lr=1e-3"])
    assert typed == {"epochs": 2, "pretrained": False, "age_edges": (30, 60), "lr": 1e-3}
    with pytest.raises(UserError, match="--set: unrecognized arguments: --nothing 3"):
        run.typed_as_flags(["nothing=3"])


def test_changed_settings_leave_the_seed_out() -> None:
    assert changed_settings(replace(Config(), seed=5, lr=0.5)) == {"lr": 0.5}


# numbers


def test_the_single_task_is_the_combined_class() -> None:
    facts = {"mask": "incorrect", "gender": "female", "age": "31"}
    assert SINGLE.classes[SINGLE.read_label(facts, (25, 40))] == "incorrect female middle"
    assert len(SINGLE.classes) == 18


def test_the_marginal_of_a_joint_distribution() -> None:
    joint = np.random.default_rng(0).dirichlet(np.ones(18), size=4)
    genders = np.exp(marginal(np.log(joint), task_named("gender")))
    female = [number for number, name in enumerate(SINGLE.classes) if "female" in name]
    assert np.allclose(genders[:, 1], joint[:, female].sum(axis=1))
    assert np.allclose(genders.sum(axis=1), 1)


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


# the budget


def cost(per_second: float = 10.0) -> budget.Cost:
    return budget.Cost(people=100, shown_per_epoch=300, held_out=0, per_second=per_second)


def test_epochs_fill_the_budget_in_the_ratio_of_the_row() -> None:
    configs = {task_named("mask"): Config(folds=2, epochs=2), task_named("age"): Config(folds=2, epochs=6)}
    # An epoch takes 30 s: 16 epochs in 8 minutes of one of two folds.
    planned = budget.plan(16, configs, dict.fromkeys(configs, cost()), 1)
    assert {name: values["epochs"] for name, values in planned.items()} == {"mask": 4, "age": 12}


def test_epochs_are_rounded_up() -> None:
    configs = {task_named("age"): Config(folds=2, epochs=6)}
    assert budget.plan(3.1, configs, {task_named("age"): cost()}, 1)["age"]["epochs"] == 4


def test_what_fits_no_epoch_shows_fewer_photos() -> None:
    configs = {task_named("age"): Config(folds=2, epochs=6)}
    assert budget.plan(1, configs, {task_named("age"): cost(per_second=5.0)}, 1)["age"] == {
        "epochs": 1,
        "photos_per_person": 2,
    }


def test_a_part_of_an_epoch_of_kept_views_is_a_part_of_the_photos() -> None:
    """300 shown in an epoch, three times 100 people, are one photo of each in all of its three views."""
    frozen = Config(folds=2, epochs=6, backbone_lr=0.0, views=1)
    seen_once = budget.plan(1, {task_named("age"): frozen}, {task_named("age"): cost(per_second=8.0)}, 1)
    assert seen_once["age"] == {"epochs": 1, "photos_per_person": 1}


def test_folds_side_by_side_fill_the_budget_together() -> None:
    """Six epochs of 30 s a fold and no more than two folds at once: of three folds, the last one is alone."""
    for folds, rounds in ((2, 1), (3, 2), (4, 2)):
        configs = {task_named("age"): Config(folds=folds, epochs=6)}
        planned = budget.plan(6 * rounds, configs, {task_named("age"): cost()}, 2)
        assert planned["age"]["epochs"] == 12


def test_the_longest_piece_of_work_comes_first() -> None:
    assert budget.seconds_side_by_side([1, 2, 3, 4, 5, 7], 2) == 11
    assert budget.seconds_side_by_side([1, 2, 10], 8) == 10


# runs


def test_a_row_a_setting_seed_and_task(bench: Runner) -> None:
    rows = bench("default", "focal", "--task", "mask", "--seeds", "0", "1", "--folds", "1")
    assert {(key.setting, key.seed, key.task, key.part, key.folds) for key in rows} == {
        (name, seed, "mask", "oof", "1") for name in ("default", "focal") for seed in (0, 1)
    }
    assert all((row["photos"], row["people"]) == ("42", "6") for row in rows.values())
    assert all(float(row["seconds"]) > 0 and float(row["photos_per_second"]) > 0 for row in rows.values())
    assert not Path("outputs/experiments/default-s0/mask/fold0").exists()


def test_what_is_in_the_table_is_left_alone(bench: Runner, capsys: pytest.CaptureFixture[str]) -> None:
    bench("default", "--task", "mask", "--folds", "0")
    before = snapshot(Path("results.csv"), Path("outputs"))
    bench("default", "--task", "mask", "--folds", "0")
    assert "default-s0: in results.csv already" in capsys.readouterr().out
    assert snapshot(Path("results.csv"), Path("outputs")) == before


def test_other_settings_under_a_name_are_refused(bench: Runner) -> None:
    bench("default", "--task", "mask", "--folds", "0")
    with pytest.raises(UserError, match=r"results.csv: default mask was run with loss as default, now focal; give"):
        bench("default", "--task", "mask", "--folds", "0", "--set", "loss=focal")


def test_no_fold_is_begun_when_the_time_is_over(bench: Runner, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("default", "--task", "mask", "--max-minutes", "0") == {}
    assert "the same command goes on from here" in capsys.readouterr().out


def test_folds_side_by_side_share_one_wall_clock(bench: Runner) -> None:
    """Also those of a task that is in no table of tasks."""
    rows = bench("single_small", "--jobs", "2")
    assert {row["jobs"] for row in rows.values()} == {"2"}
    (seconds,) = {float(row["seconds"]) for row in rows.values()}
    times = json.loads(Path("outputs/experiments/single_small-s0/times.json").read_text())
    assert set(times) == {"single/fold0", "single/fold1"}
    assert sum(of["seconds"] for of in times.values()) == pytest.approx(seconds, abs=0.1)


def test_jobs_are_counted() -> None:
    refusal(run.main, ["default", "--jobs", "-1"], "--jobs: -1 is not a whole number of at least 0")


def test_all_tasks_make_the_combined_class(bench: Runner) -> None:
    rows = bench("plain_small", "single_small", "--folds", "0")
    for name in ("plain_small", "single_small"):
        assert {key.task for key in rows if key.setting == name} == {"mask", "gender", "age", COMBINED}
    assert len(set(row["photos"] for row in rows.values())) == 1
    trained = {path.name for path in Path("outputs/experiments/single_small-s0").iterdir() if path.is_dir()}
    assert trained == {"single", "predictions"}


def test_years_are_scored_where_they_were_predicted(bench: Runner) -> None:
    rows = bench("age_years", "age_classes", "--task", "age", "--folds", "0")
    found = {key.setting: row["mae"] for key, row in rows.items()}
    assert 0 < float(found["age_years"]) < 100
    assert found["age_classes"] == ""


def test_the_table_as_markdown(bench: Runner, capsys: pytest.CaptureFixture[str]) -> None:
    bench("default", "focal", "--task", "mask", "--folds", "0")
    capsys.readouterr()
    run.main(["--show", *OUT])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "**mask, out of fold, folds 0**"
    assert lines[2].startswith("| setting | seeds | macro-F1 | accuracy | NLL | macro-F1 minus `default` | minutes |")
    assert [line.split(" | ")[0] for line in lines[4:]] == ["| default", "| focal"]
    assert all(line.count("|") == lines[2].count("|") for line in lines[3:])
    assert lines[4].split(" | ")[5] == ""
    assert lines[5].split(" | ")[5].startswith(("+", "-"))
    run.main(["--show", *OUT, "--measure", "nll", "--baseline", "focal"])
    lines = capsys.readouterr().out.splitlines()
    assert " NLL minus `focal` " in lines[2]
    assert lines[5].split(" | ")[5] == ""


def test_a_table_without_its_predictions(bench: Runner) -> None:
    bench("default", "--task", "mask", "--folds", "0")
    path = Path("outputs/experiments/default-s0/predictions/mask_oof_folds0.csv")
    path.unlink()
    refusal(run.main, ["--show", *OUT], f"{path}: no such file")


def test_there_is_no_table_yet(tmp_path: Path) -> None:
    refusal(run.main, ["--show", "--out", tmp_path / "r.csv"], "r.csv: no results in it yet")


def test_eval_is_scored_when_asked_for(bench: Runner, capsys: pytest.CaptureFixture[str]) -> None:
    rows = bench("default", "--task", "mask", "--folds", "0", "--final")
    assert {(key.part, row["photos"]) for key, row in rows.items()} == {("oof", "42"), ("eval", "7")}
    run.main(["--show", *OUT])
    assert "**mask, eval, scored at the end and never used to choose, folds 0**" in capsys.readouterr().out


def test_eval_labels_are_never_read_before(bench: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("eval labels were read")

    monkeypatch.setattr("dev.experiments.scoring.read_truth", refuse)
    bench("default", "--task", "mask", "--folds", "0")


def test_final_takes_no_grid(tmp_path: Path) -> None:
    refusal(run.main, ["loss", "--final", "--out", tmp_path / "r.csv"], "--final loss", "allowed are", "focal")


def test_a_fold_that_is_not_there(bench: Runner) -> None:
    with pytest.raises(UserError, match=r"--folds 2: allowed is 0 to 1"):
        bench("default", "--folds", "2")
    assert not Path("outputs").exists()


def test_a_budget_is_planned_once(bench: Runner, toy: Toy) -> None:
    stores = list((toy.crop_dir / "pixels").glob("*"))
    words = ("default", "--task", "mask", "--folds", "0", "--budget-minutes")
    rows = bench(*words, "0.05")
    assert [key.setting for key in rows] == ["default"]
    plans = snapshot(Path("outputs/experiments/plans"))
    bench(*words, "0.05", "--seeds", "1")
    assert snapshot(Path("outputs/experiments/plans")) == plans
    assert set(stores) <= set((toy.crop_dir / "pixels").glob("*"))
    with pytest.raises(UserError, match=r"plans/default.json: made for minutes 0.05, not 1.0; give another --run-dir"):
        bench(*words, "1")
    with pytest.raises(UserError, match=r"plans/default.json: made for jobs 1, not 2; give another --run-dir"):
        bench(*words, "0.05", "--jobs", "2")


@pytest.mark.parametrize(("backbone_lr", "looks"), [(1.0, [(4, 2), (16, 2)]), (0.0, [(4, 20)])])
def test_a_head_is_measured_on_few_people_for_longer(
    backbone_lr: float, looks: list, toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features of many would take minutes; a network that learns is slow enough to be measured on more people."""
    crops = load_crops(toy.crop_dir, "train")
    fold_of = {person: number % 3 for number, person in enumerate(sorted(set(crops.frame["person"])))}
    asked = []

    def probe(task: Task, config: Config, people: int, **_: object) -> float:
        asked.append((people, config.epochs))
        return 100.0

    monkeypatch.setattr(budget, "FIRST_PROBE_PEOPLE", 4)
    monkeypatch.setattr(budget, "some_people", lambda crops, fold_of, count: count)
    monkeypatch.setattr(budget, "probe", probe)
    config = Config(backbone_lr=backbone_lr, folds=3)
    budget.measure(task_named("mask"), config, crops, fold_of=fold_of, jobs=Jobs(1, 1))
    assert asked == looks


def test_a_budget_is_above_zero() -> None:
    refusal(run.main, ["default", "--budget-minutes", "0"], "--budget-minutes: 0 is not a number above 0")


def test_a_name_is_needed() -> None:
    refusal(run.main, [], "name a grid or a setting", "baselines")


def test_the_listing_names_all(capsys: pytest.CaptureFixture[str]) -> None:
    run.main(["--list"])
    printed = capsys.readouterr().out
    assert all(f"  {row.name} " in printed for row in (*SETTINGS, *GRIDS))


def test_predictions_are_of_the_held_out_people(bench: Runner) -> None:
    bench("default", "--task", "mask", "--folds", "1")
    run_dir = Path("outputs/experiments/default-s0")
    predictions = table(run_dir / "predictions" / "mask_oof_folds1.csv")
    folds = table(run_dir / "folds.csv")
    assert set(predictions["person"]) == set(folds["person"][folds["fold"] == 1])
