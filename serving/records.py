"""Predictions as JSON-ready records and as rows of a table."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serving.types import Answer, FacePrediction

_ALWAYS = {"label", "unsure", "probs"}
"""Entries of every answer; a further one is the value, under the name of its unit."""
DIGITS = 4
"""More digits than a probability or a pixel is worth only make the tables hard to read."""


def face_record(face: FacePrediction) -> dict[str, Any]:
    """One face; `answers` holds label, probabilities and, for age, the years, by task."""
    track = {} if face.track is None else {"track": face.track}
    return {
        **track,
        "box": _rounded(face.box),
        "score": round(float(face.score), DIGITS),
        "found": face.found,
        "unsure": face.unsure,
        "answers": {task: _answer_record(answer) for task, answer in face.answers.items()},
        "class": face.combined,
        "class_name": face.combined_name,
    }


def _answer_record(answer: Answer) -> dict[str, Any]:
    probs = dict(zip(answer.classes, _rounded(np.exp(answer.log_probs)), strict=True))
    value = {} if answer.value is None else {answer.unit: round(answer.value, 1)}
    return {"label": answer.label, "unsure": answer.unsure, "probs": probs, **value}


def face_rows(source: Mapping[str, Any], faces: Sequence[FacePrediction]) -> list[dict[str, Any]]:
    """One flat row a face, `source` (photo, or frame and time) first; where there is no face, one row that says so."""
    if not faces:
        return [{**source, "face": None}]
    return [{**source, "face": number, **_flat(face_record(face))} for number, face in enumerate(faces, start=1)]


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    corners = dict(zip(("x1", "y1", "x2", "y2"), record["box"], strict=True))
    answers: dict[str, Any] = {}
    for task, answer in record["answers"].items():
        answers |= {task: answer["label"], f"{task}_unsure": answer["unsure"]}
        answers |= {f"{task}_{name}": prob for name, prob in answer["probs"].items()}
        answers |= {f"{task}_{name}": answer[name] for name in answer.keys() - _ALWAYS}
    rest = {name: value for name, value in record.items() if name not in ("box", "answers", "class", "class_name")}
    return {**rest, **corners, **answers, "class": record["class"], "class_name": record["class_name"]}


def describe(face: FacePrediction) -> str:
    """One line for people: 'mask wear 98%, gender female 93%, age middle 55%? (31 years)'."""
    return ", ".join(f"{task} {answer_text(answer)}" for task, answer in face.answers.items())


def answer_text(answer: Answer) -> str:
    """Label and probability; a question mark where unsure."""
    doubt = "?" if answer.unsure else ""
    value = "" if answer.value is None else f" ({answer.value:.0f} {answer.unit})"
    return f"{answer.label}{doubt} {answer.probability:.0%}{value}"


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(float(value), DIGITS) for value in values]
