"""Time and memory of a command, run as its user would run it, with all its child processes."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.cli import UserError

ROOT = Path(__file__).resolve().parents[2]
INTERVAL = 0.05
LARGEST_LOAD = 0.02
"""Of a core, for sampling: the system walks all pages of a process, which takes a while for some gigabytes."""
_PROC = Path("/proc")


@dataclass(frozen=True)
class ProcessUsage:
    """Seconds, most memory held at once (None where the system does not tell), and what was printed."""

    seconds: float
    peak_mb: float | None
    output: str


def run_command(arguments: Sequence[object]) -> ProcessUsage:
    """Run `python ARGUMENTS` in the project's folder. UserError with its last line if it fails."""
    words = [sys.executable, *map(str, arguments)]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as printed:
        began = time.perf_counter()
        with subprocess.Popen(words, cwd=ROOT, stdout=printed, stderr=subprocess.STDOUT) as process:
            try:
                peak_mb = _peak_mb(process)
            finally:
                process.kill()
        seconds = time.perf_counter() - began
        printed.seek(0)
        output = printed.read()
    if process.returncode:
        last = (output.strip().splitlines() or ["no output"])[-1]
        raise UserError(f"{' '.join(words[1:3])} ended with exit code {process.returncode}: {last}")
    return ProcessUsage(seconds, peak_mb or None, output)


def _peak_mb(process: subprocess.Popen) -> float:
    peak = 0.0
    while process.poll() is None:
        began = time.thread_time()
        peak = max(peak, sum(_private_mb(pid) for pid in _family(process.pid)))
        time.sleep(max(INTERVAL, (time.thread_time() - began) / LARGEST_LOAD))
    return peak


def _family(pid: int) -> list[int]:
    """A process and all its descendants."""
    children: dict[int, list[int]] = {}
    for folder in _PROC.glob("[0-9]*"):
        children.setdefault(_parent_of(folder), []).append(int(folder.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def _parent_of(folder: Path) -> int:
    """Process id of the parent; 0 for a process that has just ended."""
    try:
        # The name, in brackets, may hold blanks and brackets; the parent is the second word after it.
        return int((folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _private_mb(pid: int) -> float:
    """Memory that is not a mapped file, whose pages the system drops when memory is short."""
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    kept = (line.split() for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))
    return sum(int(words[1]) for words in kept) / 1024
