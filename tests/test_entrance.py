"""predict.py at an entrance: the sign, the counts by minute, cameras by address, only the tasks that are asked for."""

import http.server
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from core.environment import _refuse_connection

import numpy as np
import pytest
from serving_toys import GivenFaces, MeanColour, crowd, face_at, make_run, random_crops
from test_predict import write_clip
from toy_data import refusal, table

import predict
from core.boxes import Box
from core.cli import UserError
from core.images import jpeg
from core.locks import holding
from preprocessing.detectors import Face
from serving import entrance, export, sign, video
from serving.entrance import COUNTED, MinuteCounts, People, SignState, WatchOptions, watch
from serving.faces import VIDEO_ATTEMPTS, FaceFinder, Pipeline, StreamFinder
from serving.onnx_model import load_exported
from serving.sign import NOBODY, SIGNS, UNSURE, with_sign, words_of
from serving.types import FacePrediction
from serving.video import Camera, Clip, NewestFrames, camera_named, open_clip

BOX = Box(20, 20, 60, 70)
SURE = {"wear": (0.9, 0.05, 0.05), "incorrect": (0.05, 0.9, 0.05), "not_wear": (0.05, 0.05, 0.9)}
PROBS = {**SURE, UNSURE: (0.4, 0.3, 0.3)}


def faces_of(*states: str, track: int = 1) -> list[FacePrediction]:
    found = [face_at(BOX, PROBS[state]) for state in states]
    return [type(face)(face.box, face.score, face.attempt, face.predictions, track) for face in found]


@dataclass
class Frames:
    """A capture that gives frames of these levels of red, ten a second, or None where a camera ends."""

    reds: Sequence[int]
    place: int = 0

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.place += 1
        if self.place > len(self.reds):
            return False, None
        return True, np.full((90, 120, 3), (0, 0, self.reds[self.place - 1]), np.uint8)

    def get(self, _: int) -> float:
        return 100.0 * (self.place - 1)


@pytest.fixture
def no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.entrance.has_screen", lambda: False)
    monkeypatch.setattr("serving.video.has_screen", lambda: False)


class TestSign:
    def test_the_first_of_several_states_shows(self) -> None:
        assert SignState().update(faces_of("wear", "not_wear", "incorrect"), 0) == "not_wear"
        assert SignState().update(faces_of("wear", "incorrect"), 0) == "incorrect"
        assert SignState().update(faces_of("wear", UNSURE), 0) == UNSURE
        assert SignState().update([], 0) == NOBODY

    def test_it_stays_while_a_face_is_lost_for_a_moment(self) -> None:
        state = SignState()
        seen = [state.update(faces, at) for faces, at in ((faces_of("wear"), 1.0), ([], 1.4), ([], 1.6))]
        assert seen == ["wear", "wear", NOBODY]

    @pytest.mark.parametrize("state", SIGNS)
    def test_it_is_large_and_in_its_colour(self, state: str) -> None:
        picture = with_sign(np.zeros((100, 200, 3), np.uint8), [BOX], state, "en")
        assert picture.shape == (140, 200, 3)
        assert tuple(picture[-1, -1]) == SIGNS[state].colour
        assert (picture[100:] == 255).all(axis=2).sum() > 40
        assert tuple(picture[20, 40]) == SIGNS[state].colour

    def test_both_languages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert words_of("wear", "both") == ("감사합니다", "Thank you")
        assert words_of("wear", "ko") == ("감사합니다",)
        monkeypatch.setattr(sign, "KOREAN_FONTS", ("none.ttf",))
        sign._font.cache_clear()
        sign.require_font("en")
        with pytest.raises(UserError, match=r"no font with Korean letters .*, or --sign en"):
            sign.require_font("both")

    def test_a_sign_for_every_class(self) -> None:
        assert set(MeanColour()(random_crops(1))["mask"].classes) | {UNSURE, NOBODY} == set(SIGNS)


