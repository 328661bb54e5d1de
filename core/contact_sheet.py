"""Contact sheets: many images side by side, with captions or without."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from core.cli import positive_int
from core.images import WRITTEN, read_photo

ACROSS = 8
CELL_WIDTH, CELL_HEIGHT = 192, 224
GRID_WIDTH, GRID_HEIGHT = 144, 192
"""Of a cell of `photo_grid`, in pixels."""
LINE_HEIGHT, LETTER_WIDTH, MARGIN = 16, 7, 5
"""In pixels; capitals and digits of the font are about LETTER_WIDTH wide."""
FONT, FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.38
GROUND, INK, WRONG = (250, 250, 248), (40, 40, 40), (190, 20, 20)
LETTERS = (CELL_WIDTH - 2 * MARGIN) // LETTER_WIDTH


@dataclass(frozen=True)
class Cell:
    """An image (H, W, 3) uint8 RGB of any size, the lines below it, and the numbers, from 0, of lines in red."""

    image: np.ndarray
    lines: tuple[str, ...]
    in_red: tuple[int, ...] = ()


def contact_sheet(cells: Sequence[Cell], across: int = ACROSS) -> np.ndarray:
    """Return the cells row by row as one image (H, W, 3) uint8 RGB. ValueError for no cell at all."""
    if not cells:
        raise ValueError("a contact sheet needs at least one image")
    line_count = max(len(cell.lines) for cell in cells)
    return _in_rows([_drawn(cell, line_count) for cell in cells], across, GROUND)


def photo_grid(paths: Sequence[Path], across: int = ACROSS) -> np.ndarray:
    """Return photos row by row, all stretched to one size, as one image (H, W, 3) uint8 RGB."""
    size = GRID_WIDTH, GRID_HEIGHT
    return _in_rows([cv2.resize(read_photo(path), size, interpolation=cv2.INTER_AREA) for path in paths], across, 255)


def _in_rows(images: Sequence[np.ndarray], across: int, ground: int | tuple[int, int, int]) -> np.ndarray:
    """Return images of one size, `across` to a row, with the rest of the last row in the colour `ground`."""
    across = min(across, len(images))
    images = [*images, *[np.full_like(images[0], ground)] * (-len(images) % across)]
    return np.vstack([np.hstack(images[start : start + across]) for start in range(0, len(images), across)])


def add_sheet_flags(parser: argparse.ArgumentParser, out: str) -> None:
    """Add --count and --out, whose default is `out`, to a command that writes a contact sheet."""
    parser.add_argument("--count", type=positive_int, default=32, help="crops at most")
    parser.add_argument("--out", type=_image_path, metavar="FILE", default=Path(out), help="image to write")


def _image_path(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in WRITTEN:
        raise argparse.ArgumentTypeError(f"{text}: allowed endings are {', '.join(WRITTEN)}")
    return path


def fitted(text: str) -> str:
    """Return the text as a line can hold it: ASCII alone, as the font has, and a long name without its middle."""
    plain = text.encode("ascii", "replace").decode()
    if len(plain) <= LETTERS:
        return plain
    half = (LETTERS - 2) // 2
    return f"{plain[:half]}..{plain[-half:]}"


def _drawn(cell: Cell, line_count: int) -> np.ndarray:
    height = CELL_HEIGHT + line_count * LINE_HEIGHT + 2 * MARGIN
    canvas = np.full((height, CELL_WIDTH, 3), GROUND, np.uint8)
    image = _scaled(cell.image)
    top, left = (CELL_HEIGHT - image.shape[0]) // 2, (CELL_WIDTH - image.shape[1]) // 2
    canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    for number, line in enumerate(cell.lines):
        at = MARGIN, CELL_HEIGHT + (number + 1) * LINE_HEIGHT
        colour = WRONG if number in cell.in_red else INK
        cv2.putText(canvas, fitted(line), at, FONT, FONT_SCALE, colour, 1, cv2.LINE_AA)
    return canvas


def _scaled(image: np.ndarray) -> np.ndarray:
    """Return the image as large as the cell allows, with a little space to the neighbours."""
    height, width = image.shape[:2]
    scale = min((CELL_HEIGHT - 4) / height, (CELL_WIDTH - 4) / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
