"""Draw boxes and labels over an image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from core.boxes import Box, scaled, shared_area
from serving.records import prediction_text
from serving.types import FacePrediction

FONT = cv2.FONT_HERSHEY_DUPLEX
LINE_STEP = 36
"""Pixels from line to line at text scale 1."""
SCALES = (0.45, 1.6)
USUAL_WIDTH = 300
"""Pixels of a common line at text scale 1; shorter lines are not written larger."""
COLOURS = ((38, 166, 91), (242, 153, 0), (214, 48, 49), (52, 120, 246), (142, 68, 173))
"""Of boxes, RGB, by the label of the first task: for the mask green, amber and red."""
LEAST_SIDE = 640
"""Pixels; smaller images are enlarged, so that labels can be read."""
MOST_HIDDEN = 0.15
"""Fraction of a label that may cover other faces and labels; above it a shorter label is tried."""
OWN_FACE = 0.3
"""Weight of covering the label's own face, against 1 for other faces and labels."""

Colour = tuple[int, int, int]
Size = tuple[int, int]


@dataclass(frozen=True)
class _Label:
    """Lines of text and their place."""

    lines: tuple[str, ...]
    scale: float
    place: Box
    colour: Colour


def annotated(rgb: np.ndarray, faces: Sequence[FacePrediction]) -> np.ndarray:
    """Return a copy of `rgb` (H, W, 3) uint8 with a box and a label for each face; small images are enlarged.

    Where faces are too close for labels, only the face's number in the table of results is written.
    """
    factor = max(1, -(-LEAST_SIDE // max(rgb.shape[:2])))
    canvas = cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC) if factor > 1 else rgb.copy()
    boxes = [scaled(face.box, factor, factor) for face in faces]
    thickness = max(2, round(max(canvas.shape) / 500))
    for face, box in zip(faces, boxes, strict=True):
        cv2.rectangle(canvas, *_corners(box), _colour(face), thickness, cv2.LINE_AA)
    for label in _laid_out(faces, boxes, canvas.shape[1::-1]):
        _write(canvas, label)
    return canvas


def _laid_out(faces: Sequence[FacePrediction], boxes: Sequence[Box], size: Size) -> list[_Label]:
    """Return a label for each face, largest face first, each beside the boxes and labels before it."""
    taken, labels = list(boxes), []
    for number, (face, box) in enumerate(zip(faces, boxes, strict=True), start=1):
        for lines in _texts(face, number if len(faces) > 1 else None):
            label, hidden = _best_label(lines, face, box, taken, size)
            if hidden <= MOST_HIDDEN:
                break
        labels.append(label)
        taken.append(label.place)
    return labels


def _texts(face: FacePrediction, number: int | None) -> Iterator[tuple[str, ...]]:
    """Yield possible texts of a label, the fullest first; `number` is None for a single face."""
    head = () if number is None else (f"face {number}",)
    yield (*head, *(f"{task}: {prediction_text(prediction)}" for task, prediction in face.predictions.items()))
    yield (*head, *(prediction_text(prediction) for prediction in face.predictions.values()))
    if number is not None:
        yield (str(number),)


def _best_label(
    lines: tuple[str, ...], face: FacePrediction, box: Box, taken: Sequence[Box], size: Size
) -> tuple[_Label, float]:
    """Return the label at the place where it covers least, and the covered fraction of it."""
    scale, width, height = _measured(lines, box, size)
    hidden = {
        place: sum(shared_area(place, other) * (OWN_FACE if other == box else 1) for other in taken) / (width * height)
        for place in _places(box, width, height, size)
    }
    best = min(hidden, key=hidden.__getitem__)
    return _Label(lines, scale, best, _colour(face)), hidden[best]


def _measured(lines: tuple[str, ...], box: Box, size: Size) -> tuple[float, int, int]:
    """Return text scale, width and height of a label: as wide as its box within readable limits."""
    widest = max(cv2.getTextSize(line, FONT, 1.0, 1)[0][0] for line in lines) + LINE_STEP
    low, high = SCALES
    scale = min(max(box.width / max(widest, USUAL_WIDTH), low), max(low, min(high, max(size) / 1400)))
    return scale, round(widest * scale), round(LINE_STEP * scale * (len(lines) + 0.35))


def _places(box: Box, width: int, height: int, size: Size) -> Iterator[Box]:
    """Yield places above, below, right and left of the box, and in its lower end; moved into the image.

    Above comes first, as below may hide a mask on the chin.
    """
    for x, y in (
        (box.x1, box.y1 - height - 2),
        (box.x1, box.y2 + 2),
        (box.x2 + 2, box.y1),
        (box.x1 - width - 2, box.y1),
        (box.x1, box.y2 - height),
    ):
        x, y = max(0, min(x, size[0] - width)), max(0, min(y, size[1] - height))
        yield Box(x, y, x + width, y + height)


def _write(canvas: np.ndarray, label: _Label) -> None:
    (left, top), (right, bottom) = _corners(label.place)
    behind = canvas[top:bottom, left:right]
    behind[:] = (behind * 0.25 + 0.75 * 24).astype(np.uint8)
    step = LINE_STEP * label.scale
    cv2.rectangle(canvas, (left, top), (left + max(2, round(step / 6)), bottom - 1), label.colour, -1)
    for number, line in enumerate(label.lines, start=1):
        at = round(left + step * 0.4), round(top + step * (number - 0.2))
        cv2.putText(canvas, line, at, FONT, label.scale, (255, 255, 255), 1, cv2.LINE_AA)


def _colour(face: FacePrediction) -> Colour:
    return COLOURS[next(iter(face.predictions.values())).index % len(COLOURS)]


def _corners(box: Box) -> tuple[tuple[int, int], tuple[int, int]]:
    return (round(box.x1), round(box.y1)), (round(box.x2), round(box.y2))
