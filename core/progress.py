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

from core.reports import is_child, send

if TYPE_CHECKING:
    from rich.progress import Progress

IN_RUN_ALL = "RUN_ALL_PROGRESS"
"""Environment variable from run_all.py, JSON: `done` and `part` are fractions of all steps, that of the steps before
and that of this one; `seconds_after` an estimate for the steps that follow, 0 if there is none yet."""
LINE_SECONDS = 30.0
REPORT_SECONDS = 0.2

_began = time.monotonic()
_outermost: "Bar | None" = None
"""The bar of this process. Bars that begin while it is there move it, and have no line of their own."""
_step_done = 0.0
"""Fraction of the command's work that its earlier bars stand for."""


class Bar:
    """Progress of `total` pieces of work; without a `total`, a sign that something is going on.

    Iterating over it yields `items` and counts them. Inside another bar it advances that one by `worth` in all.
    `part` is the fraction of the rest of the command's work that it stands for.
    """

    def __init__(
        self, items: Iterable | None, title: str, *, total: float | None, unit: str, worth: float, part: float
    ) -> None:
        self.items, self.title, self.total, self.unit, self.worth, self.part = items, title, total, unit, worth, part
        self.done, self.note, self.began = 0.0, "", time.monotonic()
        self._view: _Hidden = _Hidden()

    def __iter__(self) -> Iterator:
        with self:
            for item in self.items or ():
                yield item
                self.update()

    def __enter__(self) -> Self:
        self._view.begin(self)
        return self

    def __exit__(self, failure: type | None, *_: object) -> None:
        self._view.end(self, finished=failure is None)

    def update(self, count: float = 1) -> None:
        self.done += count
        self._view.moved(self)

    def write(self, text: str) -> None:
        """Print a line above the bar."""
        print(text, flush=True)

    def set_description(self, title: str) -> None:
        self.title = title
        self._view.moved(self)

    def set_note(self, note: str) -> None:
        """Show a short text, such as the loss, at the next update."""
        self.note = note

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
    bar = Bar(items, title, total=total, unit=unit, worth=worth, part=part)
    # Many short bars inside another one have no title.
    if shown and total != 0 and title:
        bar._view = _view()
    return bar


def working(title: str) -> Bar:
    """Return a bar for work of some seconds of which no part can be counted."""
    return progress(None, title=title, unit="", part=0.0)


def is_terminal(stream: TextIO) -> bool:
    """Return whether bars and colours can be drawn on the stream."""
    return stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def _view() -> "_Hidden":
    if is_child():
        return _InParent()
    if _outermost is not None:
        return _InOuter()
    return _Terminal() if is_terminal(sys.stderr) else _Lines()


class _Hidden:
    """Display of a bar that is not shown, and the interface of the others."""

    def begin(self, bar: Bar) -> None:
        pass

    def moved(self, bar: Bar) -> None:
        pass

    def end(self, bar: Bar, *, finished: bool) -> None:
        pass


class _Outermost(_Hidden):
    """The bar of a process, in which others nest."""

    def begin(self, bar: Bar) -> None:
        global _outermost
        _outermost = bar

    def end(self, bar: Bar, *, finished: bool) -> None:
        global _outermost, _step_done
        _outermost = None
        _step_done += (1 - _step_done) * bar.part


class _Lines(_Outermost):
    """A line every LINE_SECONDS, for a log."""

    def begin(self, bar: Bar) -> None:
        super().begin(bar)
        self.said = time.monotonic()

    def moved(self, bar: Bar) -> None:
        now = time.monotonic()
        if now - self.said < LINE_SECONDS or not bar.total:
            return
        self.said = now
        parts = filter(None, (_count(bar), f"{bar.fraction:.0%}", _left(bar.seconds_left)))
        print(f"{bar.heading}: {', '.join(parts)}", file=sys.stderr, flush=True)


class _Nested(_Hidden):
    """A bar inside another: what it has done of its worth is handed on now and then."""

    def begin(self, bar: Bar) -> None:
        self.handed_on, self.reported = 0.0, 0.0
        self.moved(bar)

    def moved(self, bar: Bar) -> None:
        if time.monotonic() - self.reported >= REPORT_SECONDS:
            self.reported = time.monotonic()
            self._report(bar, bar.fraction)

    def end(self, bar: Bar, *, finished: bool) -> None:
        if finished:
            self._report(bar, 1.0)

    def _report(self, bar: Bar, fraction: float) -> None:
        self.hand_on(bar, bar.worth * fraction - self.handed_on)
        self.handed_on = bar.worth * fraction

    def hand_on(self, bar: Bar, amount: float) -> None:
        raise NotImplementedError


class _InOuter(_Nested):
    def begin(self, bar: Bar) -> None:
        self.outer, self.title = _outermost, _outermost.title
        super().begin(bar)

    def hand_on(self, bar: Bar, amount: float) -> None:
        self.outer.title = bar.heading
        self.outer.update(amount)

    def end(self, bar: Bar, *, finished: bool) -> None:
        super().end(bar, finished=finished)
        self.outer.set_description(self.title)


class _InParent(_Nested):
    def hand_on(self, bar: Bar, amount: float) -> None:
        send("moved", amount)


class _Terminal(_Outermost):
    """Bars on a terminal. rich is imported for them alone."""

    def begin(self, bar: Bar) -> None:
        from core.terminal import open_bars

        super().begin(bar)
        self.whole = json.loads(os.environ.get(IN_RUN_ALL, "null"))
        self.bars: Progress = open_bars()
        texts = {"percent": "", "count": "", "left": ""}
        self.step = self.bars.add_task(bar.heading, total=bar.total, **texts)
        self.all = self.bars.add_task("all steps", total=1.0, **texts) if self.whole else None
        self.drawn = 0.0
        self.moved(bar)
        self.bars.start()

    def moved(self, bar: Bar) -> None:
        now = time.monotonic()
        if now - self.drawn < REPORT_SECONDS:
            return
        self.drawn = now
        texts = {
            "percent": f"{bar.fraction:.0%}" if bar.total else "",
            "count": _count(bar),
            "left": _left(bar.seconds_left),
        }
        self.bars.update(self.step, description=bar.heading, completed=bar.done, **texts)
        if self.whole:
            done = self.whole["done"] + self.whole["part"] * bar.step_fraction
            left = _left(self.seconds_left(bar, now - _began))
            self.bars.update(self.all, completed=done, percent=f"{done:.0%}", left=left)

    def seconds_left(self, bar: Bar, elapsed: float) -> float | None:
        """Return the time that this step and the next ones still take, as long as the step so far lets expect."""
        if bar.step_fraction * self.whole["part"] <= 0:
            return None
        whole_step = elapsed / bar.step_fraction
        rest = 1 - self.whole["done"] - self.whole["part"]
        after = self.whole["seconds_after"] or rest * whole_step / self.whole["part"]
        return whole_step - elapsed + after

    def end(self, bar: Bar, *, finished: bool) -> None:
        super().end(bar, finished=finished)
        self.bars.stop()
        if finished and bar.total:
            print(_finished(bar), file=sys.stderr, flush=True)


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
