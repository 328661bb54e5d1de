"""The one place where pictures are read and written, so that every step sees the same pixels."""

from pathlib import Path

import cv2
import numpy as np

from core.artifacts import replacing

EXTENSIONS = (".jpg", ".jpeg", ".png")
_PNG_END = b"IEND\xaeB`\x82"


class UnreadablePhoto(Exception):
    """A picture that cannot be decoded; `path` and `reason` say which and why."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


def is_photo_name(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(EXTENSIONS)


def read_photo(path: Path) -> np.ndarray:
    """Pixels of a picture, (H, W, 3) uint8 RGB, upright as its EXIF orientation says.

    Grey, palette, alpha, CMYK and 16-bit files come out as 8-bit RGB too. Raises UnreadablePhoto.
    """
    try:
        # imdecode, not imread: names that are not ASCII fail in imread on some systems.
        encoded = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise UnreadablePhoto(path, error.strerror or str(error)) from error
    if encoded.size == 0:
        raise UnreadablePhoto(path, "empty file")
    try:
        # IMREAD_COLOR is the flag under which OpenCV applies the EXIF orientation.
        bgr = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise UnreadablePhoto(path, f"cannot be decoded ({error.err})") from error
    if bgr is None:
        raise UnreadablePhoto(path, "not a picture that can be decoded")
    if _cut_short(encoded.tobytes()):
        raise UnreadablePhoto(path, "the file is cut short")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def write_photo(path: Path, rgb: np.ndarray, quality: int = 95) -> None:
    """Write (H, W, 3) uint8 RGB in the format of the suffix; `quality` (0 to 100) is for JPEG."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if path.suffix.lower() in (".jpg", ".jpeg") else []
    encoded = cv2.imencode(path.suffix.lower(), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)[1]
    with replacing(path) as aside:
        encoded.tofile(aside)


def fingerprint(path: Path) -> str:
    """Size and modification time: changes whenever a photo is replaced, and costs no reading."""
    status = path.stat()
    return f"{status.st_size}-{status.st_mtime_ns}"


def _cut_short(data: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end: OpenCV decodes such a file and fills the rest with grey."""
    if data.startswith(b"\x89PNG"):
        return _PNG_END not in data
    if not data.startswith(b"\xff\xd8"):
        return False
    return data.find(b"\xff\xd9", _jpeg_scan_start(data)) < 0


def _jpeg_scan_start(data: bytes) -> int:
    """Offset of the first scan. Walks the segments, because an EXIF thumbnail has an end marker of its own."""
    position = 2
    while position + 4 <= len(data) and data[position + 1] != 0xDA:
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return position
