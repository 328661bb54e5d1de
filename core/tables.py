"""Things we have several of are rows of a frozen table, found by name."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

from core.cli import UserError


class Named(Protocol):
    @property
    def name(self) -> str: ...


Row = TypeVar("Row", bound=Named)


def row_named(table: Iterable[Row], name: str, *, what: str) -> Row:
    """The row of that name; UserError lists the names there are. `what` says what a row is, such as "task"."""
    rows = {row.name: row for row in table}
    if name not in rows:
        raise UserError(f"{what} {name!r} is unknown; the {what}s are {', '.join(rows)}")
    return rows[name]
