"""Joining data sets: nobody becomes somebody else, sources stay as they are, and a killed join goes on."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from layout_toys import ANNA, BORIS, HEADER, STEMS, add_person, make_competition, make_remade, touch
from toy_data import refusal, snapshot

from core.files import read_json
from storage.eval_labels import read_eval_labels
from storage.layouts import scan
from tools import join

EVAL_NAMES = ["000007_male_White_40_mask3.jpg", "000008_Female_Black_24_incorrect_mask.PNG", "9_male_x_39_Normal.jpeg"]
RECORD = "join.json"


def make_train(root: Path, *persons: str) -> Path:
    """A remade root without eval photos; each photo holds its own path."""
    for person in persons:
        for stem in STEMS:
            touch(root / "images" / "train" / person / f"{stem}.jpg", f"{root.name}/{person}/{stem}")
    return root


@pytest.fixture
def built(tmp_path: Path) -> Path:
    return make_train(tmp_path / "built", ANNA, "000002_male_White_60")


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Has a person of the same folder name, and eval photos."""
    return make_train(make_remade(tmp_path / "mine"), ANNA)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "joined"


def run(*words: object) -> None:
    join.main([str(word) for word in words])


def files_of(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def train_files(*folders: str) -> list[str]:
    return [f"images/train/{folder}/{stem}.jpg" for folder in folders for stem in STEMS]


def failing_links(code: int) -> Callable[..., None]:
    """os.link of a disk that cannot do it."""

    def link(source: Path, target: Path) -> None:
        raise OSError(code, os.strerror(code), str(source))

    return link


def test_people_of_the_same_folder_name_stay_two(
    built: Path, mine: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(built, mine)
    run(built, mine, "--out", out)
    people = (f"a-{ANNA}", "a-000002_male_White_60", f"b-{ANNA}", f"b-{BORIS}")
    assert files_of(out) == sorted(
        [*train_files(*people), *(f"images/eval/{name}" for name in EVAL_NAMES), "join.json", ".gitignore"]
    )
    for root, prefix in ((built, "a-"), (mine, "b-")):
        text = (out / "images" / "train" / f"{prefix}{ANNA}" / "mask3.jpg").read_text(encoding="utf-8")
        assert text == f"{root.name}/{ANNA}/mask3"
    assert snapshot(built, mine) == before
    assert capsys.readouterr().out == (
        f"{out}: a- 2 people with 14 photos ({built}); b- 2 people with 14 photos, 3 photos to score ({mine}); "
        f"photos: 31 linked\n"
    )


def test_the_joined_folder_is_a_data_set_with_the_same_facts(built: Path, mine: Path, out: Path) -> None:
    run(built, mine, "--out", out, "--names", "synthetic", "Real1")
    joined = scan(out)
    assert (joined.layout, joined.ignored) == ("remade", ())
    facts = {photo.image_id: photo.facts for photo in joined.of_split("train")}
    expected = {
        f"{prefix}{photo.image_id}": photo.facts
        for prefix, root in (("synthetic-", built), ("Real1-", mine))
        for photo in scan(root).of_split("train")
    }
    assert facts == expected
    assert [photo.image_id for photo in joined.of_split("eval")] == EVAL_NAMES
    assert read_eval_labels(joined, (25, 40)) == read_eval_labels(scan(mine), (25, 40))


def test_prefixes_do_not_hang_on_what_clashes(tmp_path: Path, out: Path) -> None:
    one, other = (make_train(tmp_path / name, person) for name, person in (("one", ANNA), ("other", BORIS)))
    run(other, one, "--out", out)
    assert files_of(out / "images" / "train") == [f"a-{BORIS}/{stem}.jpg" for stem in sorted(STEMS)] + [
        f"b-{ANNA}/{stem}.jpg" for stem in sorted(STEMS)
    ]
    assert not (out / "images" / "eval").exists()


def test_photos_are_links_and_with_copy_files_of_their_own(built: Path, mine: Path, tmp_path: Path) -> None:
    source = built / "images" / "train" / ANNA / "normal.jpg"
    for folder, flags, is_same in (("linked", (), True), ("copied", ("--copy",), False)):
        run(built, mine, "--out", tmp_path / folder, *flags)
        target = tmp_path / folder / "images" / "train" / f"a-{ANNA}" / "normal.jpg"
        assert target.samefile(source) is is_same
        assert target.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM])
def test_photos_are_copied_where_the_disk_has_no_links(
    built: Path, mine: Path, out: Path, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "link", failing_links(code))
    run(built, mine, "--out", out)
    assert capsys.readouterr().out.endswith("photos: 31 copied\n")
    assert (out / "images" / "train" / f"a-{ANNA}" / "mask1.jpg").read_text(encoding="utf-8") == f"built/{ANNA}/mask1"


def test_another_failure_of_a_link_is_no_reason_to_copy(
    built: Path, mine: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", failing_links(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left"):
        run(built, mine, "--out", out)
    assert not out.exists()


