"""Progress on terminals of 80 and 120 columns, in logs, and from child processes."""

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from terminal import run_in_terminal

from core import progress, reports

ROOT = Path(__file__).parents[1]
TITLE = "training with a title that is longer than a narrow terminal"
STEP = """
import time
from core.cli import progress, run_cli, working
from core.parallel import run_parallel
from tests.test_progress import TITLE, starter

def main(argv):
    with working("reading the crops"):
        time.sleep(0.3)
    items = range(4)
    with progress(None, title=TITLE, total=4) as bar:
        for line in run_parallel(starter, items, 2, large=True):
            bar.write(line)
    for _ in progress(range(30), title="photos", total=30, part=0.5):
        time.sleep(0.02)
    for _ in progress([], title="nothing", total=0):
        pass
    print("result " + "x" * 70)

if __name__ == "__main__":
    run_cli(main)
"""
WHOLE = '{"done": 0.25, "part": 0.5, "seconds_after": 90}'


def starter() -> Callable[[int], str]:
    return work


def work(item: int) -> str:
    with progress.progress(None, title=f"fold {item}", total=2, worth=1.0) as bar:
        for epoch in range(2):
            bar.write(f"fold {item} epoch {epoch + 1}/2: loss 0.123")
            bar.update()
    return f"fold {item}: done"


@pytest.fixture
def step(tmp_path: Path) -> list[str]:
    path = tmp_path / "step.py"
    path.write_text(f"import sys\nsys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]\n{STEP}")
    return [sys.executable, str(path)]


def expected_lines() -> list[str]:
    epochs = [f"fold {item} epoch {epoch}/2: loss 0.123" for item in range(4) for epoch in (1, 2)]
    return sorted([*epochs, *(f"fold {item}: done" for item in range(4)), "result " + "x" * 70])


@pytest.mark.parametrize("columns", [80, 120])
def test_the_final_screen_has_lines_alone(step: list[str], columns: int) -> None:
    text, screen = run_in_terminal(step, columns, variables={progress.IN_RUN_ALL: WHOLE, "NO_COLOR": "1"})
    rows = [re.sub(r"\d+ s$", "N s", row) for row in screen.rows if row]
    assert sorted(rows) == sorted([*expected_lines(), "photos: 30 photos in N s", f"{TITLE}: 4 photos in N s"])
    assert screen.wrapped == 0
    assert "all steps" in text
    assert "min left" in text
    assert ("of 30 photos" in text) == (columns == 120)
    assert "nothing" not in text


def test_colour_on_a_terminal_unless_refused(step: list[str]) -> None:
    coloured = "\x1b[38;"
    assert coloured in run_in_terminal(step, 80, variables={"COLORTERM": "truecolor"})[0]
    assert coloured not in run_in_terminal(step, 80, variables={"COLORTERM": "truecolor", "NO_COLOR": "1"})[0]


def test_a_log_has_plain_lines(step: list[str]) -> None:
    done = subprocess.run(step, capture_output=True, text=True, timeout=300, check=True)
    assert sorted(done.stdout.splitlines()) == expected_lines()
    assert done.stderr == ""


@pytest.mark.parametrize("kind", ["bar", "child"])
def test_a_line_and_its_end_are_one_piece(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = []
    stream = io.StringIO()
    stream.write = pieces.append
    monkeypatch.setattr(sys, "stdout", stream)
    if kind == "bar":
        progress.progress(None, title="", total=None).write("a line")
    else:
        with reports.relayed(lambda _: None) as to_parent:
            to_parent.send_bytes(json.dumps(["stdout", "a line"]).encode())
    assert pieces == ["a line\n"]


def test_a_log_says_now_and_then_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    for _ in progress.progress("ab", title="faces", total=2):
        pass
    assert capsys.readouterr().err.splitlines()[0].startswith("faces: 1 of 2 photos, 50%, ")


def test_a_character_that_the_console_lacks_is_escaped() -> None:
    script = "from core.cli import run_cli\nrun_cli(lambda argv: print('Jos\\u00e9 \\uc0ac\\uc9c4'))"
    variables = {"PYTHONIOENCODING": "cp949", "PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", script], env=variables, capture_output=True, check=True)
    assert done.stdout.decode("cp949").strip() == "Jos\\xe9 사진"


def test_help_does_not_import_rich() -> None:
    help_of = "try: runpy.run_path('train.py', run_name='__main__')\nexcept SystemExit: sys.exit('rich' in sys.modules)"
    script = f"import runpy, sys; sys.argv[1:] = ['--help']\n{help_of}"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=False).returncode == 0
