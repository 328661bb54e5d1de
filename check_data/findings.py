"""What a check says, and how grave it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field

OK, WARNING, PROBLEM = ("ok", "warning", "problem")
"""A problem stops a run or makes its scores false; a warning costs accuracy or time, or is worth a look."""
GRAVE_SHARE = 0.01
"""A fault of so large a share of the photos or people is no longer a few bad apples."""


@dataclass(frozen=True)
class Finding:
    """`summary` is one line; `details` name what is meant, one a line; `numbers` are for machines."""

    severity: str
    summary: str
    details: tuple[str, ...] = ()
    numbers: Mapping[str, object] = field(default_factory=dict)


def by_share(bad: int, total: int) -> str:
    """ok for none, a warning for a few, a problem for more than GRAVE_SHARE."""
    if not bad:
        return OK
    return PROBLEM if bad > GRAVE_SHARE * total else WARNING


def counted(count: int, thing: str, things: str | None = None) -> str:
    """'1 photo', '2 photos', '1 person', '2 people'."""
    return f"{count} {thing if count == 1 else things or thing + 's'}"
