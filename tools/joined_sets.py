"""The photos of several data sets as those of one, in the remade layout or as a table."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from check_data.findings import counted
from check_data.picture_checks import same_files, same_pictures
from check_data.scan import scan_photos
from core.cli import UserError, cpu_count, name_some
from core.images import read_photo
from storage.eval_labels import eval_facts
from storage.label_words import COLUMN_WORDS, column_named
from storage.layouts import TABLE, Dataset, Photo, parse_person
from storage.sources import SourceFace, of_same_source, read_sources
from synthesis.layout import UNKNOWN_RACE, layout_named

REMADE = layout_named("remade")
FIRST_COLUMNS = (*COLUMN_WORDS, "race")


@dataclass(frozen=True)
class Member:
    """One of the data sets that are joined, with the prefix of its people."""

    name: str
    dataset: Dataset

    @property
    def root(self) -> Path:
        return self.dataset.root

    @cached_property
    def train(self) -> list[Photo]:
        return self.dataset.of_split("train")

    @cached_property
    def people(self) -> dict[str, str]:
        """Folder name in the joined data set by person here, in the remade layout."""
        return {photo.person: folder_name(f"{self.name}-", photo.person, photo.facts) for photo in self.train}


@dataclass(frozen=True)
class JoinedPhoto:
    """A photo of a data set, `before`, and as it is in the joined one. In a table its facts include eval labels."""

    member: Member
    before: Photo
    photo: Photo


def folder_name(prefix: str, person: str, facts: Mapping[str, str]) -> str:
    """The person's name with `prefix`; where it does not say gender, race and age, with these at its end."""
    if parse_person(person):
        return prefix + person
    race = "-".join(re.findall(r"[^\W_]+", facts["race"])) or UNKNOWN_RACE
    return f"{prefix}{person}_{facts['gender']}_{race}_{int(facts['age'])}"


def makes_table(members: Sequence[Member], evaluation: Member | None) -> bool:
    """Return True if the joined data set has a table: one of them has, or the eval photos' names say no labels."""
    named = evaluation is None or evaluation.dataset.layout == REMADE.name
    return not named or any(member.dataset.layout == TABLE for member in members)


def joined_photos(members: Sequence[Member], evaluation: Member | None, *, as_table: bool) -> list[JoinedPhoto]:
    """Return the training photos of all members and the eval photos of one, as they are in the joined data set."""
    place = _in_table if as_table else _in_remade
    chosen = [(member, photo) for member in members for photo in member.train]
    chosen += [(evaluation, photo) for photo in evaluation.dataset.of_split("eval")] if evaluation else []
    labels = eval_facts(evaluation.dataset) if evaluation and as_table else {}
    return [JoinedPhoto(member, photo, place(member, photo, labels)) for member, photo in chosen]


def _in_remade(member: Member, photo: Photo, _: Mapping[str, Mapping[str, str]]) -> Photo:
    name = Path(photo.path).name
    if photo.split == "eval":
        return replace(photo, path=f"{REMADE.eval_folder}/{name}")
    person = member.people[photo.person]
    return replace(photo, person=person, path=f"{REMADE.train_folder}/{person}/{name}")


def _in_table(member: Member, photo: Photo, labels: Mapping[str, Mapping[str, str]]) -> Photo:
    """A photo that is a person of its own stays one: its person is its path."""
    path = f"{member.name}/{photo.path}"
    person = path if photo.person == photo.image_id else f"{member.name}-{photo.person}"
    facts = labels.get(photo.image_id, {}) if photo.split == "eval" else photo.facts
    return Photo(path, photo.split, person, path, dict(facts))


def has_place(fact: str) -> bool:
    """Return True if a column of this name in photos.csv is read as this fact, and not as another."""
    return column_named(fact) == fact and fact not in ("path", "person", "split")


def table_of(joined: Sequence[JoinedPhoto]) -> pd.DataFrame:
    """Return the rows of photos.csv. Unknown labels, and the person of a photo that is one of its own, are empty."""
    rows = [
        {name: fact for name, fact in each.photo.facts.items() if has_place(name)}
        | {
            "path": each.photo.path,
            "person": "" if each.photo.person == each.photo.path else each.photo.person,
            "split": each.photo.split,
        }
        for each in joined
    ]
    frame = pd.DataFrame(rows, dtype=str)
    further = [name for name in frame if name not in FIRST_COLUMNS]
    return frame.reindex(columns=[*FIRST_COLUMNS, *further]).fillna("")


def joined_sources(joined: Sequence[JoinedPhoto]) -> dict[str, SourceFace]:
    """Return the source faces that the manifests of the members name, by path in the joined data set."""
    roots = {each.member.name: each.member.root for each in joined}
    known = {name: read_sources(root) for name, root in roots.items()}
    return {
        each.photo.path: known[each.member.name][each.before.path]
        for each in joined
        if each.before.path in known[each.member.name]
    }


def shared_between(joined: Sequence[JoinedPhoto], sources: Mapping[str, SourceFace]) -> str:
    """Return a sentence on source faces and pictures that are in two members; empty if there are none.

    Reads every photo.
    """
    member_of = {each.photo.path: each.member.name for each in joined}
    readable = [pair for member in {each.member.name: each.member for each in joined}.values()
                for pair in _scanned(member, joined)]  # fmt: skip
    files = {each.photo.path: each.member.root / each.before.path for each in joined}
    alike = same_pictures(readable, lambda path: read_photo(files[path]))
    found = {
        "made from the same source faces": of_same_source([each.photo for each in joined], sources),
        "that show the same picture": [*same_files(readable), *alike],
    }
    sentences = []
    for what, groups in found.items():
        across = [group for group in groups if len({member_of[photo.path] for photo in group}) > 1]
        split = sum(len({photo.split for photo in group}) > 1 for group in across)
        names = name_some([" = ".join(_one_of_each(group, member_of)) for group in across], at_most=3)
        if across:
            sentences.append(
                f"{counted(len(across), 'group')} of photos {what} ({names}), {split} in train and eval at once"
            )
    return "; ".join(sentences)


def _scanned(member: Member, joined: Sequence[JoinedPhoto]) -> Iterator[tuple]:
    """Yield the readable photos of a member, as they are in the joined data set, and their scans."""
    photo_of = {each.before.path: each for each in joined if each.member is member}
    scans = scan_photos(member.root, [each.before for each in photo_of.values()], cpu_count())
    return ((each.photo, scans[path]) for path, each in photo_of.items() if not scans[path].reason)


def _one_of_each(group: Sequence[Photo], member_of: Mapping[str, str]) -> list[str]:
    return list({member_of[photo.path]: photo.path for photo in group}.values())


def refuse_shared(joined: Sequence[JoinedPhoto], sources: Mapping[str, SourceFace], *, allowed: bool) -> str:
    """Return the sentence on what is shared, which is printed; UserError with it unless that is allowed."""
    shared = shared_between(joined, sources)
    if shared and not allowed:
        advice = "leave one data set out, build them from different faces, or give --allow-shared"
        raise UserError(f"the data sets share {shared}: scores would be too good; {advice}")
    if shared:
        print(f"warning: the data sets share {shared}: scores are too good")
    return shared