class TestCounts:
    def test_a_face_is_counted_once_when_it_has_left(self) -> None:
        counted: list[str] = []
        people = People(counted.append)
        for number in range(20):
            people.update(faces_of("not_wear" if number < 9 else "wear") if number < 10 else [], number / 10)
            people.update(faces_of("incorrect", track=2) if number == 3 else [], number / 10)
        assert counted == []
        people.update([], 2.0)
        assert counted == ["wear"]
        people.end()
        assert counted == ["wear"]

    def test_those_in_view_at_the_end_are_counted(self) -> None:
        counted: list[str] = []
        people = People(counted.append)
        for number in range(6):
            people.update(faces_of("wear"), number / 10)
        people.end()
        assert counted == ["wear"]

    def test_a_table_a_day_which_is_continued(self, tmp_path: Path) -> None:
        for _ in range(2):
            counts = MinuteCounts(tmp_path)
            for minute, state in (
                ("2030-05-01 23:58", "wear"), ("2030-05-01 23:59", "wear"), ("2030-05-01 23:59", "not_wear"),
                ("2030-05-02 00:00", UNSURE),
            ):  # fmt: skip
                counts.add(minute, state)
            # The day that is over is written, and so are minutes that are over.
            assert (tmp_path / "counts-2030-05-01.csv").exists()
            counts.write()
        rows = table(tmp_path / "counts-2030-05-01.csv")
        assert list(rows.columns) == ["minute", *COUNTED]
        assert rows.to_numpy().tolist() == [["2030-05-01 23:58", 0, 0, 0, 2], ["2030-05-01 23:59", 2, 0, 0, 2]]
        assert table(tmp_path / "counts-2030-05-02.csv")[UNSURE].tolist() == [2]

    def test_a_table_that_cannot_be_continued(self, tmp_path: Path) -> None:
        path = tmp_path / "counts-2030-05-01.csv"
        path.write_text("minute,wear\n2030-05-01 10:00,3\n")
        with pytest.raises(UserError, match=r"counts-2030-05-01\.csv: column .*incorrect.* is missing"):
            MinuteCounts(tmp_path).add("2030-05-01 10:01", "wear")
        path.write_text(f"minute,{','.join(COUNTED)}\n2030-05-01 10:00,1,1,1,many\n")
        with pytest.raises(UserError, match="counts of people are whole numbers"):
            MinuteCounts(tmp_path).add("2030-05-01 10:01", "wear")
        path.write_text(f"minute,{','.join(COUNTED)}\n" + "2030-05-01 10:00,1,1,1,1\n" * 2)
        with pytest.raises(UserError, match="2030-05-01 10:00"):
            MinuteCounts(tmp_path).open("2030-05-01 10:01")

    def test_a_camera_whose_table_cannot_be_continued_is_not_watched(self, tmp_path: Path) -> None:
        path = tmp_path / f"counts-{datetime.now():%Y-%m-%d}.csv"
        path.write_text("minute\n")
        frames = Frames([200])
        with pytest.raises(UserError, match="is missing"):
            watch(
                Clip("door", frames, 10.0, 0.0, True),
                Pipeline(GivenFaces(()), MeanColour()),
                MinuteCounts(tmp_path),
                WatchOptions("en"),
            )
        assert frames.place == 0

    def test_a_second_camera_needs_a_folder_of_its_own(self, tmp_path: Path) -> None:
        with holding(tmp_path, "--out"):
            refusal(predict.main, ["0", "--sign", "en", "--out", tmp_path], "is in use by", "give another --out")


