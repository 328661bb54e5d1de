"""Benchmarks of prediction: of a run, of its export, of the service, and of a camera."""

import http.client
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from core.cli import UserError, cpu_count
from core.images import decode_photo, read_photo
from dev.benchmarks.measure import Report, in_turn, ratio, ratios_of
from dev.benchmarks.setup import Setup, images_for
from dev.command import ROOT, run_command
from serving.agreement import Classify, agreements
from serving.cli import FaceOptions, ModelOptions, open_pipeline
from serving.drawing import annotated
from serving.entrance import TASK, SignState
from serving.faces import Pipeline
from serving.onnx_model import INT8_SUFFIX, load_exported
from serving.records import face_record
from serving.sign import with_sign
from serving.smoothing import Smoother
from serving.torch_model import load_run
from serving.types import FacePrediction
from storage.layouts import Dataset
from training.device import prepare_process
from training.feature_cache import FOLDER as FEATURES
from training.inputs import PredictOptions
from training.predictor import predict_crops

FROM_FOLDER, IN_MEMORY = "crop folder", "images in memory"
TORCH, ONNX, INT8 = "torch", "ONNX", "ONNX int8"
CROPS, FEW = 64, 16
WAYS = {"all at once": CROPS, "one by one": 1}
"""Crops that are handed over together."""
SERVICE, ALONE = "service", "its pipeline, photo by photo"
CLIENTS, PHOTOS = 4, 64
EXPORTED, ENTRANCE = "sign, mask alone, exported", "sign, mask alone"
MODEL, EVERYTHING = "its model, on crops", "boxes, all tasks, every face in both views"
WIDTH, HEIGHT, FPS = 640, 480, 25
FRAMES = 100
Draw = Callable[[np.ndarray, Sequence[FacePrediction]], np.ndarray]


def bench_inference(setup: Setup) -> Report:
    """Speed over a crop folder, features of frozen backbones included, beside that over images in memory."""
    device, workers = str(setup.device), setup.typed.get("workers", -1)
    trained = load_run(setup.some_run(), device=device)
    predictors = [predictor for of_task in trained.models.values() for predictor in of_task]
    images = images_for(trained, setup.eval_crops)

    def from_folder() -> int:
        shutil.rmtree(setup.crop_dir / FEATURES, ignore_errors=True)
        for predictor in predictors:
            options = PredictOptions(device, workers, predictor.config.tta, "inference")
            predict_crops(predictor, setup.eval_crops, options)
        return len(images)

    def in_memory() -> int:
        trained(images)
        return len(images)

    prepare_process(setup.threads_of_a_job)
    rates = in_turn({FROM_FOLDER: from_folder, IN_MEMORY: in_memory}, setup.size.rounds)
    facts = {"models": len(predictors), "photos": len(images), "device": device}
    return Report("photos/s", rates, ratios_of(rates, FROM_FOLDER), facts | {"threads": setup.threads_of_a_job})


def bench_export(setup: Setup) -> Report:
    """Speed of the files that `serving.export` writes beside torch; a file that it does not write is skipped."""
    run_dir = setup.some_run()
    crops = images_for(load_run(run_dir, device="cpu"), setup.eval_crops)[:CROPS]
    with tempfile.TemporaryDirectory(dir=setup.work_dir) as folder:
        try:
            printed = run_command(["-m", "serving.export", "--run-dir", run_dir, "--out", folder, "--int8"]).output
        except UserError as error:
            return Report("photos/s", {}, facts={f"{ONNX}, skipped": str(error)})
        paths = {ONNX: Path(folder) / "all.onnx", INT8: Path(folder) / f"all{INT8_SUFFIX}"}
        exported = {name: load_exported(path) for name, path in paths.items() if path.exists()}
        models = {TORCH: load_run(run_dir, device="cpu"), **exported}
        prepare_process(cpu_count())
        contenders = {
            f"{name}, {how}": partial(_classify_crops, model, crops[: FEW * together], together)
            for name, model in models.items()
            for how, together in WAYS.items()
        }
        rates = in_turn(contenders, setup.size.rounds)
        facts: dict[str, object] = {"photos": len(crops)}
        for name, model in exported.items():
            rows = agreements(models[TORCH](crops), model(crops))
            facts[f"{name}, same label as torch"] = min(row.labels for row in rows)
            facts[f"{name}, largest difference of a probability"] = max(row.largest for row in rows)
    if INT8 not in exported:
        # The last line says why.
        facts[f"{INT8}, skipped"] = printed.strip().splitlines()[-1]
    pairs = [(f"{name}, {how}", f"{TORCH}, {how}") for name in exported for how in WAYS]
    return Report("photos/s", rates, {f"{name} / {torch}": ratio(rates, name, torch) for name, torch in pairs}, facts)


