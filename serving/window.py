"""A window that shows frames while they are predicted."""

import os
import sys

import cv2
import numpy as np

from core.cli import UserError

WINDOW = "Ctrl-C or q to stop"


def has_screen() -> bool:
    """Return whether a window can be opened. Asked first: OpenCV's Qt ends the process where there is no screen."""
    drawn_elsewhere = os.name == "nt" or sys.platform == "darwin"
    return drawn_elsewhere or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def shown(picture: np.ndarray) -> bool:
    """Show (H, W, 3) uint8 RGB; return False once q is pressed. UserError if no window can be opened."""
    if not has_screen():
        raise UserError("--show: no window can be opened here (there is no screen); leave it out")
    try:
        cv2.namedWindow(WINDOW, cv2.WINDOW_NORMAL)
        cv2.imshow(WINDOW, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        return cv2.waitKey(1) != ord("q")
    except cv2.error as error:
        raise UserError(f"--show: no window can be opened here ({error.err}); leave it out") from None
