"""Photos and the guarded listing of a data root: nothing outside of it is read, and harmful names are refused."""

import os
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from core.cli import UserError
from core.files import read_csv, require_unique
from core.images import is_photo_name


@dataclass(frozen=True)
class Photo:
    """A photo of a data root. `path` is relative to the root; `facts` are labels as strings, empty for eval photos."""

    image_id: str
    split: str
    person: str
    path: str
    facts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Search:
    """A scan under way. Ignored files go to `ignored`; faults go to `faults` if it is a list, and else end the scan.

    `table_path` is the table of photos that was given, None to look for one in the root; `notes` say how
    it was read.
    """

    root: Path
    ignored: list[str]
    faults: list[str] | None = None
    table_path: Path | None = None
    notes: list[str] = field(default_factory=list)

    @contextmanager
    def forgiving(self) -> Iterator[None]:
        """Put a UserError on the list of faults, if there is one, and go on after the block."""
        try:
            yield
        except UserError as error:
            if self.faults is None:
                raise
            self.faults.append(str(error))

    def entries(self, folder: Path) -> list[os.DirEntry]:
        """Return the entries of a folder by name. UserError if it cannot be read, or for a name or link not allowed."""
        entries = []
        with self.forgiving():
            for entry in _listed(self.root, folder):
                with self.forgiving():
                    self._refuse(entry)
                    entries.append(entry)
        return entries

    def photos_below(self, folder: Path) -> Iterator[str]:
        """Yield paths of photos relative to the root, folder by folder, a folder's own first; ignore the rest.

        Linked folders, which could make circles, are skipped.
        """
        waiting = [folder]
        while waiting:
            entries, folders = self.entries(waiting.pop()), []
            for entry in entries:
                path = Path(entry.path).relative_to(self.root).as_posix()
                if is_folder(entry) and not entry.is_symlink():
                    folders += [] if entry.name.startswith(".") else [Path(entry.path)]
                elif is_photo_name(entry.name) and not is_folder(entry):
                    yield path
                else:
                    self.ignored.append(path)
            waiting += reversed(folders)

    def _refuse(self, entry: os.DirEntry) -> None:
        """UserError for a photo or folder with a name or link that is not allowed. Other files may have any name."""
        if entry.name.startswith(".") or not (is_folder(entry) or is_photo_name(entry.name)):
            return
        if "\\" in entry.name or any(unicodedata.category(letter) in ("Cc", "Cs") for letter in entry.name):
            # They would break tables, messages and terminals.
            place = f"folder {Path(entry.path).parent}: name {entry.name!a}"
            raise UserError(f"{place} has a backslash or control characters, or is not UTF-8; rename it")
        if entry.is_symlink():
            refuse_outside(self.root, Path(entry.path))

    def table(self, path: Path, columns: Sequence[str], *, key: str) -> pd.DataFrame | None:
        """Read a table of the data root as strings, with at least `columns`, `key` unique; None where there is none."""
        if not path.exists():
            return None
        with self.forgiving():
            refuse_outside(self.root, path)
            frame = read_csv(path, columns)
            require_unique(path, frame, key)
            return frame
        return None


def _listed(root: Path, folder: Path) -> list[os.DirEntry]:
    refuse_outside(root, folder)
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"folder {folder}: {error.strerror}") from None


def is_folder(entry: os.DirEntry) -> bool:
    # DirEntry.is_dir raises for a link that leads in a circle, Path.is_dir does not.
    return Path(entry.path).is_dir() if entry.is_symlink() else entry.is_dir()


def refuse_outside(root: Path, path: Path) -> None:
    """UserError for a path outside of the root: a link in data from strangers could show any file of this machine."""
    target = Path(os.path.realpath(path))
    if not target.is_relative_to(os.path.realpath(root)):
        raise UserError(f"{path} leads out of the data folder {root}, to {target}; put the files themselves there")


def name_key(name: str) -> str:
    """Return the name in one form for all that look the same: systems store Hangul as NFC or NFD."""
    return unicodedata.normalize("NFC", name)
