"""Checks of what only the layout `table` leaves open: who a photo shows, and facts that contradict one another."""

from collections import Counter

from check_data.findings import OK, WARNING, Finding, counted
from check_data.scan import DataScan
from core.near_duplicates import SAME_BITS, find_near_duplicates
from core.tasks import known_values, task_named

YEARS_APART = 10
"""Difference between two ages of one person above which one of them is reported."""


def people(data: DataScan) -> Finding:
    """Report the photos of a person, and photos that are each a person of their own although some look alike."""
    counts = Counter(photo.person for photo in data.train)
    alone = {photo.path for photo in data.train if photo.person == photo.image_id}
    numbers = {"photos": {str(photos): people for photos, people in sorted(Counter(counts.values()).items())}}
    most = counted(max(counts.values(), default=0), "photo")
    summary = f"{counted(len(counts), 'person', 'people')} with up to {most}"
    if not alone:
        return Finding(OK, summary, (), numbers)
    hashed = [(photo.path, scanned.image_hash) for photo, scanned in data.readable if photo.path in alone]
    pairs = find_near_duplicates([image_hash for _, image_hash in hashed], SAME_BITS)
    alike = {place for pair in pairs for place in pair}
    summary = f"{counted(len(alone), 'photo')} without a person, each taken for one"
    if not alike:
        return Finding(OK, summary, (), numbers)
    details = tuple(f"{hashed[one][0]} = {hashed[other][0]}" for one, other in pairs)
    advice = f"{len(alike)} look like another; photos of one person need one name in the column person"
    return Finding(WARNING, f"{summary}; {advice}", details, numbers | {"alike": len(alike)})


def ages_of_a_person(data: DataScan) -> Finding:
    found: dict[str, list[float]] = {}
    known = known_values(task_named("age"), [photo.facts for photo in data.train])
    for row, years in known.items():
        found.setdefault(data.train[row].person, []).append(years)
    apart = {person: years for person, years in found.items() if max(years) - min(years) > YEARS_APART}
    if not apart:
        return Finding(OK, f"no person has ages more than {YEARS_APART} years apart")
    details = tuple(f"{person}: {min(years):g} and {max(years):g} years" for person, years in apart.items())
    noun = counted(len(apart), "person", "people")
    return Finding(WARNING, f"{noun} with ages more than {YEARS_APART} years apart", details)
