"""Work on many photos at once, over processes. Memory does not grow with the number of photos.

Processes are spawned, not forked: a forked copy of a process that has threads (onnxruntime, OpenCV) can hang.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing.connection import Connection
from typing import TypeVar

import cv2

from core.cli import UserError
from core.progress import advance
from core.reports import relayed, report_to_parent

Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK = 8
"""Photos handed to a process at once. More hide the cost of handing over, fewer end sooner after Ctrl-C."""
TOO_FEW_FOR_PROCESSES = 48
"""With fewer photos the work is done before processes have started."""
WAITING = 4
"""Chunks handed out for each process."""
FLUSH_SECONDS = 10.0
"""Finished work that a power cut can cost. Ctrl-C costs none."""

_work: Callable | None = None
"""Work of a pool process, set once by `_set_up`; None in the parent. A pool's initializer can hand state to later calls
in no other way."""


def run_parallel(
    start: Callable[[], Callable[[Item], Result]],
    items: Sequence[Item],
    workers: int,
    *,
    large: bool = False,
) -> Generator[Result, None, None]:
    """Yield `start()(item)` for all items, in whatever order they finish.

    `start` runs once in each process (it loads what the work needs) and must be importable there, as must the items be
    picklable. UserError if a process dies. Closing the iterator, as Ctrl-C does, ends the processes, in the middle of
    what they do. Items that are `large` pieces of work, of minutes, are handed out one by one.
    """
    chunk, too_few = (1, 2) if large else (CHUNK, TOO_FEW_FOR_PROCESSES)
    if workers == 1 or len(items) < too_few:
        work = start()
        yield from map(work, items)
        return
    chunks = [items[first : first + chunk] for first in range(0, len(items), chunk)]
    with relayed(advance) as reports:
        yield from _in_pool(start, chunks, workers, reports)


def _in_pool(
    start: Callable[[], Callable[[Item], Result]], chunks: Sequence[Sequence[Item]], workers: int, reports: Connection
) -> Iterator[Result]:
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_set_up, initargs=(start, reports))
    unfinished = True
    try:
        yield from _flow(pool, chunks, workers)
        unfinished = False
    except BrokenProcessPool:
        hint = "run again with fewer processes at once (--jobs or --workers)"
        raise UserError(f"a worker process died, perhaps for lack of memory; {hint}") from None
    finally:
        if unfinished:
            for process in multiprocessing.active_children():
                process.terminate()
        pool.shutdown(cancel_futures=True)


def with_flushes(results: Generator[Result, None, None], flush: Callable[[], None]) -> Generator[Result, None, None]:
    """Yield the results, calling `flush` every FLUSH_SECONDS and at the end, also on errors. Use with `closing`."""
    flushed = time.monotonic()
    try:
        for result in results:
            yield result
            if time.monotonic() - flushed > FLUSH_SECONDS:
                flush()
                flushed = time.monotonic()
    finally:
        results.close()
        flush()


def _flow(pool: ProcessPoolExecutor, chunks: Sequence[Sequence[Item]], workers: int) -> Iterator[Result]:
    """Keep WAITING chunks handed out for each process, never more, and yield the results."""
    rest = iter(chunks)
    with _interrupts_held_back():
        pending: set[Future] = {pool.submit(_run_chunk, chunk) for chunk in islice(rest, workers * WAITING)}
    while pending:
        finished, pending = wait(pending, return_when=FIRST_COMPLETED)
        for future in finished:
            yield from future.result()
        pending |= {pool.submit(_run_chunk, chunk) for chunk in islice(rest, len(finished))}


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Start processes in here that ignore Ctrl-C, which a terminal sends to all; the parent ends the work."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _set_up(start: Callable[[], Callable], reports: Connection) -> None:
    global _work
    report_to_parent(reports)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)
    _work = start()


def _end_with_parent() -> None:
    """End this process when its parent ends. A killed parent cannot, and the process would wait for work for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _run_chunk(items: Sequence[Item]) -> list[Result]:
    return [_work(item) for item in items]
