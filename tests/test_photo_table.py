"""The layout `table`: a table of photos or class folders becomes photos with the facts that are known."""

from pathlib import Path

import pytest
from layout_toys import touch

from core.cli import UserError
from storage.eval_labels import find_eval_labels
from storage.layouts import Dataset, detect_layout, scan
from storage.run_dir import Run

PHOTOS = ("a.jpg", "b.jpg", "c.jpg")


def make_table(root: Path, text: str, *, photos: tuple[str, ...] = PHOTOS, name: str = "photos.csv",
               encoding: str = "utf-8") -> Path:  # fmt: skip
    for photo in photos:
        touch(root / photo)
    (root / name).write_bytes(text.encode(encoding))
    return root


def run_of(dataset: Dataset) -> Run:
    return Run(str(dataset.source), dataset.layout, "crops", "", folds=2, fold_seed=0, age_edges=(25, 40))


def test_all_columns(tmp_path: Path) -> None:
    make_table(
        tmp_path,
        "path,person,split,mask,gender,age,glasses\n"
        "a.jpg,anna,,with_mask,F,31.5,yes\n"
        "b.jpg,anna,train,,female,30대,no\n"
        "c.jpg,boris,eval,without mask,male,young,\n",
    )
    dataset = scan(tmp_path)
    assert dataset.layout == "table"
    rows = [(photo.image_id, photo.split, photo.person, photo.path, photo.facts) for photo in dataset.photos]
    assert rows == [
        ("a.jpg", "train", "anna", "a.jpg", {"mask": "wear", "gender": "female", "age": "31", "glasses": "yes"}),
        ("b.jpg", "train", "anna", "b.jpg", {"mask": "", "gender": "female", "age": "30-39", "glasses": "no"}),
        ("c.jpg", "eval", "boris", "c.jpg", {}),
    ]
    assert dataset.notes == (
        "photos.csv: UTF-8, commas, 3 rows, columns path, person, split, mask, gender, age, glasses",
    )


def test_a_path_is_enough_and_each_photo_is_a_person(tmp_path: Path) -> None:
    make_table(tmp_path, "File\nsub/a.jpg\n", photos=("sub/a.jpg", "unused.png"))
    dataset = scan(tmp_path)
    assert [(photo.person, photo.split, photo.facts) for photo in dataset.photos] == [("sub/a.jpg", "train", {})]
    assert dataset.ignored == ("unused.png",)
    assert "columns File as path" in dataset.notes[0]


def test_korean_excel_csv_and_backslashes(tmp_path: Path) -> None:
    make_table(tmp_path, "파일;성별;나이\n사진\\가.jpg;여;60세 이상\n", photos=("사진/가.jpg",), encoding="cp949")
    dataset = scan(tmp_path)
    assert [(photo.path, photo.facts) for photo in dataset.photos] == [
        ("사진/가.jpg", {"gender": "female", "age": "60-120"})
    ]
    assert "cp949, semicolons" in dataset.notes[0]


def test_a_table_of_another_name_is_given_as_a_file(tmp_path: Path) -> None:
    make_table(tmp_path, "path,mask\na.jpg,wear\n", name="my labels.csv")
    assert detect_layout(tmp_path) == "photos"
    dataset = scan(tmp_path / "my labels.csv")
    assert (dataset.layout, dataset.root, dataset.source) == ("table", tmp_path, tmp_path / "my labels.csv")
    assert [photo.path for photo in dataset.photos] == ["a.jpg"]


def test_labels_of_eval_photos_are_read_for_scoring_alone(tmp_path: Path) -> None:
    make_table(tmp_path, "path,split,mask,gender,age\na.jpg,eval,wear,,30\nb.jpg,eval,,,\nc.jpg,train,wear,m,30\n")
    labels = find_eval_labels(None, run_of(scan(tmp_path)))
    assert labels.labels == {"a.jpg": {"mask": 0, "age": 1}, "b.jpg": {}}
    assert labels.facts["a.jpg"] == {"mask": "wear", "gender": "", "age": "30"}


