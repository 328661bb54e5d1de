"""Settings of the process that libraries read when they are loaded, and the refusal of network connections.

`--offline`, or OFFLINE=1 in the environment, refuses every connection to another machine. Python's own sockets are
refused by an audit hook, which cannot be removed again; processes started later inherit the variable. Loopback and
Unix sockets stay allowed. Libraries that open sockets in C are out of the hook's reach: `unshare -rn` before the
command stops them too.
"""

import ipaddress
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType

from core.errors import UserError

WINDOWS = os.name == "nt"
ROOT = Path(__file__).resolve().parents[1]
EXIT_BAD_INPUT, EXIT_INTERRUPTED = 2, 130
INTERRUPTED = "interrupted: finished work is kept, the same command goes on from there"
OFFLINE, MAX_PIXELS = "OFFLINE", "MAX_PIXELS"
DEFAULT_MAX_PIXELS = 128_000_000
"""Photos of 108 megapixels are read. The largest takes 400 MB, and while it is decoded 1 GB, in each process."""
SILENCING: Mapping[str, str] = MappingProxyType({
    # From 1.29 on, onnxruntime uploads usage data and keeps a file of it under HOME.
    "ORT_DISABLE_TELEMETRY": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    # albumentations looks for a newer version at import.
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
    "DO_NOT_TRACK": "1",
    # A camera or video that cannot be opened is one line of ours, not ten of OpenCV and FFmpeg (-8: quiet).
    "OPENCV_LOG_LEVEL": "OFF",
    "OPENCV_FFMPEG_LOGLEVEL": "-8",
})  # fmt: skip
_HUB_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
_HOST_OF = {
    "socket.connect": lambda _, address: address[0] if isinstance(address, tuple) else None,
    "socket.sendto": lambda _, address: address[0] if isinstance(address, tuple) else None,
    "socket.sendmsg": lambda _, address: address[0] if isinstance(address, tuple) else None,
    "socket.getaddrinfo": lambda host, *_: host,
    "socket.gethostbyname": lambda host: host,
}
"""Audit events (https://docs.python.org/3/library/audit_events.html) that name a host, and the host among their
arguments."""


def prepare_environment() -> None:
    """Switch off telemetry, update checks and chatter of all libraries, and connections where OFFLINE is set.

    `core/__init__.py` calls it. A variable that the user has set is left as it is. From then on a missing package ends
    a command with one line.
    """
    sys.excepthook = _end_an_import
    for name, value in SILENCING.items():
        os.environ.setdefault(name, value)
    # Waiting OpenMP threads sleep instead of spinning: a few percent slower on an idle machine, many times faster on
    # one whose cores are shared with loader processes or other programs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # What a Mac's GPU cannot compute is computed by the CPU.
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    if os.environ.get(OFFLINE, "") not in ("", "0"):
        go_offline()


def _end_an_import(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """End on Ctrl-C, and where this Python lacks a package, in one line; print a traceback for any other error.

    `run_cli` is not there yet while libraries are imported.
    """
    if issubclass(kind, KeyboardInterrupt):
        os.write(2, f"\n{INTERRUPTED}\n".encode())
        os._exit(EXIT_INTERRUPTED)
    package = (getattr(error, "name", None) or "").partition(".")[0]
    if not issubclass(kind, ModuleNotFoundError) or not package or _is_of_the_project(package):
        sys.__excepthook__(kind, error, trace)
        return
    print(f"error: this Python lacks the package {package}; {_way_to_packages()}", file=sys.stderr)
    sys.exit(EXIT_BAD_INPUT)


def _is_of_the_project(module: str) -> bool:
    return (ROOT / module).is_dir() or (ROOT / f"{module}.py").exists()


def _way_to_packages() -> str:
    venv = ROOT / ".venv"
    # As it is typed: in the folder of the project, or from anywhere else.
    here = Path() if Path.cwd() == ROOT else ROOT
    scripts = here / ".venv" / ("Scripts" if WINDOWS else "bin")
    python = scripts / ("python.exe" if WINDOWS else "python")
    if Path(sys.prefix) == venv or not (ROOT / python).exists():
        run_all = here / "run_all.bat" if WINDOWS else f"bash {here / 'run_all.sh'}"
        install = here / "scripts" / "install.py"
        return f"install them: {Path(sys.executable).name} {install} train, or: {run_all}"
    command = " ".join(sys.orig_argv[1:3] if sys.orig_argv[1:2] == ["-m"] else sys.orig_argv[1:2])
    activate = f"{'' if WINDOWS else '. '}{scripts / 'activate'}"
    return f"activate the environment that run_all.sh made: {activate} (or run {python} {command} ...)"


def go_offline() -> None:
    """Refuse connections from now on, in this process and in those it starts."""
    os.environ[OFFLINE] = "1"
    os.environ.update(dict.fromkeys(_HUB_OFFLINE, "1"))
    # The hub's client has read its variable if it is loaded already; told so, it uses what it has stored before.
    if "huggingface_hub.constants" in sys.modules:
        sys.modules["huggingface_hub.constants"].HF_HUB_OFFLINE = True
    sys.addaudithook(_refuse_connection)


def max_pixels() -> int:
    """Return the most pixels of a photo or frame: --max-pixels, or MAX_PIXELS in the environment. UserError for no
    number."""
    text = os.environ.get(MAX_PIXELS, "") or str(DEFAULT_MAX_PIXELS)
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise UserError(f"MAX_PIXELS {text!r}: must be a whole number of at least 1")
    return int(text)


def _refuse_connection(event: str, arguments: tuple) -> None:
    """Raise UserError, not OSError: clients of the network try again after an OSError, for minutes."""
    if event not in _HOST_OF:
        return
    host = _HOST_OF[event](*arguments)
    if host is not None and not _is_this_machine(host):
        raise UserError(f"--offline: a connection to {_text(host)} was asked for and is refused")


def _is_this_machine(host: str | bytes) -> bool:
    name = _text(host)
    if name in ("", "localhost", socket.gethostname()):
        return True
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _text(host: str | bytes) -> str:
    return host.decode("ascii", "replace") if isinstance(host, bytes) else host
