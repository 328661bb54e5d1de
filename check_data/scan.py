"""Read every photo of a data set once, over processes."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from core.cli import progress
from core.files import file_sha256
from core.images import UnreadablePhoto, read_photo
from core.near_duplicates import image_hash
from core.parallel import run_parallel
from core.tasks import AgeEdges
from storage.layouts import Dataset, Photo


@dataclass(frozen=True)
class PhotoScan:
    """Upright size of one photo, hashes of its bytes and of its image; `reason` is set if it cannot be read."""

    path: str
    width: int = 0
    height: int = 0
    digest: str = ""
    image_hash: str = ""
    reason: str = ""


@dataclass(frozen=True)
class DataScan:
    """Input of all checks: a data set, its scanned photos by path, and the settings of the planned run.

    `faults` are messages about names and rows that do not fit the layout.
    """

    dataset: Dataset
    faults: tuple[str, ...]
    photo_scans: Mapping[str, PhotoScan]
    age_edges: AgeEdges
    folds: int
    crop_dir: Path
    layout_is_forced: bool = False

    @cached_property
    def train(self) -> list[Photo]:
        return self.dataset.of_split("train")

    @cached_property
    def eval(self) -> list[Photo]:
        return self.dataset.of_split("eval")

    @cached_property
    def facts_of(self) -> dict[str, dict[str, str]]:
        """Facts of every training person, taken from the last of the person's photos that has each."""
        facts: dict[str, dict[str, str]] = {}
        for photo in self.train:
            facts.setdefault(photo.person, {}).update({name: fact for name, fact in photo.facts.items() if fact})
        return facts

    @cached_property
    def readable(self) -> list[tuple[Photo, PhotoScan]]:
        scans = ((photo, self.photo_scans[photo.path]) for photo in self.dataset.photos)
        return [(photo, scanned) for photo, scanned in scans if not scanned.reason]


def scan_photos(root: Path, photos: Sequence[Photo], workers: int) -> dict[str, PhotoScan]:
    """Read all photos; return their scans by path relative to the root."""
    paths = [photo.path for photo in photos]
    with closing(run_parallel(partial(_scanner, root), paths, workers)) as scans:
        return {scanned.path: scanned for scanned in progress(scans, title="photos", total=len(paths))}


def _scanner(root: Path) -> Callable[[str], PhotoScan]:
    return partial(_scan_photo, root)


def _scan_photo(root: Path, path: str) -> PhotoScan:
    try:
        image = read_photo(root / path)
    except UnreadablePhoto as error:
        return PhotoScan(path, reason=error.reason)
    height, width = image.shape[:2]
    return PhotoScan(path, width, height, file_sha256(root / path), image_hash(image))
