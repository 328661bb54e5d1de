"""The rows that can be run, and the grids that name several of them.

A row says only how it differs. `changes` holds for all its tasks, `of_task` for one; the names are those of
training/config.py. To try something new, add a row to SETTINGS and its name to a grid.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.tables import row_named

from core.cli import UserError
from core.tasks import (
    AgeEdges,
    Facts,
    Task,
    combined_class_count,
    combined_class_name,
    combined_tasks,
    encode,
    task_named,
)
from training.config import Config, from_dict, resolve

Values = Mapping[str, Any]


def _combined_label(facts: Facts, edges: AgeEdges) -> int:
    return encode({task.name: task.read_label(facts, edges) for task in combined_tasks()})


SINGLE = Task("single", tuple(map(combined_class_name, range(combined_class_count()))), _combined_label)
"""All classes at once, as one task. It is in no table of tasks: only experiments know it."""


@dataclass(frozen=True)
class Setting:
    """One row. With `from_scratch` it starts from the plain defaults, without the tuned rows of tasks and profiles.

    `tasks` are the tasks it trains; none means those that were asked for.
    """

    name: str
    what: str
    changes: Values = field(default_factory=dict)
    of_task: Mapping[str, Values] = field(default_factory=dict)
    from_scratch: bool = False
    tasks: tuple[Task, ...] = ()

    def tasks_asked(self, names: Sequence[str]) -> tuple[Task, ...]:
        return self.tasks or tuple(task_named(name) for name in names)

    def config(self, task: str, profile: str, typed: Values, *, seed: int) -> Config:
        """Defaults < task < profile < what was typed < this row. UserError for unknown names and wrong values."""
        own = {**self.changes, **self.of_task.get(task, {}), "seed": seed}
        if self.from_scratch:
            return from_dict({**typed, **own})
        return resolve(task, profile, {**typed, **own})


@dataclass(frozen=True)
class Grid:
    """Rows that answer one question together; the first is what the others are compared with."""

    name: str
    what: str
    rows: tuple[str, ...]


PLAIN: Values = {
    **{"head": "classes", "loss": "cross_entropy", "class_weights": "none", "mixup": 0.0, "drop_rate": 0.2},
    **{"augment": "flip", "tta": "none", "keep": "best", "validate_every": 1, "patience": 10**6},
    **{"lr": 1e-3, "backbone_lr": 1.0, "weight_decay": 0.02, "warmup": 0.1, "schedule": "cosine"},
    **{"grad_clip": 1.0, "accumulate": 1},
    **{"image_size": 112, "batch_size": 32, "photos_per_person": 3, "epochs": 6},
}
"""Nothing tuned: what one would type first. All that changes what is learned is named, so that no default creeps in."""
ORIGINAL: Values = {
    **PLAIN,
    **{"augment": "none", "tta": "flip", "weight_decay": 0.01, "warmup": 0.0, "schedule": "constant", "grad_clip": 0.0},
    **{"image_size": 384, "batch_size": 64, "photos_per_person": 0, "epochs": 20, "patience": 5},
}
"""The recipe of the pipeline that this one re-creates: AdamW 1e-3, batches of 64, up to 20 epochs, patience 5."""
ORIGINAL_LOSSES: Mapping[str, Values] = {
    "mask": {"loss": "focal"},
    "age": {"loss": "focal", "class_weights": ".1,.1,.8"},
}
FROM_SCRATCH: Mapping[str, Any] = {"from_scratch": True}


def _of_age(**changes: Any) -> Mapping[str, Mapping[str, Values]]:
    return {"of_task": {"age": changes}}


def _of_heads(**changes: Any) -> Mapping[str, Values]:
    """Of the tasks that learn from a frozen backbone."""
    return {"gender": changes, "age": changes}


SETTINGS: tuple[Setting, ...] = (
    Setting("default", "the settings as they are"),
    # Baselines: to be run for the wall-clock of `default` (--budget-minutes).
    Setting("plain", "cross-entropy, flip only, no TTA, one epoch count for all tasks", PLAIN, **FROM_SCRATCH),
    Setting(
        "plain_pair", "the same with the frozen network of the defaults for every task",
        PLAIN | {"backbone": "face_pair", "image_size": 150, "backbone_lr": 0.0}, **FROM_SCRATCH,
    ),
    Setting("single", "one classifier of all classes at once, else as plain", PLAIN, tasks=(SINGLE,), **FROM_SCRATCH),
    Setting("original", "the original's recipe at its input height", ORIGINAL, ORIGINAL_LOSSES, **FROM_SCRATCH),
    Setting(
        "original_small", "the original's recipe at our input height", ORIGINAL | {"image_size": 112},
        ORIGINAL_LOSSES, **FROM_SCRATCH,
    ),
    # Age
    Setting("age_classes", "age as three classes", **_of_age(head="classes")),
    Setting("age_years", "age as years, loss over years alone", **_of_age(head="values", class_share=0.0)),
    Setting(
        "age_years_shared", "the same, half of the loss over classes",
        **_of_age(head="values", class_share=0.5, loss="label_smoothing", label_smoothing=0.05),
    ),
    Setting("age_years_summed", "the same, loss over classes alone", **_of_age(head="values", class_share=1.0)),
    Setting("age_years_narrow", "years, target 1.5 years wide", **_of_age(head="values", value_sigma=1.5)),
    Setting("age_years_wide", "years, target 6 years wide", **_of_age(head="values", value_sigma=6.0)),
    # Loss and rare classes
    Setting("cross_entropy", "cross-entropy for every task", {"loss": "cross_entropy"}),
    Setting("label_smoothing", "labels softened by .15", {"loss": "label_smoothing", "label_smoothing": 0.15}),
    Setting("focal", "focal loss", {"loss": "focal"}),
    Setting("soft_f1", "F1 of probabilities as loss", {"loss": "f1"}),
    Setting("balanced", "classes weighed by the inverse of their number", {"class_weights": "balanced"}),
    # Augmentation; heads see as many photos as those of the default do, whose epochs show four views of each.
    Setting("augment_none", "no augmentation", {"augment": "none"}, _of_heads(epochs=12)),
    Setting("augment_flip", "mirror images only", {"augment": "flip"}, _of_heads(epochs=6)),
    Setting("augment_standard", "geometry, colour, blur", {"augment": "standard"}),
    Setting("augment_strong", "standard, gamma, grey, holes", {"augment": "strong"}),
    Setting("views_0", "frozen: the photo and its mirror image alone", {"views": 0}, _of_heads(epochs=6)),
    Setting("views_6", "frozen: six augmented views", {"views": 6}, _of_heads(epochs=2)),
    Setting("mixup_0", "no photos blended", {"mixup": 0.0}),
    Setting("mixup_2", "photos blended in pairs, Beta .2", {"mixup": 0.2}),
    Setting("mixup_4", "photos blended in pairs, Beta .4", {"mixup": 0.4}),
    Setting("tta_flip", "photo and mirror image averaged", {"tta": "flip"}),
    Setting("tta_none", "the photo alone is predicted", {"tta": "none"}),
    # Optimiser
    Setting("dropout_0", "no dropout", {"drop_rate": 0.0}),
    Setting("dropout_3", "dropout .3", {"drop_rate": 0.3}),
    Setting("dropout_5", "dropout .5", {"drop_rate": 0.5}),
    Setting("dropout_7", "dropout .7", {"drop_rate": 0.7}),
    Setting("epochs_1", "one epoch", {"epochs": 1}),
    Setting("epochs_6", "six epochs", {"epochs": 6}),
    Setting("lr_low", "learning rate 5e-4", {"lr": 5e-4}),
    Setting("lr_middle", "learning rate 2e-3", {"lr": 2e-3}),
    Setting("lr_high", "learning rate 5e-3", {"lr": 5e-3}),
    Setting("decay_high", "weight decay .1", {"weight_decay": 0.1}),
    Setting("warmup_long", "a third of the steps warm up", {"warmup": 0.33}),
    Setting("batch_32", "batches of 32, twice those of the mask", {"batch_size": 32}),
    Setting("batch_64", "batches of 64", {"batch_size": 64}),
    Setting("keep_last", "weights of the last epoch, scored once", {"keep": "last", "validate_every": 10**6}),
    # Photos of a person, input size, network
    Setting("photos_1", "one photo of a person an epoch", {"photos_per_person": 1}),
    Setting("photos_3", "three photos of a person an epoch", {"photos_per_person": 3}),
    Setting("photos_all", "all photos of a person", {"photos_per_person": 0}),
    Setting("size_96", "input 96 pixels high", {"image_size": 96}),
    Setting("size_144", "input 144 pixels high", {"image_size": 144}),
    Setting("size_224", "input 224 pixels high", {"image_size": 224}),
    Setting("unpretrained", "random first weights", {"pretrained": False}),
    Setting("imagenet", "EfficientNet-Lite0, all of it trained", {"backbone": "tf_efficientnet_lite0"}),
    Setting("face_resnet", "the ResNet of the pair alone, trained", {"backbone": "face_resnet29"}),
    Setting(
        "face_frozen", "the ResNet of the pair alone, frozen", {"backbone": "face_resnet29", "backbone_lr": 0.0}
    ),
    Setting("resnet18", "ResNet-18, whose weights come from the hub", {"backbone": "resnet18"}),
)  # fmt: skip

GRIDS: tuple[Grid, ...] = (
    Grid(
        "baselines", "what the settings are worth",
        ("default", "plain", "plain_pair", "single", "original_small", "original"),
    ),
    Grid(
        "age", "age as years or as classes",
        ("default", "age_classes", "age_years", "age_years_shared", "age_years_summed", "age_years_narrow",
         "age_years_wide"),
    ),
    # Of age these are half of the loss, where the default has none of its kind: compare with age_years_shared.
    Grid("loss", "which loss", ("default", "cross_entropy", "label_smoothing", "focal", "soft_f1", "balanced")),
    Grid(
        "augmentation", "which augmentation, mixup, TTA",
        ("default", "augment_none", "augment_flip", "augment_standard", "augment_strong", "views_0", "views_6",
         "mixup_0", "mixup_2", "mixup_4", "tta_flip", "tta_none"),
    ),
    Grid(
        "optimiser", "learning rate, decay, dropout",
        ("default", "dropout_0", "dropout_3", "dropout_5", "dropout_7", "epochs_1", "epochs_6", "lr_low", "lr_middle",
         "lr_high", "decay_high", "warmup_long", "batch_32", "batch_64", "keep_last"),
    ),
    Grid("sampling", "photos of a person an epoch", ("default", "photos_1", "photos_3", "photos_all")),
    Grid("size", "height of the input", ("default", "size_96", "size_144", "size_224")),
    Grid(
        "network", "first weights and backbone",
        ("default", "imagenet", "face_resnet", "face_frozen", "unpretrained", "resnet18"),
    ),
)  # fmt: skip


def chosen_settings(names: Sequence[str]) -> list[Setting]:
    """Rows of these names, and those of grids of these names, each once; UserError lists what there is."""
    rows: dict[str, Setting] = {}
    for name in names:
        for row_name in _rows_of(name):
            rows[row_name] = row_named(SETTINGS, row_name, what="setting")
    return list(rows.values())


def _rows_of(name: str) -> tuple[str, ...]:
    known = {grid.name: grid.rows for grid in GRIDS} | {row.name: (row.name,) for row in SETTINGS}
    if name not in known:
        raise UserError(f"experiment {name!r} is neither a grid nor a setting; there are {', '.join(known)}")
    return known[name]
