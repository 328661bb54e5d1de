"""Every training setting, once: defaults, the tasks' own values, named profiles, and the flags made from them.

Later wins: defaults < task < profile < what the user typed.
"""

import argparse
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from typing import Any, get_args, get_origin

from core.cli import UserError

PLACE_FIELDS = ("device", "workers", "tracker")
"""Settings that say where a training runs, not what it learns; a run may be continued with other values."""


def _setting(default: Any, text: str, choices: Sequence[str] = ()) -> Any:
    return field(default=default, metadata={"help": text, "choices": choices})


@dataclass(frozen=True)
class Config:
    """The settings of one training. All go into its config.json."""

    backbone: str = _setting("tf_efficientnet_lite0", "any timm model; the defaults' weights come as packages")
    pretrained: bool = _setting(True, "start from weights that have learned from other photos")
    drop_rate: float = _setting(0.2, "dropout before the head, 0 to 1")
    image_size: int = _setting(112, "height of the network's input in pixels; the width follows the crops' aspect")
    head: str = _setting(
        "classes",
        "classes: one output per class; values: one per value (each year of age), summed to classes",
        ("classes", "values"),
    )
    value_sigma: float = _setting(3.0, "head values: standard deviation of the softened target, in the value's unit")
    class_share: float = _setting(
        0.5,
        "head values: share of the loss that is over classes, 0 to 1; age has 0, and 0.5 with a flag of --loss's kind",
    )
    age_edges: tuple[int, int] = _setting((25, 40), "first age of the middle and of the old group")
    folds: int = _setting(5, "number of folds")
    fold_seed: int = _setting(0, "seed of the split into folds")
    seed: int = _setting(0, "seed of training: weights of the head, order, augmentation, dropout")
    epochs: int = _setting(8, "epochs at most; with a frozen backbone each shows every kept view of a photo once")
    patience: int = _setting(4, "epochs without a better held-out macro-F1 before training stops")
    keep: str = _setting(
        "best", "weights to keep: of the epoch with the best held-out macro-F1, or the last", ("best", "last")
    )
    validate_every: int = _setting(1, "epochs between scores on the held-out people; the last epoch is always scored")
    photos_per_person: int = _setting(0, "photos of a person shown per epoch, spread over the task's classes; 0 = all")
    batch_size: int = _setting(32, "photos per step")
    accumulate: int = _setting(1, "steps whose gradients are added up before the weights move")
    lr: float = _setting(1e-3, "peak learning rate")
    backbone_lr: float = _setting(
        1.0, "share of --lr that the backbone has, 0 to 1; the head has all of it; 0 = frozen"
    )
    weight_decay: float = _setting(0.02, "decoupled weight decay of AdamW")
    warmup: float = _setting(0.1, "share of all steps in which the learning rate rises; then it falls as a cosine")
    schedule: str = _setting(
        "cosine", "learning rate after the warmup: falls as a cosine, or stays", ("cosine", "constant")
    )
    grad_clip: float = _setting(1.0, "largest gradient norm; 0 = no clipping")
    loss: str = _setting("cross_entropy", "a loss of loss.py: cross_entropy, focal, label_smoothing, f1")
    class_weights: str = _setting(
        "none", "none; balanced, by the inverse of their number; or a number for each class, such as .1,.1,.8"
    )
    focal_gamma: float = _setting(2.0, "focal loss: how much easy photos count less")
    label_smoothing: float = _setting(0.1, "label_smoothing loss: share given to all classes alike, 0 to 1")
    augment: str = _setting("standard", "an augmentation of dataset.py: none, flip, standard, strong")
    views: int = _setting(
        2, "frozen backbone: augmented views of each photo that are kept, beside itself and its mirror image"
    )
    mixup: float = _setting(0.0, "blend photos in pairs, with shares from Beta(mixup, mixup); 0 = never")
    tta: str = _setting("flip", "flip averages the logits of a photo and its mirror image", ("none", "flip"))
    amp: bool = _setting(True, "mixed precision on a GPU, and for frozen backbones on a CPU that has bfloat16")
    channels_last: bool = _setting(True, "memory format that convolutions run faster in")
    device: str = _setting("auto", "auto, cpu, cuda, cuda:1, mps ...")
    workers: int = _setting(-1, "processes that load photos; -1 = as many as suit the machine")
    tracker: str = _setting(
        "auto", "learning curves: auto (TensorBoard if installed), none, tensorboard, wandb, mlflow, or module:function"
    )

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            if not low <= getattr(self, name) <= high:
                raise UserError(f"--{_flag(name)} {getattr(self, name)}: allowed is {low} to {high}")
        if self.age_edges[0] >= self.age_edges[1]:
            raise UserError(f"--age-edges {' '.join(map(str, self.age_edges))}: the first must be below the second")
        for setting in fields(self):
            choices = setting.metadata["choices"]
            if choices and getattr(self, setting.name) not in choices:
                raise UserError(
                    f"--{_flag(setting.name)} {getattr(self, setting.name)!r}: allowed is {', '.join(choices)}"
                )

    def learned(self) -> dict[str, Any]:
        """The settings that decide what is learned, as JSON has them: all but those of PLACE_FIELDS."""
        return {name: _plain(value) for name, value in asdict(self).items() if name not in PLACE_FIELDS}


