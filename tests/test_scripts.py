"""The shell scripts: what they say, where they stop, and with which exit code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run_all(*flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("DATA_DIR", "PROFILE", "RUN")}
    environment |= {"PYTHON": sys.executable, **variables}
    command = ["bash", str(ROOT / "run_all.sh"), *flags]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def check(requirements: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "check_environment.py"), str(requirements)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_run_all_explains_itself() -> None:
    done = run_all("--help")
    assert done.returncode == 0
    for word in ("bash run_all.sh", "DATA_DIR", "PROFILE", "RUN", "CROP_DIR", "PYTHON"):
        assert word in done.stdout


def test_run_all_stops_at_the_first_failing_step_with_its_name(tmp_path: Path) -> None:
    done = run_all(DATA_DIR=str(tmp_path / "nowhere"), CROP_DIR=str(tmp_path / "crops"))
    assert done.returncode == 2
    assert f"error: data folder {tmp_path / 'nowhere'}: no such folder" in done.stderr
    assert "run_all stopped at step 'check data' (exit code 2)" in done.stderr
    assert "== crop faces" not in done.stdout


def test_run_all_finds_a_mistyped_flag_before_any_work(tmp_path: Path) -> None:
    done = run_all("--colour", "red", DATA_DIR=str(tmp_path), CROP_DIR=str(tmp_path / "crops"))
    assert done.returncode == 2
    assert "--colour" in done.stderr
    assert "stopped at step 'settings'" in done.stderr
    assert not (tmp_path / "crops").exists()


@pytest.mark.parametrize(
    ("lines", "code", "said"),
    [
        ("# a comment\nnumpy>=1\n", 0, ""),
        ("numpy>=1\nnumpy<1\n", 1, "installed, needed is <1"),
        ("no-such-package-at-all==3\n", 1, "no-such-package-at-all is not installed"),
    ],
)
def test_what_an_environment_lacks(tmp_path: Path, lines: str, code: int, said: str) -> None:
    (tmp_path / "requirements.txt").write_text(lines, encoding="utf-8")
    (tmp_path / "more.txt").write_text("-r requirements.txt\n", encoding="utf-8")
    for path in (tmp_path / "requirements.txt", tmp_path / "more.txt"):
        done = check(path)
        assert done.returncode == code
        assert said in done.stdout
