"""Render a run as one HTML file with its pictures, style sheet and script inside.

A new section is a row in `sections`, the function that builds its values, and a template of its name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from reporting import data_sections, result_sections
from reporting.i18n import Translator
from reporting.load import RunData

if TYPE_CHECKING:
    from reporting.gradcam import HeatMaps

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Section:
    """Section of the page: headings, and the function that returns the values of `templates/<name>.html`."""

    name: str
    english: str
    korean: str
    build: Callable[[RunData], dict[str, Any]]


def sections(*, mistakes: int, heat_maps: "HeatMaps | None") -> tuple[Section, ...]:
    """Return all sections in page order, with up to `mistakes` mistakes per task, and heat over them if available."""
    build_mistakes = partial(result_sections.mistakes_section, count=mistakes, heat_maps=heat_maps)
    return (
        Section("photos", "People and photos", "사람과 사진", data_sections.photos_section),
        Section("faces", "Face detection", "얼굴 검출", data_sections.faces_section),
        Section("folds", "Folds", "폴드", data_sections.folds_section),
        Section("training", "Training", "학습", data_sections.training_section),
        Section("scores", "Scores", "점수", result_sections.scores_section),
        Section("confusion", "Confusion matrices", "혼동 행렬", result_sections.confusion_section),
        Section("groups", "Groups of people", "집단별 점수", result_sections.groups_section),
        Section("calibration", "Calibration", "확신도 보정", result_sections.calibration_section),
        Section("years", "Age in years", "나이 오차", result_sections.years_section),
        Section("curve", "More people", "인원이 늘면", data_sections.curve_section),
        Section("mistakes", "Worst mistakes", "크게 틀린 예측", build_mistakes),
        Section("suspects", "Suspected wrong labels", "의심스러운 라벨", result_sections.suspects_section),
        Section("unsure", "Predictions on the eval photos", "평가 사진 예측", result_sections.unsure_section),
        Section("settings", "Settings and versions", "설정과 버전", data_sections.settings_section),
    )


def render(data: RunData, translator: Translator, *, mistakes: int, heat_maps: "HeatMaps | None") -> str:
    """Return the page's HTML. The same run gives the same text."""
    table = sections(mistakes=mistakes, heat_maps=heat_maps)
    built = {section.name: section.build(data) for section in table}
    page = environment(translator).get_template("page.html")
    return page.render(data=data, sections=table, built=built, languages=translator.languages)


def environment(translator: Translator) -> Environment:
    """Return a Jinja environment that escapes all values and raises for a missing one."""
    loaded = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    loaded.globals |= {"say": translator.say, "name": translator.name, "include_raw": include_raw}
    loaded.filters |= {"percent": percent, "digits": digits, "duration": duration}
    return loaded


def include_raw(name: str) -> Markup:
    """Return a file of the template folder unescaped: the style sheet and the script."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}%"


def digits(value: float) -> str:
    return f"{value:.3f}"


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
