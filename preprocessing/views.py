"""How a photo is shown to the detector: smaller, larger, padded, turned or with its light changed, and the way back.

A view is a row of a table of plain settings; `take` makes the picture of it and the map from its pixels to the photo's.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

PADDING_GREY = 127
Tone = Callable[[np.ndarray], np.ndarray]


def as_it_is(rgb: np.ndarray) -> np.ndarray:
    return rgb


def brightened(rgb: np.ndarray) -> np.ndarray:
    """Gamma that brings the mean to the middle: lightens a dark (H, W, 3) uint8 picture, darkens a bright one."""
    mean = float(np.clip(rgb.mean() / 255, 0.01, 0.99))
    gamma = np.log(0.45) / np.log(mean)
    table = 255 * (np.arange(256) / 255) ** gamma
    return cv2.LUT(rgb, table.round().astype(np.uint8))


def contrasted(rgb: np.ndarray) -> np.ndarray:
    """Local contrast of the lightness evened out (CLAHE), on (H, W, 3) uint8; colours stay."""
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(clipLimit=4.0, tileGridSize=(4, 4)).apply(np.ascontiguousarray(lab[..., 0]))
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


@dataclass(frozen=True)
class View:
    """`side`: the longer side in pixels after scaling, at most `grow` times the photo's; `pad`: grey added on each side
    as a share of that; `turn`: degrees counter-clockwise; `tone`: what is done to the light."""

    side: int
    grow: float = 1.0
    pad: float = 0.0
    turn: int = 0
    tone: Tone = as_it_is


def fitted(view: View, width: int, height: int) -> View:
    """The view as it comes out for a photo of that size, in pixels: equal for two views that show the same picture."""
    longer = max(width, height)
    side = min(view.side, round(view.grow * longer))
    return replace(view, side=side, grow=side / longer)


def take(photo: np.ndarray, view: View) -> tuple[np.ndarray, np.ndarray]:
    """The picture of a view, (h, w, 3) uint8, and the affine map (2, 3) float from its pixels to those of the photo."""
    height, width = photo.shape[:2]
    scale = min(view.side / max(height, width), view.grow)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    rgb = photo
    if size != (width, height):
        rgb = cv2.resize(photo, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    rgb = view.tone(rgb)
    to_photo = np.diag([width / size[0], height / size[1], 1.0])
    if view.pad or view.turn:
        rgb, to_scaled = _turned(rgb, view.turn, view.pad)
        to_photo = to_photo @ to_scaled
    return rgb, to_photo[:2]


def _turned(rgb: np.ndarray, degrees: float, pad: float) -> tuple[np.ndarray, np.ndarray]:
    """The picture turned on a grey canvas that holds all of it and `pad` more; and the map (3, 3) back."""
    height, width = rgb.shape[:2]
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    across = abs(width * cosine) + abs(height * sine)
    down = abs(width * sine) + abs(height * cosine)
    extra = 2 * pad * max(across, down)
    canvas = round(across + extra), round(down + extra)
    back = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    back[:2, 2] = np.array([width, height]) / 2 - back[:2, :2] @ (np.array(canvas) / 2)
    # warpAffine counts from the middle of the first pixel, boxes from its corner: hence the half pixels.
    pixels = back[:2].copy()
    pixels[:, 2] += pixels[:, :2] @ (0.5, 0.5) - 0.5
    grey = (PADDING_GREY,) * 3
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(rgb, pixels, canvas, flags=flags, borderValue=grey), back
