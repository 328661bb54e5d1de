"""The annotation page in a real browser: dragging boxes, keys, and going on after a reload."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from annotate_toys import (
    HEIGHT,
    LARGE,
    LARGE_SIZE,
    LISTED,
    PLAIN,
    SUGGESTION,
    TURNED,
    WIDTH,
    make_folder,
    numbers,
    rows_of,
    serving,
)

from preprocessing.annotation import no_face_path_of
from preprocessing.annotation_server import PAGE_DIR, AnnotationServer

pytest_plugins = ("browser_fixture",)
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
EXACT = 1.0
"""Photo pixels by which a drawn box may differ from what the mouse did."""


@pytest.fixture(scope="module")
def crop_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("annotate"))


@pytest.fixture
def boxes_path(tmp_path: Path) -> Path:
    return tmp_path / "boxes.csv"


@pytest.fixture
def server(crop_dir: Path, boxes_path: Path) -> Iterator[AnnotationServer]:
    with serving(crop_dir, boxes_path) as server:
        yield server


@pytest.fixture
def page(browser: "sync_api.Browser", server: AnnotationServer) -> Iterator["sync_api.Page"]:
    """The page with its first photo on it; a script error fails the test that made it."""
    page = browser.new_page(viewport={"width": 900, "height": 700}, locale="en-GB")
    errors: list[object] = []
    page.on("pageerror", lambda error: errors.append(error))
    page.goto(server.url)
    see(page, 1, "suggestion")
    yield page
    page.close()
    assert errors == []


def see(page: "sync_api.Page", place: int, mark: str) -> None:
    """Wait until the photo of that place is there with that mark."""
    sync_api.expect(page.locator("#counter")).to_have_text(f"{place} / {len(LISTED)}")
    sync_api.expect(page.locator("#mark")).to_have_text(mark)
    if place <= LISTED.index(LARGE) + 1:
        sync_api.expect(page.locator("#canvas")).to_be_visible()


def drag(page: "sync_api.Page", size: tuple[int, int], start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag the mouse from one pixel of a photo of `size` to another."""
    frame = page.locator("#canvas").bounding_box()
    across, down = frame["width"] / size[0], frame["height"] / size[1]
    page.mouse.move(frame["x"] + start[0] * across, frame["y"] + start[1] * down)
    page.mouse.down()
    page.mouse.move(frame["x"] + end[0] * across, frame["y"] + end[1] * down, steps=3)
    page.mouse.up()


def test_a_dragged_box_is_saved_in_pixels_of_the_photo(page: "sync_api.Page", boxes_path: Path) -> None:
    drag(page, (WIDTH, HEIGHT), (20, 30), (100, 140))
    see(page, 1, "box saved")
    assert rows_of(boxes_path)[0] == "image_id,x1,y1,x2,y2"
    assert rows_of(boxes_path)[1].startswith(f"{PLAIN},")
    assert numbers(rows_of(boxes_path)[1]) == pytest.approx([20, 30, 100, 140], abs=EXACT)


def test_a_box_can_be_dragged_from_any_corner_and_out_of_the_photo(page: "sync_api.Page", boxes_path: Path) -> None:
    drag(page, (WIDTH, HEIGHT), (100, 140), (20, 30))
    see(page, 1, "box saved")
    assert numbers(rows_of(boxes_path)[1]) == pytest.approx([20, 30, 100, 140], abs=EXACT)
    with page.expect_response("**/mark/0"):
        drag(page, (WIDTH, HEIGHT), (60, 80), (-20, HEIGHT + 5))
    assert numbers(rows_of(boxes_path)[1]) == pytest.approx([0, 80, 60, HEIGHT], abs=EXACT)


def test_a_corner_of_a_box_can_be_moved(page: "sync_api.Page", boxes_path: Path) -> None:
    drag(page, (WIDTH, HEIGHT), (20, 30), (100, 140))
    see(page, 1, "box saved")
    with page.expect_response("**/mark/0"):
        drag(page, (WIDTH, HEIGHT), (100, 30), (90, 50))
    assert numbers(rows_of(boxes_path)[1]) == pytest.approx([20, 50, 90, 140], abs=EXACT)


def test_a_large_photo_is_exact_too(page: "sync_api.Page", boxes_path: Path) -> None:
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    see(page, 3, "suggestion")
    drag(page, LARGE_SIZE, (400, 700), (2000, 2500))
    see(page, 3, "box saved")
    # The mouse moves by CSS pixels, of which this photo has one to about five of its own.
    assert numbers(rows_of(boxes_path)[1]) == pytest.approx([400, 700, 2000, 2500], abs=EXACT)


def test_the_keys_do_what_they_say(page: "sync_api.Page", boxes_path: Path) -> None:
    page.keyboard.press("a")
    see(page, 2, "suggestion")
    assert rows_of(boxes_path)[1:] == [f"{PLAIN},{','.join(map(str, SUGGESTION))}"]
    page.keyboard.press("n")
    see(page, 3, "suggestion")
    assert rows_of(no_face_path_of(boxes_path)) == ["image_id,drop", f"{TURNED},"]
    page.keyboard.press("ArrowLeft")
    see(page, 2, "no face")
    page.keyboard.press("u")
    see(page, 2, "suggestion")
    page.keyboard.press("Control+z")
    see(page, 1, "suggestion")
    assert rows_of(boxes_path)[1:] == rows_of(no_face_path_of(boxes_path))[1:] == []
    page.keyboard.press("n")
    see(page, 2, "suggestion")
    page.keyboard.press("Backspace")
    page.keyboard.press("Delete")
    see(page, 1, "suggestion")
    page.keyboard.press(" ")
    page.keyboard.press("n")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("n")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("j")
    see(page, 3, "suggestion")


