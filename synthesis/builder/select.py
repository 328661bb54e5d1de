"""Select the people of the data set from the measured faces: usable, each image once, balanced over groups.

Every face is either selected or rejected with a reason.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from core.cli import UserError
from core.near_duplicates import find_near_duplicates, groups
from core.tasks import AgeEdges, age_group
from synthesis.builder.labels import Label
from synthesis.builder.measure import MeasuredFace
from synthesis.layout import GENDERS

TURN_LIMITS = {"yaw": 25.0, "pitch": 30.0, "roll": 25.0}
"""Largest angles in degrees of a frontal head. Pitch is measured least precisely."""
RELAXED = (1.0, 1.25, 1.5, 1.8)
"""Factors on the limits, tried in order for a group with too few faces."""
AGE_NAMES = ("young", "middle", "old")
NO_FAULTS: Mapping[str, str] = MappingProxyType({})

Group = tuple[int, str, str]
"""Age group, gender, race."""


@dataclass(frozen=True)
class Limits:
    """Smallest allowed values of a face: `face_height` in pixels, `sharpness`, and `confidence` of its label."""

    face_height: float = 80.0
    sharpness: float = 0.1
    confidence: float = 0.0


@dataclass(frozen=True)
class Request:
    """Requested numbers of people. `age_shares` and `gender_shares` are relative and need not add up to 1."""

    train_people: int
    eval_people: int
    age_edges: AgeEdges
    age_shares: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gender_shares: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True)
class Candidate:
    """Usable face with its label."""

    face: MeasuredFace
    label: Label

    @property
    def turn(self) -> float:
        """Largest angle of the head relative to its limit; 1 is at the limit."""
        return max(abs(getattr(self.face, axis)) / limit for axis, limit in TURN_LIMITS.items())


@dataclass(frozen=True)
class Rejected:
    """Photo that is not used, with the reason."""

    file: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class SelectedPerson:
    """Person of the data set. `turn_limit` is the factor on TURN_LIMITS allowed for the person's group."""

    candidate: Candidate
    turn_limit: float


@dataclass
class SelectedPeople:
    """SelectedPerson people of both splits, rejected photos, and the groups with relaxed pose limits."""

    train: list[SelectedPerson] = field(default_factory=list)
    evaluation: list[SelectedPerson] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    relaxed: dict[Group, float] = field(default_factory=dict)


def split_usable(
    faces: Sequence[MeasuredFace],
    labels: Mapping[str, Label] | None,
    limits: Limits,
    faults: Mapping[str, str] = NO_FAULTS,
) -> tuple[list[Candidate], list[Rejected]]:
    """Split faces into usable and rejected ones.

    `labels` by file; None takes the label predicted while measuring. `faults` are messages about label rows by file.
    """
    usable, rejected = [], []
    for face in faces:
        label = face.label if labels is None else labels.get(face.file)
        fault = _fault(face, label, limits, faults)
        if fault:
            rejected.append(Rejected(face.file, *fault))
        else:
            usable.append(Candidate(face, label))
    return usable, rejected


def _fault(
    face: MeasuredFace, label: Label | None, limits: Limits, faults: Mapping[str, str]
) -> tuple[str, str] | None:
    """Return reason and detail for a face that cannot be used, None for a usable one."""
    if face.reason:
        return face.reason, face.detail
    if face.face_height < limits.face_height:
        return "too small", f"face of {face.face_height:.0f} pixels, at least {limits.face_height:g}"
    if face.sharpness < limits.sharpness:
        return "blurred", f"sharpness {face.sharpness:g}, at least {limits.sharpness:g}"
    if face.file in faults:
        return "bad label", faults[face.file]
    if label is None:
        return "no label", "the labels table has no such file"
    if label.confidence < limits.confidence:
        return "unsure label", f"confidence {label.confidence:g}, at least {limits.confidence:g}"
    return None


def remove_copies(candidates: Sequence[Candidate]) -> tuple[list[Candidate], list[Rejected]]:
    """Keep one photo of each image, the one with the largest and sharpest face; reject the copies."""
    ranked = sorted(candidates, key=lambda one: (-one.face.face_height, -one.face.sharpness, one.face.file))
    first = groups(len(ranked), find_near_duplicates([one.face.image_hash for one in ranked]))
    kept = [one for place, one in enumerate(ranked) if first[place] == place]
    rejected = [_copy_of(ranked[first[place]], one) for place, one in enumerate(ranked) if first[place] != place]
    return sorted(kept, key=lambda one: one.face.file), rejected


def _copy_of(kept: Candidate, other: Candidate) -> Rejected:
    same_bytes = kept.face.digest == other.face.digest
    return Rejected(other.face.file, "copy" if same_bytes else "same picture", f"as {kept.face.file}")


