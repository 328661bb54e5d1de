"""Pictures that share nothing, for tests of what looks alike."""

import cv2
import numpy as np


def scene(number: int, height: int = 80, width: int = 64) -> np.ndarray:
    """A random landscape of its own, (height, width, 3) uint8."""
    coarse = np.random.default_rng(number).integers(40, 200, (16, 16, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
