"""What frozen backbones say of photos: the views, the files, what is computed again, and what a head is trained on."""

import os
import pickle
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_data import Toy

from core.cli import UserError
from core.images import read_photo, write_photo
from dataset import Draw, PersonSampler
from storage.array_file import write_rows
from storage.crop_cache import Shown
from storage.crops import Crops, content_of, load_crops
from training import checkpoints, feature_cache
from training.config import Config, resolve
from training.device import to_device
from training.feature_cache import (
    FeatureCache,
    FeatureDataset,
    Shard,
    Views,
    missing_shards,
    open_features,
    views_of,
)
from training.frozen_backbone import FrozenBackbone, freeze
from training.inputs import training_input

pytest_plugins = ("toy_fixtures",)

SETTINGS = {"backbone": "test_efficientnet_ln", "pretrained": False, "image_size": 32, "backbone_lr": 0.0}
WIDTH = 256
"""Features of test_efficientnet_ln, which are not as tiny as those of networks with untrained batch normalisation."""
PHOTOS = 24
TWO = Views(2, "standard")
SIZE = (32, 32)
SHOWN = Shown("face", SIZE)
MTIME = 10**18


def config_with(**settings: object) -> Config:
    return resolve("gender", "smoke", SETTINGS | settings)


def first_crops(crop_dir: Path) -> Crops:
    crops = load_crops(crop_dir, "train")
    return replace(crops, frame=crops.frame[:PHOTOS])


@pytest.fixture(scope="module")
def crops(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Crops:
    return first_crops(shutil.copytree(toy.crop_dir, tmp_path_factory.mktemp("features") / "crops"))


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> FrozenBackbone:
    return freeze(tmp_path_factory.mktemp("frozen"), config_with(), SHOWN)


@pytest.fixture(scope="module")
def store(crops: Crops, frozen: FrozenBackbone) -> FeatureCache:
    return open_features(crops, frozen, TWO, device="cpu")


@pytest.fixture
def few_photos_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_cache, "SHARD", 5)


@pytest.fixture
def own_crops(crops: Crops, tmp_path: Path) -> Crops:
    """The crops in a folder of which a test may change anything, without features."""
    ignore = shutil.ignore_patterns("features", "pixels")
    return first_crops(shutil.copytree(crops.crop_dir, tmp_path / "crops", ignore=ignore))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are computed, as they are."""
    names, make = [], Shard.make

    def record(self: Shard, *args: object) -> int:
        names.append(self.path.name)
        return make(self, *args)

    monkeypatch.setattr(Shard, "make", record)
    return names


@pytest.fixture
def counted_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FeatureCache:
    """Five photos "a" .. "e" in files of two, three views each, features that say (100 photo + 10 view + feature)."""
    monkeypatch.setattr(feature_cache, "SHARD", 2)
    values = np.add.outer(np.add.outer(100 * np.arange(5), 10 * np.arange(3)), np.arange(4)).astype(np.float16)
    for number in range(3):
        some = values[2 * number : 2 * number + 2]
        write_rows(tmp_path / f"{number:05}.npy", some, shape=some.shape, dtype=some.dtype)
    return FeatureCache([tmp_path], "abcde")


def folder_of(store: FeatureCache) -> Path:
    """Return the only folder of the features of one backbone."""
    (folder,) = store.folders
    return folder


def features_of(frozen: FrozenBackbone, pictures: np.ndarray) -> np.ndarray:
    """(N, F) float32 of pictures (N, H, W, 3), straight from the network."""
    with torch.inference_mode():
        return frozen.load().eval().features(to_device(torch.from_numpy(pictures.copy()), torch.device("cpu"), True))


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal but for the rounding to float16, and not because all is alike."""
    expected = np.asarray(expected, np.float32)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-3 * np.abs(expected).max())
    assert np.ptp(expected, axis=0).max() > 0.05 * np.abs(expected).max()


