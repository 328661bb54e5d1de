"""Which of the measured faces become people of the data set: usable, each picture once, spread over the groups.

Every face comes out either in the choice or among the rejected with its reason; nothing is left out in silence.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from core.cli import UserError
from core.near_duplicates import find_near_duplicates, groups
from core.tasks import AgeEdges, age_group
from synthesis.builder.labels import Label
from synthesis.builder.measure import Measured
from synthesis.layout import GENDERS

TURN_LIMITS = {"yaw": 25.0, "pitch": 30.0, "roll": 25.0}
"""Degrees up to which a head counts as looking at the camera. Pitch is the least sure of the three."""
RELAXED = (1.0, 1.25, 1.5, 1.8)
"""Factors on the limits that a scarce group is allowed, one after the other."""
AGE_NAMES = ("young", "middle", "old")

Group = tuple[int, str, str]
"""Age group, gender, race."""


@dataclass(frozen=True)
class Limits:
    """What a face must have. `face_height` in pixels, `sharpness` as measured, `confidence` of its label."""

    face_height: float = 80.0
    sharpness: float = 0.1
    confidence: float = 0.0


@dataclass(frozen=True)
class Ask:
    """What is asked for. `age_shares` and `gender_shares` need not add up to 1; equal ones by default."""

    train_people: int
    eval_people: int
    age_edges: AgeEdges
    age_shares: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gender_shares: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True)
class Candidate:
    """A face that can be used, with its label."""

    face: Measured
    label: Label

    @property
    def turn(self) -> float:
        """How far the head is turned, as a share of the limits: 1 is at the limit."""
        return max(abs(getattr(self.face, axis)) / limit for axis, limit in TURN_LIMITS.items())


@dataclass(frozen=True)
class Rejected:
    file: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Chosen:
    """A person of the data set; `turn_limit` is the factor on TURN_LIMITS that the person's group was allowed."""

    candidate: Candidate
    turn_limit: float


@dataclass
class Choice:
    """Who was chosen, who was not and why, and the groups for which the pose limit was relaxed."""

    train: list[Chosen] = field(default_factory=list)
    evaluation: list[Chosen] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    relaxed: dict[Group, float] = field(default_factory=dict)


def sift(
    faces: Sequence[Measured], labels: Mapping[str, Label] | None, limits: Limits
) -> tuple[list[Candidate], list[Rejected]]:
    """Faces that can be used, and the others. `labels` by file; None: the label that was guessed while measuring."""
    usable, rejected = [], []
    for face in faces:
        label = face.label if labels is None else labels.get(face.file)
        fault = _fault(face, label, limits)
        if fault:
            rejected.append(Rejected(face.file, *fault))
        else:
            usable.append(Candidate(face, label))
    return usable, rejected


def _fault(face: Measured, label: Label | None, limits: Limits) -> tuple[str, str] | None:
    if face.reason:
        return face.reason, face.detail
    if face.face_height < limits.face_height:
        return "too small", f"face of {face.face_height:.0f} pixels, at least {limits.face_height:g}"
    if face.sharpness < limits.sharpness:
        return "blurred", f"sharpness {face.sharpness:g}, at least {limits.sharpness:g}"
    if label is None:
        return "no label", "the labels table has no such file"
    if label.confidence < limits.confidence:
        return "unsure label", f"confidence {label.confidence:g}, at least {limits.confidence:g}"
    return None


def without_copies(candidates: Sequence[Candidate]) -> tuple[list[Candidate], list[Rejected]]:
    """One of every picture, the one with the largest and sharpest face, so that no picture can be on both sides."""
    ranked = sorted(candidates, key=lambda one: (-one.face.face_height, -one.face.sharpness, one.face.file))
    first = groups(len(ranked), find_near_duplicates([one.face.looks for one in ranked]))
    kept = [one for place, one in enumerate(ranked) if first[place] == place]
    rejected = [_copy_of(ranked[first[place]], one) for place, one in enumerate(ranked) if first[place] != place]
    return sorted(kept, key=lambda one: one.face.file), rejected


def _copy_of(kept: Candidate, other: Candidate) -> Rejected:
    same_bytes = kept.face.digest == other.face.digest
    return Rejected(other.face.file, "copy" if same_bytes else "same picture", f"as {kept.face.file}")


