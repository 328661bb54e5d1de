"""Put several data sets into one, to be trained on together: built people beside real ones.

    python -m tools.join built /my/data --out joined --eval /my/data

Result: the folder `joined` in the remade layout, ready for DATA_DIR=joined bash run_all.sh, with the people of all data
sets and the eval photos of one. Each set's people get its name in front (a-, b- ... or --names), so that two of the
same folder name stay two people: images/train/a-000849_female_Black_40/mask1.jpg. join.json says what was joined.

The data sets are only read. Photos are hard links where the disk allows it, and copies elsewhere. A hard link takes no
room: it is a second name of the same file, so a photo that is edited in place changes in both folders; one that is
removed from one folder stays in the other. --copy makes files of their own. Until all is done the folder is named
joined.unfinished; the same command goes on from there.
"""

if not __package__:
    raise SystemExit("run this as a module: python -m tools.join")

import argparse
import errno
import os
import re
import shutil
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from core.cli import UserError, command_parser, progress, run_cli
from core.files import read_json, replacing, require_room, write_json
from core.locks import GIT_IGNORE, LOCK_NAME, holding
from storage.layouts import Dataset, Photo, parse_person, scan
from synthesis.layout import UNKNOWN_RACE, already_made, layout_named, refuse_other

JOIN_VERSION = 1
RECORD_NAME = "join.json"
LAYOUT = layout_named("remade")
NAMED_FACTS = {"gender", "race", "age", "mask"}
"""Facts that the name of a photo in that layout holds."""

_NAME = re.compile(r"[A-Za-z0-9]{1,20}")
"""Without the hyphen that ends it, so that a- with b-7 and a-b- with 7 are not both a-b-7."""
_NO_LINKS_HERE = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS)


@dataclass(frozen=True)
class Member:
    """One of the data sets that are joined, with the prefix of its people's folder names."""

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
        """Folder name in the joined data set by folder name here."""
        return {photo.person: folder_name(f"{self.name}-", photo.person, photo.facts) for photo in self.train}


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    out = real(args.out)
    refuse_nested(args.roots, out)
    members = read_members(args.roots, args.names)
    evaluation = None if args.no_eval else choose_eval(members, args.eval)
    record = record_of(members, evaluation, copies=args.copy)
    if already_made(out, RECORD_NAME, record, kind="joined data set"):
        print(f"{out}: already joined from these data sets, nothing to do")
        return
    say_left_out(members)
    placed = join(plan(members, evaluation), out, record, copies=args.copy)
    print(summary(out, members, evaluation, placed))


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("roots", type=Path, nargs="+", metavar="ROOT", help="data sets to join; only read")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="what to put before the people of each root, in "
                        "order: letters and digits (default: a, b ...)")  # fmt: skip
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--eval", type=Path, metavar="ROOT",
                       help="the root whose eval photos are taken (default: the only one that has any)")  # fmt: skip
    which.add_argument("--no-eval", action="store_true", help="take no eval photos")
    parser.add_argument("--copy", action="store_true", help="copy all photos, make no hard links")
    return parser.parse_args(argv)


def real(path: Path) -> Path:
    """The path with links followed."""
    return Path(os.path.realpath(path))


def refuse_nested(roots: Sequence[Path], out: Path) -> None:
    """UserError for a root given twice or inside another, for a single one, and for an --out inside a root."""
    if len(roots) < 2:
        raise UserError(f"only {roots[0]} is given; name two data sets or more to join")
    for place, root in enumerate(roots):
        if out.is_relative_to(real(root)):
            raise UserError(f"--out {out} is inside the data set {root}, which is only read; name another folder")
        for other in roots[:place]:
            if real(root) == real(other):
                raise UserError(f"data set {root} is given twice{'' if root == other else f', also as {other}'}")
            if real(root).is_relative_to(real(other)) or real(other).is_relative_to(real(root)):
                raise UserError(f"data sets {other} and {root}: one is inside the other; give folders apart")


def read_members(roots: Sequence[Path], names: Sequence[str] | None) -> list[Member]:
    """The data sets and their names. UserError for one without people, and for names that do not fit."""
    names = names or string.ascii_lowercase[: len(roots)]
    if len(names) != len(roots):
        raise UserError(f"{len(roots)} data sets and {len(names)} names; give --names one for each, in order")
    for place, name in enumerate(names):
        if not _NAME.fullmatch(name):
            raise UserError(f"--names {name!r}: allowed are 1 to 20 letters a-z and digits")
        # Some disks do not tell A from a.
        if name.lower() in (before.lower() for before in names[:place]):
            raise UserError(f"--names {name!r} stands twice; give each data set its own")
    members = [Member(name, scan(root)) for name, root in zip(names, roots, strict=True)]
    for member in members:
        if not member.train:
            raise UserError(f"data set {member.root}: {member.dataset.layout} layout, no people to train on")
        refuse_same_folder(member)
    return members


def refuse_same_folder(member: Member) -> None:
    """UserError for two people of one data set who would become one."""
    person_of: dict[str, str] = {}
    for person, folder in member.people.items():
        if person_of.setdefault(folder, person) != person:
            raise UserError(
                f"data set {member.root}: {person_of[folder]} and {person} would both be {folder}; rename one"
            )