class TestBackbone:
    def test_it_is_kept_once_whatever_the_task(self, tmp_path: Path) -> None:
        first = freeze(tmp_path, config_with(), SHOWN)
        again = freeze(tmp_path, config_with(drop_rate=0.1, lr=0.5, augment="none"), SHOWN)
        assert first == again
        assert re.fullmatch(r"test_efficientnet_ln-[0-9a-f]{16}\.safetensors", first.weights.name)
        assert [path.name for path in (tmp_path / "backbones").iterdir()] == [first.weights.name]

    def test_other_weights_are_another_file(self, tmp_path: Path) -> None:
        names = {freeze(tmp_path, config_with(seed=seed), SHOWN).weights.name for seed in (0, 1)}
        assert {path.name for path in (tmp_path / "backbones").iterdir()} == names
        assert len(names) == 2

    def test_freezing_leaves_no_trace_of_what_was_drawn_before(self, frozen: FrozenBackbone, tmp_path: Path) -> None:
        torch.rand(7)
        assert freeze(tmp_path, config_with(), SHOWN).weights.read_bytes() == frozen.weights.read_bytes()

    def test_networks_given_one_file_s_tensors_share_their_memory(self, frozen: FrozenBackbone) -> None:
        tensors = checkpoints.read_backbone(frozen.weights)
        networks = [frozen.load().network for _ in range(2)]
        for network in networks:
            checkpoints.load_backbone(network, tensors, frozen.weights)
        one, other = (network.conv_stem.weight for network in networks)
        assert one.data_ptr() == other.data_ptr()
        assert one.is_contiguous(memory_format=torch.channels_last)


def face_of(crops: Crops, row: int) -> np.ndarray:
    """The window of a crop's face."""
    return SHOWN.of(read_photo(crops.paths[row]), crops.settings)


class TestViews:
    def test_plain_mirrored_and_random(self, crops: Crops) -> None:
        picture = face_of(crops, 0)
        plain, mirrored, *augmented = Views(3, "strong").of(picture, "a")
        assert np.array_equal(plain, picture)
        assert np.array_equal(mirrored, picture[:, ::-1])
        assert len({view.tobytes() for view in (plain, mirrored, *augmented)}) == 5
        assert {(view.shape, view.dtype) for view in augmented} == {(picture.shape, picture.dtype)}

    def test_the_random_ones_hang_on_the_name_alone(self, crops: Crops) -> None:
        picture, other = face_of(crops, 0), face_of(crops, 1)
        before = picture.copy()
        first = TWO.of(picture, "a")
        np.random.seed(5)
        TWO.of(other, "b")
        again, renamed = TWO.of(picture, "a"), TWO.of(picture, "b")
        assert all(map(np.array_equal, first, again))
        assert not any(map(np.array_equal, first[2:], renamed[2:]))
        assert np.array_equal(picture, before)

    def test_more_views_leave_the_first_as_they_are(self, crops: Crops) -> None:
        picture = face_of(crops, 0)
        assert all(map(np.array_equal, TWO.of(picture, "a"), Views(4, "standard").of(picture, "a")[:4]))

    def test_a_name_of_any_bytes(self) -> None:
        assert len(TWO.of(np.zeros((32, 32, 3), np.uint8), os.fsdecode(b"\xff\xfe photo"))) == 4

    @pytest.mark.parametrize(
        ("settings", "kept", "views"),
        [
            ({"augment": "none"}, Views(), 1),
            ({"augment": "none", "views": 7}, Views(), 1),
            ({"augment": "flip", "views": 7}, Views(), 2),
            ({"augment": "standard", "views": 2}, Views(2, "standard"), 4),
            ({"augment": "standard"}, Views(), 2),  # the smoke profile
            ({"augment": "strong", "views": 3}, Views(3, "strong"), 5),
        ],
    )
    def test_of_settings(self, settings: dict, kept: Views, views: int) -> None:
        config = config_with(**settings, backbone_lr=0.0)
        assert (views_of(config), training_input(config, SHOWN).views_per_epoch) == (kept, views)
        assert training_input(replace(config, backbone_lr=1.0), SHOWN).views_per_epoch == 1


