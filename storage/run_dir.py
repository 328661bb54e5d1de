"""The run folder and the fold folders in it: what each was made from, so that later steps need no flags.

run.json                 data root, crops and split of all trainings of the run
backbones/               weights of frozen backbones, shared by all folds
<task>/fold<k>/
    config.json          identity: task, fold, settings, hashes of data and folds; written first
    history.csv          one row an epoch
    state.safetensors    model and optimiser after the last epoch; removed when the fold is done
    model.safetensors    weights of the kept epoch; with a frozen backbone those of the head alone
    oof.csv, eval.csv    logit tables
    eval.json            what eval.csv was made from
    DONE                 result as JSON; written last
<task>/refit/            the same files, of one model trained on all people; without out-of-fold or eval tables
"""

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from core import files
from core.cli import OUTPUTS, UserError
from core.tasks import AgeEdges, task_names
from storage.backbone_files import backbone_files
from storage.crops import Crops

FORMAT = 1
DIGESTS = "sha256"
"""Entry of DONE and of the stamps beside tables: the digest of each file that was written, by name."""
CONFIG, HISTORY, STATE, MODEL = "config.json", "history.csv", "state.safetensors", "model.safetensors"
OOF, EVAL, EVAL_STAMP, DONE = "oof.csv", "eval.csv", "eval.json", "DONE"
SAMPLE_RECORD = "sample.json"
"""File in a data root of drawn people."""
REFIT = "refit"
"""Folder in a task folder for the model of all people."""
BACKBONES = "backbones"
"""Folder in a run folder for weights that folds share and none changes."""
BACKBONE_FILE = "backbone_file"
"""Entry of config.json where the backbone is frozen; see `backbone_files`."""
DRAWINGS_HASH = "drawings_hash"
"""Entry of config.json of a fold that learns from drawings, too."""
_IDENTITY: Mapping[str, type] = MappingProxyType({
    **{"format": int, "task": str, "classes": list, "fold": int, "settings": dict},
    **{"crop": dict, "normalisation": dict, "data_hash": str, "folds_hash": str},
})  # fmt: skip


@dataclass(frozen=True)
class Run:
    """Data root, crops and split that all trainings of a run share. Paths are absolute."""

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
    """Return the run that these crops and this split make."""
    source = crops.source
    crop_dir = str(crops.crop_dir.resolve())
    return Run(source["data_root"], source["layout"], crop_dir, crops.hash, folds, fold_seed, tuple(age_edges))


def begin_run(run_dir: Path, run: Run) -> None:
    """Write run.json at first use; later refuse other data or another split by name."""
    refuse_other_run(run_dir, run)
    write_run(run_dir, run)


def write_run(run_dir: Path, run: Run) -> None:
    """Write run.json at first use."""
    if not run_path(run_dir).exists():
        files.write_json(run_path(run_dir), asdict(run))


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
    """Read run.json; UserError if there is none, or an entry is missing or of another kind."""
    if not run_path(run_dir).exists():
        raise UserError(f"run folder {run_dir}: no run in it; run train.py first, or give --run-dir")
    stored = files.read_json(run_path(run_dir), _ENTRIES)
    edges = stored["age_edges"]
    if [*map(type, edges)] != [int, int] or edges[0] >= edges[1]:
        raise UserError(f"{run_path(run_dir)}: age_edges {edges!r:.60}; allowed are two whole numbers, in order")
    return Run(**{entry.name: stored[entry.name] for entry in fields(Run)} | {"age_edges": tuple(stored["age_edges"])})


def is_trained_here(run_dir: Path) -> bool:
    """Return True if a fold was trained in this folder, or begun, rather than predicted for other photos."""
    return any((folder / name).exists() for folder in run_dir.glob("*/fold*") for name in (DONE, MODEL, STATE, HISTORY))


def trained_tasks(run_dir: Path) -> list[str]:
    """Return the names of the tasks of which a run has a finished fold."""
    return [name for name in task_names() if finished_folds(run_dir / name)]


