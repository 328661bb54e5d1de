"""Types that launchers share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Start = Callable[[], Callable[[Item], Result]]


@dataclass(frozen=True)
class Resources:
    """Resources of some work, and the launcher that spreads it.

    `processes`: processes at once, read by the local launcher alone. `cpus`, `gpus`: cores and GPUs for one piece of
    work on a cluster (0.25 lets four pieces share a GPU). `address`: of a cluster that runs already, empty to start one
    on this machine. `shard`: items in one piece of work on a cluster; the local launcher takes 1 to mean that each item
    is large. `launcher`: name of a row of LAUNCHERS.
    """

    processes: int = 1
    cpus: int = 1
    gpus: float = 0.0
    address: str = ""
    shard: int = 1
    launcher: str = "local"
