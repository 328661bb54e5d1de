"""What one fold of one task is trained and held out on, and the identity that its folder is known by."""

from collections.abc import Mapping
from dataclasses import dataclass

from core import files
from core.tasks import Task
from model import normalisation
from storage.crops import Crops
from storage.run_dir import FORMAT
from training.config import Config
from training.device import versions


@dataclass(frozen=True)
class FoldData:
    """The crops and labels of one fold of one task. Rows of `crops` held out by this fold are never learned from."""

    task: Task
    fold: int
    crops: Crops
    labels: list[int]
    fold_of: Mapping[str, int]

    def rows(self, *, held_out: bool) -> list[int]:
        persons = self.crops.frame["person"]
        return [row for row, person in enumerate(persons) if (self.fold_of[person] == self.fold) == held_out]

    def part(self, *, held_out: bool) -> tuple[Crops, list[int]]:
        rows = self.rows(held_out=held_out)
        return self.crops.take(rows), [self.labels[row] for row in rows]

    @property
    def title(self) -> str:
        return f"{self.task.name} fold {self.fold}"

    def identity(self, config: Config) -> dict:
        """What config.json says: enough to refuse a mismatch by name, and to predict from the folder alone."""
        mean, std = normalisation(config.backbone)
        return {
            "format": FORMAT,
            "task": self.task.name,
            "classes": list(self.task.classes),
            "fold": self.fold,
            "settings": config.learned(),
            "crop": self.crops.source["crop"],
            "normalisation": {"mean": list(mean), "std": list(std)},
            "data_hash": self.crops.hash,
            "folds_hash": files.text_hash(f"{person} {fold}" for person, fold in sorted(self.fold_of.items())),
            "versions": versions(),
        }
