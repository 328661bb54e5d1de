"""demo.py in a real browser: labels appear, nothing is left on disk, nothing is asked of other computers."""

import base64
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from serving_toys import GivenFaces, MeanColour, crowd, face_at, make_run
from toy_data import refusal

from core.boxes import Box
from core.cli import UserError
from core.images import write_photo
from preprocessing.detectors import detector_named
from serving import demo
from serving import page as demo_page
from serving.faces import FaceFinder, Pipeline

pytest_plugins = ("browser_fixture",)
CARD = "models of toys: mask\n  trained on <colours>"
PHONE = {"width": 390, "height": 844}
TWO = ((120, 160, 150), (360, 150, 110))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass(frozen=True)
class Site:
    """The page being served, and where its uploads go."""

    page: Any
    upload_dir: Path
    port: int

    def files(self) -> list[Path]:
        """The uploads that are there when they should have been deleted."""
        for _ in range(20):
            left = [path for path in self.upload_dir.rglob("*") if path.is_file()]
            if not left:
                break
            time.sleep(0.1)
        return left


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The page with the real detector and a classifier that looks at colours; uploads of 1 MB at most."""
    pytest.importorskip("gradio", reason="gradio is not installed")
    gradio, port = demo_page.gradio_package(), free_port()
    upload_dir = tmp_path_factory.mktemp("uploads")
    finder = FaceFinder(detector_named("retinaface").load(), 0.9)
    pipeline = Pipeline(finder, MeanColour(), unsure_below=0.9, about=CARD)
    demo_page.KEPT_SECONDS, kept = 0.5, demo_page.KEPT_SECONDS
    page = demo_page.build_page(gradio, pipeline, upload_dir)
    demo_page.serve(gradio, page, host="127.0.0.1", port=port, most_megabytes=1)
    yield Site(page, upload_dir, port)
    page.close()
    demo_page.KEPT_SECONDS = kept


@pytest.fixture
def tab(browser: Any, site: Site, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page in a browser that reaches nothing but the page; `tab.refused` lists what it was kept from."""
    locale = getattr(request, "param", "en-GB")
    tab, refused = browser.new_page(viewport={"width": 1000, "height": 1300}, locale=locale), []

    def filtered(route: Any) -> None:
        if route.request.url.startswith((f"http://127.0.0.1:{site.port}", "data:", "blob:")):
            route.continue_()
        else:
            refused.append(route.request.url)
            route.abort()

    tab.route("**/*", filtered)
    tab.refused = refused
    tab.goto(f"http://127.0.0.1:{site.port}")
    tab.wait_for_selector("input[type=file]", state="attached", timeout=60_000)
    yield tab
    tab.close()


def upload(tab: Any, path: Path) -> str:
    """The answer to an upload."""
    tab.set_input_files("input[type=file]", str(path))
    tab.wait_for_selector("#found img, #found .message", timeout=60_000)
    return tab.inner_text("#found")


class TestBrowser:
    def test_labels_appear_and_nothing_stays(self, tab: Any, site: Site, tmp_path: Path) -> None:
        path = tmp_path / "두 사람.png"
        write_photo(path, crowd(TWO)[0])
        answer = upload(tab, path)
        assert answer.count("not_wear") == 4
        assert answer.count("unsure") == 2
        assert "percent" in answer
        shown = tab.get_attribute("#found img", "src")
        encoded = np.frombuffer(base64.b64decode(shown.removeprefix("data:image/jpeg;base64,")), np.uint8)
        assert cv2.imdecode(encoded, cv2.IMREAD_COLOR).shape == (640, 960, 3)
        tab.wait_for_selector("text=Drop Image Here")
        assert site.files() == []
        assert tab.refused == []

    @pytest.mark.parametrize("tab", ["ko-KR"], indirect=True)
    def test_a_korean_browser_gets_a_korean_page(self, tab: Any, tmp_path: Path) -> None:
        path = tmp_path / "a.png"
        write_photo(path, crowd(TWO)[0])
        answer = upload(tab, path)
        assert answer.startswith("얼굴\t마스크")
        assert answer.count("미착용") == 4 and answer.count("불확실") == 2
        assert "사진 속 모든 얼굴에 박스를 표시합니다." in tab.inner_text("body")

    def test_on_a_telephone(self, tab: Any, tmp_path: Path) -> None:
        """Nothing is wider than the screen, and the predictions of each face stand below its number."""
        tab.set_viewport_size(PHONE)
        path = tmp_path / "a.png"
        write_photo(path, crowd(TWO)[0])
        upload(tab, path)
        assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        number, cell = (tab.locator(f"#found tr:nth-child(2) > {kind}").bounding_box() for kind in ("th", "td"))
        assert number["y"] + number["height"] <= cell["y"] + 1 and cell["width"] > 250
        assert tab.locator("#found img").bounding_box()["width"] > 250

    def test_the_card_of_the_model(self, tab: Any) -> None:
        tab.click("#card button")
        tab.wait_for_selector("#card pre:visible")
        assert tab.inner_text("#card pre") == CARD
        assert "measure on your own photos" in tab.inner_text("#card")

    def test_a_file_that_is_no_picture(self, tab: Any, site: Site, tmp_path: Path) -> None:
        write_photo(tmp_path / "whole.png", crowd(TWO)[0])
        cut = tmp_path / "cut.png"
        cut.write_bytes((tmp_path / "whole.png").read_bytes()[:9000])
        assert "cannot be read as a picture: the file is cut short" in upload(tab, cut)
        assert site.files() == []

    def test_an_upload_that_is_too_large(self, tab: Any, site: Site, tmp_path: Path) -> None:
        path = tmp_path / "large.png"
        write_photo(path, np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8))
        tab.set_input_files("input[type=file]", str(path))
        tab.wait_for_selector("text=/exceeded|too large|maximum/i", timeout=60_000)
        assert tab.inner_text("#found").strip() == ""
        assert site.files() == []


