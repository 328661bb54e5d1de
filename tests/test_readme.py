"""The commands of README.md, run in its order in one folder on drawn people, made small by further flags."""

import csv
import importlib
import importlib.util
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from test_docs import ROOT, code_lines, name_of, target_of
from toy_data import FAST, make_photos, make_remade

import run_all
from core.images import read_photo, write_photo
from synthesis.drawn import sample

ONE_PROCESS = ("--workers", "1")
SMALL: Mapping[str, Sequence[str]] = {
    "train.py": (*FAST, "--epochs", "1"),
    "synthesis/drawn/sample.py": ("--train-people", "8", "--eval-photos", "6", *ONE_PROCESS),
    "synthesis/builder/build.py": ("--train-people", "6", "--eval-people", "2", *ONE_PROCESS),
    "check_data/__main__.py": ("--folds", "2", *ONE_PROCESS),
    "preprocessing/detect_faces.py": ONE_PROCESS,
    "preprocessing/crop_faces.py": ONE_PROCESS,
    "reporting/__main__.py": ("--no-heat",),
}
"""Flags by command that come after those of README.md, and win over them."""
NOT_RUN = {
    ". .venv/bin/activate": "changes a shell",
    "bash run_tests.sh": "is this test suite",
    "TORCH_INDEX_URL=<that address> bash run_all.sh": "installs from another index",
    "python preprocessing/annotate_faces.py": "is a server; test_annotate_page.py",
    "python scripts/install.py demo && python -m serving.demo": "installs, and is a server; test_demo.py",
    "python scripts/install.py http && python -m serving.http": "installs, and is a server; test_http.py",
    "FACES=/my/faces DATA_DIR=/my/data RUN=more bash run_all.sh": "is the two above it and a join; test_run_all.py",
    "python -m tools.learning_curve": "needs a frozen backbone; test_learning_curve.py",
    "python predict.py 0 --sign both": "needs a camera; test_entrance.py",
}
"""Lines that look like commands and are left out, and why."""
CHANGES_CROPS = ("--manual", "--margin")
"""Lines with these get a crop folder of their own: the run goes on with the crops that it began with."""


def shown_commands() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return [line for line in code_lines(text) if re.match(r"(\w+=(<[^>]+>|\S+) +)*(python|bash|pip|\.) ", line)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What README.md takes for granted: photos of the reader's own in several folders, and boxes by hand."""
    photos = tmp_path / "photos"
    sample.main(["--out", str(photos), *SMALL["synthesis/drawn/sample.py"], "--seed", "1"])
    (photos / "sample.json").unlink()
    make_photos(tmp_path / "other", count=3)
    make_remade(tmp_path / "built")
    for path in make_remade(tmp_path / "remade").rglob("*.*"):
        write_photo(path, 255 - read_photo(path))
    with (photos / "train" / "train.csv").open(encoding="utf-8", newline="") as stream:
        people = list(csv.DictReader(stream))
    labels = ["file,gender,race,age"]
    (tmp_path / "faces").mkdir()
    for row in people:
        shutil.copyfile(photos / "train" / "images" / row["path"] / "normal.jpg", tmp_path / f"faces/{row['id']}.jpg")
        labels.append(f"{row['id']}.jpg,{row['gender']},{row['race']},{row['age']}")
    (tmp_path / "labels.csv").write_text("\n".join(labels), encoding="utf-8")
    shutil.copyfile(photos / "eval" / "info.csv", tmp_path / "info.csv")
    first = sorted((photos / "eval" / "images").iterdir())[0]
    shutil.copyfile(first, tmp_path / "photo.jpg")
    (tmp_path / "boxes.csv").write_text(f"image_id,x1,y1,x2,y2\n{first.name},90,90,290,330\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_all, "ROOT", tmp_path)
    monkeypatch.setattr(run_all, "run_command", lambda command, *_: run_in_process(["python", *command]))
    monkeypatch.setenv("REPORT", "0")
    return tmp_path


def run_in_process(words: Sequence[str]) -> int:
    """Run a typed command as `main` of its module, with the flags that make it small."""
    target = target_of(shlex.join(words))
    argv = words[3:] if words[1] == "-m" else words[2:]
    module = importlib.import_module(name_of(target).removesuffix(".py").removesuffix("/__main__").replace("/", "."))
    if target.name == "__main__.py":
        module = importlib.import_module(f"{module.__name__}.__main__")
    module.main([*argv, *SMALL.get(name_of(target), ())])
    return 0


def run_line(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Eval photos of a join keep their names, so they come from a set whose names say their labels.
    mine = folder / ("remade" if "tools.join" in line else "photos")
    placed = line.replace("/my/data", str(mine)).replace("/other/photos", str(folder / "other"))
    words = shlex.split(placed.replace("outputs/a outputs/b", "outputs/default outputs/first"))
    if "my.csv" in words:
        shutil.copyfile("outputs/first/submission.csv", "my.csv")
    if any(flag in words for flag in CHANGES_CROPS):
        words += ["--crop-dir", "crops_changed"]
        shutil.copytree("crop_images", "crops_changed", dirs_exist_ok=True)
    with monkeypatch.context() as patched:
        while "=" in words[0]:
            patched.setenv(*words.pop(0).split("=", 1))
        if words[:2] == ["bash", "run_all.sh"]:
            run_all.main(words[2:])
        else:
            run_in_process(words)


def test_the_commands_of_readme_run_in_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line for line in shown_commands() if line not in NOT_RUN]
    if importlib.util.find_spec("cleanlab") is None:
        lines = [line for line in lines if "find_label_errors" not in line]
    failed = {}
    for line in lines:
        try:
            run_line(line, folder, monkeypatch)
        except (Exception, SystemExit) as error:
            failed[line] = repr(error)
    assert failed == {}
    made = ("outputs/sample/scores.json", "outputs/default/submission.csv", "outputs/first/submission.csv")
    assert [name for name in made if not (folder / name).exists()] == []


def test_lines_that_are_left_out_are_there() -> None:
    assert not NOT_RUN.keys() - set(shown_commands())
