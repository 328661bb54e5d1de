"""What the service takes and replies, as the OpenAPI document describes it."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

DESCRIPTION = (
    "Finds every face of a photo and predicts whether it wears a mask, its gender and its age group. Gender and age "
    "are guesses from appearance, and often wrong: decide nothing about anybody by them. Photos are neither stored "
    "nor passed on."
)
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"photo": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            },
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
"""The body of a prediction, which the service reads by itself."""


class Answer(BaseModel):
    """Prediction of one task. Age also has `years`, if the model learned years."""

    model_config = ConfigDict(extra="allow")
    label: str
    unsure: bool
    probs: dict[str, float]


class Face(BaseModel):
    """One face: its box (x1, y1, x2, y2) in pixels of the upright photo, and the predictions by task."""

    model_config = ConfigDict(extra="forbid")
    box: list[float] = Field(min_length=4, max_length=4)
    score: float
    found: str = Field(description="the detection attempt that found it")
    unsure: bool
    answers: dict[str, Answer]
    class_: int | None = Field(alias="class", description="combined class, 0 to 17")
    class_name: str | None


class Photo(BaseModel):
    """One photo that could be read, its faces the largest first."""

    model_config = ConfigDict(extra="forbid")
    photo: str
    width: int
    height: int
    faces: list[Face]


class Predictions(BaseModel):
    """What predict.py writes as predictions.json."""

    model_config = ConfigDict(extra="forbid")
    unreadable: dict[str, str] = Field(description="the reason, by the name of the photo")
    pictures: list[Photo]


class Refusal(BaseModel):
    """Why a request is refused."""

    detail: str


class Health(BaseModel):
    """The tasks that are predicted, and the number of photos that wait."""

    status: str
    tasks: list[str]
    waiting: int
