"""Alignment of faces: the rotation, scale and shift that bring five landmarks to fixed places.

A network then sees eyes and mouth where it saw them in training, whatever the tilt of the head and the size of the box.
Landmarks are (5, 2): eyes, nose and mouth corners, each pair from the image's left.

Face coordinates have the middle of the face at (0, 0), y down, and its height as unit.
"""

from collections.abc import Sequence

import numpy as np

from core.boxes import Box, around, carry_points

LANDMARK_COUNT = 5
FACE = around((0.0, 0.0), 0.83, 1.0)
"""The least part of a face that a crop shows, in face coordinates."""
FACE_LANDMARKS = np.array(
    [(-0.216, -0.2376), (0.2032, -0.2352), (-0.0104, 0.0168), (-0.1832, 0.2072), (0.1608, 0.2072)]
)
"""Places of aligned landmarks, in face coordinates: medians over faces aligned by dlib, as the network of
backbones/face_resnet.py was trained on them."""
BOX_LANDMARKS = np.array([(0.291, 0.384), (0.724, 0.386), (0.504, 0.585), (0.325, 0.735), (0.681, 0.735)])
"""Medians of the same landmarks in fractions of a detector's boxes."""
LARGEST_MISFIT = 0.35
"""Largest mean distance of landmarks from FACE_LANDMARKS, in distances of the eyes, of a face seen from the front."""
LARGEST_SCALE = 1.8
"""Largest factor between the sizes of a face by its landmarks and by its box."""


def points(numbers: Sequence[float]) -> np.ndarray | None:
    """Return landmarks (5, 2) from x and y in turn; None from nothing."""
    return np.array(numbers, dtype=float).reshape(LANDMARK_COUNT, 2) if numbers else None


def typical_landmarks(box: Box) -> np.ndarray:
    """Return the landmarks (5, 2) of an upright face in that box."""
    return BOX_LANDMARKS * (box.width, box.height) + (box.x1, box.y1)


def to_face(landmarks: np.ndarray) -> np.ndarray:
    """Return the similarity (2, 3) from the pixels of `landmarks` to face coordinates with the least squared error.

    After Umeyama 1991 (doi:10.1109/34.88573), without mirroring; two dimensions have this closed form.
    """
    from_middle, to_middle = landmarks.mean(axis=0), FACE_LANDMARKS.mean(axis=0)
    before, after = landmarks - from_middle, FACE_LANDMARKS - to_middle
    spread = (before**2).sum()
    along = (before * after).sum() / spread
    across = (before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]).sum() / spread
    turn = np.array([(along, -across), (across, along)])
    return np.column_stack([turn, to_middle - turn @ from_middle])


def are_of_box(landmarks: np.ndarray, box: Box) -> bool:
    """Return True if the landmarks look like a face of about the size of the box."""
    if not np.isfinite(landmarks).all() or np.ptp(landmarks, axis=0).max() <= 0:
        return False
    found, expected = to_face(landmarks), to_face(typical_landmarks(box))
    ratio = np.hypot(*found[:, 0]) / np.hypot(*expected[:, 0])
    eye_distance = np.linalg.norm(FACE_LANDMARKS[1] - FACE_LANDMARKS[0])
    misfit = np.linalg.norm(carry_points(found, landmarks) - FACE_LANDMARKS, axis=1).mean() / eye_distance
    return bool(misfit <= LARGEST_MISFIT and 1 / LARGEST_SCALE <= ratio <= LARGEST_SCALE)
