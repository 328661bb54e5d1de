"""Ids that count the work done on them, so that tests can tell linear from quadratic work without a clock."""


class CountedId(str):
    """A string that counts how often it is hashed or compared."""

    __slots__ = ()
    used = 0

    def __hash__(self) -> int:
        CountedId.used += 1
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        CountedId.used += 1
        return super().__eq__(other)
