"""Scores of predictions as JSON-ready records and printed tables: tasks, combined class, groups of people, and values.

The records are those of scores.json. Values are the numbers that a task may learn beside its classes, such as years.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.tasks import (
    UNKNOWN,
    Facts,
    combined_class_count,
    combined_class_name,
    combined_tasks,
    known_values,
    task_named,
)
from evaluation.combined_class import COMBINED, combine_labels, has_combined_tasks
from evaluation.logits import LogitTable
from evaluation.metrics import Estimate, confusion_matrix, f1_per_class, format_estimate, mean_over_photos, scores
from storage.folds import STRATA_TASKS

Labels = Mapping[str, Sequence[int]]
"""For each task one label a photo, all in the same order of photos. Photos whose true label is UNKNOWN do not count."""
FEWEST_PEOPLE = 10
"""A group of fewer people is listed, but never named the weakest: its score is mostly chance."""


def score(truth: Labels, predicted: Labels, persons: Sequence[str]) -> dict:
    """Scores with 95% intervals of every task that has predictions, and of the combined class with its classes.

    "counts" has the photos and people that each rests on.
    """
    scored = _scored(truth, predicted, persons)
    estimates = _estimates(scored)
    combined = estimates.pop(COMBINED, None)
    record = {"photos": len(persons), "people": len(set(persons)), "tasks": estimates}
    record["counts"] = {
        name: {"photos": len(one.persons), "people": len(set(one.persons))} for name, one in scored.items()
    }
    if combined:
        record[COMBINED] = combined
        one = scored[COMBINED]
        record["classes"] = _class_rows(confusion_matrix(one.truth, one.predicted, one.classes))
    return record


@dataclass(frozen=True)
class Scored:
    """Labels and predictions (N,) of one task or of the combined class, of N photos whose label is known."""

    truth: np.ndarray
    predicted: np.ndarray
    persons: Sequence[str]
    classes: int


def _scored(truth: Labels, predicted: Labels, persons: Sequence[str]) -> dict[str, Scored]:
    """The combined class if all of its tasks are predicted, and each task; those without a known label are left out."""
    true, labels = ({name: np.asarray(of_all[name]) for name in predicted} for of_all in (truth, predicted))
    known = {name: of_task != UNKNOWN for name, of_task in true.items()}
    scored = {}
    if has_combined_tasks(predicted):
        rows = np.logical_and.reduce([known[task.name] for task in combined_tasks()])
        both = (combine_labels({name: of_task[rows] for name, of_task in of_all.items()}) for of_all in (true, labels))
        scored[COMBINED] = Scored(*both, _at(persons, rows), combined_class_count())
    for name, rows in known.items():
        scored[name] = Scored(true[name][rows], labels[name][rows], _at(persons, rows), len(task_named(name).classes))
    return {name: one for name, one in scored.items() if one.persons}


def _at(persons: Sequence[str], rows: np.ndarray) -> list[str]:
    return [persons[row] for row in np.flatnonzero(rows)]


def _estimates(scored: Mapping[str, Scored]) -> dict[str, dict[str, Estimate]]:
    """Estimates of every metric."""
    return {
        name: scores(one.truth, one.predicted, one.persons, num_classes=one.classes) for name, one in scored.items()
    }


def score_beside_majority(
    truth: Labels, predicted: Labels, persons: Sequence[str], *, learned_from: Labels, facts: Sequence[Facts]
) -> dict:
    """Scores of the predictions, of always predicting the commonest label of `learned_from`, and of groups."""
    groups = score_groups(truth, predicted, persons, facts)
    return {
        "model": score(truth, predicted, persons),
        "majority": score(truth, majority({name: learned_from[name] for name in truth}, len(persons)), persons),
        "groups": groups,
        "weakest": weakest(groups),
    }


def majority(train_labels: Labels, photos: int) -> dict[str, list[int]]:
    """The naive baseline: for every photo the most frequent training label of each task."""
    return {name: [most_frequent(labels)] * photos for name, labels in train_labels.items()}


def most_frequent(labels: Sequence[int]) -> int:
    """The commonest known label; of equally common ones the lowest."""
    known = Counter(label for label in labels if label != UNKNOWN)
    return min(known.items(), key=lambda item: (-item[1], item[0]))[0]


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
    """Lines of one split: the combined class, each task, and the scores of always predicting the commonest class."""
    found_of, naive_of = ({COMBINED: of_all.get(COMBINED)} | of_all["tasks"] for of_all in (record, baseline))
    rows = [(_row_title(name, record), found, naive_of[name]) for name, found in found_of.items() if found]
    head = f"{title}: {record['photos']} photos of {record['people']} people"
    lines = [head, f"{'':<16}{'macro-F1':<24}{'accuracy':<24}majority class"]
    for name, found, naive in rows:
        cells = "".join(f"{format_estimate(found[metric]):<24}" for metric in ("macro_f1", "accuracy"))
        start = f"  {name:<14}" if len(name) < 14 else f"  {name}\n{'':<16}"
        lines.append(f"{start}{cells}{naive['macro_f1']['value']:.4f} / {naive['accuracy']['value']:.4f}")
    return "\n".join(lines)


def _row_title(name: str, record: dict) -> str:
    """'mask', or 'mask (120 photos of 40 people)' where it rests on fewer than the whole record."""
    title, counts = f"{combined_class_count()} classes" if name == COMBINED else name, record["counts"][name]
    is_whole = counts["photos"] == record["photos"]
    return title if is_whole else f"{title} ({counts['photos']} photos of {counts['people']} people)"


def format_classes(record: dict) -> str:
    """The per-class table of one split."""
    lines = [f"  {'class':<30}{'photos':>8}{'predicted':>11}{'F1':>9}"]
    for row in record["classes"]:
        f1 = "-" if row["f1"] is None else f"{row['f1']:.4f}"
        lines.append(f"  {row['class']:>2} {row['name']:<27}{row['photos']:>8}{row['predicted']:>11}{f1:>9}")
    return "\n".join(lines)


@dataclass(frozen=True)
class Grouping:
    """A way to group people. `group_of` takes a photo's facts and true labels; None where it is not known.

    Groups made `from_labels` have accuracy alone, as each has only some of the classes.
    """

    name: str
    group_of: Callable[[Facts, Mapping[str, int]], str | None]
    from_labels: bool


def _race(facts: Facts, _: Mapping[str, int]) -> str | None:
    return facts.get("race") or None


def _stratum(_: Facts, labels: Mapping[str, int]) -> str | None:
    if any(labels.get(name, UNKNOWN) == UNKNOWN for name in STRATA_TASKS):
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
        rows_of: dict[str, list[int]] = {}
        for row, (known, labels) in enumerate(zip(facts, labels_of_photo, strict=True)):
            rows_of.setdefault(grouping.group_of(known, labels) or "", []).append(row)
        for group in sorted(rows_of.keys() - {""}):
            rows = rows_of[group]
            people = [persons[row] for row in rows]
            found = _estimates(_scored(_of_rows(truth, rows), _of_rows(predicted, rows), people))
            if grouping.from_labels:
                found = {name: {"accuracy": estimate["accuracy"]} for name, estimate in found.items()}
            counts = {"photos": len(rows), "people": len(set(people))}
            records.append({"by": grouping.name, "group": group, **counts, "scores": found})
    return records


def weakest(records: Sequence[dict]) -> list[dict]:
    """The group of each grouping with the lowest accuracy: {"by", "scored", "group", "people", "accuracy"}.

    Over the combined class where it is scored, else for each task.
    """
    found = []
    for by in dict.fromkeys(record["by"] for record in records):
        large = [record for record in records if record["by"] == by and record["people"] >= FEWEST_PEOPLE]
        for scored in _scored_names(large):
            of_scored = [record for record in large if scored in record["scores"]]
            lowest = min(of_scored, key=lambda record: record["scores"][scored]["accuracy"]["value"])
            found.append({"by": by, "scored": scored, "group": lowest["group"], "people": lowest["people"],
                          "accuracy": lowest["scores"][scored]["accuracy"]})  # fmt: skip
    return found


def format_groups(splits: Mapping[str, Sequence[dict]]) -> str:
    """The accuracy of every group, splits side by side, and a line for each group that is the weakest."""
    found = {
        (record["by"], record["group"], scored, split): f"{record['people']:>6} {_accuracy(record['scores'][scored])}"
        for split, records in splits.items()
        for record in records
        for scored in _scored_names([record])
    }
    rows = dict.fromkeys(key[:3] for key in found)
    lines = [f"  {'accuracy of groups':<24}" + "".join(f"{split + ' (people first)':<27}" for split in splits)]
    for by, scored in dict.fromkeys((by, scored) for by, _, scored in rows):
        lines.append(f"  by {by}, {scored}")
        for group in (group for by_, group, scored_ in rows if (by_, scored_) == (by, scored)):
            cells = "".join(f"{found.get((by, group, scored, split), ''):<27}" for split in splits)
            lines.append(f"    {group:<22}{cells}")
    for split, records in splits.items():
        for row in weakest(records):
            lines.append(f"  weakest {split} by {row['by']}: {row['group']}, {row['scored']} {_accuracy(row)}")
    return "\n".join(line.rstrip() for line in lines)


def _of_rows(labels: Labels, rows: Sequence[int]) -> Labels:
    return {name: np.asarray(values)[rows].tolist() for name, values in labels.items()}


def _scored_names(records: Sequence[dict]) -> list[str]:
    """The combined class where it is scored, else the tasks."""
    names = list(dict.fromkeys(name for record in records for name in record["scores"]))
    return [COMBINED] if COMBINED in names else names


def _accuracy(estimates: Mapping[str, Mapping[str, float]]) -> str:
    return format_estimate(estimates["accuracy"], digits=3)


def value_errors(
    tables: Mapping[str, LogitTable],
    image_ids: Sequence[str],
    facts: Sequence[Facts],
    *,
    persons: Sequence[str],
    learned_from: Sequence[Facts],
) -> dict[str, dict]:
    """By task {"unit", "photos", "mean_absolute_error", "always_median"}, over photos whose number is known.

    `image_ids`, `facts` and `persons` have one entry a photo; the baseline always predicts the median of
    `learned_from`, the facts of the training photos.
    """
    found = {}
    for name, table in tables.items():
        task = task_named(name)
        true = known_values(task, facts)
        predicted = set(table.image_ids)
        rows = [row for row in true if image_ids[row] in predicted]
        if not rows:
            continue
        expected = table.of([image_ids[row] for row in rows])[:, 0]
        truth, of_photos = np.array([true[row] for row in rows]), [persons[row] for row in rows]
        learned = list(known_values(task, learned_from).values())
        found[name] = {
            "unit": task.value.name,
            "photos": len(rows),
            "mean_absolute_error": mean_over_photos(np.abs(expected - truth), of_photos),
            "always_median": mean_over_photos(np.abs(np.median(learned or truth) - truth), of_photos),
        }
    return found


def format_values(values: Mapping[str, Mapping]) -> str:
    """One line a task: its mean absolute error, and that of always predicting the median of the training photos."""
    return "\n".join(
        f"  {name} in {entry['unit']}: mean absolute error {format_estimate(entry['mean_absolute_error'], digits=2)},\n"
        f"    always the median {format_estimate(entry['always_median'], digits=2)}"
        for name, entry in values.items()
    )
