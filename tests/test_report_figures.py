"""The report's drawings, pictures and two languages, each on its own."""

import base64
import re
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.images import write_photo
from core.languages import CHOICES
from reporting import figures
from reporting.figures import THUMBNAIL_HEIGHT, Axes, embed, thumbnail
from reporting.i18n import translator_for


def parts_of(svg: str, tag: str, *, of_class: str = "") -> list[ElementTree.Element]:
    """Elements of a drawing, which must be well-formed."""
    return [part for part in ElementTree.fromstring(svg).iter(tag) if of_class in part.get("class", "")]


def decoded(uri: str) -> np.ndarray:
    head, encoded = uri.split(",")
    assert head == "data:image/jpeg;base64"
    return cv2.imdecode(np.frombuffer(base64.b64decode(encoded), np.uint8), cv2.IMREAD_COLOR_RGB)


class TestLines:
    def test_one_path_and_all_points_for_each_line(self) -> None:
        svg = figures.line_chart([[(1, 0.0), (2, 1.0)], [(1, 0.5)]], label="age", y_range=(0, 1))
        first, second = parts_of(svg, "path", of_class="line")
        axes = Axes((1, 2), (0, 1))
        assert first.get("d") == f"M{axes.x(1):.1f} {axes.y(0):.1f}L{axes.x(2):.1f} {axes.y(1):.1f}"
        assert second.get("class") == "line s1"
        assert len(parts_of(svg, "circle")) == 3

    def test_y_grows_upwards_and_stays_inside(self) -> None:
        axes = Axes((0, 10), (0, 1))
        assert 0 < axes.y(1) < axes.y(0) < axes.height
        assert 0 < axes.x(0) < axes.x(10) < axes.width

    def test_a_run_of_one_epoch_is_drawn(self) -> None:
        assert len(parts_of(figures.line_chart([[(1, 0.3)]], label="mask", y_range=(0, 1)), "circle")) == 1

    def test_a_label_is_escaped(self) -> None:
        assert "<script>" not in figures.line_chart([[(1, 0.3)]], label='"><script>', y_range=(0, 1))

    @given(st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), max_size=6))
    def test_a_round_range_holds_all_values(self, values: list[float]) -> None:
        low, high = figures.round_range(values)
        assert low < high
        slack = 1e-9 * max(1.0, abs(low), abs(high))
        assert all(low - slack <= value <= high + slack for value in values)

    @pytest.mark.parametrize(("values", "found"), [([0.61, 1.07], (0.6, 1.1)), ([3, 3], (3, 3.2)), ([0, 97], (0, 100))])
    def test_a_range_is_round(self, values: list[float], found: tuple[float, float]) -> None:
        assert figures.round_range(values) == pytest.approx(found)


class TestOtherCharts:
    def test_dots_of_the_reliability_curve_grow_with_their_photos(self) -> None:
        svg = figures.reliability_chart([0.4, 0.9], [0.5, 0.8], [25, 100], label="age")
        small, large = (float(dot.get("r")) for dot in parts_of(svg, "circle"))
        assert (small, large) == (4.5, 7.0)

    def test_squares_count_points(self) -> None:
        x, y = np.array([21.0, 24.0, 24.0, 61.0]), np.array([22.0, 20.0, 26.0, 50.0])
        squares = parts_of(figures.density_chart(x, y, step=5, label="years"), "rect")
        assert [square.find("./*").text for square in squares] == ["2", "1", "1"]
        assert [square.get("opacity") for square in squares] == ["1.00", "0.57", "0.57"]

    def test_columns_are_as_high_as_their_counts(self) -> None:
        svg = figures.column_chart([10, 15, 20], [5, 0, 10], step=5, label="ages")
        heights = [float(column.get("height")) for column in parts_of(svg, "rect")]
        assert heights[1] == 0
        assert heights[2] == pytest.approx(2 * heights[0], abs=0.1)


class TestPictures:
    def test_a_large_picture_becomes_small_and_keeps_its_aspect(self) -> None:
        assert decoded(embed(np.full((224, 180, 3), 90, np.uint8))).shape == (THUMBNAIL_HEIGHT, 90, 3)

    def test_a_small_picture_stays_as_it_is_and_keeps_its_colours(self) -> None:
        shown = decoded(embed(np.full((32, 32, 3), (200, 30, 60), np.uint8)))
        assert shown.shape == (32, 32, 3)
        assert np.abs(shown.reshape(-1, 3).mean(axis=0) - (200, 30, 60)).max() < 3

    def test_an_unreadable_picture_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "bad.jpg").write_bytes(b"no picture")
        assert thumbnail(tmp_path / "bad.jpg") is None
        assert thumbnail(tmp_path / "absent.jpg") is None

    def test_a_picture_from_disk(self, tmp_path: Path) -> None:
        write_photo(tmp_path / "face.png", np.zeros((16, 8, 3), np.uint8))
        assert decoded(thumbnail(tmp_path / "face.png")).shape == (16, 8, 3)


class TestTranslator:
    def test_values_are_escaped_and_texts_are_not(self) -> None:
        said = translator_for("en").say("<b>{name}</b>", "{name}", name="<script>")
        assert said == "<b>&lt;script&gt;</b>"

    def test_both_languages_stand_side_by_side(self) -> None:
        assert translator_for("both").say("{n} people", "{n}명", n=3) == (
            '<span lang="en">3 people</span><span lang="ko">3명</span>'
        )

    @pytest.mark.parametrize("choice", CHOICES)
    def test_a_name_without_a_translation_is_said_as_it_is(self, choice: str) -> None:
        assert translator_for(choice).name("<glasses>") == "&lt;glasses&gt;"

    def test_every_text_of_the_templates_is_in_both_languages(self) -> None:
        folder = Path(figures.__file__).parent / "templates"
        for path in folder.glob("*.html"):
            calls = re.findall(r'(?:say|missing)\(\s*"([^"]*)",\s*"([^"]*)"', path.read_text(encoding="utf-8"))
            calls = [(en, ko) for en, ko in calls if en != "{w}"]
            for english, korean in calls:
                assert not re.search("[가-힣]", english), english
                assert re.search("[가-힣]", korean) or english == korean, english
                assert sorted(re.findall(r"{\w+}", english)) == sorted(re.findall(r"{\w+}", korean)), english
