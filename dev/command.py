"""Commands of the project, run as a user runs them."""

import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.cli import UserError

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Finished:
    """Seconds that a command took, and what it printed where that was not shown."""

    seconds: float
    output: str


def run_command(arguments: Sequence[object], *, shown: bool = False) -> Finished:
    """Run `python ARGUMENTS` in the project's folder. UserError with its last line if it fails."""
    words = [sys.executable, *map(str, arguments)]
    piped = {} if shown else {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    began = time.perf_counter()
    done = subprocess.run(words, cwd=ROOT, check=False, encoding="utf-8", errors="replace", **piped)
    seconds, output = time.perf_counter() - began, done.stdout or ""
    if done.returncode:
        last = (output.strip().splitlines() or ["no output"])[-1]
        raise UserError(f"{' '.join(words[1:3])} ended with exit code {done.returncode}{'' if shown else ': ' + last}")
    return Finished(seconds, output)


def refuse_unknown(names: Sequence[str], known: Iterable[str], what: str) -> None:
    """UserError for a name that is not among the known ones; `what` they are names of."""
    for name in names:
        if name not in known:
            raise UserError(f"{what} {name!r} is unknown; the {what}s are {', '.join(known)}")


def as_flags(settings: Mapping[str, Any]) -> list[str]:
    """Return settings of training as flags of train.py."""
    words = []
    for name, value in settings.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", *map(str, value if isinstance(value, tuple) else (value,))]
    return words
