"""Locks of folders: one process at a time changes a folder, and a dead one's lock holds nobody back."""

import errno
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from core.cli import UserError, one_line
from core.files import remove_stale, write_text

LOCK_NAME, GIT_IGNORE = ".lock", ".gitignore"
LOCK_SECONDS = 0.2
"""Time for a lock file that its last holder is removing; nobody waits for a holder."""
_NO_LOCKS_HERE = (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


@contextmanager
def holding(folder: Path, flag: str) -> Iterator[None]:
    """Hold a folder, made if it is not there, against all other processes; `flag` is the one that names another folder.

    Also removes temporary files of killed processes in it, and keeps it out of git. UserError names its holder.
    The lock, on `<folder>/.lock`, ends with its process, killed or not; child processes do not inherit it. Over NFS it
    holds between machines where the server's lock manager runs. A file system without locks gets a warning.
    """
    made = [level for level in (folder, *folder.parents) if not level.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {one_line(error, error.filename or folder)}") from error
    is_new = False
    try:
        with locked(folder / LOCK_NAME, flag):
            remove_stale(folder)
            try:
                is_new = keep_out_of_git(folder)
                yield
            finally:
                if is_new and _names(folder) <= {LOCK_NAME, GIT_IGNORE}:
                    (folder / GIT_IGNORE).unlink(missing_ok=True)
                # Processes of this one that were ended in the middle of a write.
                remove_stale(folder)
    finally:
        _remove_empty(made)


def keep_out_of_git(folder: Path) -> bool:
    """Write a .gitignore into a folder that is still empty, so that no photo or prediction in it is added to git.

    Return whether it was written. A folder with something in it, perhaps a repository, is left as it is.
    """
    if folder.exists() and _names(folder) - {LOCK_NAME}:
        return False
    write_text(folder / GIT_IGNORE, "*\n")
    return True


def _names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


@contextmanager
def locked(path: Path, flag: str, *, wait: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold the lock file `path`, for which `wait` seconds are waited. UserError names the process that holds it."""
    # No soft lock where the file system has none: a killed process would leave it behind.
    lock = FileLock(path, timeout=wait, fallback_to_soft=False, on_acquired=_sign)
    try:
        lock.acquire()
    except Timeout:
        holder = ""
        with suppress(OSError):
            holder = " ".join(_signature(path).split())
        hint = f"wait until it ends, stop it, or give another {flag}"
        raise UserError(f"{path.parent} is in use by {holder or 'another process'}; {hint}") from None
    except OSError as error:
        if error.errno not in _NO_LOCKS_HERE:
            raise UserError(f"cannot write {one_line(error, error.filename or path)}") from error
        print(f"{path.parent}: its file system keeps no locks; let one process at a time work in it", file=sys.stderr)
    try:
        yield
    finally:
        # Before the lock is released: a process that opens the file after that makes a new one. Windows refuses.
        with suppress(FileNotFoundError, PermissionError):
            path.unlink()
        lock.release()


def _sign(descriptor: int) -> None:
    """Write into the lock file, which is open, who holds it."""
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    since = datetime.now().isoformat(sep=" ", timespec="seconds")
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"\nprocess {os.getpid()} on {socket.gethostname()} ({command}) since {since}".encode())


def _signature(path: Path) -> str:
    """Return what `_sign` wrote. Its first byte is the one that is locked, and on Windows nobody else can read it."""
    with path.open("rb") as stream:
        stream.seek(1)
        return stream.read().decode("utf-8", "replace")


def _remove_empty(folders: list[Path]) -> None:
    """Remove the folders, innermost first, up to one that is not empty: a refused command leaves none behind."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
