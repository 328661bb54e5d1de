"""Folds: whole persons, stratified over gender x age group, written once and checked at every use.

People whose gender or age is not known are stratified by what is: that of the two, and the labels of the other tasks.
"""

from collections.abc import Mapping, Sequence
from itertools import islice, permutations
from pathlib import Path

import numpy as np
import pandas as pd

from core import files
from core.cli import UserError, name_some
from core.tasks import TASKS, UNKNOWN, AgeEdges
from storage.crops import Crops
from storage.run_dir import read_run, run_path

STRATA_TASKS = ("gender", "age")
MOST_ORDERS = 720
"""Orders of the strata that are tried: all of the six of gender x age group."""


def folds_path(run_dir: Path) -> Path:
    return run_dir / "folds.csv"


def write_folds(run_dir: Path, assignment: Mapping[str, int]) -> None:
    """Write folds.csv at first use."""
    path = folds_path(run_dir)
    if not path.exists():
        files.write_csv(path, pd.DataFrame(sorted(assignment.items()), columns=["person", "fold"]))


def plan_folds(run_dir: Path, crops: Crops, *, folds: int, seed: int, age_edges: AgeEdges) -> dict[str, int]:
    """Return the fold of every person, read or made. UserError if it does not fit the crops. Writes nothing."""
    path = folds_path(run_dir)
    if path.exists():
        assignment = read_folds(path)
    else:
        assignment = make_folds(person_strata(crops, age_edges), folds=folds, seed=seed)
    audit_folds(path, assignment, set(crops.frame["person"]), folds)
    return assignment


def read_folds(path: Path) -> dict[str, int]:
    """Read the fold of every person; UserError for a person who stands twice or a fold that is not a number."""
    frame = files.read_csv(path, ("person", "fold"))
    files.require_unique(path, frame, "person")
    for person, fold in zip(frame["person"], frame["fold"], strict=True):
        if not fold.isdecimal():
            raise UserError(f"{path}: fold {fold!r} of {person} is not a whole number from 0 on")
    return dict(zip(frame["person"], frame["fold"].astype(int), strict=True))


def hash_of_folds(fold_of: Mapping[str, int]) -> str:
    """Return the hash of a split, as in config.json of its folds."""
    return files.text_hash(f"{person} {fold}" for person, fold in sorted(fold_of.items()))


def refuse_other_ages(run_dir: Path, trained_for: Sequence[int] | None, what: Path) -> None:
    """UserError if `what` was trained for other age groups than run.json says; nothing if it does not know."""
    edges = read_run(run_dir).age_edges
    if trained_for is not None and list(trained_for) != list(edges):
        raise UserError(
            f"{run_path(run_dir)}: age groups that begin at {edges[0]} and {edges[1]}, but {what} was trained for "
            f"{' and '.join(map(str, trained_for))}; put them back, or train anew"
        )


def refuse_other_folds(run_dir: Path, expected: str, trained: Path) -> None:
    """UserError if folds.csv of the run is not the split of this hash, by which `trained` was trained."""
    path = folds_path(run_dir)
    if path.exists() and hash_of_folds(read_folds(path)) != expected:
        raise UserError(f"{path}: not the folds that {trained} was trained with; put them back, or train anew")


def audit_folds(path: Path, assignment: Mapping[str, int], persons: set[str], folds: int) -> None:
    """UserError unless exactly these persons are in exactly these folds, and no fold is empty.

    Nobody is in two folds: `read_folds` refuses a person who stands twice.
    """
    remedy = "folds of other data? give another --run-dir"
    if persons - set(assignment):
        raise UserError(f"{path}: person {name_some(sorted(persons - set(assignment)))} has no fold; {remedy}")
    if set(assignment) - persons:
        raise UserError(f"{path}: person {name_some(sorted(set(assignment) - persons))} has no photos; {remedy}")
    if set(assignment.values()) != set(range(folds)):
        found = ", ".join(map(str, sorted(set(assignment.values()))))
        raise UserError(f"{path}: holds folds {found}, but --folds is {folds}; give another --run-dir to split anew")


def person_strata(crops: Crops, age_edges: AgeEdges) -> dict[str, tuple[int, ...]]:
    """Return gender and age group of every person; UserError for a person whose photos disagree.

    Where one is UNKNOWN, numbers that stand for the person's labels of the other tasks follow.
    """
    labels = {task.name: crops.labels(task, age_edges) for task in TASKS}
    found: dict[str, dict[str, set[int]]] = {}
    for person, *of_photo in zip(crops.frame["person"], *labels.values(), strict=True):
        of_person = found.setdefault(person, {name: set() for name in labels})
        for name, label in zip(labels, of_photo, strict=True):
            of_person[name] |= {label} - {UNKNOWN}
    return {person: _stratum(person, of_person) for person, of_person in found.items()}


def _stratum(person: str, labels: Mapping[str, set[int]]) -> tuple[int, ...]:
    if any(len(labels[name]) > 1 for name in STRATA_TASKS):
        raise UserError(f"person {person}: photos with different {' or '.join(STRATA_TASKS)}; one person has one")
    main = tuple(next(iter(labels[name]), UNKNOWN) for name in STRATA_TASKS)
    others = tuple(sum(2**label for label in labels[name]) for name in labels if name not in STRATA_TASKS)
    return main + others if UNKNOWN in main else main


def make_folds(strata: Mapping[str, tuple[int, ...]], *, folds: int, seed: int) -> dict[str, int]:
    """Split persons into folds whose sizes, and numbers of every stratum, differ by one at most.

    Persons are assigned to folds in turn, stratum after stratum, which also spreads a class of neighbouring strata
    evenly. Orders of the strata are tried until every class that has enough persons is in every fold.
    """
    if len(strata) < folds:
        raise UserError(f"{len(strata)} persons are too few for --folds {folds}; give --folds {len(strata)} or less")
    shuffled = np.random.default_rng(seed).permutation(sorted(strata)).tolist()
    orders = islice(permutations(sorted(set(strata.values()))), MOST_ORDERS)
    deals = (_deal(shuffled, strata, order, folds) for order in orders)
    first = next(deals)
    if covers(strata, first, folds):
        return first
    return next((deal for deal in deals if covers(strata, deal, folds)), first)


def _deal(
    shuffled: Sequence[str], strata: Mapping[str, tuple[int, ...]], order: Sequence[tuple[int, ...]], folds: int
) -> dict[str, int]:
    by_stratum = sorted(shuffled, key=lambda person: order.index(strata[person]))
    return {person: position % folds for position, person in enumerate(by_stratum)}


def covers(strata: Mapping[str, tuple[int, ...]], assignment: Mapping[str, int], folds: int) -> bool:
    """Return True if every fold has every class of every stratifying task that has enough persons."""
    for position in range(len(STRATA_TASKS)):
        persons_of: dict[int, list[str]] = {}
        for person, stratum in strata.items():
            persons_of.setdefault(stratum[position], []).append(person)
        persons_of.pop(UNKNOWN, None)
        enough = (persons for persons in persons_of.values() if len(persons) >= folds)
        if any(len({assignment[person] for person in persons}) < folds for persons in enough):
            return False
    return True
