"""Result of a check and its severity."""

from collections.abc import Mapping
from dataclasses import dataclass, field

OK, WARNING, PROBLEM = ("ok", "warning", "problem")
"""A problem stops a run or makes its scores false; a warning costs accuracy or time, or is worth a look."""
PROBLEM_FRACTION = 0.01
"""Fraction of the photos or people above which a fault is a problem rather than a warning."""


@dataclass(frozen=True)
class Finding:
    """Result of one check: a one-line `summary`, `details` one per line, and `numbers` for the JSON output."""

    severity: str
    summary: str
    details: tuple[str, ...] = ()
    numbers: Mapping[str, object] = field(default_factory=dict)


def severity_of(bad: int, total: int) -> str:
    """Return OK for no faults, WARNING for up to PROBLEM_FRACTION of `total`, PROBLEM above."""
    if not bad:
        return OK
    return PROBLEM if bad > PROBLEM_FRACTION * total else WARNING


def counted(count: int, thing: str, things: str | None = None) -> str:
    """Format a count with its noun: '1 photo', '2 photos', '1 person', '2 people'."""
    return f"{count} {thing if count == 1 else things or thing + 's'}"
