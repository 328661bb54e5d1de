"""Read frames of a video file or a camera, and write a video frame by frame."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from core.environment import max_pixels

import cv2
import numpy as np

from core.cli import UserError
from core.files import replacing
from core.images import allowed_pixels

SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")
USUAL_FPS = 25.0
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
class Frame:
    """A frame: its `number`, its time in seconds from the first frame, and `rgb` (H, W, 3) uint8.

    Frames of a camera are numbered by their time, so that numbers are left out where the camera is slow.
    """

    number: int
    seconds: float
    rgb: np.ndarray


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
def open_clip(source: Path | int) -> Iterator[Clip]:
    """Open a file, or a camera by its number. UserError if it cannot be opened, or its frames are too large."""
    live = isinstance(source, int)
    name = f"camera {source}" if live else str(source)
    if not live and not source.is_file():
        raise UserError(f"{name}: no such file")
    capture = cv2.VideoCapture(source if live else str(source))
    try:
        if not capture.isOpened():
            raise UserError(f"{name}: cannot be opened as a video")
        width, height = (_number(capture, side) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if width * height > max_pixels():
            raise UserError(f"{name}: frames of {width:.0f} x {height:.0f} pixels, more than {allowed_pixels()}")
        fps = _number(capture, cv2.CAP_PROP_FPS)
        fps = fps if 0 < fps <= 1000 else USUAL_FPS
        promised = 0.0 if live else max(0.0, _number(capture, cv2.CAP_PROP_FRAME_COUNT)) / fps
        yield Clip(name, capture, fps, promised, live)
    finally:
        capture.release()


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
        """Add (H, W, 3) uint8 at its time: repeated if the frames before end earlier, left out if they end later."""
        if self._writer is None:
            self._writer = self._opened(rgb.shape[1::-1])
        bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
        for _ in range(round(seconds * self._fps) + 1 - self._written):
            self._writer.write(bgr)
            self._written += 1

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
