"""A whole run, predict, export and the demo reach no other machine and write nothing in the home folder.

Python's own connections are seen by an audit hook in every process. Where strace is installed it sees all others too.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from core.environment import SILENCING

from test_demo import free_port
from toy_data import ALL_TASKS, FAST

ROOT = Path(__file__).resolve().parents[1]
HOOK = """
import os, sys

def note(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0] if event in ("socket.getaddrinfo", "socket.gethostbyname") else arguments[1]
        if not isinstance(host, (str, bytes)) or event.startswith("socket.get"):
            with open(os.environ["CONNECTIONS"], "a") as log:
                log.write(f"{host[0] if isinstance(host, tuple) else host}\\n")

sys.addaudithook(note)
"""
# Detection and training start processes; of the others' none would import anything else.
COMMANDS = """
import importlib.util, pathlib, sys
import core
from preprocessing import crop_faces, detect_faces
from synthesis.drawn import sample
import check_data.__main__, ensemble, inference, predict, reporting.__main__, submission, train
from serving import demo, export

def main(tasks, port, fast):
    crops, run = ("--crop-dir", "crops"), ("--run-dir", "run")
    sample.main(["--out", "data", "--train-people", "8", "--eval-photos", "2", "--workers", "1"])
    check_data.__main__.main(["--data-dir", "data", "--folds", "2", "--workers", "1"])
    detect_faces.main(["--data-dir", "data", *crops, "--workers", "2"])
    crop_faces.main([*crops, "--workers", "1"])
    train.main(["--task", *tasks, *crops, *run, *fast, "--epochs", "1", "--jobs", "2"])
    inference.main([*run])
    ensemble.main([*run])
    submission.main([*run])
    reporting.__main__.main([*run])
    export.main([*run, "--crops", "2"])
    photo = str(next(pathlib.Path("data/eval/images").iterdir()))
    predict.main([photo, *run, "--out", "seen"])
    predict.main([photo, "--onnx", "run/onnx", "--out", "seen_by_onnx"])
    if importlib.util.find_spec("gradio"):
        demo.wait_for_ctrl_c = lambda: None
        demo.main([*run, "--port", port])
        import gradio.analytics, huggingface_hub.constants
        assert huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY and not gradio.analytics.analytics_enabled()

if __name__ == "__main__":
    main(sys.argv[1].split(","), sys.argv[2], sys.argv[3:])
"""
QUIET = {"XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "CI", "OFFLINE", *SILENCING}
"""Variables that would keep a library quiet, and so hide that the project does not."""
LOCAL = re.compile(r"^(localhost|127\.[\d.]+|::1|0\.0\.0\.0|::|None|)$")


def test_nothing_leaves_the_machine_or_enters_the_home_folder(tmp_path: Path) -> None:
    home, hook, traced = tmp_path / "home", tmp_path / "hook", tmp_path / "traced.txt"
    home.mkdir()
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(HOOK)
    (tmp_path / "commands.py").write_text(COMMANDS)
    environment = {name: value for name, value in os.environ.items() if name not in QUIET}
    environment |= {"HOME": str(home), "CONNECTIONS": str(tmp_path / "connections.txt")}
    environment |= {"PYTHONPATH": os.pathsep.join([str(hook), str(ROOT)])}
    # Without --seccomp-bpf strace stops the processes at all of their system calls: an import makes thousands.
    strace = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=connect,sendto,sendmmsg", "-o", str(traced)]
    watched = [*(strace if shutil.which("strace") else []), sys.executable, str(tmp_path / "commands.py")]
    argv = [",".join(ALL_TASKS), str(free_port()), *FAST]
    done = subprocess.run(
        [*watched, *argv], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert {path for path in home.rglob("*") if path.is_file()} == set()
    hosts = (tmp_path / "connections.txt").read_text().splitlines() if (tmp_path / "connections.txt").exists() else []
    if traced.exists():
        hosts += re.findall(r'inet_(?:addr|pton)\((?:AF_INET6, )?"([^"]+)"', traced.read_text())
    assert [host for host in hosts if not LOCAL.match(host)] == []


def test_the_hook_sees_a_connection(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(HOOK)
    script = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 53))"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "CONNECTIONS": str(tmp_path / "seen.txt")}
    subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=False)
    assert (tmp_path / "seen.txt").read_text() == "192.0.2.1\n"
