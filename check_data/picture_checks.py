"""Checks of the pixels: unreadable photos, sizes, and pictures that appear more than once."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from statistics import median

import numpy as np

from check_data.findings import OK, PROBLEM, WARNING, Finding, counted, severity_of
from check_data.scan import DataScan, PhotoScan
from core.images import read_photo
from core.near_duplicates import COPY_BITS, find_near_duplicates, have_same_details, image_details
from storage.label_words import LABEL_COLUMNS
from storage.layouts import Photo
from storage.sources import of_same_source, read_sources

SMALL_SIDE = 64
"""Shorter side in pixels below which a photo is reported: an age cannot be read from so few pixels."""
DETAILS_KEPT = 1000
"""Photos whose details are kept in memory, 50 kB each."""
Group = Sequence[Photo]
Scanned = tuple[Photo, PhotoScan]


def readable(data: DataScan) -> Finding:
    broken = tuple(f"{scanned.path} ({scanned.reason})" for scanned in data.photo_scans.values() if scanned.reason)
    if not broken:
        return Finding(OK, "every photo can be read")
    summary = f"{counted(len(broken), 'photo')} cannot be read: not trained on, predicted with the commonest labels"
    return Finding(severity_of(len(broken), len(data.photo_scans)), summary, broken, {"unreadable": len(broken)})


def sizes(data: DataScan) -> Finding:
    sides = Counter((scanned.width, scanned.height) for _, scanned in data.readable)
    if not sides:
        return Finding(PROBLEM, "no photo can be read")
    (width, height), count = sides.most_common(1)[0]
    small = tuple(photo.path for photo, scanned in data.readable if min(scanned.width, scanned.height) < SMALL_SIDE)
    typical = median(min(scanned.width, scanned.height) for _, scanned in data.readable)
    numbers = {"sizes": len(sides), "small": len(small), "median_shorter_side": typical}
    if small:
        summary = f"{counted(len(small), 'photo')} with a side below {SMALL_SIDE} pixels; median {typical:.0f}"
        return Finding(WARNING, summary, small, numbers)
    if len(sides) == 1:
        return Finding(OK, f"all photos are {width} x {height} pixels", (), numbers)
    summary = (
        f"{len(sides)} sizes, {count / sides.total():.0%} are {width} x {height}; shorter side: {typical:.0f} median"
    )
    return Finding(OK, summary, (), numbers)


def copies(data: DataScan) -> Finding:
    """Find files with the same bytes."""
    return _sharing(data, same_files(data.readable), "the same file")


def near_copies(data: DataScan) -> Finding:
    """Find other files of the same picture: re-encoded, resized, mirrored. Reported only between people."""
    root = data.dataset.root
    groups = same_pictures(data.readable, lambda path: read_photo(root / path))
    return _sharing(data, groups, "the same picture")


def same_files(readable: Sequence[Scanned]) -> list[Group]:
    """Return the groups of photos with the same bytes."""
    return [group for group in _by_digest(readable).values() if len(group) > 1]


def same_pictures(readable: Sequence[Scanned], read: Callable[[str], np.ndarray]) -> list[Group]:
    """Return the groups of photos of different people that show the same picture in different files.

    `read` returns the image of a photo's path; only photos whose hashes are close are read.
    """
    by_hash: dict[str, dict[str, Photo]] = {}
    for photo, scanned in readable:
        by_hash.setdefault(scanned.image_hash, {}).setdefault(scanned.digest, photo)
    alike = [list(photos.values()) for photos in by_hash.values()]
    pairs = [(alike[one], alike[other]) for one, other in find_near_duplicates(list(by_hash), COPY_BITS)]
    between = [pair for pair in pairs if len({photo.person for group in pair for photo in group}) > 1]

    details = lru_cache(maxsize=DETAILS_KEPT)(lambda path: image_details(read(path)))
    copied = [
        [*one, *other] for one, other in between if have_same_details(details(one[0].path), details(other[0].path))
    ]
    return [*(group for group in alike if len({photo.person for photo in group}) > 1), *copied]


def same_faces(data: DataScan) -> Finding:
    """Find people of a built data set, or of several joined ones, that were made from one photo of a face."""
    return _sharing(data, of_same_source(data.dataset.photos, read_sources(data.dataset.root)), "the same source face")


def contradictions(data: DataScan) -> Finding:
    """Find files with the same bytes under different labels."""
    found = []
    for group in _by_digest(data.readable).values():
        labels = {
            tuple(photo.facts.get(fact, "") for fact in LABEL_COLUMNS) for photo in group if photo.split == "train"
        }
        if any(len(set(known) - {""}) > 1 for known in zip(*labels, strict=True)):
            found.append(f"{_names(group)}: {' or '.join(sorted(' '.join(facts) for facts in labels))}")
    if not found:
        return Finding(OK, "no picture is in the training part under two labels")
    summary = f"{counted(len(found), 'picture')} in the training part under two labels"
    return Finding(severity_of(len(found), len(data.train)), summary, tuple(found), {"pictures": len(found)})


def _by_digest(readable: Sequence[Scanned]) -> dict[str, list[Photo]]:
    groups: dict[str, list[Photo]] = {}
    for photo, scanned in readable:
        groups.setdefault(scanned.digest, []).append(photo)
    return groups


def _sharing(data: DataScan, groups: Sequence[Group], what: str) -> Finding:
    """Report pictures in the train and the eval split at once, shared by people, or repeated."""
    leaked = {photo.image_id for group in groups if _has(group, "train") for photo in _of(group, "eval")}
    mixed = [group for group in groups if len({photo.person for photo in _of(group, "train")}) > 1]
    people = {photo.person for group in mixed for photo in _of(group, "train")}
    twice = {photo.image_id for group in groups if len(_of(group, "eval")) > 1 for photo in _of(group, "eval")}
    inside = [group for group in groups if len({photo.person for photo in group}) == 1]
    numbers = {"eval_in_train": len(leaked), "people": len(people), "eval_twice": len(twice), "inside": len(inside)}
    parts = [
        (leaked, f"{counted(len(leaked), 'eval photo')} also in the training part (false scores)"),
        (people, f"{len(people)} people share photos (false out-of-fold scores)"),
        (twice, f"{counted(len(twice), 'eval photo')} more than once"),
        (inside, f"{counted(len(inside), 'picture')} more than once with one person"),
    ]
    summary = "; ".join(text for things, text in parts if things)
    if not summary:
        return Finding(OK, f"no two people have {what}", (), numbers)
    severities = severity_of(len(leaked), len(data.eval)), severity_of(len(people), len(data.facts_of))
    details = tuple(dict.fromkeys(map(_names, groups)))
    return Finding(PROBLEM if PROBLEM in severities else WARNING, f"{what}: {summary}", details, numbers)


def _of(group: Group, split: str) -> list[Photo]:
    return [photo for photo in group if photo.split == split]


def _has(group: Group, split: str) -> bool:
    return bool(_of(group, split))


def _names(group: Iterable[Photo]) -> str:
    return " = ".join(photo.path for photo in group)
