"""What the doctor knows of a data set: every photo looked at once, over processes."""

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
class Look:
    """What a photo's pixels say: its upright size, hashes of its bytes and of its picture; or why it is unreadable."""

    path: str
    width: int = 0
    height: int = 0
    digest: str = ""
    looks: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Survey:
    """A data set and what a run over it would be asked for. `faults` are names and rows that do not fit the layout."""

    dataset: Dataset
    faults: tuple[str, ...]
    looks: Mapping[str, Look]
    age_edges: AgeEdges
    folds: int
    folder: Path
    """Where crops and runs go."""

    @cached_property
    def train(self) -> list[Photo]:
        return self.dataset.of_split("train")

    @cached_property
    def eval(self) -> list[Photo]:
        return self.dataset.of_split("eval")

    @cached_property
    def facts_of(self) -> dict[str, dict[str, str]]:
        """Facts of every training person, from any of the photos."""
        return {photo.person: photo.facts for photo in self.train}

    @cached_property
    def readable(self) -> list[tuple[Photo, Look]]:
        looks = ((photo, self.looks[photo.path]) for photo in self.dataset.photos)
        return [(photo, look) for photo, look in looks if not look.reason]


def look_at_all(root: Path, photos: Sequence[Photo], workers: int) -> dict[str, Look]:
    """Looks by path, relative to the root."""
    paths = [photo.path for photo in photos]
    with closing(run_parallel(partial(_looker, root), paths, workers)) as looks:
        return {look.path: look for look in progress(looks, title="photos", total=len(paths))}


def _looker(root: Path) -> Callable[[str], Look]:
    return partial(_look, root)


def _look(root: Path, path: str) -> Look:
    try:
        photo = read_photo(root / path)
    except UnreadablePhoto as error:
        return Look(path, reason=error.reason)
    height, width = photo.shape[:2]
    return Look(path, width, height, file_sha256(root / path), image_hash(photo))
