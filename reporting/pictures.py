"""Crops as pictures inside the page: small JPEGs in data URIs."""

from pathlib import Path

import cv2
import numpy as np

from core.images import UnreadablePhoto, data_uri, read_photo

HEIGHT = 112
QUALITY = 80


def thumbnail(path: Path) -> str | None:
    """The picture at `path` as a data URI; None if it cannot be read."""
    try:
        return embed(read_photo(path))
    except UnreadablePhoto:
        return None


def embed(rgb: np.ndarray) -> str:
    """(H, W, 3) uint8 RGB as a data URI, 112 pixels high; smaller pictures stay as they are."""
    height, width = rgb.shape[:2]
    if height > HEIGHT:
        size = max(1, round(width * HEIGHT / height)), HEIGHT
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return data_uri(rgb, QUALITY)
