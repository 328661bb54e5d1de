"""Watch an entrance: the sign for those in view, and counts by minute of those who came. Nothing else is kept."""

import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from core import files
from core.cli import UserError, progress
from serving.faces import Pipeline
from serving.sign import NOBODY, SIGNS, UNSURE, with_sign, words_of
from serving.smoothing import FORGET_SECONDS, HALF_LIFE, Smoother
from serving.types import FacePrediction
from serving.video import Clip, ended_by_ctrl_c, has_screen, shown

TASK = "mask"
COUNTED = tuple(state for state in SIGNS if state != NOBODY)
HELD_SECONDS = 0.5
"""Time that the sign stays when its face is lost, and that a face has to be in view to be counted."""
LEAST_RATE = 3
"""Frames a second at which faces can be followed."""
MINUTE = "%Y-%m-%d %H:%M"
_COUNT = re.compile("[0-9]{1,9}")


def state_of(face: FacePrediction) -> str:
    prediction = face.predictions[TASK]
    return UNSURE if prediction.unsure else prediction.label


@dataclass
class SignState:
    """The state that the sign shows: of several faces, the first of SIGNS; the last one for a moment after."""

    state: str = NOBODY
    seconds: float = 0.0

    def update(self, faces: Sequence[FacePrediction], seconds: float) -> str:
        """Return the state at a frame, given its faces."""
        if faces:
            states = {state_of(face) for face in faces}
            self.state, self.seconds = next(state for state in SIGNS if state in states), seconds
        elif seconds - self.seconds > HELD_SECONDS:
            self.state = NOBODY
        return self.state


class MinuteCounts:
    """People by minute and state, in a CSV for each day, or in one for a video. A day's table is continued.

    Whole tables are written: when a minute begins, and at the end.
    """

    def __init__(self, out_dir: Path, stem: str | None = None) -> None:
        self._out_dir, self._stem = out_dir, stem
        self._path: Path | None = None
        self._minutes: dict[str, Counter[str]] = {}
        self.total: Counter[str] = Counter()

    def path_of(self, minute: str) -> Path:
        return self._out_dir / f"counts-{self._stem or minute.partition(' ')[0]}.csv"

    def open(self, minute: str) -> None:
        """Go on with the table of the minute's day. UserError for one that cannot be continued."""
        path = self.path_of(minute)
        if path != self._path:
            self.write()
            self._path, self._minutes = path, {} if self._stem else _read_counts(path)

    def add(self, minute: str, state: str) -> None:
        """Count a person. UserError as `open`."""
        self.open(minute)
        if minute not in self._minutes:
            self.write()
        self._minutes.setdefault(minute, Counter())[state] += 1
        self.total[state] += 1

    def write(self) -> None:
        if self._path is not None and self._minutes:
            rows = [
                {"minute": minute} | {state: counts[state] for state in COUNTED}
                for minute, counts in sorted(self._minutes.items())
            ]
            files.write_csv(self._path, pd.DataFrame(rows, columns=["minute", *COUNTED]))


def _read_counts(path: Path) -> dict[str, Counter[str]]:
    if not path.exists():
        return {}
    frame = files.read_csv(path, ["minute", *COUNTED])
    files.require_unique(path, frame, "minute")
    rows = frame.to_dict("records")
    if not all(_COUNT.fullmatch(row[state]) for row in rows for state in COUNTED):
        raise UserError(f"{path}: counts of people are whole numbers; move the file away to begin anew")
    return {row["minute"]: Counter({state: int(row[state]) for state in COUNTED}) for row in rows}


@dataclass
class People:
    """Counts each face once, when it has left, by its last state; one in view for a moment only, not at all."""

    count: Callable[[str], None]
    _tracks: dict[int, tuple[float, float, str]] = field(default_factory=dict)

    def update(self, faces: Sequence[FacePrediction], seconds: float) -> None:
        """Note the faces of the frame at `seconds`, and count those that have left."""
        for face in faces:
            first, _, _ = self._tracks.get(face.track, (seconds, 0.0, ""))
            self._tracks[face.track] = (first, seconds, state_of(face))
        self._count_left(seconds - FORGET_SECONDS)

    def end(self) -> None:
        """Count all who are still in view."""
        self._count_left(float("inf"))

    def _count_left(self, before: float) -> None:
        for number, (first, last, state) in list(self._tracks.items()):
            if last < before:
                del self._tracks[number]
                if last - first >= HELD_SECONDS:
                    self.count(state)


@dataclass(frozen=True)
class WatchOptions:
    """Language of the sign, half-life of the average in seconds, and most frames to read."""

    language: str
    smoothing: float = HALF_LIFE
    at_most: int | None = None


def watch(clip: Clip, pipeline: Pipeline, counts: MinuteCounts, options: WatchOptions) -> None:
    """Show the sign frame by frame, and count. Ends with the video, with Ctrl-C or q for a camera.

    UserError for a camera that ends by itself, once all is counted.
    """
    if clip.live:
        # Now, and not when the first person has left.
        counts.open(_minute(True, 0.0))
    clock, frames = [0.0], 0
    smoother, sign, show = Smoother(options.smoothing), SignState(), _shower(options.language)
    people = People(lambda state: counts.add(_minute(clip.live, clock[0]), state))
    stopped = True
    try:
        with ended_by_ctrl_c(clip.live):
            for frame in progress(clip.frames(options.at_most), title=clip.name, unit="frame"):
                clock[0], frames = frame.seconds, frames + 1
                faces = smoother(pipeline(frame.rgb), frame.seconds)
                people.update(faces, frame.seconds)
                if not show(frame.rgb, faces, sign.update(faces, frame.seconds)):
                    break
            else:
                stopped = options.at_most is not None
    finally:
        people.end()
        counts.write()
    if frames < LEAST_RATE * clock[0]:
        rate = f"{frames / clock[0]:.1f} frames a second"
        print(f"warning: {rate}; below {LEAST_RATE} a face is lost and counted again", file=sys.stderr)
    if clip.live and not stopped:
        raise UserError(f"{clip.name}: it sends no more frames; what was counted is written")


def _minute(live: bool, seconds: float) -> str:
    """Return the minute of the day, or of the video."""
    if live:
        return datetime.now().strftime(MINUTE)
    minutes = int(seconds) // 60
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _shower(language: str) -> Callable[[np.ndarray, Sequence[FacePrediction], str], bool]:
    """Return what shows a frame's sign and says whether to go on: in a window; without a screen, in a line a change."""
    last = [""]

    def show(rgb: np.ndarray, faces: Sequence[FacePrediction], state: str) -> bool:
        return shown(with_sign(rgb, [face.box for face in faces], state, language))

    def say(_: np.ndarray, __: Sequence[FacePrediction], state: str) -> bool:
        if state != last[0]:
            last[0] = state
            print(f"{datetime.now():%H:%M:%S} {state}: {' / '.join(words_of(state, language))}", flush=True)
        return True

    if has_screen():
        return show
    print("no screen here: the sign is printed at every change", file=sys.stderr)
    return say
