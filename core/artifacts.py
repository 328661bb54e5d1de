"""Files on disk: written aside and renamed, read strictly, recognised by hash."""

import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from core.runtime import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed and renamed to `path`, on failure removed.

    The temporary name keeps the suffix, since image writers choose the format by it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The name does not grow with the target's: a long but legal file name must stay legal.
    aside = path.parent / f".{uuid.uuid4().hex[:12]}.tmp{path.suffix}"
    try:
        yield aside
        with aside.open("rb+") as written:
            os.fsync(written.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def read_json(path: Path) -> dict:
    """The JSON object in `path`; UserError if it is missing, damaged or not an object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a JSON object, found a {type(value).__name__}")
    return value


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write without an index column. Floats keep all digits that float32 needs to come back the same."""
    with replacing(path) as aside:
        frame.to_csv(aside, index=False, float_format="%.9g")


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
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise UserError(f"{path}: column {', '.join(missing)} is missing; it has {', '.join(map(str, frame.columns))}")
    return frame


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