class TestStore:
    def test_file_and_folder(self, store: FeatureCache, crops: Crops) -> None:
        assert folder_of(store).parent == crops.crop_dir / "features"
        assert re.fullmatch(r"train-[0-9a-f]{16}-32x32-[0-9a-f]{16}", folder_of(store).name)
        assert [path.name for path in folder_of(store).iterdir()] == ["00000.npy"]
        stored = np.load(folder_of(store) / "00000.npy")
        assert (stored.shape, stored.dtype) == ((PHOTOS, 4, WIDTH), np.float16)

    @pytest.mark.parametrize("view", range(4))
    def test_each_view_is_what_the_network_says_of_it(
        self, view: int, store: FeatureCache, crops: Crops, frozen: FrozenBackbone
    ) -> None:
        chosen = [17, 3, 20]
        ids = [crops.image_ids[row] for row in chosen]
        seen = np.stack([TWO.of(face_of(crops, row), crops.image_ids[row])[view] for row in chosen])
        found = np.stack([store.views(row)[view] for row in store.rows(ids)])
        assert_close(found, features_of(frozen, seen))

    def test_half_the_precision_changes_little(
        self, store: FeatureCache, own_crops: Crops, frozen: FrozenBackbone, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A CPU without bfloat16 says the same but for rounding."""
        found = {}
        for has_bfloat16 in (True, False):
            monkeypatch.setattr("training.device.cpu_has_bfloat16", lambda has=has_bfloat16: has)
            shutil.rmtree(own_crops.crop_dir / "features", ignore_errors=True)
            exact = open_features(own_crops, frozen, TWO, device="cpu")
            found[has_bfloat16] = np.stack([exact.views(row) for row in range(PHOTOS)]).astype(np.float32)
        error = np.linalg.norm(found[True] - found[False]) / np.linalg.norm(found[False])
        assert 0 < error < 0.03

    def test_views_and_photos_differ(self, store: FeatureCache) -> None:
        stored = np.load(folder_of(store) / "00000.npy")
        assert len({view.tobytes() for photo in stored[:, :2] for view in photo}) == PHOTOS * 2
        # By chance some step of none may act.
        assert len({view.tobytes() for photo in stored for view in photo}) > 0.9 * PHOTOS * 4

    def test_it_repeats_to_the_bit(self, store: FeatureCache, own_crops: Crops, frozen: FrozenBackbone) -> None:
        for path in own_crops.paths:
            os.utime(path, ns=(MTIME, MTIME))
        np.random.seed(3)
        again = open_features(own_crops, frozen, TWO, device="cpu")
        assert folder_of(again).name != folder_of(store).name
        assert np.array_equal(np.load(folder_of(again) / "00000.npy"), np.load(folder_of(store) / "00000.npy"))

    @pytest.mark.usefixtures("few_photos_a_file")
    def test_many_files_say_what_one_says(self, store: FeatureCache, own_crops: Crops, frozen: FrozenBackbone) -> None:
        many = open_features(own_crops, frozen, TWO, device="cpu")
        parts = [np.load(path) for path in sorted(folder_of(many).iterdir())]
        assert [len(part) for part in parts] == [5, 5, 5, 5, 4]
        assert_close(np.concatenate(parts), np.load(folder_of(store) / "00000.npy"))

    def test_rows_are_found_by_id_across_files(self, counted_store: FeatureCache) -> None:
        assert counted_store.rows(["d", "a", "e"]) == [3, 0, 4]
        assert [counted_store.views(row)[0, 0] for row in counted_store.rows("dae")] == [300, 0, 400]

    def test_batches(self, counted_store: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(feature_cache, "BATCH", 2)
        batches = list(counted_store.batches([4, 0, 2], (0, 1)))
        assert [batch.shape for batch in batches] == [(2, 2, 4), (2, 1, 4)]
        assert {batch.dtype for batch in batches} == {torch.float32}
        assert torch.cat(batches, dim=1)[..., 3].tolist() == [[403, 3, 203], [413, 13, 213]]

    def test_only_the_name_travels_to_other_processes(self, counted_store: FeatureCache) -> None:
        expected = counted_store.views(4)
        sent = pickle.dumps(counted_store)
        assert len(sent) < 1000
        assert np.array_equal(pickle.loads(sent).views(4), expected)


class TestDataset:
    def test_an_index_gives_the_photo_as_it_is(self, counted_store: FeatureCache) -> None:
        dataset = FeatureDataset(counted_store, [3, 1], views=3, targets=torch.tensor([1, 0]))
        values, target, index = dataset[0]
        assert (values.tolist(), values.dtype) == ([300, 301, 302, 303], torch.float32)
        assert (int(target), index, len(dataset)) == (1, 0, 2)
        assert FeatureDataset(counted_store, [3], view=1)[0][0].tolist() == [310, 311, 312, 313]

    def test_a_draw_s_seed_gives_the_view(self, counted_store: FeatureCache) -> None:
        dataset = FeatureDataset(counted_store, [3, 1], views=3)
        assert [int(dataset[Draw(1, seed)][0][0]) for seed in (0, 1, 2, 3, 10)] == [100, 110, 120, 100, 110]
        assert dataset[Draw(1, 5)][1:] == (0, 1)

    @pytest.mark.parametrize("views", [1, 2, 3])
    def test_an_epoch_shows_each_view_once(self, views: int, counted_store: FeatureCache) -> None:
        dataset = FeatureDataset(counted_store, range(5), views=views)
        sampler = PersonSampler("aabbc", [0] * 5, photos_per_person=0, seed=(0, 1), times=views)
        orders = set()
        for sampler.epoch in range(3):
            shown = [int(dataset[draw][0][0]) for draw in sampler]
            assert len(sampler) == len(shown)
            assert sorted(shown) == [100 * photo + 10 * view for photo in range(5) for view in range(views)]
            orders.add(tuple(shown))
        assert len(orders) == 3


@pytest.mark.usefixtures("few_photos_a_file")
class TestResume:
    def test_only_what_is_missing_is_computed(self, own_crops: Crops, frozen: FrozenBackbone, made: list[str]) -> None:
        folder = folder_of(open_features(own_crops, frozen, TWO, device="cpu"))
        assert made == [f"{number:05}.npy" for number in range(5)]
        for path in folder.iterdir():
            os.utime(path, ns=(MTIME, MTIME))
        before = (folder / "00002.npy").read_bytes()
        (folder / "00002.npy").unlink()
        made.clear()
        (shard,) = missing_shards(own_crops, frozen, TWO)
        assert (shard.first, list(shard.image_ids)) == (10, sorted(own_crops.image_ids)[10:15])
        open_features(own_crops, frozen, TWO, device="cpu")
        assert made == ["00002.npy"]
        assert (folder / "00002.npy").read_bytes() == before
        assert [path.name for path in folder.iterdir() if path.stat().st_mtime_ns != MTIME] == ["00002.npy"]
        made.clear()
        assert missing_shards(own_crops, frozen, TWO) == []
        open_features(own_crops, frozen, TWO, device="cpu")
        assert made == []

    def test_interrupted(self, own_crops: Crops, frozen: FrozenBackbone, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patched:
            write, written = feature_cache.write_rows, []

            def stop(path: Path, array: np.ndarray, **options: object) -> None:
                if len(written) == 2:
                    raise KeyboardInterrupt
                written.append(path)
                write(path, array, **options)

            patched.setattr(feature_cache, "write_rows", stop)
            with pytest.raises(KeyboardInterrupt):
                open_features(own_crops, frozen, TWO, device="cpu")
        assert sorted(written[0].parent.iterdir()) == written
        assert [shard.first for shard in missing_shards(own_crops, frozen, TWO)] == [10, 15, 20]

    def test_a_part_of_the_crops_is_found_in_the_order_asked_for(
        self, own_crops: Crops, frozen: FrozenBackbone, made: list[str]
    ) -> None:
        store = open_features(own_crops, frozen, Views(), device="cpu")
        ids = own_crops.image_ids
        assert store.rows(ids) == np.argsort(np.argsort(ids)).tolist()
        shuffled = own_crops.take(list(reversed(range(PHOTOS))))
        assert open_features(shuffled, frozen, Views(), device="cpu").rows(ids) == store.rows(ids)
        assert len(made) == 5


class TestFolders:
    """Which features are others', and which of them nobody will read again."""

    def open_all(self, crops: Crops, frozen: FrozenBackbone) -> dict[str, Path]:
        looks = {"plain": Views(), "two": TWO, "strong": Views(2, "strong")}
        return {name: folder_of(open_features(crops, frozen, each, device="cpu")) for name, each in looks.items()}

    def test_each_look_has_one_and_they_stay(self, own_crops: Crops, frozen: FrozenBackbone) -> None:
        folders = self.open_all(own_crops, frozen)
        assert len(set(folders.values())) == 3
        assert all(list(folder.iterdir()) for folder in folders.values())
        assert self.open_all(own_crops, frozen) == folders

    def test_changed_crops_make_another_and_remove_the_old(self, own_crops: Crops, frozen: FrozenBackbone) -> None:
        old = self.open_all(own_crops, frozen)
        held_out = folder_of(open_features(load_crops(own_crops.crop_dir, "eval"), frozen, Views(), device="cpu"))
        write_photo(own_crops.paths[0], 255 - read_photo(own_crops.paths[0]))
        own_crops.frame.loc[0, "content"] = content_of(own_crops.paths[0])
        store = open_features(own_crops, frozen, Views(), device="cpu")
        assert set((own_crops.crop_dir / "features").iterdir()) == {folder_of(store), held_out}
        assert folder_of(store) not in old.values()
        found = store.views(store.rows(own_crops.image_ids[:1])[0])[:2]
        pictures = np.stack([face_of(own_crops, 0), face_of(own_crops, 0)[:, ::-1]])
        np.testing.assert_allclose(found, features_of(frozen, pictures), rtol=2e-3, atol=2e-3)

    @pytest.mark.parametrize(
        "change",
        [
            lambda frozen, _: replace(frozen, mean=(0.1, 0.2, 0.3)),
            lambda frozen, _: replace(frozen, channels_last=False),
            lambda frozen, folder: freeze(folder, config_with(seed=1), SHOWN),
        ],
        ids=["normalisation", "memory format", "weights"],
    )
    def test_another_backbone_has_another(
        self, change: Callable, store: FeatureCache, crops: Crops, frozen: FrozenBackbone, tmp_path: Path
    ) -> None:
        (shard,) = missing_shards(crops, change(frozen, tmp_path), TWO)
        assert shard.path.parent.parent == folder_of(store).parent
        assert shard.path.parent != folder_of(store)
        assert folder_of(store).exists()

    def test_the_same_weights_of_another_run_have_the_same(
        self, store: FeatureCache, crops: Crops, tmp_path: Path
    ) -> None:
        same = freeze(tmp_path, config_with(), SHOWN)
        assert missing_shards(crops, same, TWO) == []
        assert folder_of(open_features(crops, same, TWO, device="cpu")) == folder_of(store)

    def test_another_size_leaves_it_alone(self, own_crops: Crops, tmp_path: Path) -> None:
        folders = [
            folder_of(
                open_features(own_crops, freeze(tmp_path, config_with(), Shown("face", size)), Views(), device="cpu")
            )
            for size in ((32, 32), (24, 32))
        ]
        assert set((own_crops.crop_dir / "features").iterdir()) == set(folders)
        assert [folder.name.split("-")[2] for folder in folders] == ["32x32", "24x32"]

    def test_what_a_killed_process_left_is_removed(self, own_crops: Crops, frozen: FrozenBackbone) -> None:
        folder = folder_of(open_features(own_crops, frozen, Views(), device="cpu"))
        (folder / "00000.npy").unlink()
        left = folder / ".000000-1-00000000.tmp.npy"
        left.write_bytes(b"half")
        os.utime(left, (0, 0))
        open_features(own_crops, frozen, Views(), device="cpu")
        assert [path.name for path in folder.iterdir()] == ["00000.npy"]


@pytest.mark.parametrize("fault", ["empty", "other", "cut short", "rotten", "fewer rows", "another's"])
def test_a_damaged_file_is_made_anew(
    own_crops: Crops, frozen: FrozenBackbone, few_photos_a_file: None, fault: str, capsys: pytest.CaptureFixture
) -> None:
    folder = folder_of(open_features(own_crops, frozen, Views(), device="cpu"))
    path = folder / "00001.npy"
    whole = path.read_bytes()
    contents = {
        "empty": b"",
        "other": b"not an array",
        "cut short": whole[:-9],
        "rotten": whole[:-99] + b"?" * 99,
    }
    contents["another's"] = (folder / "00002.npy").read_bytes()
    if fault == "fewer rows":
        np.save(path, np.load(path)[:2])
    else:
        path.write_bytes(contents[fault])
    open_features(own_crops, frozen, Views(), device="cpu")
    assert path.read_bytes() == whole
    assert f"{folder}: 1 files damaged" in capsys.readouterr().out


def test_a_file_cut_short_while_in_use_is_named(counted_store: FeatureCache) -> None:
    assert counted_store.views(2).shape == (3, 4)
    os.truncate(folder_of(counted_store) / "00001.npy", 100)
    with pytest.raises(UserError, match=r"00001\.npy: cut short while it was read"):
        counted_store.views(2)
