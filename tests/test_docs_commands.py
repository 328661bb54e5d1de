"""The commands of docs/: each is parsed; those of some pages run in order on toys, which the pages' names stand for.

Those of the pages of figures (ablations, performance, results) take hours and are parsed alone; so are those of data.md
and dataset-builder.md, most of which test_readme.py runs.
"""

import argparse
import importlib
import importlib.util
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from test_docs import ROOT, code_lines
from test_readme import run_in_process
from toy_data import FAST, FAST_SETTINGS, Toy, ToyRun, make_photos, make_remade, person_names

import train
from core.files import write_json
from core.images import read_photo, write_photo
from serving.video import new_video

pytest_plugins = ("toy_fixtures",)

COMMAND = re.compile(r"(?:\w+=\S+ +)*(?:taskset -c \d+ +)?(python|bash run_all\.sh|torchrun)\b")
PAGES = ("annotate", "check-data", "decisions", "deploy", "report", "tools")
NOT_RUN: Mapping[str, str] = {
    "annotate_faces.py": "is a server; test_annotate_page.py",
    "bash run_all.sh": "all steps; test_readme.py",
    "dev.benchmarks.real": "needs faces that can be found; test_real.py",
    "learning_curve": "needs a frozen backbone; test_learning_curve.py",
    "--push": "needs an account; test_publish.py",
    "predict.py 0": "needs a camera; test_entrance.py",
    "rtsp:": "needs a camera; test_entrance.py",
    "scripts": "installs; test_scripts.py",
    "serving.demo": "is a server; test_demo.py",
    "serving.http": "is a server; test_http.py",
    "synthesis.builder.build": "needs faces that can be found; test_build.py",
    "--tracker wandb": "needs an account; test_tracking.py",
    "--tracker mlflow": "needs a package; test_tracking.py",
    "--tracker my_curves": "needs the reader's own module; test_tracking.py",
    "wild_train": "needs a table beside folders; test_join_table.py",
}
"""Parts of lines that are not run, and why."""
STANDS_FOR = (
    # Eval photos of a join keep their names, so they come from a set whose names say their labels.
    (r"(tools\.join .*)/my/data(.*)/my/data", r"\1mine\2mine"),
    (r"/my/data", "data"),
    (r"outputs/(a|upright|plain|first|starter)\b", "outputs/default"),
    (r"(gender|age|mask) outputs/default/\1 outputs/default/\1", r"\1 outputs/default/\1 outputs/twin/\1"),
    (r"outputs/b\b", "outputs/twin"),
    (r"outputs/c\b", "outputs/third"),
    (r"000171_female_Indian_21", person_names(1)[0]),
)
"""Names in the pages, and what they are here."""
SMALL: Mapping[str, Sequence[str]] = {
    "train.py": (*FAST, "--epochs", "1"),
    "train.py --tracker": ("--task", "mask", "--fold", "0", "--run-dir", "outputs/trained"),
    "train.py --label-fixes": ("--task", "mask", "--fold", "0"),
    "crop_faces.py": ("--size", "32", "--aspect", "1", "--workers", "1"),
    "detect_faces.py": ("--workers", "1"),
    "predict.py": ("--overwrite",),
    "check_data": ("--folds", "2", "--workers", "1"),
    "simulate_label_shift": ("--draws", "2"),
    "reporting": ("--no-heat",),
    "serving.export": ("--crops", "2"),
    "serving.publish": ("--crops", "2"),
    "show_batch": FAST_SETTINGS,
}
"""Further flags by a part of the line, which win over those of the page."""


class Parsed(Exception):
    """The command line was taken."""


def shown_commands(page: str) -> list[str]:
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    return [line for line in code_lines(text) if COMMAND.match(line)]


