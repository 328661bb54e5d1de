"""Let the light and dark of the face below a mask show on its cloth."""

import cv2
import numpy as np

from core.boxes import carry_points
from synthesis.masks.masks import MaskSpec, place_sheet
from synthesis.masks.shape import Points, face_frame, outline

FINE, COARSE = 0.09, 0.55
"""Blurs in distances between the eyes. Their ratio keeps the nose, the cheeks and the light from one side."""
LEAST, MOST = 0.6, 1.5
DARKEST = 8
"""Grey levels added to both blurs, so that black is no division by zero."""


def show_relief(bare: np.ndarray, masked: np.ndarray, landmarks: Points, spec: MaskSpec, strength: float) -> np.ndarray:
    """Return a copy of `masked` (H, W, 3) uint8 with its cloth lit as the face of `bare` is.

    `masked` is put_on_mask(bare, landmarks, spec, rng); `strength` is 0 for none to about 1.
    """
    frame = face_frame(landmarks)
    ring = carry_points(frame.to_image((0, 0)), outline(place_sheet(spec, frame)))
    cover = np.zeros(bare.shape[:2], np.uint8)
    cv2.fillPoly(cover, [np.rint(ring * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    grey = cv2.cvtColor(bare, cv2.COLOR_RGB2GRAY).astype(np.float32) + DARKEST
    fine = cv2.GaussianBlur(grey, (0, 0), max(0.8, FINE * frame.unit))
    ratio = np.clip(fine / cv2.GaussianBlur(grey, (0, 0), COARSE * frame.unit), LEAST, MOST)
    opacity = strength * cv2.GaussianBlur(cover, (0, 0), 1).astype(np.float32) / 255
    return np.clip(masked * (1 + opacity * (ratio - 1))[..., None], 0, 255).astype(np.uint8)
