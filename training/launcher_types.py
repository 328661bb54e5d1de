"""Types that launchers share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Start = Callable[[], Callable[[Item], Result]]


@dataclass(frozen=True)
class Resources:
    """Resources of some work. `processes` is for the local launcher; all that follows it is for a cluster alone.

    `cpus`, `gpus`: what one piece of work gets (0.25 lets four pieces share a GPU). `address`: of a cluster that runs
    already, empty to start one on this machine. `shard`: items that are handed out at once.
    """

    processes: int = 1
    cpus: int = 1
    gpus: float = 0.0
    address: str = ""
    shard: int = 1
    launcher: str = "local"
