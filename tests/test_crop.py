"""The command that cuts faces out: what it writes, what it leaves alone, and how it goes on."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core import files
from core.alignment import typical_landmarks
from core.boxes import Box
from core.cli import UserError
from core.cropping import CropSettings, crop_face
from core.images import read_photo, write_photo
from preprocessing import crop_faces
from preprocessing.faces_table import Outcome, stamp_of, write_outcomes
from storage import crops
from storage.layouts import scan

CROP_DIR = Path("crop_images")
BOX = Box(20, 30, 60, 90)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Loose photos with a faces table that gives each the same box."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "data"
    for number, name in enumerate(("a.png", "deep/b.png", "deep/c.JPG")):
        pixels = np.random.default_rng(number).integers(0, 255, (120, 100, 3), dtype=np.uint8)
        write_photo(root / name, pixels)
    write_faces(root)
    return root


def write_faces(root: Path, box: Box = BOX) -> None:
    """faces.csv and source.json as detect_faces leaves them."""
    dataset = scan(root)
    outcomes = {
        photo.image_id: Outcome(
            photo.image_id, photo.path, "detected", "", box, 0.99, 100, 120, stamp_of(root / photo.path, "settings")
        )
        for photo in dataset.photos
    }
    write_outcomes(crops.faces_path(CROP_DIR), dataset.photos, outcomes)
    files.write_json(crops.source_path(CROP_DIR), crops.read_source(CROP_DIR) | {"data_root": str(root)})


def edit_faces(image_id: str, **values: str) -> None:
    frame = files.read_csv(crops.faces_path(CROP_DIR), crops.FACE_COLUMNS)
    for column, value in values.items():
        frame.loc[frame["image_id"] == image_id, column] = value
    files.write_csv(crops.faces_path(CROP_DIR), frame)


def run(*flags: str) -> None:
    crop_faces.main(["--workers", "1", *flags])


def crop_files() -> set[str]:
    return {path.relative_to(CROP_DIR).as_posix() for path in CROP_DIR.rglob("*") if path.suffix in (".png", ".JPG")}


def test_crops_have_the_tree_and_names_of_the_photos(data: Path) -> None:
    run("--margin", "0.1", "--aspect", "0.75", "--size", "64")
    assert crop_files() == {"a.png", "deep/b.png", "deep/c.JPG"}
    expected = crop_face(read_photo(data / "a.png"), BOX, CropSettings(0.1, 0.75, 64))
    assert (read_photo(CROP_DIR / "a.png") == expected).all()
    assert read_photo(CROP_DIR / "deep/c.JPG").shape == (92, 92, 3)
    assert crops.read_source(CROP_DIR)["crop"] == {"margin": 0.1, "aspect": 0.75, "size": 64, "align": True} | {
        "surroundings": True
    }
    loaded = crops.load_crops(CROP_DIR, "eval")
    assert [path.as_posix() for path in loaded.paths] == [
        "crop_images/a.png",
        *(f"crop_images/deep/{n}" for n in ("b.png", "c.JPG")),
    ]


def test_landmarks_of_the_table_turn_the_crop(data: Path) -> None:
    run("--size", "64")
    upright = read_photo(CROP_DIR / "a.png")
    # The typical face of the box, a quarter turn further.
    across = (typical_landmarks(BOX) - BOX.centre) @ [(0, 1), (-1, 0)] + np.array(BOX.centre)
    edit_faces("a.png", landmarks=" ".join(map(str, across.ravel())))
    run("--size", "64")
    expected = crop_face(read_photo(data / "a.png"), BOX, CropSettings(size=64), across)
    assert (read_photo(CROP_DIR / "a.png") == expected).all() and (expected != upright).any()
    run("--size", "64", "--no-align")
    expected = crop_face(read_photo(data / "a.png"), BOX, CropSettings(size=64, align=False))
    assert (read_photo(CROP_DIR / "a.png") == expected).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3", "landmarks of a.png are 3 numbers, not 10"),
        ("1 2 3 4 x 6 7 8 9 10", "landmarks 'x' of a.png is not a number"),
    ],
)
def test_landmarks_that_are_none(data: Path, text: str, message: str) -> None:
    edit_faces("a.png", landmarks=text)
    with pytest.raises(UserError, match=message):
        run()


def test_second_run_does_nothing(data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    run()
    monkeypatch.setattr(crop_faces, "run_parallel", no_work)
    run()
    assert "3 already cropped, 0 to crop" in capsys.readouterr().out


def no_work(*_: object) -> Iterator:
    raise AssertionError("nothing should be cropped")


@pytest.mark.parametrize("change", ["photo", "box", "settings", "lost crop"])
def test_only_what_changed_is_made_again(data: Path, change: str, capsys: pytest.CaptureFixture) -> None:
    run()
    if change == "photo":
        os.utime(data / "a.png", (1, 1))
    if change == "box":
        edit_faces("a.png", x1="25")
    if change == "lost crop":
        (CROP_DIR / "a.png").unlink()
    capsys.readouterr()
    run(*(["--size", "64"] if change == "settings" else []))
    made = 3 if change == "settings" else 1
    assert f"{3 - made} already cropped, {made} to crop" in capsys.readouterr().out
    assert crop_files() == {"a.png", "deep/b.png", "deep/c.JPG"}
    size = 64 if change == "settings" else 224
    box = Box(25, 30, 60, 90) if change == "box" else BOX
    assert (read_photo(CROP_DIR / "a.png") == crop_face(read_photo(data / "a.png"), box, CropSettings(size=size))).all()


def test_a_photo_changed_since_detection_is_named(data: Path, capsys: pytest.CaptureFixture) -> None:
    os.utime(data / "a.png", (1, 1))
    run()
    assert "1 photos have changed since detect_faces, which should run again: a.png" in capsys.readouterr().out


def test_crops_of_photos_gone_or_missing_are_removed_and_nothing_else(data: Path) -> None:
    run()
    (CROP_DIR / "deep" / "mine.png").write_bytes(b"not listed in crops.csv")
    (data / "a.png").unlink()
    write_faces(data)
    edit_faces("deep/b.png", status="missing", x1="", y1="", x2="", y2="", reason="cut short")
    run()
    assert crop_files() == {"deep/c.JPG", "deep/mine.png"}
    assert list(crops.read_crops(CROP_DIR)["image_id"]) == ["deep/c.JPG"]
    assert crops.load_crops(CROP_DIR, "eval").missing == ("deep/b.png",)


def test_a_photo_that_became_unreadable_is_named_and_has_no_crop(data: Path, capsys: pytest.CaptureFixture) -> None:
    run()
    (data / "a.png").write_bytes(b"")
    (data / "deep/b.png").unlink()
    run()
    out = capsys.readouterr().out
    assert "2 photos can no longer be read and have no crop: a.png (empty file), deep/b.png (No such file" in out
    assert crop_files() == {"deep/c.JPG"}
    assert list(crops.read_crops(CROP_DIR)["image_id"]) == ["deep/c.JPG"]


def test_an_interrupted_run_goes_on(data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    count = 0

    def interrupted(*args: object) -> np.ndarray:
        nonlocal count
        count += 1
        if count > 1:
            raise KeyboardInterrupt
        return crop_face(*args)

    with monkeypatch.context() as patch:
        patch.setattr(crop_faces, "crop_face", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run()
    assert len(crops.read_crops(CROP_DIR)) == 1
    with pytest.raises(UserError, match="not cropped; run"):
        crops.load_crops(CROP_DIR, "eval")
    capsys.readouterr()
    run()
    assert "1 already cropped, 2 to crop" in capsys.readouterr().out
    assert len(crops.load_crops(CROP_DIR, "eval").frame) == 3


@pytest.mark.parametrize("path", ["../outside.png", "/etc/outside.png", "deep/../../outside.png"])
def test_a_path_that_leaves_the_data_is_refused(data: Path, path: str) -> None:
    write_photo(data.parent / "outside.png", read_photo(data / "a.png"))
    edit_faces("a.png", path=path)
    with pytest.raises(UserError, match=r"faces.csv: path .*outside.png' leads out of"):
        run()
    assert crop_files() == set()


def test_a_listed_crop_outside_of_the_crop_folder_is_not_removed(data: Path) -> None:
    run()
    frame = files.read_csv(crops.crops_path(CROP_DIR), ("image_id",))
    frame.loc[frame["image_id"] == "a.png", "file"] = "../data/a.png"
    files.write_csv(crops.crops_path(CROP_DIR), frame)
    with pytest.raises(UserError, match="leads out of"):
        run()
    assert (data / "a.png").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--margin", "-1"], "--margin -1.0: must be from 0 to 2"),
        (["--aspect", "0"], "--aspect 0.0: must be"),
        (["--size", "2"], "--size 2: must be"),
        (["--size", "big"], "invalid int value: 'big'"),
        (
            ["--crop-dir", "elsewhere"],
            "crop folder elsewhere: no faces.csv in it; run preprocessing/detect_faces.py first",
        ),
    ],
)
def test_bad_flags_are_named(data: Path, flags: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(*flags)


def test_a_faces_table_with_a_broken_box_is_refused(data: Path) -> None:
    edit_faces("a.png", x2="wide")
    with pytest.raises(UserError, match=r"faces.csv: x2 'wide' of a.png is not a number"):
        run()


@pytest.mark.parametrize(
    "edges",
    [
        {"x1": "-1e9", "y1": "-1e9", "x2": "1e9", "y2": "1e9"},
        {"x1": "500", "x2": "600"},
        {"x1": "5", "x2": "5"},
        {"x1": "50", "x2": "5"},
    ],
)
def test_a_box_that_its_photo_cannot_have_is_refused(data: Path, edges: dict[str, str]) -> None:
    edit_faces("a.png", **edges)
    with pytest.raises(UserError, match=r"faces.csv: box .* of a.png does not lie in its photo \(100 x 120\)"):
        run()


def test_crops_are_kept_while_the_data_is_away(data: Path) -> None:
    run()
    data.rename(data.parent / "moved")
    with pytest.raises(UserError, match="which is not there"):
        run()
    assert len(crop_files()) == 3


def test_crops_of_other_formats_have_names_of_their_own(data: Path) -> None:
    Image.fromarray(read_photo(data / "a.png")).save(data / "d.webp", lossless=True)
    write_faces(data)
    run()
    assert CROP_DIR / "d.webp.png" in crops.load_crops(CROP_DIR, "eval").paths
    assert np.array_equal(read_photo(CROP_DIR / "d.webp.png"), read_photo(CROP_DIR / "a.png"))
    write_photo(data / "d.webp.png", read_photo(data / "a.png"))
    write_faces(data)
    with pytest.raises(UserError, match=r"two photos would have the crop d\.webp\.png"):
        run()
