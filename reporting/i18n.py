"""English and Korean texts of the report. Both stand where they are used; the reader switches between them."""

from dataclasses import dataclass

from markupsafe import Markup

from core.languages import KOREAN_NAMES, LANGUAGES

INSTALL_GRADCAM = "python scripts/install.py report"
ENGLISH_NAMES = {"oof": "out of fold", "not_wear": "not worn", "wear": "worn", "incorrect": "worn incorrectly"}


@dataclass(frozen=True)
class Translator:
    """Text in the page's languages: plain for one language, marked `<span lang=...>` elements side by side for two."""

    languages: tuple[str, ...]

    def say(self, english: str, korean: str, **values: object) -> Markup:
        """Return the text with `{name}` fields filled in. The texts are trusted markup; the values are escaped."""
        texts = {"en": english, "ko": korean}
        filled = {language: Markup(texts[language]).format(**values) for language in self.languages}
        if len(filled) == 1:
            return next(iter(filled.values()))
        return Markup("").join(
            Markup('<span lang="{}">{}</span>').format(language, text) for language, text in filled.items()
        )

    def name(self, word: str) -> Markup:
        """Return the display name of a task, class, split or status."""
        english = ENGLISH_NAMES.get(word, word)
        korean = KOREAN_NAMES.get(word, word)
        return Markup("{}").format(word) if english == korean else self.say("{w}", "{k}", w=english, k=korean)


def translator_for(choice: str) -> Translator:
    """Return the translator for "en", "ko" or "both"."""
    return Translator(LANGUAGES if choice == "both" else (choice,))
