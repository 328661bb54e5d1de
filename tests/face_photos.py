"""Drawn faces as photos to build data sets from: tight crops and wide shots, so that no photo of anybody is needed."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from core.images import write_photo
from synthesis.drawn.person import random_person
from synthesis.drawn.portrait import draw_person

RACES = ("Asian", "Black", "White")


def drawn_face(seed: int, tight: bool = True) -> np.ndarray:
    """A drawn portrait, (H, W, 3) uint8, or a crop of it that ends at the face."""
    rng = np.random.default_rng((7, seed))
    portrait = draw_person(random_person(rng, gender_of(seed), age_of(seed)), rng)
    if not tight:
        return portrait.photo
    x1, y1, x2, y2 = (int(edge) for edge in portrait.box)
    return np.ascontiguousarray(portrait.photo[max(0, y1 - 8) : y2 + 4, max(0, x1 - 18) : x2 + 18])


def gender_of(seed: int) -> str:
    return ("male", "female")[seed % 2]


def age_of(seed: int) -> int:
    return (20, 30, 60)[seed // 2 % 3]


def write_faces(folder: Path, count: int, first: int = 0) -> pd.DataFrame:
    """Draw `count` faces into a folder as f000.png ...; returns their labels."""
    rows = []
    for seed in range(first, first + count):
        name = f"f{seed:03d}.png"
        write_photo(folder / name, drawn_face(seed, tight=seed % 4 > 0))
        rows.append((name, gender_of(seed), RACES[seed % 3], age_of(seed)))
    return pd.DataFrame(rows, columns=["file", "gender", "race", "age"])


def mirrored_copy(photo: np.ndarray) -> np.ndarray:
    """The same picture mirrored, smaller and encoded again."""
    smaller = cv2.resize(photo[:, ::-1], None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    encoded = cv2.imencode(".jpg", smaller, [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR)
