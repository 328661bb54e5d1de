"""The settings that can be compared, in grids that each answer one question.

A setting says only how it differs, with names from training/config.py: for all its tasks, or for one. To try something
new, add a row to a grid.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from core.cli import UserError
from core.cropping import FACE_WINDOW

Values = Mapping[str, Any]
ALL = "*"
"""All tasks of a setting."""
DEFAULT = "default"
PLAIN: Values = {
    **{"backbone": "tf_efficientnet_lite0", "image_size": 112, "window": FACE_WINDOW, "drawn": 0, "ridge_share": 0.0},
    **{"head": "classes", "loss": "cross_entropy", "class_weights": "none", "mixup": 0.0, "drop_rate": 0.2},
    **{"augment": "flip", "tta": "none", "keep": "best", "validate_every": 1, "patience": 10**6},
    **{"lr": 1e-3, "backbone_lr": 1.0, "weight_decay": 0.02, "warmup": 0.1, "schedule": "cosine"},
    **{"grad_clip": 1.0, "accumulate": 1, "batch_size": 32, "epochs": 6, "photos_per_person": 3, "epoch_photos": 0},
}
"""Nothing tuned. Every setting that changes what is learned is named, so that no tuned default enters a baseline."""
SHARED: Values = {"head": "values", "class_share": 0.5, "loss": "label_smoothing", "label_smoothing": 0.05}

GRIDS: Mapping[str, Mapping[str, Mapping[str, Values]]] = {
    "baselines": {"plain": {ALL: PLAIN}},
    "age": {
        "age_classes": {"age": {"head": "classes"}},
        "age_years": {"age": {"head": "values", "class_share": 0.0}},
        "age_years_shared": {"age": SHARED},
        "age_years_summed": {"age": {"head": "values", "class_share": 1.0}},
        "age_years_narrow": {"age": {"head": "values", "value_sigma": 1.5}},
        "age_years_wide": {"age": {"head": "values", "value_sigma": 6.0}},
    },
    # Of age these are half of the loss, where the default has none of its kind: compare with age_years_shared.
    "loss": {
        "cross_entropy": {ALL: {"loss": "cross_entropy"}},
        "label_smoothing": {ALL: {"loss": "label_smoothing", "label_smoothing": 0.15}},
        "focal": {ALL: {"loss": "focal"}},
        "soft_f1": {ALL: {"loss": "f1"}},
        "balanced": {ALL: {"class_weights": "balanced"}},
    },
    "training": {
        "mixup_0": {ALL: {"mixup": 0.0}},
        "tta_none": {ALL: {"tta": "none"}},
        "dropout_3": {ALL: {"drop_rate": 0.3}},
        "dropout_5": {ALL: {"drop_rate": 0.5}},
        "dropout_7": {ALL: {"drop_rate": 0.7}},
        "lr_low": {ALL: {"lr": 5e-4}},
        "lr_high": {ALL: {"lr": 5e-3}},
        "decay_high": {ALL: {"weight_decay": 0.1}},
        "warmup_long": {ALL: {"warmup": 0.33}},
        "batch_32": {ALL: {"batch_size": 32}},
        "batch_64": {ALL: {"batch_size": 64}},
        "photos_3": {ALL: {"photos_per_person": 3}},
    },
}
SETTINGS = {DEFAULT: {}} | {name: setting for grid in GRIDS.values() for name, setting in grid.items()}


def chosen_settings(names: Sequence[str]) -> list[str]:
    """The settings of these names and of grids of these names, each once. UserError lists what there is."""
    known = {name: (DEFAULT, *grid) for name, grid in GRIDS.items()} | {name: (name,) for name in SETTINGS}
    for name in names:
        if name not in known:
            raise UserError(f"experiment {name!r} is neither a grid nor a setting; there are {', '.join(known)}")
    return list(dict.fromkeys(setting for name in names for setting in known[name]))


def settings_of(name: str, task: str, others: Values, seed: int) -> Values:
    """Return what to give to train.py for a setting: `others` below its own."""
    return {**others, **SETTINGS[name].get(ALL, {}), **SETTINGS[name].get(task, {}), "seed": seed}