def select(candidates: Sequence[Candidate], request: Request, rng: np.random.Generator) -> SelectedPeople:
    """Select the requested people, balanced over age, gender and race; with too few faces, proportionally fewer.

    The age x gender cells get the requested proportions as far as the faces allow; within a cell all races get equal
    numbers. Both splits have every group in the same proportion.
    """
    by_group = _grouped(candidates, request.age_edges, rng)
    selection, picked = SelectedPeople(), []
    for group, want in _group_sizes(by_group, request).items():
        members = by_group[group]
        limit = next((factor for factor in RELAXED if _within(members, factor) >= want), RELAXED[-1])
        if limit > RELAXED[0]:
            selection.relaxed[group] = limit
        allowed = [one for one in members if one.turn <= limit]
        picked.append([SelectedPerson(one, limit) for one in allowed[:want]])
        selection.rejected += [
            Rejected(one.face.file, "spare", "more of its group than asked for") for one in allowed[want:]
        ]
        selection.rejected += [_turned_away(one, limit) for one in members if one.turn > limit]
    _split(selection, picked, request)
    return selection


def _grouped(
    candidates: Sequence[Candidate], edges: AgeEdges, rng: np.random.Generator
) -> dict[Group, list[Candidate]]:
    """Group the candidates, in random order within each group, whatever the order of `candidates`."""
    by_group: dict[Group, list[Candidate]] = defaultdict(list)
    ordered = sorted(candidates, key=lambda one: one.face.file)
    for place in rng.permutation(len(ordered)):
        label = ordered[place].label
        by_group[age_group(label.age, edges), label.gender, label.race].append(ordered[place])
    return dict(sorted(by_group.items()))


def _within(members: Sequence[Candidate], factor: float) -> int:
    return sum(one.turn <= factor for one in members)


def _turned_away(one: Candidate, limit: float) -> Rejected:
    face = one.face
    pose = f"yaw {face.yaw:g}, pitch {face.pitch:g}, roll {face.roll:g}"
    return Rejected(face.file, "turned away", f"{pose} degrees, beyond {limit:g} x the limits")


def _group_sizes(by_group: Mapping[Group, Sequence[Candidate]], request: Request) -> dict[Group, int]:
    """Return the number of people to take from each group."""
    supply = {group: _within(members, RELAXED[-1]) for group, members in by_group.items()}
    cells = [(age, gender) for age in range(len(AGE_NAMES)) for gender in GENDERS]
    shares = [request.age_shares[age] * request.gender_shares[GENDERS.index(gender)] for age, gender in cells]
    in_cell = [sum(count for group, count in supply.items() if group[:2] == cell) for cell in cells]
    sizes = {}
    for cell, want in zip(cells, apportion(request.train_people + request.eval_people, shares, in_cell), strict=True):
        members = [group for group in supply if group[:2] == cell]
        sizes |= zip(members, apportion(want, [1.0] * len(members), [supply[group] for group in members]), strict=True)
    return sizes


def apportion(total: int, shares: Sequence[float], supply: Sequence[int]) -> list[int]:
    """Distribute `total` in proportion to `shares`, none above its `supply` (Webster's method with caps).

    The sum is `total`, or the whole supply of those with a share above 0 if that is less.
    """
    given = [0] * len(shares)
    for _ in range(min(total, sum(have for share, have in zip(shares, supply, strict=True) if share > 0))):
        # One at a time to the one furthest behind its share.
        open_ones = [place for place, share in enumerate(shares) if share > 0 and given[place] < supply[place]]
        furthest = min(open_ones, key=lambda place: ((given[place] + 0.5) / shares[place], place))
        given[furthest] += 1
    return given


def _split(selection: SelectedPeople, picked: Sequence[Sequence[SelectedPerson]], request: Request) -> None:
    """Divide the people of every group between train and eval in the requested proportion."""
    count = sum(len(group) for group in picked)
    asked = request.train_people + request.eval_people
    most = count - 1 if request.eval_people else count
    for_train = min(request.train_people, max(1, round(count * request.train_people / asked)), max(most, 0))
    in_train = apportion(for_train, [len(group) or 0.0 for group in picked], [len(group) for group in picked])
    for group, train_count in zip(picked, in_train, strict=True):
        selection.train += group[:train_count]
        selection.evaluation += group[train_count:]


def check_shares(flag: str, shares: Sequence[float]) -> None:
    """Raise UserError for shares that are negative or all zero."""
    if min(shares) < 0 or sum(shares) <= 0:
        raise UserError(f"{flag} {' '.join(f'{share:g}' for share in shares)}: allowed are numbers from 0, one above 0")
