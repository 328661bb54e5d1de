"""Find the face in every photo of a folder and measure it: box, pose, sharpness, image hash and label.

Measurements are written in blocks, so that a killed run resumes from them.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from core.boxes import Box, carry_points, main_face
from core.cli import UserError, name_some, progress
from core.files import read_json, write_json
from core.image_formats import EXTENSIONS
from core.images import UnreadablePhoto, is_photo_name, read_photo
from core.near_duplicates import image_hash
from core.parallel import run_parallel
from preprocessing.detectors import Detect, Face, PhotoView, detector_named, take_view
from synthesis.builder.labels import LABELLERS, Label, Labeller
from synthesis.builder.pose import head_pose

DETECTOR = "retinaface"
LEAST_SCORE = 0.5
# Faces in tight crops are found better with a margin; 320 pixels are enough to find a face.
FACE_VIEW = PhotoView(side=320, grow=1.0, pad=0.1)
RIVAL_SIZE = 0.6
"""Height of a second face, relative to the main one, from which the photo counts as showing several people."""
SHARPNESS_WIDTH = 96
BLOCK = 512
_HASH_ENTRY = "looks"
"""Name of the image hash in the block files, which unfinished builds of users hold."""


@dataclass(frozen=True)
class MeasuredFace:
    """Measurements of one photo. `reason` is empty for a usable photo; later fields are valid only then.

    box, landmarks   pixels of the photo; landmarks are x, y of eyes, nose tip and mouth corners, viewer's left first
    yaw, pitch, roll degrees, as in synthesis.builder.pose.HeadPose
    sharpness        fine detail of the face relative to its contrast, about 0 (blurred) to 1
    image_hash       image hash of core.near_duplicates, hexadecimal
    digest           hash of the file's bytes
    label            None without a labeller
    """

    file: str
    reason: str = ""
    detail: str = ""
    width: int = 0
    height: int = 0
    box: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    landmarks: tuple[float, ...] = ()
    score: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    sharpness: float = 0.0
    image_hash: str = ""
    digest: str = ""
    label: Label | None = None

    @property
    def face_height(self) -> float:
        return self.box[3] - self.box[1]

    @property
    def points(self) -> np.ndarray:
        """Return the landmarks as (5, 2) float32."""
        return np.array(self.landmarks, np.float32).reshape(5, 2)


Measure = Callable[[str], MeasuredFace]


def list_photos(faces_dir: Path) -> list[str]:
    """Return the sorted relative paths of all photos below a folder, and name the other files. UserError for none."""
    if not faces_dir.is_dir():
        raise UserError(f"--faces {faces_dir}: {'not a folder' if faces_dir.exists() else 'no such folder'}")
    names, others = [], []
    for folder, folders, files in os.walk(faces_dir):
        others += [(Path(folder) / name).relative_to(faces_dir).as_posix() for name in folders if name.startswith(".")]
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            (names if is_photo_name(name) else others).append((Path(folder) / name).relative_to(faces_dir).as_posix())
    if not names:
        raise UserError(f"--faces {faces_dir}: no photos in it (endings {', '.join(EXTENSIONS)})")
    if others:
        print(f"{len(others)} files are no photos and are left out: {name_some(sorted(others))}")
    return sorted(names)


def measure_photos(
    faces_dir: Path, names: Sequence[str], labeller: str | None, *, work_dir: Path, workers: int
) -> list[MeasuredFace]:
    """Measure the photos `names`, in their order; `labeller` is a name in labels.LABELLERS or None."""
    known = {row.file: row for row in _read_blocks(work_dir)}
    todo = [name for name in names if name not in known]
    block: list[MeasuredFace] = []
    with closing(run_parallel(partial(measurer, faces_dir, labeller), todo, workers)) as results:
        try:
            for row in progress(results, title="faces", total=len(todo)):
                block.append(row)
                if len(block) == BLOCK:
                    _keep(block, known, work_dir)
        finally:
            _keep(block, known, work_dir)
    return [known[name] for name in names]


def _keep(block: list[MeasuredFace], known: dict[str, MeasuredFace], work_dir: Path) -> None:
    """Write a block of measurements to its own file and clear it."""
    if block:
        write_json(work_dir / f"block-{len(known):07d}.json", {"photos": [_entry(row) for row in block]})
        known |= {row.file: row for row in block}
        block.clear()


def _entry(row: MeasuredFace) -> dict:
    """Return the measurements under their names in a block file."""
    return {_HASH_ENTRY if name == "image_hash" else name: value for name, value in asdict(row).items()}


def _read_blocks(work_dir: Path) -> Iterator[MeasuredFace]:
    for path in sorted(work_dir.glob("block-*.json")):
        for row in read_json(path)["photos"]:
            row["image_hash"] = row.pop(_HASH_ENTRY)
            label = Label(**row["label"]) if row["label"] else None
            yield MeasuredFace(**row | {"box": tuple(row["box"]), "landmarks": tuple(row["landmarks"]), "label": label})


def measurer(faces_dir: Path, labeller: str | None) -> Measure:
    """Load detector and labeller and return the function that measures one photo. Called once per process."""
    label = LABELLERS[labeller]() if labeller else None
    return partial(_measure, faces_dir, detect=detector_named(DETECTOR).load(), label=label)


def _measure(faces_dir: Path, name: str, *, detect: Detect, label: Labeller | None) -> MeasuredFace:
    try:
        photo = read_photo(faces_dir / name)
    except UnreadablePhoto as error:
        return MeasuredFace(name, "unreadable", error.reason)
    height, width = photo.shape[:2]
    seen = MeasuredFace(
        name, width=width, height=height, image_hash=image_hash(photo), digest=_digest(faces_dir / name)
    )
    faces = find_faces(photo, detect)
    main = main_face(faces, (width, height))
    if main is None:
        return replace(seen, reason="no face", detail=f"none with a score above {LEAST_SCORE}")
    rivals = [face for face in faces if face is not main and face.box.height > RIVAL_SIZE * main.box.height]
    if rivals:
        return replace(seen, reason="several faces", detail=f"{len(rivals) + 1} of about the same size")
    return _of_face(seen, photo, main, label)


def _of_face(seen: MeasuredFace, photo: np.ndarray, face: Face, label: Labeller | None) -> MeasuredFace:
    try:
        pose = head_pose(face.landmarks)
    except (ValueError, cv2.error) as error:
        return replace(seen, reason="no face", detail=f"landmarks are not those of a face ({error})")
    return replace(
        seen,
        box=tuple(round(float(edge), 2) for edge in face.box),
        landmarks=tuple(round(float(value), 2) for value in face.landmarks.ravel()),
        score=round(float(face.score), 4),
        **{name: round(angle, 1) for name, angle in pose._asdict().items()},
        sharpness=round(sharpness(photo, face.box), 3),
        label=label(photo, face) if label else None,
    )


def find_faces(photo: np.ndarray, detect: Detect) -> list[Face]:
    """Detect the faces of an image (H, W, 3) uint8, in its pixels, with a margin for tight crops."""
    image, to_photo = take_view(photo, FACE_VIEW)
    # The view is neither turned nor stretched: two corners of the box are enough.
    return [
        Face(
            Box(*carry_points(to_photo, np.reshape(face.box, (2, 2))).ravel().tolist()),
            face.score,
            carry_points(to_photo, face.landmarks),
        )
        for face in detect(image, LEAST_SCORE)
    ]


def sharpness(photo: np.ndarray, box: Box) -> float:
    """Return the sharpness of a face of an image (H, W, 3) uint8: 0 blurred, about 1 sharp.

    Standard deviation of the Laplacian over that of the grey levels, at a width of 96 pixels. A smaller face is
    enlarged and so counts as blurred.
    """
    height, width = photo.shape[:2]
    x1, y1, x2, y2 = (round(edge) for edge in (max(box.x1, 0), max(box.y1, 0), min(box.x2, width), min(box.y2, height)))
    if x2 - x1 < 2 or y2 - y1 < 2:
        return 0.0
    size = SHARPNESS_WIDTH, max(8, round(SHARPNESS_WIDTH * (y2 - y1) / (x2 - x1)))
    way = cv2.INTER_AREA if x2 - x1 > SHARPNESS_WIDTH else cv2.INTER_CUBIC
    grey = cv2.resize(cv2.cvtColor(photo[y1:y2, x1:x2], cv2.COLOR_RGB2GRAY), size, interpolation=way)
    grey = grey.astype(np.float32)
    return float(cv2.Laplacian(grey, cv2.CV_32F).std() / max(float(grey.std()), 1.0))


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
