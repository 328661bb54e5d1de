"""Cache of frozen-backbone features, shared by all tasks and folds.

    crop_images/features/train-<hash>-<hash>/00000.npy ...      (n, V, F) float16

A crop has V views: plain, mirrored, and augmented ones. Each file holds 64 crops and is written whole, so an
interrupted run goes on where it stopped. The folder's name holds hashes of the crops, the backbone and the views.
"""

import json
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from core import files
from core.cli import UserError, progress
from core.files import require_room
from dataset import Draw, seed_steps, train_transform
from model import OnPixels, build_model
from storage.array_file import ArrayFile, is_whole, write_rows
from storage.crop_cache import crop_cache_path, open_crop_cache
from storage.crops import Crops
from training.config import Config
from training.device import Precision, pick_device, place, prepare_process, to_device
from training.frozen_backbone import FrozenBackbone

FOLDER = "features"
SHARD = 64
"""Crops of a file: a few seconds of work for a process."""
BATCH = 16
"""Images computed together; more take more memory, and no less time."""
PLAIN, MIRRORED = 0, 1
_FORMAT = 1


@dataclass(frozen=True)
class Views:
    """The views of each crop: plain, mirrored, and `augmented` random ones by an augmentation of dataset.py."""

    augmented: int = 0
    augment: str = "none"

    @property
    def count(self) -> int:
        return 2 + self.augmented

    def of(self, image: np.ndarray, image_id: str) -> list[np.ndarray]:
        """Return `count` images (H, W, 3) uint8 of one; the random ones are seeded by the photo's name alone."""
        transform = train_transform(self.augment)
        views = [image, image[:, ::-1]]
        for number in range(self.augmented):
            seed_steps(transform, zlib.crc32(f"{number} {image_id}".encode("utf-8", "surrogateescape")))
            views.append(transform(image=np.array(image))["image"])
        return views


@dataclass(frozen=True)
class Shard:
    """Some crops of a cache: a piece of work, and the file that it writes. `first` is their first row in `pixels`."""

    path: Path
    pixels: Path
    first: int
    image_ids: tuple[str, ...]
    backbone: FrozenBackbone
    views: Views

    def make(self, model: OnPixels, device: torch.device) -> int:
        """Write the file and return the number of crops. `model` is the loaded backbone, on the device."""
        pixels, parts = ArrayFile(self.pixels), []
        for first in range(0, len(self.image_ids), BATCH):
            ids = self.image_ids[first : first + BATCH]
            images = pixels.read(self.first + first, len(ids))
            views = [view for image, name in zip(images, ids, strict=True) for view in self.views.of(image, name)]
            features = features_of(model, np.stack(views), self.backbone, device)
            parts.append(features.reshape(len(ids), self.views.count, -1))
        features = np.concatenate(parts)
        write_rows(self.path, [features], shape=features.shape, dtype=features.dtype)
        return len(self.image_ids)


class FeatureCache:
    """Features (V, F) float16 of crops, found by image id: those in each folder in turn. Holds no file open."""

    def __init__(self, folders: Sequence[Path], image_ids: Sequence[str]) -> None:
        self.folders = tuple(folders)
        self._row_of = {image_id: row for row, image_id in enumerate(image_ids)}
        self._shards: dict[int, list[ArrayFile]] = {}

    def rows(self, image_ids: Sequence[str]) -> list[int]:
        return [self._row_of[image_id] for image_id in image_ids]

    def batches(self, rows: Sequence[int], views: Sequence[int]) -> Iterator[Tensor]:
        """Yield the features of some views, batch by batch: (len(views), n, F) float32."""
        for first in range(0, len(rows), BATCH):
            some = np.stack([self.views(row)[list(views)] for row in rows[first : first + BATCH]])
            yield torch.from_numpy(some.astype(np.float32)).transpose(0, 1)

    def views(self, row: int) -> np.ndarray:
        """Return the features (V, F) float16 of a crop."""
        number, within = divmod(row, SHARD)
        if number not in self._shards:
            self._shards[number] = [ArrayFile(_shard_path(folder, number)) for folder in self.folders]
        return np.concatenate([shard.read(within)[0] for shard in self._shards[number]], axis=1)


class FeatureDataset(Dataset):
    """Cached features. An item is (features (F,) float32, target, index), like those of dataset.CropDataset.

    Takes an index, which gives the view `view`, or a Draw, whose seed modulo `views` is the number of the view.
    """

    def __init__(
        self,
        cache: FeatureCache,
        rows: Sequence[int],
        *,
        view: int = PLAIN,
        views: int = 1,
        targets: Tensor | None = None,
    ) -> None:
        self.cache = cache
        self.rows = list(rows)
        self.view, self.views = view, views
        self.targets = torch.zeros(len(self.rows), dtype=torch.int64) if targets is None else targets

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int | Draw) -> tuple[Tensor, Tensor, int]:
        index, view = (item.index, item.seed % self.views) if isinstance(item, Draw) else (item, self.view)
        features = self.cache.views(self.rows[index])[view]
        return torch.from_numpy(features.astype(np.float32)), self.targets[index], index