class TestWatch:
    PIPELINE = Pipeline(GivenFaces((BOX,)), MeanColour())

    def test_a_video(self, no_screen: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A face that turns from red (no mask) to black (a mask) is asked for one, thanked, and counted with one."""
        clip = Clip("walk", Frames([255] * 10 + [0] * 10), 10.0, 2.0, live=False)
        counts = MinuteCounts(tmp_path, "walk")
        watch(clip, self.PIPELINE, counts, WatchOptions("en", smoothing=0))
        printed = capsys.readouterr()
        said = [line.split(" ", 1)[1] for line in printed.out.splitlines()]
        assert said == ["not_wear: Mask, please", "wear: Thank you"]
        assert "no screen here" in printed.err
        assert table(tmp_path / "counts-walk.csv").to_dict("records") == [
            {"minute": "00:00", "not_wear": 0, "incorrect": 0, "unsure": 0, "wear": 1}
        ]
        assert [path.name for path in tmp_path.iterdir()] == ["counts-walk.csv"]

    def test_in_a_window_until_q(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pictures: list[np.ndarray] = []
        monkeypatch.setattr(entrance, "has_screen", lambda: True)
        monkeypatch.setattr(entrance, "shown", lambda picture: pictures.append(picture) or len(pictures) < 8)
        clip = Clip("camera 0", Frames([255] * 99), 10.0, 0.0, live=False)
        watch(clip, self.PIPELINE, MinuteCounts(tmp_path, "walk"), WatchOptions("en"))
        assert [picture.shape for picture in pictures] == [(126, 120, 3)] * 8
        assert tuple(pictures[-1][-1, -1]) == SIGNS["not_wear"].colour
        assert table(tmp_path / "counts-walk.csv")["not_wear"].tolist() == [1]

    def test_ctrl_c_writes_the_counts_of_a_camera(self, no_screen: None, tmp_path: Path) -> None:
        def interrupted(rgb: np.ndarray) -> list[FacePrediction]:
            interrupted.frames += 1
            if interrupted.frames == 9:
                raise KeyboardInterrupt
            return self.PIPELINE(rgb)

        interrupted.frames = 0
        clip = Clip("camera 0", SlowFrames([255] * 99), 10.0, 0.0, live=True)
        watch(clip, interrupted, MinuteCounts(tmp_path), WatchOptions("en"))
        (path,) = tmp_path.iterdir()
        assert path.name == f"counts-{datetime.now():%Y-%m-%d}.csv"
        assert table(path)["not_wear"].tolist() == [1]

    def test_too_few_frames_are_said(self, no_screen: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        clip = Clip("walk", RareFrames([255] * 5), 1.0, 5.0, live=False)
        watch(clip, self.PIPELINE, MinuteCounts(tmp_path, "walk"), WatchOptions("en"))
        assert "warning: 1.2 frames a second; below 3 a face is lost" in capsys.readouterr().err

    def test_a_camera_that_ends_by_itself(self, no_screen: None, tmp_path: Path) -> None:
        clip = Clip("camera 0", SlowFrames([255] * 9), 10.0, 0.0, live=True)
        with pytest.raises(UserError, match="camera 0: it sends no more frames; what was counted is written"):
            watch(clip, self.PIPELINE, MinuteCounts(tmp_path), WatchOptions("en"))
        assert len(list(tmp_path.iterdir())) == 1


class RareFrames(Frames):
    """Frames one second apart."""

    def get(self, _: int) -> float:
        return 1000.0 * (self.place - 1)


class SlowFrames(Frames):
    """Frames that take their time, as those of a camera do."""

    def read(self) -> tuple[bool, np.ndarray | None]:
        threading.Event().wait(0.08)
        return super().read()


class TestCommand:
    def test_a_video_with_an_exported_model(self, no_screen: None, tmp_path: Path) -> None:
        run_dir, out = make_run(tmp_path / "run"), tmp_path / "out"
        export.main(["--run-dir", str(run_dir), "--crops", "2"])
        clip = write_clip(tmp_path / "walk.avi", frames=9)
        for model in (("--run-dir", str(run_dir)), ("--onnx", str(run_dir / "onnx"))):
            predict.main([str(clip), *model, "--out", str(out), "--sign", "en", "--overwrite"])
            assert table(out / "counts-walk.csv")[list(COUNTED)].to_numpy().sum() == 1
            assert {path.name for path in out.iterdir()} <= {"counts-walk.csv", ".gitignore"}
        argv = [clip, "--run-dir", run_dir, "--out", out, "--sign", "en"]
        refusal(predict.main, argv, "counts-walk.csv is there already", untouched=[out])
        refusal(predict.main, [run_dir, "--run-dir", run_dir, "--sign", "en"], "--sign en: needs a camera or a video")

    def test_tasks(self, tmp_path: Path) -> None:
        """Only the tasks that are asked for are computed, with the same predictions."""
        run_dir = make_run(tmp_path / "run", head="values")
        export.main(["--run-dir", str(run_dir), "--crops", "2"])
        onnx, crops = run_dir / "onnx", random_crops(3)
        whole = load_exported(onnx)(crops)
        for tasks in (("mask",), ("gender", "age")):
            part = load_exported(onnx, tasks)
            assert part.tasks == tasks
            predicted = part(crops)
            assert tuple(predicted) == tasks
            assert all((predicted[task].log_probs == whole[task].log_probs).all() for task in tasks)
            names = {output.name.partition("_")[0] for model in part.models for output in model.session.get_outputs()}
            assert names == set(tasks)
        clip = write_clip(tmp_path / "walk.avi", frames=2)
        for model in (("--run-dir", str(run_dir)), ("--onnx", str(onnx))):
            argv = [str(clip), *model, "--out", str(tmp_path / "out"), "--tasks", "mask", "--overwrite"]
            predict.main(argv)
            columns = table(tmp_path / "out" / "predictions.csv").columns
            assert "mask_wear" in columns and not {"gender", "age"} & set(columns)
        refusal(predict.main, [clip, "--tasks", "mask,hat"], "'hat' is none of the tasks mask, gender, age")
        small = make_run(tmp_path / "small", ("mask",))
        refusal(predict.main, [clip, "--run-dir", small, "--tasks", "age"], "age: fold 0 is not trained")
        export.main(["--run-dir", str(small), "--crops", "2"])
        refusal(predict.main, [clip, "--onnx", small / "onnx", "--tasks", "age"], "no model of age; it has mask")


class TestFinder:
    def test_the_fine_view_is_taken_now_and_then_and_while_it_shows_more(self) -> None:
        """A small face is there in frames 3 to 12: it is found from the tenth on, and gone at once."""
        fine_views = []

        def detect(rgb: np.ndarray, _: float) -> list[Face]:
            fine = max(rgb.shape) > 256
            fine_views.append(fine)
            small = fine and 3 <= frames[-1] <= 12
            points = np.array([(30.0, 30), (50, 30), (40, 45), (32, 55), (48, 55)])
            return [Face(Box(20, 10, 60, 70), 0.99, points)] if small else []

        finder = StreamFinder(FaceFinder(detect, 0.9, attempts=VIDEO_ATTEMPTS, retry=False))
        frames, found, fine = [], [], []
        for number in range(20):
            frames.append(number)
            fine_views.clear()
            found.append(len(finder(np.zeros((480, 640, 3), np.uint8))))
            fine.append(any(fine_views))
        assert [frame for frame in range(20) if found[frame]] == [10, 11, 12]
        assert [frame for frame in range(20) if fine[frame]] == [0, 10, 11, 12, 13]


@contextmanager
def mjpeg_camera(frames: int) -> Iterator[str]:
    """A camera on this machine that sends JPEGs over HTTP, as its address with a user and a password."""
    picture = jpeg(crowd(((160, 120, 120),), 320, 240)[0])

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            for _ in range(frames):
                self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\n")
                self.wfile.write(f"Content-Length: {len(picture)}\r\n\r\n".encode() + picture + b"\r\n")
                threading.Event().wait(0.02)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://user:secret@127.0.0.1:{server.server_port}/video"
    finally:
        server.shutdown()
        server.server_close()


class TestCameras:
    def test_an_address(self, tmp_path: Path) -> None:
        run_dir = make_run(tmp_path / "run", ("mask",))
        with mjpeg_camera(400) as address:
            argv = [address, "--run-dir", str(run_dir), "--out", str(tmp_path / "out"), "--frames", "5"]
            predict.main(argv)
        rows = table(tmp_path / "out" / "predictions.csv")
        assert len(rows) == 5 and rows["mask"].notna().all()
        assert (tmp_path / "out" / "camera-127.0.0.1.mp4").exists()

    def test_names_keep_passwords(self) -> None:
        camera = camera_named("rtsp://user:secret@10.0.0.7:8554/door?token=secret")
        assert (camera.name, camera.stem) == ("rtsp://10.0.0.7:8554/door", "camera-10.0.0.7")
        assert camera_named("3") == Camera(3)
        assert camera_named("photo.jpg") is None and camera_named("ftp://a/b") is None

    @pytest.mark.parametrize(
        ("address", "reason"),
        [
            ("rtsp://user:secret@127.0.0.1:{port}/door", "cannot be reached (Connection refused)"),
            ("http://127.0.0.1:{port}/video", "cannot be reached (Connection refused)"),
            ("http://127.0.0.1:99999/video", "no address of a camera (Port out of range"),
            ("rtsp:///door", "no address of a camera (it names no host)"),
        ],
    )
    def test_one_that_cannot_be_reached(self, address: str, reason: str, capfd: pytest.CaptureFixture[str]) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            address = address.format(port=closed.getsockname()[1])
            with pytest.raises(UserError) as caught, open_clip(camera_named(address)):
                pass
        assert reason in str(caught.value) and "secret" not in str(caught.value)
        assert capfd.readouterr().err == ""

    def test_what_answers_but_is_no_camera(self, capfd: pytest.CaptureFixture[str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            threading.Thread(target=lambda: server.accept()[0].close(), daemon=True).start()
            address = f"http://127.0.0.1:{server.getsockname()[1]}/video"
            with pytest.raises(UserError, match="cannot be opened as a video"), open_clip(Camera(address)):
                pass
        assert capfd.readouterr().err == ""

    def test_offline_refuses_other_machines(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def connect(address: tuple[str, int], timeout: float) -> None:
            _refuse_connection("socket.getaddrinfo", address)

        monkeypatch.setattr(video.socket, "create_connection", connect)
        with (
            pytest.raises(UserError, match=r"--offline: a connection to 192\.0\.2\.1"),
            open_clip(Camera("rtsp://192.0.2.1/door")),
        ):
            pass

    def test_frames_that_come_meanwhile_are_left_out(self) -> None:
        newest = NewestFrames(SlowFrames(range(1, 40)))
        reds = []
        for _ in range(3):
            reds.append(int(newest.read()[1][0, 0, 2]))
            threading.Event().wait(0.5)
        newest.close()
        assert reds[0] <= 2 and reds[1] - reds[0] >= 3 and reds[2] - reds[1] >= 3
        assert newest.read() == (False, None) or newest.read() == (False, None)
