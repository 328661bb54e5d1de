"""The HTTP service over real HTTP: predictions, refusals, limits, metrics, and its end."""

import asyncio
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving_toys import CROP, FACE_CROP, GivenFaces, MeanColour, crowd, make_run
from test_export import NO_TORCH
from toy_data import refusal

import predict
from core.boxes import Box
from core.cli import UserError
from core.files import read_json
from core.images import jpeg, write_photo
from serving import export
from serving import http as service
from serving.faces import Pipeline
from serving.types import BatchPrediction

pytest.importorskip("fastapi", reason="fastapi is not installed")
pytest.importorskip("uvicorn", reason="uvicorn is not installed")

import uvicorn

from serving.service import uploads
from serving.service.app import ServiceSettings, build_app
from serving.service.batching import Batcher, QueueFull
from serving.service.limits import RateLimit, is_bearer, read_token
from serving.service.page import page
from serving.service.schema import Predictions

ROOT = Path(__file__).resolve().parents[1]
BOX = Box(10, 10, 50, 60)
PIPELINE = Pipeline(GivenFaces((BOX,)), MeanColour(), unsure_below=0.9)
SETTINGS = ServiceSettings(("mask",), workers=2, most_waiting=8, most_bytes=100_000)
TOKEN = "a-token-of-enough-letters"


