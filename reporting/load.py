"""All that the report is made from, read from a run folder and its crop folder. Nothing is written."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from core import files
from core.cli import UserError, name_some
from core.tasks import TASKS, Facts, Task, combined_tasks, task_names
from evaluation.decision_rules import RAW, Decision, compare, rule_named
from evaluation.label_shift import Mix
from evaluation.logits import LogitTable, join_held_out, log_softmax, read_table
from evaluation.results import read_out_of_fold, value_tables
from storage.crops import Crops, load_crops, read_faces
from storage.eval_labels import EvalLabels, find_eval_labels
from storage.folds import folds_path, read_folds
from storage.label_corrections import training_crops
from storage.run_dir import DONE, HISTORY, OOF, Run, finished_folds, read_config_of, read_run

SUSPECT_COLUMNS = ("image_id", "task", "label", "predicted", "prob_label", "prob_predicted", "score")


@dataclass(frozen=True)
class Answers:
    """What a task's models say of N photos: `probs` (N, C) float64 and `predicted` (N,) int64, the decision on them.

    `truth` (N,) int64 is None where nobody knows it.
    """

    task: Task
    image_ids: tuple[str, ...]
    persons: tuple[str, ...]
    probs: np.ndarray
    predicted: np.ndarray
    truth: np.ndarray | None

    def take(self, image_ids: Sequence[str]) -> "Answers":
        """These photos in this order."""
        position = {image_id: row for row, image_id in enumerate(self.image_ids)}
        rows = [position[image_id] for image_id in image_ids]
        persons, truth = tuple(self.persons[row] for row in rows), None if self.truth is None else self.truth[rows]
        return Answers(self.task, tuple(image_ids), persons, self.probs[rows], self.predicted[rows], truth)


@dataclass(frozen=True)
class Split:
    """One part of the photos with the answers to them: `oof` (the training photos, out of fold) or `eval`.

    `facts` by image id are for scoring alone; `values` are the expected numbers of the tasks that have them.
    """

    name: str
    crops: Crops
    answers: Mapping[str, Answers]
    facts: Mapping[str, Facts]
    values: Mapping[str, LogitTable]

    @cached_property
    def scored(self) -> dict[str, Answers]:
        """The answers whose truth is known."""
        return {name: answers for name, answers in self.answers.items() if answers.truth is not None}

    @cached_property
    def shared(self) -> dict[str, Answers]:
        """The same, over the photos that all of these tasks answer; empty if there is no such photo."""
        found = [set(answers.image_ids) for answers in self.scored.values()]
        image_ids = sorted(set.intersection(*found)) if found else []
        return {name: answers.take(image_ids) for name, answers in self.scored.items()} if image_ids else {}

    @property
    def has_combined_class(self) -> bool:
        return all(task.name in self.shared for task in combined_tasks())

    @cached_property
    def path_of(self) -> dict[str, Path]:
        """The crop of each photo."""
        return dict(zip(self.crops.image_ids, self.crops.paths, strict=True))


@dataclass(frozen=True)
class TrainedFold:
    """A finished fold: identity, DONE and history.csv (one row an epoch, floats), and the photos it was tested on."""

    folder: Path
    identity: dict
    result: dict
    history: pd.DataFrame
    oof_ids: tuple[str, ...]

    @property
    def fold(self) -> int:
        return self.identity["fold"]


@dataclass(frozen=True)
class RunData:
    """A run as the report sees it. What the run has not got is empty or None."""

    run_dir: Path
    run: Run
    faces: pd.DataFrame
    doubts: Mapping[str, str]
    oof: Split
    eval: Split
    trained: Mapping[str, tuple[TrainedFold, ...]]
    fold_of: Mapping[str, int] | None
    suspects: pd.DataFrame | None
    decision: Decision
    decisions: dict | None

    @cached_property
    def train_labels(self) -> dict[str, list[int]]:
        """The label of every training photo, for the combined tasks and those that were trained."""
        tasks = [task for task in TASKS if task.in_combined_class or task.name in self.oof.answers]
        return {task.name: self.oof.crops.labels(task, self.run.age_edges) for task in tasks}

    @property
    def scored_splits(self) -> list[Split]:
        return [split for split in (self.oof, self.eval) if split.scored]


def gather(run_dir: Path, truth_path: Path | None = None) -> RunData:
    """Read a run. UserError for a run folder without run.json, a crop folder that is gone, or a damaged table."""
    run = read_run(run_dir)
    crop_dir = Path(run.crop_dir)
    train = training_crops(run_dir, crop_dir)
    decision = _read_decision(run_dir / "decision.json")
    trained = {name: tuple(map(_read_fold, finished_folds(run_dir / name))) for name in task_names()}
    folds = folds_path(run_dir)
    return RunData(
        run_dir,
        run,
        read_faces(crop_dir),
        _read_doubts(crop_dir / "review.csv"),
        _read_oof(run_dir, train, run, decision),
        _read_eval(run_dir, load_crops(crop_dir, "eval"), find_eval_labels(truth_path, run), decision),
        {name: folds_of_task for name, folds_of_task in trained.items() if folds_of_task},
        read_folds(folds) if folds.exists() else None,
        _read_suspects(run_dir / "label_suspects.csv"),
        decision,
        _read_decisions(run_dir / "scores.json"),
    )


def _read_fold(folder: Path) -> TrainedFold:
    identity = read_config_of(folder, folder.parent.name)
    path = folder / HISTORY
    history = files.read_csv(path, ("epoch", "train_loss", "loss", "macro_f1", "seconds"))
    try:
        # Empty where an epoch was not scored.
        numbers = history.replace("", "nan").astype(float)
    except ValueError as error:
        raise UserError(f"{path}: a cell is not a number ({error})") from None
    oof = read_table(folder / OOF, identity["classes"])
    return TrainedFold(folder, identity, files.read_json(folder / DONE), numbers, oof.image_ids)


def _read_oof(run_dir: Path, train: Crops, run: Run, decision: Decision) -> Split:
    """Out-of-fold answers; of a task that is not averaged yet, those of its finished folds."""
    answers = {}
    for task in TASKS:
        path = run_dir / f"{task.name}_oof.csv"
        table = read_table(path, task.classes) if path.exists() else _join_folds(run_dir / task.name, task)
        if table is None:
            continue
        label_of = dict(zip(train.image_ids, train.labels(task, run.age_edges), strict=True))
        answers[task.name] = _answers(path, task, table, train, label_of)
    oof = read_out_of_fold(run_dir, train, run) if decision.rule != RAW else None
    if oof and oof.has_combined_class:
        # On people that the rule was not fitted on, as everything out of fold.
        trials = compare(oof)
        labels = next(trial.labels for trial in trials if trial.rule == decision.rule)
        answers = _decided(answers, train.image_ids, labels)
    facts = dict(zip(train.image_ids, train.frame.to_dict("records"), strict=True))
    return Split("oof", train, answers, facts, value_tables(run_dir, "_oof"))


def _join_folds(task_dir: Path, task: Task) -> LogitTable | None:
    paths = [folder / OOF for folder in finished_folds(task_dir)]
    return join_held_out({path: read_table(path, task.classes) for path in paths}) if paths else None


def _read_eval(run_dir: Path, crops: Crops, truth: EvalLabels | None, decision: Decision) -> Split:
    answers, tables = {}, {}
    for task in TASKS:
        path = run_dir / f"{task.name}.csv"
        if path.exists():
            tables[task.name] = read_table(path, task.classes)
            label_of = {image_id: labels[task.name] for image_id, labels in truth.labels.items()} if (
                truth and task.in_combined_class) else None  # fmt: skip
            answers[task.name] = _answers(path, task, tables[task.name], crops, label_of)
    if decision.rule != RAW and all(task.name in tables for task in combined_tasks()):
        labels = decision.labels({name: table.of(crops.image_ids) for name, table in tables.items()})
        answers = _decided(answers, crops.image_ids, labels)
    return Split("eval", crops, answers, truth.facts if truth else {}, value_tables(run_dir))


def _answers(path: Path, task: Task, table: LogitTable, crops: Crops, label_of: Mapping[str, int] | None) -> Answers:
    """The likeliest classes. UserError for a photo that the crop folder has not, or whose label is not known."""
    person_of = dict(zip(crops.image_ids, crops.frame["person"], strict=True))
    for known, where in ((person_of, f"crop folder {crops.crop_dir}"), (label_of, "the truth")):
        foreign = [image_id for image_id in table.image_ids if known is not None and image_id not in known]
        if foreign:
            raise UserError(f"{path}: row for {name_some(foreign)}, which {where} has not")
    truth = None if label_of is None else np.array([label_of[image_id] for image_id in table.image_ids], dtype=np.int64)
    persons = tuple(person_of[image_id] for image_id in table.image_ids)
    return Answers(
        task, table.image_ids, persons, np.exp(log_softmax(table.logits)), table.logits.argmax(axis=1), truth
    )


def _decided(
    answers: Mapping[str, Answers], image_ids: Sequence[str], labels: Mapping[str, np.ndarray]
) -> dict[str, Answers]:
    """The answers with the labels (N,) that a rule gives to these photos, for the tasks that it decides on."""
    decided = dict(answers)
    for name, of_task in labels.items():
        label_of = dict(zip(image_ids, of_task.tolist(), strict=True))
        predicted = np.array([label_of[image_id] for image_id in answers[name].image_ids], dtype=np.int64)
        decided[name] = replace(answers[name], predicted=predicted)
    return decided


def _read_decision(path: Path) -> Decision:
    """The rule that the submission was made by. UserError for a file that no `submission.py` has written."""
    if not path.exists():
        return Decision.raw()
    stored = files.read_json(path, {"rule": str, "temperatures": dict, "biases": list})
    mixes = _read_mixes(stored.get("mixes", {}))
    decision = Decision(rule_named(stored["rule"]).name, stored["temperatures"], tuple(stored["biases"]), mixes or {})
    numbers = (*decision.temperatures.values(), *decision.biases)
    shape = Decision.raw()
    fits = decision.temperatures.keys() == shape.temperatures.keys() and len(decision.biases) == len(shape.biases)
    if mixes is None or not fits or not _are_numbers(numbers):
        wanted = f"a temperature for each task and {len(shape.biases)} biases, and shares of classes by task"
        raise UserError(f"{path}: allowed are {wanted}; run submission.py again")
    return decision


def _read_mixes(stored: object) -> dict[str, Mix] | None:
    """The mixes that submission.py wrote, by task; None if they are none."""
    classes = {task.name: len(task.classes) for task in combined_tasks()}
    if not isinstance(stored, dict) or not stored.keys() <= classes.keys():
        return None
    mixes = {}
    for name, mix in stored.items():
        parts = [mix.get(part) if isinstance(mix, dict) else None for part in ("learned", "found")]
        if not all(isinstance(part, list) and len(part) == classes[name] and _are_numbers(part) for part in parts):
            return None
        mixes[name] = Mix(*map(tuple, parts))
    return mixes


def _are_numbers(values: Iterable[object]) -> bool:
    return all(isinstance(value, (int, float)) for value in values)


def _read_decisions(path: Path) -> dict | None:
    """How the rules of decision compare, as submission.py found; None where it has not run."""
    return ((files.read_json(path).get("oof") or {}) if path.exists() else {}).get("decisions")


def _read_doubts(path: Path) -> dict[str, str]:
    """Why a person should look at a photo, by image id."""
    if not path.exists():
        return {}
    frame = files.read_csv(path, ("image_id", "why"))
    return dict(zip(frame["image_id"], frame["why"], strict=True))


def _read_suspects(path: Path) -> pd.DataFrame | None:
    return files.read_csv(path, SUSPECT_COLUMNS) if path.exists() else None
