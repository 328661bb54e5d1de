"""Faces brought to one place: whatever the turn, scale and shift of a photo, its crop shows the same."""

import cv2
import numpy as np
import pytest

from core.alignment import FACE_LANDMARKS, are_of_box, points, to_face, typical_landmarks
from core.boxes import Box, carry_points
from core.cropping import CropSettings, crop_face

BOX = Box(40, 60, 161, 218)
SETTINGS = CropSettings(margin=0.1, aspect=1.0, size=60, surroundings=False)


def turned(degrees: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    """A similarity (2, 3)."""
    angle = np.radians(degrees)
    along, across = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([(along, -across, shift[0]), (across, along, shift[1])])


@pytest.mark.parametrize("degrees", [0, 20, -75, 180])
def test_the_similarity_that_was_put_in_comes_out(degrees: float) -> None:
    put_in = turned(degrees, 83.0, (31.0, 57.0))
    found = to_face(carry_points(put_in, FACE_LANDMARKS))
    np.testing.assert_allclose(np.vstack([found, (0, 0, 1)]) @ np.vstack([put_in, (0, 0, 1)]), np.eye(3), atol=1e-12)


def test_a_mirrored_face_is_not_mirrored_back() -> None:
    assert np.linalg.det(to_face(FACE_LANDMARKS * (-1, 1))[:, :2]) > 0


def test_typical_landmarks_lie_upright_in_their_box() -> None:
    matrix = to_face(typical_landmarks(BOX))
    assert abs(matrix[1, 0] / matrix[0, 0]) < 0.02
    assert are_of_box(typical_landmarks(BOX), BOX)


@pytest.mark.parametrize(
    "landmarks",
    [
        np.full((5, 2), 100.0),
        np.full((5, 2), np.nan),
        typical_landmarks(BOX) * 2,
        typical_landmarks(BOX) / 2,
        typical_landmarks(BOX)[[3, 1, 0, 4, 2]],
    ],
    ids=["one point", "no numbers", "too large", "too small", "shuffled"],
)
def test_landmarks_that_cannot_belong_to_the_box(landmarks: np.ndarray) -> None:
    assert not are_of_box(landmarks, BOX)
    photo = np.random.default_rng(0).integers(0, 256, (300, 220, 3), dtype=np.uint8)
    np.testing.assert_array_equal(crop_face(photo, BOX, SETTINGS, landmarks), crop_face(photo, BOX, SETTINGS))


def test_turned_landmarks_belong_to_their_box() -> None:
    assert are_of_box(carry_points(turned(90, 1, (10, 0)), typical_landmarks(BOX)), BOX)


def scene(to_photo: np.ndarray) -> np.ndarray:
    """A photo (400, 400, 3) of a drawn face that `to_photo` leads to from face coordinates: a blob at each landmark."""
    x, y = np.meshgrid(np.arange(400) + 0.5, np.arange(400) + 0.5)
    photo = np.zeros((400, 400, 3))
    unit = np.hypot(*to_photo[:, 0])
    for number, (px, py) in enumerate(carry_points(to_photo, FACE_LANDMARKS)):
        blob = np.exp(-((x - px) ** 2 + (y - py) ** 2) / 2 / (0.06 * unit) ** 2)
        photo[..., number % 3] += 250 * blob
    return photo.clip(0, 255).round().astype(np.uint8)


@pytest.mark.parametrize(("degrees", "scale"), [(0, 50), (35, 50), (-90, 120), (10, 260)])
def test_landmarks_come_to_lie_at_the_same_places(degrees: float, scale: float) -> None:
    to_photo = turned(degrees, scale, (200, 200))
    landmarks = carry_points(to_photo, FACE_LANDMARKS)
    upright = Box(200 - scale / 2, 200 - scale / 2, 200 + scale / 2, 200 + scale / 2)
    crop = crop_face(scene(to_photo), upright, SETTINGS, landmarks)
    # A window of 1.2 faces about the middle: 50 pixels to the face.
    expected = cv2.resize(scene(turned(0, 250, (200, 200)))[50:350, 50:350], (60, 60), interpolation=cv2.INTER_AREA)
    assert crop.shape == (60, 60, 3)
    assert np.abs(crop.astype(int) - expected).mean() < 2
    assert np.abs(crop.astype(int) - expected).max() < 25


def test_a_crop_that_leaves_the_photo_is_mirrored() -> None:
    photo = np.full((30, 30, 3), 77, dtype=np.uint8)
    assert (crop_face(photo, Box(-20, -20, 60, 80), SETTINGS) == 77).all()


def test_the_crop_has_its_aspect() -> None:
    photo = np.zeros((300, 220, 3), dtype=np.uint8)
    assert crop_face(photo, BOX, CropSettings(aspect=0.75, size=64, surroundings=False)).shape == (64, 48, 3)


def test_points_from_numbers() -> None:
    assert points(()) is None
    assert points(range(10)).tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
