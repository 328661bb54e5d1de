"""Labels as people write them: each word means one label or is refused by name."""

import pytest

from storage.label_words import COLUMN_WORDS, LABEL_WORDS, column_named, read_label


@pytest.mark.parametrize(
    ("column", "text", "label"),
    [
        *(
            ("mask", word, "wear")
            for word in ("wear", "Mask", "with_mask", "With Mask", "with-mask", "WithMask", "착용")
        ),
        *(("mask", word, "incorrect") for word in ("mask_weared_incorrect", "Incorrect Mask", "wrong")),
        *(("mask", word, "not_wear") for word in ("without_mask", "no mask", "NORMAL", "미착용")),
        *(("gender", word, "male") for word in ("male", "M", " Man ", "0", "남", "남성")),
        *(("gender", word, "female") for word in ("Female", "f", "1", "여", "여자")),
        *(("split", word, "eval") for word in ("eval", "TEST", "val", "validation")),
        *(("age", *pair) for pair in (("31", "31"), ("31.9", "31"), ("0", "0"), ("120", "120"), ("31세", "31"))),
        *(("age", *pair) for pair in (("30대", "30-39"), ("30s", "30-39"), ("20-29", "20-29"), ("20 ~ 29", "20-29"))),
        *(("age", *pair) for pair in (("60+", "60-120"), ("60세 이상", "60-120"), ("Young", "young"))),
        *((column, word, "") for column in ("mask", "gender", "age") for word in ("", "NA", "nan", "?", "unknown")),
    ],
)
def test_what_a_word_means(column: str, text: str, label: str) -> None:
    assert read_label(column, text) == label


@pytest.mark.parametrize(
    ("column", "text"),
    [
        *(("mask", word) for word in ("0", "1", "2", "none", "maybe", "no")),
        *(("gender", word) for word in ("2", "x", "boy?")),
        *(("age", word) for word in ("-3", "121", "thirty", "39-30", "1e1", "3 0", "20-130")),
        ("split", "all"),
    ],
)
def test_what_is_refused_by_name(column: str, text: str) -> None:
    with pytest.raises(ValueError, match="allowed are") as caught:
        read_label(column, text)
    assert f"{column} {text!r}" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("Path", "path"),
        ("file name", "path"),
        ("성별", "gender"),
        ("SEX", "gender"),
        ("나이", "age"),
        ("glasses", "glasses"),
    ],
)
def test_names_of_columns(name: str, column: str) -> None:
    assert column_named(name) == column


def test_no_word_means_two_things() -> None:
    for table in (COLUMN_WORDS, *LABEL_WORDS.values()):
        words = [word for of_one in table.values() for word in of_one]
        assert len(words) == len(set(words))
