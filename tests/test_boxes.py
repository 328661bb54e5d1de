"""Box arithmetic and the cutting out of faces, on exact toys."""

import numpy as np
import pytest

from core.boxes import Box, around, carry, crop_window, iou, main_face, median_box, prominence, scaled
from core.cli import UserError
from core.cropping import CropSettings, crop_face
from preprocessing.detectors import Face, PhotoView, brightened, fitted, take_view


def face(box: Box, score: float = 0.95) -> Face:
    return Face(box, score, np.zeros((5, 2)))


def ramp(width: int, height: int) -> np.ndarray:
    """A photo whose red is its x and whose green is its y."""
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[..., 0], rgb[..., 1] = np.arange(width), np.arange(height)[:, None]
    return rgb


def test_iou_by_hand() -> None:
    assert iou(Box(0, 0, 2, 2), Box(1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert iou(Box(0, 0, 2, 2), Box(2, 0, 4, 2)) == 0
    assert iou(Box(0, 0, 2, 2), Box(0, 0, 2, 2)) == 1


def test_original_fault_most_confident_face_taken_for_the_main_one() -> None:
    small_and_sure = face(Box(0, 0, 20, 20), 0.999)
    large_and_central = face(Box(30, 30, 80, 90), 0.91)
    assert main_face([small_and_sure, large_and_central], (100, 120)) is large_and_central
    assert main_face([], (100, 120)) is None


def test_prominence_weighs_size_against_the_distance_from_the_centre() -> None:
    assert prominence(around((50, 50), 50, 50), (100, 100)) == pytest.approx(0.5)
    assert prominence(around((0, 0), 80, 80), (100, 100)) == 0
    assert prominence(around((50, 50), 30, 30), (100, 100)) > prominence(around((90, 90), 60, 60), (100, 100))


@pytest.mark.parametrize(
    ("degrees", "size"), [(0, (30, 40)), (90, (40, 30)), (180, (30, 40)), (45, (35.3553, 35.3553)), (-90, (40, 30))]
)
def test_a_carried_box_stays_tight_about_the_face(degrees: int, size: tuple[float, float]) -> None:
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    carried = carry(np.array([[cosine, -sine, 7], [sine, cosine, 9]]), around((0, 0), 30, 40))
    assert carried.centre == pytest.approx((7, 9))
    assert (carried.width, carried.height) == pytest.approx(size, abs=1e-3)


@pytest.mark.parametrize(
    "view", [PhotoView(64), PhotoView(40, turn=90), PhotoView(60, turn=-40, pad=0.5), PhotoView(400, grow=2, turn=180)]
)
def test_a_view_leads_back_to_the_pixels_it_shows(view: PhotoView) -> None:
    photo = np.zeros((100, 80, 3), np.uint8)
    photo[20:30, 50:60] = 255
    rgb, to_photo = take_view(photo, view)
    white = np.argwhere(rgb[..., 0] > 200)
    (top, left), (bottom, right) = white.min(axis=0), white.max(axis=0) + 1
    assert to_photo @ ((left + right) / 2, (top + bottom) / 2, 1) == pytest.approx((55, 25), abs=1)


def test_views_of_a_small_photo_that_show_the_same_are_equal() -> None:
    assert (
        fitted(PhotoView(256), 90, 120)
        == fitted(PhotoView(512), 90, 120)
        != fitted(PhotoView(512, tone=brightened), 90, 120)
    )
    assert fitted(PhotoView(256), 384, 512) != fitted(PhotoView(512), 384, 512)


def test_median_box_is_not_moved_by_one_wrong_box() -> None:
    right = Box(10, 10, 30, 40)
    assert median_box([right, right, Box(90, 90, 95, 95)]) == right


def test_scaled_to_shares_and_back() -> None:
    box = Box(10, 20, 30, 60)
    assert scaled(scaled(box, 1 / 100, 1 / 200), 100, 200) == pytest.approx(box)


def test_original_fault_face_height_ignored() -> None:
    tall, short = crop_window(Box(40, 0, 60, 80), 0, 1), crop_window(Box(40, 30, 60, 50), 0, 1)
    assert (tall.height, short.height) == (80, 20)
    assert tall.y1 == 0 and tall.y2 == 80


def test_margin_is_a_share_of_the_longer_side_on_each_side() -> None:
    assert crop_window(Box(40, 40, 60, 80), 0.25, 1) == Box(20, 30, 80, 90)


@pytest.mark.parametrize("aspect", [0.75, 1.0, 1.5])
def test_window_has_the_aspect_and_holds_the_box(aspect: float) -> None:
    for box in (Box(10, 10, 50, 30), Box(10, 10, 20, 90)):
        window = crop_window(box, 0.1, aspect)
        assert window.width / window.height == pytest.approx(aspect)
        assert window.centre == pytest.approx(box.centre)
        assert window.width >= box.width and window.height >= box.height


@pytest.mark.parametrize("size", [40, 20, 80])
def test_original_fault_crops_stretched(size: int) -> None:
    """A square in the photo is a square in the crop, whether shrunk or enlarged, and whatever the box's shape."""
    photo = np.zeros((200, 200, 3), np.uint8)
    photo[90:110, 90:110] = 255
    for box in (Box(80, 90, 120, 110), Box(90, 80, 110, 120)):
        crop = crop_face(photo, box, CropSettings(margin=0, aspect=1, size=size, align=False, surroundings=False))
        rows, columns = (np.flatnonzero(crop[..., 0].max(axis=axis) > 127) for axis in (1, 0))
        assert len(rows) == len(columns) == size // 2


@pytest.mark.parametrize(("width", "height"), [(300, 60), (60, 300)])
def test_original_fault_x_clamped_to_the_wrong_side_length(width: int, height: int) -> None:
    """A face at the far end of the photo's longer side is cut where it is."""
    photo = np.zeros((height, width, 3), np.uint8)
    x, y = width - 30, height - 30
    photo[y - 5 : y + 5, x - 5 : x + 5] = 255
    crop = crop_face(photo, around((x, y), 20, 20), CropSettings(0, 1, 20, align=False, surroundings=False))
    assert crop[6:14, 6:14].min() == 255 and crop[:4].max() == 0


def test_a_window_inside_the_photo_is_cut_to_the_pixel() -> None:
    crop = crop_face(ramp(100, 100), Box(30, 20, 50, 40), CropSettings(0, 1, 20, align=False, surroundings=False))
    assert (crop[..., 0] == np.arange(30, 50)).all() and (crop[..., 1] == np.arange(20, 40)[:, None]).all()


def test_pixels_outside_of_the_photo_are_mirrored() -> None:
    crop = crop_face(ramp(100, 100), Box(-4, 90, 16, 110), CropSettings(0, 1, 20, align=False, surroundings=False))
    assert crop[0, :8, 0].tolist() == [4, 3, 2, 1, 0, 1, 2, 3]
    assert crop[6:, 0, 1].tolist() == [96, 97, 98, 99, 98, 97, 96, 95, 94, 93, 92, 91, 90, 89]


@pytest.mark.parametrize("shape", [(1, 1), (2, 300), (500, 1), (30, 20)])
@pytest.mark.parametrize("box", [Box(0, 0, 1, 1), Box(-50, -40, 30, 60), Box(-400, -500, 900, 700)])
def test_windows_larger_than_any_mirror_and_tiny_photos(shape: tuple[int, int], box: Box) -> None:
    photo = np.full((*shape, 3), 77, np.uint8)
    crop = crop_face(photo, box, CropSettings(size=32, aspect=0.75, surroundings=False))
    assert crop.shape == (32, 24, 3) and crop.dtype == np.uint8
    assert (crop == 77).all()


@pytest.mark.parametrize("wrong", [{"margin": -0.1}, {"margin": float("nan")}, {"aspect": 0}, {"size": 0}])
def test_settings_that_make_no_sense_are_refused(wrong: dict) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        CropSettings(**wrong)