def choose(candidates: Sequence[Candidate], ask: Ask, rng: np.random.Generator) -> Choice:
    """Spread the people asked for over age, gender and race. With too few faces, as many as there are, in proportion.

    The age x gender cells get the shares asked for, as far as the faces reach; within a cell the races get the same
    number each. Both sides of the data set have every group in the same proportion.
    """
    by_group = _grouped(candidates, ask.age_edges, rng)
    choice, picked = Choice(), []
    for group, want in _wants(by_group, ask).items():
        members = by_group[group]
        limit = next((factor for factor in RELAXED if _within(members, factor) >= want), RELAXED[-1])
        if limit > RELAXED[0]:
            choice.relaxed[group] = limit
        allowed = [one for one in members if one.turn <= limit]
        picked.append([Chosen(one, limit) for one in allowed[:want]])
        choice.rejected += [_spare(one) for one in allowed[want:]]
        choice.rejected += [_turned_away(one, limit) for one in members if one.turn > limit]
    _split(choice, picked, ask)
    return choice


def _grouped(
    candidates: Sequence[Candidate], edges: AgeEdges, rng: np.random.Generator
) -> dict[Group, list[Candidate]]:
    """Candidates by group, in random order within; the order of `candidates` does not matter."""
    by_group: dict[Group, list[Candidate]] = defaultdict(list)
    ordered = sorted(candidates, key=lambda one: one.face.file)
    for place in rng.permutation(len(ordered)):
        label = ordered[place].label
        by_group[age_group(label.age, edges), label.gender, label.race].append(ordered[place])
    return dict(sorted(by_group.items()))


def _within(members: Sequence[Candidate], factor: float) -> int:
    return sum(one.turn <= factor for one in members)


def _spare(one: Candidate) -> Rejected:
    return Rejected(one.face.file, "spare", "more of its group than asked for")


def _turned_away(one: Candidate, limit: float) -> Rejected:
    face = one.face
    pose = f"yaw {face.yaw:g}, pitch {face.pitch:g}, roll {face.roll:g}"
    return Rejected(face.file, "turned away", f"{pose} degrees, beyond {limit:g} x the limits")


def _wants(by_group: Mapping[Group, Sequence[Candidate]], ask: Ask) -> dict[Group, int]:
    """How many people each group gives."""
    supply = {group: _within(members, RELAXED[-1]) for group, members in by_group.items()}
    cells = [(age, gender) for age in range(len(AGE_NAMES)) for gender in GENDERS]
    shares = [ask.age_shares[age] * ask.gender_shares[GENDERS.index(gender)] for age, gender in cells]
    in_cell = [sum(count for group, count in supply.items() if group[:2] == cell) for cell in cells]
    wants = {}
    for cell, want in zip(cells, fill(ask.train_people + ask.eval_people, shares, in_cell), strict=True):
        members = [group for group in supply if group[:2] == cell]
        wants |= zip(members, fill(want, [1.0] * len(members), [supply[group] for group in members]), strict=True)
    return wants


def fill(total: int, shares: Sequence[float], supply: Sequence[int]) -> list[int]:
    """Spread `total` in proportion to `shares`, none above its `supply`; what one lacks, the others give.

    The sum is `total`, or all that those with a share above 0 have.
    """
    given = [0] * len(shares)
    for _ in range(min(total, sum(have for share, have in zip(shares, supply, strict=True) if share > 0))):
        # One at a time to the one furthest behind its share (Webster's rule, capped).
        open_ones = [place for place, share in enumerate(shares) if share > 0 and given[place] < supply[place]]
        furthest = min(open_ones, key=lambda place: ((given[place] + 0.5) / shares[place], place))
        given[furthest] += 1
    return given


def _split(choice: Choice, picked: Sequence[Sequence[Chosen]], ask: Ask) -> None:
    """Deal the people of every group to train and eval, in the proportion asked for."""
    count = sum(len(group) for group in picked)
    asked = ask.train_people + ask.eval_people
    for_train = min(ask.train_people, max(1, round(count * ask.train_people / asked)), max(count - 1, 0))
    in_train = fill(for_train, [len(group) or 0.0 for group in picked], [len(group) for group in picked])
    for group, train_count in zip(picked, in_train, strict=True):
        choice.train += group[:train_count]
        choice.evaluation += group[train_count:]


def check_shares(flag: str, shares: Sequence[float]) -> None:
    """UserError for shares that are negative or all zero."""
    if min(shares) < 0 or sum(shares) <= 0:
        raise UserError(f"{flag} {' '.join(f'{share:g}' for share in shares)}: allowed are numbers from 0, one above 0")