_OF_CLASS_LOSS = frozenset({"loss", "class_weights", "focal_gamma", "label_smoothing"})
_UNBOUNDED = 10**9
_RANGES = (
    *((name, 1, _UNBOUNDED) for name in ("epochs", "patience", "validate_every", "batch_size", "accumulate")),
    *(
        (name, 0, _UNBOUNDED)
        for name in ("photos_per_person", "seed", "fold_seed", "weight_decay", "grad_clip", "views")
    ),
    *((name, 0, 1) for name in ("drop_rate", "warmup", "label_smoothing", "class_share", "backbone_lr")),
    *((name, 0.01, 1000) for name in ("value_sigma",)),
    *((name, 0, 100) for name in ("mixup",)),
    *(("image_size", 16, 4096), ("folds", 2, 100), ("lr", 1e-8, 100), ("focal_gamma", 0, 100), ("workers", -1, 1024)),
)

BACKBONE_SETTINGS: Mapping[str, Mapping[str, Any]] = types.MappingProxyType({
    # The size of the faces it has learned from. What it knows is worth more than what few people teach: its own weights
    # move little, its head fast.
    "face_resnet29": {"image_size": 150, "lr": 5e-3, "backbone_lr": 0.01, "epochs": 6},
    # What both its networks say is computed once for all folds, and heads learn from that in seconds.
    "face_pair": {"image_size": 150, "lr": 2e-3, "backbone_lr": 0.0, "epochs": 3},
})  # fmt: skip
TASK_SETTINGS: Mapping[str, Mapping[str, Any]] = types.MappingProxyType({
    # Small batches: with few people, more steps are what the network lacks.
    "mask": {"epochs": 4, "patience": 2, "batch_size": 16},
    "gender": {"backbone": "face_pair", "drop_rate": 0.7, "mixup": 0.4, "keep": "last"},
    # Exact years, softened: labels are noisy, and many people are close to an edge between groups.
    "age": {
        **{"backbone": "face_pair", "drop_rate": 0.7, "mixup": 0.4, "keep": "last"},
        **{"head": "values", "class_share": 0.0},
    },
})  # fmt: skip

ANY_TASK = "*"
PROFILES: Mapping[str, Mapping[str, Mapping[str, Any]]] = types.MappingProxyType({
    # Seconds: shows that everything runs; its scores mean nothing.
    "smoke": {
        ANY_TASK: {"folds": 3, "image_size": 48, "epochs": 1, "photos_per_person": 3, "views": 0, "workers": 0},
    },
    # Minutes on two CPU cores.
    "quick": {
        ANY_TASK: {"validate_every": 2},
        "mask": {"epochs": 3, "photos_per_person": 3},
    },
    # A GPU, or an hour of CPU, for thousands of people: with so many, augmented views bring nothing.
    "full": {
        ANY_TASK: {"validate_every": 2, "views": 0},
        "mask": {"epochs": 3, "photos_per_person": 3},
    },
})  # fmt: skip


def resolve(task: str, profile: str, typed: Mapping[str, Any]) -> Config:
    """The settings of a task under a profile, with what the user typed on top. Unknown names are errors."""
    if profile not in PROFILES:
        raise UserError(f"profile {profile!r} is unknown; the profiles are {', '.join(PROFILES)}")
    row = PROFILES[profile]
    # Who types a loss over classes wants one, also where a task is usually learned from its values alone.
    implied = {"class_share": Config.class_share} if typed.keys() & _OF_CLASS_LOSS else {}
    layers = (TASK_SETTINGS.get(task, {}), row.get(ANY_TASK, {}), row.get(task, {}), implied, typed)
    chosen = {name: value for layer in layers for name, value in layer.items()}
    return from_dict({**BACKBONE_SETTINGS.get(chosen.get("backbone", Config.backbone), {}), **chosen})


def from_dict(values: Mapping[str, Any]) -> Config:
    """A Config from plain values, as in config.json; unknown names and wrong types are errors."""
    known = {setting.name: setting for setting in fields(Config)}
    for name in values:
        if name not in known:
            raise UserError(f"setting {name!r} is unknown; the settings are {', '.join(known)}")
    return Config(**{name: _checked(known[name], value) for name, value in values.items()})


def _checked(setting: Field, value: Any) -> Any:
    if get_origin(setting.type) is tuple:
        if isinstance(value, (list, tuple)) and len(value) == len(get_args(setting.type)) and _all_int(value):
            return tuple(value)
    elif setting.type is float and type(value) is int:
        return float(value)
    elif type(value) is setting.type:
        return value
    raise UserError(f"setting {setting.name}: {value!r} is not a {_type_name(setting)}")


def _all_int(values: Sequence[Any]) -> bool:
    return all(type(value) is int for value in values)


def _type_name(setting: Field) -> str:
    return (
        getattr(setting.type, "__name__", str(setting.type)) if get_origin(setting.type) is None else str(setting.type)
    )


def add_flags(parser: argparse.ArgumentParser) -> None:
    """One flag per setting. A flag not typed leaves no trace, so that the layers below keep their say."""
    group = parser.add_argument_group("settings (defaults < task < profile < flag)")
    for setting in fields(Config):
        if setting.default is MISSING:
            raise TypeError(f"setting {setting.name} has no default")
        text = f"{setting.metadata['help']} (default: {_plain(setting.default)})"
        group.add_argument(f"--{_flag(setting.name)}", default=argparse.SUPPRESS, help=text, **_argument_kind(setting))


def typed_settings(args: argparse.Namespace) -> dict[str, Any]:
    """What the user typed of the flags that `add_flags` made."""
    names = {setting.name for setting in fields(Config)}
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in vars(args).items() if name in names
    }


def _argument_kind(setting: Field) -> dict[str, Any]:
    if setting.type is bool:
        return {"action": argparse.BooleanOptionalAction}
    if get_origin(setting.type) is tuple:
        kinds = get_args(setting.type)
        return {"type": kinds[0], "nargs": len(kinds), "metavar": "N"}
    return {"type": setting.type, "metavar": setting.type.__name__.upper()}


def _flag(name: str) -> str:
    return name.replace("_", "-")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
