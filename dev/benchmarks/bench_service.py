"""Service: photos a second, response times and memory of `serving.http` under load, with the exported run.

Clients on this machine send one photo a request, each the next as soon as it has its reply.
"""

import http.client
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from core.cli import UserError
from core.images import decode_photo
from dev.benchmarks.measure import Report, in_turn, ratios_of
from dev.benchmarks.setup import Setup
from dev.command import ROOT, run_command
from serving.cli import FaceOptions, ModelOptions, open_pipeline
from serving.faces import Pipeline
from serving.records import face_record

SERVICE, ALONE = "service", "its pipeline, photo by photo"
CLIENTS, PHOTOS = 4, 64


def bench_service(setup: Setup) -> Report:
    """Load the service in rounds, beside the same pipeline called in this process on all cores."""
    photos = [(setup.data.root / photo.path).read_bytes() for photo in setup.data.of_split("eval")[:PHOTOS]]
    replies: list[tuple[float, bool]] = []
    with tempfile.TemporaryDirectory(dir=setup.work_dir) as folder:
        run_command(["-m", "serving.export", "--run-dir", setup.some_run(), "--out", folder])
        pipeline = open_pipeline(ModelOptions(onnx=Path(folder)), FaceOptions())
        expected = [_labels([face_record(face) for face in pipeline(decode_photo(data))]) for data in photos]
        with _service(folder) as port:
            requests = setup.size.requests // setup.size.rounds

            def load() -> int:
                """Send requests with all clients at once."""
                with ThreadPoolExecutor(CLIENTS) as clients:
                    of_client = partial(_ask, port, photos, expected)
                    for done in clients.map(of_client, (range(one, requests, CLIENTS) for one in range(CLIENTS))):
                        replies.extend(done)
                return requests

            load()
            before = _memory_mb(port)
            alone = partial(_predict, pipeline, photos, max(1, requests // 10))
            rates = in_turn({SERVICE: load, ALONE: alone}, setup.size.rounds)
            after = _memory_mb(port)
    percentiles = statistics.quantiles((seconds for seconds, _ in replies[requests:]), n=100)
    facts: dict[str, object] = {
        "clients": CLIENTS,
        "requests": len(replies),
        "seconds of a request, median": percentiles[49],
        "seconds of a request, 99th percentile": percentiles[98],
        "replies with predict's labels": statistics.mean(float(same) for _, same in replies),
        "MB of memory after the first requests": before,
        "MB of memory at the end": after,
    }
    return Report("photos/s", rates, ratios_of(rates, SERVICE), facts)


@contextmanager
def _service(onnx: str) -> Iterator[int]:
    """Run the service in a process of its own, and yield its port."""
    words = [sys.executable, "-m", "serving.http", "--onnx", onnx, "--port", "0"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            found = re.search(r":(\d+) until", process.stdout.readline())
            if found is None:
                raise UserError("serving.http does not start; give its command to see why")
            yield int(found[1])
        finally:
            process.terminate()


def _ask(port: int, photos: Sequence[bytes], expected: Sequence[list], numbers: Sequence[int]) -> list[tuple]:
    """Return for each request the seconds it took, and whether the reply had the expected labels."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    replies = []
    for row in (number % len(photos) for number in numbers):
        began = time.perf_counter()
        connection.request("POST", "/predict", photos[row])
        body = json.loads(connection.getresponse().read())
        if "pictures" not in body:
            raise UserError(f"the service replied {body}")
        replies.append((time.perf_counter() - began, _labels(body["pictures"][0]["faces"]) == expected[row]))
    return replies


def _labels(faces: Sequence[dict]) -> list[list[str]]:
    return [[answer["label"] for answer in face["answers"].values()] for face in faces]


def _memory_mb(port: int) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("GET", "/metrics")
    found = re.search(r"^predict_resident_memory_bytes (\d+)$", connection.getresponse().read().decode(), re.MULTILINE)
    return int(found[1]) / 1e6 if found else float("nan")


def _predict(pipeline: Pipeline, photos: Sequence[bytes], count: int) -> int:
    for number in range(count):
        pipeline(decode_photo(photos[number % len(photos)]))
    return count
