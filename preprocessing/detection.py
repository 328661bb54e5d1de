"""Search many photos for their main face, and tell which photos have to be searched."""

from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from core import files
from core.cli import cpu_count, progress
from core.images import UnreadablePhoto, read_photo
from core.parallel import with_flushes
from preprocessing.detectors import detector_named
from preprocessing.faces_table import (
    DECIMALS,
    MANUAL,
    WEAK,
    Outcome,
    photo_stamp,
    rounded,
    stamp_of,
    with_content,
    without_content,
    write_outcomes,
)
from preprocessing.find_face import DEFAULT_THRESHOLD, find_face
from storage import crops
from storage.layouts import Dataset, Photo


@dataclass(frozen=True)
class DetectionSettings:
    """Settings that a detection depends on, beside the photo."""

    detector: str = "retinaface"
    threshold: float = DEFAULT_THRESHOLD

    @property
    def hash(self) -> str:
        return files.text_hash([self.detector, repr(self.threshold), crops.LANDMARKS])[:8]


@dataclass(frozen=True)
class PhotoJob:
    """One photo to search: its entry, its file and its stamp."""

    photo: Photo
    path: Path
    stamp: str


RunJobs = Callable[[Callable[[], Callable[[PhotoJob], Outcome]], Sequence[PhotoJob]], Generator[Outcome, None, None]]
"""Runs jobs over processes or machines: takes the loader of a worker's function and the jobs, yields the outcomes."""


@dataclass(frozen=True)
class SearchOptions:
    """Options of a search: the settings, the function that runs the jobs, the table of finished outcomes."""

    settings: DetectionSettings
    run: RunJobs
    unfinished_path: Path


def still_valid(dataset: Dataset, known: Mapping[str, Outcome], settings: DetectionSettings) -> dict[str, Outcome]:
    """Return the known outcomes of unchanged photos, searched with the same settings or given by hand."""
    valid = {}
    for photo in dataset.photos:
        outcome = known.get(photo.image_id)
        if outcome is None or not outcome.stamp or outcome.path != photo.path:
            continue
        stamp = photo_stamp(dataset.root / photo.path)
        if without_content(outcome.stamp) in (stamp + settings.hash, stamp + MANUAL):
            valid[photo.image_id] = outcome
    return valid


def verified(root: Path, known: Mapping[str, Outcome]) -> dict[str, Outcome]:
    """Return the outcomes of photos with the content they were searched with; note it where it was not known."""
    with ThreadPoolExecutor(cpu_count()) as threads:
        stamps = list(threads.map(lambda outcome: with_content(outcome.stamp, root / outcome.path), known.values()))
    return {
        name: replace(outcome, stamp=stamp)
        for (name, outcome), stamp in zip(known.items(), stamps, strict=True)
        if outcome.stamp in (stamp, without_content(stamp))
    }


def searcher(settings: DetectionSettings) -> Callable[[PhotoJob], Outcome]:
    """Load a detector and return the function that searches one photo. Runs once in each process."""
    return partial(_search, detect=detector_named(settings.detector).load(), threshold=settings.threshold)


def _search(job: PhotoJob, *, detect: Callable, threshold: float) -> Outcome:
    image_id, path = job.photo.image_id, job.photo.path
    try:
        rgb = read_photo(job.path)
    except UnreadablePhoto as error:
        # A file that cannot be opened may be allowed tomorrow, with nothing changed that a stamp could show.
        kept = "" if isinstance(error.__cause__, OSError) else job.stamp
        return Outcome(image_id, path, "missing", error.reason, stamp=kept)
    stamp = with_content(job.stamp, job.path)
    height, width = rgb.shape[:2]
    found = find_face(rgb, detect, threshold)
    if found is None:
        return Outcome(image_id, path, "fallback", "", None, None, width, height, stamp)
    reason = found.attempt.name if found.score >= threshold else WEAK
    status, reason = ("detected", "") if found.attempt.plain and reason != WEAK else ("fallback", reason)
    landmarks = tuple(found.landmarks.round(DECIMALS).ravel().tolist())
    return Outcome(
        image_id, path, status, reason, rounded(found.box), found.score, width, height, stamp, landmarks=landmarks
    )


def search(
    dataset: Dataset, todo: Sequence[Photo], known: Mapping[str, Outcome], options: SearchOptions
) -> dict[str, Outcome]:
    """Return `known` with the outcomes of `todo`. Finished ones are written to a table, also on Ctrl-C."""
    settings = options.settings
    # Once here too: a detector that cannot be loaded is one error, and its download is there for all processes.
    detector_named(settings.detector).load()
    jobs = [PhotoJob(photo, path := dataset.root / photo.path, stamp_of(path, settings.hash)) for photo in todo]
    outcomes = dict(known)
    keep = partial(write_outcomes, options.unfinished_path, dataset.photos, outcomes)
    with closing(with_flushes(options.run(partial(searcher, settings), jobs), keep)) as results:
        for outcome in progress(results, title="faces", total=len(jobs)):
            outcomes[outcome.image_id] = outcome
    return outcomes
