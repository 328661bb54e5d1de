"""Scores of trained settings as Markdown, with intervals and paired differences over people and seeds."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from core.cli import UserError
from core.tasks import TASKS
from dev.experiments.grid import SETTINGS
from evaluation.combined_class import COMBINED
from evaluation.logits import EVAL_PHOTOS, OUT_OF_FOLD, Part
from evaluation.metrics import (
    LABELS,
    MEASURES,
    PeopleSums,
    difference,
    estimate,
    format_difference,
    format_estimate,
    is_known,
    sum_people,
)
from evaluation.predictions import TaskPredictions, combine_predictions
from evaluation.results import RunResults, read_fold_tables

TITLES = {OUT_OF_FOLD: "out of fold", EVAL_PHOTOS: "eval, scored at the end and never used to choose"}
Seeds = dict[int, TaskPredictions]
"""Predictions by seed."""


def run_of(run_dir: Path, setting: str, seed: int) -> Path:
    return run_dir / f"{setting}-s{seed}"


def markdown(run_dir: Path, part: Part, *, baseline: str, measure: str) -> str:
    """Return the scores of all settings in a folder as Markdown, one table for each task and choice of folds.

    The last column is the paired difference of `measure` to the baseline, where both have it. UserError if nothing is
    trained.
    """
    groups: dict[tuple[str, str], dict[str, Seeds]] = {}
    for setting in SETTINGS:
        for path in sorted(run_dir.glob(f"{setting}-s*")):
            for key, predictions in _predictions(path, part).items():
                groups.setdefault(key, {}).setdefault(setting, {})[int(path.name.rpartition("-s")[2])] = predictions
    if not groups:
        raise UserError(f"--run-dir {run_dir}: no {part.title} predictions with labels in it")
    tables = (
        [f"**{task}, {TITLES[part]}, {folds}**", "", *_table(groups[task, folds], baseline, measure)]
        for task, folds in groups
    )
    return "\n\n".join(map("\n".join, tables))


def _predictions(run_dir: Path, part: Part) -> dict[tuple[str, str], TaskPredictions]:
    """Return predictions of labelled photos by task and folds, with those of the combined class."""
    results, found, folds = RunResults(run_dir), {}, {}
    for task in TASKS:
        tables = read_fold_tables(run_dir, task, part)
        if tables:
            found[task.name] = results.predictions(part, task, tables).labelled
            folds[task.name] = ", ".join(tables.folds)
    combined = combine_predictions(found)
    if combined and len(set(folds.values())) == 1:
        found[COMBINED], folds[COMBINED] = combined, next(iter(folds.values()))
    return {(name, folds[name]): predictions for name, predictions in found.items() if predictions.image_ids}


def _table(runs: Mapping[str, Seeds], baseline: str, measure: str) -> Iterator[str]:
    """Yield the lines of one table."""
    samples = {setting: _sum(of_seeds) for setting, of_seeds in runs.items()}
    found = {setting: {name: estimate(sample, name) for name in MEASURES} for setting, sample in samples.items()}
    shown = [name for name in MEASURES if any(is_known(of_setting[name]) for of_setting in found.values())]
    yield _line(["setting", "seeds", *(LABELS[name] for name in shown), f"{LABELS[measure]} minus `{baseline}`"])
    yield "|---" * (len(shown) + 3) + "|"
    for setting, sample in samples.items():
        estimates = [format_estimate(found[setting][name]) if is_known(found[setting][name]) else "" for name in shown]
        change = difference(sample, samples[baseline], measure) if baseline in samples and setting != baseline else None
        cell = format_difference(change) if change and is_known(change) else ""
        yield _line([setting, " ".join(map(str, sample.seeds)), *estimates, cell])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _sum(of_seeds: Seeds) -> PeopleSums:
    classes = len(next(iter(of_seeds.values())).task.classes)
    return sum_people({seed: predictions.table() for seed, predictions in of_seeds.items()}, classes)
