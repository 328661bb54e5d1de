"""The sign of an entrance: a large band below the picture that asks for a mask, or to cover nose and chin, or thanks.

Colour, symbol and words say the same, so that no one of them is needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from core.boxes import Box
from core.cli import UserError

UNSURE, NOBODY = "unsure", "nobody"
KOREAN_FONTS = (
    *("malgunbd.ttf", "malgun.ttf", "AppleSDGothicNeo.ttc", "NanumGothicBold.ttf", "NanumGothic.ttf"),
    *("NotoSansCJK-Bold.ttc", "NotoSansCJK-Regular.ttc", "NotoSansKR-Bold.otf", "UnDotumBold.ttf", "UnDotum.ttf"),
)
"""Fonts with Korean letters that Windows, macOS and Linux have."""
HEIGHT = 0.4
"""Of the band, as a fraction of the height of the picture."""
WHITE = (255, 255, 255)
Points = tuple[tuple[float, float], ...]
_CHECK: tuple[Points, ...] = (((0.1, 0.55), (0.4, 0.85), (0.9, 0.15)),)
_CROSS: tuple[Points, ...] = (((0.15, 0.15), (0.85, 0.85)), ((0.85, 0.15), (0.15, 0.85)))
_EXCLAMATION: tuple[Points, ...] = (((0.5, 0.1), (0.5, 0.6)), ((0.5, 0.78), (0.5, 0.94)))


@dataclass(frozen=True)
class Sign:
    """English and Korean words, the colour of the band (RGB), and the lines of a symbol in a unit square."""

    words: tuple[str, str]
    colour: tuple[int, int, int]
    symbol: tuple[Points, ...] = ()


LOOK = Sign(("Look here, please", "카메라를 봐 주세요"), (70, 70, 70))
SIGNS = {
    "not_wear": Sign(("Mask, please", "마스크를 써 주세요"), (190, 30, 45), _CROSS),
    "incorrect": Sign(("Cover nose and chin", "코와 턱을 가려 주세요"), (176, 96, 0), _EXCLAMATION),
    UNSURE: LOOK,
    "wear": Sign(("Thank you", "감사합니다"), (0, 122, 62), _CHECK),
    NOBODY: LOOK,
}
"""The sign of each state, by what is to be done first: of several faces, the first of their states shows."""


def words_of(state: str, language: str) -> tuple[str, ...]:
    """Return the lines of a sign; `language` is one of core.languages.CHOICES."""
    english, korean = SIGNS[state].words
    return {"en": (english,), "ko": (korean,)}.get(language, (korean, english))


def require_font(language: str) -> None:
    """UserError if the language needs a font that this computer lacks."""
    for line in words_of(NOBODY, language):
        _font(line, 20)


def with_sign(rgb: np.ndarray, boxes: Sequence[Box], state: str, language: str) -> np.ndarray:
    """Return the picture (H, W, 3) uint8 with boxes in the colour of the sign, and the sign below it."""
    picture = rgb.copy()
    for box in boxes:
        first, last = (round(box.x1), round(box.y1)), (round(box.x2), round(box.y2))
        cv2.rectangle(picture, first, last, SIGNS[state].colour, max(2, rgb.shape[1] // 160), cv2.LINE_AA)
    return np.concatenate([picture, _band(state, language, rgb.shape[1], round(rgb.shape[0] * HEIGHT))])


@lru_cache(maxsize=8)
def _band(state: str, language: str, width: int, height: int) -> np.ndarray:
    """Return the sign alone, (height, width, 3) uint8."""
    sign, lines = SIGNS[state], words_of(state, language)
    image = Image.new("RGB", (width, height), sign.colour)
    draw = ImageDraw.Draw(image)
    side = round(height * 0.6) if sign.symbol else 0
    gap = height // 7
    for points in sign.symbol:
        corners = [(gap + x * side, (height - side) / 2 + y * side) for x, y in points]
        draw.line(corners, WHITE, width=max(2, side // 6), joint="curve")
    left = gap + (side + gap if side else 0)
    step = height / len(lines)
    for number, line in enumerate(lines):
        font = _fitting(line, width - left - gap, round(step * 0.65))
        draw.text((left, step * (number + 0.5)), line, WHITE, font=font, anchor="lm")
    return np.asarray(image)


def _fitting(line: str, width: int, height: int) -> ImageFont.FreeTypeFont:
    """Return the font in the largest size at which a line fits."""
    size = max(8, height)
    while size > 8 and _font(line, size).getlength(line) > width:
        size -= 1
    return _font(line, size)


@lru_cache(maxsize=64)
def _font(line: str, size: int) -> ImageFont.FreeTypeFont:
    if line.isascii():
        return ImageFont.load_default(size)
    for name in KOREAN_FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    raise UserError("--sign: no font with Korean letters on this computer; install one (fonts-nanum), or --sign en")