def _classify_crops(classify: Classify, crops: Sequence[np.ndarray], together: int) -> int:
    for first in range(0, len(crops), together):
        classify(crops[first : first + together])
    return len(crops)


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
            alone = partial(_predict_photos, pipeline, photos, max(1, requests // 10))
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


def _predict_photos(pipeline: Pipeline, photos: Sequence[bytes], count: int) -> int:
    for number in range(count):
        pipeline(decode_photo(photos[number % len(photos)]))
    return count


def bench_stream(setup: Setup) -> Report:
    """Speed of a stream at an entrance, exported and in torch, beside the bare model and a stream of all tasks."""
    run_dir = setup.some_run()
    mask = open_pipeline(ModelOptions(run_dir, tasks=(TASK,)), FaceOptions(), camera=True)
    every = open_pipeline(ModelOptions(run_dir), FaceOptions(), video=True)
    frame, crops = _frame_with_face(setup.data, mask)
    state = SignState()

    def sign(rgb: np.ndarray, faces: Sequence[FacePrediction]) -> np.ndarray:
        return with_sign(rgb, [face.box for face in faces], state.update(faces, 0.0), "en")

    count = FRAMES if setup.size.rounds > 1 else 10
    with tempfile.TemporaryDirectory(dir=setup.work_dir) as folder:
        run_command(["-m", "serving.export", "--run-dir", run_dir, "--task", TASK, "--out", folder])
        exported = open_pipeline(ModelOptions(onnx=Path(folder)), FaceOptions(), camera=True)
        contenders = {
            EXPORTED: partial(_stream, exported, frame, count, sign),
            ENTRANCE: partial(_stream, mask, frame, count, sign),
            MODEL: partial(_classify, mask, crops, count),
            EVERYTHING: partial(_stream, every, frame, max(1, count // 10), annotated),
        }
        rates = in_turn(contenders, setup.size.rounds)
    return Report("frames/s", rates, ratios_of(rates, EXPORTED), {"faces in the frame": len(crops)})


def _frame_with_face(data: Dataset, pipeline: Pipeline) -> tuple[np.ndarray, Sequence[np.ndarray]]:
    """Return the frame of the first eval photo that has faces in it, and their crops. UserError if none has."""
    for photo in data.of_split("eval"):
        frame = _frame(read_photo(data.root / photo.path))
        crops = pipeline.cut(frame).crops
        if crops:
            return frame, crops
    raise UserError(f"{data.root}: no face is found in a frame of an eval photo; the stream needs one")


def _frame(photo: np.ndarray) -> np.ndarray:
    """Return the photo in a frame of a camera: as high as the frame, in its middle."""
    width = min(WIDTH, round(photo.shape[1] * HEIGHT / photo.shape[0]))
    left = (WIDTH - width) // 2
    small = cv2.resize(photo, (width, HEIGHT), interpolation=cv2.INTER_AREA)
    return cv2.copyMakeBorder(small, 0, 0, left, WIDTH - width - left, cv2.BORDER_REPLICATE)


def _stream(pipeline: Pipeline, frame: np.ndarray, count: int, draw: Draw) -> int:
    smoother = Smoother()
    for number in range(count):
        draw(frame, smoother(pipeline(frame), number / FPS))
    return count


def _classify(pipeline: Pipeline, crops: Sequence[np.ndarray], count: int) -> int:
    for _ in range(count):
        pipeline.classify(crops)
    return count
