"""Decoding with Pillow of what OpenCV reads wrongly or not at all: colour profiles, transparency, further formats."""

import struct
import warnings
from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms, ImageOps

from core.image_formats import CUT_SHORT, Undecodable

# The size is checked by the caller, with a limit that the user may raise.
Image.MAX_IMAGE_PIXELS = None
warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
_ERRORS = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError, struct.error)
"""Errors that Pillow raises for damaged files."""
_HINTS = {
    "HEIC": "format HEIC is read with a package that is not installed: pip install pillow-heif",
    "AVIF": "format AVIF is not read by this Pillow: pip install --upgrade pillow",
}
_PILLOW_NAMES = {"JPEG": ("JPEG", "MPO"), "HEIC": ("HEIF",)}
_SUBFILE, _REDUCED = 254, 1
"""The tag by which a TIFF marks an image as a reduced copy: the first one of most camera raw files."""
_LEVELS = 3
"""A profile that moves no colour by more counts as sRGB: its authors rounded differently."""
_END, _OTHER_END = b"\xff\xd9", b"\xb5\x4a\x93\x6d" * 1024 + b"\xff\xd9"


def open_image(name: str, data: bytes) -> Image.Image:
    """Read the header of a file of the format `name`. Raises Undecodable, with a hint if a package is missing."""
    if name == "HEIC":
        _register_heif()
    try:
        image = Image.open(BytesIO(data), formats=_PILLOW_NAMES.get(name, (name.upper(),)))
    except Image.UnidentifiedImageError:
        Image.init()
        known = name.upper() in Image.OPEN or name == "HEIC"
        raise Undecodable(damaged(name) if known else _HINTS.get(name, damaged(name))) from None
    except _ERRORS:
        raise Undecodable(damaged(name)) from None
    if name == "TIFF" and image.tag_v2.get(_SUBFILE) == _REDUCED:
        raise Undecodable("a camera raw file; convert it to JPEG or PNG")
    return image


def damaged(name: str) -> str:
    return f"{name} that is damaged, cut short or of a rare kind"


def _register_heif() -> None:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise Undecodable(_HINTS["HEIC"]) from None
    register_heif_opener(thumbnails=False)


def to_rgb(name: str, image: Image.Image, *, keep: bool = False) -> np.ndarray:
    """Decode the first image of a file as (H, W, 3) uint8 sRGB, upright, with white behind what is transparent.

    The picture itself is turned, unless it is to `keep` as it is.
    """
    try:
        # Not before the pixels: some formats are turned while they are loaded.
        image.load()
        image = ImageOps.exif_transpose(image, in_place=not keep) or image
        image = _flat(image)
        transform = _transform(image.info.get("icc_profile"), image.mode)
        return np.array(transform.apply(image) if transform else image.convert("RGB"))
    except _ERRORS:
        raise Undecodable(damaged(name)) from None


def _flat(image: Image.Image) -> Image.Image:
    """Return the image with 8 bits a channel and without transparency, as L, RGB or CMYK."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise Undecodable("numbers of 32 bits a pixel, whose white is unknown; convert it to JPEG or PNG")
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image)
        image = white
    elif image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    image.info["icc_profile"] = profile
    return image


def has_other_colours(image: Image.Image) -> bool:
    """Return whether the image has a colour profile that is not sRGB's and can be applied."""
    return _transform(image.info.get("icc_profile"), image.mode) is not None


@lru_cache(maxsize=8)
def _transform(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the transform of a mode's colours to sRGB; None if it changes nothing, or the profile does not fit."""
    if not profile:
        return None
    try:
        source, target = ImageCms.ImageCmsProfile(BytesIO(profile)), ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(source, target, mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    levels = np.linspace(0, 255, 16).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(64, 64, 3)
    colours = Image.fromarray(grid if mode == "RGB" else np.arange(256, dtype=np.uint8)[None])
    if mode == "CMYK":
        return transform
    moved = np.asarray(transform.apply(colours)).astype(int) - np.asarray(colours.convert("RGB"))
    return transform if np.abs(moved).max() > _LEVELS else None


def with_end(data: bytes) -> bytes:
    """Return a JPEG that lacks its end marker with the marker. Raises Undecodable if some of its image lacks too.

    Decoders go on with what follows: the image is all there if it is the same whatever follows.
    """
    whole = data.rstrip(b"\0")
    if whole.endswith(b"\xff"):
        whole = whole[:-1] if whole == data else whole + b"\0"
    first, second = (_stored(whole + end) for end in (_END, _OTHER_END))
    if not np.array_equal(first, second):
        raise Undecodable(CUT_SHORT)
    return whole + _END


def _stored(data: bytes) -> np.ndarray:
    try:
        return np.asarray(open_image("JPEG", data))
    except _ERRORS:
        raise Undecodable(CUT_SHORT) from None
