"""A fold's folder: what it was trained from, its weights, and the state from which training goes on.

    config.json          identity: task, fold, settings, hashes of data and folds; written first
    history.csv          one row an epoch
    state.safetensors    model and optimiser after the last epoch; removed when the fold is done
    model.safetensors    weights of the best epoch
    oof.csv, eval.csv    logit tables
    DONE                 result as JSON; written last

Where the backbone is frozen the weights are those of the head alone; the backbone's lie once for all folds in
backbones/ of the run folder, and config.json names their file. Nothing is pickled.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from core import artifacts
from core.artifacts import replacing
from core.runtime import UserError

FORMAT = 1
CONFIG, HISTORY, STATE, MODEL, OOF, EVAL, DONE = (
    *("config.json", "history.csv", "state.safetensors", "model.safetensors", "oof.csv", "eval.csv", "DONE"),
)
DIGEST = "sha256"
_NAME_DIGITS = 16
BACKBONES = "backbones"
"""Folder in a run folder: weights that folds share, as none of them changes them."""
BACKBONE_FILE = "backbone_file"
"""Entry of config.json where the backbone is frozen."""
_IDENTITY: Mapping[str, type] = MappingProxyType({
    **{"format": int, "task": str, "classes": list, "fold": int, "settings": dict},
    **{"crop": dict, "normalisation": dict, "data_hash": str, "folds_hash": str},
})  # fmt: skip


def fold_dir_of(run_dir: Path, task: str, fold: int) -> Path:
    return run_dir / task / f"fold{fold}"


def backbone_path(fold_dir: Path, config: Mapping) -> Path | None:
    """The file of a fold's frozen backbone; None if the fold has weights of its own for all of its network."""
    name = config.get(BACKBONE_FILE)
    return fold_dir.parents[1] / BACKBONES / name if name else None


def is_done(fold_dir: Path) -> bool:
    return (fold_dir / DONE).exists()


def remove_spent_states(run_dir: Path) -> None:
    """Remove the states of folds that are done, which a training killed in its last moment leaves."""
    for marker in run_dir.glob(f"*/fold*/{DONE}"):
        (marker.parent / STATE).unlink(missing_ok=True)


def read_config(fold_dir: Path) -> dict:
    """config.json of a fold; UserError if it is missing, of another format, or lacks an entry."""
    config = artifacts.read_json(fold_dir / CONFIG)
    if config.get("format") != FORMAT:
        raise UserError(f"{fold_dir / CONFIG}: format {config.get('format')!r}, this version reads format {FORMAT}")
    artifacts.require_entries(fold_dir / CONFIG, config, _IDENTITY)
    return config


def read_config_of(fold_dir: Path, task: str) -> dict:
    """config.json of a fold; UserError also if it is of another task."""
    config = read_config(fold_dir)
    if config["task"] != task:
        raise UserError(f"{fold_dir}: a checkpoint of task {config['task']!r}, not of {task!r}")
    return config


def begin_fold(fold_dir: Path, config: dict) -> None:
    """Write config.json, or, where one is there, refuse to go on under another identity."""
    refuse_other_identity(fold_dir, config)
    if not (fold_dir / CONFIG).exists():
        artifacts.write_json(fold_dir / CONFIG, config)


def refuse_other_identity(fold_dir: Path, config: dict) -> None:
    """UserError if the fold was begun with another task, setting, crop, data or split; nothing if it was not begun."""
    path = fold_dir / CONFIG
    if not path.exists():
        return
    before, now = read_config(fold_dir), json.loads(json.dumps(config))
    # Before training is set up nobody knows the backbone's weights.
    difference = first_difference(before, {BACKBONE_FILE: before.get(BACKBONE_FILE), **now})
    if difference:
        name, before, now = difference
        raise UserError(
            f"{path}: trained with {name} {before!r}, now {now!r}; give another --run-dir, or --overwrite to train anew"
        )


def first_difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """Name and both values of the first identity entry (settings one by one) that differs."""
    before, now = _flat(before), _flat(now)
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            return name, before.get(name), now.get(name)
    return None


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    identity = {name: config.get(name) for name in (*_IDENTITY, BACKBONE_FILE)}
    return {**identity.pop("settings"), **identity}


