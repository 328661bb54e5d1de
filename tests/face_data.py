"""A small data root of drawn faces, and a run of detect_faces on it."""

import csv
from functools import cache
from pathlib import Path

import cv2
from drawn_faces import drawn_photo

from core.boxes import Box
from preprocessing import detect_faces
from storage import crops

PERSONS = ("000001_female_Asian_31", "000002_male_White_64")
EVAL_NAMES = ("000008_male_Black_22_mask.jpg", "000009_female_White_45_normal.jpg")


@cache
def face_jpeg() -> bytes:
    """A photo of 96 x 128 pixels with one face, as a file."""
    return cv2.imencode(".jpg", drawn_photo()[0][..., ::-1])[1].tobytes()


def make_data(root: Path) -> Path:
    """A re-made data root: two people with three photos each, two eval photos, all with a face."""
    for person in PERSONS:
        for stem in ("mask1", "incorrect_mask", "normal"):
            put(root / "images/train" / person / f"{stem}.jpg", face_jpeg())
    for name in EVAL_NAMES:
        put(root / "images/eval" / name, face_jpeg())
    return root


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def run_detect(data: Path | None, *flags: str) -> dict[str, dict[str, str]]:
    """Run the command on one process; the rows of faces.csv by image id."""
    crop_dir = Path(flags[flags.index("--crop-dir") + 1]) if "--crop-dir" in flags else Path("crop_images")
    root = [] if data is None else ["--data-dir", str(data)]
    detect_faces.main([*root, "--workers", "1", *flags])
    with crops.faces_path(crop_dir).open(encoding="utf-8") as stream:
        return {row["image_id"]: row for row in csv.DictReader(stream)}


def box_of(row: dict[str, str]) -> Box:
    return Box(*(float(row[edge]) for edge in Box._fields))
