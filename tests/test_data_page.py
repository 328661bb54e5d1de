"""docs/data.md: its words are those of the code, and its script and its examples are read as it says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from layout_toys import touch
from test_docs import ROOT

from storage.label_words import COLUMN_WORDS, LABEL_WORDS, MISSING
from storage.layouts import scan

PAGE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
FACE = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"


def row_of(start: str) -> str:
    words = PAGE.split("### Words")[1]
    return next(line for line in words.splitlines() if line.startswith(start))


def test_the_page_lists_every_word() -> None:
    for name, words in COLUMN_WORDS.items():
        assert set(re.findall("`(.+?)`", row_of(f"| `{name}` | `"))) == set(words)
    for column, labels in LABEL_WORDS.items():
        for label, words in labels.items():
            assert set(re.findall("`(.+?)`", row_of(f"| {column} `{label}`"))) == {*words, label}
    assert {"", *re.findall("`(.+?)`", row_of("| unknown |"))} == MISSING


def test_the_table_of_the_page(tmp_path: Path) -> None:
    text = re.search(r"^```\n(path,.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[1]
    for photo in ("trip/1.jpg", "trip/2.jpg", "office/7.jpg"):
        touch(tmp_path / photo)
    touch(tmp_path / "photos.csv", text)
    photos = {photo.path: photo for photo in scan(tmp_path).photos}
    assert photos["trip/1.jpg"].facts == {"mask": "wear", "gender": "female", "age": "31"}
    assert (photos["trip/2.jpg"].person, photos["trip/2.jpg"].facts["mask"]) == ("anna", "not_wear")
    assert photos["office/7.jpg"].split == "eval"


def test_the_spreadsheet_of_the_page(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    lines = re.search(r"^\| 파일 .*?\n\n", PAGE, re.MULTILINE | re.DOTALL)[0].splitlines()
    book = openpyxl.Workbook()
    for line in [line for line in lines if line and "---" not in line]:
        book.active.append([cell.strip() for cell in line.strip("|").split("|")])
    book.save(tmp_path / "photos.xlsx")
    for photo in ("kim/1.jpg", "kim/2.jpg", "lee.jpg"):
        touch(tmp_path / photo)
    photos = {photo.path: (photo.person, photo.facts) for photo in scan(tmp_path).photos}
    assert photos["kim/2.jpg"] == ("kim", {"gender": "female", "age": "35"})
    assert photos["lee.jpg"] == ("lee", {"gender": "male", "age": "60-69"})


def test_the_script_for_boxes(tmp_path: Path) -> None:
    script = re.search(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[1]
    faces = {
        "maksssksksss0": [("without_mask", 1, 1, 5, 6), ("mask_weared_incorrect", 10, 10, 40, 50)],
        "maksssksksss1": [("with_mask", 7, 8, 17, 28)],
        "maksssksksss2": [],
    }
    for name, boxes in faces.items():
        touch(tmp_path / "images" / f"{name}.png")
        objects = "".join(FACE.format(*box) for box in boxes)
        text = f"<annotation><folder>images</folder><filename>{name}.png</filename>{objects}</annotation>"
        touch(tmp_path / "annotations" / f"{name}.xml", text)
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    photos = {photo.path: photo.facts for photo in scan(tmp_path).photos}
    assert photos == {
        "images/maksssksksss0.png": {"mask": "incorrect"},
        "images/maksssksksss1.png": {"mask": "wear"},
    }
    assert scan(tmp_path).ignored == (
        *(f"annotations/{name}.xml" for name in faces),
        "boxes.csv",
        "images/maksssksksss2.png",
    )
    assert (tmp_path / "boxes.csv").read_text(encoding="utf-8").splitlines() == [
        "image_id,x1,y1,x2,y2",
        "images/maksssksksss0.png,10.0,10.0,40.0,50.0",
        "images/maksssksksss1.png,7.0,8.0,17.0,28.0",
    ]
