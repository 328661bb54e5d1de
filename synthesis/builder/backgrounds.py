"""What lies behind a face where its photo ends: a background by name, and a neck and shoulders before it.

Painted a few times smaller than the portrait (96 x 128 pixels), since all of it is out of focus.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from core.boxes import carry_points
from core.cli import row_named

COARSE = 4
WIDTH, HEIGHT = 96, 128
BACK_OF_HEAD = 0.12
"""Width of the strip at either side of a photo that shows what is behind the face, as a share of its width."""


@dataclass(frozen=True)
class Scene:
    """What a background is painted from.

    photo  (H, W, 3) uint8, the original; `place` the affine map (2, 3) from its pixels to the portrait's
    hue, light  0 to 180 and 0 to 1: the colour of a wall; blur in pixels of the background
    rng    for things that nobody would tabulate
    """

    photo: np.ndarray
    place: np.ndarray
    hue: float
    light: float
    blur: float
    rng: np.random.Generator


def coarse_place(place: np.ndarray) -> np.ndarray:
    """The map (2, 3) to pixels of the background, from that to pixels of the portrait."""
    smaller = place / COARSE
    smaller[:, 2] += 0.5 / COARSE - 0.5
    return smaller


def original_places(place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which x and which y of the original each pixel of the background shows: (128, 96) float32 each."""
    back = cv2.invertAffineTransform(coarse_place(place)).astype(np.float32)
    down, across = np.ogrid[:HEIGHT, :WIDTH]
    x, y = (back[axis, 0] * across + back[axis, 1] * down + back[axis, 2] for axis in (0, 1))
    return x.astype(np.float32), y.astype(np.float32)


def _paint_reflected(scene: Scene) -> np.ndarray:
    """The picture mirrored at its edges."""
    place = coarse_place(scene.place)
    # Averaged before it is sampled, or the fine structure of the photo would alias.
    step = max(1, int(1 / max(float(np.abs(place[:, :2]).max()), 1e-3)))
    return cv2.warpAffine(
        cv2.blur(scene.photo, (step, step)), place, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT_101
    )


def _paint_sides(scene: Scene) -> np.ndarray:
    """What can be seen at the left and at the right of the face, one passing into the other."""
    photo = scene.photo
    strip = max(1, round(BACK_OF_HEAD * photo.shape[1]))
    left, right = (part.mean(axis=1, dtype=np.float32) for part in (photo[:, :strip], photo[:, -strip:]))
    x, y = original_places(scene.place)
    rows = np.abs(y).astype(int) % (2 * len(left))
    rows = np.minimum(rows, 2 * len(left) - 1 - rows)
    share = np.clip(x / photo.shape[1], 0, 1)[..., None]
    return (left[rows] * (1 - share) + right[rows] * share).astype(np.uint8)


def _paint_wall(scene: Scene) -> np.ndarray:
    """A wall in one colour with a fall of light."""
    slope_x, slope_y = scene.rng.uniform(-0.2, 0.2, 2)
    gain = 1 + slope_x * np.linspace(-1, 1, WIDTH)[None, :, None] + slope_y * np.linspace(-1, 1, HEIGHT)[:, None, None]
    wall = _colour(scene.hue, scene.light, scene.rng.uniform(0.02, 0.35)) * gain
    return np.clip(wall, 0, 255).astype(np.uint8)


def _paint_room(scene: Scene) -> np.ndarray:
    """A wall with things before it."""
    room, rng = _paint_wall(scene), scene.rng
    for _ in range(rng.integers(3, 9)):
        corner, size = rng.integers((-10, -10), (WIDTH, HEIGHT)), rng.integers((6, 10), (40, 90))
        colour = _colour(scene.hue + rng.normal(0, 25), rng.uniform(0.1, 0.95), rng.uniform(0.05, 0.45))
        cv2.rectangle(room, corner.tolist(), (corner + size).tolist(), colour.tolist(), -1)
    return room


