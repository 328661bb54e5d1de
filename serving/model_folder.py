"""A model folder: the refits of a run, with all that is needed to use them, in a folder to copy, zip or push.

model.json                          what is in it, where it comes from, and the hash of every file that is loaded
README.md                           the model card
<task>/refit/config.json            settings, crop, classes; as in a run folder
<task>/refit/model.safetensors      weights, in half precision where that changes no label
backbones/                          frozen weights that no installed package carries

Nothing is unpickled, and no file is used whose hash is not that of model.json.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import files
from core.cli import UserError, printable
from evaluation.logits import AVERAGES

if TYPE_CHECKING:
    from torch import Tensor

    from serving.torch_model import RunClassifier

MODEL_FILE, CARD, FORMAT = "model.json", "README.md", 1
ENTRIES: Mapping[str, type] = {
    **{"format": int, "name": str, "tasks": list, "detector": str, "averaging": dict, "backbones": dict},
    **{"trained_on": dict, "accuracy": dict, "terms": str, "files": dict},
}
"""Entries of model.json. `averaging`: average and temperature, `accuracy`: out of fold, both by task. `backbones`: by
file name, the backbone whose packaged weights stand for that file."""


def is_model_folder(path: Path) -> bool:
    return (path / MODEL_FILE).is_file()


def read_model(folder: Path) -> dict[str, Any]:
    """Read model.json and check the hash of every file. UserError for a file that is missing, changed or foreign."""
    path = folder / MODEL_FILE
    if not path.exists():
        raise UserError(f"{folder}: no {MODEL_FILE} in it; `python -m serving.publish` writes model folders")
    about = files.read_json(path)
    if about.get("format") != FORMAT:
        raise UserError(f"{path}: format {about.get('format')!r}, this version reads format {FORMAT}")
    files.require_entries(path, about, ENTRIES)
    if not about["tasks"] or not all(isinstance(task, str) for task in about["tasks"]):
        raise UserError(f"{path}: tasks {about['tasks']!r:.100}, expected names of tasks")
    files.require_entries(f"{path}: accuracy", about["accuracy"], dict.fromkeys(about["accuracy"], float))
    for name, expected in about["files"].items():
        place = folder / name
        # Not the resolved path: the hub's client keeps files elsewhere, and links to them.
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise UserError(f"{path}: file {name!r} lies outside of the folder")
        if not place.is_file():
            raise UserError(f"{place}: no such file, though {MODEL_FILE} names it; get the folder anew")
        if files.file_sha256(place) != expected:
            raise UserError(f"{place}: damaged or changed (its SHA-256 is not that of {MODEL_FILE}); get it anew")
    return about


def load_model_folder(folder: Path, *, tasks: Sequence[str] = (), device: str = "auto") -> "RunClassifier":
    """Load the models of all tasks, or those named. UserError as `read_model`, and for a task that is not in it."""
    from serving.torch_model import Averaging, classifier_of
    from storage.run_dir import CONFIG, MODEL, REFIT
    from training.predictor import load_predictor

    about = read_model(folder)
    lacking = [task for task in tasks if task not in about["tasks"]]
    if lacking:
        raise UserError(f"{folder}: no model of {', '.join(lacking)}; it has {', '.join(about['tasks'])}")
    predictors, averaging = {}, {}
    backbones: dict[Path, dict[str, Tensor]] = {}
    for task in tasks or about["tasks"]:
        place = folder / task / REFIT
        for name in (CONFIG, MODEL):
            if (place / name).relative_to(folder).as_posix() not in about["files"]:
                raise UserError(f"{folder / MODEL_FILE}: file {task}/{REFIT}/{name} is missing in it")
        _add_packaged(backbones, place, task, about)
        predictors[task] = (load_predictor(place, task, backbones),)
        entry, where = about["averaging"].get(task, {}), f"{folder / MODEL_FILE}: averaging of {task}"
        files.require_entries(where, entry, {"average": str, "temperature": float})
        if entry["average"] not in AVERAGES or not 0 < entry["temperature"] < math.inf:
            allowed = f"allowed are {' and '.join(AVERAGES)}, and a temperature above 0"
            raise UserError(f"{where}: average {entry['average']!r}, temperature {entry['temperature']}; {allowed}")
        averaging[task] = Averaging(entry["average"], entry["temperature"])
    return classifier_of(predictors, averaging, device)


def _add_packaged(backbones: dict, place: Path, task: str, about: Mapping[str, Any]) -> None:
    """Add the tensors of a frozen backbone that comes from packages, under the path that its file would have."""
    from storage.run_dir import backbone_path, read_config_of
    from training.config import from_dict
    from training.inputs import shown_of

    config = read_config_of(place, task)
    path = backbone_path(place, config)
    if path is None or path.name not in about["backbones"] or path in backbones:
        return
    settings = from_dict(config["settings"])
    tensors, name = packaged_tensors(settings.backbone, shown_of(settings, config).size)
    if name != path.name:
        raise UserError(
            f"{place}: learned from {path.name}, the installed packages have {name}; "
            f"install the versions of requirements.txt"
        )
    backbones[path] = tensors


def packaged_tensors(backbone: str, size: tuple[int, int]) -> "tuple[dict[str, Tensor], str]":
    """Return the tensors of a backbone whose weights installed packages carry, and the name of a file of them."""
    import torch

    from model import backbone_tensors, build_model
    from training.frozen_backbone import file_name

    network = build_model(backbone, 1, image_size=size, pretrained=True)
    tensors, name = backbone_tensors(network), file_name(backbone, network)
    # In the layout that networks are computed in.
    layout = {"memory_format": torch.channels_last}
    return {key: part.contiguous(**layout) if part.ndim == 4 else part for key, part in tensors.items()}, name


def describe_model(folder: Path, about: Mapping[str, Any], tasks: Sequence[str]) -> str:
    """Return lines that name the model, what it was trained on, how good it is, and how it may be used.

    Texts of strangers are in them, with what would do something to a terminal escaped.
    """
    learned = about["trained_on"]
    people = f", {learned['people']} people" if learned.get("people") else ""
    right = [f"{task} {about['accuracy'][task]:.1%}" for task in tasks if task in about["accuracy"]]
    lines = [
        f"model {about['name']} ({folder}): {', '.join(tasks)}",
        f"  trained on {learned.get('name', '?')}{people}",
        f"  right out of fold (the folds that it stands in for): {', '.join(right) or 'not scored'}",
        f"  {about['terms']}",
    ]
    return "\n".join(map(printable, lines))
