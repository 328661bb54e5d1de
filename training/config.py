"""Every training setting, once: defaults, the tasks' own values, named profiles, and the flags made from them.

Later wins: defaults < task < profile < what the user typed. Imports no torch, so that commands answer --help at once.
"""

import argparse
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from typing import Any, get_args, get_origin

from backbones.licences import ANY, OPEN
from core.cli import UserError
from core.cropping import FACE_WINDOW, WIDE_WINDOW, WINDOWS
from core.tasks import task_names

RUNTIME_FIELDS = ("device", "workers", "tracker", "weights_licence")
"""Settings of where a training runs and what is let in, not of what it learns; a run may be continued with others."""
_UNBOUNDED = 10**9


def _setting(
    default: Any,
    text: str,
    *,
    choices: Sequence[str] = (),
    low: float | None = None,
    high: float = _UNBOUNDED,
    of_class_loss: bool = False,
) -> Any:
    """A field: its default, the help of its flag, and the values allowed, as names or as a range of numbers.

    `of_class_loss`: typing it asks for a loss over classes, also where a task is usually learned from its values alone.
    """
    allowed = {"choices": choices, "range": None if low is None else (low, high)}
    return field(default=default, metadata={"help": text, "of_class_loss": of_class_loss, **allowed})


@dataclass(frozen=True)
class Config:
    """Settings of one training. All go into its config.json."""

    backbone: str = _setting(
        "tf_efficientnet_lite0", "any name timm.create_model takes, or several frozen ones: A+B; defaults are packaged"
    )
    pretrained: bool = _setting(True, "start from pretrained weights")
    weights_licence: str = _setting(
        ANY, "open refuses weights learned from photos for research alone, or not freely licensed", choices=(ANY, OPEN)
    )
    drop_rate: float = _setting(0.2, "dropout before the head, 0 to 1", low=0, high=1)
    image_size: int = _setting(
        112, "height of the network's input in pixels; the width follows the window's aspect", low=16, high=4096
    )
    window: str = _setting(
        FACE_WINDOW, "part of the crop that is shown: the face, or wide, with chin and surroundings", choices=WINDOWS
    )
    head: str = _setting(
        "classes",
        "classes: one output per class; values: one per value (each year of age), summed to classes",
        choices=("classes", "values"),
    )
    value_sigma: float = _setting(
        3.0, "head values: standard deviation of the softened target, in the value's unit", low=0.01, high=1000
    )
    class_share: float = _setting(
        0.5, "head values: weight of the loss over classes, 0 to 1; 0.5 if a flag of the loss is given", low=0, high=1
    )
    age_edges: tuple[int, int] = _setting((25, 40), "first age of the middle and of the old group")
    folds: int = _setting(5, "number of folds", low=2, high=100)
    fold_seed: int = _setting(0, "seed of the split into folds", low=0)
    seed: int = _setting(0, "seed of training: weights of the head, order, augmentation, dropout", low=0)
    epochs: int = _setting(
        8, "epochs at most; with a frozen backbone each shows every cached view of a photo once", low=1
    )
    patience: int = _setting(4, "scored epochs without a better out-of-fold macro-F1 before training stops", low=1)
    keep: str = _setting(
        "best",
        "weights to keep: of the epoch with the best out-of-fold macro-F1, or the last",
        choices=("best", "last"),
    )
    validate_every: int = _setting(1, "epochs between out-of-fold scores; the last epoch is always scored", low=1)
    photos_per_person: int = _setting(
        0, "photos of a person shown per epoch, spread over the task's classes; 0 = all", low=0
    )
    epoch_photos: int = _setting(0, "photos per epoch at most, of people drawn anew for each; 0 = no limit", low=0)
    batch_size: int = _setting(32, "photos per step", low=1)
    accumulate: int = _setting(1, "steps whose gradients are added up before the weights move", low=1)
    lr: float = _setting(1e-3, "peak learning rate", low=1e-8, high=100)
    backbone_lr: float = _setting(1.0, "learning-rate multiplier of the backbone, 0 to 1; 0 freezes it", low=0, high=1)
    weight_decay: float = _setting(0.02, "decoupled weight decay of AdamW", low=0)
    warmup: float = _setting(
        0.1, "fraction of all steps in which the learning rate rises, 0 to 1; then the schedule begins", low=0, high=1
    )
    schedule: str = _setting(
        "cosine", "learning rate after the warmup: falls as a cosine, or stays", choices=("cosine", "constant")
    )
    grad_clip: float = _setting(1.0, "largest gradient norm; 0 = no clipping", low=0)
    loss: str = _setting(
        "cross_entropy", "a loss of loss.py: cross_entropy, focal, label_smoothing, f1", of_class_loss=True
    )
    class_weights: str = _setting(
        "none",
        "none; balanced, by the inverse of their number; or a number for each class, such as .1,.1,.8",
        of_class_loss=True,
    )
    focal_gamma: float = _setting(
        2.0, "focal loss: exponent that weakens easy photos", low=0, high=100, of_class_loss=True
    )
    label_smoothing: float = _setting(
        0.1, "label_smoothing loss: probability spread over all classes, 0 to 1", low=0, high=1, of_class_loss=True
    )
    augment: str = _setting("standard", "an augmentation of dataset.py: none, flip, standard, strong")
    drawn: int = _setting(
        0, "drawings of masks and other things on each bare training photo, to learn from as well", low=0, high=100
    )
    views: int = _setting(
        2, "frozen backbone: augmented views of each photo that are cached, beside the plain and mirrored one", low=0
    )
    ridge_share: float = _setting(
        0.0, "frozen backbone: weight of a second head, a ridge regression, in the prediction, 0 to 1", low=0, high=1
    )
    mixup: float = _setting(
        0.0, "blend photos in pairs, with weights from Beta(mixup, mixup); 0 = never", low=0, high=100
    )
    tta: str = _setting("flip", "flip averages the logits of a photo and its mirror image", choices=("none", "flip"))
    amp: bool = _setting(True, "mixed precision on a GPU, and for frozen backbones on a CPU that has bfloat16")
    channels_last: bool = _setting(True, "memory format in which convolutions are faster")
    device: str = _setting("auto", "auto, cpu, cuda, cuda:1, mps ...")
    workers: int = _setting(-1, "processes that load photos; -1 = as many as suit the machine", low=-1, high=1024)
    tracker: str = _setting(
        "auto", "learning curves: auto (TensorBoard if installed), none, tensorboard, wandb, mlflow, or module:function"
    )

    def __post_init__(self) -> None:
        for setting in fields(self):
            value, flag = getattr(self, setting.name), f"--{_flag(setting.name)}"
            choices, allowed = setting.metadata["choices"], setting.metadata["range"]
            if allowed and not allowed[0] <= value <= allowed[1]:
                raise UserError(f"{flag} {value}: allowed is {allowed[0]} to {allowed[1]}")
            if choices and value not in choices:
                raise UserError(f"{flag} {value!r}: allowed is {', '.join(choices)}")
        if self.age_edges[0] >= self.age_edges[1]:
            raise UserError(f"--age-edges {' '.join(map(str, self.age_edges))}: the first must be below the second")

    def learned(self) -> dict[str, Any]:
        """Return the settings that decide what is learned, as JSON has them: all but RUNTIME_FIELDS."""
        return {name: _plain(value) for name, value in asdict(self).items() if name not in RUNTIME_FIELDS}


