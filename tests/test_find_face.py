"""Detectors, and the detection attempts on one photo, on drawn faces."""

import sys
from collections.abc import Callable
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import retinaface
from drawn_faces import add_face, blank, drawn_photo

from core.boxes import Box, iou
from core.cli import UserError
from preprocessing.detectors import Detect, Face, detector_named, detector_names
from preprocessing.find_face import find_face

UPRIGHT = np.array([(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.75), (0.65, 0.75)])


@pytest.fixture(scope="session")
def detect() -> Detect:
    return detector_named("retinaface").load()


# --- detectors ---


@pytest.mark.parametrize("size", [(96, 128), (384, 512), (77, 51)])
def test_detector_equals_its_package(detect: Detect, size: tuple[int, int]) -> None:
    photo = drawn_photo(*size)[0]
    expected = retinaface.detect_faces(photo)
    found = detect(photo, 0.9)
    assert [face.score for face in found] == pytest.approx([face.score for face in expected], abs=1e-5)
    assert [face.box for face in found] == [Box(f.x, f.y, f.x + f.width, f.y + f.height) for f in expected]
    assert [face.landmarks.tolist() for face in found] == [[[p.x, p.y] for p in f.landmarks] for f in expected]


def test_unknown_detector_lists_the_names() -> None:
    with pytest.raises(UserError, match="'yolo' is unknown; the detectors are retinaface, uniface"):
        detector_named("yolo")
    assert detector_names() == ("retinaface", "uniface")


def test_optional_detector_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uniface.detection", None)
    with pytest.raises(UserError, match="pip install 'uniface"):
        detector_named("uniface").load()


def test_optional_detector_gets_bgr_and_gives_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class FakeModel:
        def __init__(self, **_: object) -> None: ...

        def detect(self, image: np.ndarray) -> list[SimpleNamespace]:
            seen.append(image[0, 0].tolist())
            return [
                SimpleNamespace(bbox=np.array([1, 2, 3, 4]), confidence=score, landmarks=UPRIGHT)
                for score in (0.95, 0.2)
            ]

    weights = SimpleNamespace(RetinaFaceWeights=SimpleNamespace(RESNET34="r34"))
    monkeypatch.setitem(sys.modules, "uniface", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "uniface.detection", SimpleNamespace(RetinaFace=FakeModel))
    monkeypatch.setitem(sys.modules, "uniface.constants", weights)
    faces = detector_named("uniface").load()(np.full((5, 5, 3), (10, 20, 30), np.uint8), 0.3)
    assert seen == [[30, 20, 10]]
    assert [(face.box, face.score) for face in faces] == [(Box(1, 2, 3, 4), 0.95)]


# --- detection attempts ---


def dark(rgb: np.ndarray) -> np.ndarray:
    return (rgb * 0.035).astype(np.uint8)


def half_hidden(rgb: np.ndarray) -> np.ndarray:
    covered = rgb.copy()
    covered[:, : rgb.shape[1] // 2] = rgb[:4, :4].mean(axis=(0, 1))
    return covered


@pytest.mark.parametrize(
    "spoilt",
    [
        dark,
        half_hidden,
        lambda rgb: cv2.GaussianBlur(rgb, (0, 0), 12),
        lambda rgb: np.ascontiguousarray(rgb[::-1, ::-1]),
        lambda rgb: (rgb * 0.1 + 110).astype(np.uint8),
    ],
    ids=["dark", "half hidden", "blurred", "upside down", "flat"],
)
def test_a_face_hard_to_see_is_found(detect: Detect, spoilt: Callable[[np.ndarray], np.ndarray]) -> None:
    photo, box = drawn_photo(384, 512)
    found = find_face(spoilt(photo), detect)
    assert found is not None
    assert iou(found.box, box) >= 0.5


@pytest.mark.parametrize("degrees", [40, -40, 90, -90])
def test_a_tilted_face_is_found(detect: Detect, degrees: int) -> None:
    photo = blank(192, 256)
    box = add_face(photo, (96, 128), 100, degrees)
    found = find_face(photo, detect)
    assert found is not None
    assert found.box.centre == pytest.approx(box.centre, abs=25)


@pytest.mark.parametrize("height", [22, 480])
def test_far_and_near_faces_are_found(detect: Detect, height: int) -> None:
    photo = blank(384, 512)
    box = add_face(photo, (192, 256), height)
    found = find_face(photo, detect)
    assert found is not None
    assert iou(found.box, box) >= 0.5


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (40, 30), (256, 192)])
def test_nothing_is_found_where_there_is_no_face(detect: Detect, shape: tuple[int, int]) -> None:
    assert find_face(blank(*shape[::-1]), detect) is None


def seeing(*faces: tuple[Box, float]) -> Detect:
    """A detector that sees the same faces in any picture, given in fractions of its sides."""

    def detect(rgb: np.ndarray, least_score: float) -> list[Face]:
        height, width = rgb.shape[:2]
        boxes = [(Box(b.x1 * width, b.y1 * height, b.x2 * width, b.y2 * height), score) for b, score in faces]
        return [
            Face(box, score, UPRIGHT * (box.width, box.height) + (box.x1, box.y1))
            for box, score in boxes
            if score > least_score
        ]

    return detect


def test_original_fault_most_confident_face_instead_of_the_main_one() -> None:
    main, bystander = Box(0.3, 0.3, 0.7, 0.7), Box(0, 0, 0.15, 0.15)
    found = find_face(blank(100, 100), seeing((bystander, 0.999), (main, 0.92)))
    assert found is not None and found.box == pytest.approx((30, 30, 70, 70))


def test_a_sure_bystander_does_not_beat_an_unsure_main_face() -> None:
    main, bystander = Box(0.3, 0.3, 0.7, 0.7), Box(0, 0, 0.15, 0.15)
    found = find_face(blank(1000, 1000), seeing((bystander, 0.999), (main, 0.7)))
    assert found is not None and found.box.centre == pytest.approx((500, 500))


def test_one_weak_detection_is_not_enough() -> None:
    def sees_once(rgb: np.ndarray, _: float) -> list[Face]:
        box = Box(20, 20, 60, 70)
        return [Face(box, 0.6, UPRIGHT * (40, 50) + 20)] if max(rgb.shape) == 128 else []

    assert find_face(blank(384, 512), sees_once) is None
