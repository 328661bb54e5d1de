"""The store of decoded crops: what is in it, when it is made anew, and that it is never out of date."""

import os
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from core.cli import UserError
from core.images import write_photo
from storage import crop_cache
from storage.crop_cache import CropCache, Shown, crop_cache_path, open_crop_cache, shrink
from storage.crops import Crops, content_of

MakeCrops = Callable[[Sequence[dict[str, str]]], Crops]
SIZE = (16, 12)
SHOWN = Shown("face", SIZE)


@pytest.fixture
def crops(toy_crops: MakeCrops) -> Crops:
    """Three crops, the picture of each filled with its own grey; the rows are not in the order of their ids."""
    names = ("c", "a", "b")
    made = toy_crops([{"image_id": name, "path": f"{name}.png", "split": "train"} for name in names])
    for level, name in enumerate(sorted(names)):
        write_photo(made.crop_dir / f"{name}.png", np.full((32, 24, 3), level, np.uint8))
    made.frame["content"] = [content_of(path) for path in made.paths]
    return made


def images_of(store: CropCache, image_ids: Sequence[str]) -> list[np.ndarray]:
    return [store.image(row) for row in store.rows(image_ids)]


def test_pictures_are_found_by_id(crops: Crops) -> None:
    images = images_of(open_crop_cache(crops, SHOWN), ["b", "c", "a"])
    assert {(image.shape, image.dtype.name) for image in images} == {((*SIZE, 3), "uint8")}
    assert [int(image.max()) for image in images] == [1, 2, 0]


def test_a_part_of_the_crops_shares_the_cache_of_all(crops: Crops) -> None:
    whole = open_crop_cache(crops, SHOWN).path
    assert open_crop_cache(crops.take([1]), SHOWN).path == whole
    assert open_crop_cache(crops.take([0, 1]).take([1]), SHOWN).image_ids == ["a", "b", "c"]


@pytest.mark.parametrize("fault", ["cut short", "longer", "rotten", "header", "empty", "as numpy writes it"])
def test_a_damaged_cache_is_made_anew(crops: Crops, fault: str, capsys: pytest.CaptureFixture) -> None:
    path = open_crop_cache(crops, SHOWN).path
    whole = path.read_bytes()
    contents = {"cut short": whole[:-1000], "longer": whole + b"x", "header": b"x" + whole[1:], "empty": b""}
    contents["rotten"] = whole[:200] + bytes([whole[200] ^ 1]) + whole[201:]
    if fault == "as numpy writes it":
        np.save(path, np.load(path))
    else:
        path.write_bytes(contents[fault])
    assert images_of(open_crop_cache(crops, SHOWN), ["c"])[0].max() == 2
    assert path.read_bytes() == whole
    assert f"{path}: damaged" in capsys.readouterr().out


def test_a_cache_cut_short_while_in_use_is_named(crops: Crops) -> None:
    store = open_crop_cache(crops, SHOWN)
    os.truncate(store.path, 500)
    with pytest.raises(UserError, match="cut short while it was read"):
        store.image(2)


def test_a_store_is_made_once(crops: Crops, monkeypatch: pytest.MonkeyPatch) -> None:
    open_crop_cache(crops, SHOWN)
    monkeypatch.setattr(crop_cache, "read_photo", None)
    assert open_crop_cache(crops.take([2, 0, 1]), SHOWN).rows(["a", "b"]) == [0, 1]


def test_a_crop_that_looks_otherwise_makes_another_store_and_removes_the_old(crops: Crops) -> None:
    old = open_crop_cache(crops, SHOWN).path
    other_size = open_crop_cache(crops, Shown("face", (8, 6))).path
    write_photo(crops.paths[0], np.full((32, 24, 3), 9, np.uint8))
    crops.frame.loc[0, "content"] = content_of(crops.paths[0])
    new = open_crop_cache(crops, SHOWN).path
    assert {old.exists(), new.exists(), other_size.exists()} == {False, True}
    assert sorted(path.name for path in new.parent.iterdir()) == sorted([new.name, other_size.name])


def test_a_crop_that_was_changed_by_hand_is_refused(crops: Crops) -> None:
    open_crop_cache(crops, SHOWN)
    crops.refuse_changed()
    write_photo(crops.crop_dir / "a.png", np.full((30, 24, 3), 77, np.uint8))
    with pytest.raises(UserError, match=r"crop a\.png changed since it was written"):
        crops.refuse_changed()
    with pytest.raises(UserError, match=r"crop .*a\.png changed since it was written.*remove it and run"):
        open_crop_cache(crops, SHOWN)


def test_a_crop_that_is_gone_is_named(crops: Crops) -> None:
    (crops.crop_dir / "b.png").unlink()
    with pytest.raises(UserError, match=r"crop .*b\.png: No such file.*; run preprocessing/crop_faces\.py again"):
        open_crop_cache(crops, SHOWN)


def test_the_name_says_split_and_size(crops: Crops) -> None:
    path = crop_cache_path(crops, SHOWN)
    assert path.parent == crops.crop_dir / "pixels"
    assert path.name.startswith("train-")
    assert path.name.endswith("-16x12.npy")


def test_only_the_name_travels_to_loader_processes(crops: Crops) -> None:
    store = open_crop_cache(crops, SHOWN)
    sent = pickle.dumps(store)
    assert len(sent) < 1000
    assert np.array_equal(pickle.loads(sent).image(1), store.image(1))


def test_a_crop_that_cannot_be_read_is_named_and_leaves_nothing(crops: Crops) -> None:
    (crops.crop_dir / "b.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"crop .*b\.png: empty file; run preprocessing/crop_faces\.py again"):
        open_crop_cache(crops, SHOWN)
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
    open_crop_cache(crops, SHOWN)
    assert {path.parent.name for path in set(tmp_path.rglob("*")) - before if path.is_file()} == {"pixels"}