def choose_eval(members: Sequence[Member], asked: Path | None) -> Member | None:
    """The member whose eval photos are taken: the one asked for, or the only one that has any."""
    having = [member for member in members if member.dataset.of_split("eval")]
    chosen = having if asked is None else [member for member in members if real(member.root) == real(asked)]
    if asked is not None and not chosen:
        raise UserError(f"--eval {asked} is none of the data sets: {', '.join(str(each.root) for each in members)}")
    if len(chosen) > 1:
        raise UserError(f"{', '.join(str(each.root) for each in chosen)} all have eval photos; choose with --eval ROOT")
    if not chosen:
        return None
    if chosen[0] not in having:
        raise UserError(f"--eval {asked}: no eval photos in it")
    if chosen[0].dataset.layout != LAYOUT.name:
        raise UserError(
            f"eval photos of {chosen[0].root}: {chosen[0].dataset.layout} layout, whose names lack the labels that the "
            f"{LAYOUT.name} layout has there; give another --eval, or --no-eval"
        )
    return chosen[0]


def record_of(members: Sequence[Member], evaluation: Member | None, *, copies: bool) -> dict:
    """All that determines the joined data set, as JSON."""
    return {
        "join_version": JOIN_VERSION,
        "roots": [str(real(member.root)) for member in members],
        "names": [member.name for member in members],
        "listings": [member.dataset.listing_hash for member in members],
        "eval": str(real(evaluation.root)) if evaluation else None,
        "copy": copies,
    }


def say_left_out(members: Sequence[Member]) -> None:
    """Name the columns of train.csv that folder names have no place for."""
    for member in members:
        further = sorted({fact for photo in member.train for fact in photo.facts} - NAMED_FACTS)
        if further:
            print(f"{member.root}: left out from train.csv, since folder names cannot say it: {', '.join(further)}")


def plan(members: Sequence[Member], evaluation: Member | None) -> dict[str, Path]:
    """The file of each photo, links followed, by its path in the joined data set. UserError for what is no file."""
    photos = {
        f"{LAYOUT.train_folder}/{member.people[photo.person]}/{Path(photo.path).name}": real(member.root / photo.path)
        for member in members
        for photo in member.train
    }
    if evaluation:
        for photo in evaluation.dataset.of_split("eval"):
            photos[f"{LAYOUT.eval_folder}/{Path(photo.path).name}"] = real(evaluation.root / photo.path)
    for source in photos.values():
        if not source.is_file():
            raise UserError(f"{source} is not a file (a pipe, a device, or a link to nothing); remove it")
    return photos


def folder_name(prefix: str, person: str, facts: Mapping[str, str]) -> str:
    """The person's name with `prefix`; where it does not say gender, race and age, with these at its end."""
    if parse_person(person):
        return prefix + person
    race = "-".join(re.findall(r"[^\W_]+", facts["race"])) or UNKNOWN_RACE
    return f"{prefix}{person}_{facts['gender']}_{race}_{int(facts['age'])}"


def join(photos: Mapping[str, Path], out: Path, record: dict, *, copies: bool) -> Counter:
    """Put all photos below `out`, which appears when all are there. Returns how many were linked and copied."""
    unfinished = out.with_name(f"{out.name}.unfinished")
    placed: Counter = Counter()
    with holding(unfinished, "--out"):
        begin(unfinished, record)
        todo = {unfinished / target: source for target, source in photos.items()}
        placed["there before"] = sum(target.exists() for target in todo)
        require_room(unfinished, bytes_to_copy(todo, unfinished, copies=copies), "copies of the photos")
        for target, source in progress(todo.items(), title="photos"):
            if not target.exists():
                placed[place(source, target, copies=copies)] += 1
    unfinished.replace(out)
    return placed


def begin(unfinished: Path, record: dict) -> None:
    """Write the record, or find it there from a join that was ended; UserError if another's or something else is."""
    if (unfinished / RECORD_NAME).is_file():
        refuse_other(unfinished, read_json(unfinished / RECORD_NAME), record)
    elif any(entry.name not in (LOCK_NAME, GIT_IGNORE) for entry in unfinished.iterdir()):
        raise UserError(f"{unfinished} is in the way and holds something else; name another --out, or remove it")
    write_json(unfinished / RECORD_NAME, record)


def bytes_to_copy(todo: Mapping[Path, Path], folder: Path, *, copies: bool) -> int:
    """Room for the photos that are not there yet and cannot be links."""
    disk, needed = folder.stat().st_dev, 0
    for target, source in todo.items():
        status = source.stat()
        if (copies or status.st_dev != disk) and not target.exists():
            needed += status.st_size
    return needed


def place(source: Path, target: Path, *, copies: bool) -> str:
    """Link a photo, or copy it where links are not wanted or not possible; returns which."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not copies:
        try:
            os.link(source, target)
            return "linked"
        except OSError as error:
            if error.errno not in _NO_LINKS_HERE:
                raise
    with source.open("rb") as stream, replacing(target) as aside, aside.open("wb") as written:
        shutil.copyfileobj(stream, written)
    return "copied"


def summary(out: Path, members: Sequence[Member], evaluation: Member | None, placed: Mapping[str, int]) -> str:
    """'joined: a- 2700 people with 18900 photos (built); b- ...; photos: 22275 linked'."""
    parts = []
    for member in members:
        to_score = f", {len(member.dataset.of_split('eval'))} photos to score" if member is evaluation else ""
        people = f"{len(member.people)} people with {len(member.train)} photos"
        parts.append(f"{member.name}- {people}{to_score} ({member.root})")
    ways = ", ".join(f"{count} {way}" for way, count in sorted(placed.items()) if count)
    return f"{out}: {'; '.join(parts)}; photos: {ways}"


if __name__ == "__main__":
    run_cli(main)
