"""Random and half-broken names, tables, boxes, pictures and checkpoints: a right answer or a refusal, nothing else.

    python -m pytest tests/test_fuzz.py                                     seconds, the same cases every time
    FUZZ=3000 python -m pytest tests/test_fuzz.py --hypothesis-show-statistics     minutes, new cases every time

FUZZ is the number of cases for each test.
"""

import csv
import json
import math
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from torch import nn

from core import files
from core.boxes import Box, carry, crop_window, iou, median_box, prominence, scaled
from core.cli import UserError
from core.cropping import CropSettings, crop_face
from core.images import UnreadablePhoto, read_photo
from evaluation.logits import read_table
from preprocessing.faces_table import read_outcomes
from storage import run_dir
from storage.eval_labels import read_eval_labels_csv
from storage.layouts import parse_person, scan
from storage.run_dir import CONFIG, first_difference, read_config_of
from submission import validate_submission
from training import checkpoints

CASES = int(os.environ.get("FUZZ", "40"))
fuzz = settings(
    max_examples=CASES,
    deadline=None,
    # Without FUZZ the same cases every time: a change is judged by what it does, not by luck.
    derandomize="FUZZ" not in os.environ,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)

numbers = st.floats(-3000, 3000, allow_nan=False)
sides = st.floats(0.5, 3000)
boxes = st.builds(lambda x, y, width, height: Box(x, y, x + width, y + height), numbers, numbers, sides, sides)
names = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="/\0"), min_size=1, max_size=40)
cells = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)


def refused_or(value: Callable[[], object]) -> object:
    """What `value` returns, or None if it refuses, which it must do in one line."""
    try:
        return value()
    except UserError as error:
        assert "\n" not in str(error) and "\r" not in str(error), str(error)
        return None


def damaged(data: st.DataObject, content: bytes) -> bytes:
    """Content with bytes changed, cut off, doubled or put in."""
    broken = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4), label="faults")):
        place = data.draw(st.integers(0, max(0, len(broken) - 1)), label="place")
        kind = data.draw(st.sampled_from(("change", "cut", "insert", "double")), label="kind")
        if kind == "change" and broken:
            broken[place] = data.draw(st.integers(0, 255), label="byte")
        elif kind == "cut":
            del broken[place : place + data.draw(st.integers(1, 400), label="length")]
        elif kind == "insert":
            broken[place:place] = data.draw(st.binary(max_size=8), label="bytes")
        else:
            broken[place:place] = broken[place : place + 50]
    return bytes(broken)


