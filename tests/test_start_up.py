"""Commands answer --help and a mistyped flag without importing what takes seconds to import."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "timm", "albumentations")
PARSE = """
import sys
import {command}

{command}.parse_args([])
print(*sorted(set(sys.modules) & set({heavy})))
"""


@pytest.mark.parametrize("command", ["train", "inference"])
def test_flags_are_read_before_torch_is_imported(command: str) -> None:
    script = PARSE.format(command=command, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("", "")
