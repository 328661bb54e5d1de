"""Progress of a command: a bar for its step and, inside run_all.py, one for all steps with the time that is left.

On a terminal rich draws them on standard error, below whatever is printed meanwhile. At its end a bar becomes a plain
line. Elsewhere there is a plain line on standard error now and then. Child processes draw nothing: they report to their
parent (core.reports).
"""

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Self, TextIO

from core.reports import is_child, print_line, send

if TYPE_CHECKING:
    from rich.progress import Progress

IN_RUN_ALL = "RUN_ALL_PROGRESS"
"""Environment variable from run_all.py, JSON: `done` and `part` are fractions of all steps, that of the steps before
and that of this one; `seconds_after` an estimate for the steps that follow, 0 if there is none yet."""
LINE_SECONDS = 30.0
WIDE = 100
"""Columns of a terminal from which there is room for counts."""
REPORT_SECONDS = 0.2

_began = time.monotonic()
_outermost: "Bar | None" = None
"""The bar of this process. Bars that begin while it is there move it, and have no line of their own."""
_step_done = 0.0
"""Fraction of the command's work that its earlier bars stand for."""


class Bar:
    """Progress of `total` pieces of work; without a `total`, a sign that something is going on.

    Iterating over it yields `items` and counts them. Inside another bar, or in a child process, it advances that bar,
    or the parent's, by `worth` in all. `part` is the fraction of the rest of the command's work that it stands for.
    """

    def __init__(
        self, items: Iterable | None, title: str, *, total: float | None, unit: str, worth: float, part: float
    ) -> None:
        self.items, self.title, self.total, self.unit, self.worth, self.part = items, title, total, unit, worth, part
        self.done, self.note, self.began = 0.0, "", time.monotonic()
        # Many short bars inside another one have no title.
        self.is_shown = total != 0 and bool(title)
        self._is_nested, self._outer, self._outer_title = False, None, ""
        self._handed_on, self._drawn, self._terminal = 0.0, 0.0, None

    def __iter__(self) -> Iterator:
        with self:
            for item in self.items or ():
                yield item
                self.update()

    def __enter__(self) -> Self:
        global _outermost
        if not self.is_shown:
            return self
        self._is_nested = is_child() or _outermost is not None
        if self._is_nested:
            self._outer, self._outer_title = _outermost, _outermost.title if _outermost else ""
        else:
            _outermost = self
            self._terminal = _Terminal(self) if is_terminal(sys.stderr) else None
            self._drawn = time.monotonic()
        if self._is_nested or self._terminal:
            self._draw()
        return self

    def __exit__(self, failure: type | None, *_: object) -> None:
        global _outermost, _step_done
        if not self.is_shown:
            return
        if self._is_nested:
            if failure is None:
                self._hand_on(1.0)
            if self._outer:
                self._outer.set_description(self._outer_title)
            return
        _outermost = None
        _step_done += (1 - _step_done) * self.part
        if self._terminal:
            self._terminal.bars.stop()
            if failure is None and self.total:
                print(_finished(self), file=sys.stderr, flush=True)

    def update(self, count: float = 1) -> None:
        self.done += count
        self._draw_now_and_then()

    def write(self, text: str) -> None:
        """Print a line above the bar."""
        print_line(text, sys.stdout)

    def set_description(self, title: str) -> None:
        self.title = title
        self._draw_now_and_then()

    def set_note(self, note: str) -> None:
        """Show a short text, such as the loss, at the next update."""
        self.note = note

    def _draw_now_and_then(self) -> None:
        seconds = REPORT_SECONDS if self._is_nested or self._terminal else LINE_SECONDS
        if self.is_shown and time.monotonic() - self._drawn >= seconds:
            self._draw()

    def _draw(self) -> None:
        """Draw the bar, print a line for a log, or hand on what is done to the bar around it."""
        self._drawn = time.monotonic()
        if self._is_nested:
            self._hand_on(self.fraction)
        elif self._terminal:
            self._terminal.draw(self)
        elif self.total:
            parts = filter(None, (_count(self), f"{self.fraction:.0%}", _left(self.seconds_left)))
            print(f"{self.heading}: {', '.join(parts)}", file=sys.stderr, flush=True)

    def _hand_on(self, fraction: float) -> None:
        amount = self.worth * fraction - self._handed_on
        self._handed_on = self.worth * fraction
        if is_child():
            send("moved", amount)
        else:
            self._outer.title = self.heading
            self._outer.update(amount)

    @property
    def fraction(self) -> float:
        return min(1.0, self.done / self.total) if self.total else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Estimate the time that is left; None before anything is done."""
        return (time.monotonic() - self.began) * (1 - self.fraction) / self.fraction if self.fraction else None

    @property
    def heading(self) -> str:
        return f"{self.title}, {self.note}" if self.note else self.title

    @property
    def step_fraction(self) -> float:
        """Fraction of the command's work, with its earlier bars."""
        return _step_done + (1 - _step_done) * self.part * self.fraction


