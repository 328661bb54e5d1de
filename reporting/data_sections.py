"""Template values of the sections about photos, faces, folds, training and settings."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.cli import UserError
from core.tasks import UNKNOWN, combined_class_count, combined_tasks, decode, task_named
from evaluation.combined_class import combine_labels, has_combined_tasks
from reporting.figures import column_chart, line_chart, round_range, thumbnail
from reporting.load import RunData, TrainedFold
from storage.crops import STATUSES, crop_file, read_source
from storage.folds import STRATA_TASKS, audit_folds, folds_path, hash_of_folds
from storage.learning_curve import MADE_OF

Context = dict[str, Any]
EXAMPLES_PER_CLASS = 3
EVAL_EXAMPLES = 12
MOST_DOUBTS = 24
AGE_STEP = 5
"""Years per column of the age chart."""
OUT_OF_FOLD_LOSS = {"head": "classes", "loss": "cross_entropy", "class_weights": "none", "mixup": 0}
"""Settings with which the training loss is of the kind of the out-of-fold loss: plain cross-entropy of classes."""


def photos_section(data: RunData) -> Context:
    """Return counts of people and photos, classes with example crops, races and ages."""
    people = data.oof.crops.frame.drop_duplicates("person")
    return {
        "splits": _split_rows(data.faces),
        "tasks": _class_rows(data),
        "classes": _examples_of_classes(data),
        "races": _counts(people["race"]) if "race" in people else [],
        "ages": _age_chart(people["age"]),
        "sample": _evenly(list(data.eval.path_of.items()), EVAL_EXAMPLES),
        "edges": data.run.age_edges,
    }


def _split_rows(faces: pd.DataFrame) -> list[Context]:
    rows = [(name, faces[faces["split"] == name]) for name in ("train", "eval")]
    return [{"split": name, "photos": len(part), "people": part["person"].nunique()} for name, part in rows]


def _class_rows(data: RunData) -> list[Context]:
    """Return the classes of each task with their training photos and people, and eval photos where labels exist."""
    rows = []
    for name, labels in data.train_labels.items():
        people = {pair for pair in zip(data.oof.crops.frame["person"], labels, strict=True)}
        predictions = data.eval.scored.get(name)
        truth = None if predictions is None else predictions.truth.tolist()
        rows.append({"task": name, "classes": [
            {
                "name": class_name,
                "photos": labels.count(label),
                "people": sum(of_person == label for _, of_person in people),
                "eval": None if truth is None else truth.count(label),
            }
            for label, class_name in enumerate(task_named(name).classes)
        ]})  # fmt: skip
    return rows


def _examples_of_classes(data: RunData) -> list[Context]:
    """Return every combined class with its number of training photos and some of them; empty without any."""
    if not has_combined_tasks(data.train_labels):
        return []
    labels = {name: np.array(of_task) for name, of_task in data.train_labels.items()}
    rows = np.flatnonzero(np.logical_and.reduce([labels[task.name] != UNKNOWN for task in combined_tasks()]))
    numbers = combine_labels({name: of_task[rows] for name, of_task in labels.items()})
    members: dict[int, list[tuple[str, Path]]] = {number: [] for number in range(combined_class_count())}
    for number, row in zip(numbers, rows, strict=True):
        members[number].append((data.oof.crops.image_ids[row], data.oof.crops.paths[row]))
    return [{"number": number, "names": _names_of(number), "photos": len(of_class),
             "pictures": _evenly(of_class, EXAMPLES_PER_CLASS)} for number, of_class in members.items()]  # fmt: skip


def _names_of(number: int) -> list[str]:
    """Return the class names that make up a combined class."""
    labels = decode(number)
    return [task.classes[labels[task.name]] for task in combined_tasks()]


def _evenly(photos: Sequence[tuple[str, Path]], count: int) -> list[Context]:
    """Return up to `count` photos, evenly spaced."""
    places = np.linspace(0, len(photos) - 1, min(len(photos), count)).round().astype(int)
    return [{"image_id": photos[place][0], "picture": thumbnail(photos[place][1])} for place in places]


def _counts(values: pd.Series) -> list[Context]:
    counted = sorted(Counter(filter(None, values)).items(), key=lambda item: (-item[1], item[0]))
    return [{"name": name, "count": count, "fraction": count / len(values)} for name, count in counted]


def _age_chart(ages: pd.Series) -> str | None:
    years = [int(age) for age in ages if age.isdecimal()]
    if not years:
        return None
    counted = Counter(age // AGE_STEP * AGE_STEP for age in years)
    starts = list(range(min(counted), max(counted) + 1, AGE_STEP))
    return column_chart(starts, [counted[start] for start in starts], step=AGE_STEP, label="ages")


def faces_section(data: RunData) -> Context:
    """Return statuses by split, and the crops to review: fallback, missing, and those of review.csv."""
    faces = data.faces
    table = [
        {"status": status, **{name: _count(faces, name, status) for name in ("train", "eval")}} for status in STATUSES
    ]
    doubtful = faces[(faces["status"].isin(("fallback", "missing"))) | faces["image_id"].isin(data.doubts)]
    ranked = sorted(doubtful.to_dict("records"), key=lambda row: (row["status"] != "missing", row["score"]))
    return {
        "statuses": table,
        "doubtful": len(ranked),
        "shown": [_doubt(data, row) for row in ranked[:MOST_DOUBTS]],
        "detector": read_source(Path(data.run.crop_dir)).get("detect", {}),
    }


def _count(faces: pd.DataFrame, split: str, status: str) -> int:
    return int(((faces["split"] == split) & (faces["status"] == status)).sum())


def _doubt(data: RunData, row: Mapping[str, str]) -> Context:
    picture = None if row["status"] == "missing" else thumbnail(Path(data.run.crop_dir) / crop_file(row["path"]))
    why = data.doubts.get(row["image_id"], row["reason"])
    return {"image_id": row["image_id"], "status": row["status"], "score": row["score"], "why": why, "picture": picture}


def folds_section(data: RunData) -> Context:
    """Return the sizes and classes of the folds, and the results of the audit."""
    if data.fold_of is None:
        return {"rows": [], "checks": []}
    frame = data.oof.crops.frame
    people = frame.drop_duplicates("person").assign(fold=lambda rows: rows["person"].map(data.fold_of))
    labels = {
        name: {person: label for person, label in zip(frame["person"], of_task, strict=True) if label != UNKNOWN}
        for name, of_task in data.train_labels.items()
        if name in STRATA_TASKS
    }
    classes = [(name, label) for name in labels for label in range(len(task_named(name).classes))]
    return {
        "columns": [task_named(name).classes[label] for name, label in classes],
        "rows": [_fold_row(people["person"][people["fold"] == fold], frame, labels, classes, fold)
                 for fold in range(data.run.folds)],
        "checks": [{"name": name, "trouble": check(data)} for name, check in AUDIT],
    }  # fmt: skip


def _fold_row(
    persons: pd.Series,
    frame: pd.DataFrame,
    labels: Mapping[str, Mapping[str, int]],
    classes: Sequence[tuple[str, int]],
    fold: int,
) -> Context:
    counts = [sum(labels[name].get(person) == label for person in persons) for name, label in classes]
    return {"fold": fold, "people": len(persons), "photos": int(frame["person"].isin(persons).sum()), "counts": counts}


def _persons_agree(data: RunData) -> str:
    """Return the fault of folds.csv, or an empty string."""
    try:
        audit_folds(folds_path(data.run_dir), data.fold_of, set(data.oof.crops.frame["person"]), data.run.folds)
    except UserError as error:
        return str(error)
    return ""


def _out_of_fold_agree(data: RunData) -> str:
    person_of = dict(zip(data.oof.crops.image_ids, data.oof.crops.frame["person"], strict=True))
    leaked = [
        f"{trained.folder}: {image_id}"
        for trained in _all_folds(data)
        for image_id in trained.oof_ids
        if data.fold_of.get(person_of.get(image_id)) != trained.fold
    ]
    return leaked[0] if leaked else ""


def _folds_agree(data: RunData) -> str:
    expected = hash_of_folds(data.fold_of)
    return next((str(fold.folder) for fold in _all_folds(data) if fold.identity["folds_hash"] != expected), "")


def _crops_agree(data: RunData) -> str:
    expected = data.oof.crops.hash
    return next((str(fold.folder) for fold in _all_folds(data) if fold.identity["data_hash"] != expected), "")


AUDIT: tuple[tuple[str, Callable[[RunData], str]], ...] = (
    ("persons", _persons_agree),
    ("out_of_fold", _out_of_fold_agree),
    ("folds", _folds_agree),
    ("crops", _crops_agree),
)
"""Checks by name. Each returns the fault it found, or an empty string."""


def _all_folds(data: RunData) -> list[TrainedFold]:
    return [fold for of_task in data.trained.values() for fold in of_task]


def training_section(data: RunData) -> Context:
    """Return learning curves, scores and durations of every task and fold."""
    return {"tasks": [_curves(name, folds, data.run.folds) for name, folds in data.trained.items()]}


def _curves(name: str, folds: Sequence[TrainedFold], expected: int) -> Context:
    scores = [_points(fold, "macro_f1") for fold in folds]
    losses = {column: [_points(fold, column) for fold in folds] for column in ("train_loss", "loss")}
    settings = folds[0].identity["settings"]
    same_kind = all(settings.get(setting) == value for setting, value in OUT_OF_FOLD_LOSS.items())
    ranges = {column: _range_of(losses.values() if same_kind else [losses[column]]) for column in losses}
    return {
        "task": name,
        "missing": expected - len(folds),
        "keeps_last": settings.get("keep") == "last",
        "same_kind_of_loss": same_kind,
        "f1": line_chart(scores, label=f"{name} macro-F1", y_range=(0, 1)),
        "train_loss": line_chart(losses["train_loss"], label=f"{name} training loss", y_range=ranges["train_loss"]),
        "loss": line_chart(losses["loss"], label=f"{name} out-of-fold loss", y_range=ranges["loss"]),
        "folds": [_fold_result(fold) for fold in folds],
        "seconds": sum(float(fold.history["seconds"].sum()) for fold in folds),
    }


def _range_of(charts: Iterable[Sequence[Sequence[tuple[float, float]]]]) -> tuple[float, float]:
    return round_range([y for lines in charts for line in lines for _, y in line])


def _points(fold: TrainedFold, column: str) -> list[tuple[float, float]]:
    scored = fold.history.dropna(subset=[column])
    return list(zip(scored["epoch"].tolist(), scored[column].tolist(), strict=True))


def _fold_result(fold: TrainedFold) -> Context:
    history = fold.history
    speed = history["images_per_second"].median() if "images_per_second" in history else None
    return {
        "fold": fold.fold,
        "epochs": len(history),
        **fold.result,
        "seconds": float(history["seconds"].sum()),
        "speed": speed,
    }


def curve_section(data: RunData) -> Context:
    """Return the rows of learning_curve.csv that were made of the photos, labels and folds of today's training."""
    if data.curve is None:
        return {"rows": [], "is_old": False}
    of_today = {name: [folds[0].identity[column] for column in MADE_OF] for name, folds in data.trained.items()}
    rows = [row for row in data.curve.to_dict("records") if of_today.get(row["task"]) == [row[key] for key in MADE_OF]]
    return {"rows": rows, "is_old": len(rows) < len(data.curve)}


def settings_section(data: RunData) -> Context:
    """Return the settings of the tasks side by side, those that differ marked, and the versions."""
    first = {name: folds[0].identity for name, folds in data.trained.items()}
    names = sorted({setting for identity in first.values() for setting in identity["settings"]})
    rows = []
    for setting in names:
        values = [identity["settings"].get(setting) for identity in first.values()]
        rows.append({"name": setting, "per_task": values, "differs": any(value != values[0] for value in values)})
    identity = next(iter(first.values()), {})
    return {
        "tasks": list(first),
        "rows": rows,
        "versions": identity.get("versions", {}),
        "crop": data.oof.crops.source["crop"],
        "run": {name: getattr(data.run, name) for name in ("data_root", "layout", "crop_dir", "folds", "fold_seed")},
    }
