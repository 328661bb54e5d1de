"""A small crop folder whose photos need boxes, and the annotation server over it."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from core.boxes import Box
from core.files import write_json
from core.images import write_photo
from preprocessing import annotate_faces
from preprocessing.annotation_server import AnnotationServer
from preprocessing.faces_table import Outcome, write_outcomes
from storage import crops
from storage.layouts import scan

WIDTH, HEIGHT = 120, 160
SUGGESTION = Box(30, 40, 90, 120)
FOUND, PLAIN, TURNED, LARGE, BROKEN = "a found.png", "b.png", "c turned.jpg", "d large.jpg", "e broken.jpg"
LISTED = (PLAIN, TURNED, LARGE, BROKEN)
"""The photos whose status is not `detected`, in the order of faces.csv."""
LARGE_SIZE = (2400, 3000)
ORIENTATION = 0x0112


def make_folder(folder: Path) -> Path:
    """Photos and the crop folder of a finished detection; returns the crop folder."""
    root, crop_dir = folder / "photos", folder / "crops"
    grey = np.full((HEIGHT, WIDTH, 3), 127, np.uint8)
    for name in (FOUND, PLAIN):
        write_photo(root / name, grey)
    save_turned(root / TURNED)
    write_photo(root / LARGE, np.full((LARGE_SIZE[1], LARGE_SIZE[0], 3), 200, np.uint8))
    (root / BROKEN).write_bytes(b"\xff\xd8 no picture")
    (folder / "secret.jpg").write_bytes(b"not of this data set")
    outcomes = {name: Outcome(name, name, "fallback", "centre", SUGGESTION, None, WIDTH, HEIGHT) for name in LISTED}
    outcomes[FOUND] = Outcome(FOUND, FOUND, "detected", "", SUGGESTION, 0.99, WIDTH, HEIGHT)
    outcomes[BROKEN] = replace(outcomes[BROKEN], status="missing", reason="not a picture", box=None)
    write_outcomes(crops.faces_path(crop_dir), scan(root).photos, outcomes)
    write_json(crops.source_path(crop_dir), {"data_root": str(root), "layout": "photos"})
    return crop_dir


def save_turned(path: Path) -> None:
    """A JPEG whose pixels lie on their side, WIDTH x HEIGHT only after its EXIF orientation; its top left is red."""
    upright = np.full((HEIGHT, WIDTH, 3), 127, np.uint8)
    upright[: HEIGHT // 2, : WIDTH // 2] = (255, 0, 0)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(np.rot90(upright)).save(path, exif=exif, quality=95)


@contextmanager
def serving(crop_dir: Path, boxes_path: Path, *flags: str) -> Iterator[AnnotationServer]:
    """The server that the command would run, in a thread of this process."""
    args = annotate_faces.parse_args(["--crop-dir", str(crop_dir), "--boxes", str(boxes_path), *flags])
    with annotate_faces.open_server(annotate_faces.open_annotation(args), args.port) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True)
class Answer:
    """A response as a test looks at it."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> dict:
        return json.loads(self.body)


class Client:
    """Real requests as the page sends them; `headers` overrides, None takes a header away."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.port, self.home, self.host = parts.port, parts.path, parts.netloc

    def get(self, path: str = "", *, raw: bool = False, headers: dict[str, str | None] | None = None) -> Answer:
        return self.send("GET", path if raw else self.home + path, None, {"Host": self.host} | (headers or {}))

    def post(self, path: str, wish: object, *, headers: dict[str, str | None] | None = None) -> Answer:
        body = wish if isinstance(wish, bytes) else json.dumps(wish).encode()
        ours = {"Host": self.host, "Origin": f"http://{self.host}", "Content-Type": "application/json"}
        ours["Content-Length"] = str(len(body))
        return self.send("POST", self.home + path, body, ours | (headers or {}))

    def send(self, method: str, target: str, body: bytes | None, headers: dict[str, str | None]) -> Answer:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        answer = Answer(response.status, response.read(), dict(response.headers))
        connection.close()
        return answer


def rows_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def numbers(row: str) -> Sequence[float]:
    """The box of a row of boxes.csv."""
    return [float(cell) for cell in row.split(",")[-4:]]
