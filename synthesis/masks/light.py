"""Measure light, blur and noise on an image of a face, so that a mask can be drawn to match."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from synthesis.masks.shape import FaceFrame

GREY = np.array([0.299, 0.587, 0.114], np.float32)
WHITE_LEVEL = 215.0  # brightness of the lightest skin in a well exposed photo
SKIN_TINT = np.array([1.22, 0.95, 0.80], np.float32)  # skin under neutral light, colour over brightness, all tones
LEAST_SKIN_COLOUR = 0.1  # red over blue, in brightness: less than that and the image has no colours
PROBE = 32  # samples per side of the face
SHARPNESS_SIZE = 96

# Ratio of the energy of a fine band-pass to that of a coarser one, and the blur (sigma in pixels) that causes it.
# Measured on sharp face photos after blurring.
BLUR_RATIOS = (0.46, 0.48, 0.52, 0.57, 0.66, 0.78, 0.90)
BLUR_SIGMAS = (2.5, 2.2, 1.6, 1.2, 0.8, 0.5, 0.3)


@dataclass(frozen=True)
class Light:
    """Light on a face: brightness `level` (1 = well exposed), `cast` (3,) on RGB, and slopes per eye distance.

    `colourful` is 0 for a black-and-white photo and 1 for a usual one.
    """

    level: float
    colourful: float
    cast: np.ndarray
    slope_x: float
    slope_y: float


@dataclass(frozen=True)
class PhotoQuality:
    """Blur of edges in pixels and noise on flat skin in grey levels, both standard deviations."""

    blur: float
    noise: float


def _sample(image: np.ndarray, frame: FaceFrame, area: tuple[float, float, float, float], *, size: int) -> np.ndarray:
    """Sample the area x0, x1 (eye distances), y0, y1 (reaches) of the face, (size, size, 3) uint8."""
    x0, x1, y0, y1 = area[0] * frame.unit, area[1] * frame.unit, area[2] * frame.reach, area[3] * frame.reach
    to_image = frame.to_image((x0, y0))
    to_image[:, 0] *= (x1 - x0) / (size - 1)
    to_image[:, 1] *= (y1 - y0) / (size - 1)
    return cv2.warpAffine(
        image, to_image, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )


def measure_light(image: np.ndarray, frame: FaceFrame) -> Light:
    """Measure the light on the face of an image (H, W, 3) uint8 RGB, on the skin between eyes and mouth."""
    skin = _sample(image, frame, (-0.75, 0.75, 0.1, 1.0), size=PROBE).astype(np.float32)
    grey = skin @ GREY
    low, bright = np.percentile(grey, (10, 95))
    # Dark skin in good light and light skin in bad light look alike, so the rest of the image counts half.
    step = max(1, min(image.shape[:2]) // 32)
    around = np.percentile(image[::step, ::step].reshape(-1, 3) @ GREY, 97)
    level = (0.5 * bright + 0.5 * max(bright, around)) / WHITE_LEVEL
    mean = np.clip(grey, low, bright).mean()
    slope_x, slope_y = _slopes(np.clip(grey, low, bright)) / max(mean, 1.0)
    tint = skin.reshape(-1, 3).mean(0) / max(float(grey.mean()), 1.0)
    colourful = float(np.clip(np.ptp(tint) / LEAST_SKIN_COLOUR, 0, 1))
    cast = np.clip(np.sqrt(tint / SKIN_TINT), 0.8, 1.25) ** colourful
    return Light(float(np.clip(level, 0.2, 1.12)), colourful, cast / float(cast @ GREY), float(slope_x), float(slope_y))


def seen_colour(colour: np.ndarray, light: Light) -> np.ndarray:
    """Return a colour (3,) with the colourfulness of the image."""
    return colour * light.colourful + (colour @ GREY) * (1 - light.colourful)


def _slopes(grey: np.ndarray) -> np.ndarray:
    """Return least-squares slopes (x, y) per eye distance of PROBE × PROBE samples that span 1.5 by 0.9."""
    line = np.linspace(-0.5, 0.5, PROBE, dtype=np.float32)
    power = float(line @ line) * PROBE
    return np.array([(grey @ line).sum() / power / 1.5, (line @ grey).sum() / power / 0.9])


def measure_quality(image: np.ndarray, frame: FaceFrame) -> PhotoQuality:
    """Measure blur and noise of an image (H, W, 3) uint8 RGB around the eyes, where every face has edges."""
    half = min(SHARPNESS_SIZE / 2, 1.0 * frame.unit) / frame.unit
    size = max(16, int(2 * half * frame.unit))
    high = half * frame.unit / frame.reach
    eyes = _sample(image, frame, (-half, half, 0.35 - high, 0.35 + high), size=size)
    grey = cv2.cvtColor(eyes, cv2.COLOR_RGB2GRAY).astype(np.float32)
    fine, coarse = cv2.GaussianBlur(grey, (0, 0), 1.0), cv2.GaussianBlur(grey, (0, 0), 2.0)
    ratio = float(np.abs(grey - fine).mean()) / max(float(np.abs(fine - coarse).mean()), 0.05)
    return PhotoQuality(float(np.interp(ratio, BLUR_RATIOS, BLUR_SIGMAS)), _noise_of(grey))


def _noise_of(grey: np.ndarray) -> float:
    """Estimate noise from the lower quartile of second differences, which cancel smooth structure."""
    second = cv2.filter2D(grey, cv2.CV_32F, np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32))
    quiet = np.percentile(np.abs(second), 25)
    return float(min(quiet / (0.3186 * 6), 12.0))  # 0.3186: lower quartile of |N(0, 1)|; 6: gain of the filter