def default_run(outputs: Path) -> Path:
    """Return the run `default` in `outputs` if it has a finished fold, else the run that finished one last.

    Runs of drawn people are left out. UserError if there is no other.
    """
    markers = sorted(outputs.glob(f"*/*/fold*/{DONE}"), key=lambda marker: marker.stat().st_mtime)
    trained = [marker.parents[2] for marker in markers]
    usable = [run_dir for run_dir in trained if not is_of_drawn_people(run_dir)]
    if not usable:
        drawn = f" but {trained[-1]}, which learned from drawn people" if trained else ""
        again = f"--run-dir {trained[-1]} to use it all the same" if trained else "--run-dir"
        raise UserError(f"{outputs}: no trained run in it{drawn}; run train.py first, or give {again}")
    return outputs / "default" if outputs / "default" in usable else usable[-1]


def trained_run(run_dir: Path | None) -> Path:
    """Return the run folder that was given, else `default_run`, which is named on standard error."""
    if run_dir is None:
        run_dir = default_run(OUTPUTS)
        print(f"run {run_dir}", file=sys.stderr)
    return run_dir


def is_of_drawn_people(run_dir: Path) -> bool:
    """Return whether a run learned from the sample that synthesis.drawn.sample draws."""
    return run_path(run_dir).exists() and (Path(read_run(run_dir).data_root) / SAMPLE_RECORD).exists()


def finished_folds(task_dir: Path) -> list[Path]:
    """Return the folders of a task's finished folds, by number."""
    found = [marker.parent for marker in task_dir.glob(f"fold*/{DONE}") if marker.parent.name[4:].isdigit()]
    return sorted(found, key=lambda folder: int(folder.name[4:]))


def fold_dir_of(run_dir: Path, task: str, fold: int) -> Path:
    return run_dir / task / f"fold{fold}"


def run_dir_of(fold_dir: Path) -> Path:
    """Return the run folder that a fold folder is in: the inverse of `fold_dir_of`."""
    return fold_dir.parents[1]


def backbone_path(fold_dir: Path, config: Mapping) -> Path | None:
    """Return the file of a fold's frozen backbone; None if the fold keeps all weights of its network itself."""
    name = config.get(BACKBONE_FILE)
    return run_dir_of(fold_dir) / BACKBONES / name if name else None


def is_done(fold_dir: Path) -> bool:
    return (fold_dir / DONE).exists()


def read_stamp(path: Path) -> dict:
    """Read DONE, or the record of what a table was made from; empty where it is missing or damaged."""
    try:
        return files.read_json(path)
    except UserError:
        return {}


def written_digests(path: Path) -> dict[str, str]:
    """Return the digests in a stamp by file name; empty where it holds none."""
    found = read_stamp(path).get(DIGESTS)
    return found if isinstance(found, dict) else {}


def refuse_changed(path: Path, stamp_path: Path, command: str) -> None:
    """UserError if a table is gone or is not what `command` wrote; nothing if the stamp does not know it."""
    digest = written_digests(stamp_path).get(path.name)
    if digest and not path.exists():
        raise UserError(f"{path}: no such file; run {command} first")
    if digest and files.file_sha256(path) != digest:
        raise UserError(f"{path}: changed since {command} wrote it; run {command} again")


def refuse_incomplete(fold_dir: Path, *names: str) -> None:
    """UserError if a finished fold lacks one of these files, or has another in its place than training wrote."""
    if not is_done(fold_dir):
        return
    written, paths = written_digests(fold_dir / DONE), [fold_dir / CONFIG, *(fold_dir / name for name in names)]
    if MODEL in names and (fold_dir / CONFIG).exists():
        paths += backbone_files(backbone_path(fold_dir, read_config(fold_dir)))
    for path in paths:
        fault = "" if path.exists() else "no such file"
        if not fault and path.name in written and written[path.name] != files.file_sha256(path):
            fault = "damaged, or replaced since the training"
        if fault:
            which = "--refit" if fold_dir.name == REFIT else f"--fold {fold_dir.name[4:]}"
            raise UserError(
                f"{path}: {fault}, though the training is done; put it back, or train it anew: "
                f"train.py --task {fold_dir.parent.name} {which} --overwrite"
            )


