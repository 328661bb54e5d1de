"""Python's way in: load a model once, and call it with photos.

from serving import load_model

model = load_model("outputs/default")
for face in model("photo.jpg"):
    print(face.box, face.mask.label, face.age.value)
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pandas as pd

from core.cli import UserError
from core.image_formats import Undecodable
from core.images import UnreadablePhoto, read_photo
from serving.cli import FaceOptions, pipeline_of
from serving.drawing import annotated
from serving.faces import DEFAULT_LEAST_SIZE, Pipeline
from serving.loading import STARTER, ModelOptions, load
from serving.records import face_record, face_rows, photo_facts
from serving.types import DEFAULT_UNSURE_BELOW, FacePrediction

if TYPE_CHECKING:
    from PIL import Image

    Photo = str | os.PathLike[str] | np.ndarray | Image.Image


@dataclass(frozen=True)
class PhotoFaces(Sequence[FacePrediction]):
    """The faces of one photo, the largest first; `name` is the path that was given, else empty.

    `image` is the photo, (H, W, 3) uint8 RGB, upright.
    """

    name: str
    image: np.ndarray
    faces: tuple[FacePrediction, ...]

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, place: Any) -> Any:
        return self.faces[place]

    def __iter__(self) -> Iterator[FacePrediction]:
        return iter(self.faces)

    def to_dict(self) -> dict[str, Any]:
        """Return the photo and its faces as JSON has them: the entry of `pictures` in predict.py's predictions.json."""
        return {**photo_facts(self.name, self.image), "faces": [face_record(face) for face in self.faces]}

    def to_frame(self) -> pd.DataFrame:
        """Return one row a face, as in predict.py's predictions.csv; one row without a face where there is none."""
        return pd.DataFrame(face_rows(photo_facts(self.name, self.image), self.faces)).convert_dtypes()

    def draw(self) -> "Image.Image":
        """Return the photo with a box and labels for each face. A notebook shows it; `.save(path)` writes it."""
        from PIL import Image

        return Image.fromarray(annotated(self.image, self.faces))


@dataclass(frozen=True)
class Model:
    """Models of one or more tasks with a face detector. `about` says which they are and what they learned from."""

    pipeline: Pipeline
    about: str

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.pipeline.classify.tasks)

    @overload
    def __call__(self, photo: "Photo") -> PhotoFaces: ...

    @overload
    def __call__(self, photo: "list[Photo]") -> list[PhotoFaces]: ...

    def __call__(self, photo: "Photo | list[Photo]") -> PhotoFaces | list[PhotoFaces]:
        """Find and predict every face of a photo, or of each of a list.

        A photo is a path, an array (H, W, 3) uint8 RGB, or a PIL image. UserError for one that cannot be read.
        """
        if isinstance(photo, list):
            return [self(one) for one in photo]
        name, image = as_image(photo)
        return PhotoFaces(name, image, tuple(self.pipeline(image)))

    def __repr__(self) -> str:
        return self.about


def load_model(
    source: str | os.PathLike[str] | None = None,
    *,
    tasks: Sequence[str] = (),
    folds: Sequence[int] | None = None,
    device: str = "auto",
    detector: str | None = None,
    least_size: int = DEFAULT_LEAST_SIZE,
    unsure_below: float = DEFAULT_UNSURE_BELOW,
) -> Model:
    """Load models from a run folder, a model folder, an ONNX file or folder, or hf:owner/name[@revision].

    Without a source: the starter model, which comes with the project. `tasks`: predict these only. `folds`: of a run,
    average these in place of its refit, empty for all. `least_size`: pixels of a face's shorter side. UserError for a
    source that is not there or damaged.
    """
    if isinstance(tasks, str):
        raise UserError(f"tasks {tasks!r}: give a list, such as [{tasks!r}]")
    if not 0 <= unsure_below <= 1 or least_size < 1:
        allowed = "allowed are a number from 0 to 1, and pixels from 1 on"
        raise UserError(f"unsure_below {unsure_below}, least_size {least_size}: {allowed}")
    chosen = ModelOptions(device=device, tasks=tuple(tasks), folds=folds, model=os.fspath(source or STARTER))
    loaded = load(chosen)
    faces = FaceOptions(detector, least_size=least_size, unsure_below=unsure_below)
    return Model(pipeline_of(loaded, faces), loaded.about)


def as_image(photo: "Photo") -> tuple[str, np.ndarray]:
    """Return name and image (H, W, 3) uint8 RGB of a path, an array or a PIL image. UserError for anything else."""
    if isinstance(photo, str | os.PathLike):
        path = Path(photo)
        try:
            return str(path), read_photo(path)
        except UnreadablePhoto as error:
            raise UserError(str(error)) from error
    if isinstance(photo, np.ndarray):
        if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8 or not photo.size:
            raise UserError(f"photo of shape {photo.shape}, {photo.dtype}: allowed is (height, width, 3) uint8, RGB")
        return "", np.ascontiguousarray(photo)
    from PIL import Image

    if isinstance(photo, Image.Image):
        from core.pillow_reader import to_rgb

        try:
            return as_image(to_rgb(photo.format or "PNG", photo, keep=True))
        except Undecodable as error:
            raise UserError(f"PIL image of mode {photo.mode}: {error}") from error
    raise UserError(f"photo of type {type(photo).__name__}: allowed are a path, an array and a PIL image")
