"""Settings: which layer wins, what is refused, and the flags made from the fields."""

import argparse
from dataclasses import fields
from types import MappingProxyType
from typing import Any

import pytest

from core.cli import UserError, command_parser
from core.tasks import task_names
from dataset import AUGMENTATIONS
from loss import LOSSES
from training import config
from training.config import (
    PROFILES,
    RUNTIME_FIELDS,
    TASK_SETTINGS,
    Config,
    add_flags,
    from_dict,
    resolve,
    typed_settings,
)


def typed(*argv: str) -> dict[str, Any]:
    parser = command_parser("doc")
    add_flags(parser)
    return typed_settings(parser.parse_args(argv))


def flag_of(name: str) -> str:
    return "--" + name.replace("_", "-")


def test_later_layers_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "TASK_SETTINGS", {"age": {"lr": 0.1, "epochs": 11, "patience": 12, "seed": 13}})
    profile = {config.ANY_TASK: {"epochs": 21, "patience": 22, "seed": 23}, "age": {"patience": 32, "seed": 33}}
    monkeypatch.setattr(config, "PROFILES", {"p": profile})
    found = resolve("age", "p", {"seed": 43})
    assert found.warmup == Config().warmup
    assert (found.lr, found.epochs, found.patience, found.seed) == (0.1, 21, 32, 43)
    other = resolve("mask", "p", {})
    assert (other.lr, other.epochs, other.patience, other.seed) == (Config().lr, 21, 22, 23)


def test_a_backbone_brings_settings_that_all_others_win_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "BACKBONE_SETTINGS", {"resnet18": {"lr": 0.1, "image_size": 64, "seed": 3}})
    monkeypatch.setattr(config, "TASK_SETTINGS", {"age": {"backbone": "resnet18", "seed": 13}})
    found = resolve("age", "quick", {"image_size": 32})
    assert (found.backbone, found.lr, found.image_size, found.seed) == ("resnet18", 0.1, 32, 13)
    # Typed away, it takes its settings with it.
    assert resolve("age", "quick", {"backbone": "resnet34"}).lr == Config().lr
    assert resolve("mask", "quick", {"backbone": "resnet18"}).lr == 0.1


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("task", [*task_names(), "glasses"])
def test_every_profile_fits_every_task(profile: str, task: str) -> None:
    assert isinstance(resolve(task, profile, {}), Config)


@pytest.mark.parametrize("profile", PROFILES)
def test_tasks_of_a_run_share_folds_and_age_edges(profile: str) -> None:
    found = {(c.folds, c.fold_seed, c.age_edges) for c in (resolve(task, profile, {}) for task in task_names())}
    assert len(found) == 1


def test_the_tables_cannot_be_changed() -> None:
    assert isinstance(TASK_SETTINGS, MappingProxyType)
    assert isinstance(PROFILES, MappingProxyType)


def test_unknown_names() -> None:
    with pytest.raises(UserError, match=r"profile 'huge' is unknown; the profiles are smoke, quick, full$"):
        resolve("age", "huge", {})
    with pytest.raises(UserError, match=r"setting 'learning_rate' is unknown; the settings are backbone, pretrained"):
        from_dict({"learning_rate": 1.0})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 1.0), ("epochs", "1"), ("epochs", True), ("amp", 1), ("lr", "0.1"), ("lr", None), ("loss", 3),
        ("age_edges", [25]), ("age_edges", [25, 40, 60]), ("age_edges", [25.0, 40]), ("age_edges", "25 40"),
    ],
)  # fmt: skip
def test_wrong_types(name: str, value: object) -> None:
    with pytest.raises(UserError, match=f"setting {name}: .* is not a "):
        from_dict({name: value})


def test_json_types_are_taken() -> None:
    found = from_dict({"lr": 1, "age_edges": [30, 60]})
    assert (found.lr, type(found.lr), found.age_edges) == (1.0, float, (30, 60))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0), ("patience", 0), ("batch_size", 0), ("accumulate", 0), ("photos_per_person", -1), ("seed", -1),
        ("fold_seed", -1), ("weight_decay", -0.1), ("grad_clip", -1.0), ("drop_rate", 1.1), ("warmup", -0.1),
        ("label_smoothing", 2.0), ("image_size", 8), ("folds", 1), ("lr", 0.0), ("lr", float("nan")),
        ("focal_gamma", -1.0), ("workers", -2), ("weight_decay", float("inf")),
    ],
)  # fmt: skip
def test_out_of_range(name: str, value: object) -> None:
    with pytest.raises(UserError, match=rf"{flag_of(name)} .*: allowed is .* to "):
        from_dict({name: value})


