"""Reading and writing of images, in one place, so that every step sees the same pixels.

A photo may come from anywhere, so its header is read before it is decoded: a file of a few bytes that claims to hold
gigabytes is refused without allocating the memory.
"""

import base64
import re
import stat
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np

from core.files import replacing

EXTENSIONS = (".jpg", ".jpeg", ".png")
MAX_PIXELS = 100_000_000
"""Largest photo that is decoded: 300 MB of pixels in each process that works on photos."""
MAX_BYTES = 1 << 28
NO_PICTURE = "not a picture that can be decoded"


class UnreadablePhoto(Exception):
    """Error for a photo that cannot be decoded, with its `path` and the `reason`."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


def is_photo_name(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(EXTENSIONS)


def read_photo(path: Path) -> np.ndarray:
    """Read a photo as (H, W, 3) uint8 RGB, upright after its EXIF orientation.

    The format is told by content, not by ending: JPEG, PNG, and the first image of a WebP or GIF. Grey, palette, alpha,
    CMYK and 16-bit files become 8-bit RGB too. Raises UnreadablePhoto.
    """
    data = _read_bytes(path)
    _refuse_header(path, data)
    try:
        # imdecode, not imread: names that are not ASCII fail in imread on some systems. IMREAD_COLOR is the flag under
        # which OpenCV applies the EXIF orientation.
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise UnreadablePhoto(path, f"cannot be decoded ({error.err})") from error
    if bgr is None:
        raise UnreadablePhoto(path, NO_PICTURE)
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def write_photo(path: Path, rgb: np.ndarray, quality: int = 95) -> None:
    """Write (H, W, 3) uint8 RGB in the format of the suffix; `quality` (0 to 100) is for JPEG."""
    encoded = _encoded(path.suffix.lower(), rgb, quality)
    with replacing(path) as aside:
        encoded.tofile(aside)


def jpeg(rgb: np.ndarray, quality: int = 95) -> bytes:
    """Return (H, W, 3) uint8 RGB as the bytes of a JPEG."""
    return _encoded(".jpg", rgb, quality).tobytes()


def data_uri(rgb: np.ndarray, quality: int = 95) -> str:
    """Return the image as a data: URI for a page, so that it needs no file."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg(rgb, quality)).decode('ascii')}"


def _encoded(suffix: str, rgb: np.ndarray, quality: int) -> np.ndarray:
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix in (".jpg", ".jpeg") else []
    return cv2.imencode(suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)[1]


def fingerprint(path: Path) -> str:
    """Return size and modification time as text: changes when a photo is replaced, and reads none of it."""
    status = path.stat()
    return f"{status.st_size}-{status.st_mtime_ns}"


def _read_bytes(path: Path) -> bytes:
    try:
        status = path.stat()
        # A pipe or a device would be waited for, or read, for ever.
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise UnreadablePhoto(path, "a pipe or a device, not a file")
        if status.st_size > MAX_BYTES:
            raise UnreadablePhoto(path, f"larger than {MAX_BYTES >> 20} MB")
        data = path.read_bytes()
    except OSError as error:
        raise UnreadablePhoto(path, error.strerror or str(error)) from error
    if not data:
        raise UnreadablePhoto(path, "empty file")
    return data


_JPEG_SCAN, _JPEG_END, _JPEG_FILLING = 0xFFDA, 0xFFD9, (0xFF00, 0xFFFF)
_JPEG_FRAMES = frozenset(range(0xFFC0, 0xFFD0)) - {0xFFC4, 0xFFC8, 0xFFCC}
"""Markers of frame headers, for every coding. Three numbers in their range mean other segments."""


class _CutShort(Exception):
    """Error for a file that ends before its image does. OpenCV would fill the rest with grey."""


def _refuse_header(path: Path, data: bytes) -> None:
    """UnreadablePhoto for a file that is no picture, lacks its end, or claims to be too large."""
    kind = format_of(data)
    if kind not in _MEASURES:
        reason = f"format {kind} is not read; convert it to JPEG or PNG" if kind else NO_PICTURE
        raise UnreadablePhoto(path, reason)
    try:
        width, height = _MEASURES[kind](data)
    except (_CutShort, struct.error):
        raise UnreadablePhoto(path, "the file is cut short") from None
    if width * height > MAX_PIXELS:
        raise UnreadablePhoto(path, f"{width} x {height} pixels, more than the {MAX_PIXELS // 10**6} million allowed")


def _measure_jpeg(data: bytes) -> tuple[int, int]:
    """Return (width, height) from the segments up to the first scan: an EXIF thumbnail has its own sizes and end."""
    position, size = 2, (0, 0)
    while True:
        position = data.find(b"\xff", position)
        (marker,) = struct.unpack_from(">H", data, position)
        if marker in (_JPEG_SCAN, _JPEG_END):
            break
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, position + 5)
            size = width, height
        position += 1 if marker in _JPEG_FILLING else 2 + struct.unpack_from(">H", data, position + 2)[0]
    if data.find(b"\xff\xd9", position) < 0:
        raise _CutShort
    return size


def _measure_png(data: bytes) -> tuple[int, int]:
    """Return (width, height) after a walk over all chunks: OpenCV would allocate what a chunk claims, there or not."""
    position, kind = 8, b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, position)
        position += 12 + length
        if position > len(data):
            raise _CutShort
    return struct.unpack_from(">II", data, 16)


def _measure_webp(data: bytes) -> tuple[int, int]:
    if len(data) < 8 + struct.unpack_from("<I", data, 4)[0]:
        raise _CutShort
    kind = data[8:16]
    if kind == b"WEBPVP8X":
        width, height = (int.from_bytes(data[place : place + 3], "little") + 1 for place in (24, 27))
    elif kind == b"WEBPVP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    return width, height


def _measure_gif(data: bytes) -> tuple[int, int]:
    if not data.rstrip(b"\0").endswith(b";"):
        raise _CutShort
    return struct.unpack_from("<HH", data, 6)


_MEASURES: Mapping[str, Callable[[bytes], tuple[int, int]]] = {
    "JPEG": _measure_jpeg,
    "PNG": _measure_png,
    "WebP": _measure_webp,
    "GIF": _measure_gif,
}
"""Formats that are read, and the function that returns width and height. It raises _CutShort or struct.error."""
_FORMATS = (
    ("JPEG", re.compile(rb"\xff\xd8\xff")),
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("WebP", re.compile(rb"RIFF....WEBP", re.DOTALL)),
    ("GIF", re.compile(rb"GIF8")),
    ("BMP", re.compile(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL)),
    ("TIFF", re.compile(rb"II[*+]\0|MM\0[*+]")),
    ("AVIF", re.compile(rb"....ftypavi[fs]", re.DOTALL)),
    ("HEIC", re.compile(rb"....ftyp(hei[cxms]|hev[cxms]|mif1|msf1)", re.DOTALL)),
    ("JPEG XL", re.compile(rb"\xff\x0a|\0\0\0\x0cJXL ")),
    ("JPEG 2000", re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51")),
    ("PSD", re.compile(rb"8BPS\0")),
)
"""Names of image formats, those that are not read too, and how their files begin."""


def format_of(data: bytes) -> str | None:
    """Return the name of the image format by the first bytes of a file; None for what is no image."""
    return next((name for name, signature in _FORMATS if signature.match(data)), None)
