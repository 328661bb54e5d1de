"""All that the report is made from, read from a run folder and its crop folder. Nothing is written."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from core import files
from core.cli import UserError, name_some
from core.tasks import TASKS, UNKNOWN, Facts, task_names
from evaluation.combined_class import has_combined_tasks
from evaluation.decision_rules import Decision
from evaluation.logits import EVAL_PHOTOS, OUT_OF_FOLD, LogitTable, Part, read_table
from evaluation.predictions import TaskPredictions, shared_photos
from evaluation.results import RunResults, read_averaged_values
from evaluation.run_decision import read_decision, read_predictions
from evaluation.run_scores import read_scores
from storage.crops import Crops, load_crops, read_faces
from storage.folds import folds_path, read_folds
from storage.learning_curve import read_curve
from storage.run_dir import DONE, HISTORY, OOF, Run, finished_folds, read_config_of

SUSPECT_COLUMNS = ("image_id", "task", "label", "predicted", "prob_label", "prob_predicted", "score")


@dataclass(frozen=True)
class Split:
    """One part of the photos with their predictions by task: `oof` (the training photos, out of fold) or `eval`.

    `facts` by image id are for scoring alone; `values` are the expected values of the tasks that have them.
    """

    name: str
    crops: Crops
    answers: Mapping[str, TaskPredictions]
    facts: Mapping[str, Facts]
    values: Mapping[str, LogitTable]

    @cached_property
    def scored(self) -> dict[str, TaskPredictions]:
        """The predictions whose labels are known."""
        labelled = {name: of_task.labelled for name, of_task in self.answers.items()}
        return {name: of_task for name, of_task in labelled.items() if of_task.image_ids}

    @cached_property
    def shared(self) -> dict[str, TaskPredictions]:
        """The same, of the photos that all of these tasks predict; empty if there is no such photo."""
        image_ids = shared_photos(self.scored.values())
        return {name: of_task.take(image_ids) for name, of_task in self.scored.items()} if image_ids else {}

    @property
    def has_combined_class(self) -> bool:
        return has_combined_tasks(self.shared)

    @cached_property
    def path_of(self) -> dict[str, Path]:
        """The crop of each photo."""
        return dict(zip(self.crops.image_ids, self.crops.paths, strict=True))


@dataclass(frozen=True)
class TrainedFold:
    """A finished fold: identity, DONE, history.csv (one row an epoch, floats), and its out-of-fold photos."""

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
    """A run as the report shows it. What the run does not have is empty or None."""

    run_dir: Path
    run: Run
    faces: pd.DataFrame
    doubts: Mapping[str, str]
    oof: Split
    eval: Split
    trained: Mapping[str, tuple[TrainedFold, ...]]
    fold_of: Mapping[str, int] | None
    suspects: pd.DataFrame | None
    curve: pd.DataFrame | None
    decision: Decision
    decisions: dict | None

    @cached_property
    def train_labels(self) -> dict[str, list[int]]:
        """The label of every training photo, UNKNOWN where it has none, for the tasks that have any."""
        labels = {task.name: self.oof.crops.labels(task, self.run.age_edges) for task in TASKS}
        return {name: of_task for name, of_task in labels.items() if set(of_task) - {UNKNOWN}}

    @property
    def scored_splits(self) -> list[Split]:
        return [split for split in (self.oof, self.eval) if split.scored]


def gather(run_dir: Path, truth_path: Path | None = None) -> RunData:
    """Read a run. UserError for a run folder without run.json, a crop folder that is gone, or a damaged table."""
    results = RunResults(run_dir, truth_path, refuses=False)
    crop_dir = Path(results.run.crop_dir)
    decision = read_decision(run_dir)
    trained = {name: tuple(map(_read_fold, finished_folds(run_dir / name))) for name in task_names()}
    folds, suspects = folds_path(run_dir), run_dir / "label_suspects.csv"
    return RunData(
        run_dir,
        results.run,
        read_faces(crop_dir),
        _read_doubts(crop_dir / "review.csv"),
        _read_split(results, OUT_OF_FOLD, results.train, decision),
        _read_split(results, EVAL_PHOTOS, load_crops(crop_dir, "eval"), decision),
        {name: folds_of_task for name, folds_of_task in trained.items() if folds_of_task},
        read_folds(folds) if folds.exists() else None,
        files.read_csv(suspects, SUSPECT_COLUMNS) if suspects.exists() else None,
        read_curve(run_dir),
        decision,
        (read_scores(run_dir).get("oof") or {}).get("decisions"),
    )


def _read_split(results: RunResults, part: Part, crops: Crops, decision: Decision) -> Split:
    """UserError for predictions of a photo that the crop folder does not have."""
    predictions = read_predictions(results, part, decision)
    known = set(crops.image_ids)
    for name, of_task in predictions.items():
        foreign = [image_id for image_id in of_task.image_ids if image_id not in known]
        if foreign:
            raise UserError(f"{name}.csv: row for {name_some(foreign)}, which crop folder {crops.crop_dir} has not")
    return Split(part.name, crops, predictions, results.facts(part), read_averaged_values(results.run_dir, part))


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


def _read_doubts(path: Path) -> dict[str, str]:
    """Reasons to look at a photo, by image id."""
    if not path.exists():
        return {}
    frame = files.read_csv(path, ("image_id", "why"))
    return dict(zip(frame["image_id"], frame["why"], strict=True))
