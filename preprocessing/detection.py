"""Which photos have to be searched for faces, and the search over many of them, kept safe against interruption."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from core import files
from core.cli import progress
from core.images import UnreadablePhoto, read_photo
from core.parallel import with_flushes
from preprocessing.detectors import detector_named
from preprocessing.faces_table import DECIMALS, MANUAL, WEAK, Outcome, photo_stamp, rounded, stamp_of, write_outcomes
from preprocessing.find_face import DEFAULT_THRESHOLD, find_face
from storage import crops
from storage.layouts import Dataset, Photo

Task = tuple[Photo, Path, str]
"""A photo, where it lies, and its stamp."""
Spread = Callable[[Callable[[], Callable[[Task], Outcome]], Sequence[Task]], Generator[Outcome, None, None]]
"""What spreads the search over processes or machines."""


@dataclass(frozen=True)
class Settings:
    """What a search depends on, beside the photo."""

    detector: str = "retinaface"
    threshold: float = DEFAULT_THRESHOLD

    @property
    def hash(self) -> str:
        return files.text_hash([self.detector, repr(self.threshold), crops.LANDMARKS])[:8]


def still_valid(dataset: Dataset, known: Mapping[str, Outcome], settings: Settings) -> dict[str, Outcome]:
    """The known outcomes whose photo is there and unchanged, searched with the same settings or given by hand."""
    valid = {}
    for photo in dataset.photos:
        outcome = known.get(photo.image_id)
        if outcome is None or not outcome.stamp or outcome.path != photo.path:
            continue
        stamp = photo_stamp(dataset.root / photo.path)
        if outcome.stamp in (stamp + settings.hash, stamp + MANUAL):
            valid[photo.image_id] = outcome
    return valid


def searcher(settings: Settings) -> Callable[[Task], Outcome]:
    """Load a detector and return what finds the face of one photo; runs once in each process."""
    return partial(_search, detect=detector_named(settings.detector).load(), threshold=settings.threshold)


def _search(task: Task, *, detect: Callable, threshold: float) -> Outcome:
    photo, path, stamp = task
    try:
        rgb = read_photo(path)
    except UnreadablePhoto as error:
        # A file that cannot be opened may be allowed tomorrow, with nothing changed that a stamp could show.
        kept = "" if isinstance(error.__cause__, OSError) else stamp
        return Outcome(photo.image_id, photo.path, "missing", error.reason, stamp=kept)
    height, width = rgb.shape[:2]
    found = find_face(rgb, detect, threshold)
    if found is None:
        return Outcome(photo.image_id, photo.path, "fallback", "", None, None, width, height, stamp)
    reason = found.rung.name if found.score >= threshold else WEAK
    status, reason = ("detected", "") if found.rung.plain and reason != WEAK else ("fallback", reason)
    landmarks = tuple(found.landmarks.round(DECIMALS).ravel().tolist())
    box = rounded(found.box)
    return Outcome(
        photo.image_id, photo.path, status, reason, box, found.score, width, height, stamp, landmarks=landmarks
    )


def search(
    dataset: Dataset,
    todo: Sequence[Photo],
    known: Mapping[str, Outcome],
    *,
    settings: Settings,
    spread: Spread,
    unfinished_path: Path,
) -> dict[str, Outcome]:
    """`known` and the outcomes of `todo`. What is finished is kept in `unfinished_path`, also on Ctrl-C."""
    # Here too, once: what hinders a detector is then one error, and what it downloads is there for all processes.
    detector_named(settings.detector).load()
    tasks = [(photo, path := dataset.root / photo.path, stamp_of(path, settings.hash)) for photo in todo]
    outcomes = dict(known)
    keep = partial(write_outcomes, unfinished_path, dataset.photos, outcomes)
    with closing(with_flushes(spread(partial(searcher, settings), tasks), keep)) as results:
        for outcome in progress(results, title="faces", total=len(tasks)):
            outcomes[outcome.image_id] = outcome
    return outcomes