def progress(
    items: Iterable | None,
    *,
    title: str,
    total: float | None = None,
    unit: str = "photo",
    shown: bool = True,
    worth: float = 0.0,
    part: float = 1.0,
) -> Bar:
    """Return the project's progress bar over `items`, or over what is given to its `update`."""
    return Bar(items, title if shown else "", total=total, unit=unit, worth=worth, part=part)


def working(title: str) -> Bar:
    """Return a bar for work of some seconds of which no part can be counted."""
    return progress(None, title=title, unit="", part=0.0)


def is_terminal(stream: TextIO) -> bool:
    """Return whether bars and colours can be drawn on the stream."""
    return stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


class _Terminal:
    """Bars on a terminal: that of the step and, inside run_all.py, of all steps. rich is imported for them alone."""

    def __init__(self, bar: Bar) -> None:
        self.whole = json.loads(os.environ.get(IN_RUN_ALL, "null"))
        self.bars: Progress = open_bars()
        texts = {"percent": "", "count": "", "left": ""}
        self.step = self.bars.add_task(bar.heading, total=bar.total, **texts)
        self.all = self.bars.add_task("all steps", total=1.0, **texts) if self.whole else None
        self.bars.start()

    def draw(self, bar: Bar) -> None:
        percent = f"{bar.fraction:.0%}" if bar.total else ""
        texts = {"percent": percent, "count": _count(bar), "left": _left(bar.seconds_left)}
        self.bars.update(self.step, description=bar.heading, completed=bar.done, **texts)
        if self.whole:
            done = self.whole["done"] + self.whole["part"] * bar.step_fraction
            left = _left(self.seconds_left(bar, time.monotonic() - _began))
            self.bars.update(self.all, completed=done, percent=f"{done:.0%}", left=left)

    def seconds_left(self, bar: Bar, elapsed: float) -> float | None:
        """Return the time that this step and the next ones still take, as long as the step so far lets expect."""
        if bar.step_fraction * self.whole["part"] <= 0:
            return None
        whole_step = elapsed / bar.step_fraction
        rest = 1 - self.whole["done"] - self.whole["part"]
        after = self.whole["seconds_after"] or rest * whole_step / self.whole["part"]
        return whole_step - elapsed + after


def open_bars() -> "Progress":
    """Return bars of one line each, as wide as the terminal, on standard error. They vanish when they are stopped.

    Drawn by rich: https://rich.readthedocs.io/en/stable/progress.html
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    console = Console(stderr=True, highlight=False)
    one_line = {"no_wrap": True, "overflow": "ellipsis"}
    columns = [
        TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, **one_line)),
        BarColumn(bar_width=max(10, console.width // 6)),
        TextColumn("{task.fields[percent]}", markup=False, justify="right", table_column=Column(width=4)),
        TextColumn("{task.fields[left]}", markup=False, table_column=Column(**one_line)),
    ]
    if console.width >= WIDE:
        count = TextColumn("{task.fields[count]}", markup=False, table_column=Column(**one_line))
        columns.insert(3, count)
    return Progress(
        *columns,
        console=console,
        expand=True,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
        refresh_per_second=5,
    )


def _count(bar: Bar) -> str:
    """Return '1,234 of 10,500 photos'."""
    if not bar.unit:
        return ""
    of = f" of {bar.total:,.0f}" if bar.total else ""
    return f"{bar.done:,.0f}{of} {bar.unit}s"


def counted(number: int, unit: str) -> str:
    """Return '1 photo' or '1,234 photos'."""
    return f"{number:,} {unit}{'' if number == 1 else 's'}"


def _finished(bar: Bar) -> str:
    """Return 'crops: 1,234 photos in 45 s'."""
    count = f"{counted(round(bar.done), bar.unit)} in " if bar.unit else ""
    return f"{bar.title}: {count}{time.monotonic() - bar.began:.0f} s"


def _left(seconds: float | None) -> str:
    """Return '45 s left', '12 min left' or '2 h 05 min left'."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.0f} s left"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min left" if hours else f"{minutes} min left"


def advance(amount: float) -> None:
    """Move the bar of this process, if there is one, by work that its child processes have done."""
    if _outermost is not None:
        _outermost.update(amount)
