"""Boxes for photos in which no face was found, and the list of photos that a person should look at."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from core.boxes import Box, iou, median_box, scaled
from preprocessing.faces_table import WEAK, Outcome, rounded
from storage.layouts import Photo

CENTRE_BOX = Box(0.2, 0.2, 0.8, 0.8)
LEAST_TYPICAL = 8
"""Faces that must be known before their median is a better guess than the middle of the photo."""
LEAST_ALIKE = 3
UNLIKE_IOU = 0.3
"""A box that overlaps less than this with the median of at least LEAST_ALIKE others of its person is looked at."""


@dataclass(frozen=True)
class Guess:
    """A last rung: a box, in shares of the photo's sides, from those of the person's other photos and of all photos."""

    name: str
    why: str
    box: Callable[[Sequence[Box], Sequence[Box]], Box | None]


GUESSES: tuple[Guess, ...] = (
    Guess("person", "no face found; the median box of the person's other photos", lambda own, _: _median(own, 1)),
    Guess("typical", "no face found; the median box of all photos", lambda _, every: _median(every, LEAST_TYPICAL)),
    Guess("centre", "no face found; the middle of the photo", lambda own, every: CENTRE_BOX),
)


def _median(boxes: Sequence[Box], least: int) -> Box | None:
    return median_box(boxes) if len(boxes) >= least else None


def fill(photos: Sequence[Photo], outcomes: Mapping[str, Outcome]) -> dict[str, Outcome]:
    """The outcomes of `photos`, where a fallback without a box of its own gets the first guess that can be made."""
    own, every = _found_boxes(photos, outcomes), []
    for boxes in own.values():
        every += boxes
    return {
        photo.image_id: _guessed(outcomes[photo.image_id], own[photo.person], every)
        if is_guess(outcomes[photo.image_id])
        else outcomes[photo.image_id]
        for photo in photos
    }


def is_guess(outcome: Outcome) -> bool:
    """Whether no face was found: the box is to be guessed, or has been in an earlier run."""
    return outcome.status == "fallback" and outcome.reason in {"", *(guess.name for guess in GUESSES)}


def _found_boxes(photos: Sequence[Photo], outcomes: Mapping[str, Outcome]) -> dict[str, list[Box]]:
    """Boxes in shares of the photo's sides, by person, of the photos in which a face was found."""
    boxes = defaultdict(list)
    for photo in photos:
        outcome = outcomes[photo.image_id]
        if outcome.box and not is_guess(outcome):
            boxes[photo.person].append(outcome.relative_box)
    return boxes


def _guessed(outcome: Outcome, own: Sequence[Box], every: Sequence[Box]) -> Outcome:
    for guess in GUESSES:
        box = guess.box(own, every)
        if box is not None:
            return replace(outcome, reason=guess.name, box=rounded(scaled(box, outcome.width, outcome.height)))
    raise AssertionError("the last guess always gives a box")


def review(photos: Sequence[Photo], outcomes: Mapping[str, Outcome]) -> dict[str, str]:
    """Why a person should look at a photo, by image id; photos that need no look are left out."""
    own = _found_boxes(photos, outcomes)
    reasons = {photo.image_id: _why(outcomes[photo.image_id], own[photo.person]) for photo in photos}
    return {image_id: why for image_id, why in reasons.items() if why}


def _why(outcome: Outcome, own: Sequence[Box]) -> str:
    """Empty if the outcome needs no look. A box given by hand has had one."""
    if outcome.status == "missing":
        return f"cannot be read: {outcome.reason}"
    if is_guess(outcome):
        return next(guess.why for guess in GUESSES if guess.name == outcome.reason)
    if outcome.reason == WEAK:
        return f"low score {outcome.score:.2f}"
    if outcome.status != "manual" and _is_unlike(outcome.relative_box, own):
        return "box much unlike those of the person's other photos"
    return ""


def _is_unlike(box: Box, own: Sequence[Box]) -> bool:
    others = list(own)
    others.remove(box)
    return len(others) >= LEAST_ALIKE and iou(box, median_box(others)) < UNLIKE_IOU
