"""Head pose from five landmarks."""

from typing import NamedTuple

import cv2
import numpy as np

# Eyes, nose tip, mouth corners of an adult in millimetres, x to the viewer's right, y down, z away from the viewer.
# Pupils 63 apart, mouth 64 below them. Depths are such that people who look into a camera come out with a pitch of 0.
GENERIC_FACE = np.array(
    [(-31.5, -33.0, 27.0), (31.5, -33.0, 27.0), (0.0, 5.0, 0.0), (-27.0, 31.0, 22.0), (27.0, 31.0, 22.0)]
)
DISTANCE = 24.0
"""Distance of the camera in half faces, about 80 cm: the least from which photos of faces are taken."""


class HeadPose(NamedTuple):
    """Angles in degrees. `yaw` to the viewer's right, `pitch` down, `roll` clockwise for the viewer; 0 is frontal."""

    yaw: float
    pitch: float
    roll: float


def head_pose(landmarks: np.ndarray) -> HeadPose:
    """Return the pose of a face from its landmarks (5, 2) in pixels: eyes, nose tip, mouth corners, left first.

    Perspective-n-point on a generic face (SQPnP, doi:10.1007/978-3-030-58452-8_28, refined by Levenberg-Marquardt).
    ValueError for points that cannot be a face.
    """
    points = np.asarray(landmarks, np.float64)
    size = float(np.abs(points - points.mean(axis=0)).max())
    if points.shape != (5, 2) or not np.isfinite(size) or size <= 0:
        raise ValueError(f"landmarks must be five points of a face, got {points.tolist()}")
    # Pixels about the face's middle, in units of its size: only the direction counts.
    seen = (points - points.mean(axis=0)) / size
    camera = np.diag([DISTANCE, DISTANCE, 1.0])
    solved, turn, shift = cv2.solvePnP(GENERIC_FACE, seen, camera, None, flags=cv2.SOLVEPNP_SQPNP)
    if not solved:
        raise ValueError(f"no head can be seen at {points.tolist()}")
    turn, _ = cv2.solvePnPRefineLM(GENERIC_FACE, seen, camera, None, turn, shift)
    return _angles(cv2.Rodrigues(turn)[0])


def rotation(pose: HeadPose) -> np.ndarray:
    """Return the (3, 3) matrix that turns the generic face into a pose: yaw first, then pitch, then roll."""
    yaw, pitch, roll = np.radians(pose)
    about_y = np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    about_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    return about_z @ about_x @ about_y


def _angles(matrix: np.ndarray) -> HeadPose:
    """Invert `rotation`."""
    pitch = np.arcsin(np.clip(matrix[2, 1], -1, 1))
    yaw = np.arctan2(matrix[2, 0], matrix[2, 2])
    roll = np.arctan2(-matrix[0, 1], matrix[1, 1])
    return HeadPose(*(float(angle) for angle in np.degrees((yaw, pitch, roll))))
