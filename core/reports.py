"""Lines and progress that child processes send to their parent through a pipe, which prints and draws for all."""

import io
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import TextIO

PIECE = 900
"""Characters of a message. Whole messages stay below the 4,096 bytes that several processes can write to a pipe at
once without a lock, which a killed one would leave locked."""

_to_parent: Connection | None = None


@contextmanager
def relayed(moved: Callable[[float], None]) -> Iterator[Connection]:
    """Yield the end of a pipe for child processes, which must end before the block does.

    Lines that they print are printed here; `moved` is called with the work that they have done.
    """
    reader, writer = Pipe(duplex=False)
    thread = threading.Thread(target=_relay, args=(reader, moved), daemon=True)
    thread.start()
    try:
        yield writer
    finally:
        # Nothing can come after this.
        writer.send_bytes(json.dumps(["end", None]).encode())
        thread.join(timeout=5)
        writer.close()
        reader.close()


def _relay(reader: Connection, moved: Callable[[float], None]) -> None:
    with suppress(EOFError, OSError):
        while True:
            kind, value = json.loads(reader.recv_bytes())
            if kind == "end":
                return
            if kind == "moved":
                moved(value)
            else:
                print_line(value, getattr(sys, kind))


def print_line(text: str, stream: TextIO) -> None:
    """Print a line. Those of a child process and of this one are printed by two threads.

    `print` writes a line and its end apart, and another thread's line may come in between.
    """
    stream.write(f"{text}\n")
    stream.flush()


def report_to_parent(connection: Connection) -> None:
    """Send from now on all printed lines and all progress of this process to its parent."""
    global _to_parent
    _to_parent = connection
    sys.stdout, sys.stderr = LinesToParent("stdout"), LinesToParent("stderr")


def is_child() -> bool:
    """Return whether this process reports to a parent."""
    return _to_parent is not None


def send(kind: str, value: object) -> None:
    """Send a message. A parent that has ended needs none: this process ends with it."""
    with suppress(OSError):
        _to_parent.send_bytes(json.dumps([kind, value]).encode())


class LinesToParent(io.TextIOBase):
    """Standard output or error of a child process, as whole lines for the parent to print."""

    encoding = "utf-8"

    def __init__(self, kind: str) -> None:
        self.kind, self.rest = kind, ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            for start in range(0, max(1, len(line)), PIECE):
                send(self.kind, line[start : start + PIECE])
        return len(text)
