"""Template values of the sections about scores, groups, mistakes and probabilities."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from core.cropping import CropImages
from core.images import read_photo
from core.tasks import combined_class_count, combined_class_name, task_named
from evaluation.calibration import expected_accuracy, expected_calibration_error, mean_confidence, reliability
from evaluation.combined_class import COMBINED, combine_labels
from evaluation.metrics import confusion_matrix, count_errors
from evaluation.predictions import TaskPredictions, worst_mistakes
from evaluation.scores import FEWEST_PEOPLE, Labels, known_values, majority, score, score_groups, value_errors, weakest
from reporting.figures import density_chart, embed, reliability_chart, thumbnail
from reporting.i18n import INSTALL_GRADCAM
from reporting.load import RunData, Split

if TYPE_CHECKING:
    from reporting.gradcam import HeatMaps

Context = dict[str, Any]
MOST_SUSPECTS = 24
LEAST_SURE = 8
UNLIKE = 0.05  # an expected loss of accuracy above this is pointed out
CALIBRATION_BINS = 10
YEARS_STEP = 5  # years per square of the density chart
DECADE = 10


def scores_section(data: RunData) -> Context:
    """Return scores with confidence intervals and those of the commonest class, and compare decision rules."""
    parts = [{"split": split.name, "rows": _score_rows(data, split), **_size(split)} for split in data.scored_splits]
    return {"parts": parts, "agreement": _agreement(parts), "decisions": data.decisions, "mixes": _mixes(data)}


def _mixes(data: RunData) -> list[Context]:
    """Return the tasks whose estimated class priors on the eval photos differ from those of the training photos."""
    return [
        {"task": name, "rows": list(zip(task_named(name).classes, mix.learned, mix.found, strict=True))}
        for name, mix in data.decision.mixes.items()
    ]


def _size(split: Split) -> Context:
    persons = {person for predictions in split.scored.values() for person in predictions.persons}
    return {"people": len(persons), "photos": max(len(predictions.image_ids) for predictions in split.scored.values())}


def _score_rows(data: RunData, split: Split) -> list[Context]:
    rows = [_score_row(data, split.shared, COMBINED)] if split.has_combined_class else []
    return rows + [_score_row(data, {name: predictions}, name) for name, predictions in split.scored.items()]


def _score_row(data: RunData, predictions: Mapping[str, TaskPredictions], name: str) -> Context:
    """Return the scores of one task or of the combined class, and those of always giving the commonest class."""
    found, naive = _record(predictions, _predicted(predictions)), None
    if predictions.keys() <= data.train_labels.keys():
        learned = {task: data.train_labels[task] for task in predictions}
        naive = _record(predictions, majority(learned, len(next(iter(predictions.values())).persons)))
    of_name = [record and (record[name] if name == COMBINED else record["tasks"][name]) for record in (found, naive)]
    return {"name": name, "found": of_name[0], "naive": of_name[1]}


def _record(predictions: Mapping[str, TaskPredictions], predicted: Labels) -> dict:
    return score(_true(predictions), predicted, next(iter(predictions.values())).persons)


def _true(predictions: Mapping[str, TaskPredictions]) -> Labels:
    return {name: of_task.truth.tolist() for name, of_task in predictions.items()}


def _predicted(predictions: Mapping[str, TaskPredictions]) -> Labels:
    return {name: of_task.predicted.tolist() for name, of_task in predictions.items()}


def _agreement(parts: Sequence[Context]) -> list[Context]:
    """Compare the confidence intervals of macro-F1 of both splits, for each task that both have."""
    if len(parts) < 2:
        return []
    first, second = ({row["name"]: row["found"]["macro_f1"] for row in part["rows"]} for part in parts)
    return [
        {"name": name, "overlaps": max(one["low"], other["low"]) <= min(one["high"], other["high"])}
        for name, one in first.items()
        if (other := second.get(name))
    ]


def confusion_section(data: RunData) -> Context:
    """Return the confusion matrices of every task and of the combined class, with F1 per combined class."""
    return {"parts": [_confusions(split) for split in data.scored_splits]}


def _confusions(split: Split) -> Context:
    tasks = [
        {"task": name, "rows": _matrix(predictions.truth, predictions.predicted, predictions.task.classes)}
        for name, predictions in split.scored.items()
    ]
    if not split.has_combined_class:
        return {"split": split.name, "tasks": tasks, "combined": None, "classes": []}
    names = list(map(combined_class_name, range(combined_class_count())))
    true, predicted = (combine_labels(labels(split.shared)) for labels in (_true, _predicted))
    classes = _record(split.shared, _predicted(split.shared))["classes"]
    return {"split": split.name, "tasks": tasks, "combined": _matrix(true, predicted, names), "classes": classes}


def _matrix(truth: Sequence[int], predicted: Sequence[int], names: Sequence[str]) -> list[Context]:
    """Return one row per true class: name, photos, and for each predicted class its count and fraction of the row."""
    counts = confusion_matrix(truth, predicted, len(names))
    totals = counts.sum(axis=1)
    return [
        {"name": name, "photos": int(total), "cells": [(int(count), count / max(total, 1)) for count in row]}
        for name, row, total in zip(names, counts.tolist(), totals.tolist(), strict=True)
    ]


def groups_section(data: RunData) -> Context:
    """Return the scores of each group of people, and the weakest group of each table."""
    tables = [table for split in data.scored_splits for table in _group_tables(split)]
    return {"tables": sorted(tables, key=lambda table: table["by"] != "race"), "smallest": FEWEST_PEOPLE}


def _group_tables(split: Split) -> list[Context]:
    if not split.shared:
        return []
    predictions = next(iter(split.shared.values()))
    facts = [split.facts.get(image_id, {}) for image_id in predictions.image_ids]
    records = score_groups(_true(split.shared), _predicted(split.shared), predictions.persons, facts)
    groupings = dict.fromkeys(record["by"] for record in records)
    of_grouping = {by: [record for record in records if record["by"] == by] for by in groupings}
    return [
        {
            "by": by,
            "split": split.name,
            "scored": list(rows[0]["scores"]),
            "rows": rows,
            "weakest": weakest(rows) if len(rows) > 1 else [],
        }
        for by, rows in of_grouping.items()
    ]


def calibration_section(data: RunData) -> Context:
    """Return reliability curves and expected calibration errors."""
    parts = [{"split": split.name, "tasks": list(map(_reliability, split.scored.values()))}
             for split in data.scored_splits]  # fmt: skip
    return {"parts": parts}


def _reliability(predictions: TaskPredictions) -> Context:
    name, labels = predictions.task.name, predictions.truth.tolist()
    bins = reliability(predictions.probs, labels, CALIBRATION_BINS)
    columns = ([row[column] for row in bins] for column in ("confidence", "accuracy", "photos"))
    return {
        "task": name,
        "chart": reliability_chart(*columns, label=f"{name} calibration"),
        "ece": expected_calibration_error(predictions.probs, labels, CALIBRATION_BINS),
        "confidence": mean_confidence(predictions.probs),
        "accuracy": float((predictions.probs.argmax(axis=1) == predictions.truth).mean()),
    }


def years_section(data: RunData) -> Context:
    """Return the errors of the expected age in years, over all people and by decade of the true age."""
    parts = [_years(data, split, name) for split in (data.oof, data.eval) for name in split.values]
    return {"parts": [part for part in parts if part]}


def _years(data: RunData, split: Split, name: str) -> Context | None:
    """Return the errors of one split; None if no true values are known."""
    table, task = split.values[name], task_named(name)
    facts = [split.facts.get(image_id, {}) for image_id in table.image_ids]
    person_of = dict(zip(split.crops.image_ids, split.crops.frame["person"], strict=True))
    found = value_errors(
        {name: table},
        table.image_ids,
        facts,
        persons=[person_of[image_id] for image_id in table.image_ids],
        learned_from=list(data.oof.facts.values()),
    )
    if not found:
        return None
    values = known_values(task, facts)
    true, expected = np.array(list(values.values()), dtype=float), table.logits[list(values), 0]
    decades = true // DECADE * DECADE
    return {
        "split": split.name,
        "whole": found[name],
        "near": count_errors(true, expected).near,
        "decades": [(int(start), count_errors(true[decades == start], expected[decades == start]))
                    for start in np.unique(decades)],
        "chart": density_chart(true, expected, step=YEARS_STEP, label=f"{name} {task.value.name}"),
    }  # fmt: skip


def unsure_section(data: RunData) -> Context:
    """Return how often each class was predicted on the eval photos, how likely, and the photos of lowest confidence."""
    return {"tasks": [_unsure(data.eval, predictions) | {"shift": _shift(data.oof.scored.get(name), predictions)}
                      for name, predictions in data.eval.answers.items()]}  # fmt: skip


def _shift(known: TaskPredictions | None, predictions: TaskPredictions) -> Context | None:
    """Compare the confidence on the eval photos with that on the training photos, out of fold; None without these."""
    if known is None:
        return None
    accuracy = float((known.predicted == known.truth).mean())
    before, now = mean_confidence(known.probs), mean_confidence(predictions.probs)
    expected = expected_accuracy(accuracy, before, now)
    return {"accuracy": accuracy, "before": before, "now": now, "expected": expected,
            "unlike": accuracy - expected > UNLIKE}  # fmt: skip


def _unsure(split: Split, predictions: TaskPredictions) -> Context:
    counts = np.bincount(predictions.predicted, minlength=len(predictions.task.classes)).tolist()
    total = max(sum(counts), 1)
    return {
        "task": predictions.task.name,
        "counts": [{"name": name, "count": count, "fraction": count / total}
                   for name, count in zip(predictions.task.classes, counts, strict=True)],
        "cards": [_card(split, predictions, row) for row in least_sure(predictions, LEAST_SURE)],
    }  # fmt: skip


def _card(split: Split, predictions: TaskPredictions, row: int) -> Context:
    """Return one photo with the task's probabilities and its label if known, without heat."""
    image_id = predictions.image_ids[row]
    probs = list(zip(predictions.task.classes, predictions.probs[row].tolist(), strict=True))
    return {
        "image_id": image_id,
        "picture": thumbnail(split.path_of[image_id]),
        "heat": None,
        "truth": None if predictions.truth is None else predictions.task.classes[predictions.truth[row]],
        "predicted": predictions.task.classes[predictions.predicted[row]],
        "probs": probs,
    }


