"""Compose a portrait of 384 x 512 pixels from an image of a face of any size.

    composition = random_composition(rng)
    scene, points = compose(image, landmarks, box, composition)

The image is turned, stretched and placed at random; where it ends, a background continues with a soft seam. A
composition is drawn independently of the mask, which is put on afterwards, so that only the mask reveals its label.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from core.boxes import carry_points
from synthesis.builder.backgrounds import BACKGROUNDS, Scene, background_named, original_places, paint_background

HEIGHT, WIDTH = 512, 384
FACE_WIDTHS = (0.46, 0.76)
SAMPLES_PER_PIXEL = 1.6
"""Resolution above which an image is scaled down once before it is placed."""
ROOM_ABOVE, ROOM_BESIDE = 0.2, 0.15
"""Margins as fractions of the face below which an image counts as ending at the head."""
CROWN, CHEEK = 0.16, 0.06
"""Extent to which the top and the sides of a head may be filled in, as fractions of the face's height and width."""
Points = np.ndarray
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Composition:
    """Parameters of one composition. Lengths are fractions of the portrait's width or height, angles in degrees.

    face_width, x, y  size and middle of the face's box in the image
    stretch           height over width, as a factor on that of the original
    turn              clockwise
    background        a name in synthesis.builder.backgrounds.BACKGROUNDS, drawn with the seed `detail`
    hue, light, blur  its colour (0 to 180, 0 to 1) and its blur in pixels
    seam              width of the fade from image to background, as a fraction of the face's width
    cut_out           cut the head out of an image that ends at it; always done before a foreign background
    roundness         half the width of that cut over the face's width
    """

    face_width: float
    x: float
    y: float
    stretch: float
    turn: float
    background: str
    hue: float
    light: float
    blur: float
    detail: int
    seam: float
    cut_out: bool
    roundness: float


def random_composition(rng: np.random.Generator) -> Composition:
    """Draw the composition of one photo."""
    return Composition(
        face_width=float(rng.uniform(*FACE_WIDTHS)),
        x=float(np.clip(rng.normal(0.49, 0.035), 0.38, 0.62)),
        y=float(np.clip(rng.normal(0.53, 0.03), 0.45, 0.61)),
        stretch=float(np.clip(rng.normal(1.05, 0.05), 0.94, 1.2)),
        turn=float(rng.normal(0, 3.0)),
        background=BACKGROUNDS[int(rng.integers(len(BACKGROUNDS)))].name,
        hue=float(rng.uniform(0, 180)),
        light=float(rng.uniform(0.15, 0.95)),
        blur=float(rng.uniform(1.5, 7)),
        detail=int(rng.integers(2**31)),
        seam=float(rng.uniform(0.05, 0.16)),
        cut_out=bool(rng.random() < 0.6),
        roundness=float(rng.uniform(0.62, 0.78)),
    )


def shrunk(image: np.ndarray, box: Box) -> tuple[np.ndarray, float]:
    """Scale an image down to what compositions need; return it and the factor (1: unchanged)."""
    factor = min(1.0, SAMPLES_PER_PIXEL * FACE_WIDTHS[1] * WIDTH / (box[2] - box[0]))
    if factor > 0.8:
        return image, 1.0
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), factor


def compose(image: np.ndarray, landmarks: Points, box: Box, composition: Composition) -> tuple[np.ndarray, Points]:
    """Place a face's image (H, W, 3) uint8 RGB into a portrait (512, 384, 3), and its landmarks (N, 2) with it.

    `box` is the face box x1, y1, x2, y2 in pixels of the image. Equal arguments give equal pixels.
    """
    place = placement(box, composition)
    scene = cv2.warpAffine(image, place, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    kept = _kept(image.shape[:2], box, composition, place)
    if kept.min() < 1:
        rng = np.random.default_rng(composition.detail)
        backdrop = Scene(image, place, composition.hue, composition.light, composition.blur, rng)
        behind = paint_background(_background(image.shape[:2], box, composition), backdrop, np.reshape(box, (2, 2)))
        behind = cv2.resize(behind, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
        kept = cv2.resize(kept, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
        scene = cv2.blendLinear(scene, behind, kept, 1 - kept)
    return scene, carry_points(place, landmarks).astype(np.float32)


def _is_tight(size: tuple[int, int], box: Box) -> bool:
    """Return True for an image (height, width) that ends at the head."""
    beside = min(box[0], size[1] - box[2])
    return box[1] < ROOM_ABOVE * (box[3] - box[1]) or beside < ROOM_BESIDE * (box[2] - box[0])


def _background(size: tuple[int, int], box: Box, composition: Composition) -> str:
    """Return the background's name; photos with room around the head keep their own instead of a foreign one."""
    foreign = background_named(composition.background).foreign
    return "reflected" if foreign and not _is_tight(size, box) else composition.background


def placement(box: Box, composition: Composition) -> np.ndarray:
    """Return the affine map (2, 3) float64 from pixels of the image to pixels of the portrait."""
    across = composition.face_width * WIDTH / (box[2] - box[0])
    turn = math.radians(composition.turn)
    turned = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    linear = turned @ np.diag([across, across * composition.stretch])
    middle = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
    return np.column_stack([linear, np.array([composition.x * WIDTH, composition.y * HEIGHT]) - linear @ middle])


def _kept(size: tuple[int, int], box: Box, composition: Composition, place: np.ndarray) -> np.ndarray:
    """Return the opacity of the image over the portrait, (128, 96) float32: 0 where the image has ended."""
    x, y = original_places(place)
    face, tall = box[2] - box[0], box[3] - box[1]
    fade = composition.seam * face
    beside = np.minimum(x, size[1] - 1 - x)
    above, below = y, size[0] - 1 - y
    if _is_tight(size, box) and (composition.cut_out or background_named(composition.background).foreign):
        across = (x - (box[0] + box[2]) / 2) / (composition.roundness * face)
        down = (y - (box[1] + box[3]) / 2) / ((0.5 + CROWN) * tall)
        # Where the image ends at the head, its mirror image fills in the top and the sides.
        above, beside = above + CROWN * tall + fade, beside + CHEEK * face
        beside = np.minimum(beside, (1 - np.hypot(across, down)) * composition.roundness * face + fade / 2)
    inside = np.clip(np.minimum(np.minimum(above, below), beside) / fade, 0, 1).astype(np.float32)
    return inside * inside * (3 - 2 * inside)
