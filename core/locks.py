"""One process at a time writes to a folder: a lock that ends with the process that holds it, however it ends.

A POSIX record lock (https://man7.org/linux/man-pages/man2/fcntl_locking.2.html) on `<folder>/.lock`. The system drops
it with the process, killed or not, so that nobody has to clear it by hand; what the file says serves the message alone.
Processes that the holder starts do not inherit it: they work for the holder, and an orphan among them blocks nobody.
Over NFS it holds between machines, where the server's lock manager runs; a file system without locks gets a warning.
"""

import errno
import fcntl
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TextIO

from core.cli import UserError, is_first_rank, one_line
from core.files import remove_stale

NAME = ".lock"
_HELD_BY_ANOTHER = (errno.EACCES, errno.EAGAIN)
_NO_LOCKS_HERE = (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


@contextmanager
def holding(folder: Path, flag: str) -> Iterator[None]:
    """Hold a folder, made if it is not there, against all other processes; `flag` is the one that names another folder.

    Also clears away what killed processes have left half-written in it. UserError names the process that holds it.
    Ranks above 0 of a distributed training (RANK in the environment) hold nothing: rank 0 does, for all of them.
    """
    if not is_first_rank():
        yield
        return
    made = [level for level in (folder, *folder.parents) if not level.exists()]
    lock = _acquire(folder, flag)
    try:
        remove_stale(folder)
        yield
    finally:
        # Processes of this one that were ended in the middle of a write.
        remove_stale(folder)
        # Before the lock is given up: whoever opens the file after that makes a new one.
        (folder / NAME).unlink(missing_ok=True)
        lock.close()
        _remove_empty(made)


def _acquire(folder: Path, flag: str) -> TextIO:
    """The lock file, open and locked; closing it gives up the lock."""
    path = folder / NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            stream = path.open("a+", encoding="utf-8")
            _lock(stream, folder, flag)
            if _is_still_there(stream, path):
                _sign(stream)
                return stream
            stream.close()
    except OSError as error:
        raise UserError(f"cannot write {one_line(error, error.filename or folder)}") from error


def _lock(stream: TextIO, folder: Path, flag: str) -> None:
    try:
        fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS_HERE:
            print(f"{folder}: its file system keeps no locks; let one process at a time work in it", file=sys.stderr)
            return
        if error.errno not in _HELD_BY_ANOTHER:
            raise
        with stream:
            stream.seek(0)
            holder = " ".join(stream.read().split()) or "another process"
        hint = f"wait until it ends, stop it, or give another {flag}"
        raise UserError(f"{folder} is in use by {holder}; {hint}") from None


def _is_still_there(stream: TextIO, path: Path) -> bool:
    """Whether the file that was locked is still the one that others find: its last holder removes it."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _sign(stream: TextIO) -> None:
    """Say who holds the lock."""
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    stream.truncate(0)
    since = datetime.now().isoformat(sep=" ", timespec="seconds")
    stream.write(f"process {os.getpid()} on {socket.gethostname()} ({command}) since {since}")
    stream.flush()


def _remove_empty(folders: list[Path]) -> None:
    """A command that was refused leaves no empty folder behind."""
    for folder in folders:
        # The first one that holds anything ends it: those above hold that one.
        with suppress(OSError):
            folder.rmdir()
