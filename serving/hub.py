"""Model folders on the Hugging Face hub: fetched by name and revision, and pushed.

A revision is a commit there, whose content never changes; without one the newest is taken and named, so that it can be
pinned. What is fetched is kept by the hub's client, and found again under --offline.
"""

import os
import re
from pathlib import Path

from core.environment import OFFLINE

from core.cli import UserError
from serving.model_folder import CARD, MODEL_FILE, read_model

NAME = re.compile(r"hf:([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
FILES = (MODEL_FILE, CARD, "*/refit/*.json", "*/refit/*.safetensors", "backbones/*.safetensors")
"""Patterns of what is fetched: a repository may hold other things, which are not wanted."""


def fetch(name: str) -> Path:
    """Return the folder of hf:owner/name[@revision], fetched if need be. UserError if it cannot be had."""
    repository, revision = parse(name)
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=list(FILES)))
    except client_errors() as error:
        raise UserError(f"{name}: cannot be had ({_first_line(error)}){_advice()}") from error
    if not (folder / MODEL_FILE).exists():
        raise UserError(f"{name}: no {MODEL_FILE} in it; it was not made by `python -m serving.publish`")
    return folder


def pinned(name: str, folder: Path) -> str:
    """Return hf:owner/name@revision of a fetched folder, which lies in a folder named after its revision."""
    repository, revision = parse(name)
    return f"hf:{repository}@{folder.name if COMMIT.fullmatch(folder.name) else revision}"


def push(folder: Path, name: str) -> str:
    """Upload a model folder, and return hf:owner/name@revision. UserError if it is damaged, or the hub refuses it.

    A repository that is not there yet is made private.
    """
    repository, revision = parse(name)
    if revision:
        raise UserError(f"--push {name}: a revision cannot be chosen; leave out @{revision}")
    read_model(folder)
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        api.create_repo(repository, repo_type="model", private=True, exist_ok=True)
        done = api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Model folder")
    except client_errors() as error:
        raise UserError(f"--push {name}: refused ({_first_line(error)}){_advice()}") from error
    return f"hf:{repository}@{done.oid}"


def parse(name: str) -> tuple[str, str | None]:
    """Return owner/name and revision. UserError for a name of another form."""
    matched = NAME.fullmatch(name if name.startswith("hf:") else f"hf:{name}")
    if not matched:
        raise UserError(f"{name}: allowed is hf:OWNER/NAME or hf:OWNER/NAME@REVISION")
    return matched[1], matched[2]


def client_errors() -> tuple[type[Exception], ...]:
    """Return what the hub's client raises. Some of it has no other base than Exception."""
    import httpx
    from huggingface_hub.errors import RevisionResolutionError

    return (OSError, RuntimeError, ValueError, httpx.HTTPError, RevisionResolutionError)


def _advice() -> str:
    offline = os.environ.get(OFFLINE, "") not in ("", "0")
    return "; under --offline only models that were fetched before can be used" if offline else ""


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
