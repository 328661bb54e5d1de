"""Camera effects as plain values for a table: blur, white balance, exposure, contrast, grain; and poor photos."""

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Camera:
    """Parameters of one exposure. `blur` and `grain` are standard deviations in pixels and grey levels, 0 for none.

    `exposure` is the gain on all colours, `warmth` the additional gain on red and loss on blue; `contrast` scales the
    grey levels about the middle; `quality` is the JPEG quality.
    """

    blur: float
    exposure: float
    warmth: float
    contrast: float
    grain: float
    quality: int


def random_camera(rng: np.random.Generator) -> Camera:
    """Draw the camera of one photo, independently of its content."""
    return Camera(
        blur=float(rng.uniform(0.4, 1.1) * (rng.random() < 0.5)),
        exposure=float(rng.uniform(0.85, 1.12)),
        warmth=float(rng.normal(0, 0.04)),
        contrast=float(rng.uniform(0.92, 1.08)),
        grain=float(rng.uniform(1, 5)),
        quality=int(rng.integers(78, 97)),
    )


def take_photo(scene: np.ndarray, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """Apply the camera to a scene (H, W, 3) uint8 RGB; `rng` gives the grain. Same shape and dtype.

    Applied after the mask is put on, so that mask and face have the same blur and grain.
    """
    seen = cv2.GaussianBlur(scene, (0, 0), camera.blur) if camera.blur else scene
    gains = camera.exposure * np.array([1 + camera.warmth, 1, 1 - camera.warmth])
    levels = 127.5 + (np.arange(256)[:, None] - 127.5) * camera.contrast
    curves = np.clip(levels * gains, 0, 255).astype(np.uint8)
    grain = rng.standard_normal(scene.shape[:2], np.float32) * np.float32(camera.grain)
    return cv2.add(cv2.LUT(seen, curves[None]), cv2.merge([grain] * 3), dtype=cv2.CV_8U)


@dataclass(frozen=True)
class PoorPhoto:
    """Faults of a photo, 0 for none.

    cut      place where the photo ends below, in eye-to-mouth distances below the eyes
    face     height of the face in pixels to which the photo is scaled down, and then up again
    motion   length of the motion blur, in heights of the face; `angle` is its direction in degrees
    quality  of the JPEG of the small photo
    """

    cut: float
    face: float
    motion: float
    angle: float
    quality: int


CUTS, FACES, MOTIONS, QUALITIES = (1.7, 2.8), (24, 112), (0.04, 0.12), (25, 90)
FACE_HEIGHT = 2.25
"""Height of a face in eye-to-mouth distances."""


def random_poor_photo(rng: np.random.Generator, shown: float) -> PoorPhoto:
    """Draw the faults of one photo. It is not cut above the place `shown`, in the units of PoorPhoto.cut."""
    face = float(np.exp(rng.uniform(*np.log(FACES))))
    cut = max(CUTS[0], shown)
    return PoorPhoto(
        cut=float(rng.uniform(cut, max(cut, CUTS[1]))) * (rng.random() < 0.2),
        face=face * (rng.random() < 0.5),
        motion=float(rng.uniform(*MOTIONS)) * (rng.random() < 0.15),
        angle=float(rng.uniform(0, 180)),
        quality=int(rng.integers(*QUALITIES)) * (rng.random() < 0.35),
    )


def spoil(photo: np.ndarray, landmarks: np.ndarray, poor: PoorPhoto) -> np.ndarray:
    """Return the photo (H, W, 3) uint8 with these faults; `landmarks` (5, 2) in pixels stay where they are."""
    eyes, mouth = landmarks[:2].mean(axis=0), landmarks[3:].mean(axis=0)
    down = mouth - eyes
    if poor.cut:
        photo = photo[: max(2, round(float(eyes[1] + poor.cut * down[1])))]
    face = FACE_HEIGHT * float(np.hypot(*down))
    if poor.motion:
        photo = cv2.filter2D(photo, -1, _motion_kernel(poor.motion * face, poor.angle))
    height, width = photo.shape[:2]
    factor = min(1.0, poor.face / face) if poor.face else 1.0
    small = cv2.resize(photo, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) if factor < 1 else photo
    if poor.quality:
        encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, poor.quality])[1]
        small = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    return (
        cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
        if factor < 1
        else np.ascontiguousarray(small)
    )


def _motion_kernel(length: float, angle: float) -> np.ndarray:
    """Return a line (N, N) float32 with a sum of 1."""
    size = max(3, round(length) | 1)
    kernel = np.zeros((size, size), np.float32)
    kernel[size // 2] = 1
    turn = cv2.getRotationMatrix2D(((size - 1) / 2, (size - 1) / 2), angle, 1)
    kernel = cv2.warpAffine(kernel, turn, (size, size))
    return kernel / kernel.sum()
