"""predict.py over photos, folders, videos and a camera, end to end with untrained networks and drawn faces."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from serving_toys import CROP, crowd, make_run
from toy_data import infer, refusal, table

import predict
from core.cli import UserError
from core.files import read_json
from core.images import read_photo, write_photo
from core.tasks import TASKS
from evaluation.logits import log_softmax
from preprocessing import crop_faces, detect_faces
from serving.types import FacePrediction

ORIENTATION = 0x0112
TWO = ((120, 160, 150), (360, 150, 110))
FRAMES, FPS = 6, 10


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("serving") / "run", head="values")


def run(source: object, run_dir: Path, out: Path, *flags: str) -> None:
    predict.main([str(source), "--run-dir", str(run_dir), "--out", str(out), "--device", "cpu", *flags])


def write_clip(path: Path, frames: int = FRAMES) -> Path:
    """A face that moves to the right."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), FPS, (320, 240))
    for number in range(frames):
        rgb, _ = crowd(((100 + 6 * number, 120, 120),), 320, 240)
        writer.write(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def frames_of(path: Path) -> list[np.ndarray]:
    capture, frames = cv2.VideoCapture(str(path)), []
    while (frame := capture.read()[1]) is not None:
        frames.append(frame)
    return frames


class TestPhotos:
    def test_a_photo(self, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "두 사람.png"
        write_photo(path, crowd(TWO)[0])
        run(path, run_dir, tmp_path / "out")
        results = read_json(tmp_path / "out" / "predictions.json")
        (picture,) = results["pictures"]
        assert (picture["photo"], picture["width"], picture["height"]) == ("두 사람.png", 480, 320)
        assert len(picture["faces"]) == 2
        for face in picture["faces"]:
            assert set(face["answers"]) == {"mask", "gender", "age"}
            assert sum(face["answers"]["mask"]["probs"].values()) == pytest.approx(1, abs=2e-4)
            assert 0 <= face["answers"]["age"]["years"] <= 100
            assert 0 <= face["class"] < 18
        assert results["unreadable"] == {}
        drawn = read_photo(tmp_path / "out" / "두 사람.png")
        assert drawn.shape == (640, 960, 3)
        printed = capsys.readouterr().out
        assert printed.count("gender") == 2
        assert "2 faces in 1 photos" in printed

    def test_a_folder_with_unreadable_and_faceless_photos(self, run_dir: Path, tmp_path: Path) -> None:
        photos, out = tmp_path / "photos", tmp_path / "photos" / "out"
        write_photo(photos / "deep" / "a.JPG", crowd(TWO)[0])
        write_photo(photos / "none.png", np.full((80, 80, 3), 120, np.uint8))
        (photos / "broken.jpg").write_bytes(b"no picture")
        (photos / "notes.txt").write_text("no photo")
        for _ in range(2):
            message = refusal(predict.main, [photos, "--run-dir", run_dir, "--out", out, "--format", "csv"], "broken")
        assert message.startswith("1 of 3 files cannot be read, all others are done")
        rows = table(out / "predictions.csv")
        assert list(rows["photo"]) == ["none.png", "deep/a.JPG", "deep/a.JPG"]
        faces = rows[rows["photo"] == "deep/a.JPG"]
        assert list(faces["face"]) == [1, 2]
        np.testing.assert_allclose(faces[["gender_male", "gender_female"]].sum(axis=1), 1, atol=2e-4)
        assert rows.loc[rows["photo"] == "none.png", "face"].isna().all()
        assert {path.name for path in out.rglob("*.*")} == {"predictions.csv", "a.JPG", "none.png"}

    def test_exif_orientation(self, run_dir: Path, tmp_path: Path) -> None:
        rgb, _ = crowd(((160, 120, 140),), 320, 240)
        upright, turned = tmp_path / "upright.jpg", tmp_path / "turned.jpg"
        Image.fromarray(rgb).save(upright, quality=95)
        exif = Image.Exif()
        exif[ORIENTATION] = 6
        Image.fromarray(np.rot90(rgb)).save(turned, exif=exif, quality=95)
        boxes = []
        for path in (upright, turned):
            run(path, run_dir, tmp_path / "out", "--folds", "0")
            boxes.append(read_json(tmp_path / "out" / "predictions.json")["pictures"][0]["faces"][0]["box"])
        np.testing.assert_allclose(boxes[0], boxes[1], atol=3)

    def test_an_answer_is_that_of_the_pipeline_of_training(self, tmp_path: Path) -> None:
        """detect_faces, crop_faces and inference on a PNG give, fold by fold, the logits behind predict's answer."""
        photos, crops, trained = tmp_path / "photos", tmp_path / "crops", make_run(tmp_path / "run", ("mask",))
        write_photo(photos / "a.png", crowd(((240, 160, 150),))[0])
        detect_faces.main(["--data-dir", str(photos), "--crop-dir", str(crops), "--workers", "1"])
        settings = ("--margin", str(CROP.margin), "--aspect", str(CROP.aspect), "--size", str(CROP.size))
        crop_faces.main(["--crop-dir", str(crops), "--workers", "1", *settings])
        infer(trained, "--crop-dir", str(crops), "--output-dir", str(tmp_path / "inferred"))
        columns = list(TASKS[0].classes)
        for fold in (0, 1):
            run(photos / "a.png", trained, tmp_path / "out", "--folds", str(fold))
            (face,) = read_json(tmp_path / "out" / "predictions.json")["pictures"][0]["faces"]
            logits = table(tmp_path / "inferred" / "mask" / f"fold{fold}" / "eval.csv")[columns].to_numpy()
            probs = list(face["answers"]["mask"]["probs"].values())
            np.testing.assert_allclose(probs, np.exp(log_softmax(logits))[0], atol=1e-4)


class TestRefusals:
    def test_sources_and_targets(self, run_dir: Path, tmp_path: Path) -> None:
        refusal(predict.main, [tmp_path / "none.jpg", "--run-dir", run_dir], "none.jpg", "no such file or folder")
        write_photo(tmp_path / "photos" / "a.jpg", crowd(TWO)[0])
        watched = [tmp_path]
        for out in ("photos", "photos/../photos"):
            argv = [tmp_path / "photos", "--run-dir", run_dir, "--out", tmp_path / out]
            refusal(predict.main, argv, "--out", "the photos themselves lie there", untouched=watched)
        clip = tmp_path / "clip.mp4"
        clip.write_bytes(b"no video")
        argv = [clip, "--run-dir", run_dir, "--out"]
        refusal(predict.main, [*argv, tmp_path], "the video itself lies there", untouched=watched)
        refusal(predict.main, [*argv, tmp_path / "out"], "clip.mp4", "cannot be opened as a video", untouched=watched)
        refusal(predict.main, [tmp_path / "lost.avi", "--run-dir", run_dir], "lost.avi: no such file")

    def test_flags(self, run_dir: Path, tmp_path: Path) -> None:
        write_photo(tmp_path / "a.jpg", crowd(TWO)[0])
        argv = [tmp_path / "a.jpg", "--out", tmp_path / "out", "--run-dir"]
        refusal(predict.main, [*argv, tmp_path / "untrained"], "run train.py first, or give --run-dir")
        refusal(predict.main, [*argv, run_dir, "--folds", "0,9"], "fold 9 is not trained")
        refusal(predict.main, [*argv, run_dir, "--folds", "first"], "'first' is neither all nor folds such as 0,1")
        refusal(predict.main, [*argv, run_dir, "--unsure-below", "2"], "2 is not a number from 0 to 1")
        refusal(predict.main, [*argv, run_dir, "--onnx", "x", "--folds", "0"], "an exported model has all its folds")
        refusal(
            predict.main,
            [*argv, run_dir, "--onnx", tmp_path],
            "no .onnx file in it; run `python -m serving.export` first",
        )
        assert not (tmp_path / "out").exists()


class TestVideo:
    def test_a_video(self, run_dir: Path, tmp_path: Path) -> None:
        run(write_clip(tmp_path / "walk.avi"), run_dir, tmp_path / "out", "--folds", "0")
        rows = table(tmp_path / "out" / "predictions.csv")
        assert list(rows["frame"]) == list(range(FRAMES))
        np.testing.assert_allclose(rows["seconds"], np.arange(FRAMES) / FPS, atol=1e-3)
        assert list(rows["track"]) == [1] * FRAMES
        assert rows["x1"].is_monotonic_increasing
        assert [frame.shape for frame in frames_of(tmp_path / "out" / "walk.mp4")] == [(480, 640, 3)] * FRAMES

    def test_a_part_as_json(self, run_dir: Path, tmp_path: Path) -> None:
        flags = ("--folds", "0", "--frames", "2", "--format", "json", "--smoothing", "0")
        run(write_clip(tmp_path / "walk.avi"), run_dir, tmp_path / "out", *flags)
        frames = read_json(tmp_path / "out" / "predictions.json")["pictures"]
        assert [(frame["frame"], len(frame["faces"])) for frame in frames] == [(0, 1), (1, 1)]

    def test_a_camera(self, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file stands in for the camera, whose frames take the time they take: the video keeps its pace."""
        clip, opened = write_clip(tmp_path / "walk.avi"), cv2.VideoCapture
        monkeypatch.setattr(cv2, "VideoCapture", lambda source: opened(str(clip) if source == 0 else source))
        times = iter((0.0, 0.0, 0.1, 0.4, 0.5))
        monkeypatch.setattr("serving.video.time.monotonic", lambda: next(times))
        run("0", run_dir, tmp_path / "out", "--folds", "0", "--frames", "4")
        assert list(table(tmp_path / "out" / "predictions.csv")["frame"]) == [0, 1, 4, 5]
        assert len(frames_of(tmp_path / "out" / "camera0.mp4")) == 6

    def test_ctrl_c_ends_a_camera_and_interrupts_a_video(self) -> None:
        with predict.ended_by_ctrl_c(live=True):
            raise KeyboardInterrupt
        with pytest.raises(KeyboardInterrupt), predict.ended_by_ctrl_c(live=False):
            raise KeyboardInterrupt

    def test_a_camera_that_is_not_there(self, run_dir: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="camera 97: cannot be opened"):
            run("97", run_dir, tmp_path / "out", "--folds", "0")
        assert not list(tmp_path.rglob("*.mp4"))


def test_an_interrupted_video_leaves_nothing(run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def interrupted(rgb: np.ndarray, faces: Sequence[FacePrediction]) -> np.ndarray:
        seen.append(rgb)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return rgb

    monkeypatch.setattr(predict, "annotated", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(write_clip(tmp_path / "walk.avi"), run_dir, tmp_path / "out", "--folds", "0")
    assert not list((tmp_path / "out").iterdir())


def test_rows_keep_whole_numbers(run_dir: Path, tmp_path: Path) -> None:
    """A table in which some rows have no face still says 1 and not 1.0."""
    write_photo(tmp_path / "photos" / "a.png", crowd(TWO)[0])
    write_photo(tmp_path / "photos" / "b.png", np.full((80, 80, 3), 120, np.uint8))
    run(tmp_path / "photos", run_dir, tmp_path / "out", "--format", "csv", "--folds", "0")
    rows = pd.read_csv(tmp_path / "out" / "predictions.csv", dtype=str)
    assert list(rows["face"].dropna()) == ["1", "2"]
    assert set(rows["class"].dropna()) <= set(map(str, range(18)))
