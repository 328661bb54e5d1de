"""Table of results, one row a setting, seed and task, and the same as Markdown with intervals and differences.

results.csv is replaced as a whole for every new row; one command at a time writes it. The predictions of each photo,
from which the Markdown is made, lie in <run>/predictions.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from core import files
from core.cli import UserError
from dev.experiments.grid import class_count
from evaluation.logits import EVAL_PHOTOS, OUT_OF_FOLD
from evaluation.metrics import (
    LABELS,
    MEASURES,
    PREDICTION_COLUMNS,
    PeopleSums,
    difference,
    estimate,
    format_difference,
    format_estimate,
    is_known,
    sum_people,
)

TITLES = {OUT_OF_FOLD.name: "out of fold", EVAL_PHOTOS.name: "eval, scored at the end and never used to choose"}


class Key(NamedTuple):
    """Key of a row of results. `folds` are those trained, such as "0 1"."""

    setting: str
    seed: int
    task: str
    part: str
    folds: str

    def predictions_path(self, run_dir: Path) -> Path:
        name = f"{self.task}_{self.part}_folds{self.folds.replace(' ', '-')}.csv"
        return run_of(run_dir, self.setting, self.seed) / "predictions" / name


Rows = Mapping[Key, Mapping[str, str]]
SCORE_COLUMNS = ("photos", "people", "macro_f1", "macro_f1_low", "macro_f1_high", "accuracy", "nll", "mae")
COLUMNS = (*Key._fields, *SCORE_COLUMNS, "seconds", "device")
"""`seconds` is the wall-clock of all trainings in the run folder until then."""


def run_of(run_dir: Path, setting: str, seed: int) -> Path:
    return run_dir / f"{setting}-s{seed}"


def read_results(path: Path) -> Rows:
    """Read the rows of results.csv, none if there is no such file. UserError for a repeated row."""
    rows: dict[Key, dict[str, str]] = {}
    for row in files.read_csv(path, COLUMNS).to_dict("records") if path.exists() else ():
        key = Key(row["setting"], int(row["seed"]), row["task"], row["part"], row["folds"])
        if key in rows:
            raise UserError(f"{path}: {' '.join(map(str, key))} stands in more than one row")
        rows[key] = row
    return rows


def append_result(path: Path, run_dir: Path, key: Key, predictions: pd.DataFrame, cost: Mapping[str, object]) -> None:
    """Write the predictions, then the row, so that every row has its predictions. `cost`: seconds and device."""
    files.write_csv(key.predictions_path(run_dir), predictions)
    sums = sum_people({key.seed: predictions}, class_count(key.task))
    found = {name: estimate(sums, name) for name in MEASURES}
    scores = {name: estimated["value"] for name, estimated in found.items()}
    scores |= {f"macro_f1_{bound}": found["macro_f1"][bound] for bound in ("low", "high")}
    cells = {name: "" if math.isnan(value) else f"{value:.6g}" for name, value in scores.items()}
    row = {**key._asdict(), "photos": len(predictions), "people": len(sums.people), **cells, **cost}
    files.write_csv(path, pd.DataFrame([*read_results(path).values(), row], columns=list(COLUMNS)))


def markdown(path: Path, run_dir: Path, *, baseline: str, measure: str) -> str:
    """Return all results as Markdown, one table for each part, task and choice of folds.

    The last measure of each line is the paired difference of `measure` to the baseline, where both have it.
    """
    rows = read_results(path)
    if not rows:
        raise UserError(f"{path}: no results in it yet")
    groups: dict[tuple[str, str, str], dict[str, list[Key]]] = {}
    for key in rows:
        groups.setdefault((key.part, key.task, key.folds), {}).setdefault(key.setting, []).append(key)
    lines = (
        [f"**{task}, {TITLES[part]}, folds {folds}**", "", *_table(of_group, rows, run_dir, (baseline, measure))]
        for (part, task, folds), of_group in groups.items()
    )
    return "\n\n".join(map("\n".join, lines))


def _table(keys_of: Mapping[str, list[Key]], rows: Rows, run_dir: Path, compared: tuple[str, str]) -> Iterator[str]:
    """Yield the lines of one table: keys by setting; the baseline and the measure of the difference."""
    baseline, measure = compared
    samples = {setting: _sample(keys, run_dir) for setting, keys in keys_of.items()}
    found = {setting: {name: estimate(sample, name) for name in MEASURES} for setting, sample in samples.items()}
    shown = [name for name in MEASURES if any(is_known(of_setting[name]) for of_setting in found.values())]
    titles = [*(LABELS[name] for name in shown), f"{LABELS[measure]} minus `{baseline}`", "minutes", "device"]
    yield _line(["setting", "seeds", *titles])
    yield "|---" * (len(titles) + 2) + "|"
    for setting, sample in samples.items():
        estimates = [format_estimate(found[setting][name]) if is_known(found[setting][name]) else "" for name in shown]
        change = difference(sample, samples[baseline], measure) if baseline in samples and setting != baseline else None
        cell = format_difference(change) if change and is_known(change) else ""
        of_setting = [rows[key] for key in keys_of[setting]]
        minutes = sum(float(row["seconds"]) for row in of_setting) / len(of_setting) / 60
        devices = ", ".join({row["device"]: "" for row in of_setting})
        yield _line([setting, " ".join(map(str, sample.seeds)), *estimates, cell, f"{minutes:.1f}", devices])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _sample(keys: Sequence[Key], run_dir: Path) -> PeopleSums:
    predictions = {key.seed: _read_predictions(key.predictions_path(run_dir)) for key in keys}
    return sum_people(predictions, class_count(keys[0].task))


def _read_predictions(path: Path) -> pd.DataFrame:
    frame = files.read_csv(path, PREDICTION_COLUMNS)
    numbers = {"truth": int, "predicted": int, "nll": float}
    return frame.astype(numbers).assign(value_off=pd.to_numeric(frame["value_off"]))
