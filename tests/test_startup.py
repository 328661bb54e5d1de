"""Help and the complaint about a mistyped flag come without the imports that take seconds."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"torch", "torchvision", "timm", "albumentations", "onnx", "gradio", "sklearn", "ray"}
MODULES = ("predict", "serving.export", "serving.demo", "preprocessing.detect_faces", "preprocessing.crop_faces",
           "preprocessing.annotate_faces")  # fmt: skip
CODE = """
import runpy, sys
module, *sys.argv[1:] = sys.argv[1:]
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
finally:
    print("imported:", *sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize(("flag", "code", "words"), [("--help", 0, "--offline"), ("--mistyped", 2, "error: ")])
def test_nothing_heavy_is_imported(module: str, flag: str, code: int, words: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CODE, module, flag], cwd=ROOT, capture_output=True, text=True, check=False
    )
    imported = set(ended.stderr.rpartition("imported:")[2].split())
    assert (ended.returncode, imported & HEAVY) == (code, set())
    assert words in ended.stdout + ended.stderr and len(imported) > 100
