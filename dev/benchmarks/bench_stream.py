"""Stream: frames a second of a camera's frames of 640 x 480 pixels with one face, as predict.py handles them.

With --sign: the mask alone, faces mostly in the coarse view, the sign. Beside it the mask's model alone, and all tasks.
"""

from collections.abc import Callable, Sequence
from functools import partial

import cv2
import numpy as np

from core.cli import UserError
from core.images import read_photo
from dev.benchmarks.measure import Report, in_turn, ratios_of
from dev.benchmarks.setup import Setup
from serving.cli import FaceOptions, ModelOptions, open_pipeline
from serving.drawing import annotated
from serving.entrance import TASK, SignState
from serving.faces import Pipeline
from serving.sign import with_sign
from serving.smoothing import Smoother
from serving.types import FacePrediction
from storage.layouts import Dataset

ENTRANCE, MODEL, EVERYTHING = "sign, mask alone", "its model, on crops", "boxes, all tasks, every face in both views"
WIDTH, HEIGHT, FPS = 640, 480, 25
FRAMES = 100
Draw = Callable[[np.ndarray, Sequence[FacePrediction]], np.ndarray]


def bench_stream(setup: Setup) -> Report:
    """Speed of a stream at an entrance, beside the bare model of the mask and a stream that predicts all tasks."""
    run_dir = setup.some_run()
    mask = open_pipeline(ModelOptions(run_dir, tasks=(TASK,)), FaceOptions(), camera=True)
    every = open_pipeline(ModelOptions(run_dir), FaceOptions(), video=True)
    frame, crops = _frame_with_face(setup.data, mask)
    state = SignState()

    def sign(rgb: np.ndarray, faces: Sequence[FacePrediction]) -> np.ndarray:
        return with_sign(rgb, [face.box for face in faces], state.update(faces, 0.0), "en")

    count = FRAMES if setup.size.rounds > 1 else 10
    contenders = {
        ENTRANCE: partial(_stream, mask, frame, count, sign),
        MODEL: partial(_classify, mask, crops, count),
        EVERYTHING: partial(_stream, every, frame, max(1, count // 10), annotated),
    }
    rates = in_turn(contenders, setup.size.rounds)
    return Report("frames/s", rates, ratios_of(rates, ENTRANCE), {"faces in the frame": len(crops)})


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
