"""Source faces: the photos of faces that the photos of a built data set were made from, as its manifest.csv names them.

Two photos of one source face show the same person, whatever their folders are called.
"""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path

import pandas as pd

from core.cli import UserError
from core.files import read_csv, read_json, write_csv
from core.near_duplicates import COPY_BITS, find_near_duplicates, groups
from storage.folders import Photo, refuse_outside

MANIFEST_NAME = "manifest.csv"
JOIN_RECORD = "join.json"
MEASURES = ("yaw", "pitch", "roll", "sharpness", "face_height", "score")
"""Columns of a manifest that were measured on the source face: equal for the same file."""
COLUMNS = ("path", "source", "source_hash", "source_measures")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, order=True)
class SourceFace:
    """Photo of a face. `image_hash` is that of core.near_duplicates, empty in manifests of older versions."""

    file: str
    image_hash: str
    measures: str


def read_sources(root: Path) -> dict[str, SourceFace]:
    """Return the source face by photo path; empty without a manifest, or for a table of that name of another kind."""
    path = root / MANIFEST_NAME
    with suppress(UserError):
        refuse_outside(root, path)
        frame = read_csv(path, COLUMNS[:2])
        if "source_measures" not in frame:
            measured = frame[[name for name in MEASURES if name in frame]]
            frame["source_measures"] = [" ".join(row) for row in measured.itertuples(index=False)]
        hashes = frame.get("source_hash", pd.Series("", frame.index))
        faces = zip(frame["source"], hashes, frame["source_measures"], strict=True)
        known = [
            SourceFace(file, value if _HASH.fullmatch(value) else "", measures or file)
            for file, value, measures in faces
        ]
        return dict(zip(frame["path"], known, strict=True))
    return {}


def write_sources(root: Path, sources: Mapping[str, SourceFace]) -> None:
    """Write a manifest with the source faces alone."""
    rows = [(path, *astuple(source)) for path, source in sources.items()]
    write_csv(root / MANIFEST_NAME, pd.DataFrame(rows, columns=list(COLUMNS)))


def of_same_source(photos: Iterable[Photo], sources: Mapping[str, SourceFace]) -> list[list[Photo]]:
    """Return the groups of people that were made from one face, by a photo of each."""
    faces = sorted(set(sources.values()))
    first: dict[str, int] = {}
    pairs = [(first.setdefault(face.measures, place), place) for place, face in enumerate(faces)]
    hashed = [place for place, face in enumerate(faces) if face.image_hash]
    alike = find_near_duplicates([faces[place].image_hash for place in hashed], COPY_BITS)
    pairs += [(hashed[one], hashed[other]) for one, other in alike]
    group_of = dict(zip(faces, groups(len(faces), pairs), strict=True))
    found: dict[int, dict[str, Photo]] = {}
    for photo in photos:
        if photo.path in sources:
            found.setdefault(group_of[sources[photo.path]], {}).setdefault(photo.person, photo)
    return [list(people.values()) for people in found.values() if len(people) > 1]


def shared_faces(root: Path, photos: Iterable[Photo]) -> str:
    """Return a sentence on people of a data root who are the same, as its tables record it; empty where there is none.

    Recorded are the source faces of manifest.csv, and in join.json what a join was allowed to take twice.
    """
    shared = of_same_source(photos, read_sources(root))
    if shared:
        people = len({photo.person for group in shared for photo in group})
        split = sum(len({photo.split for photo in group}) > 1 for group in shared)
        return f"{people} people share source faces ({len(shared)}, {split} of them in train and eval at once)"
    with suppress(UserError):
        return str(read_json(root / JOIN_RECORD).get("shared", ""))
    return ""
