"""From a run to one HTML file that needs nothing else: pictures, style and script are inside."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from reporting.gradcam import Looks
from reporting.i18n import Voice
from reporting.load import RunData
from reporting.sections import sections

TEMPLATES = Path(__file__).parent / "templates"


def render(data: RunData, voice: Voice, *, mistakes: int, looks: Looks | None) -> str:
    """The page's HTML. The same run gives the same text."""
    table = sections(mistakes=mistakes, looks=looks)
    built = {section.name: section.build(data) for section in table}
    return environment(voice).get_template("page.html").render(data=data, sections=table, built=built, voice=voice)


def environment(voice: Voice) -> Environment:
    """Templates that escape every value, and fail for one that is not given."""
    loaded = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    loaded.globals |= {"say": voice.say, "name": voice.name, "include_raw": include_raw}
    loaded.filters |= {"percent": percent, "digits": digits, "duration": duration}
    return loaded


def include_raw(name: str) -> Markup:
    """A file of the template folder as it is: the style sheet and the script."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def digits(value: float) -> str:
    return f"{value:.3f}"


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
