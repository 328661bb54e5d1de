"""Photos in every format that people have: upright, 8-bit sRGB, and as a viewer shows them; or named and refused."""

import io
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms
from test_images import ORIENTATION, STORED, noise
from test_images import scene as scene_of

from core.cli import UserError, command_parser
from core.image_formats import EXTENSIONS, format_of
from core.images import UnreadablePhoto, is_photo_name, read_photo, write_photo

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "HEIF")
WITH_EXIF = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF")
WITH_PROFILE = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF")


def scene() -> np.ndarray:
    return scene_of(128, 64)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    stream = io.BytesIO()
    image.save(stream, kind, **({} if kind == "TIFF" else {"quality": 95}) | options)
    return stream.getvalue()


def read(tmp_path: Path, data: bytes, name: str = "a.jpg") -> np.ndarray:
    (tmp_path / name).write_bytes(data)
    rgb = read_photo(tmp_path / name)
    assert rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3
    return rgb


def reason(tmp_path: Path, data: bytes) -> str:
    with pytest.raises(UnreadablePhoto) as raised:
        read(tmp_path, data)
    return raised.value.reason


def off(found: np.ndarray, expected: np.ndarray) -> int:
    """Largest difference in grey levels, away from the edges between the quarters."""
    assert found.shape == expected.shape == (128, 64, 3)
    return int(np.abs(found[16::32, 8::16].astype(int) - expected[16::32, 8::16]).max())


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_under_every_name(tmp_path: Path, kind: str) -> None:
    data = encoded(Image.fromarray(scene()), kind)
    assert format_of(data).upper().replace("HEIC", "HEIF") == kind
    for name in ("a.jpg", "a.heic", "no_ending"):
        assert off(read(tmp_path, data, name), scene()) <= 9


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", WITH_EXIF)
def test_orientation_in_every_format(tmp_path: Path, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](scene())))
    assert off(read(tmp_path, encoded(stored, kind, exif=exif.tobytes())), scene()) <= 9


def profile(name: str = "swapped", order: tuple[int, int, int] = (2, 1, 0)) -> bytes:
    """The profile of a screen whose red, green and blue are sRGB's in another order. Its description says sRGB."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = {bytes(data[at : at + 4]): at for at in range(132, 132 + 12 * data[131], 12)}
    places = [tags[b"rXYZ"], tags[b"gXYZ"], tags[b"bXYZ"]]
    values = [bytes(data[at + 4 : at + 12]) for at in places]
    for at, number in zip(places, order, strict=True):
        data[at + 4 : at + 12] = values[number]
    return bytes(data)


@pytest.mark.parametrize("kind", WITH_PROFILE)
def test_colours_of_a_profile_become_srgb(tmp_path: Path, kind: str) -> None:
    stored = Image.fromarray(np.ascontiguousarray(scene()[..., ::-1]))
    assert off(read(tmp_path, encoded(stored, kind, icc_profile=profile())), scene()) <= 9


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("attached", [profile(order=(0, 1, 2)), b"no profile", b""], ids=["srgb", "broken", "none"])
def test_a_profile_that_changes_nothing_changes_no_byte(tmp_path: Path, kind: str, attached: bytes) -> None:
    data = encoded(Image.fromarray(noise()), kind, icc_profile=attached)
    plain = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.array_equal(read(tmp_path, data), plain)


def test_a_profile_and_an_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    stored = Image.fromarray(np.ascontiguousarray(STORED[6](scene())[..., ::-1]))
    data = encoded(stored, "JPEG", exif=exif.tobytes(), icc_profile=profile())
    assert off(read(tmp_path, data), scene()) <= 9


@pytest.mark.parametrize("ending", ["png", "tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_scaled(tmp_path: Path, ending: str, channels: int) -> None:
    deep = scene().astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / f"a.{ending}"), deep[..., ::-1] if channels == 3 else deep[..., 0])
    expected = scene() if channels == 3 else np.repeat(scene()[..., :1], 3, axis=2)
    assert off(read_photo(tmp_path / f"a.{ending}"), expected) <= 1


def test_floating_point_numbers_are_refused(tmp_path: Path) -> None:
    assert "32 bits" in reason(tmp_path, encoded(Image.fromarray(np.ones((8, 8), np.float32)), "TIFF"))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(tmp_path: Path, kind: str) -> None:
    """A JPEG of Adobe stores CMYK inverted, a TIFF does not."""
    assert off(read(tmp_path, encoded(Image.fromarray(scene()).convert("CMYK"), kind)), scene()) <= 12


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_white_is_behind_what_is_transparent(tmp_path: Path, kind: str) -> None:
    alpha = np.full((128, 64), 255, np.uint8)
    alpha[:64] = 0
    hidden, white = scene(), scene()
    white[:64] = 255
    assert off(read(tmp_path, encoded(Image.fromarray(np.dstack([hidden, alpha])), kind)), white) <= 9


def test_transparency_of_a_palette_and_of_a_colour(tmp_path: Path) -> None:
    rgb = Image.fromarray(scene())
    white = scene()
    white[:64, :32] = 255
    assert off(read(tmp_path, encoded(rgb, "PNG", transparency=(200, 30, 30))), white) == 0
    indexed = rgb.quantize(4)
    first = indexed.getpixel((0, 0))
    for kind in ("PNG", "GIF"):
        assert off(read(tmp_path, encoded(indexed, kind, transparency=first)), white) <= 2
    half = Image.fromarray(np.dstack([scene(), np.full((128, 64), 128, np.uint8)]))
    assert off(read(tmp_path, encoded(half, "PNG")), (scene().astype(int) + 255) // 2) <= 2


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("attached", [b"", profile()], ids=["plain", "profile"])
def test_a_jpeg_without_its_end_marker_is_read_if_the_image_is_all_there(
    tmp_path: Path, progressive: bool, attached: bytes
) -> None:
    whole = encoded(Image.fromarray(noise()), "JPEG", progressive=progressive, icc_profile=attached)
    shown = read(tmp_path, whole)
    for lacking in (whole[:-2], whole[:-1], whole[:-2] + bytes(700)):
        assert np.array_equal(read(tmp_path, lacking), shown)
    for cut in (12, 100, len(whole) // 2):
        for filling in (b"", bytes(700)):
            assert reason(tmp_path, whole[:-cut] + filling) == "the file is cut short"


@pytest.mark.parametrize("kind", FORMATS)
def test_the_size_is_checked_in_every_format(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.fromarray(scene()), kind)
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decoded"))
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    monkeypatch.setenv("MAX_PIXELS", str(128 * 64 - 1))
    monkeypatch.setattr("core.images.BYTES_OF_A_PIXEL", 1000)
    assert reason(tmp_path, data) == "64 x 128 pixels, more than the 0.008191 million allowed; --max-pixels allows more"


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "GIF", "WEBP"])
def test_bombs(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real images of a few bytes and too many pixels."""
    is_small = kind in ("BMP", "WEBP")  # a large one would take seconds to make
    side = 3000 if is_small else 12000
    monkeypatch.setenv("MAX_PIXELS", "8000000" if is_small else "")
    options = {"TIFF": {"compression": "tiff_deflate"}}.get(kind, {})
    data = encoded(Image.new("1" if kind == "TIFF" else "L", (side, side)), kind, **options)
    assert reason(tmp_path, data).startswith(f"{side} x {side} pixels, more than")


