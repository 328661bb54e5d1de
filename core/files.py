"""Files on disk: written aside and renamed, read strictly, recognised by hash."""

import csv
import hashlib
import json
import os
import re
import socket
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from core.cli import UserError, is_first_rank, one_line

_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]
_ASIDE = re.compile(r"\.(?P<host>[0-9a-f]{6})-(?P<pid>\d+)-[0-9a-f]{8}\.tmp(\..*)?")
"""Names of temporary files: the host and the process that write them."""
STALE_SECONDS = 24 * 3600
NO_ENTRIES: Mapping[str, type] = MappingProxyType({})


@contextmanager
def replacing(path: Path, *, any_rank: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed and renamed to `path`, on failure removed.

    The temporary name keeps the suffix, since image writers choose the format by it. UserError for a disk that is full
    or cannot be written to; the file that was there before is then as it was. Where several processes train one model,
    only the first one writes, but for `any_rank`: files that are one process's own share of the work.
    """
    # The name does not grow with the target's: a long but legal file name must stay legal.
    aside = path.parent / f".{_HOST}-{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp{path.suffix}"
    if not (any_rank or is_first_rank()):
        with tempfile.TemporaryDirectory() as nowhere:
            yield Path(nowhere) / path.name
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        with aside.open("rb+") as written:
            os.fsync(written.fileno())
        aside.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {one_line(error, path)}") from error
    finally:
        _remove(aside)


def _remove(aside: Path) -> None:
    # In a folder that cannot be written to there is nothing to remove, and the first error is the one to tell.
    if aside.exists():
        aside.unlink()


def remove_stale(folder: Path) -> None:
    """Remove the temporary files that killed processes have left anywhere below `folder`."""
    for path in folder.rglob(".*.tmp*"):
        name = _ASIDE.fullmatch(path.name)
        # One that another process renames in this moment is gone, and was not stale.
        with suppress(FileNotFoundError):
            if name and _is_stale(path, name["host"], int(name["pid"])):
                path.unlink()


def _is_stale(path: Path, host: str, pid: int) -> bool:
    """Whether the process that wrote a file is gone: known for those of this host, of others' taken from its age."""
    if time.time() - path.stat().st_mtime > STALE_SECONDS:
        return True
    return host == _HOST and not _is_alive(pid)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_text(path: Path, text: str) -> None:
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def read_json(path: Path, entries: Mapping[str, type] = NO_ENTRIES) -> dict:
    """The JSON object in `path`; UserError if it is missing, damaged, not an object, or lacks one of `entries`."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not valid JSON ({' '.join(str(error).split())})") from None
    return parse_json(path, text, entries)


def parse_json(where: object, text: str, entries: Mapping[str, type] = NO_ENTRIES) -> dict:
    """The JSON object in `text`, which lies at `where`. UserError as read_json says."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        # Not only JSONDecodeError: numbers of thousands of digits, brackets without end.
        raise UserError(f"{where}: not valid JSON ({' '.join(str(error).split())})") from None
    require_entries(where, value, entries)
    return value


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


def write_array(path: Path, array: np.ndarray, *, any_rank: bool = False) -> None:
    with replacing(path, any_rank=any_rank) as aside, aside.open("wb") as stream:
        np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)


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
    """A CSV as strings (empty where empty), with at least `columns`; UserError names what is wrong and where."""
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
    return frame


def _refuse_repeated_column(path: Path) -> None:
    """pandas renames the second one without a word."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        header = next(csv.reader(stream), [])
    repeated = [name for name in header if name and header.count(name) > 1]
    if repeated:
        raise UserError(f"{path}: column {repeated[0]!r} stands twice in its header")


def require_unique(path: Path, frame: pd.DataFrame, column: str) -> None:
    """UserError naming the first value that stands twice in a key column of the table read from `path`."""
    repeated = frame[column][frame[column].duplicated()]
    if len(repeated):
        raise UserError(f"{path}: {column} {repeated.iloc[0]!r} stands in more than one row")


def text_hash(parts: Iterable[str]) -> str:
    """A short hash of strings, order included."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()[:16]


def file_sha256(path: Path) -> str:
    """UserError if there is no such file."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
