"""The command that finds faces: its table, and how it goes on from what is there."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from drawn_faces import add_face, blank, drawn_photo
from face_data import PERSONS, box_of, face_jpeg, make_data, put, run_detect
from PIL import Image

from core import files
from core.boxes import iou
from core.cli import UserError
from core.images import write_photo
from preprocessing import detect_faces, detection
from preprocessing.find_face import find_face
from storage import crops


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return make_data(tmp_path / "data")


def test_boxes_of_large_and_exif_rotated_photos_are_in_pixels_of_the_upright_photo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photo = blank(1200, 1600)
    box = add_face(photo, (550, 700), 600)
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = tmp_path / "data" / "large.jpg"
    stored.parent.mkdir()
    Image.fromarray(np.rot90(photo)).save(stored, exif=exif)
    row = run_detect(stored.parent)["large.jpg"]
    assert (row["width"], row["height"]) == ("1200", "1600")
    assert iou(box_of(row), box) > 0.7


def test_every_photo_has_a_row_and_eval_labels_are_not_read(data: Path, capsys: pytest.CaptureFixture) -> None:
    rows = run_detect(data)
    assert len(rows) == 8
    assert {row["status"] for row in rows.values()} == {"detected"}
    train = rows[f"{PERSONS[0]}/mask1.jpg"]
    assert [train[name] for name in ("split", "person", "mask", "gender", "age", "race")] == [
        *("train", PERSONS[0], "wear", "female", "31", "Asian")
    ]
    assert train["path"] == f"images/train/{PERSONS[0]}/mask1.jpg"
    assert float(train["score"]) > 0.9 and iou(box_of(train), drawn_photo()[1]) > 0.5
    evaluation = rows["000008_male_Black_22_mask.jpg"]
    assert evaluation["split"] == "eval"
    assert {evaluation[name] for name in ("mask", "gender", "age", "race")} == {""}
    source = crops.read_source(Path("crop_images"))
    assert source["data_root"] == str(data.resolve()) and source["layout"] == "remade"
    assert source["detect"] == {"detector": "retinaface", "threshold": 0.9}
    assert "0 photos to review" in capsys.readouterr().out


def test_second_run_does_nothing(data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    run_detect(data)
    before = crops.faces_path(Path("crop_images")).stat().st_mtime_ns
    monkeypatch.setattr(detect_faces, "launch", no_search)
    run_detect(None)
    assert "8 already done, 0 to search" in capsys.readouterr().out
    assert crops.faces_path(Path("crop_images")).stat().st_mtime_ns == before


def no_search(*_: object, **__: object) -> Iterator:
    raise AssertionError("nothing should be searched")


def test_only_new_and_changed_photos_are_searched_and_removed_ones_go(
    data: Path, capsys: pytest.CaptureFixture
) -> None:
    run_detect(data)
    put(data / "images/eval/000010_male_White_33_mask.jpg", face_jpeg())
    changed = data / "images/train" / PERSONS[0] / "normal.jpg"
    os.utime(changed, (1, 1))
    (data / "images/train" / PERSONS[1] / "mask1.jpg").unlink()
    rows = run_detect(data)
    assert "6 already done, 2 to search" in capsys.readouterr().out
    assert len(rows) == 8 and f"{PERSONS[1]}/mask1.jpg" not in rows


def test_another_threshold_searches_anew(data: Path, capsys: pytest.CaptureFixture) -> None:
    run_detect(data)
    run_detect(data, "--threshold", "0.8")
    assert "0 already done, 8 to search" in capsys.readouterr().out


def test_original_fault_failures_written_to_the_wrong_table(data: Path, capsys: pytest.CaptureFixture) -> None:
    """A photo that cannot be read has a row of its own in faces.csv, in its split, and is named at the end."""
    broken = data / "images/eval/000008_male_Black_22_mask.jpg"
    broken.write_bytes(broken.read_bytes()[:400])
    put(data / "images/train" / PERSONS[0] / "mask1.jpg", b"")
    rows = run_detect(data)
    assert len(rows) == 8
    for image_id in (broken.name, f"{PERSONS[0]}/mask1.jpg"):
        assert rows[image_id]["status"] == "missing" and rows[image_id]["reason"] and not rows[image_id]["x1"]
    out = capsys.readouterr().out
    assert "2 photos cannot be read" in out and f"{broken.name} (" in out and "(empty file)" in out
    reviewed = files.read_csv(Path("crop_images/review.csv"), ("image_id", "why"))
    assert set(reviewed["image_id"]) == {broken.name, f"{PERSONS[0]}/mask1.jpg"}
    run_detect(data)
    assert "8 already done" in capsys.readouterr().out


def test_a_photo_that_could_not_be_opened_is_tried_again(data: Path, capsys: pytest.CaptureFixture) -> None:
    link = data / "images/train" / PERSONS[0] / "mask2.jpg"
    link.symlink_to(data / "elsewhere.jpg")
    assert run_detect(data)[f"{PERSONS[0]}/mask2.jpg"]["status"] == "missing"
    put(data / "elsewhere.jpg", (data / "images/train" / PERSONS[0] / "mask1.jpg").read_bytes())
    assert run_detect(data)[f"{PERSONS[0]}/mask2.jpg"]["status"] == "detected"
    assert "8 already done, 1 to search" in capsys.readouterr().out


def test_a_photo_without_a_face_gets_the_median_box_of_its_person(data: Path) -> None:
    faceless = data / "images/train" / PERSONS[0] / "normal.jpg"
    write_photo(faceless, blank(192, 256))
    rows = run_detect(data)
    row = rows[f"{PERSONS[0]}/normal.jpg"]
    others = box_of(rows[f"{PERSONS[0]}/mask1.jpg"])
    assert (row["status"], row["reason"], row["score"]) == ("fallback", "person", "")
    assert box_of(row) == pytest.approx([2 * edge for edge in others], abs=0.02)


def test_photos_without_a_face_or_a_person_get_the_typical_box_then_the_centre(data: Path) -> None:
    faceless = data / "images/eval/000008_male_Black_22_mask.jpg"
    write_photo(faceless, blank(100, 200))
    row = run_detect(data)[faceless.name]
    assert (row["status"], row["reason"]) == ("fallback", "centre")
    assert box_of(row) == pytest.approx((20, 40, 80, 160))
    for stem in ("mask2", "mask3", "mask4"):
        write_photo(data / "images/train" / PERSONS[0] / f"{stem}.jpg", drawn_photo()[0])
    rows = run_detect(data)
    assert rows[faceless.name]["reason"] == "typical"
    typical = box_of(rows[f"{PERSONS[1]}/mask1.jpg"])
    assert box_of(rows[faceless.name]) == pytest.approx(
        [typical.x1 * 100 / 96, typical.y1 * 200 / 128, typical.x2 * 100 / 96, typical.y2 * 200 / 128], abs=5
    )


def test_guessed_weak_and_odd_boxes_are_put_up_for_review(data: Path) -> None:
    write_photo(data / "images/train" / PERSONS[0] / "normal.jpg", blank(96, 128))
    elsewhere = blank(192, 256)
    add_face(elsewhere, (60, 60), 40)
    write_photo(data / "images/train" / PERSONS[1] / "mask2.jpg", elsewhere)
    run_detect(data)
    reviewed = files.read_csv(Path("crop_images/review.csv"), ("image_id", "status", "why"))
    whys = dict(zip(reviewed["image_id"], reviewed["why"], strict=True))
    assert whys == {
        f"{PERSONS[0]}/normal.jpg": "no face found; the median box of the person's other photos",
        f"{PERSONS[1]}/mask2.jpg": "box much unlike those of the person's other photos",
    }


def test_an_interrupted_run_goes_on(data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    count = 0

    def interrupted(*args: object) -> object:
        nonlocal count
        count += 1
        if count > 3:
            raise KeyboardInterrupt
        return find_face(*args)

    expected = run_detect(data, "--crop-dir", "uninterrupted")
    monkeypatch.setattr(detection, "find_face", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_detect(data)
    monkeypatch.undo()
    monkeypatch.chdir(data.parent)
    capsys.readouterr()
    assert run_detect(data) == expected
    assert "3 already done, 5 to search" in capsys.readouterr().out
    names = sorted(path.name for path in Path("crop_images").iterdir())
    assert names == [".gitignore", "faces.csv", "review.csv", "source.json"]


def test_a_crop_folder_of_other_data_is_refused(data: Path, tmp_path: Path) -> None:
    run_detect(data)
    put(tmp_path / "other" / "a.jpg", face_jpeg())
    with pytest.raises(UserError, match=r"crop folder crop_images was made from .*data, not from .*other"):
        run_detect(tmp_path / "other")


def test_crops_among_the_photos_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "loose" / "a.jpg", face_jpeg())
    for crop_dir in ("loose", "loose/crops"):
        with pytest.raises(UserError, match=r"lies among the photos"):
            run_detect(tmp_path / "loose", "--crop-dir", crop_dir)
    assert [path.name for path in (tmp_path / "loose").iterdir()] == ["a.jpg"]


def test_bad_input_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="--data-dir is needed"):
        run_detect(None)
    with pytest.raises(UserError, match="no such folder"):
        run_detect(tmp_path / "nowhere")
    (tmp_path / "empty" / "images" / "train").mkdir(parents=True)
    with pytest.raises(UserError, match="no person in it"):
        run_detect(tmp_path / "empty")
    with pytest.raises(UserError, match=r"--threshold 1\.5"):
        run_detect(tmp_path / "empty", "--threshold", "1.5")
    with pytest.raises(UserError, match="'yolo' is unknown"):
        run_detect(tmp_path / "empty", "--detector", "yolo")
    assert not Path("crop_images").exists()


def test_foreign_files_are_counted(data: Path, capsys: pytest.CaptureFixture) -> None:
    put(data / "images/eval/notes.txt", b"x")
    run_detect(data)
    assert "1 files are no photos of this layout and are ignored: images/eval/notes.txt" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("script", "flags", "message"),
    [
        ("detect_faces.py", ["--data-dir", "nowhere"], "error: data folder"),
        ("crop_faces.py", [], "error: crop folder crop_images: no faces.csv in it"),
    ],
)
def test_as_a_script_bad_input_is_one_line_and_exit_code_2(
    script: str, flags: list[str], message: str, tmp_path: Path
) -> None:
    path = Path(detect_faces.__file__).parent / script
    ended = subprocess.run([sys.executable, path, *flags], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith(message) and ended.stderr.count("\n") == 1
