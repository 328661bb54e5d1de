"""Files on disk: whole or not at all, and tables read strictly."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.cli import UserError
from core.files import (
    file_sha256,
    read_csv,
    read_json,
    replacing,
    require_unique,
    text_hash,
    write_csv,
    write_json,
    write_text,
)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "result.csv"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as aside:
        aside.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["result.csv"]


def test_an_interrupt_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "result.csv"
    with pytest.raises(KeyboardInterrupt), replacing(path) as aside:
        aside.write_text("half")
        raise KeyboardInterrupt
    assert names_in(tmp_path) == []


def test_the_temporary_file_is_a_hidden_neighbour_with_the_same_ending(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / ("n" * 250 + ".png")
    with replacing(path) as aside:
        assert (aside.parent, aside.suffix, aside.name[0]) == (path.parent, ".png", ".")
        assert not path.exists()
        aside.write_text("whole")
    assert names_in(path.parent) == [path.name]


def test_a_value_that_json_cannot_have_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    circle: dict = {}
    circle["self"] = circle
    with pytest.raises(ValueError):
        write_json(path, circle)
    assert read_json(path) == {"a": 1}
    assert names_in(tmp_path) == ["a.json"]


def test_json_keeps_hangul_and_writes_paths(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"이름": Path("a/b"), "list": (1, 2.5)})
    assert "이름" in path.read_text(encoding="utf-8")
    assert json.loads(path.read_text(encoding="utf-8")) == {"이름": "a/b", "list": [1, 2.5]}


@pytest.mark.parametrize(
    ("text", "match"),
    [("{", "not valid JSON"), ("", "not valid JSON"), ("[1]", "expected a JSON object, found a list")],
)
def test_damaged_json(tmp_path: Path, text: str, match: str) -> None:
    path = tmp_path / "a.json"
    write_text(path, text)
    with pytest.raises(UserError, match=rf"a\.json: {match}"):
        read_json(path)


@pytest.mark.parametrize("read", [read_json, lambda path: read_csv(path, ())])
def test_missing_file_and_folder_in_its_place(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(UserError, match="nowhere: no such file"):
        read(tmp_path / "nowhere")
    with pytest.raises(UserError, match=tmp_path.name):
        read(tmp_path)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"\xff\xfe\x00\x81,")
    with pytest.raises(UserError, match="not valid JSON"):
        read_json(path)
    with pytest.raises(UserError, match="not a readable CSV"):
        read_csv(path, ("a",))


def test_csv_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    numbers = np.random.default_rng(0).normal(size=200).astype(np.float32)
    write_csv(path, pd.DataFrame({"name": [f'na,me "{n}"' for n in range(200)], "x": numbers}))
    back = read_csv(path, ("name", "x"))
    assert list(back.columns) == ["name", "x"]
    assert back["name"][7] == 'na,me "7"'
    assert (back["x"].astype(np.float32).to_numpy() == numbers).all()


def test_csv_cells_stay_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\ufeffid,race,empty\n000123,NA,\n1e5,None,\n", encoding="utf-8")
    assert read_csv(path, ("id",)).to_dict("list") == {
        "id": ["000123", "1e5"],
        "race": ["NA", "None"],
        "empty": ["", ""],
    }


def test_csv_without_a_column(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"a\.csv: column c, d is missing; it has a, b$"):
        read_csv(path, ("a", "c", "d"))


@pytest.mark.parametrize("text", ["", "a,b\n1,2,3\n", "a,b\n1,2\n1,2,3\n", 'a,b\n"1,2\n'])
def test_csv_that_is_empty_or_ragged(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=r"a\.csv: not a readable CSV") as raised:
        read_csv(path, ("a",))
    assert "\n" not in str(raised.value)


def test_a_name_of_a_column_longer_than_the_csv_module_reads(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"a,{'b' * 200_000}\n1,2\n")
    with pytest.raises(UserError, match=r"a\.csv: not a readable CSV \(field larger than field limit \(131072\)\)"):
        read_csv(path, ("a",))


def test_a_key_that_stands_twice(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    require_unique(path, pd.DataFrame({"id": ["x", "y"]}), "id")
    with pytest.raises(UserError, match=r"a\.csv: id 'x' stands in more than one row"):
        require_unique(path, pd.DataFrame({"id": ["x", "y", "x"]}), "id")


def test_hashes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert file_sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert text_hash(["a", "b"]) == text_hash(["a", "b"])
    assert len({text_hash(parts) for parts in (["a", "b"], ["b", "a"], ["ab"], ["a", "b", ""], ["a\udcff"])}) == 5