def save_weights(path: Path, model: nn.Module) -> None:
    _save(path, {name: tensor for name, tensor in model.state_dict().items()}, {})


def save_tensors(folder: Path, name: str, tensors: Mapping[str, Tensor]) -> Path:
    """Write tensors that many folds share, under a name that tells them from all others, unless they are there."""
    path = folder / f"{name}-{_digest(tensors, {})[:_NAME_DIGITS]}.safetensors"
    if not path.exists():
        _save(path, dict(tensors), {})
    return path


def load_backbone(path: Path, model: nn.Module) -> None:
    """Load all of a network but its head. UserError for a file that is damaged or of another architecture.

    Networks loaded from one file share its tensors: ten heads on one backbone need the memory of one.
    """
    _load_into_model(path, model, {**model.state_dict(), **_shared_tensors(path)}, assign=True)


@lru_cache(maxsize=4)
def _shared_tensors(path: Path) -> dict[str, Tensor]:
    tensors, _ = _load(path)
    if not path.stem.endswith(f"-{_digest(tensors, {})[:_NAME_DIGITS]}"):
        raise UserError(f"{path}: weights of another architecture (not those that its name tells)")
    # In the layout that networks are computed in by default: one that is laid out anew is a copy.
    return {
        name: tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
        for name, tensor in tensors.items()
    }


def load_weights(path: Path, model: nn.Module) -> None:
    """Load strictly; UserError for a file that is damaged or of another architecture."""
    tensors, _ = _load(path)
    _load_into_model(path, model, tensors)


def save_state(path: Path, model: nn.Module, optimizer: Optimizer, progress: dict) -> None:
    """Model, optimiser and `progress` (anything JSON has) in one file, so that they cannot disagree."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    _save(path, tensors, {"progress": json.dumps(progress)})


def load_state(path: Path, model: nn.Module, optimizer: Optimizer) -> dict:
    """Put model and optimiser back as they were saved and return the progress."""
    tensors, metadata = _load(path)
    if "progress" not in metadata:
        raise _damaged(path, "no progress in it")
    _load_into_model(path, model, {name[6:]: tensor for name, tensor in tensors.items() if name.startswith("model.")})
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, entry = name.split(".")
            states.setdefault(int(index), {})[entry] = _laid_out_like(parameters[int(index)], tensor)
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    return json.loads(metadata["progress"])


def _laid_out_like(parameter: Tensor, tensor: Tensor) -> Tensor:
    """The optimiser's tensors in the memory format of their parameter, which the file does not keep."""
    return torch.empty_like(parameter).copy_(tensor) if tensor.shape == parameter.shape else tensor


def _save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors and metadata, with a digest of both by which a file that has rotted is known when it is loaded."""
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # Not save_file: it leaves files of its own name behind when it is killed, readable by nobody else.
    content = save(stored, {**metadata, DIGEST: _digest(stored, metadata)})
    with replacing(path) as aside:
        aside.write_bytes(content)


def _load(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as stored:
            tensors, metadata = {name: stored.get_tensor(name) for name in stored.keys()}, stored.metadata() or {}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (SafetensorError, OSError) as error:
        raise _damaged(path, str(error)) from error
    written = metadata.pop(DIGEST, None)
    # A file that carries no digest was written by something else, and is taken as it is.
    if written and written != _digest(tensors, metadata):
        raise _damaged(path, "its content is not what was written")
    return tensors, metadata


def _damaged(path: Path, why: str) -> UserError:
    shared = path.parent.name == BACKBONES
    advice = "remove it and train anew with --overwrite" if shared else "remove its folder and train that fold anew"
    return UserError(f"{path}: damaged or no safetensors file ({why}); {advice}")


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 over names, types, shapes and bytes of the tensors and over the metadata, whatever their order."""
    digest = hashlib.sha256(json.dumps(sorted(metadata.items())).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _load_into_model(path: Path, model: nn.Module, tensors: dict[str, Tensor], *, assign: bool = False) -> None:
    try:
        model.load_state_dict(tensors, strict=True, assign=assign)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: weights of another architecture ({reason})") from error
