"""The three input layouts on folders of empty files: scanning never looks into a photo."""

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from layout_toys import ANNA, BORIS, HEADER, ROWS, STEMS, add_person, make_competition, make_remade, touch

from core.cli import UserError
from storage.layouts import detect_layout, parse_person, scan


@pytest.fixture
def competition(tmp_path: Path) -> Path:
    return make_competition(tmp_path)


@pytest.fixture
def remade(tmp_path: Path) -> Path:
    return make_remade(tmp_path)


def test_competition(competition: Path) -> None:
    dataset = scan(competition)
    assert dataset.layout == "competition"
    assert [photo.image_id for photo in dataset.of_split("eval")] == ["b.jpg", "a.jpg"]
    train = dataset.of_split("train")
    assert [photo.person for photo in train] == [ANNA] * 7 + [BORIS] * 7
    by_name = {Path(photo.path).stem: photo for photo in train if photo.person == BORIS}
    assert by_name["mask3"].path == f"train/images/{BORIS}/mask3.jpg"
    assert by_name["mask3"].image_id == f"{BORIS}/mask3.jpg"
    assert by_name["mask3"].facts == {"gender": "male", "race": "Asian", "age": "23", "mask": "wear"}
    assert {stem: photo.facts["mask"] for stem, photo in by_name.items()} == {
        **dict.fromkeys(STEMS[:5], "wear"), "incorrect_mask": "incorrect", "normal": "not_wear"
    }  # fmt: skip


def test_remade(remade: Path) -> None:
    dataset = scan(remade)
    assert dataset.layout == "remade"
    assert len(dataset.of_split("train")) == 14
    assert dataset.of_split("train")[0].facts == {"gender": "female", "race": "Asian", "age": "31", "mask": "incorrect"}
    assert [photo.image_id for photo in dataset.of_split("eval")] == [
        "000007_male_White_40_mask3.jpg", "000008_Female_Black_24_incorrect_mask.PNG", "9_male_x_39_Normal.jpeg"
    ]  # fmt: skip


def test_upper_case_names_are_read(remade: Path) -> None:
    folder = remade / "images" / "train" / ANNA
    expected = {photo.facts["mask"] for photo in scan(remade).of_split("train") if photo.person == ANNA}
    for path in list(folder.iterdir()):
        path.rename(folder / f"{path.stem.upper()}.JPG")
    photos = [photo for photo in scan(remade).of_split("train") if photo.person == ANNA]
    assert len(photos) == len(STEMS)
    assert {photo.facts["mask"] for photo in photos} == expected
    touch(folder / "mask1.jpg")
    with pytest.raises(UserError, match="one photo per stem"):
        scan(remade)


def test_a_layout_without_photos_names_the_files_it_found(tmp_path: Path) -> None:
    touch(tmp_path / "images" / "train" / ANNA / "selfie.jpg")
    with pytest.raises(UserError, match=r"no photos in the remade layout .*; other files: .*selfie\.jpg"):
        scan(tmp_path)


def test_photos(tmp_path: Path) -> None:
    for name in ("z.jpg", "deep/er/a.PNG", "deep/b.jpeg", "notes.txt", ".hidden.jpg", ".git/c.jpg"):
        touch(tmp_path / name)
    dataset = scan(tmp_path)
    assert dataset.layout == "photos"
    assert [photo.path for photo in dataset.photos] == ["z.jpg", "deep/b.jpeg", "deep/er/a.PNG"]
    assert {photo.split for photo in dataset.photos} == {"eval"}
    assert dataset.ignored == (".hidden.jpg", "notes.txt")


def test_the_layout_is_found_or_forced(competition: Path) -> None:
    assert detect_layout(competition) == "competition"
    assert len(scan(competition, "photos").of_split("eval")) == 16
    with pytest.raises(UserError, match=r"'imagenet' is unknown; the layouts are competition, remade, table, photos$"):
        scan(competition, "imagenet")
    with pytest.raises(UserError, match="no photos in the remade layout"):
        scan(competition, "remade")


