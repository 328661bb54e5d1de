"""Weights and training states as safetensors files, each with a digest of its content. Nothing is pickled."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from core.cli import UserError
from core.files import replacing
from storage.backbone_files import backbone_files
from storage.run_dir import BACKBONES

DIGEST = "sha256"
STATE_COPIES = 3
"""A state holds the model and the optimiser's two moments of it."""
_NAME_DIGITS = 16
_LONGEST_NAME = 100


def save_weights(path: Path, model: nn.Module, dtype: torch.dtype | None = None) -> None:
    """Write all tensors of a model, those of floats as `dtype` if one is given. They are loaded as the model's own."""
    tensors = model.state_dict().items()
    _save(path, {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in tensors}, {})


def save_tensors(folder: Path, name: str, tensors: Mapping[str, Tensor]) -> Path:
    """Write tensors that folds share to a file named after their digest, unless it is there; return its path."""
    path = folder / tensors_name(name, tensors)
    if not path.exists():
        _save(path, dict(tensors), {})
    return path


def tensors_name(name: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the name of the file that `save_tensors` writes."""
    # A name like hf-hub:owner/repo or local-dir:/folder is none for a file.
    legal = re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)[-_LONGEST_NAME:]
    return f"{legal}-{digest(tensors, {})[:_NAME_DIGITS]}.safetensors"


def read_backbone(path: Path) -> dict[str, Tensor]:
    """Read the tensors of `save_tensors`, of several files as those of the parts of SideBySide.

    UserError for a file that is damaged or not what its name says.
    """
    paths = backbone_files(path)
    if [path] == paths:
        return _read_backbone(path)
    parts = [_read_backbone(one) for one in paths]
    return {
        f"parts.{number}.network.{name}": tensor for number, part in enumerate(parts) for name, tensor in part.items()
    }


def _read_backbone(path: Path) -> dict[str, Tensor]:
    tensors, _ = _load(path)
    if not path.stem.endswith(f"-{digest(tensors, {})[:_NAME_DIGITS]}"):
        raise UserError(f"{path}: weights of another architecture (not those that its name tells)")
    # In the layout that networks are computed in by default: one that is laid out anew is a copy.
    return {
        name: tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
        for name, tensor in tensors.items()
    }


def load_backbone(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Make these tensors all weights of the network but its head's. `path` is the file they were read from.

    They are not copied: networks given the same tensors share them, and ten heads need the memory of one backbone.
    UserError for tensors of another architecture.
    """
    _load_into_model(path, model, {**model.state_dict(), **tensors}, assign=True)


def load_weights(path: Path, model: nn.Module) -> None:
    """Load strictly. UserError for a file that is damaged or of another architecture."""
    tensors, _ = _load(path)
    _load_into_model(path, model, tensors)


def save_state(path: Path, model: nn.Module, optimizer: Optimizer, progress: dict) -> None:
    """Write model, optimiser and `progress` (as JSON) to one file, so that they cannot disagree."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    _save(path, tensors, {"progress": json.dumps(progress)})


def load_state(path: Path, model: nn.Module, optimizer: Optimizer) -> dict:
    """Load model and optimiser as they were saved, and return the progress."""
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


def training_bytes(weights: int, folds: int, at_once: int) -> int:
    """Return the most bytes on the disk that training `folds` folds needs, `at_once` of them at the same time.

    `weights` is the size of one network in bytes. Weights and states are written aside before their predecessors go.
    """
    return weights * (folds + min(folds, at_once) * (1 + 2 * STATE_COPIES))


def _laid_out_like(parameter: Tensor, tensor: Tensor) -> Tensor:
    """Return a tensor of the optimiser in the memory format of its parameter, which the file does not keep."""
    return torch.empty_like(parameter).copy_(tensor) if tensor.shape == parameter.shape else tensor


def _save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors and metadata, with a digest of both, by which a damaged file is recognised when it is loaded."""
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # Not save_file: it leaves files of its own name behind when it is killed, readable by nobody else.
    content = save(stored, {**metadata, DIGEST: digest(stored, metadata)})
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
    if written and written != digest(tensors, metadata):
        raise _damaged(path, "its content is not what was written")
    return tensors, metadata


def _damaged(path: Path, why: str) -> UserError:
    shared = path.parent.name == BACKBONES
    advice = "remove it and train anew with --overwrite" if shared else "remove its folder and train that fold anew"
    return UserError(f"{path}: damaged or no safetensors file ({why}); {advice}")


def digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Return the SHA-256 of names, types, shapes and bytes of the tensors and of the metadata, in sorted order."""
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
