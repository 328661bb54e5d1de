"""The run folder: what a run was made from, remembered in run.json so that later steps need no flags."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path

from core import artifacts
from core.checkpoints import DONE
from core.crops import Crops
from core.runtime import UserError
from core.tasks import AgeEdges, task_names


@dataclass(frozen=True)
class Run:
    """The data root, crops and split that all trainings of a run share. Paths are absolute."""

    data_root: str
    layout: str
    crop_dir: str
    train_hash: str
    folds: int
    fold_seed: int
    age_edges: AgeEdges


_ENTRIES = {entry.name: entry.type if entry.type in (str, int) else list for entry in fields(Run)}
"""Of run.json, where the tuple of ages is a list."""
_CALLED = {
    **{"folds": "--folds", "fold_seed": "--fold-seed", "age_edges": "--age-edges"},
    **{"data_root": "data root", "train_hash": "training crops of hash"},
}


def run_path(run_dir: Path) -> Path:
    return run_dir / "run.json"


def describe_run(crops: Crops, *, folds: int, fold_seed: int, age_edges: AgeEdges) -> Run:
    source = crops.source
    crop_dir = str(crops.crop_dir.resolve())
    return Run(source["data_root"], source["layout"], crop_dir, crops.hash, folds, fold_seed, tuple(age_edges))


def begin_run(run_dir: Path, run: Run) -> None:
    """Write run.json at first use; later refuse other data or another split by name."""
    refuse_other_run(run_dir, run)
    if not run_path(run_dir).exists():
        artifacts.write_json(run_path(run_dir), asdict(run))


def refuse_other_run(run_dir: Path, run: Run) -> None:
    """UserError if the run folder was begun with other data or another split; nothing if it is new."""
    if not run_path(run_dir).exists():
        return
    before, now = asdict(read_run(run_dir)), asdict(run)
    for name in now:
        if name != "crop_dir" and before[name] != now[name]:
            called = _CALLED.get(name, name)
            raise UserError(
                f"run folder {run_dir} was begun with {called} {before[name]}, not {now[name]}; give another --run-dir"
            )


def read_run(run_dir: Path) -> Run:
    """run.json of a run; UserError if there is none or it lacks an entry."""
    if not run_path(run_dir).exists():
        raise UserError(f"run folder {run_dir}: no run in it; run train.py first, or give --run-dir")
    stored = artifacts.read_json(run_path(run_dir), _ENTRIES)
    return Run(**{entry.name: stored[entry.name] for entry in fields(Run)} | {"age_edges": tuple(stored["age_edges"])})


def trained_tasks(run_dir: Path) -> list[str]:
    """Names of the tasks of which a run has a finished fold."""
    return [name for name in task_names() if finished_folds(run_dir / name)]


def last_run(outputs: Path) -> Path:
    """The run folder in `outputs` that finished a fold last; UserError if none has."""
    markers = list(outputs.glob(f"*/*/fold*/{DONE}"))
    if not markers:
        raise UserError(f"{outputs}: no trained run in it yet; run train.py first, or give --run-dir")
    return max(markers, key=lambda marker: marker.stat().st_mtime).parents[2]


def finished_folds(task_dir: Path) -> list[Path]:
    """Folders of a task's finished folds, by number."""
    found = [marker.parent for marker in task_dir.glob(f"fold*/{DONE}") if marker.parent.name[4:].isdigit()]
    return sorted(found, key=lambda folder: int(folder.name[4:]))