def test_endings_in_any_case_and_foreign_files_counted(competition: Path) -> None:
    person = competition / "train" / "images" / ANNA
    (person / "mask1.jpg").rename(person / "mask1.JPG")
    (person / "mask2.jpg").rename(person / "mask2.JpEg")
    for name in ("._mask1.jpg", "Thumbs.db", "mask9.jpg"):
        touch(person / name)
    touch(competition / "train" / "images" / "readme.txt")
    touch(competition / "eval" / "images" / ".DS_Store")
    (competition / "eval" / "images" / "folder.jpg").mkdir()
    dataset = scan(competition)
    assert len(dataset.of_split("train")) == 14
    assert f"{ANNA}/mask1.JPG" in {photo.image_id for photo in dataset.photos}
    assert sorted(Path(path).name for path in dataset.ignored) == sorted(
        ["._mask1.jpg", "Thumbs.db", "mask9.jpg", "readme.txt", ".DS_Store", "folder.jpg"]
    )


@pytest.mark.parametrize("name", ["000001", "1_other_Asian_31", "1_male_Asian_old", "1_male__31", "1_male_Asian_1000"])
def test_folder_name_that_does_not_parse(competition: Path, name: str) -> None:
    (competition / "train" / "train.csv").unlink()
    add_person(competition / "train" / "images" / name)
    with pytest.raises(UserError, match=f"{name}: name is not id_gender_race_age"):
        scan(competition)


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        (ANNA, {"gender": "female", "race": "Asian", "age": "31"}),
        (BORIS, {"gender": "male", "race": "Asian", "age": "23"}),
        ("a_b_c_MALE_South-East Asian_7", {"gender": "male", "race": "South-East Asian", "age": "7"}),
        ("1_Female_x_007", {"gender": "female", "race": "x", "age": "7"}),
        ("1_male_South_Asian_7", None),
        ("_male_x_7", None),
    ],
)
def test_names_of_people(name: str, facts: dict[str, str] | None) -> None:
    assert parse_person(name) == facts


def test_ids_with_a_suffix_and_ids_that_stand_twice_are_different_people(remade: Path) -> None:
    for person in ("001498_female_Asian_23", "001498_female_Asian_44"):
        add_person(remade / "images" / "train" / person)
    people = {photo.person for photo in scan(remade).of_split("train")}
    assert people == {ANNA, BORIS, "001498_female_Asian_23", "001498_female_Asian_44"}


@pytest.mark.parametrize("split", ["train", "eval"])
def test_empty_split(competition: Path, split: str) -> None:
    folder = competition / split / "images"
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(UserError, match=f"folder .*{split}.images: no p"):
        scan(competition)


def test_empty_person_and_same_stem_twice(remade: Path) -> None:
    empty = remade / "images" / "train" / "3_male_x_50"
    empty.mkdir()
    with pytest.raises(UserError, match="3_male_x_50: no photos in it"):
        scan(remade)
    add_person(empty)
    touch(empty / "normal.png")
    with pytest.raises(UserError, match=r"3_male_x_50: both normal\.\w+ and normal\.\w+ are there; one photo per stem"):
        scan(remade)


def test_data_folder_that_is_missing_empty_or_a_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such folder"):
        scan(tmp_path / "nowhere")
    with pytest.raises(UserError, match="file: not a folder"):
        scan(touch(tmp_path / "file"))
    with pytest.raises(UserError, match=r"no photos in the photos layout \(endings \.jpg, .*\.heif\)"):
        scan(tmp_path)


@pytest.mark.parametrize("name", ["photo.jpg", "1_male_x_30_scarf.jpg", "1_male_x_30.jpg"])
def test_remade_eval_name_that_does_not_parse(remade: Path, name: str) -> None:
    touch(remade / "images" / "eval" / name)
    with pytest.raises(UserError, match=f"{name}: expected id_gender_race_age_masktype"):
        scan(remade)


