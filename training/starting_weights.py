"""Where the weights that a training starts from came from: what a fold's config.json says of them."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import timm
from timm.models import PretrainedCfg
from torch import nn

from backbones.side_by_side import JOIN, parts_of
from core.cli import UserError
from model import Descriptions, pretrained_config, tensors_without_head
from storage.run_dir import CONFIG, read_config
from training.checkpoints import digest
from training.config import Config

DESCRIBED = "described"
"""Entry of config.json where timm has the network from a folder or from the hub, which may be gone at prediction."""
STARTED_FROM = "started_from"
"""Entry of config.json of a fold with pretrained weights; folds of earlier versions have none."""
_FILES = ("config.json", "model.safetensors", "pytorch_model.bin")
"""Files of a repository on the hub, of which timm's loader has asked for one."""


def described_in(identity: Mapping[str, Any]) -> Descriptions:
    """Return the entry DESCRIBED of config.json. UserError unless timm can build from it."""
    found, known = identity.get(DESCRIBED, {}), {entry.name for entry in fields(PretrainedCfg)}
    for name, one in found.items() if isinstance(found, dict) else [("", found)]:
        own = one.get("pretrained_cfg") if isinstance(one, dict) else None
        if not isinstance(own, dict) or not own.keys() <= known or not timm.is_model(str(one.get("model_name"))):
            raise UserError(f"{CONFIG}: {DESCRIBED} {name}: {one!r:.100} is no network of timm")
    return found


def starting_weights(network: nn.Module, config: Config) -> dict[str, Any]:
    """Return the entry of config.json on a network before its first step; none where its weights are random.

    It holds the SHA-256 of the backbone's tensors and, if weights are from the hub, names that stand for the same ones
    for good.
    """
    if not config.pretrained:
        return {}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors_without_head(network).items()}
    pinned = JOIN.join(pinned_name(name) for name in parts_of(config.backbone))
    named = {} if pinned == config.backbone else {"backbone": pinned}
    return {STARTED_FROM: {"sha256": digest(tensors, {}), **named}}


def pinned_name(backbone: str) -> str:
    """Return hf-hub:OWNER/REPO@COMMIT for weights that the hub's cache holds, else the name as it is."""
    repository, _, revision = (pretrained_config(backbone).hf_hub_id or "").partition("@")
    if not repository:
        return backbone
    from huggingface_hub import try_to_load_from_cache

    found = (try_to_load_from_cache(repository, name, revision=revision or None) for name in _FILES)
    # .../snapshots/<commit>/<file>
    commit = next((Path(path).parent.name for path in found if isinstance(path, str)), None)
    return f"hf-hub:{repository}@{commit}" if commit else backbone


def refuse_other_start(fold_dir: Path, config: Mapping[str, Any]) -> None:
    """UserError if a fold began with other pretrained weights than those in this config.json, which is not written."""
    path = fold_dir / CONFIG
    before = read_config(fold_dir).get(STARTED_FROM, {}) if path.exists() else {}
    if not isinstance(before, dict):
        raise UserError(f"{path}: {STARTED_FROM} is {before!r:.100}, expected an object")
    now, name = config.get(STARTED_FROM), config["settings"]["backbone"]
    if before and now and before.get("sha256") != now["sha256"]:
        raise UserError(
            f"{path}: begun with other pretrained weights of {name} (SHA-256 {before.get('sha256')}) than there are "
            f"now ({now['sha256']}); train anew with --overwrite; the first ones are --backbone "
            f"{before.get('backbone', name)}"
        )
