"""Experiments: settings of each row, training and resuming, and the table of results."""

from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from toy_data import Toy, refusal, snapshot, table

from core.cli import UserError
from core.tasks import TASKS, task_named
from dev.experiments import __main__ as run
from dev.experiments import grid, runner
from dev.experiments.grid import GRIDS, PLAIN, SETTINGS, SINGLE, Setting, chosen_settings
from dev.experiments.scoring import marginal
from dev.experiments.table import Key, read_results
from evaluation.combined_class import COMBINED
from training.config import Config, resolve

pytest_plugins = ("toy_fixtures",)

FAST = (
    *("backbone=test_efficientnet", "no-pretrained", "image-size=32", "folds=2", "epochs=2", "batch-size=16"),
    *("workers=0", "photos_per_person=0"),
)
SMALL = {**PLAIN, "image_size": 32, "epochs": 2, "batch_size": 16}
NOT_THE_RECIPE = {
    *("backbone", "pretrained", "age_edges", "folds", "fold_seed", "seed", "amp", "channels_last"),
    *("device", "workers", "tracker", "weights_licence"),
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
        patch.setattr("training.jobs.cpu_count", lambda: 1)
        patch.setattr("dev.experiments.runner.cpu_count", lambda: 1)
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


# the tables


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_row_has_settings_that_exist(setting: Setting) -> None:
    for task in setting.tasks_of(["mask", "gender", "age"]):
        assert setting.config(task.name, "quick", {}, seed=3).seed == 3
    assert set(setting.of_task) <= {task.name for task in TASKS}


def test_names_are_unique() -> None:
    names = [row.name for row in (*SETTINGS, *GRIDS)]
    assert len(names) == len(set(names))


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
    (loss,) = [grid for grid in GRIDS if grid.name == "loss"]
    assert sorted(names) == sorted({"default", "focal", *(setting.name for setting in loss.settings)})


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(UserError, match=r"'nothing' is neither a grid nor a setting; there are .*baselines.*plain"):
        chosen_settings(["nothing"])


def test_settings_are_typed_as_to_train() -> None:
    typed = run.typed_as_flags(["epochs=2", "no-pretrained", "age_edges=30,60", "lr=1e-3"])
    assert typed == {"epochs": 2, "pretrained": False, "age_edges": (30, 60), "lr": 1e-3}
    with pytest.raises(UserError, match="--set: unrecognized arguments: --nothing 3"):
        run.typed_as_flags(["nothing=3"])


# the combined class as one task


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


# runs


def test_a_row_a_setting_seed_and_task(bench: Runner) -> None:
    rows = bench("default", "focal", "--task", "mask", "--seeds", "0", "1", "--folds", "1")
    assert {(key.setting, key.seed, key.task, key.part, key.folds) for key in rows} == {
        (name, seed, "mask", "oof", "1") for name in ("default", "focal") for seed in (0, 1)
    }
    assert all((row["photos"], row["people"]) == ("42", "6") for row in rows.values())
    assert all(float(row["seconds"]) > 0 for row in rows.values())
    assert not Path("outputs/experiments/default-s0/mask/fold0").exists()


def test_what_is_in_the_table_is_left_alone(bench: Runner, capsys: pytest.CaptureFixture[str]) -> None:
    bench("default", "--task", "mask", "--folds", "0")
    before = snapshot(Path("results.csv"), Path("outputs"))
    bench("default", "--task", "mask", "--folds", "0")
    assert "default-s0: in results.csv already" in capsys.readouterr().out
    assert snapshot(Path("results.csv"), Path("outputs")) == before


def test_other_settings_under_a_name_are_refused(bench: Runner) -> None:
    bench("default", "--task", "mask", "--folds", "0")
    with pytest.raises(UserError, match="trained with loss 'label_smoothing', now 'focal'; give another --run-dir"):
        bench("default", "--task", "mask", "--folds", "0", "--set", "loss=focal")


def test_an_interrupted_run_goes_on_and_adds_up_its_time(bench: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter((0.0, 8.0, 100.0, 106.0))
    monkeypatch.setattr(runner, "time", SimpleNamespace(monotonic=lambda: next(times)))
    task_dir = Path("outputs/experiments/default-s0/mask")

    def interrupt(*words: str, **_: object) -> None:
        if words == ("mask fold 0: done",):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("builtins.print", interrupt)
        bench("default", "--task", "mask")
    assert [path.parent.name for path in task_dir.glob("fold*/DONE")] == ["fold0"]
    first_fold = snapshot(task_dir / "fold0")
    rows = bench("default", "--task", "mask")
    assert [(key.folds, float(row["seconds"])) for key, row in rows.items()] == [("0 1", 14.0)]
    assert snapshot(task_dir / "fold0") == first_fold


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
    assert lines[2].startswith(
        "| setting | seeds | macro-F1 | accuracy | NLL | macro-F1 minus `default` | minutes | device |"
    )
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

    monkeypatch.setattr("evaluation.results.find_eval_labels", refuse)
    bench("default", "--task", "mask", "--folds", "0")


def test_final_takes_no_grid(tmp_path: Path) -> None:
    refusal(run.main, ["loss", "--final", "--out", tmp_path / "r.csv"], "--final loss", "allowed are", "focal")


def test_a_fold_that_is_not_there(bench: Runner) -> None:
    with pytest.raises(UserError, match=r"--folds 2: allowed is 0 to 1"):
        bench("default", "--folds", "2")
    assert not Path("outputs").exists()


def test_a_name_is_needed() -> None:
    refusal(run.main, [], "name a grid or a setting", "baselines")


def test_the_listing_names_all(capsys: pytest.CaptureFixture[str]) -> None:
    run.main(["--list"])
    printed = capsys.readouterr().out
    assert {row.name for row in (*SETTINGS, *GRIDS)} <= set(printed.split())


def test_predictions_are_of_the_held_out_people(bench: Runner) -> None:
    bench("default", "--task", "mask", "--folds", "1")
    run_dir = Path("outputs/experiments/default-s0")
    predictions = table(run_dir / "predictions" / "mask_oof_folds1.csv")
    folds = table(run_dir / "folds.csv")
    assert set(predictions["person"]) == set(folds["person"][folds["fold"] == 1])
