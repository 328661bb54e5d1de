"""A contact sheet with captions: many pictures side by side, what they are written below each."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from core.cli import positive_int
from core.images import EXTENSIONS

ACROSS = 8
CELL_WIDTH, CELL_HEIGHT = 192, 224
LINE_HEIGHT, LETTER_WIDTH, MARGIN = 16, 7, 5
"""In pixels; capitals and digits of the font are about LETTER_WIDTH wide."""
FONT, FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.38
GROUND, INK, WRONG = (250, 250, 248), (40, 40, 40), (190, 20, 20)
LETTERS = (CELL_WIDTH - 2 * MARGIN) // LETTER_WIDTH


@dataclass(frozen=True)
class Cell:
    """A picture (H, W, 3) uint8 RGB of any size, and the lines below it; those of these numbers, from 0, in red."""

    picture: np.ndarray
    lines: tuple[str, ...]
    in_red: tuple[int, ...] = ()


def contact_sheet(cells: Sequence[Cell], across: int = ACROSS) -> np.ndarray:
    """The cells row by row as one picture (H, W, 3) uint8 RGB. ValueError for no cell at all."""
    if not cells:
        raise ValueError("a contact sheet needs at least one picture")
    across = min(across, len(cells))
    line_count = max(len(cell.lines) for cell in cells)
    drawn = [_drawn(cell, line_count) for cell in cells]
    drawn += [np.full_like(drawn[0], GROUND)] * (-len(cells) % across)
    return np.vstack([np.hstack(drawn[start : start + across]) for start in range(0, len(drawn), across)])


def add_sheet_flags(parser: argparse.ArgumentParser, out: str) -> None:
    """Add --count and --out, whose default is `out`, to a command that writes a contact sheet."""
    parser.add_argument("--count", type=positive_int, default=32, help="crops at most")
    parser.add_argument("--out", type=_image_path, metavar="FILE", default=Path(out), help="image to write")


def _image_path(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in EXTENSIONS:
        raise argparse.ArgumentTypeError(f"{text}: allowed endings are {', '.join(EXTENSIONS)}")
    return path


def fitted(text: str) -> str:
    """What a line can hold: the font has ASCII alone, and a long name loses its middle."""
    plain = text.encode("ascii", "replace").decode()
    if len(plain) <= LETTERS:
        return plain
    half = (LETTERS - 2) // 2
    return f"{plain[:half]}..{plain[-half:]}"


def _drawn(cell: Cell, line_count: int) -> np.ndarray:
    height = CELL_HEIGHT + line_count * LINE_HEIGHT + 2 * MARGIN
    canvas = np.full((height, CELL_WIDTH, 3), GROUND, np.uint8)
    picture = _scaled(cell.picture)
    top, left = (CELL_HEIGHT - picture.shape[0]) // 2, (CELL_WIDTH - picture.shape[1]) // 2
    canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    for number, line in enumerate(cell.lines):
        at = MARGIN, CELL_HEIGHT + (number + 1) * LINE_HEIGHT
        colour = WRONG if number in cell.in_red else INK
        cv2.putText(canvas, fitted(line), at, FONT, FONT_SCALE, colour, 1, cv2.LINE_AA)
    return canvas


def _scaled(picture: np.ndarray) -> np.ndarray:
    """As large as the cell allows, with a little space to the neighbours."""
    height, width = picture.shape[:2]
    scale = min((CELL_HEIGHT - 4) / height, (CELL_WIDTH - 4) / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
