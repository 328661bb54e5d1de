"""A command run as its user would run it, with its time, and the memory of it and all its children."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.cli import UserError

ROOT = Path(__file__).resolve().parents[2]
EVERY_SECONDS = 0.05
LARGEST_SHARE = 0.02
"""Of a core, for looking: the system walks through all pages of a process, which for some gigabytes takes a while."""
_PROC = Path("/proc")


@dataclass(frozen=True)
class Watched:
    """`peak_mb`: the most memory held at once; `growth_mb`: how much higher it came in the second half of the time than
    in the first; both None where the system does not tell. `output`: what was printed."""

    seconds: float
    peak_mb: float | None
    growth_mb: float | None
    output: str


def watch(arguments: Sequence[object]) -> Watched:
    """Run `python ARGUMENTS` in the project's folder. UserError with its last line if it fails."""
    words = [sys.executable, *map(str, arguments)]
    with tempfile.TemporaryFile("w+") as printed:
        began = time.perf_counter()
        with subprocess.Popen(words, cwd=ROOT, stdout=printed, stderr=subprocess.STDOUT) as process:
            try:
                samples = _sampled(process)
            finally:
                process.kill()
        seconds = time.perf_counter() - began
        printed.seek(0)
        output = printed.read()
    if process.returncode:
        last = (output.strip().splitlines() or ["no output"])[-1]
        raise UserError(f"{' '.join(words[1:3])} ended with exit code {process.returncode}: {last}")
    return Watched(seconds, max(samples, default=None), _growth(samples), output)


def _sampled(process: subprocess.Popen) -> list[float]:
    samples = []
    while process.poll() is None:
        began = time.thread_time()
        held = sum(_private_mb(pid) for pid in _family(process.pid))
        samples += [held] if held else []
        time.sleep(max(EVERY_SECONDS, (time.thread_time() - began) / LARGEST_SHARE))
    return samples


def _growth(samples: Sequence[float]) -> float | None:
    half = len(samples) // 2
    return max(samples[half:]) - max(samples[:half]) if half else None


def _family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for folder in _PROC.glob("[0-9]*"):
        children.setdefault(_parent_of(folder), []).append(int(folder.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def _parent_of(folder: Path) -> int:
    """0 for a process that has just ended."""
    try:
        # The name, in brackets, may hold blanks and brackets; the parent is the second word after it.
        return int((folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _private_mb(pid: int) -> float:
    """Memory that is not a mapped file: pages of files are dropped when memory is short, so they do not count."""
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    kept = (line.split() for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))
    return sum(int(words[1]) for words in kept) / 1024