def mistakes_section(data: RunData, *, count: int, heat_maps: "HeatMaps | None") -> Context:
    """Return the most confident wrong predictions of each task, one per person, with heat maps if available."""
    parts = []
    for split in data.scored_splits:
        for predictions in split.scored.values():
            rows = worst_mistakes(predictions, count)
            cards = [_card(split, predictions, row) for row in rows]
            if heat_maps and cards:
                _add_heat(cards, heat_maps, data, split, (predictions, rows))
            wrong = int((predictions.predicted != predictions.truth).sum())
            parts.append({"split": split.name, "task": predictions.task.name, "cards": cards, "wrong": wrong})
    return {"parts": parts, "with_heat": heat_maps is not None, "install": INSTALL_GRADCAM}


def _add_heat(
    cards: list[Context],
    heat_maps: "HeatMaps",
    data: RunData,
    split: Split,
    mistakes: tuple[TaskPredictions, list[int]],
) -> None:
    """Add to each card the mean heat of the models that predicted it: one out of fold, all on eval photos."""
    (predictions, rows), settings = mistakes, split.crops.settings
    heats: dict[int, list[np.ndarray]] = {row: [] for row in rows}
    for trained in data.trained.get(predictions.task.name, ()):
        out_of_fold = set(trained.oof_ids)
        predicted = [row for row in rows if split.name == "eval" or predictions.image_ids[row] in out_of_fold]
        if not predicted:
            continue
        images = CropImages([read_photo(split.path_of[predictions.image_ids[row]]) for row in predicted], settings)
        maps = heat_maps.heat(trained.folder, predictions.task.name, images, predictions.predicted[predicted].tolist())
        window = heat_maps.window(trained.folder, predictions.task.name)
        for row, heat in zip(predicted, () if maps is None else maps, strict=maps is not None):
            heats[row].append(heat)
    for card, row in zip(cards, rows, strict=True):
        if heats[row]:
            shown = settings.cut(read_photo(split.path_of[predictions.image_ids[row]]), window)
            card["heat"] = embed(heat_maps.overlay(shown, np.mean(heats[row], axis=0)))


def suspects_section(data: RunData) -> Context:
    """Return the first rows of label_suspects.csv, if there is one."""
    if data.suspects is None:
        return {"found": None, "rows": []}
    rows, paths = data.suspects.head(MOST_SUSPECTS).to_dict("records"), data.oof.path_of
    shown = [row | {"picture": thumbnail(paths[row["image_id"]]) if row["image_id"] in paths else None} for row in rows]
    return {"found": len(data.suspects), "rows": shown}


def least_sure(predictions: TaskPredictions, count: int) -> list[int]:
    """Return the rows of the predictions of lowest confidence, the lowest first."""
    return np.argsort(predictions.probs.max(axis=1), kind="stable")[:count].tolist()
