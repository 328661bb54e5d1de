"""Read frames of a video file or a camera, write a video frame by frame, and show frames in a window."""

import math
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from core.environment import max_pixels

import cv2
import numpy as np

from core.cli import UserError
from core.files import replacing
from core.images import allowed_pixels

WINDOW = "Ctrl-C or q to stop"
SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")
USUAL_FPS = 25.0
PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
"""Kinds of addresses of cameras, with their usual ports."""
REACH_SECONDS = 5
LONGEST_GAP = 60
"""Seconds for which a written video repeats a frame at most: one wrong time would fill the disk."""
SILENT_SECONDS = 10
"""Time after which a camera that sends nothing counts as gone."""
_SIGNATURES = (
    (4, b"ftyp"),
    (8, b"AVI LIST"),
    (0, b"\x1aE\xdf\xa3"),
    (0, b"FLV\x01"),
    (0, b"0&\xb2u\x8ef\xcf\x11"),
    (0, b"\0\0\x01\xba"),
    (0, b"\0\0\x01\xb3"),
    (0, b"OggS"),
)
"""Place and bytes that tell MP4 and its kin, AVI, Matroska, FLV, WMV, MPEG and Ogg."""


def is_video(head: bytes) -> bool:
    """Return whether the first bytes of a file are those of a video."""
    transport_stream = head[:1] == b"G" and head[188:189] == b"G" and head[376:377] == b"G"
    return transport_stream or any(head[place : place + len(mark)] == mark for place, mark in _SIGNATURES)


@dataclass(frozen=True)
class Camera:
    """A camera by its number, or by its address."""

    source: int | str

    @property
    def name(self) -> str:
        """How messages call it: an address without its user and password."""
        if isinstance(self.source, int):
            return f"camera {self.source}"
        parts = urlsplit(self.source)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()

    @property
    def stem(self) -> str:
        """Name of its files, without the ending."""
        if isinstance(self.source, int):
            return f"camera{self.source}"
        return f"camera-{(urlsplit(self.source).hostname or '').replace(':', '.')}"


def camera_named(text: str) -> Camera | None:
    """Return the camera that a number or an address names; None for other texts."""
    if text.isdecimal():
        return Camera(int(text))
    return Camera(text) if text.partition("://")[0].lower() in PORTS and "://" in text else None


@dataclass(frozen=True)
class Frame:
    """A frame: its `number`, its time in seconds from the first frame, and `rgb` (H, W, 3) uint8.

    Frames of a camera are numbered by their time, so that numbers are left out where the camera is slow.
    """

    number: int
    seconds: float
    rgb: np.ndarray


class NewestFrames:
    """Reads a camera in a thread; frames that come while one is predicted are left out, so that no delay builds up."""

    def __init__(self, capture: cv2.VideoCapture) -> None:
        self._capture = capture
        self._change = threading.Condition()
        self._newest: np.ndarray | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._read_all, daemon=True)
        self._thread.start()

    def _read_all(self) -> None:
        while not self._ended:
            read, bgr = self._capture.read()
            with self._change:
                self._newest, self._ended = (bgr if read else self._newest), self._ended or not read
                self._change.notify()

    def read(self) -> tuple[bool, np.ndarray | None]:
        """Wait for a frame that was not returned yet; (False, None) once there is none any more."""
        with self._change:
            while self._newest is None and not self._ended:
                self._change.wait(timeout=1)
            newest, self._newest = self._newest, None
        return newest is not None, newest

    def get(self, which: int) -> float:
        return self._capture.get(which)

    def close(self) -> None:
        self._ended = True
        self._thread.join(timeout=SILENT_SECONDS)


