"""The store of decoded crops: what is in it, when it is made anew, and that it is never out of date."""

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from core.cli import UserError
from core.images import write_photo
from storage import crop_cache
from storage.crop_cache import crop_cache_path, open_crop_cache, shrink
from storage.crops import Crops

MakeCrops = Callable[[Sequence[dict[str, str]]], Crops]
SIZE = (16, 12)


@pytest.fixture
def crops(toy_crops: MakeCrops) -> Crops:
    """Three crops, the picture of each filled with its own grey; the rows are not in the order of their ids."""
    names = ("c", "a", "b")
    rows = [{"image_id": name, "path": f"{name}.png", "content": f"seen {name}", "split": "train"} for name in names]
    made = toy_crops(rows)
    for level, name in enumerate(sorted(names)):
        write_photo(made.crop_dir / f"{name}.png", np.full((32, 24, 3), level, np.uint8))
    return made


def test_pictures_are_found_by_id(crops: Crops) -> None:
    store = open_crop_cache(crops, SIZE)
    assert store.images.shape == (3, *SIZE, 3)
    assert store.images.dtype == np.uint8
    assert [int(store.images[row].max()) for row in store.rows(["b", "c", "a"])] == [1, 2, 0]
    assert not store.images.flags.writeable


def test_a_store_is_made_once(crops: Crops, monkeypatch: pytest.MonkeyPatch) -> None:
    open_crop_cache(crops, SIZE)
    monkeypatch.setattr(crop_cache, "read_photo", None)
    assert open_crop_cache(crops.take([2, 0, 1]), SIZE).rows(["a", "b"]) == [0, 1]


def test_a_crop_that_looks_otherwise_makes_another_store_and_removes_the_old(crops: Crops) -> None:
    old = open_crop_cache(crops, SIZE).path
    other_size = open_crop_cache(crops, (8, 6)).path
    crops.frame.loc[0, "content"] = "seen otherwise"
    new = open_crop_cache(crops, SIZE).path
    assert {old.exists(), new.exists(), other_size.exists()} == {False, True}
    assert sorted(path.name for path in new.parent.iterdir()) == sorted([new.name, other_size.name])


def test_a_crop_that_was_changed_by_hand_is_seen(crops: Crops) -> None:
    open_crop_cache(crops, SIZE)
    write_photo(crops.crop_dir / "a.png", np.full((30, 24, 3), 77, np.uint8))
    store = open_crop_cache(crops, SIZE)
    assert int(store.images[store.rows(["a"])[0]].min()) == 77


def test_a_crop_that_is_gone_is_named(crops: Crops) -> None:
    (crops.crop_dir / "b.png").unlink()
    with pytest.raises(UserError, match=r"crop .*b\.png: No such file.*; run preprocessing/crop_faces\.py again"):
        open_crop_cache(crops, SIZE)


def test_the_name_says_split_and_size(crops: Crops) -> None:
    path = crop_cache_path(crops, SIZE)
    assert path.parent == crops.crop_dir / "pixels"
    assert path.name.startswith("train-")
    assert path.name.endswith("-16x12.npy")


def test_only_the_name_travels_to_loader_processes(crops: Crops) -> None:
    store = open_crop_cache(crops, SIZE)
    assert store.images.size
    sent = pickle.dumps(store)
    assert len(sent) < 1000
    assert np.array_equal(pickle.loads(sent).images, store.images)


def test_a_crop_that_cannot_be_read_is_named_and_leaves_nothing(crops: Crops) -> None:
    (crops.crop_dir / "b.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"crop .*b\.png: empty file; run preprocessing/crop_faces\.py again"):
        open_crop_cache(crops, SIZE)
    assert list((crops.crop_dir / "pixels").iterdir()) == []


def test_shrinking_is_the_mean_of_what_a_pixel_covers() -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[:2, :2] = 100
    picture[0, 2] = 40
    assert shrink(picture, (2, 2))[..., 0].tolist() == [[100, 10], [0, 0]]
    assert shrink(picture, (4, 4)) is picture
    assert shrink(picture, (2, 4)).shape == (2, 4, 3)


def test_the_store_lies_in_the_crop_folder_and_nowhere_else(crops: Crops, tmp_path: Path) -> None:
    before = {path for path in tmp_path.rglob("*")}
    open_crop_cache(crops, SIZE)
    assert {path.parent.name for path in set(tmp_path.rglob("*")) - before if path.is_file()} == {"pixels"}
