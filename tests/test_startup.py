"""Help and the complaint about a mistyped flag come without the imports that take seconds."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {
    *("torch", "torchvision", "timm", "albumentations", "onnx", "gradio", "sklearn", "ray", "matplotlib", "cleanlab"),
    *("scipy", "fastapi", "uvicorn"),
}
TOOLS = sorted(path.stem for path in (ROOT / "tools").glob("*.py") if "run_cli(main)" in path.read_text("utf-8"))
MODULES = (
    *("train", "inference", "ensemble", "submission", "predict", "check_data", "reporting"),
    *("serving.export", "serving.demo", "serving.http", "serving.publish"),
    *("synthesis.drawn.sample", "synthesis.builder.build"),
    *("preprocessing.detect_faces", "preprocessing.crop_faces", "preprocessing.annotate_faces"),
    *("dev.benchmarks", "dev.experiments"),
    *(f"tools.{name}" for name in TOOLS),
)
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


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_run_as_a_file_says_how_to_run_it(name: str) -> None:
    ended = subprocess.run([sys.executable, f"tools/{name}.py"], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [f"run this as a module: python -m tools.{name}"]