FROZEN_SETTINGS: Mapping[str, Any] = types.MappingProxyType({"ridge_share": 0.3})
"""Settings that a frozen backbone brings: better probabilities for a second of work."""
BACKBONE_SETTINGS: Mapping[str, Mapping[str, Any]] = types.MappingProxyType({
    # The image size of its pretraining is worth more than what few people teach: its weights move little.
    "face_resnet29": {"image_size": 150, "lr": 5e-3, "backbone_lr": 0.01, "epochs": 6},
    # Its features are computed once for all folds, and heads learn from them in seconds.
    "face_pair": {"image_size": 150, "lr": 2e-3, "backbone_lr": 0.0, "epochs": 3},
    "face_gender": {"image_size": 150, "lr": 2e-3, "backbone_lr": 0.0, "epochs": 3},
    "sface_alone": {"image_size": 150, "lr": 2e-3, "backbone_lr": 0.0, "epochs": 3},
})  # fmt: skip
SIDE_BY_SIDE = BACKBONE_SETTINGS["face_pair"]
"""Settings that several networks side by side bring."""
OF_FACES = "face_pair+face_gender"
"""One for gender and age, so that features are computed once for both."""
TASK_SETTINGS: Mapping[str, Mapping[str, Any]] = types.MappingProxyType({
    # Chin and neck tell a mask below the chin from none. Real masks are worn in more ways than in training photos:
    # hence drawings, and labels that are not quite sure. An epoch shows each class as often; in life masks are worn
    # wrongly less often. Small batches: with few people, steps are what is lacking.
    "mask": {
        **{"window": WIDE_WINDOW, "drawn": 9, "loss": "label_smoothing", "label_smoothing": 0.05},
        **{"class_weights": "1,0.5,1"},
        **{"epochs": 4, "patience": 2, "batch_size": 16},
    },
    "gender": {"backbone": OF_FACES, "drop_rate": 0.7, "mixup": 0.4, "keep": "last", "ridge_share": 0.5},
    # Exact years, softened: labels are noisy, and many people are close to an edge between groups.
    "age": {
        **{"backbone": OF_FACES, "drop_rate": 0.7, "mixup": 0.4, "keep": "last"},
        **{"head": "values", "class_share": 0.0, "ridge_share": 0.5},
    },
})  # fmt: skip