def test_a_link_within_a_data_set_is_joined_as_the_file_it_leads_to(built: Path, mine: Path, out: Path) -> None:
    folder = built / "images" / "train" / ANNA
    (folder / "mask2.jpg").unlink()
    (folder / "mask2.jpg").symlink_to("mask1.jpg")
    run(built, mine, "--out", out)
    joined = out / "images" / "train" / f"a-{ANNA}" / "mask2.jpg"
    assert not joined.is_symlink() and joined.samefile(folder / "mask1.jpg")


def test_other_layouts_bring_their_people_under_names_that_say_the_facts(
    tmp_path: Path, built: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = tmp_path / "listed"
    for person in ("p1", "p2", ANNA):
        add_person(listed / "train" / "images" / person)
    rows = "1,Male,East_Asian,7,p1,yes\n2,female,,61,p2,no\n000001,female,Asian,31," + ANNA + ",no\n"
    touch(listed / "train" / "train.csv", HEADER.strip() + ",glasses\n" + rows)
    run(listed, built, "--out", out)
    people = {photo.person: photo.facts for photo in scan(out).of_split("train") if photo.person.startswith("a-")}
    assert {name: (facts["gender"], facts["race"], facts["age"]) for name, facts in people.items()} == {
        "a-p1_male_East-Asian_7": ("male", "East-Asian", "7"),
        "a-p2_female_unknown_61": ("female", "unknown", "61"),
        f"a-{ANNA}": ("female", "Asian", "31"),
    }
    assert f"{listed}: left out from train.csv, since folder names cannot say it: glasses\n" in capsys.readouterr().out


def test_two_people_of_one_data_set_are_not_made_one(tmp_path: Path, built: Path, out: Path) -> None:
    listed = tmp_path / "listed"
    for person in ("p1", "p1_male_Asian_7"):
        add_person(listed / "train" / "images" / person)
    touch(listed / "train" / "train.csv", f"{HEADER}1,male,Asian,7,p1\n2,male,Asian,7,p1_male_Asian_7\n")
    refusal(join.main, [listed, built, "--out", out], str(listed), "would both be a-p1_male_Asian_7")
    assert not out.exists()


def test_eval_photos_are_those_of_one_data_set(tmp_path: Path, built: Path, mine: Path, out: Path) -> None:
    second = make_remade(tmp_path / "second")
    refusal(join.main, [mine, built, second, "--out", out], f"{mine}, {second} all have", "--eval")
    refusal(join.main, [mine, built, "--out", out, "--eval", built], f"--eval {built}", "no eval photos")
    refusal(join.main, [mine, built, "--out", out, "--eval", second], f"--eval {second}", str(mine))
    refusal(join.main, [mine, built, "--out", out, "--eval", mine, "--no-eval"], "not allowed with")
    assert sorted(tmp_path.glob("joined*")) == []
    (second / "images" / "eval" / EVAL_NAMES[0]).rename(second / "images" / "eval" / "1_male_x_3_mask.jpg")
    run(mine, built, second, "--out", out, "--eval", second)
    assert files_of(out / "images" / "eval") == [*EVAL_NAMES[1:2], "1_male_x_3_mask.jpg", *EVAL_NAMES[2:]]
    run(mine, second, "--out", tmp_path / "none", "--no-eval")
    assert not (tmp_path / "none" / "images" / "eval").exists()


def test_eval_photos_whose_names_say_nothing_are_joined_in_a_table(tmp_path: Path, built: Path, out: Path) -> None:
    listed = make_competition(tmp_path / "listed")
    run(built, listed, "--out", out, "--names", "made", "given")
    joined = scan(out)
    assert joined.layout == "table" and len(joined.of_split("train")) == 28
    assert sorted(photo.path for photo in joined.of_split("eval")) == sorted(
        f"given/{photo.path}" for photo in scan(listed).of_split("eval")
    )
    run(built, listed, "--out", tmp_path / "train_alone", "--no-eval")
    assert scan(tmp_path / "train_alone").layout == "remade"


def test_each_manifest_is_read_once(built: Path, mine: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr("tools.joined_sets.read_sources", lambda root: read.append(root) or {})
    run(built, mine, "--out", out)
    assert read == [built, mine]


def test_a_second_run_adds_nothing_and_says_so(
    built: Path, mine: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(built, mine, "--out", out)
    before = snapshot(out)
    capsys.readouterr()
    run(built, mine, "--out", out)
    assert capsys.readouterr().out == f"{out}: already joined from these data sets, nothing to do\n"
    assert snapshot(out) == before


@pytest.mark.parametrize("flags", [(), ("--copy",)])
def test_a_join_that_was_ended_goes_on(
    built: Path, mine: Path, out: Path, flags: tuple[str, ...], *,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    run(built, mine, "--out", out.with_name("whole"), *flags)
    capsys.readouterr()
    place, left = join.place, [0] * 10

    def ended(source: Path, target: Path, *, copies: bool) -> str:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return place(source, target, copies=copies)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(join, "place", ended)
        run(built, mine, "--out", out, *flags)
    unfinished = out.with_name("joined.unfinished")
    assert not out.exists()
    assert len(files_of(unfinished / "images")) == 10
    refusal(join.main, [mine, built, "--out", out, *flags], "was made with roots", untouched=[unfinished])
    run(built, mine, "--out", out, *flags)
    assert capsys.readouterr().out.endswith(f"21 {'copied' if flags else 'linked'}, 10 there before\n")
    assert not unfinished.exists()
    names = [name for name in files_of(out) if name != RECORD]
    whole = out.with_name("whole")
    assert [name for name in files_of(whole) if name != RECORD] == names
    assert all((whole / name).read_bytes() == (out / name).read_bytes() for name in names)


def test_a_join_killed_before_its_first_photo_goes_on(built: Path, mine: Path, out: Path) -> None:
    touch(out.with_name("joined.unfinished") / ".lock", "process 1")
    run(built, mine, "--out", out)
    assert len(scan(out).photos) == 31
    assert not (out / ".lock").exists()


def test_another_join_or_anything_else_in_the_way_is_refused(built: Path, mine: Path, out: Path) -> None:
    run(built, mine, "--out", out)
    roots = [built, mine, "--out", out]
    refusal(join.main, [*roots, "--copy"], "copy False (asked for: True)", untouched=[out])
    refusal(join.main, [*roots, "--names", "x", "y"], "names ['a', 'b'] (asked for: ['x', 'y'])", untouched=[out])
    refusal(join.main, [*roots, "--no-eval"], f"eval {mine} (asked for: None)", untouched=[out])
    add_person(mine / "images" / "train" / "000003_male_White_9")
    refusal(join.main, roots, "listings", untouched=[out])
    for name in ("other", "second.unfinished"):
        note = touch(out.with_name(name) / "notes.txt", "mine")
        refusal(join.main, [built, mine, "--out", out.with_name(name.split(".")[0])], name, "holds something",
                untouched=[note.parent])  # fmt: skip


def test_an_empty_folder_is_filled(built: Path, mine: Path, out: Path) -> None:
    out.mkdir()
    run(built, mine, "--out", out)
    record = read_json(out / RECORD)
    assert record["roots"] == [str(built), str(mine)]
    assert record["listings"] == [scan(built).listing_hash, scan(mine).listing_hash]


def test_folders_that_are_not_apart_are_refused(tmp_path: Path, built: Path, mine: Path, out: Path) -> None:
    inner = make_train(mine / "more", BORIS)
    alias = tmp_path / "alias"
    alias.symlink_to(built)
    refusal(join.main, [built, "--out", out], str(built), "two data sets or more")
    refusal(join.main, [built, mine, built, "--out", out], f"{built} is given twice")
    refusal(join.main, [built, alias, "--out", out], f"{alias} is given twice, also as {built}")
    refusal(join.main, [mine, inner, "--out", out], str(inner), "inside the other")
    refusal(join.main, [inner, mine, "--out", out], str(inner), "inside the other")
    for place in (mine, mine / "joined", alias / "joined"):
        refusal(join.main, [built, mine, "--out", place], "--out", "is inside the data set", untouched=[built, mine])


def test_data_sets_without_people_are_refused(tmp_path: Path, built: Path, mine: Path, out: Path) -> None:
    only_eval = make_remade(tmp_path / "only_eval")
    shutil.rmtree(only_eval / "images" / "train")
    touch(tmp_path / "loose" / "a.jpg")
    refusal(join.main, [built, only_eval, "--out", out], str(only_eval), "no people to train on")
    refusal(join.main, [tmp_path / "loose", built, "--out", out], "photos layout", "no people to train on")
    refusal(join.main, [built, tmp_path / "nothing", "--out", out], "no such folder")
    os.mkfifo(built / "images" / "train" / ANNA / "mask1.png")
    (built / "images" / "train" / ANNA / "mask1.jpg").unlink()
    refusal(join.main, [built, mine, "--out", out], "mask1.png is not a file")
    assert sorted(tmp_path.glob("joined*")) == []


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("x",), "2 data sets and 1 names"),
        (("a-b", "c"), "'a-b'"),
        (("a_b", "c"), "'a_b'"),
        (("../x", "c"), "'../x'"),
        (("x", "X"), "'X' stands twice"),
    ],
)
def test_names_that_do_not_fit_are_refused(
    built: Path, mine: Path, out: Path, names: tuple[str, ...], words: str
) -> None:
    refusal(join.main, [built, mine, "--out", out, "--names", *names], words)
    assert not out.exists()


def test_people_of_any_number_of_data_sets(tmp_path: Path, out: Path) -> None:
    roots = [make_train(tmp_path / f"root{number}", ANNA) for number in range(27)]
    refusal(join.main, [*roots, "--out", out], "27 data sets and 26 names")
    run(*roots[:26], "--out", out)
    assert len({photo.person for photo in scan(out).photos}) == 26
