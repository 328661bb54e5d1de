"""The one photo loader: every kind of file comes out upright, 8-bit and RGB, or is named as unreadable."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from core.images import UnreadablePhoto, fingerprint, is_photo_name, read_photo, write_photo

ORIENTATION = 0x0112


def scene(height: int = 64, width: int = 32) -> np.ndarray:
    """Four quarters of different colours, (H, W, 3) uint8: red, green over blue, white."""
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[: height // 2, : width // 2] = (200, 30, 30)
    rgb[: height // 2, width // 2 :] = (30, 200, 30)
    rgb[height // 2 :, : width // 2] = (30, 30, 200)
    rgb[height // 2 :, width // 2 :] = (230, 230, 230)
    return rgb


STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda rgb: rgb,
    2: lambda rgb: rgb[:, ::-1],
    3: lambda rgb: rgb[::-1, ::-1],
    4: lambda rgb: rgb[::-1],
    5: lambda rgb: rgb.transpose(1, 0, 2),
    6: lambda rgb: np.rot90(rgb, 1),
    7: lambda rgb: rgb[::-1, ::-1].transpose(1, 0, 2),
    8: lambda rgb: np.rot90(rgb, -1),
}
"""How a camera that writes this EXIF orientation stores an upright scene."""


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_exif_orientation(tmp_path: Path, orientation: int, ending: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / f"a.{ending}"
    Image.fromarray(np.ascontiguousarray(STORED[orientation](scene()))).save(path, exif=exif, quality=95)
    found = read_photo(path)
    assert found.shape == (64, 32, 3)
    assert np.abs(found[::6, ::6].astype(int) - scene()[::6, ::6]).max() <= 6


def saved(path: Path, image: Image.Image, **options: object) -> np.ndarray:
    image.save(path, **options)
    found = read_photo(path)
    assert found.dtype == np.uint8
    assert found.ndim == 3
    assert found.shape[2] == 3
    return found


def test_rgb_is_rgb(tmp_path: Path) -> None:
    assert (saved(tmp_path / "a.png", Image.fromarray(scene())) == scene()).all()


def test_grey(tmp_path: Path) -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert (saved(tmp_path / "a.png", Image.fromarray(grey)) == grey[..., None]).all()


def test_palette(tmp_path: Path) -> None:
    assert (saved(tmp_path / "a.png", Image.fromarray(scene()).quantize(8)).astype(int) == scene()).mean() > 0.9


def test_one_bit(tmp_path: Path) -> None:
    bits = Image.fromarray((scene()[..., 0] > 100).astype(np.uint8) * 255).convert("1")
    assert set(np.unique(saved(tmp_path / "a.png", bits))) == {0, 255}


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bit_keeps_its_range(tmp_path: Path, channels: int) -> None:
    deep = scene().astype(np.uint16) * 257
    deep = deep[..., ::-1] if channels == 3 else deep[..., 0]
    cv2.imwrite(str(tmp_path / "a.png"), deep)
    expected = scene() if channels == 3 else scene()[..., :1]
    assert np.abs(read_photo(tmp_path / "a.png").astype(int) - expected).max() <= 1


def test_cmyk(tmp_path: Path) -> None:
    found = saved(tmp_path / "a.jpg", Image.fromarray(scene()).convert("CMYK"), quality=95)
    assert np.abs(found[::6, ::6].astype(int) - scene()[::6, ::6]).max() <= 12


@pytest.fixture
def strict() -> None:
    """OpenCV as it is installed."""


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An OpenCV that fills what is missing with grey, as many versions do."""
    monkeypatch.setattr(cv2, "imdecode", lambda *_: np.full((120, 90, 3), 128, np.uint8))


def noise(height: int = 120, width: int = 90) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("decoder", ["strict", "lenient"])
@pytest.mark.parametrize("ending", ["jpg", "png"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95])
def test_a_file_that_is_cut_short_is_unreadable(
    tmp_path: Path, request: pytest.FixtureRequest, decoder: str, ending: str, kept: float
) -> None:
    path = tmp_path / f"a.{ending}"
    write_photo(path, noise())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    request.getfixturevalue(decoder)
    with pytest.raises(UnreadablePhoto):
        read_photo(path)


