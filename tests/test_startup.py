"""Help and the complaint about a mistyped flag come without the imports that take seconds."""

import json
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
FLAGS = {"--help": (0, "--offline"), "--mistyped": (2, "error: ")}
"""Exit code and words of what is printed."""
CODE = """
import contextlib, importlib, io, json, runpy, sys

ends = {}
modules, flags = map(str.split, sys.argv[1:])
for module, flag in [(module, flag) for module in modules for flag in flags]:
    sys.argv[1:] = [flag]
    before, printed = set(sys.modules), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            code = runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as ended:
            code = ended.code
    ends[f"{module} {flag}"] = code, printed.getvalue(), sorted(set(sys.modules) - before)
for module in ("train", "inference"):
    before = set(sys.modules)
    importlib.import_module(module).parse_args([])
    ends[f"{module} imported"] = 0, "", sorted(set(sys.modules) - before)
json.dump(ends, sys.stdout)
"""


@pytest.fixture(scope="module")
def ends() -> dict[str, tuple[int, str, list[str]]]:
    """Exit code, output and newly imported modules of all commands with each flag, in one process."""
    command = [sys.executable, "-c", CODE, " ".join(MODULES), " ".join(FLAGS)]
    return json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout)


@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("module", MODULES)
def test_help_and_mistyped_flags_are_answered(
    ends: dict[str, tuple[int, str, list[str]]], module: str, flag: str
) -> None:
    code, printed, _ = ends[f"{module} {flag}"]
    assert (code, FLAGS[flag][1] in printed) == (FLAGS[flag][0], True)


def test_nothing_heavy_is_imported(ends: dict[str, tuple[int, str, list[str]]]) -> None:
    """Not for these flags, nor to read the others."""
    heavy = {name: HEAVY & set(imported) for name, (_, _, imported) in ends.items()}
    assert {name: modules for name, modules in heavy.items() if modules} == {}
    assert "pandas" in {module for _, _, imported in ends.values() for module in imported}


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_run_as_a_file_says_how_to_run_it(name: str) -> None:
    ended = subprocess.run([sys.executable, f"tools/{name}.py"], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [f"run this as a module: python -m tools.{name}"]
