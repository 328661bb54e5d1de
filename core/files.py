"""Files: atomic writes, strict reads, hashes, and free disk space."""

import csv
import hashlib
import json
import os
import re
import shutil
import socket
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

from core.environment import WINDOWS

import pandas as pd

from core.cli import UserError, one_line

RESERVE = 32 << 20
"""Bytes for tables, logs and other small files beside those that are counted."""
STALE_SECONDS = 24 * 3600
WINDOWS_WAITS = (0.1, 0.3, 1.0)
"""Seconds between tries to rename a file that is open."""
NO_ENTRIES: Mapping[str, type] = MappingProxyType({})
_ASIDE = re.compile(r"\.(?P<host>[0-9a-f]{6})-(?P<pid>\d+)-[0-9a-f]{8}\.tmp(\..*)?")
"""Names of temporary files: the host and the process that write them."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def _host() -> str:
    """Return a short hash of where process ids are unique: containers may share a host name, and a volume."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text("ascii"), str(Path("/proc/self/ns/pid").readlink())]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:6]


_HOST = _host()


def _aside(path: Path) -> Path:
    """Return a temporary path beside `path`, whose name says which process writes it."""
    # The name does not grow with the target's: a long but legal file name must stay legal.
    return path.parent / f".{_HOST}-{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp{path.suffix}"


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success it is renamed to `path`, on failure removed.

    What a killed process left beside it is removed first.
    """
    remove_stale(path.parent, below=False)
    aside = _aside(path)
    try:
        aside.mkdir(parents=True)
        yield aside
        _rename(aside, path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed and renamed to `path`, on failure removed.

    The temporary name keeps the suffix, since image writers choose the format by it. UserError for a disk that is full
    or cannot be written to; the file that was there before is then as it was.
    """
    aside = _aside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        with aside.open("rb+") as written:
            os.fsync(written.fileno())
        _rename(aside, path)
    except OSError as error:
        raise UserError(f"cannot write {one_line(error, path)}") from error
    finally:
        # Asked first: in a folder that cannot be written to, unlink would raise and hide the error above.
        if aside.exists():
            aside.unlink()


def _rename(aside: Path, path: Path) -> None:
    """Rename a file to `path`. On Windows it is refused for as long as another process, often a virus scanner, has one
    of the two open, and is tried again."""
    for seconds in WINDOWS_WAITS if WINDOWS else ():
        with suppress(PermissionError):
            aside.replace(path)
            return
        time.sleep(seconds)
    aside.replace(path)


def remove_stale(folder: Path, *, below: bool = True) -> None:
    """Remove temporary files and folders that killed processes have left in `folder` and, unless told not to, below
    it."""
    for path in (folder.rglob if below else folder.glob)(".*.tmp*"):
        name = _ASIDE.fullmatch(path.name)
        # One that another process renames in this moment is gone, and was not stale.
        with suppress(FileNotFoundError):
            if name and _is_stale(path, name["host"], int(name["pid"])):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _is_stale(path: Path, host: str, pid: int) -> bool:
    """Return True if the writer of a temporary file is gone: asked of this host, judged by age for other hosts."""
    if time.time() - path.stat().st_mtime > STALE_SECONDS:
        return True
    return host == _HOST and not _is_alive(pid)


def _is_alive(pid: int) -> bool:
    """Return True if a process of this host runs. On Windows every process counts as alive: a signal would end it."""
    if WINDOWS:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # Linux. One that ended is still found until its parent asks for it; the first process of a container may never.
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(") ")[2][:1] != "Z"
    return True


def require_room(folder: Path, needed: int, what: str) -> None:
    """UserError unless `needed` bytes, if any, and a reserve are free on the disk that `folder` is or will be on."""
    there = next(level for level in (folder.absolute(), *folder.absolute().parents) if level.exists())
    usage = shutil.disk_usage(there)
    # Some network and overlay file systems do not say how large they are.
    if needed and usage.total and usage.free < needed + RESERVE:
        raise UserError(
            f"{folder}: {in_words(usage.free)} free on its disk, {what} needs about {in_words(needed + RESERVE)}; "
            f"make room, or give a folder on another disk"
        )


