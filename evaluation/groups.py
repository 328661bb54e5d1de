"""Scores of groups of people, so that the mean hides nobody: by race, and by age group and gender."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.tasks import Facts, combined_class_count, combined_tasks, task_named
from evaluation.metrics import scores
from evaluation.scores import COMBINED, Labels, combine
from storage.folds import STRATA_TASKS

FEWEST_PEOPLE = 10
"""A group of fewer people is listed, but never called the weakest: its score is mostly chance."""


@dataclass(frozen=True)
class Grouping:
    """A way to part people. `group_of` takes a photo's facts and true labels; None where it is not known.

    Groups made `from_labels` have accuracy alone: macro-F1 over the classes that a group can have says little.
    """

    name: str
    group_of: Callable[[Facts, Mapping[str, int]], str | None]
    from_labels: bool


def _race(facts: Facts, _: Mapping[str, int]) -> str | None:
    return facts.get("race") or None


def _stratum(_: Facts, labels: Mapping[str, int]) -> str | None:
    if not set(STRATA_TASKS) <= labels.keys():
        return None
    return " ".join(task_named(name).classes[labels[name]] for name in STRATA_TASKS)


GROUPINGS: tuple[Grouping, ...] = (
    Grouping("race", _race, from_labels=False),
    Grouping(" x ".join(STRATA_TASKS), _stratum, from_labels=True),
)


def score_groups(truth: Labels, predicted: Labels, persons: Sequence[str], facts: Sequence[Facts]) -> list[dict]:
    """One record a group: {"by", "group", "photos", "people", "scores": {task or "combined": {metric: estimate}}}.

    All arguments have one entry a photo, `truth` and `predicted` for each task. Photos whose group is not known are in
    no record of that grouping.
    """
    labels_of_photo = [dict(zip(truth, row, strict=True)) for row in zip(*truth.values(), strict=True)]
    records = []
    for grouping in GROUPINGS:
        groups = [grouping.group_of(*known) for known in zip(facts, labels_of_photo, strict=True)]
        for group in sorted({group for group in groups if group}):
            rows = np.array([row for row, found in enumerate(groups) if found == group])
            people = np.asarray(persons, dtype=str)[rows].tolist()
            found = _scores(_of_rows(truth, rows), _of_rows(predicted, rows), people, grouping.from_labels)
            counts = {"photos": len(rows), "people": len(set(people))}
            records.append({"by": grouping.name, "group": group, **counts, "scores": found})
    return records


def weakest(records: Sequence[dict]) -> list[dict]:
    """Of each grouping the group that is least often right: {"by", "scored", "group", "people", "accuracy"}.

    Over the combined class where it is scored, else for each task.
    """
    found = []
    for by in dict.fromkeys(record["by"] for record in records):
        large = [record for record in records if record["by"] == by and record["people"] >= FEWEST_PEOPLE]
        for scored in _what_counts(large):
            lowest = min(large, key=lambda record: record["scores"][scored]["accuracy"]["value"])
            found.append({"by": by, "scored": scored, "group": lowest["group"], "people": lowest["people"],
                          "accuracy": lowest["scores"][scored]["accuracy"]})  # fmt: skip
    return found


def format_groups(splits: Mapping[str, Sequence[dict]]) -> str:
    """The accuracy that counts of every group, splits side by side, and a line for each group that is the weakest."""
    found = {
        (record["by"], record["group"], scored, split): f"{record['people']:>6}  {_accuracy(record['scores'][scored])}"
        for split, records in splits.items()
        for record in records
        for scored in _what_counts([record])
    }
    rows = dict.fromkeys(key[:3] for key in found)
    lines = [f"  {'accuracy of groups':<42}" + "".join(f"{split + ' (people first)':<32}" for split in splits)]
    for row in rows:
        by, group, scored = row
        cells = "".join(f"{found.get((*row, split), ''):<32}" for split in splits)
        lines.append(f"  {f'{by}: {group}, {scored}':<42}{cells}")
    for split, records in splits.items():
        for row in weakest(records):
            lines.append(f"  weakest {split} by {row['by']}: {row['group']}, {row['scored']} {_accuracy(row)}")
    return "\n".join(line.rstrip() for line in lines)


def _scores(truth: Labels, predicted: Labels, persons: Sequence[str], accuracy_alone: bool) -> dict[str, dict]:
    """Estimates by what is scored: the combined class if all of its tasks are there, and each task."""
    scored = {name: (truth[name], predicted[name], len(task_named(name).classes)) for name in predicted}
    if all(task.name in predicted for task in combined_tasks()):
        scored = {COMBINED: (combine(truth), combine(predicted), combined_class_count()), **scored}
    found = {name: scores(true, answers, persons, num_classes=n) for name, (true, answers, n) in scored.items()}
    return {name: {"accuracy": of["accuracy"]} if accuracy_alone else of for name, of in found.items()}


def _of_rows(labels: Labels, rows: np.ndarray) -> Labels:
    return {name: np.asarray(values)[rows].tolist() for name, values in labels.items()}


def _what_counts(records: Sequence[dict]) -> list[str]:
    if not records:
        return []
    names = list(records[0]["scores"])
    return [COMBINED] if COMBINED in names else names


def _accuracy(estimates: Mapping[str, Mapping[str, float]]) -> str:
    estimate = estimates["accuracy"]
    return f"{estimate['value']:.3f} ({estimate['low']:.3f}-{estimate['high']:.3f})"
