"""Contact sheets: a picture of many photos side by side, one for each kind of mask, each wrong way, and bare faces."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from core.images import read_photo, write_photo

ACROSS, DOWN = 8, 4
CELL = (144, 192)


def write_sheets(root: Path, manifest: pd.DataFrame, folder: Path) -> list[str]:
    """One sheet for each value of `sheet_names`, into `folder`; returns their names."""
    names = sheet_names(manifest)
    for name in sorted(set(names)):
        paths = manifest["path"][names == name].tolist()
        some = np.linspace(0, len(paths) - 1, min(len(paths), ACROSS * DOWN)).round().astype(int)
        write_photo(folder / f"{name}.jpg", contact_sheet([root / paths[place] for place in some]), quality=85)
    return sorted(set(names))


def sheet_names(manifest: pd.DataFrame) -> pd.Series:
    """The sheet each photo belongs on: bare, wrong_<way>, or kind_<kind>."""
    worn = manifest["mask_wear"].eq("worn")
    name = ("kind_" + manifest["mask_kind"]).where(worn, "wrong_" + manifest["mask_wear"])
    return name.where(manifest["mask_kind"].ne(""), "bare")


def contact_sheet(paths: Sequence[Path]) -> np.ndarray:
    """Up to 32 photos, eight to a row, as one picture (H, W, 3) uint8."""
    cells = [cv2.resize(read_photo(path), CELL, interpolation=cv2.INTER_AREA) for path in paths]
    across = min(ACROSS, len(cells))
    blank = np.full((CELL[1], CELL[0], 3), 255, np.uint8)
    cells += [blank] * (-len(cells) % across)
    return np.vstack([np.hstack(cells[start : start + across]) for start in range(0, len(cells), across)])
