"""The settings that can be compared, in grids that each answer one question.

A setting says only how it differs: `changes` for all its tasks, `of_task` for one, with names from training/config.py.
To try something new, add a row to a grid.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from core.cli import UserError
from core.cropping import FACE_WINDOW
from core.tasks import Task, task_named
from evaluation.combined_class import COMBINED, combined_task
from training.config import Config, from_dict, resolve

Values = Mapping[str, Any]


SINGLE = replace(combined_task(), name="single")
"""The combined class, learned as one task."""


def class_count(name: str) -> int:
    """Number of classes of a task or of COMBINED."""
    return len(SINGLE.classes if name == COMBINED else task_named(name).classes)


@dataclass(frozen=True)
class Setting:
    """One setting to train. `from_scratch`: on the plain defaults, without the tuned rows of tasks and profiles.

    `tasks` are the tasks it trains; none means those that were asked for.
    """

    name: str
    title: str
    changes: Values = field(default_factory=dict)
    of_task: Mapping[str, Values] = field(default_factory=dict)
    from_scratch: bool = False
    tasks: tuple[Task, ...] = ()

    def tasks_of(self, names: Sequence[str]) -> tuple[Task, ...]:
        return self.tasks or tuple(task_named(name) for name in names)

    def config(self, task: str, profile: str, typed: Values, *, seed: int) -> Config:
        """Defaults < task < profile < what was typed < this setting. UserError for unknown names and wrong values."""
        own = {**self.changes, **self.of_task.get(task, {}), "seed": seed}
        if self.from_scratch:
            return from_dict({**typed, **own})
        return resolve(task, profile, {**typed, **own})


@dataclass(frozen=True)
class Grid:
    """Settings that answer one question together, compared with `default`."""

    name: str
    title: str
    settings: tuple[Setting, ...]


PLAIN: Values = {
    **{"head": "classes", "loss": "cross_entropy", "class_weights": "none", "mixup": 0.0, "drop_rate": 0.2},
    **{"augment": "flip", "tta": "none", "keep": "best", "validate_every": 1, "patience": 10**6},
    **{"lr": 1e-3, "backbone_lr": 1.0, "weight_decay": 0.02, "warmup": 0.1, "schedule": "cosine"},
    **{"grad_clip": 1.0, "accumulate": 1, "window": FACE_WINDOW, "drawn": 0, "ridge_share": 0.0},
    **{"image_size": 112, "batch_size": 32, "photos_per_person": 3, "epochs": 6},
}
"""Nothing tuned. Every setting that changes what is learned is named, so that no tuned default enters a baseline."""
PLAIN_PAIR: Values = {**PLAIN, "backbone": "face_pair", "image_size": 150, "backbone_lr": 0.0}
ORIGINAL: Values = {
    **PLAIN,
    **{"augment": "none", "tta": "flip", "weight_decay": 0.01, "warmup": 0.0, "schedule": "constant", "grad_clip": 0.0},
    **{"image_size": 384, "batch_size": 64, "photos_per_person": 0, "epochs": 20, "patience": 5},
}
"""Recipe of the pipeline that this one re-creates: AdamW 1e-3, batches of 64, up to 20 epochs, patience 5."""
ORIGINAL_SMALL: Values = {**ORIGINAL, "image_size": 112}
ORIGINAL_LOSSES: Mapping[str, Values] = {
    "mask": {"loss": "focal"},
    "age": {"loss": "focal", "class_weights": ".1,.1,.8"},
}


def _baseline(name: str, title: str, changes: Values, of_task: Mapping[str, Values], *tasks: Task) -> Setting:
    return Setting(name, title, changes, of_task, from_scratch=True, tasks=tasks)


def _age(name: str, title: str, **changes: Any) -> Setting:
    return Setting(name, title, of_task={"age": changes})


def _all(name: str, title: str, *, epochs_of_heads: int = 0, **changes: Any) -> Setting:
    """A change of all tasks, with another number of epochs for those that learn from a frozen backbone."""
    of_heads = {"gender": {"epochs": epochs_of_heads}, "age": {"epochs": epochs_of_heads}} if epochs_of_heads else {}
    return Setting(name, title, changes, of_heads)


DEFAULT = Setting("default", "the settings as they are")
GRIDS: tuple[Grid, ...] = (
    Grid("baselines", "what the settings are worth", (
        _baseline("plain", "cross-entropy, flip only, no TTA, one epoch count for all tasks", PLAIN, {}),
        _baseline("plain_pair", "the same with the frozen network of the defaults for every task", PLAIN_PAIR, {}),
        _baseline("single", "one classifier of all classes at once, else as plain", PLAIN, {}, SINGLE),
        _baseline("original_small", "the original recipe at our input height", ORIGINAL_SMALL, ORIGINAL_LOSSES),
        _baseline("original", "the original recipe at its input height", ORIGINAL, ORIGINAL_LOSSES),
    )),
    Grid("age", "age as years or as classes", (
        _age("age_classes", "age as three classes", head="classes"),
        _age("age_years", "age as years, loss over years alone", head="values", class_share=0.0),
        _age("age_years_shared", "the same, half of the loss over classes",
             head="values", class_share=0.5, loss="label_smoothing", label_smoothing=0.05),
        _age("age_years_summed", "the same, loss over classes alone", head="values", class_share=1.0),
        _age("age_years_narrow", "years, target 1.5 years wide", head="values", value_sigma=1.5),
        _age("age_years_wide", "years, target 6 years wide", head="values", value_sigma=6.0),
    )),
    # Of age these are half of the loss, where the default has none of its kind: compare with age_years_shared.
    Grid("loss", "which loss", (
        _all("cross_entropy", "cross-entropy for every task", loss="cross_entropy"),
        _all("label_smoothing", "labels softened by .15", loss="label_smoothing", label_smoothing=0.15),
        _all("focal", "focal loss", loss="focal"),
        _all("soft_f1", "F1 of probabilities as loss", loss="f1"),
        _all("balanced", "classes weighted by the inverse of their number", class_weights="balanced"),
    )),
    # Heads see as many photos as those of the default do, whose epochs show four views of each.
    Grid("augmentation", "which augmentation, mixup, TTA", (
        _all("augment_none", "no augmentation", augment="none", epochs_of_heads=12),
        _all("augment_flip", "mirror images only", augment="flip", epochs_of_heads=6),
        _all("augment_standard", "geometry, colour, blur", augment="standard"),
        _all("augment_strong", "standard, gamma, grey, holes", augment="strong"),
        _all("views_0", "frozen: the photo and its mirror image alone", views=0, epochs_of_heads=6),
        _all("views_6", "frozen: six augmented views", views=6, epochs_of_heads=2),
        _all("mixup_0", "no photos blended", mixup=0.0),
        _all("mixup_2", "photos blended in pairs, Beta .2", mixup=0.2),
        _all("mixup_4", "photos blended in pairs, Beta .4", mixup=0.4),
        _all("tta_flip", "photo and mirror image averaged", tta="flip"),
        _all("tta_none", "the photo alone is predicted", tta="none"),
    )),
    Grid("optimiser", "learning rate, decay, dropout", (
        _all("dropout_0", "no dropout", drop_rate=0.0),
        _all("dropout_3", "dropout .3", drop_rate=0.3),
        _all("dropout_5", "dropout .5", drop_rate=0.5),
        _all("dropout_7", "dropout .7", drop_rate=0.7),
        _all("epochs_1", "one epoch", epochs=1),
        _all("epochs_6", "six epochs", epochs=6),
        _all("lr_low", "learning rate 5e-4", lr=5e-4),
        _all("lr_middle", "learning rate 2e-3", lr=2e-3),
        _all("lr_high", "learning rate 5e-3", lr=5e-3),
        _all("decay_high", "weight decay .1", weight_decay=0.1),
        _all("warmup_long", "a third of the steps warm up", warmup=0.33),
        _all("batch_32", "batches of 32, twice those of the mask", batch_size=32),
        _all("batch_64", "batches of 64", batch_size=64),
        _all("keep_last", "weights of the last epoch, scored once", keep="last", validate_every=10**6),
    )),
    Grid("sampling", "photos of a person an epoch", (
        _all("photos_1", "one photo of a person an epoch", photos_per_person=1),
        _all("photos_3", "three photos of a person an epoch", photos_per_person=3),
        _all("photos_all", "all photos of a person", photos_per_person=0),
    )),
    Grid("size", "height of the input", (
        _all("size_96", "input 96 pixels high", image_size=96),
        _all("size_144", "input 144 pixels high", image_size=144),
        _all("size_224", "input 224 pixels high", image_size=224),
    )),
    Grid("network", "first weights and backbone", (
        _all("imagenet", "EfficientNet-Lite0, all of it trained", backbone="tf_efficientnet_lite0"),
        _all("face_resnet", "the ResNet of the pair alone, trained", backbone="face_resnet29"),
        _all("face_frozen", "the ResNet of the pair alone, frozen", backbone="face_resnet29", backbone_lr=0.0),
        _all("unpretrained", "random first weights", pretrained=False),
        _all("resnet18", "ResNet-18, whose weights come from the hub", backbone="resnet18"),
    )),
)  # fmt: skip
SETTINGS: tuple[Setting, ...] = (DEFAULT, *(setting for grid in GRIDS for setting in grid.settings))


def chosen_settings(names: Sequence[str]) -> list[Setting]:
    """The settings of these names and of grids of these names, each once. UserError lists what there is."""
    known = {grid.name: (DEFAULT, *grid.settings) for grid in GRIDS} | {one.name: (one,) for one in SETTINGS}
    for name in names:
        if name not in known:
            raise UserError(f"experiment {name!r} is neither a grid nor a setting; there are {', '.join(known)}")
    return list({one.name: one for name in names for one in known[name]}.values())
