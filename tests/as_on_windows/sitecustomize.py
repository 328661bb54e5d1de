"""Python starts here where this folder is on PYTHONPATH: what Windows lacks is gone, and open files cannot be removed.

The project's own files find no POSIX module, no POSIX call, and processes that are spawned. Libraries keep theirs.
"""

import asyncio  # noqa: F401  that of Linux asks for what is removed below, from Python 3.13 on
import builtins
import multiprocessing
import os
import signal
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NO_MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog"}
NO_CALLS = ("fork", "forkpty", "killpg", "getpgid", "setsid", "sched_getaffinity", "sysconf")
NO_SIGNALS = ("SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "pthread_sigmask", "alarm", "setitimer")
REFUSED_EVERY = 10
"""Of this many files that are renamed, one is open in another program for a moment."""

import_module, kill, renamed = builtins.__import__, os.kill, 0


def is_of_project(path: object) -> bool:
    text = str(path or "")
    return text.startswith(str(ROOT)) and ".venv" not in text


def import_as_on_windows(name: str, globals: dict | None = None, *more: object, **options: object) -> object:
    if name in NO_MODULES and is_of_project((globals or {}).get("__file__")):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return import_module(name, globals, *more, **options)


def refuse_signal(pid: int, number: int) -> None:
    if number == 0:
        raise AssertionError("os.kill(pid, 0) is Ctrl-C on Windows")
    kill(pid, number)


def is_open(path: object) -> bool:
    """Return whether this process has the file open or mapped."""
    name = os.path.realpath(os.fsdecode(path))
    held = {os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()}
    mapped = {line.split(maxsplit=5)[-1] for line in Path("/proc/self/maps").read_bytes().splitlines()}
    return name in held or os.fsencode(name) in mapped


def closed_only(call):
    """Return `call` of one or two paths as on Windows: PermissionError if one of them is open."""

    def careful(*paths: object, **options: object) -> None:
        if not options and any(os.path.isfile(path) and is_open(path) for path in paths):  # noqa: PTH113
            raise PermissionError(
                13, "The process cannot access the file because it is being used", os.fsdecode(paths[0])
            )
        call(*paths, **options)

    return careful


def refused_now_and_then(call):
    def sometimes(*paths: object, **options: object) -> None:
        global renamed
        renamed += 1
        if renamed % REFUSED_EVERY == 0:
            raise PermissionError(13, "Access is denied", os.fsdecode(paths[0]))
        call(*paths, **options)

    return sometimes


def fail_for_encoding(message: Warning, category: type, filename: str, line: int, *_: object) -> None:
    if issubclass(category, EncodingWarning) and is_of_project(filename):
        raise AssertionError(f"{filename}:{line}: text in the encoding of the console: {message}")


if sys.platform == "linux":
    sys.path.append(str(ROOT))
    import core.environment

    core.environment.WINDOWS = True
    builtins.__import__ = import_as_on_windows
    for holder, names in ((os, NO_CALLS), (signal, NO_SIGNALS)):
        for name in names:
            delattr(holder, name)
    os.kill = refuse_signal
    os.unlink = os.remove = closed_only(os.unlink)
    os.replace = os.rename = refused_now_and_then(closed_only(os.replace))
    multiprocessing.set_start_method("spawn")
    warnings.simplefilter("always", EncodingWarning)
    warnings.showwarning = fail_for_encoding
