"""A terminal for tests: runs a command in a pseudo-terminal and replays what it writes."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from contextlib import suppress

TOKEN = re.compile(r"\x1b\[(?P<number>[?\d;]*)(?P<command>[A-Za-z])|(?P<control>[\r\n])|(?P<text>[^\x1b\r\n])")


class Screen:
    """Rows of text, written by characters, line ends, and the sequences that move the cursor and erase."""

    def __init__(self, columns: int) -> None:
        self.columns, self.rows, self.row, self.column, self.wrapped = columns, [""], 0, 0, 0

    def feed(self, text: str) -> None:
        for token in TOKEN.finditer(text):
            if token["text"]:
                self._put(token["text"])
            elif token["control"]:
                self.column = 0
                self.row += token["control"] == "\n"
            elif token["command"] == "A":
                self.row = max(0, self.row - int(token["number"] or 1))
            elif token["command"] == "K":
                self.rows[self.row] = "" if token["number"] == "2" else self.rows[self.row][: self.column]
            self.rows += [""] * (self.row + 1 - len(self.rows))

    def _put(self, character: str) -> None:
        if self.column == self.columns:
            self.row, self.column, self.wrapped = self.row + 1, 0, self.wrapped + 1
            self.rows += [""] * (self.row + 1 - len(self.rows))
        row = self.rows[self.row].ljust(self.column)
        self.rows[self.row] = row[: self.column] + character + row[self.column + 1 :]
        self.column += 1


def run_in_terminal(command: Sequence[str], columns: int, **options: object) -> tuple[str, Screen]:
    """Return all that a command writes to a terminal of so many columns, and the screen at its end."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    # Those of the terminal in which the tests run, if it has set them, are not those of this one.
    others = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    environment: Mapping[str, str] = {**others, "TERM": "xterm-256color", **options.pop("variables", {})}
    process = subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, env=environment, start_new_session=True, **options
    )
    os.close(follower)
    written = b""
    # Linux says with an error that the last process has closed the terminal.
    with suppress(OSError):
        while piece := os.read(leader, 65536):
            written += piece
    os.close(leader)
    process.wait(timeout=300)
    text, screen = written.decode(), Screen(columns)
    screen.feed(text)
    return text, screen
