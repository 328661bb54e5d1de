"""Help and complaints about flags come at once: nothing heavy is imported for them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMANDS = ("check_data", "reporting", "synthesis.drawn.sample", "synthesis.builder.build")
HEAVY = ("torch", "timm", "albumentations", "matplotlib", "scipy", "sklearn")
RUN = """
import runpy, sys
command, heavy, *sys.argv[1:] = sys.argv[1:]
try:
    runpy.run_module(command, run_name="__main__")
finally:
    print("imported:", *sys.modules.keys() & set(heavy.split()))
"""


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("flag", "code"), [("--help", 0), ("--no-such-flag", 2)])
def test_nothing_heavy_is_imported_for_help_or_a_mistyped_flag(command: str, flag: str, code: int) -> None:
    arguments = [sys.executable, "-c", RUN, command, " ".join(HEAVY), flag]
    ended = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == code, ended.stderr
    assert ended.stdout.splitlines()[-1] == "imported:"
