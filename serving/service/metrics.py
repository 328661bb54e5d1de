"""Counts of the service in the text form of Prometheus.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

import os
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import accumulate
from pathlib import Path

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "predict_"
BOUNDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds in seconds of the histogram of response times."""


class Metrics:
    """Counts since the start: responses by path and status, seconds of predictions, photos and faces."""

    def __init__(self) -> None:
        self.photos = self.unreadable = self.faces = 0
        self._responses: Counter[tuple[str, int]] = Counter()
        self._times = [0] * (len(BOUNDS) + 1)
        self._seconds = 0.0
        self._began = time.time()

    def add_response(self, path: str, status: int) -> None:
        self._responses[path, status] += 1

    def add_prediction(self, seconds: float) -> None:
        """Count a response with predictions, from its first byte read to its last one known."""
        self._times[bisect_left(BOUNDS, seconds)] += 1
        self._seconds += seconds

    def text(self, *, waiting: int, batches: int) -> str:
        """Return all metrics, with the photos that wait in this moment and the batches so far."""
        responses = {f'{{path="{path}",status="{status}"}}': n for (path, status), n in self._responses.items()}
        lines = [*_family("responses_total", "counter", responses), *self._histogram()]
        counters = {"photos": self.photos, "photos_unreadable": self.unreadable, "faces": self.faces}
        for name, value in {**counters, "batches": batches}.items():
            lines += _family(f"{name}_total", "counter", {"": value})
        gauges = {"photos_waiting": waiting, "start_time_seconds": self._began}
        if memory := resident_bytes():
            gauges["resident_memory_bytes"] = memory
        for name, value in gauges.items():
            lines += _family(name, "gauge", {"": value})
        return "\n".join(lines) + "\n"

    def _histogram(self) -> Iterator[str]:
        name, sums = f"{PREFIX}prediction_seconds", list(accumulate(self._times))
        yield f"# TYPE {name} histogram"
        for bound, total in zip((*BOUNDS, "+Inf"), sums, strict=True):
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {self._seconds:.6f}"
        yield f"{name}_count {sums[-1]}"


def _family(name: str, kind: str, values: Mapping[str, float]) -> Iterator[str]:
    yield f"# TYPE {PREFIX}{name} {kind}"
    for labels, value in values.items():
        yield f"{PREFIX}{name}{labels} {value}"


def resident_bytes() -> int:
    """Return the memory of this process in bytes; 0 where the system has no /proc."""
    path = Path("/proc/self/statm")
    return int(path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if path.exists() else 0
