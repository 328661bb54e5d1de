"""Put several data sets into one, to be trained on together: built people beside real ones.

    python -m tools.join built /my/data --out joined --eval /my/data
    python -m tools.join /my/data /my/masks/photos.csv --out joined

Result: the folder `joined`, ready for DATA_DIR=joined bash run_all.sh, with the people of all data sets and the eval
photos of one. Each set's people get its name in front (a-, b- ... or --names), so that two of the same name stay two
people. Folders of people give the remade layout: images/train/a-000849_female_Black_40/mask1.jpg. If one set is a
table (or class folders), all become a table: photos.csv, with labels empty where they are unknown, beside a/ and b/.
join.json says what was joined. Data sets that share pictures, or the faces that synthesis.builder made them from, are
refused.

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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import core.environment  # noqa: F401  explains a missing package

import pandas as pd

from core.cli import UserError, command_parser, progress, run_cli
from core.files import (
    read_json,
    replacing,
    require_room,
    text_hash,
    write_csv,
    write_json,
)
from core.locks import GIT_IGNORE, LOCK_NAME, holding
from storage.layouts import TABLE, photo_root, scan
from storage.photo_table import TABLE_NAMES
from storage.sources import JOIN_RECORD, write_sources
from synthesis.layout import already_made, refuse_other
from tools.joined_sets import (
    JoinedPhoto,
    Member,
    has_place,
    joined_photos,
    joined_sources,
    makes_table,
    refuse_shared,
    table_of,
)

JOIN_VERSION = 1
NAMED_FACTS = {"gender", "race", "age", "mask"}
"""Facts that the name of a photo in that layout holds."""

OTHER_LAYOUTS = ("train", "eval", "images")
"""Folders by which other layouts are told."""
_NAME = re.compile(r"[A-Za-z0-9]{1,20}")
"""Without the hyphen that ends it, so that a- with b-7 and a-b- with 7 are not both a-b-7."""
_NO_LINKS_HERE = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    out = real(args.out)
    refuse_nested(args.roots, out)
    members = read_members(args.roots, args.names)
    evaluation = None if args.no_eval else choose_eval(members, args.eval)
    as_table = makes_table(members, evaluation)
    refuse_places(members, as_table=as_table)
    joined = joined_photos(members, evaluation, as_table=as_table)
    table = table_of(joined) if as_table else None
    record = record_of(members, evaluation, table, copies=args.copy)
    if already_made(out, JOIN_RECORD, record, kind="joined data set"):
        print(f"{out}: already joined from these data sets, nothing to do")
        return
    say_left_out(members, evaluation, as_table=as_table)
    photos, sources = files_of(joined), joined_sources(joined)
    shared = refuse_shared(joined, sources, allowed=args.allow_shared)
    with unfinished_folder(out, record | ({"shared": shared} if shared else {})) as unfinished:
        placed = place_all(photos, unfinished, copies=args.copy)
        if sources:
            write_sources(unfinished, sources)
        if table is not None:
            write_csv(unfinished / TABLE_NAMES[0], table)
    unfinished.replace(out)
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
    parser.add_argument("--allow-shared", action="store_true", help="join data sets that share pictures or faces")
    parser.add_argument("--copy", action="store_true", help="copy all photos, make no hard links")
    return parser.parse_args(argv)


def real(path: Path) -> Path:
    """The path with links followed."""
    return Path(os.path.realpath(path))


def refuse_nested(roots: Sequence[Path], out: Path) -> None:
    """UserError for a root given twice or inside another, for a single one, and for an --out inside a root."""
    if len(roots) < 2:
        raise UserError(f"only {roots[0]} is given; name two data sets or more to join")
    folders = [real(photo_root(root)) for root in roots]
    for place, (root, folder) in enumerate(zip(roots, folders, strict=True)):
        if out.is_relative_to(folder):
            raise UserError(f"--out {out} is inside the data set {root}, which is only read; name another folder")
        for other, before in zip(roots[:place], folders, strict=False):
            if folder == before:
                raise UserError(f"data set {root} is given twice{'' if root == other else f', also as {other}'}")
            if folder.is_relative_to(before) or before.is_relative_to(folder):
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
    return members


def refuse_places(members: Sequence[Member], *, as_table: bool) -> None:
    """UserError for a folder of a data set that would show another layout, or be that of two people."""
    for member in members:
        if not as_table:
            refuse_same_folder(member)
        elif member.name.lower() in OTHER_LAYOUTS:
            others = ", ".join(OTHER_LAYOUTS)
            raise UserError(f"--names {member.name!r}: beside photos.csv, {others} show another layout")


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
    chosen = having if asked is None else [member for member in members if real(member.dataset.source) == real(asked)]
    if asked is not None and not chosen:
        sources = ", ".join(str(each.dataset.source) for each in members)
        raise UserError(f"--eval {asked} is none of the data sets: {sources}")
    if len(chosen) > 1:
        raise UserError(f"{', '.join(str(each.root) for each in chosen)} all have eval photos; choose with --eval ROOT")
    if not chosen:
        return None
    if chosen[0] not in having:
        raise UserError(f"--eval {asked}: no eval photos in it")
    return chosen[0]


def record_of(
    members: Sequence[Member], evaluation: Member | None, table: pd.DataFrame | None, *, copies: bool
) -> dict:
    """All that determines the joined data set, as JSON."""
    as_table = {} if table is None else {"layout": TABLE, "table": text_hash([table.to_csv()])}
    return as_table | {
        "join_version": JOIN_VERSION,
        "roots": [str(real(member.dataset.source)) for member in members],
        "names": [member.name for member in members],
        "listings": [member.dataset.listing_hash for member in members],
        "eval": str(real(evaluation.dataset.source)) if evaluation else None,
        "copy": copies,
    }


def say_left_out(members: Sequence[Member], evaluation: Member | None, *, as_table: bool) -> None:
    """Name the facts that the joined data set has no place for, and count the eval photos that are not taken."""
    for member in members:
        further = sorted({fact for photo in member.train for fact in photo.facts} - NAMED_FACTS)
        if as_table:
            further = [fact for fact in further if not has_place(fact)]
        if further:
            why = "columns that mean something else" if as_table else "folder names cannot say it"
            print(f"{member.root}: left out from train.csv, since {why}: {', '.join(further)}")
        others = len(member.dataset.of_split("eval"))
        if others and member is not evaluation:
            print(f"{member.root}: its {others} eval photos are not taken")


def files_of(joined: Sequence[JoinedPhoto]) -> dict[str, Path]:
    """The file of each photo, links followed, by its path in the joined data set. UserError for what is no file."""
    photos = {each.photo.path: real(each.member.root / each.before.path) for each in joined}
    for source in photos.values():
        if not source.is_file():
            raise UserError(f"{source} is not a file (a pipe, a device, or a link to nothing); remove it")
    return photos


@contextmanager
def unfinished_folder(out: Path, record: dict) -> Iterator[Path]:
    """Hold and yield the folder beside `out` that becomes it, with the record in it."""
    unfinished = out.with_name(f"{out.name}.unfinished")
    with holding(unfinished, "--out"):
        begin(unfinished, record)
        yield unfinished


def place_all(photos: Mapping[str, Path], folder: Path, *, copies: bool) -> Counter:
    """Put all photos below a folder. Returns how many were linked and copied."""
    placed: Counter = Counter()
    todo = {folder / target: source for target, source in photos.items()}
    placed["there before"] = sum(target.exists() for target in todo)
    require_room(folder, bytes_to_copy(todo, folder, copies=copies), "copies of the photos")
    for target, source in progress(todo.items(), title="photos"):
        if not target.exists():
            placed[place(source, target, copies=copies)] += 1
    return placed


def begin(unfinished: Path, record: dict) -> None:
    """Write the record, or find it there from a join that was ended; UserError if another's or something else is."""
    if (unfinished / JOIN_RECORD).is_file():
        refuse_other(unfinished, read_json(unfinished / JOIN_RECORD), record)
    elif any(entry.name not in (LOCK_NAME, GIT_IGNORE) for entry in unfinished.iterdir()):
        raise UserError(f"{unfinished} is in the way and holds something else; name another --out, or remove it")
    write_json(unfinished / JOIN_RECORD, record)


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
        people = f"{len({photo.person for photo in member.train})} people with {len(member.train)} photos"
        parts.append(f"{member.name}- {people}{to_score} ({member.root})")
    ways = ", ".join(f"{count} {way}" for way, count in sorted(placed.items()) if count)
    return f"{out}: {'; '.join(parts)}; photos: {ways}"


if __name__ == "__main__":
    run_cli(main)
