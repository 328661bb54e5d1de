"""Files of the caches: a .npy array with the SHA-256 of its place and content behind it, read row by row.

Rows are read, not mapped: if the file under a map is cut short, the reader ends with SIGBUS and says nothing.
"""

import hashlib
import io
import math
from collections.abc import Iterable
from functools import cache
from itertools import chain
from pathlib import Path

import numpy as np

from core.cli import UserError
from core.files import replacing

_DIGEST_BYTES, _CHUNK = 32, 1 << 20


def write_rows(path: Path, rows: Iterable[np.ndarray], *, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Write an array of that shape from its rows, or from blocks of them. numpy.load reads the file, too."""
    header, digest = io.BytesIO(), _digest_of(path)
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, described)
    with replacing(path) as aside, aside.open("wb") as stream:
        for content in chain([header.getvalue()], (np.ascontiguousarray(block, dtype).tobytes() for block in rows)):
            digest.update(content)
            stream.write(content)
        stream.write(digest.digest())


def is_whole(path: Path) -> bool:
    """Return True if the file is there and holds what was written to this place. It is read once in a process."""
    try:
        state = path.stat()
        return _is_whole(path, state.st_size, state.st_mtime_ns)
    except OSError:
        return False


@cache
def _is_whole(path: Path, size: int, _: int) -> bool:
    digest, left = _digest_of(path), size - _DIGEST_BYTES
    with path.open("rb") as stream:
        while left > 0 and (chunk := stream.read(min(left, _CHUNK))):
            digest.update(chunk)
            left -= len(chunk)
        return stream.read() == digest.digest()


def _digest_of(path: Path) -> "hashlib._Hash":
    """Return a digest begun with folder and name, so that a file copied to another place is noticed."""
    return hashlib.sha256(f"{path.parent.name}/{path.name}".encode())


class ArrayFile:
    """Rows of an array in a file that `is_whole`. Nothing is kept open; pickled as its path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as stream:
            np.lib.format.read_magic(stream)
            self.shape, _, self.dtype = np.lib.format.read_array_header_1_0(stream)
            self._offset = stream.tell()

    def read(self, first: int, count: int = 1) -> np.ndarray:
        """Read `count` rows from `first` on. UserError if the file is cut short, or gone, since it was opened."""
        items = math.prod(self.shape[1:])
        offset = self._offset + first * items * self.dtype.itemsize
        try:
            found = np.fromfile(self.path, self.dtype, count * items, offset=offset)
        except OSError as error:
            raise UserError(f"{self.path}: {error.strerror}; give the same command again") from None
        if len(found) < count * items:
            raise UserError(f"{self.path}: cut short while it was read; give the same command again")
        return found.reshape(count, *self.shape[1:])
