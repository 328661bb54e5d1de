"""The table of sections: a further one is a row here, the function that counts it, and a template of its name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from reporting import data_sections, result_sections
from reporting.gradcam import Looks
from reporting.load import RunData


@dataclass(frozen=True)
class Section:
    """A part of the page: its heading in both languages, and what gives `templates/<name>.html` its values."""

    name: str
    english: str
    korean: str
    build: Callable[[RunData], dict[str, Any]]


def sections(*, mistakes: int, looks: Looks | None) -> tuple[Section, ...]:
    """All sections in the order of the page, with `mistakes` per task, and heat over them if there are `looks`."""
    build_mistakes = partial(result_sections.mistakes_section, count=mistakes, looks=looks)
    return (
        Section("photos", "People and photos", "사람과 사진", data_sections.photos_section),
        Section("faces", "Faces found", "얼굴 검출", data_sections.faces_section),
        Section("folds", "Folds", "폴드", data_sections.folds_section),
        Section("training", "Training", "학습", data_sections.training_section),
        Section("scores", "Scores", "점수", result_sections.scores_section),
        Section("confusion", "What is taken for what", "혼동 행렬", result_sections.confusion_section),
        Section("groups", "Groups of people", "집단별 점수", result_sections.groups_section),
        Section(
            "calibration", "Can certainty be believed?", "확신을 믿을 수 있나", result_sections.calibration_section
        ),
        Section("years", "Age in years", "나이 오차", result_sections.years_section),
        Section("mistakes", "Worst mistakes", "가장 큰 실수", build_mistakes),
        Section("suspects", "Suspected wrong labels", "의심스러운 라벨", result_sections.suspects_section),
        Section("unsure", "Answers on the eval photos", "평가 사진의 답", result_sections.unsure_section),
        Section("settings", "Settings and versions", "설정과 버전", data_sections.settings_section),
    )
