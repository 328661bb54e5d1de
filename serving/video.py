"""Read frames of a video file or a camera, and write a video frame by frame."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from core.cli import UserError
from core.files import replacing

SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")
USUAL_FPS = 25.0


@dataclass(frozen=True)
class Frame:
    """A frame: `number` at the video's rate, also if a camera is slower; `rgb` (H, W, 3) uint8."""

    number: int
    seconds: float
    rgb: np.ndarray


@dataclass(frozen=True)
class Clip:
    """An open video. `promised`: the frame count in the file; 0 for a camera, and if the file has none."""

    name: str
    capture: cv2.VideoCapture
    fps: float
    promised: int
    live: bool

    def frames(self, at_most: int | None = None) -> Iterator[Frame]:
        """Yield frames, upright. UserError if there is not one."""
        began, count = time.monotonic(), 0
        while at_most is None or count < at_most:
            read, bgr = self.capture.read()
            if not read:
                break
            seconds = time.monotonic() - began if self.live else count / self.fps
            yield Frame(int(seconds * self.fps) if self.live else count, seconds, cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
            count += 1
        if not count:
            raise UserError(f"{self.name}: not one frame of it can be read")


@contextmanager
def open_clip(source: Path | int) -> Iterator[Clip]:
    """Open a file, or a camera by its number. UserError if it cannot be opened."""
    live = isinstance(source, int)
    name = f"camera {source}" if live else str(source)
    if not live and not source.is_file():
        raise UserError(f"{name}: no such file")
    capture = cv2.VideoCapture(source if live else str(source))
    try:
        if not capture.isOpened():
            raise UserError(f"{name}: cannot be opened as a video")
        yield Clip(name, capture, _fps(capture), 0 if live else max(0, _count(capture)), live)
    finally:
        capture.release()


def _fps(capture: cv2.VideoCapture) -> float:
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if math.isfinite(fps) and 0 < fps <= 1000 else USUAL_FPS


def _count(capture: cv2.VideoCapture) -> int:
    count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return int(count) if math.isfinite(count) else 0


class VideoFile:
    """Writer of an MP4, with the size of the first frame."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path, fps
        self._writer: cv2.VideoWriter | None = None
        self._written = 0

    def write(self, rgb: np.ndarray, number: int) -> None:
        """Add (H, W, 3) uint8 as frame `number`, repeated where the numbers before it were left out."""
        if self._writer is None:
            self._writer = self._opened(rgb.shape[1::-1])
        bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
        for _ in range(max(1, number + 1 - self._written)):
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
