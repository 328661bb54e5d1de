"""Commands that average, submit, score and show: how fast they start, and how they are to be run."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"torch", "timm", "albumentations", "sklearn", "cleanlab", "scipy.optimize", "scipy.special"}
TOOLS = sorted(path.stem for path in (ROOT / "tools").glob("*.py") if path.stem != "__init__")
COMMANDS = ("ensemble", "submission", *(f"tools.{name}" for name in TOOLS))
CODE = """
import runpy, sys
module, *sys.argv[1:] = sys.argv[1:]
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
finally:
    print("imported:", *sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize("module", COMMANDS)
@pytest.mark.parametrize(("flag", "code"), [("--help", 0), ("--mistyped", 2)])
def test_help_and_a_mistyped_flag_import_nothing_heavy(module: str, flag: str, code: int) -> None:
    ended = subprocess.run([sys.executable, "-c", CODE, module, flag], cwd=ROOT, capture_output=True, text=True)
    imported = set(ended.stderr.rpartition("imported:")[2].split())
    assert (ended.returncode, imported & HEAVY) == (code, set())
    assert "evaluation.metrics" in imported or "core.cli" in imported


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_run_as_a_file_says_how_to_run_it(name: str) -> None:
    ended = subprocess.run([sys.executable, f"tools/{name}.py"], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [f"run this as a module: python -m tools.{name}"]
