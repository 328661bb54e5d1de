"""Room on the disk, looked at before a long step begins rather than met in the middle of it."""

import shutil
from pathlib import Path

from core.cli import UserError

RESERVE = 32 << 20
"""Bytes for tables, logs and what else is written beside the things that are counted."""
STATE_COPIES = 4
"""A state holds the model, the optimiser's two moments, and weights averaged over the training."""


def require_room(folder: Path, needed: int, what: str) -> None:
    """UserError unless `needed` bytes, if any, and a reserve are free on the disk that `folder` is or will be on."""
    there = next(level for level in (folder.absolute(), *folder.absolute().parents) if level.exists())
    usage = shutil.disk_usage(there)
    # Some network and overlay file systems do not say how large they are.
    if needed and usage.total and usage.free < needed + RESERVE:
        raise UserError(
            f"{folder}: {in_words(usage.free)} free on its disk, {what} needs about {in_words(needed + RESERVE)}; "
            f"make room, or give a folder on another disk"
        )


def training_bytes(weights: int, folds: int, at_once: int) -> int:
    """Bytes that training `folds` folds needs at most: all their weights, and what those at work at once write besides.

    `weights` is the size of one network. Weights and states are written aside before those before them go.
    """
    return weights * (folds + min(folds, at_once) * (1 + 2 * STATE_COPIES))


def in_words(size: int) -> str:
    """'1.4 GB'."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} bytes"