def test_hangul_names_composed_or_not_are_the_same(competition: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "홍길동") for form in ("NFC", "NFD"))
    add_person(competition / "train" / "images" / f"{apart}_male_Asian_30")
    touch(competition / "train" / "train.csv", f"{HEADER}{ROWS}5,male,Asian,30,{composed}_male_Asian_30\n")
    touch(competition / "eval" / "images" / f"{apart}.jpg")
    touch(competition / "eval" / "info.csv", f"ImageID,ans\nb.jpg,0\n{composed}.jpg,0\na.jpg,0\n")
    dataset = scan(competition)
    assert f"{composed}_male_Asian_30" in {photo.person for photo in dataset.photos}
    eval_photo = dataset.of_split("eval")[1]
    assert eval_photo.image_id == f"{composed}.jpg"
    assert all((competition / photo.path).exists() for photo in dataset.photos)


def test_two_eval_photos_whose_names_look_the_same_are_refused(competition: Path) -> None:
    for form in ("NFC", "NFD"):
        touch(competition / "eval" / "images" / unicodedata.normalize(form, "가.jpg"))
    (competition / "eval" / "info.csv").unlink()
    with pytest.raises(UserError, match="two photos whose names look the same"):
        scan(competition)


@pytest.mark.parametrize("layout", ["competition", "remade"])
def test_the_order_of_the_listing_changes_nothing(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    root = request.getfixturevalue(layout)
    touch(root / "extra.txt")
    before, before_loose = scan(root), scan(root, "photos")
    listed = os.scandir

    class Backwards:
        """os.scandir in the reverse order of names."""

        def __init__(self, path: str | Path = ".") -> None:
            self._entries = iter(sorted(listed(path), key=lambda entry: entry.name, reverse=True))

        def __iter__(self) -> Iterator[os.DirEntry]:
            return self

        def __next__(self) -> os.DirEntry:
            return next(self._entries)

        def __enter__(self) -> Iterator[os.DirEntry]:
            return self

        def __exit__(self, *_: object) -> None:
            """Nothing is open."""

    monkeypatch.setattr(os, "scandir", Backwards)
    assert next(os.scandir(root)).name == max(path.name for path in root.iterdir())
    after = scan(root)
    assert after == before
    assert after.listing_hash == before.listing_hash
    assert sorted(map(repr, scan(root, "photos").photos)) == sorted(map(repr, before_loose.photos))


def test_the_hash_sees_added_renamed_and_relabelled_photos(remade: Path) -> None:
    hashes = [scan(remade).listing_hash]
    added = touch(remade / "images" / "eval" / "10_male_x_30_normal.jpg")
    hashes.append(scan(remade).listing_hash)
    added.rename(added.with_name("11_male_x_30_normal.jpg"))
    hashes.append(scan(remade).listing_hash)
    (remade / "images" / "train" / ANNA).rename(remade / "images" / "train" / ANNA.replace("31", "32"))
    hashes.append(scan(remade).listing_hash)
    assert len(set(hashes)) == 4


def test_photos_of_every_ending_and_those_that_lie_elsewhere(tmp_path: Path) -> None:
    root = make_competition(tmp_path)
    (root / "eval" / "images" / "a.jpg").rename(root / "eval" / "images" / "a.HEIC")
    (root / "eval" / "info.csv").unlink()
    normal = next((root / "train" / "images").glob("*/normal.*"))
    normal.rename(normal.with_name("NORMAL.WebP"))
    touch(root / "train" / "more" / "normal.jpg")
    touch(root / "eval" / "alone.png")
    dataset = scan(root)
    assert {"a.HEIC", f"{normal.parent.name}/NORMAL.WebP"} <= {photo.image_id for photo in dataset.photos}
    assert {"train/more/normal.jpg", "eval/alone.png"} <= set(dataset.ignored)
