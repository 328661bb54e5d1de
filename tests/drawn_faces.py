"""A face drawn with a few ellipses, which the detector finds; no photo is needed to test what handles photos."""

import cv2
import numpy as np

from core.boxes import Box, around

BACKGROUND = (112, 124, 140)


def blank(width: int, height: int) -> np.ndarray:
    """An empty scene, (height, width, 3) uint8 RGB, with a little grain."""
    grain = np.random.default_rng(0).normal(0, 3, (height, width, 1))
    return np.clip(np.array(BACKGROUND) + grain, 0, 255).astype(np.uint8)


def add_face(rgb: np.ndarray, centre: tuple[float, float], height: float, degrees: float = 0) -> Box:
    """Draw a face of that height in pixels into `rgb`, tilted clockwise; returns the box about its skin."""
    side = int(4 * height) | 1
    tile, alpha = _face_tile(side, height)
    to_scene = cv2.getRotationMatrix2D((side / 2, side / 2), -degrees, 1)
    to_scene[:, 2] += np.array(centre) - side / 2
    size = rgb.shape[1::-1]
    tile = cv2.warpAffine(tile, to_scene, size)
    weight = cv2.warpAffine(alpha, to_scene, size)[..., None] / 255
    rgb[:] = (rgb * (1 - weight) + tile * weight).astype(np.uint8)
    return around(centre, 0.74 * height, height)


def drawn_photo(width: int = 96, height: int = 128, face: float = 0.5) -> tuple[np.ndarray, Box]:
    """A photo with one face of `face` times its height in the middle, and the face's box."""
    rgb = blank(width, height)
    return rgb, add_face(rgb, (width / 2, height / 2), face * height)


def _face_tile(side: int, height: float) -> tuple[np.ndarray, np.ndarray]:
    tile, alpha = np.zeros((side, side, 3), np.uint8), np.zeros((side, side), np.uint8)

    def ellipse(x: float, y: float, across: float, down: float, colour: tuple[int, int, int]) -> None:
        """Place and half axes in face heights from the middle of the face."""
        centre = (round((side / 2 + x * height) * 16), round((side / 2 + y * height) * 16))
        axes = (max(1, round(across * height * 16)), max(1, round(down * height * 16)))
        cv2.ellipse(tile, centre, axes, 0, 0, 360, colour, -1, cv2.LINE_AA, 4)
        cv2.ellipse(alpha, centre, axes, 0, 0, 360, 255, -1, cv2.LINE_AA, 4)

    ellipse(0, 0.62, 0.22, 0.35, (186, 138, 112))
    ellipse(0, 1.05, 0.7, 0.4, (60, 70, 110))
    ellipse(0, -0.1, 0.43, 0.52, (46, 32, 26))
    ellipse(0, 0.0, 0.37, 0.5, (214, 168, 140))
    for way in (-1, 1):
        ellipse(way * 0.15, -0.1, 0.07, 0.035, (245, 245, 245))
        ellipse(way * 0.15, -0.1, 0.033, 0.035, (40, 28, 22))
        ellipse(way * 0.15, -0.18, 0.09, 0.016, (50, 34, 28))
        ellipse(way * 0.04, 0.1, 0.022, 0.012, (130, 84, 70))
    ellipse(0, 0.04, 0.03, 0.09, (196, 148, 122))
    ellipse(0, 0.25, 0.12, 0.035, (168, 76, 76))
    blur = (0, 0), max(0.5, height / 120)
    return cv2.GaussianBlur(tile, *blur), cv2.GaussianBlur(alpha, *blur)
