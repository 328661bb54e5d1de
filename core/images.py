"""Reading and writing of images, in one place, so that every step sees the same pixels.

A photo may come from anywhere, so its header is read before it is decoded: a file of a few bytes that claims to hold
gigabytes is refused without allocating the memory.
"""

import base64
import stat
from pathlib import Path

from core.environment import max_pixels

import cv2
import numpy as np

from core.files import replacing
from core.image_formats import EXTENSIONS, Undecodable, read_format, read_jpeg_header, read_png_header
from core.pillow_reader import damaged, has_other_colours, open_image, to_rgb, with_end

WRITTEN = (".jpg", ".jpeg", ".png")
"""Endings of the images that are written."""
BYTES_OF_A_PIXEL = 4
"""Of the largest file that is read, by the pixels that are allowed."""
_HEADERS = {"JPEG": read_jpeg_header, "PNG": read_png_header}


class UnreadablePhoto(Exception):
    """Error for a photo that cannot be decoded, with its `path` and the `reason`."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


def is_photo_name(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(EXTENSIONS)


def read_photo(path: Path) -> np.ndarray:
    """Read a photo as (H, W, 3) uint8 sRGB, upright after its EXIF orientation. Raises UnreadablePhoto.

    The format is told by content, not by ending: the first image of a file in a format of image_formats.READ.
    """
    data = _read_bytes(path)
    try:
        return decode_photo(data)
    except Undecodable as error:
        raise UnreadablePhoto(path, str(error)) from None


def decode_photo(data: bytes) -> np.ndarray:
    """Return the bytes of a photo's file as `read_photo` does. Raises Undecodable, whose text is the reason."""
    name = read_format(data)
    if name in _HEADERS:
        header = _HEADERS[name](data)
        _refuse_large(header.width, header.height)
        data = data if header.ended else with_end(data)
        if header.plain:
            return _decode_plain(name, data)
    image = open_image(name, data)
    _refuse_large(*image.size)
    if name == "JPEG" and not has_other_colours(image):
        return _decode_plain(name, data)
    return to_rgb(name, image)


def _decode_plain(name: str, data: bytes) -> np.ndarray:
    """Decode a JPEG or PNG without transparency or a colour profile that matters."""
    try:
        # imdecode, not imread: names that are not ASCII fail in imread on some systems. IMREAD_COLOR_RGB is a flag
        # under which OpenCV applies the EXIF orientation.
        rgb = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise Undecodable(f"cannot be decoded ({error.err})") from error
    if rgb is None:
        raise Undecodable(damaged(name))
    return rgb


def _refuse_large(width: int, height: int) -> None:
    if width * height > max_pixels():
        raise Undecodable(f"{width} x {height} pixels, more than {allowed_pixels()}")


def allowed_pixels() -> str:
    """Return the largest number of pixels in words, and how to raise it."""
    return f"the {max_pixels() / 1e6:g} million allowed; --max-pixels allows more"


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
        if status.st_size > (most := BYTES_OF_A_PIXEL * max_pixels()):
            raise UnreadablePhoto(path, f"larger than {most / 1e6:.0f} MB; --max-pixels allows more")
        data = path.read_bytes()
    except OSError as error:
        raise UnreadablePhoto(path, error.strerror or str(error)) from error
    if not data:
        raise UnreadablePhoto(path, "empty file")
    return data
