"""Joining with a table: labels that are known are kept, people stay apart, and shared faces and pictures are found."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from layout_toys import ANNA, BORIS, STEMS, make_competition, make_remade, touch
from picture_toys import scene
from toy_data import refusal, snapshot

from core.files import read_json
from core.images import read_photo, write_photo
from core.near_duplicates import image_hash
from storage.eval_labels import eval_facts
from storage.layouts import Photo, scan
from storage.sources import MEASURES, SourceFace, of_same_source, read_sources, shared_faces
from tools import join

TABLE = (
    "path,person,split,mask,sex,photographer\nx/1.jpg,anna,,with_mask,,me\nx/2.jpg,,,,,\nx/3.jpg,,test,none worn,f,\n"
)


def run(*words: object) -> None:
    join.main([str(word) for word in words])


def make_table(root: Path, text: str = TABLE.replace("none worn", "no mask")) -> Path:
    for number in (1, 2, 3):
        touch(root / "x" / f"{number}.jpg", f"{root.name} {number}")
    touch(root / "photos.csv", text)
    return root


def make_people(root: Path, *pictures: int, source: str | None = None) -> Path:
    """A remade root of one-photo people with a picture each, and its manifest if they have a source."""
    rows = []
    for number in pictures:
        path = f"images/train/{number:06d}_female_Asian_31/normal.jpg"
        write_photo(root / path, scene(number))
        rows.append((path, f"{number}.jpg", image_hash(scene(number + 500)), *[f"{number}.5"] * len(MEASURES)))
    if source:
        columns = ["path", "source", "source_hash", *MEASURES]
        pd.DataFrame(rows, columns=columns).drop(columns=[] if source == "new" else "source_hash").to_csv(
            root / "manifest.csv", index=False
        )
    return root


@pytest.fixture
def people(tmp_path: Path) -> Path:
    return make_remade(tmp_path / "people")


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    return make_table(tmp_path / "masks")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "joined"


def test_one_table_makes_all_a_table(people: Path, masks: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(people, masks)
    run(people, masks, "--out", out, "--eval", people)
    assert f"{masks}: its 1 eval photos are not taken\n" in capsys.readouterr().out
    joined = scan(out)
    assert joined.layout == "table"
    photos = {photo.path: photo for photo in joined.photos}
    assert len(photos) == 2 * len(STEMS) + 2 + 3
    assert photos[f"a/images/train/{ANNA}/mask2.jpg"] == Photo(
        f"a/images/train/{ANNA}/mask2.jpg", "train", f"a-{ANNA}", f"a/images/train/{ANNA}/mask2.jpg",
        {"mask": "wear", "gender": "female", "age": "31", "race": "Asian", "photographer": ""},
    )  # fmt: skip
    unknown = {"mask": "", "gender": "", "age": "", "race": "", "photographer": ""}
    assert photos["b/x/1.jpg"].person == "b-anna"
    assert photos["b/x/1.jpg"].facts == unknown | {"mask": "wear", "photographer": "me"}
    assert (photos["b/x/2.jpg"].person, photos["b/x/2.jpg"].facts) == ("b/x/2.jpg", unknown)
    eval_photo = photos["a/images/eval/000008_Female_Black_24_incorrect_mask.PNG"]
    assert (eval_photo.split, eval_photo.person, eval_photo.facts) == (
        "eval",
        "a-000008_Female_Black_24_incorrect_mask",
        {},
    )
    facts = eval_facts(joined)[eval_photo.image_id]
    assert facts == unknown | {"mask": "incorrect", "gender": "female", "age": "24", "race": "Black"}
    assert (out / "b" / "x" / "1.jpg").samefile(masks / "x" / "1.jpg")
    assert snapshot(people, masks) == before


def test_eval_labels_of_any_layout_are_kept(tmp_path: Path, masks: Path, out: Path) -> None:
    listed = make_competition(tmp_path / "listed")
    touch(listed / "truth.csv", "ImageID,ans,glasses\nb.jpg,10,yes\na.jpg,0,no\n")
    run(listed, masks, "--out", out, "--eval", listed, "--names", "L", "M")
    facts = eval_facts(scan(out))
    labels = {"mask": "incorrect", "gender": "female", "age": "middle", "race": "", "photographer": ""}
    assert facts["L/eval/images/b.jpg"] == labels | {"glasses": "yes"}
    run(listed, masks, "--out", out.with_name("other"), "--eval", masks)
    assert eval_facts(scan(out.with_name("other")))["b/x/3.jpg"]["gender"] == "female"


def test_table_files_and_class_folders_are_joined(tmp_path: Path, people: Path, out: Path) -> None:
    for name in ("WithMask/1.jpg", "WithoutMask/2.jpg"):
        touch(tmp_path / "folders" / name)
    other = make_table(tmp_path / "other")
    (other / "photos.csv").rename(other / "my labels.csv")
    run(people, tmp_path / "folders", other / "my labels.csv", "--out", out, "--no-eval")
    photos = {photo.path: photo.facts["mask"] for photo in scan(out).photos}
    assert (photos["b/WithMask/1.jpg"], photos["b/WithoutMask/2.jpg"]) == ("wear", "not_wear")
    assert photos["c/x/1.jpg"] == "wear"
    assert read_json(out / "join.json")["roots"][2] == str(other / "my labels.csv")


def test_a_changed_eval_label_is_noticed(masks: Path, people: Path, out: Path) -> None:
    run(people, masks, "--out", out, "--eval", masks)
    run(people, masks, "--out", out, "--eval", masks)
    make_table(masks, TABLE.replace("none worn", "incorrect"))
    refusal(join.main, [people, masks, "--out", out, "--eval", masks], "table", untouched=[out])


def test_what_a_table_cannot_have(masks: Path, tmp_path: Path, people: Path, out: Path) -> None:
    refusal(join.main, [people, masks, "--out", out, "--no-eval", "--names", "a", "Train"], "'Train'", "another layout")
    refusal(join.main, [people, masks, "--out", out], "all have eval photos")
    refusal(join.main, [masks / "photos.csv", masks, "--out", out], "given twice, also as")
    refusal(join.main, [people, masks, "--out", masks / "joined"], "is inside the data set")
    only_eval = make_table(tmp_path / "only_eval", "path,split\nx/1.jpg,eval\n")
    refusal(join.main, [people, only_eval, "--out", out], "no people to train on")
    assert not out.exists()


def test_a_column_of_train_csv_that_would_be_read_as_another_is_left_out(
    tmp_path: Path, masks: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = make_competition(tmp_path / "listed")
    rows = f"000001,female,Asian,31,{ANNA},m,no\n001498-1,male,Asian,23,{BORIS},f,yes\n"
    touch(listed / "train" / "train.csv", "id,gender,race,age,path,sex,glasses\n" + rows)
    run(listed, masks, "--out", out, "--no-eval")
    assert "columns that mean something else: sex\n" in capsys.readouterr().out
    facts = {photo.path: photo.facts for photo in scan(out).photos}
    assert facts[f"a/train/images/{ANNA}/mask1.jpg"]["glasses"] == "no"


@pytest.mark.parametrize("source", ["new", "old"])
def test_sets_built_from_the_same_faces_are_refused(
    tmp_path: Path, out: Path, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    one = make_people(tmp_path / "one", 1, 2, 3, source=source)
    other = make_people(tmp_path / "other", 3, 4, source="new")
    # The same face in another picture, as another seed draws it.
    write_photo(other / "images/train/000003_female_Asian_31/normal.jpg", scene(99))
    path = "images/train/{}-000003_female_Asian_31/normal.jpg"
    words = f"1 group of photos made from the same source faces ({path.format('a')} = {path.format('b')})"
    refusal(join.main, [one, other, "--out", out], words, "0 in train and eval", "--allow-shared")
    assert not out.exists() and not out.with_name("joined.unfinished").exists()
    run(one, other, "--out", out, "--allow-shared")
    assert "warning: the data sets share 1 group" in capsys.readouterr().out
    assert words in read_json(out / "join.json")["shared"]
    assert set(read_sources(out)) == {photo.path for photo in scan(out).photos}
    assert shared_faces(out, scan(out).photos).startswith("2 people share source faces (1, 0 of them in train")


@pytest.mark.parametrize("change", ["same", "smaller"])
def test_the_same_picture_in_two_sets_is_refused(tmp_path: Path, out: Path, change: str) -> None:
    one, other = make_people(tmp_path / "one", 1, 2), make_people(tmp_path / "other", 3)
    shared = one / "images" / "train" / "000002_female_Asian_31" / "normal.jpg"
    target = other / "x.jpg"
    if change == "same":
        shutil.copy(shared, target)
    else:
        write_photo(target, read_photo(shared)[::2, ::-2], quality=80)
    touch(other / "photos.csv", "path,split\nimages/train/000003_female_Asian_31/normal.jpg,train\nx.jpg,eval\n")
    words = "1 group of photos that show the same picture (a/images/train/000002_female_Asian_31/normal.jpg = b/x.jpg)"
    refusal(join.main, [one, other / "photos.csv", "--out", out], words, "1 in train and eval at once")
    run(one, other / "photos.csv", "--out", out, "--no-eval")
    run(one, other / "photos.csv", "--out", out.with_name("both"), "--allow-shared")
    assert words in shared_faces(out.with_name("both"), scan(out.with_name("both")).photos)


def test_sources_are_told_by_hash_or_by_measures(tmp_path: Path) -> None:
    assert read_sources(tmp_path) == {}
    touch(tmp_path / "manifest.csv", "name,size\na,1\n")
    assert read_sources(tmp_path) == {}
    touch(tmp_path / "manifest.csv", "path,source,source_hash\na.jpg,1.jpg,not a hash\n")
    assert read_sources(tmp_path) == {"a.jpg": SourceFace("1.jpg", "", "1.jpg")}
    close = "0" * 63
    sources = {
        "a": SourceFace("1", close + "0", "m1"),
        "b": SourceFace("2", close + "f", "m2"),
        "c": SourceFace("3", "f" * 64, "m3"),
        "d": SourceFace("3", "", "m3"),
        "e": SourceFace("4", "", "m4"),
    }
    photos = [Photo(name, "train", name, name) for name in "abcdef"]
    found = of_same_source(photos, sources)
    assert [[photo.path for photo in group] for group in found] == [["a", "b"], ["c", "d"]]