def test_large_photos_are_allowed_by_a_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photo(tmp_path / "a.png", noise())
    monkeypatch.setenv("MAX_PIXELS", "100")
    monkeypatch.setattr("core.images.BYTES_OF_A_PIXEL", 1000)
    with pytest.raises(UnreadablePhoto):
        read_photo(tmp_path / "a.png")
    command_parser("A command.").parse_args(["--max-pixels", "10800"])
    assert read_photo(tmp_path / "a.png").shape == (120, 90, 3)
    monkeypatch.setenv("MAX_PIXELS", "many")
    with pytest.raises(UserError, match="MAX_PIXELS 'many': must be a whole number"):
        read_photo(tmp_path / "a.png")


NAMED: dict[str, bytes] = {
    "a PDF, not a photo": b"%PDF-1.7\n",
    "a video, not a photo": b"\0\0\0\x18ftypisom",
    "a ZIP archive, not a photo": b"PK\x03\x04",
    "a web page, not a photo": b"\n<!DOCTYPE html>\n<html>",
    "format SVG is not read": b'<?xml version="1.0"?>\n<svg width="1">',
    "format JPEG XL is not read": b"\xff\x0a",
    "format JPEG 2000 is not read": b"\0\0\0\x0cjP  \r\n\x87\n",
    "format PSD is not read": b"8BPS\0\x01",
    "format camera raw is not read": b"II*\0\x10\0\0\0CR\x02\0",
    "not a picture": b"just text",
}


@pytest.mark.parametrize("words", NAMED)
def test_what_is_not_read_is_named(tmp_path: Path, words: str) -> None:
    assert reason(tmp_path, NAMED[words] + bytes(99)).startswith(words)


def test_the_first_image_of_a_camera_raw_file_is_not_taken_for_the_photo(tmp_path: Path) -> None:
    data = encoded(Image.fromarray(scene()), "TIFF", tiffinfo={254: 1})
    assert "a camera raw file" in reason(tmp_path, data)


def test_heic_without_its_package_is_named_with_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(2000)
    assert "HEIC" in reason(tmp_path, heic) and "pip install pillow-heif" in reason(tmp_path, heic)


@pytest.mark.parametrize("kept", [40, 0.3, 0.9])
@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_files_have_a_reason(tmp_path: Path, kind: str, kept: float) -> None:
    data = encoded(Image.fromarray(noise()), kind)
    found = reason(tmp_path, data[: kept if kept > 1 else int(kept * len(data))])
    assert "not a picture" not in found and "\n" not in found


def test_names_of_photos() -> None:
    assert all(is_photo_name(f"a{ending}") and is_photo_name(f"A{ending.upper()}") for ending in EXTENSIONS)