def views_of(config: Config) -> Views:
    """Return the views that a head is trained on."""
    augments = config.views > 0 and config.augment not in ("none", "flip")
    return Views(config.views, config.augment) if augments else Views()


def open_features(crops: Crops, backbone: FrozenBackbone, views: Views, *, device: str = "auto") -> FeatureCache:
    """Open the features of all these crops; missing ones are computed here, by this process."""
    shards = missing_shards(crops, backbone, views)
    make = _shard_maker(device)
    with progress(None, title="features", total=sum(len(shard.image_ids) for shard in shards)) as bar:
        for shard in shards:
            bar.update(make(shard))
    folders = [_folder(crops, part, views) for part in backbone.parts]
    return FeatureCache(folders, open_crop_cache(crops, backbone.shown).image_ids)


def missing_shards(crops: Crops, backbone: FrozenBackbone, views: Views) -> list[Shard]:
    """Return the work that is still to be done: files that are missing or damaged. Removes features of other crops."""
    return [shard for part in backbone.parts for shard in _missing_shards_of(crops, part, views)]


def _missing_shards_of(crops: Crops, backbone: FrozenBackbone, views: Views) -> list[Shard]:
    pixels, folder = open_crop_cache(crops, backbone.shown), _folder(crops, backbone, views)
    files.remove_stale(folder)
    _remove_superseded(folder)
    image_ids = pixels.image_ids
    parts = [(first, tuple(image_ids[first : first + SHARD])) for first in range(0, len(image_ids), SHARD)]
    shards = [
        Shard(_shard_path(folder, first // SHARD), pixels.path, first, ids, backbone, views) for first, ids in parts
    ]
    todo = [shard for shard in shards if not is_whole(shard.path)]
    damaged = sum(shard.path.exists() for shard in todo)
    if damaged:
        print(f"{folder}: {damaged} files damaged or of an earlier version; made anew", flush=True)
    photos = sum(len(shard.image_ids) for shard in todo)
    require_room(crops.crop_dir, photos * views.count * _feature_bytes(backbone) if todo else 0, "features")
    return todo


def shard_maker(threads: int, device: str) -> Callable[[Shard], int]:
    """Prepare this process with a number of threads, and return the function that computes a shard in it."""
    prepare_process(threads)
    return _shard_maker(device)


def _shard_maker(device: str) -> Callable[[Shard], int]:
    """Return the function that computes a shard. It keeps the backbone of the last one loaded."""
    where = pick_device(device)
    loaded: dict[FrozenBackbone, OnPixels] = {}

    def make(shard: Shard) -> int:
        backbone = shard.backbone
        if backbone not in loaded:
            loaded.clear()
            loaded[backbone] = place(backbone.load(), where, backbone.channels_last).eval()
        return shard.make(loaded[backbone], where)

    return make


def _folder(crops: Crops, backbone: FrozenBackbone, views: Views) -> Path:
    # "looks": the name of the views in the caches that users have.
    made_by = {**asdict(backbone), "weights": backbone.weights.name, "looks": asdict(views), "format": [_FORMAT, SHARD]}
    # The window is in the first half of the name.
    made_by["size"] = made_by.pop("shown")["size"]
    # Its weights say what it is.
    del made_by["described"]
    key = files.text_hash([json.dumps(made_by, sort_keys=True)])
    return crops.crop_dir / FOLDER / f"{crop_cache_path(crops, backbone.shown).stem}-{key}"


def _shard_path(folder: Path, number: int) -> Path:
    return folder / f"{number:05}.npy"


def _remove_superseded(folder: Path) -> None:
    """Remove the features of crops that have changed since."""
    split, _, size, _ = folder.name.rsplit("-", 3)
    crops = folder.name.rpartition("-")[0]
    for other in folder.parent.glob(f"{split}-*-{size}-*"):
        if not other.name.startswith(crops):
            shutil.rmtree(other, ignore_errors=True)


def _feature_bytes(backbone: FrozenBackbone) -> int:
    with torch.device("meta"):
        options = {"image_size": backbone.size, "described": json.loads(backbone.described)}
        return 2 * build_model(backbone.name, 1, **options).head_hidden_size


@torch.inference_mode()
def features_of(model: OnPixels, images: np.ndarray, backbone: FrozenBackbone, device: torch.device) -> np.ndarray:
    """Return the features (N, F) float16 of images (N, H, W, 3) uint8. UserError if float16 cannot hold them."""
    found = []
    for batch in torch.from_numpy(images).split(BATCH):
        with Precision(device, backbone.amp, learns=False).autocast():
            features = model.features(to_device(batch, device, backbone.channels_last))
        found.append(features.to(torch.float16).cpu())
    found = torch.cat(found)
    if not found.isfinite().all():
        raise UserError(
            f"--backbone-lr 0: features of {backbone.name} are beyond 65504 or no numbers; give more than 0"
        )
    return found.numpy()
