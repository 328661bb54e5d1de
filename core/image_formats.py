"""Formats of image files, told by their first bytes, and the headers of JPEG and PNG."""

import re
import struct
from dataclasses import dataclass

EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif"),
    *(".heic", ".heif"),
)
"""Endings of the formats that are read, in lower case."""
READ = ("JPEG", "PNG", "WebP", "BMP", "TIFF", "GIF", "AVIF", "HEIC")
_FORMATS = (
    ("JPEG", rb"\xff\xd8\xff"),
    ("PNG", rb"\x89PNG\r\n\x1a\n"),
    ("WebP", rb"RIFF....WEBP"),
    ("GIF", rb"GIF8"),
    ("BMP", rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0"),
    ("camera raw", rb"II\*\0....CR|II(RO|RS|U\0)|FUJIFILMCCD-RAW|....ftypcrx "),
    ("TIFF", rb"II[*+]\0|MM\0[*+]"),
    # The first brand may be a general one: the compatible brands that follow tell which of the two it is.
    ("AVIF", rb"....ftyp(avi[fs]|(mif1|msf1)....(....){0,8}?avi[fs])"),
    ("HEIC", rb"....ftyp(hei[cxms]|hev[cxms]|mif1|msf1)"),
    ("JPEG XL", rb"\xff\x0a|\0\0\0\x0cJXL "),
    ("JPEG 2000", rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"),
    ("PSD", rb"8BPS\0"),
    ("ICO", rb"\0\0\x01\0[\x01-\x20]\0"),
    ("SVG", rb"(?i:\s*(<\?xml[^>]*>\s*)?(<!--.{0,200}?-->\s*)?(<!DOCTYPE svg[^>]*>\s*)?<svg[\s>])"),
    ("OpenEXR", rb"\x76\x2f\x31\x01"),
    ("PNM", rb"P[1-6]\s+(#|\d+\s+\d+\s)"),
)
"""Names of image formats, those that are not read too, and how their files begin."""
_OTHERS = (
    ("PDF", rb"%PDF-"),
    ("video", rb"....ftyp|RIFF....AVI |\x1aE\xdf\xa3|FLV\x01|0&\xb2u\x8ef\xcf\x11|\0\0\x01[\xb3\xba]"),
    ("ZIP archive", rb"PK\x03\x04"),
    ("web page", rb"(?i:\s*<(!doctype html|html|head|body)\b)"),
)
"""Other files that are met under the names of photos."""
_SIGNATURES = {name: re.compile(start, re.DOTALL) for name, start in (*_FORMATS, *_OTHERS)}


class Undecodable(Exception):
    """Error for bytes that are no image to be decoded. Its text is the reason."""


CUT_SHORT = "the file is cut short"
"""Reason of a file that ends before its image does. A decoder would fill the rest with grey."""


@dataclass(frozen=True)
class Header:
    """Size in pixels of a JPEG or PNG as stored.

    `plain`: it has no colour profile and no transparency. `ended`: a JPEG has its end marker, a PNG always.
    """

    width: int
    height: int
    plain: bool
    ended: bool = True


def format_of(data: bytes) -> str | None:
    """Return the name of the image format by the first bytes of a file; None for what is no image."""
    return next((name for name, _ in _FORMATS if _SIGNATURES[name].match(data)), None)


def read_format(data: bytes) -> str:
    """Return the name of a format in READ. Raises Undecodable, which names what else the file is."""
    name = format_of(data)
    if name in READ:
        return name
    if name:
        raise Undecodable(f"format {name} is not read; convert it to JPEG or PNG")
    other = next((name for name, _ in _OTHERS if _SIGNATURES[name].match(data)), None)
    raise Undecodable(f"a {other}, not a photo" if other else "not a picture that can be decoded")


_JPEG_SCAN, _JPEG_END, _JPEG_FILLING, _JPEG_PROFILE = 0xFFDA, 0xFFD9, (0xFF00, 0xFFFF), 0xFFE2
_JPEG_FRAMES = frozenset(range(0xFFC0, 0xFFD0)) - {0xFFC4, 0xFFC8, 0xFFCC}
"""Markers of frame headers, for every coding. Three numbers in their range mean other segments."""


def read_jpeg_header(data: bytes) -> Header:
    """Read the segments up to the first scan: an EXIF thumbnail has its own size and end. Raises Undecodable."""
    position, width, height, plain = 2, 0, 0, True
    while True:
        position = data.find(b"\xff", position)
        (marker,) = _unpack(">H", data, position)
        if marker in (_JPEG_SCAN, _JPEG_END):
            break
        if marker in _JPEG_FRAMES:
            height, width = _unpack(">HH", data, position + 5)
        plain &= marker != _JPEG_PROFILE or data[position + 4 : position + 16] != b"ICC_PROFILE\0"
        position += 1 if marker in _JPEG_FILLING else 2 + _unpack(">H", data, position + 2)[0]
    return Header(width, height, plain, ended=data.find(b"\xff\xd9", position) >= 0)


def read_png_header(data: bytes) -> Header:
    """Walk over all chunks: OpenCV would allocate what a chunk claims, there or not. Raises Undecodable."""
    position, kind, special = 8, b"", False
    while kind != b"IEND":
        length, kind = _unpack(">I4s", data, position)
        position += 12 + length
        special |= kind in (b"iCCP", b"tRNS")
        if position > len(data):
            raise Undecodable(CUT_SHORT)
    width, height, _, colour = _unpack(">IIBB", data, 16)
    return Header(width, height, plain=not special and not colour & 4)


def _unpack(form: str, data: bytes, position: int) -> tuple:
    if not 0 <= position <= len(data) - struct.calcsize(form):
        raise Undecodable(CUT_SHORT)
    return struct.unpack_from(form, data, position)
