"""The results table, one row a setting, seed and task, and the same as Markdown with intervals and paired differences.

results.csv is written anew, aside and renamed, for every row that comes; one command at a time writes to it. What each
photo was answered lies beside the runs, in <run>/predictions, from which the Markdown is made.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pandas as pd
from evaluation.intervals import (
    LABELS,
    MEASURES,
    PREDICTION_COLUMNS,
    PeopleSums,
    difference,
    estimate,
    is_known,
    sum_people,
)

from core import files
from core.cli import UserError
from dev.experiments.scoring import class_count
from evaluation.metrics import Estimate

OOF, EVAL = "oof", "eval"
TITLES = {OOF: "out of fold", EVAL: "eval, scored at the end and never used to choose"}
COSTS = ("minutes", "CPU minutes", "photos/s", "jobs", "device")


@dataclass(frozen=True)
class Key:
    """What a row of the results is of. `folds` are those trained, such as "0 1"."""

    setting: str
    seed: int
    task: str
    part: str
    folds: str

    def predictions_path(self, run_dir: Path) -> Path:
        return run_of(run_dir, self.setting, self.seed) / "predictions" / self.file_name

    @property
    def file_name(self) -> str:
        return f"{self.task}_{self.part}_folds{self.folds.replace(' ', '-')}.csv"

    @property
    def group(self) -> tuple[str, str, str]:
        """Rows of one group stand in one printed table."""
        return self.part, self.task, self.folds


@dataclass(frozen=True)
class Circumstances:
    """What a row cost, and what it was made with.

    `seconds` is the wall-clock of all folds trained side by side, of which a task has its share, `cpu_seconds` their
    processor time, `jobs` how many were trained at once, such as "2", or "1 2" if it was changed between them, `data`
    the hash of the crops, `settings` JSON of all that differs from the plain defaults.
    """

    seconds: float
    cpu_seconds: float
    jobs: str
    photos_per_second: float
    device: str
    data: str
    settings: str


Rows = Mapping[Key, Mapping[str, str]]
KEY_COLUMNS = tuple(entry.name for entry in fields(Key))
COLUMNS = (
    *(*KEY_COLUMNS, "photos", "people", "macro_f1", "macro_f1_low", "macro_f1_high", "accuracy", "nll", "mae"),
    *(entry.name for entry in fields(Circumstances)),
)


def run_of(run_dir: Path, setting: str, seed: int) -> Path:
    return run_dir / f"{setting}-s{seed}"


def read_results(path: Path) -> Rows:
    """The rows of results.csv; none if it is not there yet. UserError for a row that stands twice."""
    if not path.exists():
        return {}
    rows: dict[Key, dict[str, str]] = {}
    for row in files.read_csv(path, COLUMNS).to_dict("records"):
        key = Key(row["setting"], int(row["seed"]), row["task"], row["part"], row["folds"])
        if key in rows:
            raise UserError(f"{path}: {' '.join(map(str, asdict(key).values()))} stands in more than one row")
        rows[key] = row
    return rows


def require_same(path: Path, row: Mapping[str, str], settings: str, data: str) -> None:
    """UserError naming what a row that is there was made with otherwise than it would be now."""
    before = {**json.loads(row["settings"]), "data": row["data"]}
    now = {**json.loads(settings), "data": data}
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            raise UserError(
                f"{path}: {row['setting']} {row['task']} was run with {name} {before.get(name, 'as default')}, now "
                f"{now.get(name, 'as default')}; give another --out and --run-dir"
            )


def append_result(path: Path, run_dir: Path, key: Key, predictions: pd.DataFrame, made: Circumstances) -> None:
    """Write the predictions, then the row: a row that is there has its predictions."""
    files.write_csv(key.predictions_path(run_dir), predictions)
    sums = sum_people({key.seed: predictions}, class_count(key.task))
    found = {name: estimate(sums, name) for name in MEASURES}
    numbers = {name: estimated["value"] for name, estimated in found.items()}
    bounds = {f"macro_f1_{bound}": found["macro_f1"][bound] for bound in ("low", "high")}
    cells = {name: "" if math.isnan(value) else f"{value:.6g}" for name, value in {**numbers, **bounds}.items()}
    row = {**asdict(key), "photos": len(predictions), "people": len(sums.people), **cells, **asdict(made)}
    rows = [*read_results(path).values(), row]
    files.write_csv(path, pd.DataFrame(rows, columns=list(COLUMNS)))


def read_predictions(path: Path) -> pd.DataFrame:
    frame = files.read_csv(path, PREDICTION_COLUMNS)
    numbers = {"truth": int, "predicted": int, "nll": float}
    return frame.astype(numbers).assign(value_off=pd.to_numeric(frame["value_off"]))


def markdown(path: Path, run_dir: Path, *, baseline: str, measure: str) -> str:
    """All results as Markdown: one table for each part, task and choice of folds.

    The last measure of each line is the paired difference of `measure` to the baseline, where both have it.
    """
    rows = read_results(path)
    if not rows:
        raise UserError(f"{path}: no results in it yet")
    groups: dict[tuple, dict[str, list[Key]]] = {}
    for key in rows:
        groups.setdefault(key.group, {}).setdefault(key.setting, []).append(key)
    lines = (
        [f"**{task}, {TITLES[part]}, folds {folds}**", "", *_table(of_group, rows, run_dir, (baseline, measure))]
        for (part, task, folds), of_group in groups.items()
    )
    return "\n\n".join(map("\n".join, lines))


def _table(keys_of: Mapping[str, list[Key]], rows: Rows, run_dir: Path, compared: tuple[str, str]) -> Iterator[str]:
    """The lines of one group: keys by setting, and the baseline and measure of the difference."""
    baseline, measure = compared
    samples = {setting: _sample(keys, run_dir) for setting, keys in keys_of.items()}
    found = {setting: {name: estimate(sample, name) for name in MEASURES} for setting, sample in samples.items()}
    shown = [name for name in MEASURES if any(is_known(of_setting[name]) for of_setting in found.values())]
    titles = ["setting", "seeds", *(LABELS[name] for name in shown), f"{LABELS[measure]} minus `{baseline}`", *COSTS]
    yield _line(titles)
    yield "|---" * len(titles) + "|"
    for setting, sample in samples.items():
        change = _difference(sample, samples.get(baseline), measure) if setting != baseline else ""
        estimates = [_with_interval(found[setting][name]) for name in shown]
        seeds = " ".join(map(str, sample.seeds))
        yield _line([setting, seeds, *estimates, change, *_cost([rows[key] for key in keys_of[setting]])])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _sample(keys: Sequence[Key], run_dir: Path) -> PeopleSums:
    predictions = {key.seed: read_predictions(key.predictions_path(run_dir)) for key in keys}
    return sum_people(predictions, class_count(keys[0].task))


def _difference(sample: PeopleSums, baseline: PeopleSums | None, measure: str) -> str:
    found = difference(sample, baseline, measure) if baseline else None
    return _with_interval(found, sign="+") if found else ""


def _with_interval(found: Estimate, sign: str = "") -> str:
    if not is_known(found):
        return ""
    low, high = (f"{found[bound]:{sign}.4f}" for bound in ("low", "high"))
    return f"{found['value']:{sign}.4f} ({low} to {high})"


def _cost(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """The cells under COSTS: means over the seeds."""
    minutes, cpu_minutes = (_mean(rows, name) / 60 for name in ("seconds", "cpu_seconds"))
    speed = _mean(rows, "photos_per_second")
    said = [", ".join({row[name]: "" for row in rows}) for name in ("jobs", "device")]
    return [f"{minutes:.1f}", f"{cpu_minutes:.1f}", f"{speed:.0f}", *said]


def _mean(rows: Sequence[Mapping[str, str]], column: str) -> float:
    return sum(float(row[column]) for row in rows) / len(rows)
