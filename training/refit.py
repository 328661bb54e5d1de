"""Settings of the refit: one model of a task, trained on all people as its folds were.

A model of all people has nobody to be scored on, so its settings and number of epochs are those that the folds were
scored with, and their scores stand for it.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from core import files
from core.cli import UserError, name_some
from storage.run_dir import DONE, REFIT, finished_folds, first_difference, is_done, read_config_of
from training.config import RUNTIME_FIELDS, Config, from_dict, resolve

SCORES = "those of the folds, out of fold: a model of all people has nobody to be scored on"
"""Entry `scores` of DONE."""
OWN = ("epochs", "keep")
"""Settings that differ from those of the folds."""


def refit_config(run_dir: Path, task: str, typed: Mapping[str, Any], profile: str | None = None) -> Config:
    """Return the settings of the folds, with the epochs that they kept, and the runtime settings that were typed.

    UserError if a fold is not trained, or not as the others, or if a typed setting or profile is not that of the folds.
    """
    folds = _all_folds(run_dir / task)
    config = _settings_of(folds[0], task)
    for fold_dir in folds[1:]:
        _refuse_difference(_settings_of(fold_dir, task).learned(), config.learned(), f"{fold_dir}: trained with", folds)
    asked = {**config.learned(), **{name: value for name, value in typed.items() if name not in RUNTIME_FIELDS}}
    if profile is not None:
        # Where ages are ranges, the folds learned classes instead of what the settings say.
        asked = {**resolve(task, profile, typed).learned(), "head": typed.get("head", config.head)}
    _refuse_difference(from_dict(asked).learned(), config.learned(), f"--refit: {task} would be trained with", folds)
    runtime = {name: value for name, value in typed.items() if name in RUNTIME_FIELDS}
    return replace(config, epochs=_kept_epochs(folds), keep="last", **runtime)


def refuse_other_data(run_dir: Path, task: str, identity: Mapping[str, Any]) -> None:
    """UserError if the refit of this identity would learn from other crops, labels or folds than the folds did."""
    fold_dir = finished_folds(run_dir / task)[0]
    before = read_config_of(fold_dir, task)
    own = {"fold": identity["fold"], "settings": identity["settings"]}
    difference = first_difference({**before, **own}, {"backbone_file": before.get("backbone_file"), **identity})
    if difference:
        name, before, now = difference
        raise UserError(f"--refit: {fold_dir} was trained with {name} {before!r}, now {now!r}; put the data back")


def usable_refit(run_dir: Path, task: str) -> Path | None:
    """Return the folder of a finished refit; None if there is none. UserError if the folds were trained anew since."""
    folder = run_dir / task / REFIT
    if not is_done(folder):
        return None
    folds = finished_folds(run_dir / task)
    if not folds:
        return folder
    of_folds, of_refit = _identity(folds[0], task), _identity(folder, task)
    own = {name: of_refit["settings"][name] for name in OWN}
    expected = {**of_folds, "fold": of_refit["fold"], "settings": {**of_folds["settings"], **own}}
    difference = first_difference(expected, of_refit)
    if difference:
        name, before, now = difference
        raise UserError(
            f"{folder}: trained with {name} {now!r}, the folds with {before!r}; make it anew: "
            f"train.py --task {task} --refit --overwrite, or use the folds: --folds all"
        )
    return folder


def _all_folds(task_dir: Path) -> list[Path]:
    """Return the folders of all folds. UserError naming those that are not trained."""
    folds = finished_folds(task_dir)
    total = _settings_of(folds[0], task_dir.name).folds if folds else 1
    lacking = sorted(set(range(total)) - {int(folder.name[4:]) for folder in folds})
    if lacking:
        names = name_some([f"fold{fold}" for fold in lacking]) if folds else "the folds"
        raise UserError(f"--refit: {task_dir}: {names} not trained; run train.py --task {task_dir.name} first")
    return folds


def _settings_of(fold_dir: Path, task: str) -> Config:
    return from_dict(read_config_of(fold_dir, task)["settings"])


def _identity(fold_dir: Path, task: str) -> dict[str, Any]:
    """Return config.json with all settings: those that are newer than the file have their defaults."""
    config = read_config_of(fold_dir, task)
    return {**config, "settings": from_dict(config["settings"]).learned()}


def _refuse_difference(found: Mapping[str, Any], of_folds: Mapping[str, Any], what: str, folds: Sequence[Path]) -> None:
    for name, value in found.items():
        if value != of_folds[name]:
            raise UserError(
                f"{what} {name} {value!r}, {folds[0]} was with {of_folds[name]!r}; --refit takes the folds' settings"
            )


def _kept_epochs(folds: Sequence[Path]) -> int:
    """Return the median of the epochs whose weights the folds kept, the larger of the two in the middle."""
    kept = [files.read_json(folder / DONE, {"best_epoch": int})["best_epoch"] for folder in folds]
    return max(1, statistics.median_high(kept))
