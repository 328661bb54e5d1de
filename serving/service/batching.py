"""A bounded queue of photos, and workers that take what waits in batches."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
AT_ONCE = 8
"""Most items of a batch: more crops at once gain nothing on a CPU, and the first item would wait longer."""
PAST = 0.9
"""Weight of the past in the mean time of an item, against the latest batch."""


class QueueFull(Exception):
    """Error for items that find no place; `seconds` until there may be one."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many photos are waiting; come back in {seconds} s")
        self.seconds = seconds


class Batcher(Generic[Item, Result]):
    """Runs `work` on batches of waiting items, in as many threads as there are workers.

    It belongs to one event loop. A batch that fails is repeated item by item, so that no item fails for another's.
    """

    def __init__(self, work: Callable[[Sequence[Item]], Sequence[Result]], *, workers: int, most_waiting: int) -> None:
        self.most_waiting = most_waiting
        self.batches = 0
        self._work, self._workers = work, workers
        self._announced = 0
        self._seconds_each = 0.0
        self._queue: asyncio.Queue[tuple[Item, asyncio.Future[Result]]] = asyncio.Queue()

    @property
    def waiting(self) -> int:
        """Number of items that wait for a worker, or are announced."""
        return self._queue.qsize() + self._announced

    @contextmanager
    def announced(self) -> Iterator[None]:
        """Hold one place while an item is on its way. Raises QueueFull."""
        self._require_places(1)
        self._announced += 1
        try:
            yield
        finally:
            self._announced -= 1

    def submit(self, items: Sequence[Item]) -> list[asyncio.Future[Result]]:
        """Queue all items, or none of them: raises QueueFull."""
        self._require_places(len(items))
        loop = asyncio.get_running_loop()
        entries = [(item, loop.create_future()) for item in items]
        for entry in entries:
            self._queue.put_nowait(entry)
        return [future for _, future in entries]

    def _require_places(self, count: int) -> None:
        if self.waiting + count > self.most_waiting:
            raise QueueFull(max(1, math.ceil(self.waiting * self._seconds_each / self._workers)))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the workers. At the end, those at work finish their batch."""
        with ThreadPoolExecutor(self._workers, thread_name_prefix="predict") as threads:
            tasks = [asyncio.create_task(self._take_batches(threads)) for _ in range(self._workers)]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _take_batches(self, threads: ThreadPoolExecutor) -> None:
        while True:
            batch = [await self._queue.get()]
            # A worker takes its share: if one took all that waits, the others would be idle.
            share = math.ceil((1 + self._queue.qsize()) / self._workers)
            batch += [self._queue.get_nowait() for _ in range(min(share, AT_ONCE) - 1)]
            if not await self._run(threads, batch):
                for entry in batch:
                    await self._run(threads, [entry])

    async def _run(self, threads: ThreadPoolExecutor, batch: Sequence[tuple[Item, asyncio.Future[Result]]]) -> bool:
        """Compute a batch and hand out its results. Return False for a failed batch of several items."""
        began = time.perf_counter()
        work = asyncio.get_running_loop().run_in_executor(threads, self._work, [item for item, _ in batch])
        (outcome,) = await asyncio.gather(work, return_exceptions=True)
        if isinstance(outcome, BaseException):
            if len(batch) > 1:
                return False
            _, future = batch[0]
            if not future.done():
                future.set_exception(outcome)
            return True
        seconds = (time.perf_counter() - began) / len(batch)
        self._seconds_each = PAST * self._seconds_each + (1 - PAST) * seconds if self.batches else seconds
        self.batches += 1
        for (_, future), result in zip(batch, outcome, strict=True):
            # Done already: the request was given up.
            if not future.done():
                future.set_result(result)
        return True
