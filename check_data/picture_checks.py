"""What the pixels say: unreadable photos, sizes, and pictures that stand in two places."""

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median

from check_data.findings import OK, PROBLEM, WARNING, Finding, by_share, counted
from check_data.scan import Survey
from core.near_duplicates import find_near_duplicates
from storage.crops import LABEL_COLUMNS
from storage.layouts import Photo

COPY_BITS = 32
"""Of 256. A photo re-encoded, resized or made brighter differs in up to 23 bits, cut by 1% at the edges in up to 28; in
19,500 photos of 5,000 people no two of different people came as near."""
SMALL_SIDE = 64
"""A face in a smaller photo has too few pixels to tell an age by."""
Group = Sequence[Photo]


def readable(survey: Survey) -> Finding:
    broken = tuple(f"{look.path} ({look.reason})" for look in survey.looks.values() if look.reason)
    if not broken:
        return Finding(OK, "every photo can be read")
    summary = f"{counted(len(broken), 'photo')} cannot be read: not trained on, answered with the commonest labels"
    return Finding(by_share(len(broken), len(survey.looks)), summary, broken, {"unreadable": len(broken)})


def sizes(survey: Survey) -> Finding:
    sides = Counter((look.width, look.height) for _, look in survey.readable)
    if not sides:
        return Finding(PROBLEM, "no photo can be read")
    (width, height), count = sides.most_common(1)[0]
    small = tuple(photo.path for photo, look in survey.readable if min(look.width, look.height) < SMALL_SIDE)
    typical = median(min(look.width, look.height) for _, look in survey.readable)
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


def copies(survey: Survey) -> Finding:
    """Files with the same bytes."""
    return _sharing(survey, [group for group in _by_digest(survey).values() if len(group) > 1], "the same file")


def near_copies(survey: Survey) -> Finding:
    """Pictures that look the same but are other files: re-encoded, resized, mirrored. Those of one person may."""
    by_looks: dict[str, dict[str, Photo]] = {}
    for photo, look in survey.readable:
        by_looks.setdefault(look.looks, {}).setdefault(look.digest, photo)
    alike = [list(photos.values()) for photos in by_looks.values()]
    pairs = [[*alike[one], *alike[other]] for one, other in find_near_duplicates(list(by_looks), COPY_BITS)]
    groups = [group for group in (*alike, *pairs) if len({photo.person for photo in group}) > 1]
    return _sharing(survey, groups, "the same picture")


def contradictions(survey: Survey) -> Finding:
    """The same bytes cannot be right under two labels."""
    found = []
    for group in _by_digest(survey).values():
        told = {tuple(photo.facts.get(fact, "") for fact in LABEL_COLUMNS) for photo in group if photo.split == "train"}
        if len(told) > 1:
            found.append(f"{_names(group)}: {' or '.join(sorted(' '.join(facts) for facts in told))}")
    if not found:
        return Finding(OK, "no picture is in the training part under two labels")
    summary = f"{counted(len(found), 'picture')} in the training part under two labels"
    return Finding(by_share(len(found), len(survey.train)), summary, tuple(found), {"pictures": len(found)})


def _by_digest(survey: Survey) -> dict[str, list[Photo]]:
    groups: dict[str, list[Photo]] = {}
    for photo, look in survey.readable:
        groups.setdefault(look.digest, []).append(photo)
    return groups


def _sharing(survey: Survey, groups: Sequence[Group], what: str) -> Finding:
    """Who has a picture of somebody else: eval photos that are trained on, people who may be in two folds at once."""
    leaked = {photo.image_id for group in groups if _has(group, "train") for photo in _of(group, "eval")}
    mixed = [group for group in groups if len({photo.person for photo in _of(group, "train")}) > 1]
    people = {photo.person for group in mixed for photo in _of(group, "train")}
    twice = {photo.image_id for group in groups if len(_of(group, "eval")) > 1 for photo in _of(group, "eval")}
    inside = [group for group in groups if len({photo.person for photo in group}) == 1]
    numbers = {"eval_in_train": len(leaked), "people": len(people), "eval_twice": len(twice), "inside": len(inside)}
    said = [
        (leaked, f"{counted(len(leaked), 'eval photo')} also in the training part (false scores)"),
        (people, f"{len(people)} people share photos (false out-of-fold scores)"),
        (twice, f"{counted(len(twice), 'eval photo')} more than once"),
        (inside, f"{counted(len(inside), 'picture')} more than once with one person"),
    ]
    summary = "; ".join(text for things, text in said if things)
    if not summary:
        return Finding(OK, f"nobody has {what} as somebody else", (), numbers)
    grave = by_share(len(leaked), len(survey.eval)), by_share(len(people), len(survey.facts_of))
    details = tuple(dict.fromkeys(map(_names, groups)))
    return Finding(PROBLEM if PROBLEM in grave else WARNING, f"{what}: {summary}", details, numbers)


def _of(group: Group, split: str) -> list[Photo]:
    return [photo for photo in group if photo.split == split]


def _has(group: Group, split: str) -> bool:
    return bool(_of(group, split))


def _names(group: Iterable[Photo]) -> str:
    return " = ".join(photo.path for photo in group)
