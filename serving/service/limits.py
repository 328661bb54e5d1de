"""Who may ask, and how often: the token, and the rate of each client."""

import hashlib
import hmac
import math
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from core.cli import UserError

TOKEN_VARIABLE = "SERVICE_TOKEN"
LEAST_TOKEN = 16
"""Characters of the shortest token: shorter ones can be guessed."""
MOST_CLIENTS = 10_000
"""Clients that are remembered; beyond them, those that have been silent longest are forgotten."""


class RateLimit:
    """At most `per_minute` requests of one client at once, and as many in each minute after (a token bucket)."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute, self._clock = per_minute, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def seconds_to_wait(self, client: str) -> int:
        """Count a request of the client; return 0, or the seconds after which it may be made instead."""
        now = self._clock()
        left, seen = self._left.pop(client, (float(self._per_minute), now))
        left = min(self._per_minute, left + (now - seen) * self._per_minute / 60)
        allowed = left >= 1
        self._left[client] = (left - allowed, now)
        if len(self._left) > MOST_CLIENTS:
            self._left.popitem(last=False)
        return 0 if allowed else math.ceil((1 - left) * 60 / self._per_minute)


def read_token(path: Path | None) -> str | None:
    """Return the token in a file, or in the environment; None if neither is given. UserError for a short one."""
    if path is None and TOKEN_VARIABLE not in os.environ:
        return None
    where = TOKEN_VARIABLE if path is None else str(path)
    try:
        token = (os.environ[TOKEN_VARIABLE] if path is None else path.read_text(encoding="utf-8")).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--token-file {path}: cannot be read ({error})") from None
    if len(token) < LEAST_TOKEN or not (token.isascii() and token.isprintable()) or " " in token:
        raise UserError(f"{where}: a token has at least {LEAST_TOKEN} letters, digits or signs, all of them ASCII")
    return token


def is_bearer(authorization: str, token: str) -> bool:
    """Return whether the header says 'Bearer TOKEN'. Takes equally long for every wrong one."""
    scheme, _, given = authorization.partition(" ")
    same = hmac.compare_digest(_digest(given.strip()), _digest(token))
    return same and scheme.lower() == "bearer"


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
