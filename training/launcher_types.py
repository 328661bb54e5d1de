"""What launchers are told, and the types of the work they spread."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Start = Callable[[], Callable[[Item], Result]]


@dataclass(frozen=True)
class Resources:
    """What a launcher is told. `processes` are those of this machine; the others are for a cluster alone.

    `cpus`, `gpus`: what one piece of work gets, gpus in parts too: with 0.25 four pieces share one; `address`: of a
    cluster that runs already, empty to start one here; `shard`: items that are handed out at once.
    """

    processes: int = 1
    cpus: int = 1
    gpus: float = 0.0
    address: str = ""
    shard: int = 1
