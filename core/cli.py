"""Start and end of every command: its parser, one-line errors with exit code 2, Ctrl-C with code 130.

Imports nothing heavy: a command's --help and its complaint about a mistyped flag wait for this module alone.
"""

import argparse
import errno
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from core.environment import (
    DEFAULT_MAX_PIXELS,
    EXIT_BAD_INPUT,
    EXIT_INTERRUPTED,
    INTERRUPTED,
    MAX_PIXELS,
    go_offline,
)

from core.errors import UserError
from core.progress import Bar as Bar
from core.progress import counted as counted
from core.progress import progress as progress
from core.progress import working as working

OUTPUTS = Path("outputs")
"""Folder of all runs."""
_ADVICE = {
    errno.ENOSPC: "make room and give the same command again, finished work is kept",
    errno.EDQUOT: "make room and give the same command again, finished work is kept",
    errno.EROFS: "give a folder that can be written to",
    errno.EACCES: "ask for the right to it, or give another folder",
    errno.EPERM: "ask for the right to it, or give another folder",
    errno.EEXIST: "a file is there; give another folder",
    errno.ENOTDIR: "part of the path is a file; give another folder",
    errno.EIO: "the disk or its connection fails",
    errno.EMFILE: "raise `ulimit -n`, or give --workers 0",
    errno.ENOMEM: "give a smaller --batch-size, or fewer --jobs or --workers",
}
_LIBRARY_ADVICE = (
    (r"out of memory|(can't|cannot) allocate memory|not enough memory|bad_?alloc", _ADVICE[errno.ENOMEM]),
    (r"too many open files|received 0 items of ancdata", _ADVICE[errno.EMFILE]),
    (r"shared memory|/torch_|bus error", "give --workers 0, or make /dev/shm larger (docker run --shm-size)"),
    (r"DataLoader worker .*(killed|exited)", "perhaps for lack of memory; give fewer --workers (0 needs no process)"),
)
"""Patterns of the messages in which torch and others say that the machine ends, and what to do about it."""


def one_line(error: OSError, path: object = None) -> str:
    """Return a system error on one line: 'PATH: No space left on device; what to do about it'."""
    what = " ".join((error.strerror or str(error)).split())
    where = path or error.filename
    advice = _ADVICE.get(error.errno)
    return f"{f'{where}: ' if where else ''}{what}{f'; {advice}' if advice else ''}"


def run_cli(main: Callable[[Sequence[str] | None], None]) -> None:
    """Run an entry point and turn its failures into exit codes a script can rely on."""
    show_any_text()
    try:
        main(None)
    except UserError as error:
        # A loader process hands its error on within a traceback, which ends with the message.
        print(f"error: {printable(str(error).rstrip().rpartition('UserError: ')[2])}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): nothing more to say, and nobody to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        print(f"error: {printable(one_line(error))}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    except KeyboardInterrupt as error:
        # Raised again with a text by a command that does not go on from where it was.
        print(f"\n{printable(str(error)) or INTERRUPTED}", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except (RuntimeError, MemoryError) as error:
        line = limit_of_machine(error)
        if line is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)


def limit_of_machine(error: Exception) -> str | None:
    """Return one line for a library's error of memory, shared memory, open files or killed processes, else None."""
    text = "out of memory" if isinstance(error, MemoryError) else " ".join(str(error).split())
    for pattern, advice in _LIBRARY_ADVICE:
        if re.search(pattern, text, re.IGNORECASE):
            return f"{text[:200]}; {advice}"
    return None


def printable(text: str) -> str:
    """Return the text with control characters escaped, so that names in a message do nothing to a terminal."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def show_any_text() -> None:
    """Print what the console has no character for as an escape: a name must not end a command whose work is done."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class OneLineParser(argparse.ArgumentParser):
    """An argparse parser whose errors look like all other errors of the project."""

    def error(self, message: str) -> None:
        raise UserError(f"{self.prog}: {message}; see {self.prog} --help")


def command_parser(doc: str) -> OneLineParser:
    """Return a parser whose --help opens with the module's docstring: the command to paste and its result."""
    # The docstring's commands say more than argparse's line of all flags, which would come before them.
    parser = OneLineParser(
        usage=argparse.SUPPRESS, description=doc, formatter_class=HelpWithDefaults, allow_abbrev=False
    )
    unset = {"dest": argparse.SUPPRESS, "default": argparse.SUPPRESS}
    parser.add_argument("--offline", action=GoOffline, nargs=0, **unset, help="refuse connections to other machines")
    most = f"pixels of the largest photo or video frame that is read (default: {DEFAULT_MAX_PIXELS})"
    parser.add_argument("--max-pixels", action=SetMaxPixels, type=positive_int, metavar="N", **unset, help=most)
    return parser


class GoOffline(argparse.Action):
    """Action of `--offline`: refuses connections as soon as it is parsed, so no command has to pass it on."""

    def __call__(self, *_: object) -> None:
        go_offline()


class SetMaxPixels(argparse.Action):
    """Action of `--max-pixels`: sets the variable that this process and those it starts read."""

    def __call__(self, _: object, __: object, value: int, *___: object) -> None:
        os.environ[MAX_PIXELS] = str(value)


class HelpWithDefaults(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Help that keeps the docstring's line breaks and ends each flag's text with its default, unless that is empty."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, "", [], ()):
            return action.help
        if isinstance(action.default, list | tuple):
            default = " ".join(map(str, action.default)).replace("%", "%%")
            return f"{action.help} (default: {default})"
        return super()._get_help_string(action)


def add_run_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run-dir", type=Path, default=OUTPUTS / "default", help="folder of this run's results")


def add_trained_run(parser: argparse.ArgumentParser) -> None:
    """Add the --run-dir of a command that reads a trained run: None where none is given, see `trained_run`."""
    default = f"folder of a trained run (default: {OUTPUTS}/default, else the one trained last)"
    parser.add_argument("--run-dir", type=Path, help=default)


def add_crop_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--crop-dir", type=Path, default=Path("crop_images"), help="folder of crops and faces.csv")


def _whole_number(least: int) -> Callable[[str], int]:
    def parsed(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least {least}")
        return int(text)

    # argparse says "invalid int value" for what is no number.
    parsed.__name__ = "int"
    return parsed


positive_int, not_negative = _whole_number(1), _whole_number(0)
"""Types of flags."""


def cpu_count() -> int:
    """Return the number of cores this process may use, taskset included."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def name_some(names: Sequence[str], at_most: int = 5) -> str:
    """Return names for a one-line message: 'a, b, c and 7 more'."""
    shown = ", ".join(names[:at_most])
    return shown if len(names) <= at_most else f"{shown} and {len(names) - at_most} more"


Row = TypeVar("Row")


def row_named(table: Iterable[Row], name: str, *, what: str) -> Row:
    """Return the row of that name; UserError lists the names there are. `what` is the kind of row, such as "task"."""
    rows = {row.name: row for row in table}
    if name not in rows:
        raise UserError(f"{what} {name!r} is unknown; the {what}s are {', '.join(rows)}")
    return rows[name]
