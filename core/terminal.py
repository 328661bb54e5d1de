"""Bars on a terminal, drawn by rich: https://rich.readthedocs.io/en/stable/progress.html"""

import sys

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
from rich.table import Column

WIDE = 100
"""Columns from which there is room for counts."""


def open_bars() -> Progress:
    """Return bars of one line each, as wide as the terminal, on standard error. They vanish when they are stopped."""
    console = Console(stderr=True, highlight=False)
    one_line = {"no_wrap": True, "overflow": "ellipsis"}
    columns: list[ProgressColumn] = [
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
