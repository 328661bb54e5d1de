"""The crop folder: which rows are read, what its hash sees, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from core.cli import UserError
from core.files import write_csv, write_json
from core.tasks import UNKNOWN, task_named
from storage.crops import (
    FACE_COLUMNS,
    Crops,
    crops_path,
    faces_path,
    load_crops,
    read_crops,
    refuse_other_data,
    source_path,
)
from storage.layouts import Dataset

ToyCrops = Callable[..., Crops]
PHOTOS = (
    ("p2/normal.jpg", "train", "detected", "7"),
    ("p1/normal.jpg", "train", "fallback", "8"),
    ("p1/mask1.jpg", "train", "missing", None),
    ("z.jpg", "eval", "manual", "9"),
    ("a.jpg", "eval", "detected", "10"),
)


@pytest.fixture
def crop_dir(tmp_path: Path) -> Path:
    """A crop folder of five photos, one of them unreadable."""
    blank = dict.fromkeys(FACE_COLUMNS, "")
    faces = [blank | {"image_id": name, "split": split, "status": status} for name, split, status, _ in PHOTOS]
    write_csv(faces_path(tmp_path), pd.DataFrame(faces))
    # In another order than the faces: rows belong together by id alone.
    crops = [
        {"image_id": name, "key": key, "content": "c", "x": "of the cropper"}
        for name, _, _, key in reversed(PHOTOS)
        if key
    ]
    write_csv(crops_path(tmp_path), pd.DataFrame(crops))
    write_json(source_path(tmp_path), {"data_root": "/data", "layout": "competition", "crop": {"size": 8}})
    return tmp_path


def test_rows_of_a_split_in_the_order_of_faces(crop_dir: Path) -> None:
    train, test = load_crops(crop_dir, "train"), load_crops(crop_dir, "eval")
    assert train.image_ids == ["p2/normal.jpg", "p1/normal.jpg"]
    assert train.missing == ("p1/mask1.jpg",)
    assert list(train.frame["key"]) == ["7", "8"]
    assert (test.image_ids, test.missing) == (["z.jpg", "a.jpg"], ())
    assert list(test.frame["key"]) == ["9", "10"]
    assert test.source["crop"] == {"size": 8}


def test_steps_that_have_not_run(tmp_path: Path, crop_dir: Path) -> None:
    with pytest.raises(UserError, match=r"no faces\.csv in it; run preprocessing/detect_faces\.py first"):
        load_crops(tmp_path / "new", "train")
    write_json(source_path(crop_dir), {"data_root": "/data", "layout": "competition"})
    with pytest.raises(UserError, match=r"nothing cropped yet; run preprocessing/crop_faces\.py first"):
        load_crops(crop_dir, "train")


def test_a_photo_that_is_not_cropped_yet(crop_dir: Path) -> None:
    crops = read_crops(crop_dir)
    write_csv(crops_path(crop_dir), crops[crops["image_id"] != "p2/normal.jpg"])
    with pytest.raises(UserError, match=r"p2/normal\.jpg not cropped; run preprocessing/crop_faces\.py"):
        load_crops(crop_dir, "train")
    assert load_crops(crop_dir, "eval").image_ids == ["z.jpg", "a.jpg"]
    crops_path(crop_dir).unlink()
    assert list(read_crops(crop_dir).columns) == ["image_id", "key", "content"]


def test_a_photo_that_stands_twice(crop_dir: Path) -> None:
    frame = pd.read_csv(faces_path(crop_dir))
    write_csv(faces_path(crop_dir), pd.concat([frame, frame.iloc[:1]]))
    with pytest.raises(UserError, match=r"faces\.csv: image_id 'p2/normal\.jpg' stands in more than one row"):
        load_crops(crop_dir, "train")


def test_another_data_root(crop_dir: Path, tmp_path: Path) -> None:
    other = Dataset(tmp_path / "other", "photos", (), (), tmp_path / "other")
    with pytest.raises(UserError, match=r"was made from /data, not from .*other; give another --crop-dir"):
        refuse_other_data(crop_dir, other)
    refuse_other_data(tmp_path / "new", other)
    write_json(source_path(crop_dir), {"data_root": str((tmp_path / "other").resolve())})
    refuse_other_data(crop_dir, other)


def rows() -> list[dict[str, str]]:
    return [
        {"image_id": f"{n}.jpg", "person": f"p{n}", "path": f"t/{n}.jpg", "key": str(n), "age": "30"} for n in "abc"
    ]


def test_the_hash_sees_what_is_learned_from_and_not_the_order(toy_crops: ToyCrops) -> None:
    first = toy_crops(rows()).hash
    assert toy_crops(rows()[::-1]).hash == first
    assert (
        toy_crops(
            [{**row, "score": "0.5", "reason": "x", "fingerprint": "1-2", "key": "9", "x1": "3"} for row in rows()]
        ).hash
        == first
    )
    changes = [{"content": "9"}, {"age": "31"}, {"person": "q"}, {"glasses": "yes"}, {"image_id": "d.jpg"}]
    others = {toy_crops([rows()[0] | change, *rows()[1:]]).hash for change in changes}
    assert len(others | {first}) == len(changes) + 1
    assert toy_crops(rows()[:2]).hash != first


def test_taking_rows(toy_crops: ToyCrops) -> None:
    crops = toy_crops(rows())
    assert crops.image_ids == ["a.jpg", "b.jpg", "c.jpg"]
    taken = crops.take([2, 0])
    assert taken.image_ids == ["c.jpg", "a.jpg"]
    assert taken.paths == [crops.crop_dir / "t/c.jpg", crops.crop_dir / "t/a.jpg"]
    assert taken.hash != crops.hash


def test_labels_and_facts_that_cannot_be_read(toy_crops: ToyCrops) -> None:
    crops = toy_crops([{**row, "age": age} for row, age in zip(rows(), ("24", "25", "40"), strict=True)])
    assert crops.labels(task_named("age"), (25, 40)) == [0, 1, 2]
    assert crops.labels(task_named("mask"), (25, 40)) == [UNKNOWN] * 3
    crops.frame.loc[0, "mask"] = "half"
    with pytest.raises(UserError, match=r"photo a\.jpg: no mask label can be read from its facts"):
        crops.labels(task_named("mask"), (25, 40))