@pytest.mark.parametrize("decoder", ["strict", "lenient"])
def test_progressive_jpeg_cut_short(tmp_path: Path, request: pytest.FixtureRequest, decoder: str) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(noise()).save(path, progressive=True)
    assert read_photo(path).shape == (120, 90, 3)
    path.write_bytes(path.read_bytes()[:-500])
    request.getfixturevalue(decoder)
    with pytest.raises(UnreadablePhoto):
        read_photo(path)


def with_thumbnail(path: Path) -> bytes:
    """A JPEG whose EXIF block holds a whole small JPEG, end marker included."""
    thumbnail, photo = io.BytesIO(), io.BytesIO()
    Image.fromarray(noise(16, 16)).save(thumbnail, "JPEG")
    Image.fromarray(noise()).save(photo, "JPEG")
    block = b"Exif\0\0" + thumbnail.getvalue()
    segment = b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block
    data = photo.getvalue()
    path.write_bytes(data[:2] + segment + data[2:])
    return path.read_bytes()


@pytest.mark.parametrize("decoder", ["strict", "lenient"])
def test_the_end_marker_of_a_thumbnail_does_not_count(
    tmp_path: Path, request: pytest.FixtureRequest, decoder: str
) -> None:
    path = tmp_path / "a.jpg"
    whole = with_thumbnail(path)
    request.getfixturevalue(decoder)
    assert read_photo(path).shape == (120, 90, 3)
    path.write_bytes(whole[:-400])
    with pytest.raises(UnreadablePhoto):
        read_photo(path)


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_bytes_after_the_end_do_no_harm(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    write_photo(path, noise())
    path.write_bytes(path.read_bytes() + b"\0" * 300)
    assert read_photo(path).shape == (120, 90, 3)


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    reasons = {}
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("<html>not found</html>")
    (tmp_path / "marker.jpg").write_bytes(b"\xff\xd8\xff\xd9")
    (tmp_path / "folder.jpg").mkdir()
    for name in ("empty.jpg", "text.jpg", "marker.jpg", "folder.jpg", "nowhere.jpg"):
        with pytest.raises(UnreadablePhoto) as raised:
            read_photo(tmp_path / name)
        assert raised.value.path == tmp_path / name
        reasons[name] = raised.value.reason
    assert reasons == {
        "empty.jpg": "empty file",
        "text.jpg": "a web page, not a photo",
        "marker.jpg": "JPEG that is damaged, cut short or of a rare kind",
        "folder.jpg": "Is a directory",
        "nowhere.jpg": "No such file or directory",
    }


def test_the_ending_may_lie(tmp_path: Path) -> None:
    Image.fromarray(scene()).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "사진.JPG")
    assert (read_photo(tmp_path / "사진.JPG") == scene()).all()


def test_writing(tmp_path: Path) -> None:
    write_photo(tmp_path / "new" / "홍.PNG", scene())
    write_photo(tmp_path / "new" / "a.jpg", noise(), quality=30)
    write_photo(tmp_path / "new" / "b.jpg", noise())
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.jpg", "b.jpg", "홍.PNG"]
    assert (read_photo(tmp_path / "new" / "홍.PNG") == scene()).all()
    assert (tmp_path / "new" / "a.jpg").stat().st_size < (tmp_path / "new" / "b.jpg").stat().st_size / 2
    assert (tmp_path / "new" / "a.jpg").read_bytes()[:2] == b"\xff\xd8"


def test_the_fingerprint_sees_a_replaced_photo(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_photo(path, scene())
    before = fingerprint(path)
    assert fingerprint(path) == before
    os.utime(path, ns=(1, 1))
    assert fingerprint(path) != before


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jpg", True),
        ("a.JPEG", True),
        ("a.b.Png", True),
        (".a.jpg", False),
        ("a.gif", True),
        ("IMG_7.HEIC", True),
        ("a.svg", False),
        ("jpg", False),
    ],
)
def test_names_of_photos(name: str, expected: bool) -> None:
    assert is_photo_name(name) is expected