class TestPage:
    def test_a_file_that_is_no_upload_is_left_alone(self, site: Site, tmp_path: Path) -> None:
        path = tmp_path / "mine.png"
        write_photo(path, crowd(TWO)[0])
        (event,) = site.page.fns.values()
        assert event.fn(str(path)) == (None, "")
        assert path.exists()

    def test_no_face(self, tmp_path: Path) -> None:
        path = tmp_path / "plain.png"
        write_photo(path, np.full((60, 60, 3), 99, np.uint8))
        assert "No face found" in demo_page.predict_upload(path, Pipeline(GivenFaces(()), MeanColour()))

    def test_one_language_for_all(self, site: Site, tmp_path: Path) -> None:
        pipeline = Pipeline(GivenFaces(()), MeanColour())
        page = demo_page.build_page(demo_page.gradio_package(), pipeline, tmp_path, "ko")
        write_photo(tmp_path / "plain.png", np.full((60, 60, 3), 99, np.uint8))
        (event,) = page.fns.values()
        assert "얼굴을 찾지 못했습니다" in event.fn(str(tmp_path / "plain.png"))[1]
        assert "사진 속" in page.title
        years = face_at(Box(0, 0, 9, 9), (0.9, 0.05, 0.05), 31).predictions["mask"]
        assert "<b>착용</b>, 31세<" in demo_page.cell(years, "ko")

    def test_visitors_who_upload_the_same_photo_all_get_its_predictions(self, site: Site) -> None:
        path = site.upload_dir / "hash" / "photo.png"
        write_photo(path, crowd(TWO)[0])
        (event,) = site.page.fns.values()
        answers = [event.fn(str(path))[1] for _ in range(3)]
        assert len(set(answers)) == 1 and "<img" in answers[0]
        assert site.files() == []

    def test_large_pictures_are_made_smaller(self) -> None:
        rgb = np.zeros((3000, 1500, 3), np.uint8)
        assert demo_page.at_most(rgb, 2048).shape == (2048, 1024, 3)
        assert demo_page.at_most(rgb, 3000) is rgb

    def test_names_cannot_carry_markup(self) -> None:
        face = face_at(Box(0, 0, 9, 9), (0.9, 0.05, 0.05), 31)
        answer = face.predictions["mask"]
        odd = type(answer)(("<b>", "&", "c"), answer.log_probs, 31.0, "<i>")
        assert "<b></b>" not in demo_page.cell(odd).replace("<b>&lt;b&gt;</b>", "")
        assert "31 &lt;i&gt;" in demo_page.cell(odd)


class TestCommand:
    def test_no_trained_run(self, tmp_path: Path) -> None:
        refusal(demo.main, ["--run-dir", tmp_path / "none"], "run train.py first, or give --run-dir")

    def test_no_run_at_all(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("serving.loading.STARTER", tmp_path / "none")
        refusal(demo.main, [], "outputs: no trained run in it; run train.py first", untouched=[tmp_path])

    def test_gradio_is_missing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "gradio", None)
        refusal(demo.main, ["--run-dir", tmp_path], "gradio cannot be imported", "scripts/install.py demo")

    def test_a_port_that_is_taken(self, site: Site, tmp_path: Path) -> None:
        run_dir = make_run(tmp_path / "run", ("mask",))
        argv = ["--run-dir", run_dir, "--port", site.port, "--device", "cpu"]
        refusal(demo.main, argv, f"--port {site.port}: cannot be listened on at 127.0.0.1")

    def test_ctrl_c_closes_the_page_and_removes_its_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pytest.importorskip("gradio", reason="gradio is not installed")

        def interrupted() -> None:
            raise KeyboardInterrupt

        folder = tmp_path / "temporary"
        folder.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(folder))
        monkeypatch.setattr(demo, "wait_for_ctrl_c", interrupted)
        port = free_port()
        with pytest.raises(KeyboardInterrupt):
            demo.main(["--run-dir", str(make_run(tmp_path / "run", ("mask",))), "--port", str(port)])
        assert f"http://127.0.0.1:{port}" in capsys.readouterr().out
        assert list(folder.iterdir()) == []
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port), timeout=1)


def test_a_page_without_gradio_is_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError, match=r"python scripts/install\.py demo"):
        demo_page.gradio_package()