ANY_TASK = "*"
PROFILES: Mapping[str, Mapping[str, Mapping[str, Any]]] = types.MappingProxyType({
    # Seconds: shows that everything runs; its scores mean nothing. Networks side by side would enlarge small images.
    "smoke": {
        ANY_TASK: {"folds": 3, "image_size": 48, "epochs": 1, "photos_per_person": 3, "views": 0, "workers": 0}
        | {"drawn": 0},
        **{task: {"backbone": "face_pair"} for task in ("gender", "age")},
    },
    # Minutes on two CPU cores. The limit of an epoch is reached from 1,300 people on.
    "quick": {
        ANY_TASK: {"validate_every": 2},
        "mask": {"epochs": 3, "photos_per_person": 6, "epoch_photos": 8000},
    },
    # A GPU, or hours of CPU, for thousands of people: with so many, augmented views bring nothing.
    "full": {
        ANY_TASK: {"validate_every": 2, "views": 0},
        "mask": {"epochs": 3, "photos_per_person": 6, "drawn": 3},
    },
})  # fmt: skip


def resolve(task: str, profile: str, typed: Mapping[str, Any]) -> Config:
    """Return the settings of a task under a profile, with what the user typed on top. Unknown names are errors."""
    if profile not in PROFILES:
        raise UserError(f"profile {profile!r} is unknown; the profiles are {', '.join(PROFILES)}")
    row = PROFILES[profile]
    asked = any(setting.metadata["of_class_loss"] for setting in fields(Config) if setting.name in typed)
    implied = {"class_share": Config.class_share} if asked else {}
    return _layered(TASK_SETTINGS.get(task, {}), row.get(ANY_TASK, {}), row.get(task, {}), implied, typed)


def _layered(*layers: Mapping[str, Any]) -> Config:
    """Return the settings of some layers, of which later ones win, on top of those that the backbone brings."""
    typed = {name: value for layer in layers for name, value in layer.items()}
    backbone = typed.get("backbone", Config.backbone)
    chosen = {**(SIDE_BY_SIDE if "+" in backbone else BACKBONE_SETTINGS.get(backbone, {})), **typed}
    return from_dict({**(FROZEN_SETTINGS if chosen.get("backbone_lr") == 0 else {}), **chosen})


def from_dict(values: Mapping[str, Any]) -> Config:
    """Return a Config of plain values, as in config.json. Unknown names and wrong types are errors."""
    known = {setting.name: setting for setting in fields(Config)}
    for name in values:
        if name not in known:
            raise UserError(f"setting {name!r} is unknown; the settings are {', '.join(known)}")
    return Config(**{name: _checked(known[name], value) for name, value in values.items()})


def _checked(setting: Field, value: Any) -> Any:
    if get_origin(setting.type) is tuple:
        types_found = [type(part) for part in value] if isinstance(value, (list, tuple)) else []
        if types_found == list(get_args(setting.type)):
            return tuple(value)
    elif setting.type is float and type(value) is int:
        return float(value)
    elif type(value) is setting.type:
        return value
    raise UserError(f"setting {setting.name}: {value!r} is not a {_type_name(setting)}")


def _type_name(setting: Field) -> str:
    return (
        getattr(setting.type, "__name__", str(setting.type)) if get_origin(setting.type) is None else str(setting.type)
    )


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add one flag per setting. A flag that is not typed is not in the parsed arguments, so that lower layers apply."""
    group = parser.add_argument_group("settings (defaults < task < profile < flag)")
    for setting in fields(Config):
        if setting.default is MISSING:
            raise TypeError(f"setting {setting.name} has no default")
        text = f"{setting.metadata['help']} (default: {_default_text(setting.name)})"
        group.add_argument(f"--{_flag(setting.name)}", default=argparse.SUPPRESS, help=text, **_argument_kind(setting))


def _default_text(name: str) -> str:
    """Return the default of a setting, per task and profile where they differ: 'mask 4, gender/age 3; smoke 1'."""
    tasks_of: dict[Any, list[str]] = {}
    for task in task_names():
        value = getattr(_layered(TASK_SETTINGS.get(task, {})), name)
        tasks_of.setdefault(value, []).append(task)
    same = len(tasks_of) == 1
    text = ", ".join(f"{'' if same else '/'.join(tasks) + ' '}{_shown(value)}" for value, tasks in tasks_of.items())
    for profile, row in PROFILES.items():
        for task, values in row.items():
            if name in values:
                text += f"; {profile}{'' if task == ANY_TASK else f' {task}'} {_shown(values[name])}"
    return text


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def typed_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return what the user typed of the flags that `add_flags` made."""
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
