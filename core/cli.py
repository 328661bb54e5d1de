"""How every command starts and ends: one-line errors with exit code 2, Ctrl-C with exit code 130."""

import argparse
import errno
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from core.errors import UserError
from core.offline import go_offline

# A bar's own lock is a semaphore between processes, of which one that is killed leaves a warning. Ours need none.
tqdm.set_lock(threading.RLock())

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


_ADVICE = {
    errno.ENOSPC: "make room and give the same command again, finished work is kept",
    errno.EDQUOT: "make room and give the same command again, finished work is kept",
    errno.EROFS: "give a folder that can be written to",
    errno.EACCES: "ask for the right to it, or give another folder",
    errno.EPERM: "ask for the right to it, or give another folder",
    errno.EIO: "the disk or its connection fails",
}


def one_line(error: OSError, path: object = None) -> str:
    """'PATH: No space left on device; what to do about it': the system's error on one line."""
    what = " ".join((error.strerror or str(error)).split())
    where = path or error.filename
    advice = _ADVICE.get(error.errno)
    return f"{f'{where}: ' if where else ''}{what}{f'; {advice}' if advice else ''}"


def is_first_rank() -> bool:
    """Whether this process is the one that writes and prints, of those that torchrun has started; alone, it is."""
    return os.environ.get("RANK", "0") == "0"


def run_cli(main: Callable[[Sequence[str] | None], None]) -> None:
    """Run an entry point and turn its failures into exit codes a script can rely on."""
    try:
        main(None)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): nothing more to say, and nobody to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        print("\ninterrupted: finished work is kept, the same command goes on from there", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)


class OneLineParser(argparse.ArgumentParser):
    """An argparse parser whose errors look like all other errors of the project."""

    def error(self, message: str) -> None:
        raise UserError(f"{self.prog}: {message}; see {self.prog} --help")


def command_parser(doc: str) -> OneLineParser:
    """A parser whose --help opens with the module's docstring: the command to paste and its result."""
    # The docstring's commands say more than argparse's line of all flags, which would come before them.
    parser = OneLineParser(
        usage=argparse.SUPPRESS, description=doc, formatter_class=HelpWithDefaults, allow_abbrev=False
    )
    unset = {"dest": argparse.SUPPRESS, "default": argparse.SUPPRESS}
    parser.add_argument("--offline", action=GoOffline, nargs=0, **unset, help="refuse connections to other machines")
    return parser


class GoOffline(argparse.Action):
    """`--offline` acts as soon as it is read: no command has to pass it on."""

    def __call__(self, *_: object) -> None:
        go_offline()


class HelpWithDefaults(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Keeps the docstring's line breaks and appends each flag's default to its help."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default == []:
            return action.help
        return super()._get_help_string(action)


def add_run_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run-dir", type=Path, default=Path("outputs/default"), help="folder of this run's results")


def add_crop_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--crop-dir", type=Path, default=Path("crop_images"), help="folder of crops and faces.csv")


def positive_int(text: str) -> int:
    """An argparse type: a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return value


def not_negative(text: str) -> int:
    """An argparse type: a whole number of at least 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 0")
    return value


def cpu_count() -> int:
    """Cores this process may use (containers and taskset included)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def progress(items: Iterable | None, *, title: str, total: int | None = None, unit: str = "photo") -> tqdm:
    """The project's progress bar: one look everywhere, off when nobody watches the terminal.

    Processes that work side by side have a line each, by the number at the end of their name.
    """
    number = multiprocessing.current_process().name.rpartition("-")[2]
    line = int(number) - 1 if number.isdigit() else None
    watched = sys.stderr.isatty() and is_first_rank()
    return tqdm(items, desc=title, total=total, unit=unit, dynamic_ncols=True, disable=not watched, position=line)


def name_some(names: Sequence[str], at_most: int = 5) -> str:
    """'a, b, c and 7 more': names for a one-line message."""
    shown = ", ".join(names[:at_most])
    return shown if len(names) <= at_most else f"{shown} and {len(names) - at_most} more"
