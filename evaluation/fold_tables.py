"""What the folds of a run have predicted for one task, and what is true of those photos, read to score and compare."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.cli import UserError, name_some
from core.tasks import Facts, Task
from evaluation.logits import LogitTable, read_table
from storage.crops import Crops
from storage.eval_labels import find_eval_labels
from storage.run_dir import Run, read_config_of

AVERAGE = "log_prob"
"""How the folds' tables of one photo become one, as in ensemble.py by default."""


@dataclass(frozen=True)
class Known:
    """What is known of photos, by image id: label of the task, person, and other facts as far as they are known."""

    source: str
    task: Task
    labels: Mapping[str, int]
    persons: Mapping[str, str]
    facts: Mapping[str, Facts]

    def labels_of(self, image_ids: Sequence[str]) -> list[int]:
        """UserError for a photo that has none."""
        unknown = [image_id for image_id in image_ids if image_id not in self.labels]
        if unknown:
            raise UserError(f"{self.source}: no {self.task.name} label for {name_some(unknown)}, which was predicted")
        return [self.labels[image_id] for image_id in image_ids]

    def persons_of(self, image_ids: Sequence[str]) -> list[str]:
        return [self.persons[image_id] for image_id in image_ids]


def read_tables(task_dir: Path, name: str, task: Task) -> dict[Path, LogitTable]:
    """The tables of that name in the folder's folds, by path. UserError for one that is not of this task."""
    paths = sorted(task_dir.glob(f"fold*/{name}"))
    for path in paths:
        read_config_of(path.parent, task.name)
    return {path: read_table(path, task.classes) for path in paths}


def known_of_training(train: Crops, run: Run, task: Task) -> Known:
    labels = dict(zip(train.image_ids, train.labels(task, run.age_edges), strict=True))
    persons = dict(zip(train.image_ids, train.frame["person"], strict=True))
    facts = dict(zip(train.image_ids, train.frame.to_dict("records"), strict=True))
    return Known(f"training part of {train.crop_dir}", task, labels, persons, facts)


def known_of_eval(run: Run, task: Task, truth_path: Path | None = None) -> Known | None:
    """Each photo a person of its own; None where nobody knows the labels."""
    truth = find_eval_labels(truth_path, run)
    if truth is None:
        return None
    labels = {image_id: of_photo[task.name] for image_id, of_photo in truth.labels.items() if task.name in of_photo}
    return Known("truth", task, labels, dict(zip(labels, labels, strict=True)), truth.facts)
