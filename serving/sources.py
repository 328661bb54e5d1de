"""Sort the paths given to predict.py into photos, a video or camera, and files that are neither, by their content."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from core.cli import UserError
from core.image_formats import EXTENSIONS, format_of
from core.images import WRITTEN
from serving.video import SUFFIXES, Camera, camera_named, is_video

HEAD_BYTES = 512


@dataclass
class PhotoSources:
    """Photos with the path of each one's annotated copy, the reverse, unusable files, and files of no picture."""

    targets: dict[Path, Path] = field(default_factory=dict)
    photo_of: dict[Path, Path] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)
    foreign: list[str] = field(default_factory=list)

    def add(self, path: Path, target: Path) -> None:
        """Add a photo. UserError if the copy of another one has the same path."""
        if path.suffix.lower() not in WRITTEN:
            target = target.with_name(f"{target.name}.png")
        twin = self.photo_of.setdefault(target, path)
        if twin != path:
            raise UserError(f"{twin} and {path} would both be written to {target}; predict them one after the other")
        self.targets[path] = target


def clip_of(sources: Sequence[str]) -> Path | Camera | None:
    """Return the video or the camera; None for photos. UserError for a video among others."""
    clips = [clip for clip in map(_clip, sources) if clip is not None]
    if clips and len(sources) > 1:
        clip = clips[0].name if isinstance(clips[0], Camera) else clips[0]
        raise UserError(f"{clip}: a video or a camera is predicted by itself; leave out the other paths")
    return clips[0] if clips else None


def _clip(source: str) -> Path | Camera | None:
    path = Path(source)
    if not path.exists() and (camera := camera_named(source)):
        return camera
    if path.is_dir() or (path.is_file() and format_of(_head(path))):
        return None
    return path if path.suffix.lower() in SUFFIXES or (path.is_file() and is_video(_head(path))) else None


def photos_of(sources: Sequence[str], out_dir: Path) -> PhotoSources:
    """List the photos. UserError if there is none, or a copy in `out_dir` would replace a photo."""
    found = PhotoSources()
    for source in map(Path, sources):
        if source.is_dir() and source.resolve() == out_dir.resolve():
            raise _among_photos(out_dir)
        if source.is_dir():
            _add_folder(found, source, out_dir / source.name if len(sources) > 1 else out_dir, out_dir.resolve())
        elif source.exists():
            found.add(source, out_dir / source.name)
        else:
            raise UserError(f"{source}: no such file or folder; give a photo, a folder, a video or a camera")
    photos = {path.resolve() for path in found.targets}
    if any(target.resolve() in photos for target in found.targets.values()):
        raise _among_photos(out_dir)
    if not found.targets:
        reasons = [f"{path} ({reason})" for path, reason in found.unusable.items()] or found.foreign
        raise UserError(f"{', '.join(sources)}: no photos in it{f'; found {reasons[0]}' if reasons else ''}")
    return found


def _among_photos(out_dir: Path) -> UserError:
    return UserError(f"--out {out_dir}: the photos themselves lie there; give another folder")


def _add_folder(found: PhotoSources, folder: Path, target_dir: Path, made: Path) -> None:
    for path in _files_below(folder, found, made):
        shown, target = str(path), target_dir / path.relative_to(folder)
        if not shown.isprintable():
            is_utf8 = os.fsencode(shown).decode("utf-8", "surrogateescape").isprintable()
            reason = "has control characters or is not UTF-8; rename it"
            found.unusable[ascii(shown)] = (
                "its name is UTF-8, which this locale cannot read; set PYTHONUTF8=1"
                if is_utf8
                else f"its name {reason}"
            )
        elif path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            found.unusable[shown] = "a link that leads out of the folder"
        elif path.name.startswith("."):
            found.foreign.append(shown)
        elif path.suffix.lower() in EXTENSIONS or format_of(head := _head(path)):
            found.add(path, target)
        elif is_video(head):
            found.unusable[shown] = "a video, which is predicted by itself"
        else:
            found.foreign.append(shown)


def _files_below(folder: Path, found: PhotoSources, made: Path) -> Iterator[Path]:
    """Yield the files of a folder, its own first, without the folder `made`. Hidden and linked folders are foreign."""
    for parent, folders, names in os.walk(folder):
        below = [Path(parent, name) for name in sorted(folders)]
        closed = [path for path in below if path.name.startswith(".") or path.is_symlink()]
        found.foreign += [str(path) if str(path).isprintable() else ascii(str(path)) for path in closed]
        folders[:] = [path.name for path in below if path not in closed and path.resolve() != made]
        yield from (Path(parent, name) for name in sorted(names))


def _head(path: Path) -> bytes:
    """Return the first bytes of a file; none if it cannot be read, or is a pipe or a device."""
    if not path.is_file():
        return b""
    try:
        with path.open("rb") as stream:
            return stream.read(HEAD_BYTES)
    except OSError:
        return b""
