"""No connection to any other machine: what `--offline`, or OFFLINE=1 in the environment, makes sure of.

Python's own sockets are refused by an audit hook, which nothing can take away again; processes started later inherit
the wish through the environment. Loopback and sockets of the file system stay allowed. Libraries that open sockets in
C are beyond the hook: `unshare -rn` before the command shuts them out too.
"""

import ipaddress
import os
import socket
import sys

from core.errors import UserError

VARIABLE = "OFFLINE"
_HUB_VARIABLES = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
_HOST_OF = {
    "socket.connect": lambda _, address: address[0] if isinstance(address, tuple) else None,
    "socket.sendto": lambda _, address: address[0] if isinstance(address, tuple) else None,
    "socket.sendmsg": lambda _, address: address[0] if isinstance(address, tuple) else None,
    "socket.getaddrinfo": lambda host, *_: host,
    "socket.gethostbyname": lambda host: host,
}
"""Audit events (https://docs.python.org/3/library/audit_events.html) that name a host, and where they name it."""


def is_offline() -> bool:
    return os.environ.get(VARIABLE, "") not in ("", "0")


def go_offline() -> None:
    """Refuse connections from now on, in this process and in those it starts."""
    os.environ[VARIABLE] = "1"
    os.environ.update(dict.fromkeys(_HUB_VARIABLES, "1"))
    # The hub's client has read its variable if it is loaded already; told so, it uses what it has stored before.
    if "huggingface_hub.constants" in sys.modules:
        sys.modules["huggingface_hub.constants"].HF_HUB_OFFLINE = True
    sys.addaudithook(_refuse_connection)


def _refuse_connection(event: str, arguments: tuple) -> None:
    """UserError, not OSError: clients of the network try again after an OSError, for minutes."""
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
