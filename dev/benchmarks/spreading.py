"""The speed of work spread over processes. Apart from the rest, so that those processes need not import torch."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TypeVar

from core import parallel

Item = TypeVar("Item")
Result = TypeVar("Result")


def timed_spread(
    start: Callable[[], Callable[[Item], Result]], items: Sequence[Item], count: int
) -> tuple[list[Result], float]:
    """Work spread over `count` processes: the results, and items a second from the first result on."""
    with closing(parallel.spread(start, items, count)) as results:
        done = [next(results)]
        begun = time.perf_counter()
        done += results
    # What came with the first result was done before the clock was started.
    at_once = parallel.CHUNK if count > 1 and len(items) >= parallel.TOO_FEW_FOR_PROCESSES else 1
    return done, max(1, len(items) - at_once) / (time.perf_counter() - begun)
