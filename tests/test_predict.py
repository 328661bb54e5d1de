"""predict.py over photos, folders, videos and a camera, end to end with untrained networks and drawn faces."""

import os
import re
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from serving_toys import CROP, crowd, make_run
from toy_data import infer, refusal, table

import predict
from core.cli import UserError, progress
from core.files import read_json
from core.images import read_photo, write_photo
from core.tasks import TASKS
from evaluation.logits import log_softmax
from preprocessing import crop_faces, detect_faces
from serving.sources import PhotoSources
from serving.types import FacePrediction
from serving.video import LONGEST_GAP, Clip, is_video, new_video, open_clip

ORIENTATION = 0x0112
TWO = ((120, 160, 150), (360, 150, 110))
FRAMES, FPS = 6, 10
ROOT = Path(__file__).resolve().parents[1]
PRINT_TEMPORARY = """
from pathlib import Path
from core.files import replacing
with replacing(Path("/tmp/never")) as aside:
    print(aside)
    aside.write_bytes(b"")
"""


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("serving") / "run", head="values")


def run(source: object, run_dir: Path, out: Path, *flags: str) -> None:
    predict.main([str(source), "--run-dir", str(run_dir), "--out", str(out), "--device", "cpu", "--overwrite", *flags])


class FakeCapture:
    """A video whose frames have these times in seconds."""

    def __init__(self, times: Sequence[float]) -> None:
        self._times, self._next = times, 0

    def read(self) -> tuple[bool, np.ndarray | None]:
        self._next += 1
        return (True, np.zeros((32, 48, 3), np.uint8)) if self._next <= len(self._times) else (False, None)

    def get(self, _: int) -> float:
        return 1000 * self._times[self._next - 1]


class EveryFrame:
    """A capture that is closed as the newest frames of a camera are."""

    def __init__(self, capture: cv2.VideoCapture) -> None:
        self.read, self.get = capture.read, capture.get

    def close(self) -> None:
        """Keep nothing open."""


