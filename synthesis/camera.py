"""Camera effects: blur, white balance, exposure, contrast and grain, as plain values for a table."""

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