class TestNames:
    """Folder names and trees of them."""

    @fuzz
    @given(names)
    @example("1_male_x_٣")
    @example("_male__1")
    def test_any_name(self, name: str) -> None:
        facts = parse_person(name)
        if facts is not None:
            assert facts["gender"] in ("male", "female")
            assert facts["age"].isascii() and 0 <= int(facts["age"]) <= 999
            assert facts["race"] and "_" not in facts["race"]

    @fuzz
    @given(names, st.sampled_from(("male", "Female", "FEMALE")), st.text("abcé가", min_size=1), st.integers(0, 999))
    def test_a_name_that_is_one_is_read_whatever_its_id(self, name: str, gender: str, race: str, age: int) -> None:
        assume("\n" not in name)
        assert parse_person(f"{name}_{gender}_{race}_{age:03d}") == {
            "gender": gender.lower(),
            "race": race,
            "age": str(age),
        }

    @fuzz
    @given(data=st.data())
    def test_a_tree_of_any_names(self, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
        root = tmp_path_factory.mktemp("tree")
        person = st.one_of(names, st.sampled_from(("1_male_x_20", "2_female_y_40", "1_Male_x_20")))
        file = st.one_of(names, st.sampled_from(("normal.jpg", "mask1.PNG", "mask1.jpg", "1_male_x_20_mask.jpg")))
        for _ in range(data.draw(st.integers(1, 5))):
            split = data.draw(st.sampled_from(("images/train", "images/eval", "train/images", "eval/images", "")))
            folder = root / split / data.draw(person) if data.draw(st.booleans()) else root / split
            self.put(folder / data.draw(file))
        found = refused_or(lambda: scan(root))
        if found is not None:
            ids = [photo.image_id for photo in found.photos]
            assert len(ids) == len(set(ids)) > 0
            assert all((root / photo.path).resolve().is_relative_to(root.resolve()) for photo in found.photos)
            assert all(not photo.facts for photo in found.of_split("eval"))

    @staticmethod
    def put(path: Path) -> None:
        """An empty file, where the file system allows its name and nothing else has it."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        except OSError as error:
            assume(not error)


class TestTables:
    """Bytes that may be a table."""

    @fuzz
    @given(st.binary(max_size=200))
    @example(b"a,b\n1,2\0")
    @example(b"\xef\xbb\xbfa,a\n1,2")
    @example(b'"a\n"1,2')
    def test_any_bytes(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "table.csv"
        path.write_bytes(content)
        frame = refused_or(lambda: files.read_csv(path, ()))
        if frame is not None:
            assert all(isinstance(cell, str) for row in frame.itertuples(index=False) for cell in row)

    @fuzz
    @given(st.lists(st.tuples(cells, cells), min_size=1, max_size=6))
    def test_what_was_written_is_read(self, tmp_path: Path, rows: list[tuple[str, str]]) -> None:
        path = tmp_path / "table.csv"
        written = pd.DataFrame(rows, columns=["image_id", "other"], dtype=object)
        files.write_csv(path, written)
        back = refused_or(lambda: files.read_csv(path, ("image_id", "other")))
        if any(unicodedata.category(letter) == "Cc" for row in rows for cell in row for letter in cell):
            assert back is None
            return
        assert list(back.itertuples(index=False, name=None)) == rows

    @fuzz
    @given(data=st.data())
    @pytest.mark.parametrize("reader", ["logits", "truth", "faces"])
    def test_tables_with_faults(self, tmp_path: Path, data: st.DataObject, reader: str) -> None:
        path = tmp_path / "table.csv"
        path.write_bytes(damaged(data, TABLES[reader][0].encode()))
        refused_or(lambda: TABLES[reader][1](path))

    @fuzz
    @given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
    @example(b"[" * 100_000)
    @example(b'{"a": ' + b"9" * 5000 + b"}")
    @example(b'{"a": NaN}')
    def test_any_bytes_as_json(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "a.json"
        path.write_bytes(content)
        value = refused_or(lambda: files.read_json(path))
        assert value is None or isinstance(value, dict)


FACES = (
    "image_id,split,person,path,x1,y1,x2,y2,score,status,mask,gender,age,reason,fingerprint,width,height\n"
    "p/a.jpg,train,p,t/p/a.jpg,1.0,2.0,30.0,40.0,0.9,detected,wear,male,20,,12-34 ab,64,80\n"
    "e.jpg,eval,e.jpg,e/e.jpg,,,,,,missing,,,,empty file,12-34 ab,0,0\n"
)
TABLES = {
    "logits": (
        "image_id,a,b\nx.jpg,0.5,-1.25\ny.jpg,1e-3,7\n",
        lambda path: assert_finite(read_table(path, ("a", "b")).logits),
    ),
    "truth": ("ImageID,ans\nx.jpg,3\ny.jpg,17\n", read_eval_labels_csv),
    "faces": (FACES, read_outcomes),
}


def assert_finite(values: np.ndarray) -> None:
    assert np.isfinite(values).all()


class TestSubmissions:
    """Only the very ids, each once, with an answer from 0 to 17, are let through."""

    ANSWERS = ("0", "17", "18", "-1", "1.0", " 1", "٣", "")
    IDS = ("b.jpg", "a.jpg", "가.png")
    RIGHT = "ImageID,ans\nb.jpg,0\na.jpg,17\n가.png,5\n"

    @fuzz
    @given(data=st.data())
    def test_a_submission_with_faults(self, tmp_path: Path, data: st.DataObject) -> None:
        path = tmp_path / "submission.csv"
        path.write_bytes(damaged(data, self.RIGHT.encode()))
        self.check(path)

    @fuzz
    @given(st.lists(st.tuples(st.sampled_from((*IDS, "c.jpg", "")), st.sampled_from(ANSWERS)), max_size=5))
    def test_rows_of_any_ids_and_answers(self, tmp_path: Path, rows: list[tuple[str, str]]) -> None:
        path = tmp_path / "submission.csv"
        pd.DataFrame(rows, columns=["ImageID", "ans"], dtype=object).to_csv(path, index=False)
        self.check(path)

    def check(self, path: Path) -> None:
        """Whatever passes is right by the plainest of readers."""
        passed = refused_or(lambda: validate_submission(path, self.IDS) or True)
        if passed:
            with path.open(encoding="utf-8-sig", newline="") as stream:
                header, *rows = [row for row in csv.reader(stream) if row]
            assert header == ["ImageID", "ans"]
            assert sorted(row[0] for row in rows) == sorted(self.IDS)
            assert all(row[1] in map(str, range(18)) and len(row) == 2 for row in rows)

    def test_the_right_one_passes(self, tmp_path: Path) -> None:
        path = tmp_path / "submission.csv"
        path.write_text(self.RIGHT, encoding="utf-8")
        validate_submission(path, self.IDS)


class TestBoxes:
    """What must hold of any boxes."""

    @fuzz
    @given(boxes, boxes)
    def test_overlap(self, one: Box, other: Box) -> None:
        assert 0 <= iou(one, other) <= 1 + 1e-9
        assert iou(one, other) == pytest.approx(iou(other, one))
        assert iou(one, one) == pytest.approx(1)

    @fuzz
    @given(boxes, st.floats(0, 2), st.floats(0.25, 4))
    def test_a_window_holds_its_box_and_has_its_aspect(self, box: Box, margin: float, aspect: float) -> None:
        window = crop_window(box, margin, aspect)
        assert window.width == pytest.approx(window.height * aspect, rel=1e-6)
        assert window.centre == pytest.approx(box.centre, abs=1e-6)
        slack = 1e-6
        assert window.x1 <= box.x1 + slack and window.y1 <= box.y1 + slack
        assert window.x2 >= box.x2 - slack and window.y2 >= box.y2 - slack

    @fuzz
    @given(boxes, st.floats(-math.pi, math.pi), numbers, numbers)
    def test_turned_and_turned_back(self, box: Box, angle: float, x: float, y: float) -> None:
        cosine, sine = math.cos(angle), math.sin(angle)
        turned = carry(np.array([[cosine, -sine, x], [sine, cosine, y]]), box)
        longest, shortest = max(box.width, box.height), min(box.width, box.height)
        assert shortest - 1e-6 <= turned.width <= longest + 1e-6
        assert shortest - 1e-6 <= turned.height <= longest + 1e-6
        assert math.hypot(turned.width, turned.height) == pytest.approx(math.hypot(box.width, box.height))

    @fuzz
    @given(boxes, st.floats(0.01, 100), st.floats(0.01, 100))
    def test_scaled_there_and_back(self, box: Box, across: float, down: float) -> None:
        assert scaled(scaled(box, across, down), 1 / across, 1 / down) == pytest.approx(box, rel=1e-9, abs=1e-9)

    @fuzz
    @given(st.lists(boxes, min_size=1, max_size=7), st.integers(1, 3000), st.integers(1, 3000))
    def test_medians_and_prominence(self, some: list[Box], width: int, height: int) -> None:
        middle = median_box(some)
        assert min(box.width for box in some) - 1e-6 <= middle.width <= max(box.width for box in some) + 1e-6
        assert all(prominence(box, (width, height)) >= 0 for box in some)

    @fuzz
    @given(boxes, st.integers(1, 60), st.integers(1, 60), st.integers(8, 40), st.floats(0.25, 4), st.booleans())
    def test_a_crop_of_any_box_has_the_size_asked_for(
        self, box: Box, width: int, height: int, size: int, aspect: float, align: bool
    ) -> None:
        wanted = CropSettings(0.15, aspect, size, align)
        photo = np.full((height, width, 3), 77, np.uint8)
        crop = crop_face(photo, box, wanted)
        assert crop.shape == (*wanted.shape, 3)
        assert (wanted.cut(crop, "face") == 77).all()


def pictures() -> dict[str, bytes]:
    """Small files of every format that is read."""
    rgb = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    endings = {".jpg": [], ".png": [], ".webp": []}
    progressive = cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    return {ending: cv2.imencode(ending, rgb, more)[1].tobytes() for ending, more in endings.items()} | {
        "progressive": progressive
    }


PICTURES = pictures()


class TestPictures:
    """Bytes that may be a picture."""

    def read(self, path: Path) -> None:
        try:
            pixels = read_photo(path)
        except UnreadablePhoto as error:
            assert "\n" not in error.reason
            return
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3

    @fuzz
    @given(st.sampled_from((b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"GIF89a")), st.binary(max_size=300))
    def test_any_bytes(self, tmp_path: Path, start: bytes, rest: bytes) -> None:
        path = tmp_path / "photo.jpg"
        path.write_bytes(start + rest)
        self.read(path)

    @fuzz
    @given(data=st.data())
    @pytest.mark.parametrize("kind", PICTURES)
    def test_pictures_with_faults(self, tmp_path: Path, data: st.DataObject, kind: str) -> None:
        path = tmp_path / "photo.jpg"
        path.write_bytes(damaged(data, PICTURES[kind]))
        self.read(path)


class TestCheckpoints:
    """What is loaded is what was saved, or nothing is."""

    @fuzz
    @given(data=st.data())
    def test_weights_with_faults(self, tmp_path: Path, data: st.DataObject) -> None:
        path, model = tmp_path / "model.safetensors", nn.Linear(3, 2)
        checkpoints.save_weights(path, model)
        path.write_bytes(damaged(data, path.read_bytes()))
        back = nn.Linear(3, 2)
        if refused_or(lambda: checkpoints.load_weights(path, back) or True):
            assert torch.equal(back.weight, model.weight) and torch.equal(back.bias, model.bias)

    @fuzz
    @given(
        st.dictionaries(
            st.sampled_from((*run_dir._IDENTITY, "else")),
            st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(1),
                         lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner)),
        )
    )  # fmt: skip
    def test_a_config_of_any_entries(self, tmp_path: Path, entries: dict) -> None:
        whole = {"format": 1, "task": "age", "classes": [], "fold": 0, "settings": {}, "crop": {}, "normalisation": {}}
        changed = whole | {"data_hash": "", "folds_hash": ""} | entries
        (tmp_path / CONFIG).write_text(json.dumps(changed))
        config = refused_or(lambda: read_config_of(tmp_path, "age"))
        if config is not None:
            assert first_difference(config, changed) is None