def write_clip(path: Path, frames: int = FRAMES, codec: str = "MJPG") -> Path:
    """A face that moves to the right."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), FPS, (320, 240))
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
        assert "2 faces in 1 photo:" in printed
        assert (tmp_path / "out" / ".gitignore").read_text() == "*\n"

    def test_names_do_nothing_to_a_terminal(
        self, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_photo(tmp_path / "a\x1b[31m.png", crowd(TWO)[0])
        run(tmp_path / "a\x1b[31m.png", run_dir, tmp_path / "out", "--folds", "0")
        assert r"a\x1b[31m.png: " in capsys.readouterr().out

    def test_a_folder_with_unreadable_and_faceless_photos(self, run_dir: Path, tmp_path: Path) -> None:
        photos, out = tmp_path / "photos", tmp_path / "photos" / "out"
        write_photo(photos / "deep" / "a.JPG", crowd(TWO)[0])
        write_photo(photos / "none.png", np.full((80, 80, 3), 120, np.uint8))
        (photos / "broken.jpg").write_bytes(b"no picture")
        (photos / "notes.txt").write_text("no photo")
        for _ in range(2):
            argv = [photos, "--run-dir", run_dir, "--out", out, "--format", "csv", "--overwrite"]
            message = refusal(predict.main, argv, "broken")
        assert message.startswith("1 of 3 files cannot be read, all others are done")
        rows = table(out / "predictions.csv")
        assert list(rows["photo"]) == ["none.png", "deep/a.JPG", "deep/a.JPG"]
        faces = rows[rows["photo"] == "deep/a.JPG"]
        assert list(faces["face"]) == [1, 2]
        np.testing.assert_allclose(faces[["gender_male", "gender_female"]].sum(axis=1), 1, atol=2e-4)
        assert rows.loc[rows["photo"] == "none.png", "face"].isna().all()
        assert {path.name for path in out.rglob("*.*")} == {".gitignore", "predictions.csv", "a.JPG", "none.png"}

    def test_photos_are_told_by_content_and_all_that_is_left_out_is_named(
        self, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        photos, out = tmp_path / "photos", tmp_path / "out"
        photos.mkdir()
        image = Image.fromarray(crowd(TWO)[0])
        for name in ("a.webp", "b.gif", "c.bmp", "d.tiff", "e.avif"):
            image.save(photos / name)
        for name in ("f.jfif", "clip.mp4"):
            image.save(photos / name, "JPEG")
        image.save(photos / "IMG_7.HEIC", "AVIF")
        (photos / "g.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(999))
        (photos / "h.psd").write_bytes(b"8BPS\0\1" + bytes(99))
        (photos / ".hidden").mkdir()
        (photos / "odd\x1b[31m.jpg").write_bytes(b"")
        write_clip(photos / "walk.avi", 1)
        (photos / "notes.txt").write_text("no photo")
        os.mkfifo(photos / "pipe")
        write_photo(tmp_path / "elsewhere.jpg", crowd(TWO)[0])
        (photos / "link.jpg").symlink_to(tmp_path / "elsewhere.jpg")
        message = refusal(predict.main, [photos, "--run-dir", run_dir, "--out", out, "--folds", "0"], "5 of 13 files")
        assert "\x1b" not in message
        results = read_json(out / "predictions.json")
        assert [picture["photo"] for picture in results["pictures"]] == [
            f"{name}.png"
            for name in ("IMG_7.HEIC", "a.webp", "b.gif", "c.bmp", "clip.mp4", "d.tiff", "e.avif", "f.jfif")
        ]
        reasons = {Path(path).name: reason for path, reason in results["unreadable"].items()}
        assert reasons["h.psd"] == "format PSD is not read; convert it to JPEG or PNG"
        assert "HEIC" in reasons["g.heic"]
        assert reasons["walk.avi"] == "a video, which is predicted by itself"
        printed = capsys.readouterr().out
        assert reasons["link.jpg"] == "a link that leads out of the folder"
        assert "3 files are no photos and are left out: " in printed and "notes.txt" in printed
        assert "a.webp: mask " in printed

    def test_several_paths_and_earlier_results(self, run_dir: Path, tmp_path: Path) -> None:
        for name in ("one/a.jpg", "two/a.jpg", "b.jpg"):
            write_photo(tmp_path / name, crowd(TWO)[0])
        argv = [tmp_path / "one", tmp_path / "two", tmp_path / "b.jpg", "--run-dir", run_dir, "--folds", "0", "--out"]
        predict.main([str(word) for word in [*argv, tmp_path / "out"]])
        pictures = read_json(tmp_path / "out" / "predictions.json")["pictures"]
        assert [picture["photo"] for picture in pictures] == ["one/a.jpg", "two/a.jpg", "b.jpg"]
        earlier = [*argv, tmp_path / "out"]
        refusal(predict.main, earlier, "is there already; give another --out, or --overwrite", untouched=[tmp_path])
        twins = [tmp_path / "one" / "a.jpg", tmp_path / "two" / "a.jpg", "--run-dir", run_dir, "--out", tmp_path / "x"]
        refusal(predict.main, twins, "would both be written to", untouched=[tmp_path])
        mixed = [tmp_path / "b.jpg", write_clip(tmp_path / "walk.avi"), "--run-dir", run_dir]
        refusal(predict.main, mixed, "walk.avi: a video or a camera is predicted by itself")

    def test_temporary_files_of_a_killed_run_are_removed(self, run_dir: Path, tmp_path: Path) -> None:
        write_photo(tmp_path / "a.jpg", crowd(TWO)[0])
        gone = subprocess.run([sys.executable, "-c", PRINT_TEMPORARY], cwd=ROOT, capture_output=True, text=True).stdout
        left = tmp_path / "out" / Path(gone.strip()).name
        left.parent.mkdir()
        left.write_bytes(b"half")
        run(tmp_path / "a.jpg", run_dir, tmp_path / "out", "--folds", "0")
        left = sorted(path.name for path in (tmp_path / "out").iterdir())
        assert left == [".gitignore", "a.jpg", "predictions.json"]

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
            # The crop is the same to the pixel; predictions.json has four decimals.
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
        refusal(
            predict.main,
            [*argv[:-1], "--onnx", "x", "--folds", "0"],
            "--folds 0: an exported model has its models in it",
        )
        refusal(
            predict.main,
            [*argv[:-1], "--onnx", tmp_path],
            "no .onnx file in it; run `python -m serving.export` first",
        )
        refusal(predict.main, [*argv, run_dir, "--frames", "3", "--show"], "--frames and --show: not used for photos")
        refusal(predict.main, [*argv, run_dir, "--smoothing", "0"], "--smoothing: not used for photos; leave it out")
        sign = ["0", *argv[1:], run_dir, "--sign", "en", "--format", "csv", "--tasks", "mask,age"]
        refusal(predict.main, sign, "--format and --tasks: not used for --sign en; leave it out")
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

    @pytest.mark.parametrize("suffix", ["3gp", "wmv", "mpg", "ts", "flv", "none"])
    def test_a_video_is_told_by_its_content(self, suffix: str, run_dir: Path, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "walk.mp4", 2, "mp4v").rename(tmp_path / f"walk.{suffix}")
        run(path, run_dir, tmp_path / "out", "--folds", "0")
        assert len(table(tmp_path / "out" / "predictions.csv")) == 2
        assert (tmp_path / "out" / "walk.mp4").exists()

    @pytest.mark.parametrize("name", ["clip.mkv", "clip.avi"])
    def test_containers(self, name: str, tmp_path: Path) -> None:
        path = write_clip(tmp_path / name)
        assert is_video(path.read_bytes()[:512])
        with open_clip(path) as clip:
            assert [frame.seconds for frame in clip.frames()] == pytest.approx(np.arange(FRAMES) / FPS, abs=1e-3)

    def test_times_are_those_of_the_container(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        times = [1.0, 1.04, 1.08, 1.12, 3.12, 5.12, 7.12, 7.16]
        clip = Clip("vfr.mkv", FakeCapture(times), 25.0, 6.2, live=False)
        found = list(clip.frames())
        assert [frame.seconds for frame in found] == pytest.approx([time - 1 for time in times])
        with new_video(tmp_path / "out.mp4", clip.fps) as written:
            for frame in found:
                written.write(frame.rgb, frame.seconds)
        assert len(frames_of(tmp_path / "out.mp4")) == 155
        with new_video(tmp_path / "gap.mp4", 2.0) as written:
            for seconds in (0, 0.5, 100_000, 100_000.5):
                written.write(found[0].rgb, seconds)
        assert len(frames_of(tmp_path / "gap.mp4")) == 2 + 2 * LONGEST_GAP + 1
        assert "100000 s without a frame are 60 s in the annotated video" in capsys.readouterr().out
        still = Clip("still.mkv", FakeCapture([0.0] * 4), 25.0, 0, live=False)
        assert [frame.seconds for frame in still.frames()] == pytest.approx([0, 0.04, 0.08, 0.12])

    def test_progress_is_that_of_the_times(self, monkeypatch: pytest.MonkeyPatch) -> None:
        bars = []
        monkeypatch.setattr(predict, "progress", lambda *given, **how: bars.append(progress(*given, **how)) or bars[0])
        clip = Clip("clip", FakeCapture((0.0, 0.04, 4.0, 6.2)), 25.0, 6.2, False)
        assert [bars[0].fraction for _ in predict.with_progress(clip, None)] == pytest.approx(
            [0, 0, 0.04 / 6.2, 4 / 6.2]
        )
        assert (bars[0].done, bars[0].total) == (pytest.approx(6.2), 6.2)

    def test_rotation_is_kept(self, tmp_path: Path) -> None:
        """The matrix of a telephone's video that was held upright is written into the track's header."""
        path = write_clip(tmp_path / "walk.mp4", 2, "mp4v")
        data = bytearray(path.read_bytes())
        place = data.index(b"tkhd") + 4 + 4 + 36
        one = 1 << 16
        data[place : place + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 240 * one, 0, 1 << 30)
        path.write_bytes(data)
        with open_clip(path) as clip:
            assert {frame.rgb.shape for frame in clip.frames()} == {(320, 240, 3)}

    def test_frames_have_the_limit_of_photos(
        self, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MAX_PIXELS", "")
        argv = [write_clip(tmp_path / "walk.avi"), "--run-dir", run_dir, "--out", tmp_path / "out"]
        small = [*argv, "--max-pixels", 320 * 240 - 1]
        refusal(predict.main, small, "walk.avi: frames of 320 x 240 pixels, more than the 0.076799 million allowed")

    def test_a_part_as_json(self, run_dir: Path, tmp_path: Path) -> None:
        flags = ("--folds", "0", "--frames", "2", "--format", "json", "--smoothing", "0")
        run(write_clip(tmp_path / "walk.avi"), run_dir, tmp_path / "out", *flags)
        frames = read_json(tmp_path / "out" / "predictions.json")["pictures"]
        assert [(frame["frame"], len(frame["faces"])) for frame in frames] == [(0, 1), (1, 1)]

    def test_a_camera(self, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file stands in for the camera, whose frames take the time they take: the video keeps its pace."""
        clip, opened = write_clip(tmp_path / "walk.avi"), cv2.VideoCapture
        monkeypatch.setattr(cv2, "VideoCapture", lambda source: opened(str(clip) if source == 0 else source))
        # Every frame, while a camera leaves out those that come meanwhile.
        monkeypatch.setattr("serving.video.NewestFrames", EveryFrame)
        times = iter((0.0, 0.0, 0.1, 0.4, 0.5))
        monkeypatch.setattr("serving.video.time", SimpleNamespace(monotonic=lambda: next(times)))
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
    with pytest.raises(KeyboardInterrupt, match="interrupted: nothing was written, the same command begins anew"):
        run(write_clip(tmp_path / "walk.avi"), run_dir, tmp_path / "out", "--folds", "0")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".gitignore"]