def in_words(size: int) -> str:
    """Return a number of bytes as '1.4 GB'."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} bytes"


def write_text(path: Path, text: str) -> None:
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def holds_json(path: Path, value: object) -> bool:
    """Return True if the file holds this value; False if it is missing or damaged, and so to be made anew."""
    try:
        return read_json(path) == json.loads(json.dumps(value, default=str))
    except UserError:
        return False


def read_json(path: Path, entries: Mapping[str, type] = NO_ENTRIES) -> dict:
    """Read the JSON object in `path`; UserError if it is missing, damaged, not an object, or lacks one of `entries`."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not valid JSON ({' '.join(str(error).split())})") from None
    return parse_json(path, text, entries)


def parse_json(where: object, text: str, entries: Mapping[str, type] = NO_ENTRIES) -> dict:
    """Return the JSON object in `text`, read from `where`. UserError as `read_json`."""
    try:
        value = json.loads(text, parse_int=_number_of_64_bits)
    except (ValueError, RecursionError) as error:
        # Not only JSONDecodeError: numbers of thousands of digits, brackets without end.
        raise UserError(f"{where}: not valid JSON ({' '.join(str(error).split())})") from None
    require_entries(where, value, entries)
    return value


def _number_of_64_bits(digits: str) -> int:
    """Parse a whole number. ValueError for one that is no entry of ours, and too large to be made a float."""
    if abs(number := int(digits)) >= 1 << 63:
        raise ValueError(f"whole number {digits[:20]}... is too large")
    return number


def require_entries(where: object, value: object, entries: Mapping[str, type]) -> None:
    """UserError unless `value`, read from `where`, is an object with at least these entries, of just these types."""
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected a JSON object, found a {type(value).__name__}")
    missing = [name for name in entries if name not in value]
    if missing:
        raise UserError(f"{where}: entry {', '.join(missing)} is missing")
    for name, kind in entries.items():
        if type(value[name]) is not kind:
            raise UserError(f"{where}: entry {name} is {value[name]!r:.100}, expected a {kind.__name__}")


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write without an index column. Floats keep all digits that float32 needs to come back the same."""
    # A carriage return in a cell would be read as the end of its row; left to itself the writer does not quote it.
    quoting = csv.QUOTE_ALL if _has_carriage_return(frame) else csv.QUOTE_MINIMAL
    with replacing(path) as aside:
        frame.to_csv(aside, index=False, float_format="%.9g", quoting=quoting)


def _has_carriage_return(frame: pd.DataFrame) -> bool:
    texts = frame.select_dtypes(exclude="number")
    return any("\r" in cell for name in texts for cell in texts[name] if isinstance(cell, str))


def read_csv(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a CSV as strings (empty where empty), with at least `columns`; UserError names the file and the fault."""
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable CSV ({' '.join(str(error).split())})") from None
    if not isinstance(frame.index, pd.RangeIndex):
        # pandas takes surplus first cells for an index, and every column would be read one cell too late.
        raise UserError(f"{path}: not a readable CSV (rows have more cells than its header)")
    _refuse_repeated_column(path)
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise UserError(f"{path}: column {', '.join(missing)} is missing; it has {', '.join(map(str, frame.columns))}")
    _refuse_control_characters(path, frame)
    return frame


def _refuse_control_characters(path: Path, frame: pd.DataFrame) -> None:
    """UserError for a column or cell that would break messages and terminals, as for the names of photos."""
    for name in frame.columns:
        bad = frame[name][frame[name].str.contains(_CONTROL)]
        if len(bad) or _CONTROL.search(name):
            cell = f", in the cell {bad.iloc[0]!a:.60}" if len(bad) else ""
            raise UserError(f"{path}: control characters in column {name!a}{cell}; remove them")


def _refuse_repeated_column(path: Path) -> None:
    """UserError for two columns of one name, the second of which pandas would rename."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            header = next(csv.reader(stream), [])
    except csv.Error as error:
        raise UserError(f"{path}: not a readable CSV ({error})") from None
    repeated = [name for name, count in Counter(header).items() if name and count > 1]
    if repeated:
        raise UserError(f"{path}: column {repeated[0]!r} stands twice in its header")


def require_unique(path: Path, frame: pd.DataFrame, column: str) -> None:
    """UserError naming the first value that occurs twice in a key column of the table read from `path`."""
    repeated = frame[column][frame[column].duplicated()]
    if len(repeated):
        raise UserError(f"{path}: {column} {repeated.iloc[0]!r} stands in more than one row")


def text_hash(parts: Iterable[str]) -> str:
    """Return a short hash of strings, which depends on their order."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()[:16]


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content; UserError if there is no such file."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
