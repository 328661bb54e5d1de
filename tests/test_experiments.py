"""Experiments: settings of each row, training, and the table of results."""

from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import fields
from io import StringIO
from pathlib import Path

import pytest
from toy_data import Toy, refusal, snapshot

import inference
import train
from core.cli import UserError
from core.tasks import task_names
from dev.command import Finished, as_flags
from dev.experiments import __main__ as run
from dev.experiments.grid import ALL, GRIDS, PLAIN, SETTINGS, chosen_settings, settings_of
from training.config import PROFILES, Config, resolve

pytest_plugins = ("toy_fixtures",)

FAST = (
    *("--backbone", "test_efficientnet", "--no-pretrained", "--image-size", "32", "--folds", "2", "--epochs", "1"),
    *("--batch-size", "16", "--workers", "0", "--profile", "smoke"),
)
NOT_THE_RECIPE = {
    *("pretrained", "age_edges", "folds", "fold_seed", "seed", "amp", "channels_last"),
    *("device", "workers", "tracker", "weights_licence"),
}
"""Settings that baselines share with all rows."""
WITHOUT_EFFECT = {"focal_gamma", "label_smoothing", "value_sigma", "class_share", "views"}
"""Settings that a plain loss and head, and a backbone that learns, do not look at."""
RUNS = Path("outputs/experiments")
Runner = Callable[..., list[str]]


@pytest.fixture
def bench(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Runner:
    """A runner of experiments on the toy, all in this process, that returns the lines of the table."""

    def in_this_process(words: Sequence[object], *, shown: bool) -> Finished:
        command, *flags = map(str, words)
        main = {"train.py": train.main, "inference.py": inference.main}[command]
        with redirect_stdout(StringIO()):
            main([*flags, *(["--jobs", "1"] if command == "train.py" else [])])
        return Finished(1.0, "")

    def start(*words: str) -> list[str]:
        run.main([*words, "--crop-dir", str(toy.crop_dir), *FAST])
        return [line for line in capsys.readouterr().out.splitlines() if line.startswith(("*", "|"))]

    monkeypatch.setattr(run, "run_command", in_this_process)
    monkeypatch.chdir(tmp_path)
    return start


# the rows


@pytest.mark.parametrize("name", SETTINGS)
def test_every_row_has_settings_that_exist(name: str) -> None:
    assert SETTINGS[name].keys() <= {ALL, *task_names()}
    for task in task_names():
        assert resolve(task, "quick", settings_of(name, task, {}, 3)).seed == 3


def test_names_are_unique() -> None:
    assert len(SETTINGS) == 1 + sum(map(len, GRIDS.values()))
    assert not SETTINGS.keys() & GRIDS.keys()


@pytest.mark.parametrize("name", GRIDS["baselines"])
def test_a_baseline_names_every_setting_of_its_recipe(name: str) -> None:
    """So that nothing of what it is compared with creeps into it when a default changes."""
    recipe = {entry.name for entry in fields(Config)} - NOT_THE_RECIPE
    assert set(SETTINGS[name][ALL]) == recipe - WITHOUT_EFFECT


@pytest.mark.parametrize("profile", PROFILES)
def test_plain_is_the_same_for_all_tasks(profile: str) -> None:
    configs = [resolve(task, profile, settings_of("plain", task, {}, 0)) for task in task_names()]
    assert all(getattr(config, name) == value for config in configs for name, value in PLAIN.items())


def test_a_row_beats_what_was_typed() -> None:
    settings = settings_of("batch_64", "age", {"batch_size": 8, "epochs": 1}, 0)
    assert (settings["batch_size"], settings["epochs"]) == (64, 1)


def test_a_grid_and_its_rows_are_each_run_once() -> None:
    names = chosen_settings(["focal", "loss", "focal"])
    assert names[0] == "focal"
    assert sorted(names) == sorted({"default", *GRIDS["loss"]})


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(UserError, match=r"'nothing' is neither a grid nor a setting; there are .*baselines.*plain"):
        chosen_settings(["nothing"])


def test_settings_as_flags() -> None:
    words = as_flags({"epochs": 2, "pretrained": False, "amp": True, "age_edges": (30, 60), "lr": 1e-3})
    assert words == ["--epochs", "2", "--no-pretrained", "--amp", "--age-edges", "30", "60", "--lr", "0.001"]


# runs


def test_two_settings_and_their_difference(bench: Runner) -> None:
    table = bench("default", "focal", "--task", "mask", "--seeds", "0", "1", "--fold", "1", "--measure", "nll")
    assert table[:2] == [
        "**mask, out of fold, fold1**",
        "| setting | seeds | macro-F1 | accuracy | NLL | NLL minus `default` |",
    ]
    rows = [line.split(" | ") for line in table[3:]]
    assert [row[:2] for row in rows] == [["| default", "0 1"], ["| focal", "0 1"]]
    assert rows[0][5] == " |" and rows[1][5].startswith(("+", "-"))
    before = snapshot(Path("outputs"))
    assert bench("--measure", "nll") == table
    bench("focal", "--task", "mask", "--fold", "1")
    assert snapshot(Path("outputs")) == before


def test_all_tasks_make_the_combined_class(bench: Runner) -> None:
    table = bench("default", "--fold", "0")
    assert [line.split(",")[0] for line in table if line.startswith("*")] == [
        "**mask",
        "**gender",
        "**age",
        "**combined",
    ]


def test_other_settings_under_a_name_are_refused(bench: Runner) -> None:
    bench("default", "--task", "mask", "--fold", "0")
    with pytest.raises(UserError, match="loss"):
        bench("default", "--task", "mask", "--fold", "0", "--loss", "focal")


def test_there_is_no_table_yet(tmp_path: Path) -> None:
    refusal(run.main, ["--run-dir", tmp_path], "no out of fold predictions with labels in it")


def test_eval_is_scored_when_asked_for(bench: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("evaluation.results.find_eval_labels", lambda *_: pytest.fail("eval labels were read"))
        bench("default", "--task", "mask", "--fold", "0")
    table = bench("default", "--task", "mask", "--fold", "0", "--final")
    assert "**mask, eval, scored at the end and never used to choose, fold0**" in table


def test_final_takes_no_grid(tmp_path: Path) -> None:
    refusal(run.main, ["loss", "--final", "--run-dir", tmp_path], "--final loss", "allowed are", "focal")
