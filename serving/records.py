"""Predictions as JSON-ready records and as rows of a table."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serving.types import FacePrediction, TaskPrediction

_ALWAYS = {"label", "unsure", "probs"}
"""Entries of every prediction; a further one is the value, under the name of its unit."""
DIGITS = 4
"""Digits kept of probabilities, scores and pixels."""


def photo_facts(name: str, rgb: np.ndarray) -> dict[str, Any]:
    """Return name and size of a photo (H, W, 3), as its records begin."""
    height, width = rgb.shape[:2]
    return {"photo": name, "width": width, "height": height}


def face_record(face: FacePrediction) -> dict[str, Any]:
    """Return a face as JSON has it; `answers` holds label, probabilities and, for age, the years, by task."""
    track = {} if face.track is None else {"track": face.track}
    return {
        **track,
        "box": _rounded(face.box),
        "score": round(float(face.score), DIGITS),
        "found": face.attempt,
        "unsure": face.unsure,
        "answers": {task: _prediction_record(prediction) for task, prediction in face.predictions.items()},
        "class": face.combined,
        "class_name": face.combined_name,
    }


def _prediction_record(prediction: TaskPrediction) -> dict[str, Any]:
    probs = dict(zip(prediction.classes, _rounded(np.exp(prediction.log_probs)), strict=True))
    value = {} if prediction.value is None else {prediction.unit: round(prediction.value, 1)}
    return {"label": prediction.label, "unsure": prediction.unsure, "probs": probs, **value}


def face_rows(source: Mapping[str, Any], faces: Sequence[FacePrediction]) -> list[dict[str, Any]]:
    """Return one flat row a face, `source` (photo, or frame and time) first; one row with no face if there is none."""
    if not faces:
        return [{**source, "face": None}]
    return [{**source, "face": number, **_flat(face_record(face))} for number, face in enumerate(faces, start=1)]


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    corners = dict(zip(("x1", "y1", "x2", "y2"), record["box"], strict=True))
    entries: dict[str, Any] = {}
    for task, prediction in record["answers"].items():
        entries |= {task: prediction["label"], f"{task}_unsure": prediction["unsure"]}
        entries |= {f"{task}_{name}": prob for name, prob in prediction["probs"].items()}
        entries |= {f"{task}_{name}": prediction[name] for name in prediction.keys() - _ALWAYS}
    rest = {name: value for name, value in record.items() if name not in ("box", "answers", "class", "class_name")}
    return {**rest, **corners, **entries, "class": record["class"], "class_name": record["class_name"]}


def describe(face: FacePrediction) -> str:
    """Return one line of text: 'mask wear 98%, gender female 93%, age middle 55%? (31 years)'."""
    return ", ".join(f"{task} {prediction_text(prediction)}" for task, prediction in face.predictions.items())


def prediction_text(prediction: TaskPrediction) -> str:
    """Return label and probability; a question mark if unsure."""
    doubt = "?" if prediction.unsure else ""
    value = "" if prediction.value is None else f" ({prediction.value:.0f} {prediction.unit})"
    return f"{prediction.label}{doubt} {prediction.probability:.0%}{value}"


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(float(value), DIGITS) for value in values]
