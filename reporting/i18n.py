"""The report's two languages: a text is given in both, where it is used, and the reader switches between them."""

from dataclasses import dataclass

from markupsafe import Markup

LANGUAGES = ("en", "ko")
CHOICES = (*LANGUAGES, "both")
KOREAN_NAMES = {
    **{"mask": "마스크", "gender": "성별", "age": "나이대", "combined": "합친 클래스"},
    **{"wear": "착용", "incorrect": "잘못 착용", "not_wear": "미착용", "male": "남성", "female": "여성"},
    **{"young": "저연령", "middle": "중간 연령", "old": "고연령"},
    **{"train": "학습", "oof": "out-of-fold", "eval": "평가"},
    **{"detected": "검출", "fallback": "보조 검출", "manual": "수동", "missing": "읽지 못함"},
}
"""Korean for the names of tasks, classes, splits and statuses; a name that is not here stays as it is."""
ENGLISH_NAMES = {"oof": "out of fold", "not_wear": "not worn", "wear": "worn", "incorrect": "worn wrong"}


@dataclass(frozen=True)
class Voice:
    """Writes a text in the languages of the page: one alone as it is, several side by side for the style sheet."""

    languages: tuple[str, ...]

    def say(self, english: str, korean: str, **values: object) -> Markup:
        """The text with `{name}` filled in. The texts are markup of ours; the values are escaped."""
        texts = {"en": english, "ko": korean}
        filled = {language: Markup(texts[language]).format(**values) for language in self.languages}
        if len(filled) == 1:
            return next(iter(filled.values()))
        return Markup("").join(
            Markup('<span lang="{}">{}</span>').format(language, text) for language, text in filled.items()
        )

    def name(self, word: str) -> Markup:
        """A task, class, split or status by the name that people read."""
        english = ENGLISH_NAMES.get(word, word)
        korean = KOREAN_NAMES.get(word, word)
        return Markup("{}").format(word) if english == korean else self.say("{w}", "{k}", w=english, k=korean)


def voice_of(choice: str) -> Voice:
    """The voice for "en", "ko" or "both"."""
    return Voice(LANGUAGES if choice == "both" else (choice,))
