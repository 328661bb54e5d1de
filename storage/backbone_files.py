"""Paths of frozen backbones: several side by side have one path that stands for the file of each."""

from collections.abc import Sequence
from pathlib import Path

_JOIN = "+"


def joined_path(paths: Sequence[Path]) -> Path:
    """Return the path that stands for the files of several backbones side by side: a.safetensors+b.safetensors."""
    return paths[0].with_name(_JOIN.join(path.name for path in paths))


def backbone_files(path: Path | None) -> list[Path]:
    """Return the files that a path of `backbone_path` stands for; none where it is None."""
    return [] if path is None else [path.with_name(name) for name in path.name.split(_JOIN) if name]