def remove_spent_states(run_dir: Path) -> None:
    """Remove the states of folds that are done, left by a training killed between DONE and its end."""
    for marker in [*run_dir.glob(f"*/fold*/{DONE}"), *run_dir.glob(f"*/{REFIT}/{DONE}")]:
        (marker.parent / STATE).unlink(missing_ok=True)


def read_config(fold_dir: Path) -> dict:
    """Read config.json of a fold; UserError if it is missing, of another format, or lacks an entry."""
    config = files.read_json(fold_dir / CONFIG)
    if config.get("format") != FORMAT:
        raise UserError(f"{fold_dir / CONFIG}: format {config.get('format')!r}, this version reads format {FORMAT}")
    files.require_entries(fold_dir / CONFIG, config, _IDENTITY)
    number = fold_dir.name.removeprefix("fold")
    is_other = number.isdigit() and number != str(config["fold"])
    if is_other or (number == REFIT) != (config["fold"] == config["settings"].get("folds")):
        raise UserError(f"{fold_dir / CONFIG}: of fold {config['fold']}; the folder holds another fold's files")
    _refuse_unusable_numbers(fold_dir / CONFIG, config["normalisation"])
    shared = config.get(BACKBONE_FILE, "")
    if not isinstance(shared, str) or Path(shared).name != shared:
        raise UserError(f"{fold_dir / CONFIG}: {BACKBONE_FILE} is {shared!r:.100}, expected the name of a file")
    return config


def _refuse_unusable_numbers(path: Path, normalisation: Mapping) -> None:
    """UserError unless mean and standard deviation are three finite numbers each, the second above 0."""
    for name in ("mean", "std"):
        found = normalisation.get(name)
        numbers = found if isinstance(found, list) else []
        good = [value for value in numbers if type(value) in (int, float) and math.isfinite(value)]
        if len(numbers) != 3 or len(good) != 3 or (name == "std" and min(good) <= 0):
            allowed = "three finite numbers" + (" above 0" if name == "std" else "")
            raise UserError(f"{path}: normalisation: {name} is {found!r:.100}, expected {allowed}")


def read_config_of(fold_dir: Path, task: str) -> dict:
    """Read config.json of a fold; UserError as `read_config`, and if it is of another task."""
    config = read_config(fold_dir)
    if config["task"] != task:
        raise UserError(f"{fold_dir}: a checkpoint of task {config['task']!r}, not of {task!r}")
    return config


def begin_fold(fold_dir: Path, config: dict, *, write: bool = True) -> None:
    """Write config.json, if `write`, or, where one is there, refuse to go on under another identity."""
    refuse_other_identity(fold_dir, config)
    if write and not (fold_dir / CONFIG).exists():
        files.write_json(fold_dir / CONFIG, config)


def refuse_other_identity(fold_dir: Path, config: dict) -> None:
    """UserError if the fold was begun with another task, setting, crop, data or split; nothing if it was not begun."""
    path = fold_dir / CONFIG
    if not path.exists():
        return
    before, now = read_config(fold_dir), json.loads(json.dumps(config))
    # The backbone's weights are not known before training is set up.
    difference = first_difference(before, {BACKBONE_FILE: before.get(BACKBONE_FILE), **now})
    if difference:
        name, before, now = difference
        raise UserError(
            f"{path}: trained with {name} {before!r}, now {now!r}; give another --run-dir, or --overwrite to train anew"
        )


def first_difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """Return name and both values of the first identity entry (settings one by one) that differs."""
    before, now = _flat(before), _flat(now)
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            return name, before.get(name), now.get(name)
    return None


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    identity = {name: config.get(name) for name in (*_IDENTITY, DRAWINGS_HASH, BACKBONE_FILE)}
    return {**identity.pop("settings"), **identity}