def _colour(hue: float, light: float, saturation: float) -> np.ndarray:
    """RGB (3,) float32, 0 to 255."""
    pixel = np.uint8([[[hue % 180, 255 * saturation, 255 * light]]])
    return cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float32)


@dataclass(frozen=True)
class Background:
    """`paint` gives (128, 96, 3) uint8. A `foreign` one has nothing of the photo in it: the head has to be cut out."""

    name: str
    paint: Callable[[Scene], np.ndarray]
    foreign: bool = False


BACKGROUNDS: tuple[Background, ...] = (
    Background("reflected", _paint_reflected),
    Background("sides", _paint_sides),
    Background("wall", _paint_wall, foreign=True),
    Background("room", _paint_room, foreign=True),
)


def background_named(name: str) -> Background:
    """The background's row; UserError lists the names there are."""
    return row_named(BACKGROUNDS, name, what="background")


def paint_background(name: str, scene: Scene, box: np.ndarray) -> np.ndarray:
    """The named background with a body on it; `box` (2, 2) are the corners of the face in pixels of the original."""
    behind = cv2.GaussianBlur(background_named(name).paint(scene), (0, 0), scene.blur)
    return _with_body(behind, scene, box)


def _with_body(behind: np.ndarray, scene: Scene, box: np.ndarray) -> np.ndarray:
    """A neck below the face and clothes below the neck, in colours that the photo has there."""
    corners = carry_points(scene.place, box)
    x, chin = np.array([corners[:, 0].mean(), corners[1, 1]]) / COARSE
    face, tall = np.ptp(corners, axis=0) / COARSE
    neck, drop, slope = scene.rng.uniform((0.30, 0.12, 0.25), (0.38, 0.3, 0.5))
    skin, clothes = _skin_below(scene.photo, box), _clothes(scene)
    throat = [(x - neck * face, chin - 0.4 * tall), (x + neck * face, chin - 0.4 * tall)]
    collar = [(x + 1.15 * neck * face, chin + drop * tall), (x - 1.15 * neck * face, chin + drop * tall)]
    fall = chin + (drop + slope) * tall
    shoulders = [(x - 1.3 * face, fall), collar[1], (x, chin + (drop + 0.12) * tall), collar[0], (x + 1.3 * face, fall)]
    floor = [(x + 1.4 * face, HEIGHT + 40), (x - 1.4 * face, HEIGHT + 40)]
    body = behind.copy()
    for outline, colour in (([*throat, collar[0], (x, fall), collar[1]], skin), (shoulders + floor, clothes)):
        cv2.fillPoly(body, [np.rint(np.array(outline) * 16).astype(np.int32)], colour.tolist(), cv2.LINE_AA, 4)
    return cv2.GaussianBlur(body, (0, 0), 0.9)


def _skin_below(photo: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The colour of the lower face, in the shadow of the chin: (3,) float."""
    (x1, y1), (x2, y2) = box
    rows = slice(*(int(np.clip(y, 0, photo.shape[0] - 1)) for y in (y1 + 0.82 * (y2 - y1), y2)))
    columns = slice(*(int(np.clip(x, 0, photo.shape[1] - 1)) for x in (x1 + 0.35 * (x2 - x1), x1 + 0.65 * (x2 - x1))))
    area = photo[rows, columns].reshape(-1, 3)
    return (np.median(area, axis=0) if len(area) else photo.reshape(-1, 3).mean(axis=0)) * 0.8


def _clothes(scene: Scene) -> np.ndarray:
    """What the photo's lower corners show, or a colour at random: (3,) float."""
    if scene.rng.random() < 0.5:
        return _colour(scene.rng.uniform(0, 180), scene.rng.uniform(0.1, 0.9), scene.rng.uniform(0, 0.5))
    height, width = scene.photo.shape[:2]
    corner = scene.photo[int(0.93 * height) :, : max(1, int(0.1 * width))]
    return np.median(corner.reshape(-1, 3), axis=0)