def parse(line: str) -> None:
    """Hand a command line to its own parser, and stop there. Raises SystemExit or UserError for a wrong one."""
    words = shlex.split(line)
    first = next(number for number, word in enumerate(words) if word.endswith((".py", ".sh")) or word == "-m")
    module = words[first + 1] if words[first] == "-m" else words[first].removesuffix(".py").removesuffix(".sh")
    parse_known_args = argparse.ArgumentParser.parse_known_args

    def parse_alone(self: argparse.ArgumentParser, args: Sequence[str], namespace: object = None) -> None:
        _, others = parse_known_args(self, args, namespace)
        # What run_all does not know is for train.py.
        if others:
            parse(shlex.join(["python", "train.py", *others]))
        raise Parsed

    with pytest.MonkeyPatch.context() as patched, pytest.raises(Parsed):
        patched.setattr(argparse.ArgumentParser, "parse_known_args", parse_alone)
        is_package = (ROOT / module.replace(".", "/")).is_dir()
        main = importlib.import_module(f"{module.replace('/', '.')}{'.__main__' if is_package else ''}").main
        main(words[first + (2 if words[first] == "-m" else 1) :])


@pytest.mark.parametrize("page", sorted(path.stem for path in (ROOT / "docs").glob("*.md")))
def test_the_commands_of_a_page_are_taken(page: str) -> None:
    for line in shown_commands(page):
        parse(line.replace("<", "").replace(">", ""))


@pytest.fixture(scope="module")
def refitted(toy_run: ToyRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = shutil.copytree(toy_run.run_dir, tmp_path_factory.mktemp("docs") / "run")
    train.main(["--refit", "--crop-dir", str(toy_run.crop_dir), "--run-dir", str(run_dir)])
    return run_dir


@pytest.fixture
def folder(toy: Toy, refitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the pages take for granted: a run and two copies of it, crops, photos of the reader's own, tables."""
    monkeypatch.chdir(tmp_path)
    for name in ("default", "twin", "third"):
        shutil.copytree(refitted, tmp_path / "outputs" / name)
    shutil.copytree(toy.root, tmp_path / "data")
    for name in ("crop_images", "crops_other"):
        shutil.copytree(toy.crop_dir, tmp_path / name)
    make_remade(tmp_path / "mine", people_count=6, eval_photos=2)
    for path in make_remade(tmp_path / "built", people_count=6, eval_photos=2).rglob("*.*"):
        write_photo(path, 255 - read_photo(path))
    make_photos(tmp_path / "photos", count=2)
    for photo in ("photo.jpg", "more/a.jpg"):
        write_photo(tmp_path / photo, read_photo(next((tmp_path / "photos").glob("*.png"))))
    right = {"accuracy": {"value": 1.0, "low": 1.0, "high": 1.0}}
    write_json(tmp_path / "real/scores.json", {"count": 1, "of_all": right, "recall": {}, "recall_of_kind": {}})
    with new_video(tmp_path / "clip.mp4", 10.0) as video:
        for number in range(3):
            video.write(read_photo(tmp_path / "photo.jpg")[:32, :32], number / 10)
    first = next((tmp_path / "data" / "eval" / "images").iterdir()).name
    (tmp_path / "boxes.csv").write_text(f"image_id,x1,y1,x2,y2\n{first},6,6,26,34\n")
    (tmp_path / "fixes.csv").write_text(f"image_id,person,age\n,{person_names(1)[0]},31\n")
    (tmp_path / "boxes_no_face.csv").write_text(f"image_id,drop\n{person_names(1)[0]}/normal.jpg,1\n")
    return tmp_path


def is_run(line: str) -> bool:
    no_package = "find_label_errors" in line and importlib.util.find_spec("cleanlab") is None
    return not no_package and not any(part in line for part in NOT_RUN)


def made_small(line: str) -> list[str]:
    """Return the words of a line for the folder of toys."""
    flags = [flag for part, flags in SMALL.items() if part in line for flag in flags]
    for pattern, here in STANDS_FOR:
        line = re.sub(pattern, here, line)
    return [*shlex.split(line), *flags]


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run_in_order(page: str, folder: Path) -> None:
    failed = {}
    for line in filter(is_run, shown_commands(page)):
        try:
            run_in_process(made_small(line))
        except (Exception, SystemExit) as error:
            failed[line] = repr(error)
    assert failed == {}