@pytest.mark.parametrize("edges", [(40, 25), (30, 30)])
def test_age_edges_must_rise(edges: tuple[int, int]) -> None:
    with pytest.raises(UserError, match=f"--age-edges {edges[0]} {edges[1]}: the first must be below the second"):
        Config(age_edges=edges)


@pytest.mark.parametrize(("name", "allowed"), [("tta", "none, flip"), ("schedule", "cosine, constant")])
def test_choices(name: str, allowed: str) -> None:
    with pytest.raises(UserError, match=f"{flag_of(name)} 'maybe': allowed is {allowed}"):
        from_dict({name: "maybe"})


def words_of(value: object, flag: str) -> list[str]:
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-")]
    return [flag, *(map(str, value) if isinstance(value, tuple) else [str(value)])]


@pytest.mark.parametrize("setting", fields(Config), ids=lambda setting: setting.name)
def test_every_field_has_a_flag_with_help(setting: Any) -> None:
    flag = flag_of(setting.name)
    assert typed(*words_of(setting.default, flag)) == {setting.name: setting.default}
    parser = argparse.ArgumentParser()
    add_flags(parser)
    action = next(action for action in parser._actions if flag in action.option_strings)
    assert setting.metadata["help"] in action.help


@pytest.mark.parametrize(
    ("flag", "names"),
    [("--loss", {loss.name for loss in LOSSES}), ("--augment", {*AUGMENTATIONS})],
)
def test_help_of_a_flag_names_all_rows_of_its_table(flag: str, names: set[str]) -> None:
    parser = command_parser("doc")
    add_flags(parser)
    text = next(action.help for action in parser._actions if flag in action.option_strings)
    named = text.partition(": ")[2].partition(" (default")[0]
    assert set(named.split(", ")) == names


def test_help_shows_defaults_as_they_are_typed() -> None:
    parser = command_parser("doc")
    for flag, default in {"edges": (25, 40), "kinds": ["a", "50%"], "none": (), "empty": "", "zero": 0}.items():
        parser.add_argument(f"--{flag}", default=default, help=f"{flag} of it")
    text = " ".join(parser.format_help().split())
    assert "edges of it (default: 25 40) --kinds" in text
    assert "kinds of it (default: a 50%) --none" in text
    assert "none of it --empty EMPTY empty of it --zero" in text
    assert text.endswith("zero of it (default: 0)")


def test_a_flag_that_is_not_typed_leaves_no_trace() -> None:
    assert typed() == {}
    assert typed("--no-amp", "--age-edges", "30", "60") == {"amp": False, "age_edges": (30, 60)}


@pytest.mark.parametrize("argv", [["--epochs", "x"], ["--age-edges", "30"], ["--epoch", "3"], ["--colour", "red"]])
def test_flags_that_do_not_parse(argv: list[str]) -> None:
    with pytest.raises(UserError, match=r"--help$"):
        typed(*argv)


def test_learned_settings_leave_out_the_place() -> None:
    learned = Config(device="cuda:1", workers=7, tracker="none").learned()
    assert set(learned) == {setting.name for setting in fields(Config)} - set(RUNTIME_FIELDS)
    assert set(RUNTIME_FIELDS) == {"device", "workers", "tracker", "weights_licence"}
    assert learned["age_edges"] == [25, 40]
    assert learned == Config().learned()
    assert from_dict(learned) == Config()


@pytest.mark.parametrize(
    ("typed", "share"),
    [
        ({}, 0.0),
        ({"lr": 0.1}, 0.0),
        ({"loss": "focal"}, 0.5),
        ({"class_weights": "balanced"}, 0.5),
        ({"label_smoothing": 0.2, "class_share": 0.3}, 0.3),
    ],
)
def test_a_typed_loss_over_classes_has_a_share_of_that_of_age(typed: dict, share: float) -> None:
    assert resolve("age", "quick", typed).class_share == share