def test_accepting_keeps_a_box_drawn_by_hand(page: "sync_api.Page", boxes_path: Path) -> None:
    drag(page, (WIDTH, HEIGHT), (20, 30), (100, 140))
    see(page, 1, "box saved")
    page.keyboard.press("a")
    see(page, 2, "suggestion")
    assert numbers(rows_of(boxes_path)[1]) == pytest.approx([20, 30, 100, 140], abs=EXACT)


def test_keys_typed_fast_act_one_after_the_other(page: "sync_api.Page", boxes_path: Path) -> None:
    for key in "aaa":
        page.keyboard.press(key)
    see(page, 4, "no box yet")
    assert [row.split(",")[0] for row in rows_of(boxes_path)[1:]] == list(LISTED[:3])


def test_a_reload_and_a_later_session_go_on_at_the_first_photo_without_a_mark(
    page: "sync_api.Page", crop_dir: Path, boxes_path: Path
) -> None:
    drag(page, (WIDTH, HEIGHT), (20, 30), (100, 140))
    see(page, 1, "box saved")
    page.reload()
    see(page, 2, "suggestion")
    sync_api.expect(page.locator("#left")).to_have_text("3 left")
    page.keyboard.press("ArrowLeft")
    see(page, 1, "box saved")
    with serving(crop_dir, boxes_path) as later:
        page.goto(later.url)
        see(page, 2, "suggestion")


def test_a_photo_that_cannot_be_read_says_so(page: "sync_api.Page") -> None:
    for _ in range(3):
        page.keyboard.press("Enter")
    see(page, 4, "no box yet")
    sync_api.expect(page.locator("#message")).to_contain_text("this photo cannot be read")
    sync_api.expect(page.locator("#canvas")).to_be_hidden()
    page.keyboard.press("n")
    see(page, 4, "no face")


def test_a_click_and_other_keys_mark_nothing(page: "sync_api.Page", boxes_path: Path) -> None:
    drag(page, (WIDTH, HEIGHT), (20, 30), (20, 30))
    for key in ("x", "Tab", "Control+a", "Alt+n"):
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    see(page, 2, "suggestion")
    assert not boxes_path.exists()


def test_what_cannot_be_saved_is_said_aloud_and_not_shown_as_saved(
    page: "sync_api.Page", server: AnnotationServer, boxes_path: Path
) -> None:
    boxes_path.write_text("damaged\n", encoding="utf-8")
    page.keyboard.press("a")
    sync_api.expect(page.locator("#alert")).to_contain_text("column image_id is missing")
    see(page, 1, "suggestion")
    boxes_path.unlink()
    page.keyboard.press("a")
    see(page, 2, "suggestion")
    sync_api.expect(page.locator("#alert")).to_be_hidden()


def test_finish_ends_the_server_and_the_page_says_so(page: "sync_api.Page") -> None:
    page.locator("#finish").click()
    sync_api.expect(page.locator("#message")).to_have_text("Finished. All marks are saved; you can close this page.")
    page.keyboard.press("n")
    sync_api.expect(page.locator("#next")).to_be_disabled()


def test_a_server_that_has_gone_is_named(page: "sync_api.Page", server: AnnotationServer) -> None:
    server.shutdown()
    server.server_close()
    page.keyboard.press("n")
    sync_api.expect(page.locator("#alert")).to_contain_text("The command has stopped.")
    see(page, 1, "suggestion")


def test_the_button_and_the_address_choose_korean(page: "sync_api.Page", server: AnnotationServer) -> None:
    page.locator("#language").click()
    see(page, 1, "제안")
    sync_api.expect(page.locator("#next")).to_have_text("Enter 다음")
    page.reload()
    see(page, 1, "제안")
    sync_api.expect(page.locator("#left")).to_have_text("4장 남음")
    page.locator("#language").click()
    see(page, 1, "suggestion")
    page.goto(f"{server.url}?lang=ko")
    sync_api.expect(page.locator("#name")).to_have_text(re.compile("추정.*사진 중앙"))


def test_a_korean_browser_gets_a_korean_page(browser: "sync_api.Browser", server: AnnotationServer) -> None:
    page = browser.new_page(locale="ko-KR")
    page.goto(server.url)
    see(page, 1, "제안")
    page.close()


def test_all_texts_have_two_languages() -> None:
    html, script, texts = (
        (PAGE_DIR / name).read_text(encoding="utf-8") for name in ("index.html", "page.js", "texts.js")
    )
    named = {*re.findall('data-text="([^"]+)"', html), *re.findall(r'say\("([^"]+)"\)', script)}
    table = dict(re.findall(r'^  "?([\w ]+)"?: \[\s*"((?:[^"]+)",\s*"(?:[^"]+))"', texts, re.MULTILINE))
    assert named and not named - table.keys()