@dataclass
class Reply:
    """Status, headers and body of a response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        return self.json["detail"]


@contextmanager
def served(pipeline: Pipeline = PIPELINE, settings: ServiceSettings = SETTINGS) -> Iterator[int]:
    """The service in a thread, as its port."""
    listener = service.listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(build_app(pipeline, settings), lifespan="on", log_level="critical"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(timeout=30)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with served() as port:
        yield port


def ask(port: int, method: str, path: str, body: bytes = b"", **headers: str) -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    reply = Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    connection.close()
    return reply


def form(*files: tuple[str, bytes]) -> tuple[bytes, str]:
    """The body and the content type of a form with these files."""
    parts = [
        b'--edge\r\nContent-Disposition: form-data; name="photo"; filename="' + name.encode() + b'"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n" + data + b"\r\n"
        for name, data in files
    ]
    return b"".join(parts) + b"--edge--\r\n", "multipart/form-data; boundary=edge"


def photo(level: int = 120) -> bytes:
    return jpeg(np.full((80, 60, 3), level, np.uint8))


def metric(port: int, name: str) -> float:
    found = re.search(rf"^predict_{re.escape(name)} (\S+)$", ask(port, "GET", "/metrics").body.decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


@dataclass
class Slow:
    """A classifier that waits to be let on, and counts the crops it was shown at once."""

    go: threading.Event = field(default_factory=threading.Event)
    shown: list[int] = field(default_factory=list)
    crop: Any = CROP
    tasks: tuple[str, ...] = ("mask",)

    def __call__(self, crops: Sequence[np.ndarray]) -> dict[str, BatchPrediction]:
        self.shown.append(len(crops))
        assert self.go.wait(30)
        return MeanColour()(crops)


class TestPredictions:
    def test_one_photo_as_the_body(self, port: int, tmp_path: Path) -> None:
        """The reply is what predict.py writes, and what the OpenAPI document says."""
        reply = ask(port, "POST", "/predict", photo(), Content_Type="image/jpeg")
        assert reply.status == 200
        Predictions.model_validate(reply.json)
        results = predict.Results()
        rgb = np.full((80, 60, 3), 120, np.uint8)
        results.add({"photo": "photo", "width": 60, "height": 80}, PIPELINE(rgb))
        results.write(tmp_path / "predictions.json")
        assert reply.json == read_json(tmp_path / "predictions.json")

    def test_many_photos_keep_their_names_and_order(self, port: int) -> None:
        body, kind = form(("둘.jpg", photo(200)), ("a.jpg", photo(50)), ("a.jpg", photo(90)), ("b.txt", b"no photo"))
        reply = ask(port, "POST", "/predict", body, Content_Type=kind)
        assert reply.status == 200
        assert [picture["photo"] for picture in reply.json["pictures"]] == ["둘.jpg", "a.jpg", "a.jpg#3"]
        assert reply.json["unreadable"] == {"b.txt": "not a picture that can be decoded"}
        percents = [picture["faces"][0]["answers"]["mask"]["percent"] for picture in reply.json["pictures"]]
        assert percents == pytest.approx([100 * level / 255 for level in (200, 50, 90)], abs=1)

    def test_no_photo_is_lost_to_the_name_of_another(self, port: int) -> None:
        body, kind = form(("a#3", photo(90)), ("a", photo(90)), ("a", photo(90)))
        reply = ask(port, "POST", "/predict", body, Content_Type=kind)
        assert [picture["photo"] for picture in reply.json["pictures"]] == ["a#3", "a", "a#3#3"]

    def test_a_name_that_utf_8_does_not_have(self, port: int) -> None:
        body, kind = form(("+2AA-", photo(90)))
        reply = ask(port, "POST", "/predict", body, Content_Type=f"{kind}; charset=utf-7")
        assert reply.json["pictures"][0]["photo"] == r"\ud800"

    def test_a_photo_without_a_face(self) -> None:
        with served(Pipeline(GivenFaces(()), MeanColour())) as port:
            assert ask(port, "POST", "/predict", photo()).json["pictures"][0]["faces"] == []

    def test_nothing_is_written_to_the_disk(self, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
        def refused(*_: object, **__: object) -> None:
            raise AssertionError("a temporary file was asked for")

        monkeypatch.setattr(tempfile, "TemporaryFile", refused)
        noise = jpeg(np.random.default_rng(0).integers(0, 256, (120, 120, 3), dtype=np.uint8), quality=100)
        body, kind = form(*((f"{number}.jpg", noise) for number in range(4)))
        with served(settings=ServiceSettings(("mask",), most_bytes=10_000_000)) as port:
            large = noise + bytes(2_000_000)
            body, kind = form(("large.jpg", large), ("small.jpg", noise))
            assert len(ask(port, "POST", "/predict", body, Content_Type=kind).json["pictures"]) == 2

    def test_photos_that_wait_are_classified_together(self) -> None:
        slow = Slow()
        settings = ServiceSettings(("mask",), workers=1, most_waiting=8)
        with served(Pipeline(GivenFaces((BOX,)), slow), settings) as port:
            first = asked_aside(port, photo())
            wait_until(lambda: len(slow.shown) == 1)
            others = [asked_aside(port, photo(level)) for level in (10, 20, 30)]
            wait_until(lambda: ask(port, "GET", "/health").json["waiting"] == 3)
            slow.go.set()
            assert [replies.get().status for replies in (first, *others)] == [200] * 4
        assert slow.shown == [1, 3]


class Aside:
    """A request made in a thread."""

    def __init__(self, port: int, body: bytes) -> None:
        self._replies: list[Reply] = []
        self._thread = threading.Thread(target=lambda: self._replies.append(ask(port, "POST", "/predict", body)))
        self._thread.start()

    def get(self) -> Reply:
        self._thread.join(timeout=30)
        return self._replies[0]


def asked_aside(port: int, body: bytes) -> Aside:
    return Aside(port, body)


def wait_until(true: Any) -> None:
    for _ in range(1000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come to be")


class TestRefusals:
    @pytest.mark.parametrize(
        ("body", "kind", "status", "reason"),
        [
            (b"", "image/jpeg", 400, "no photo: send it as the body, or as a file of multipart/form-data"),
            (b"no photo", "image/jpeg", 422, "cannot be read: photo: not a picture that can be decoded"),
            (photo()[:300], "image/jpeg", 422, "cannot be read: photo: the file is cut short"),
            (b"%PDF-1.7", "", 422, "cannot be read: photo: a PDF, not a photo"),
            (b"broken", "multipart/form-data", 400, "multipart/form-data: Missing boundary in multipart."),
            (b"--edge\r\nbroken", "multipart/form-data; boundary=edge", 400, "multipart/form-data: cut short"),
            (form(("a.jpg", photo()))[0][:-20], form()[1], 400, "multipart/form-data: cut short"),
            (form()[0], form()[1], 400, "no file in the form"),
            (form(*[("a.jpg", b"x")] * 9)[0], form()[1], 400, "Maximum number of files is 8"),
            (bytes(100_001), "image/jpeg", 413, "the body is larger than 0.1 MB"),
        ],
    )
    def test_bodies(self, port: int, body: bytes, kind: str, status: int, reason: str) -> None:
        reply = ask(port, "POST", "/predict", body, Content_Type=kind)
        assert reply.status == status
        assert reason in reply.reason

    def test_a_body_of_unknown_length_that_is_too_large(self, port: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", "/predict", iter([bytes(60_000)] * 2), encode_chunked=True)
        assert connection.getresponse().status == 413

    def test_a_photo_of_too_many_pixels(self, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MAX_PIXELS", "4799")
        reply = ask(port, "POST", "/predict", photo())
        assert reply.status == 422 and "60 x 80 pixels, more than the 0.004799 million allowed" in reply.reason

    def test_a_client_that_sends_too_slowly(self, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(uploads, "READ_SECONDS", 0.1)
        with socket.create_connection(("127.0.0.1", port), timeout=30) as stream:
            stream.sendall(b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\nhalf")
            assert stream.recv(4096).startswith(b"HTTP/1.1 408 ")

    def test_paths_and_methods(self, port: int) -> None:
        assert ask(port, "GET", "/predict").status == 405
        assert ask(port, "GET", "/docs").status == 404

    def test_a_token(self) -> None:
        with served(settings=ServiceSettings(("mask",), token=TOKEN)) as port:
            for wrong in ("", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x"):
                reply = ask(port, "POST", "/predict", photo(), Authorization=wrong)
                assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
            assert ask(port, "GET", "/metrics").status == 401
            assert ask(port, "POST", "/predict", photo(), Authorization=f"Bearer {TOKEN}").status == 200
            assert ask(port, "GET", "/health").status == 200
            assert b"<form" not in ask(port, "GET", "/").body

    def test_a_client_that_asks_too_often(self) -> None:
        with served(settings=ServiceSettings(("mask",), per_minute=2)) as port:
            replies = [ask(port, "POST", "/predict", photo()) for _ in range(3)]
            assert [reply.status for reply in replies] == [200, 200, 429]
            assert 1 <= int(replies[-1].headers["retry-after"]) <= 30

    def test_a_full_queue(self) -> None:
        slow = Slow()
        settings = ServiceSettings(("mask",), workers=1, most_waiting=2)
        with served(Pipeline(GivenFaces((BOX,)), slow), settings) as port:
            under_way = asked_aside(port, photo())
            wait_until(lambda: len(slow.shown) == 1)
            waiting = [asked_aside(port, photo()) for _ in range(2)]
            wait_until(lambda: ask(port, "GET", "/health").json["waiting"] == 2)
            reply = ask(port, "POST", "/predict", photo())
            assert reply.status == 503 and int(reply.headers["retry-after"]) >= 1
            slow.go.set()
            assert [one.get().status for one in (under_way, *waiting)] == [200] * 3

    def test_a_failure_is_a_500_for_its_own_photo_alone(self) -> None:
        """Of photos that wait together, one that the model fails for takes no other with it."""
        slow = Slow()

        def fails(crops: Sequence[np.ndarray]) -> dict[str, BatchPrediction]:
            if any(crop.mean() > 240 for crop in crops):
                raise RuntimeError("a failure on purpose")
            return slow(crops)

        classify = type("Fails", (), {"crop": FACE_CROP, "__call__": lambda _, crops: fails(crops)})()
        settings = ServiceSettings(("mask",), workers=1)
        with served(Pipeline(GivenFaces((BOX,)), classify), settings) as port:
            first = asked_aside(port, photo())
            wait_until(lambda: len(slow.shown) == 1)
            others = [asked_aside(port, photo(level)) for level in (255, 20)]
            wait_until(lambda: ask(port, "GET", "/health").json["waiting"] == 2)
            slow.go.set()
            assert [one.get().status for one in (first, *others)] == [200, 500, 200]


class TestPages:
    def test_metrics(self, port: int) -> None:
        names = ("photos_total", "faces_total", 'responses_total{path="/predict",status="200"}')
        names += ("prediction_seconds_count", 'prediction_seconds_bucket{le="+Inf"}', "photos_unreadable_total")
        before = [metric(port, name) for name in names]
        ask(port, "POST", "/predict", photo())
        ask(port, "POST", "/predict", b"no photo")
        assert [metric(port, name) for name in names] == [value + 1 for value in before]
        assert metric(port, "resident_memory_bytes") > 1e6
        text = ask(port, "GET", "/metrics").body.decode()
        assert all(re.fullmatch(r'# TYPE \S+ \S+|\S+(\{[^}]*"\})? \S+', line) for line in text.splitlines())

    def test_the_page_shows_all_paths_and_loads_nothing(self, port: int) -> None:
        reply = ask(port, "GET", "/")
        text = reply.body.decode()
        assert all(path in text for path in ("POST /predict", "GET /health", "GET /metrics", "openapi.json", "<form"))
        assert not re.search(r"<script|https://|src=", text)
        assert reply.headers["content-security-policy"].startswith("default-src 'none'")
        document = ask(port, "GET", "/openapi.json").json
        assert set(document["paths"]) == {"/predict", "/health", "/metrics"}
        assert set(document["paths"]["/predict"]["post"]["responses"]) >= {"200", "413", "422", "429", "503"}
        assert "<b>" not in page({**document, "info": {"title": "<b>", "description": "<b>"}}, with_form=True)


class TestParts:
    def test_the_rate_of_a_client(self) -> None:
        now = [0.0]
        rate = RateLimit(2, clock=lambda: now[0])
        assert [rate.seconds_to_wait("a") for _ in range(3)] == [0, 0, 30]
        assert rate.seconds_to_wait("b") == 0
        now[0] = 29.0
        assert rate.seconds_to_wait("a") == 1
        now[0] = 31.0
        assert [rate.seconds_to_wait("a") for _ in range(2)] == [0, 29]

    def test_clients_are_forgotten(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("serving.service.limits.MOST_CLIENTS", 3)
        rate = RateLimit(1)
        for client in ("a", "b", "c", "d"):
            assert rate.seconds_to_wait(client) == 0
        assert rate.seconds_to_wait("d") > 0
        assert rate.seconds_to_wait("a") == 0

    def test_tokens(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert read_token(None) is None
        monkeypatch.setenv("SERVICE_TOKEN", TOKEN)
        assert read_token(None) == TOKEN
        path = tmp_path / "token.txt"
        path.write_text(f"{TOKEN}-of-the-file\n")
        assert read_token(path) == f"{TOKEN}-of-the-file"
        path.write_text("short")
        with pytest.raises(UserError, match=r"token\.txt: a token has at least 16 letters"):
            read_token(path)
        with pytest.raises(UserError, match="cannot be read"):
            read_token(tmp_path / "none.txt")
        assert is_bearer(f"bearer {TOKEN}", TOKEN)
        assert not is_bearer(f"Bearer {TOKEN}\udcff", TOKEN)

    def test_a_queue_takes_all_items_or_none(self) -> None:
        async def check() -> None:
            batcher: Batcher[int, int] = Batcher(lambda items: [2 * item for item in items], workers=2, most_waiting=3)
            with batcher.announced(), pytest.raises(QueueFull):
                batcher.submit([1, 2, 3])
            futures = batcher.submit([1, 2, 3])
            with pytest.raises(QueueFull), batcher.announced():
                pass
            async with batcher.running():
                assert await asyncio.gather(*futures) == [2, 4, 6]
            assert batcher.waiting == 0

        asyncio.run(check())


class TestCommand:
    def test_refusals(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        refusal(service.main, ["--run-dir", tmp_path / "none"], "run train.py first, or give --run-dir")
        refusal(service.main, ["--token-file", tmp_path / "none"], "--token-file", "cannot be read")
        monkeypatch.setitem(sys.modules, "fastapi", None)
        refusal(service.main, [], "fastapi cannot be imported", "python scripts/install.py http")

    def test_a_port_that_is_taken(self, port: int) -> None:
        with pytest.raises(UserError, match=f"--port {port}: cannot be listened on"):
            service.listen("127.0.0.1", port)
        with pytest.raises(UserError, match="--port 70000: cannot be listened on"):
            service.listen("127.0.0.1", 70000)

    def test_without_torch_until_it_is_told_to_stop(self, tmp_path: Path) -> None:
        """The command with an exported model: predict's JSON, and SIGTERM ends it with the request under way."""
        run_dir = make_run(tmp_path / "run", ("mask",))
        export.main(["--run-dir", str(run_dir), "--crops", "2"])
        onnx = ["--onnx", str(run_dir / "onnx")]
        path = tmp_path / "a.png"
        write_photo(path, crowd(((240, 160, 150),))[0])
        predict.main([str(path), *onnx, "--out", str(tmp_path / "out")])
        expected = read_json(tmp_path / "out" / "predictions.json")
        code = NO_TORCH + f"from serving import http\nhttp.main({[*onnx, '--port', '0']!r})"
        words = [sys.executable, "-c", code]
        with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            line = process.stdout.readline()
            port = int(re.fullmatch(r"the service is at http://127\.0\.0\.1:(\d+) until Ctrl-C\n", line)[1])
            body, kind = form(("a.png", path.read_bytes()))
            assert ask(port, "POST", "/predict", body, Content_Type=kind).json == expected
            under_way = [asked_aside(port, path.read_bytes()) for _ in range(6)]
            wait_until(lambda: ask(port, "GET", "/health").json["waiting"] > 0)
            process.send_signal(signal.SIGTERM)
            assert [one.get().status for one in under_way] == [200] * 6
            assert process.wait(timeout=30) == 0
            assert process.stderr.read().splitlines()[-1] == "stopped"
