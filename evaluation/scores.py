"""Scores of predictions, per task and over the combined class, as one JSON-ready record and as a printed table."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from core.tasks import combined_class_count, combined_class_name, combined_tasks, encode, task_named
from evaluation.metrics import confusion_matrix, f1_per_class, scores

Labels = Mapping[str, Sequence[int]]
"""For each task one label a photo, all in the same order of photos."""
COMBINED = "combined"


def score(truth: Labels, predicted: Labels, persons: Sequence[str]) -> dict:
    """Scores with 95% intervals of every task that has predictions, and of the combined class with its classes."""
    record = {
        "photos": len(persons),
        "people": len(set(persons)),
        "tasks": {name: _task_scores(name, truth[name], predicted[name], persons) for name in predicted},
    }
    if all(task.name in predicted for task in combined_tasks()):
        number = combined_class_count()
        true, answers = combine(truth), combine(predicted)
        record[COMBINED] = scores(true, answers, persons, num_classes=number)
        record["classes"] = _class_rows(confusion_matrix(true, answers, number))
    return record


def combine(labels: Labels) -> list[int]:
    """The combined class of every photo."""
    names = [task.name for task in combined_tasks()]
    columns = (labels[name] for name in names)
    return [encode(dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]


def majority(train_labels: Labels, photos: int) -> dict[str, list[int]]:
    """The naive baseline: for every photo the most frequent training label of each task."""
    return {name: [most_frequent(labels)] * photos for name, labels in train_labels.items()}


def most_frequent(labels: Sequence[int]) -> int:
    return min(Counter(labels).items(), key=lambda item: (-item[1], item[0]))[0]


def _task_scores(name: str, truth: Sequence[int], predicted: Sequence[int], persons: Sequence[str]) -> dict:
    return scores(truth, predicted, persons, num_classes=len(task_named(name).classes))


def _class_rows(confusion: np.ndarray) -> list[dict]:
    f1 = f1_per_class(confusion)
    return [
        {
            "class": number,
            "name": combined_class_name(number),
            "photos": int(confusion[number].sum()),
            "predicted": int(confusion[:, number].sum()),
            "f1": None if np.isnan(f1[number]) else float(f1[number]),
        }
        for number in range(len(confusion))
    ]


def format_scores(title: str, record: dict, baseline: dict) -> str:
    """Lines of one split: the combined class, each task, and what always giving the commonest class would score."""
    rows = [(f"{combined_class_count()} classes", record[COMBINED], baseline[COMBINED])] if COMBINED in record else []
    rows += [(name, record["tasks"][name], baseline["tasks"][name]) for name in record["tasks"]]
    head = f"{title}: {record['photos']} photos of {record['people']} people"
    lines = [f"{head:<44}{'macro-F1':<24}{'accuracy':<24}{'majority class: F1 / accuracy'}"]
    for name, found, naive in rows:
        cells = "".join(f"{_interval(found[metric]):<24}" for metric in ("macro_f1", "accuracy"))
        lines.append(f"  {name:<42}{cells}{naive['macro_f1']['value']:.4f} / {naive['accuracy']['value']:.4f}")
    return "\n".join(lines)


def format_classes(record: dict) -> str:
    """The per-class table of one split."""
    lines = [f"  {'class':<30}{'photos':>8}{'predicted':>11}{'F1':>9}"]
    for row in record["classes"]:
        f1 = "-" if row["f1"] is None else f"{row['f1']:.4f}"
        lines.append(f"  {row['class']:>2} {row['name']:<27}{row['photos']:>8}{row['predicted']:>11}{f1:>9}")
    return "\n".join(lines)


def _interval(entry: Mapping[str, float]) -> str:
    return f"{entry['value']:.4f} ({entry['low']:.4f}-{entry['high']:.4f})"