@dataclass(frozen=True)
class Clip:
    """An open video. `promised`: the seconds that its file says it lasts; 0 for a camera, and if the file is silent."""

    name: str
    capture: cv2.VideoCapture
    fps: float
    promised: float
    live: bool

    def frames(self, at_most: int | None = None) -> Iterator[Frame]:
        """Yield frames, upright, with the times of the container. UserError if there is not one."""
        began, first, seconds, count = time.monotonic(), 0.0, 0.0, 0
        while at_most is None or count < at_most:
            read, bgr = self.capture.read()
            if not read:
                break
            now = time.monotonic() - began if self.live else self.capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            first = first if count or self.live else now
            # Some containers have no times, or times that stand still.
            seconds = now - first if now - first > seconds or not count else seconds + 1 / self.fps
            yield Frame(int(seconds * self.fps) if self.live else count, seconds, cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
            count += 1
        if not count:
            raise UserError(f"{self.name}: not one frame of it can be read")


@contextmanager
def open_clip(source: Path | Camera) -> Iterator[Clip]:
    """Open a file or a camera. UserError if it cannot be opened or reached, or its frames are too large."""
    live = isinstance(source, Camera)
    name = source.name if live else str(source)
    if not live and not source.is_file():
        raise UserError(f"{name}: no such file")
    capture = _open_camera(source) if live else cv2.VideoCapture(str(source))
    newest = None
    try:
        if not capture.isOpened():
            raise UserError(f"{name}: cannot be opened as a video")
        width, height = (_number(capture, side) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if width * height > max_pixels():
            raise UserError(f"{name}: frames of {width:.0f} x {height:.0f} pixels, more than {allowed_pixels()}")
        fps = _number(capture, cv2.CAP_PROP_FPS)
        fps = fps if 0 < fps <= 1000 else USUAL_FPS
        promised = 0.0 if live else max(0.0, _number(capture, cv2.CAP_PROP_FRAME_COUNT)) / fps
        newest = NewestFrames(capture) if live else None
        yield Clip(name, newest or capture, fps, promised, live)
    finally:
        if newest:
            newest.close()
        capture.release()


def _open_camera(camera: Camera) -> cv2.VideoCapture:
    if isinstance(camera.source, int):
        return cv2.VideoCapture(camera.source)
    _require_reachable(camera)
    waits = {cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: SILENT_SECONDS, cv2.CAP_PROP_READ_TIMEOUT_MSEC: SILENT_SECONDS}
    return cv2.VideoCapture(
        camera.source, cv2.CAP_FFMPEG, [n for key, wait in waits.items() for n in (key, 1000 * wait)]
    )


def _require_reachable(camera: Camera) -> None:
    """UserError, with the reason, unless its host answers. `--offline` refuses other machines here."""
    parts = urlsplit(str(camera.source))
    try:
        host, port = parts.hostname, parts.port or PORTS[parts.scheme]
    except ValueError as error:
        raise UserError(f"{camera.name}: no address of a camera ({error})") from None
    if not host:
        raise UserError(f"{camera.name}: no address of a camera (it names no host)")
    try:
        socket.create_connection((host, port), timeout=REACH_SECONDS).close()
    except OSError as error:
        raise UserError(f"{camera.name}: cannot be reached ({error.strerror or error})") from None


@contextmanager
def ended_by_ctrl_c(live: bool) -> Iterator[None]:
    """End a camera on Ctrl-C without an error; elsewhere it stays an interruption."""
    try:
        yield
    except KeyboardInterrupt:
        if not live:
            raise
        print("\nstopped", file=sys.stderr)


def _number(capture: cv2.VideoCapture, which: int) -> float:
    value = capture.get(which)
    return value if math.isfinite(value) else 0.0


class VideoFile:
    """Writer of an MP4, with the size of the first frame."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path, fps
        self._writer: cv2.VideoWriter | None = None
        self._written = 0

    def write(self, rgb: np.ndarray, seconds: float) -> None:
        """Add (H, W, 3) uint8 at its time: repeated if the frames before end earlier, left out if they end later.

        A gap longer than LONGEST_GAP is shortened to it, which is printed.
        """
        if self._writer is None:
            self._writer = self._opened(rgb.shape[1::-1])
        bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
        lacking, most = round(seconds * self._fps) + 1 - self._written, max(1, round(LONGEST_GAP * self._fps))
        if lacking > most:
            print(f"{lacking / self._fps:.0f} s without a frame are {LONGEST_GAP} s in the annotated video")
        for _ in range(min(lacking, most)):
            self._writer.write(bgr)
        self._written += max(0, lacking)

    def _opened(self, size: tuple[int, int]) -> cv2.VideoWriter:
        writer = cv2.VideoWriter(str(self._path), cv2.VideoWriter_fourcc(*"mp4v"), self._fps, size)
        if not writer.isOpened():
            raise UserError(f"{self._path}: this OpenCV cannot write MP4 video")
        return writer

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()


@contextmanager
def new_video(path: Path, fps: float) -> Iterator[VideoFile]:
    """Open a video for writing; it is in place only when it is whole."""
    with replacing(path) as aside:
        video = VideoFile(aside, fps)
        try:
            yield video
        finally:
            video.close()


def has_screen() -> bool:
    """Return whether a window can be opened. Asked first: OpenCV's Qt ends the process where there is no screen."""
    drawn_elsewhere = os.name == "nt" or sys.platform == "darwin"
    return drawn_elsewhere or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def shown(picture: np.ndarray) -> bool:
    """Show (H, W, 3) uint8 RGB; return False once q is pressed. UserError if no window can be opened."""
    if not has_screen():
        raise UserError("--show: no window can be opened here (there is no screen); leave it out")
    try:
        cv2.namedWindow(WINDOW, cv2.WINDOW_NORMAL)
        cv2.imshow(WINDOW, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        return cv2.waitKey(1) != ord("q")
    except cv2.error as error:
        raise UserError(f"--show: no window can be opened here ({error.err}); leave it out") from None