def test_eval_photos_without_any_label(tmp_path: Path) -> None:
    make_table(tmp_path, "path,split\na.jpg,eval\n")
    assert find_eval_labels(None, run_of(scan(tmp_path))) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mask\nwear\n", "column path is missing; it has mask"),
        ("path,file\na.jpg,a.jpg\n", "columns 'path' and 'file' both mean path"),
        ("path,mask\na.jpg,maybe\n", "line 2: mask 'maybe'; allowed are wear: wear, worn, mask"),
        ("path,gender\na.jpg,m\nb.jpg,2\n", "line 3: gender '2'; allowed are male: male, m"),
        ("path,age\na.jpg,old man\n", "line 2: age 'old man'; allowed are years from 0 to 120"),
        ("path,split\na.jpg,later\n", "line 2: split 'later'; allowed are train"),
        ("path\n../a.jpg\n", "path '../a.jpg' leaves the data folder"),
        ("path\n/etc/passwd\n", "path '/etc/passwd' leaves the data folder"),
        ("path\nC:\\a.jpg\n", "leaves the data folder"),
        ("path\nnone.jpg\n", "line 2: path 'none.jpg': no such file"),
        ("path,mask\n,wear\n", "line 2: path is empty"),
        ("path\na.jpg\nb.jpg\na.jpg\n", "lines 2 and 4 name the same photo 'a.jpg'"),
        (
            "path,person,split\na.jpg,anna,train\nb.jpg,anna,eval\n",
            "person 'anna' has split train in line 2 and eval in",
        ),
        ("path,person,gender\na.jpg,anna,f\nb.jpg,anna,m\n", "person 'anna' has gender female in line 2 and male in"),
        ("path,mask\na.jpg,wear\x1b[31m\n", "line 2: cell 'wear\\x1b[31m' has control characters"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, words: str) -> None:
    make_table(tmp_path, text)
    with pytest.raises(UserError) as caught:
        scan(tmp_path)
    assert words in str(caught.value)
    assert "photos.csv" in str(caught.value)


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "secret.jpg")
    make_table(tmp_path / "data", "path\nlink.jpg\n", photos=("a.jpg",))
    (tmp_path / "data" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(UserError, match="leads out of the data folder"):
        scan(tmp_path / "data")


def test_faults_are_collected_and_the_other_rows_kept(tmp_path: Path) -> None:
    make_table(tmp_path, "path,mask\na.jpg,maybe\nb.jpg,wear\nc.jpg,worn\nc.jpg,worn\n")
    faults: list[str] = []
    dataset = scan(tmp_path, faults=faults)
    assert [photo.path for photo in dataset.photos] == ["b.jpg", "c.jpg"]
    assert len(faults) == 2


def test_two_tables_are_refused(tmp_path: Path) -> None:
    make_table(tmp_path, "path\na.jpg\n")
    touch(tmp_path / "photos.xlsx")
    with pytest.raises(UserError, match=r"both photos\.csv and photos\.xlsx"):
        scan(tmp_path)


@pytest.mark.parametrize(
    "names", [("wear", "incorrect", "not_wear"), ("with_mask", "mask_weared_incorrect", "without_mask")]
)
def test_class_folders(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        touch(tmp_path / name / f"{name}1.jpg")
    touch(tmp_path / names[0] / "more" / "2.png")
    touch(tmp_path / "readme.txt")
    dataset = scan(tmp_path)
    assert dataset.layout == "table"
    found = {photo.path: (photo.person, photo.split, photo.facts["mask"]) for photo in dataset.photos}
    assert found == {
        f"{names[1]}/{names[1]}1.jpg": (f"{names[1]}/{names[1]}1.jpg", "train", "incorrect"),
        f"{names[2]}/{names[2]}1.jpg": (f"{names[2]}/{names[2]}1.jpg", "train", "not_wear"),
        f"{names[0]}/{names[0]}1.jpg": (f"{names[0]}/{names[0]}1.jpg", "train", "wear"),
        f"{names[0]}/more/2.png": (f"{names[0]}/more/2.png", "train", "wear"),
    }
    assert dataset.ignored == ("readme.txt",)


def test_class_folders_in_splits(tmp_path: Path) -> None:
    for name in ("Train/WithMask/1.jpg", "Train/WithoutMask/2.jpg", "Test/WithMask/3.jpg", "Test/WithoutMask/4.jpg"):
        touch(tmp_path / name)
    dataset = scan(tmp_path)
    assert {photo.path: photo.split for photo in dataset.photos} == {
        **{"Train/WithMask/1.jpg": "train", "Train/WithoutMask/2.jpg": "train"},
        **{"Test/WithMask/3.jpg": "eval", "Test/WithoutMask/4.jpg": "eval"},
    }
    assert all(not photo.facts for photo in dataset.photos if photo.split == "eval")
    labels = find_eval_labels(None, run_of(dataset)).labels
    assert labels == {"Test/WithMask/3.jpg": {"mask": 0}, "Test/WithoutMask/4.jpg": {"mask": 2}}


def test_one_folder_named_like_a_class_is_no_class_folder_layout(tmp_path: Path) -> None:
    touch(tmp_path / "mask" / "a.jpg")
    assert scan(tmp_path).layout == "photos"