def test_interrupted_photos_have_a_table_of_those_that_are_done(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.png", "b.png", "c.png"):
        write_photo(tmp_path / "photos" / name, np.full((60, 40, 3), 90, np.uint8))
    read = predict.read_photo

    def interrupted(path: Path) -> np.ndarray:
        if path.name == "c.png":
            raise KeyboardInterrupt
        return read(path)

    monkeypatch.setattr(predict, "read_photo", interrupted)
    out = tmp_path / "out"
    words = f"interrupted: 2 of 3 photos are in {out / 'predictions.json'}; --overwrite begins anew"
    with pytest.raises(KeyboardInterrupt, match=f"^{re.escape(words)}$"):
        run(tmp_path / "photos", run_dir, out, "--folds", "0")
    assert [picture["photo"] for picture in read_json(out / "predictions.json")["pictures"]] == ["a.png", "b.png"]
    assert sorted(path.name for path in out.iterdir()) == [".gitignore", "a.png", "b.png", "predictions.json"]


def test_rows_keep_whole_numbers(run_dir: Path, tmp_path: Path) -> None:
    """A table in which some rows have no face still says 1 and not 1.0."""
    write_photo(tmp_path / "photos" / "a.png", crowd(TWO)[0])
    write_photo(tmp_path / "photos" / "b.png", np.full((80, 80, 3), 120, np.uint8))
    run(tmp_path / "photos", run_dir, tmp_path / "out", "--format", "csv", "--folds", "0")
    rows = pd.read_csv(tmp_path / "out" / "predictions.csv", dtype=str)
    assert list(rows["face"].dropna()) == ["1", "2"]
    assert set(rows["class"].dropna()) <= set(map(str, range(18)))


class CountedPath(type(Path())):
    """A path that counts how often it is compared."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        CountedPath.compared += 1
        return super().__eq__(other)

    def __hash__(self) -> int:
        return super().__hash__()


def comparisons_of(photos: int) -> int:
    """Comparisons of paths while so many photos are listed."""
    found, CountedPath.compared = PhotoSources(), 0
    for number in range(photos):
        found.add(CountedPath(f"{number}.png"), CountedPath("out", f"{number}.png"))
    return CountedPath.compared


def test_listing_photos_compares_few_paths() -> None:
    assert comparisons_of(2000) < 5 * max(comparisons_of(500), 500)
