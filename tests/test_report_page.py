"""The report in a real browser: it opens from disk, speaks both languages, has two themes and fits a phone."""

import shutil
from pathlib import Path

import pytest
from toy_data import ToyRun

from reporting import __main__ as report

pytest_plugins = ("browser_fixture", "toy_fixtures")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
SCREENS = {"desk": {"width": 1200, "height": 900}, "phone": {"width": 390, "height": 844}}


@pytest.fixture(scope="module")
def page_path(toy_run: ToyRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = shutil.copytree(toy_run.run_dir, tmp_path_factory.mktemp("page") / "run")
    report.main(["--run-dir", str(run_dir), "--no-heat"])
    return run_dir / "report" / "index.html"


class Opened:
    """The page in a browser of its own, with what it complained of and asked for."""

    def __init__(self, browser: "sync_api.Browser", path: Path, screen: str = "desk", **options: str) -> None:
        self.context = browser.new_context(viewport=SCREENS[screen], offline=True, **options)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())

    def __enter__(self) -> "Opened":
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def ground(self) -> str:
        return self.page.evaluate("getComputedStyle(document.body).backgroundColor")

    def heading(self) -> str:
        return self.page.locator("#scores h2").inner_text()


def test_it_opens_without_a_complaint_and_asks_for_nothing(browser: "sync_api.Browser", page_path: Path) -> None:
    with Opened(browser, page_path) as opened:
        assert opened.complaints == []
        assert [url for url in opened.asked if not url.startswith("data:")] == [page_path.as_uri()]
        broken = "[...document.images].filter((image) => !image.complete || image.naturalWidth === 0).length"
        assert opened.page.evaluate(broken) == 0


@pytest.mark.parametrize(("locale", "first", "second"), [("en-GB", "Scores", "점수"), ("ko-KR", "점수", "Scores"),
                                                         ("fr-FR", "Scores", "점수")])  # fmt: skip
def test_the_language_is_the_readers_and_can_be_switched(
    browser: "sync_api.Browser", page_path: Path, locale: str, first: str, second: str
) -> None:
    with Opened(browser, page_path, locale=locale) as opened:
        assert opened.heading() == first
        opened.page.click("#language")
        assert opened.heading() == second
        opened.page.reload()
        assert opened.heading() == second


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_is_the_readers_and_can_be_switched(
    browser: "sync_api.Browser", page_path: Path, scheme: str
) -> None:
    grounds = {"light": "rgb(251, 251, 249)", "dark": "rgb(21, 23, 26)"}
    with Opened(browser, page_path, color_scheme=scheme) as opened:
        assert opened.ground() == grounds[scheme]
        opened.page.click("#theme")
        assert opened.ground() == next(colour for name, colour in grounds.items() if name != scheme)


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("locale", ["en-GB", "ko-KR"])
def test_nothing_hangs_over_the_edge(browser: "sync_api.Browser", page_path: Path, screen: str, locale: str) -> None:
    with Opened(browser, page_path, screen, locale=locale) as opened:
        opened.page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
        assert opened.page.evaluate("document.documentElement.scrollWidth") == SCREENS[screen]["width"]


def test_it_is_readable_without_a_script(browser: "sync_api.Browser", page_path: Path) -> None:
    with Opened(browser, page_path, java_script_enabled=False) as opened:
        assert opened.heading() == "Scores"
