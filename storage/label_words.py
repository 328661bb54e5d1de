"""Labels as people write them, and what they mean here.

Words are compared without case, and with spaces and hyphens as underscores. Anything that is not listed is refused: a
label is never guessed.
"""

import re
import unicodedata
from collections.abc import Mapping
from types import MappingProxyType

from core.tasks import AGE_GROUPS

LABEL_COLUMNS = ("mask", "gender", "age")
OLDEST = 120
"""Greatest age in years that is taken for one."""
MISSING = frozenset({"", "na", "n/a", "nan", "null", "unknown", "?", "-", "미상"})
"""Words for a label that nobody knows. "none" is not among them: of a mask it could mean that there is none."""
COLUMN_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "path": ("path", "file", "filename", "file_name", "image", "photo", "파일", "사진"),
    "person": ("person", "person_id", "subject", "사람", "인물"),
    "split": ("split", "subset", "구분"),
    "mask": ("mask", "mask_status", "마스크"),
    "gender": ("gender", "sex", "성별"),
    "age": ("age", "years", "나이", "연령"),
})  # fmt: skip
LABEL_WORDS: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType({
    "mask": {
        "wear": ("wear", "worn", "mask", "masked", "with_mask", "withmask", "mask_on", "correct", "correct_mask",
                 "mask_weared_correct", "mask_worn_correctly", "착용", "정상착용"),
        "incorrect": ("incorrect", "incorrect_mask", "mask_weared_incorrect", "mask_worn_incorrectly",
                      "weared_incorrect", "worn_incorrectly", "wrong", "nose_out", "under_chin", "오착용", "잘못착용"),
        "not_wear": ("not_wear", "not_worn", "without_mask", "withoutmask", "no_mask", "nomask", "mask_off", "unmasked",
                     "bare", "normal", "미착용"),
    },
    "gender": {
        "male": ("male", "m", "man", "0", "남", "남자", "남성"),
        "female": ("female", "f", "woman", "1", "여", "여자", "여성"),
    },
    "split": {
        "train": ("train", "training"),
        "eval": ("eval", "evaluation", "test", "val", "valid", "validation"),
    },
})  # fmt: skip
AGE_FORMS = f"years from 0 to {OLDEST}, a range of years such as 30-39 or 30대, {', '.join(AGE_GROUPS)}"

_MEANING = {
    column: {word: label for label, words in labels.items() for word in words} for column, labels in LABEL_WORDS.items()
}
_YEARS = re.compile(r"(\d{1,3})(\.\d+)?(세|살)?")
_RANGE = re.compile(r"(\d{1,3})_?(?:-|~|–|to)_?(\d{1,3})(세)?")
_DECADE = re.compile(r"(\d{1,2}0)(대|s)")
_OPEN = re.compile(r"(\d{1,3})(\+|세?_?이상)")


def normalised(text: str) -> str:
    """NFC, without case, spaces and hyphens between letters as underscores."""
    folded = unicodedata.normalize("NFC", text).strip().casefold()
    return re.sub(r"[\s]+|(?<=[^\W\d])-(?=[^\W\d])", "_", folded)


def column_named(name: str) -> str:
    """The project's name of a column: `path` for "File", the name itself for one that is not known."""
    word = normalised(name)
    return next((column for column, words in COLUMN_WORDS.items() if word in words), name)


def read_label(column: str, text: str) -> str:
    """The label that a cell of `mask`, `gender`, `age` or `split` means, empty where nobody knows it.

    ValueError, whose message is "COLUMN 'TEXT'; allowed are ...", for anything else.
    """
    word = normalised(text)
    if word in MISSING:
        return ""
    if column == "age":
        return _read_age(text, word)
    label = _MEANING[column].get(word)
    if label is None:
        allowed = "; ".join(f"{label}: {', '.join(words)}" for label, words in LABEL_WORDS[column].items())
        raise ValueError(f"{column} {text!r}; allowed are {allowed}")
    return label


def _read_age(text: str, word: str) -> str:
    """Completed years as a whole number, "30-39" for a range, or the name of a group."""
    if word in AGE_GROUPS:
        return word
    if found := _YEARS.fullmatch(word):
        ends = (int(found[1]),)
    elif found := _DECADE.fullmatch(word):
        ends = (int(found[1]), int(found[1]) + 9)
    elif found := _RANGE.fullmatch(word):
        ends = (int(found[1]), int(found[2]))
    elif found := _OPEN.fullmatch(word):
        ends = (int(found[1]), OLDEST)
    else:
        ends = ()
    if not ends or ends[-1] > OLDEST or ends[0] > ends[-1]:
        raise ValueError(f"age {text!r}; allowed are {AGE_FORMS}")
    return "-".join(map(str, ends))
