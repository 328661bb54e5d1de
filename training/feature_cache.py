"""What a frozen backbone says of each crop, computed once for all tasks and folds whose heads learn from it.

    crop_images/features/train-<hash>-<hash>/00000.npy ...      (n, V, F) float16

A photo has V views: as it is, mirrored, and augmented ones. Each file holds some hundred photos and is whole, so an
interrupted run goes on where it was. The folder's name holds hashes of the crops and of all that looks at them.
"""

import json
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from core import files
from core.cli import UserError, progress
from core.files import require_room
from dataset import Draw, seed_steps, train_transform
from model import OnPixels, backbone_tensors, build_model, head_on_features, normalisation
from storage.crop_cache import crop_cache_path, open_crop_cache
from storage.crops import Crops
from storage.run_dir import BACKBONES
from training import checkpoints
from training.config import Config
from training.device import Precision, pick_device, place, prepare_process, seed_everything, to_device

FOLDER = "features"
SHARD = 64
"""Photos of a file: a few seconds of work for a process."""
BATCH = 16
"""Pictures looked at together; more take more memory, and no less time."""
PLAIN, MIRRORED = 0, 1
_FORMAT = 1


@dataclass(frozen=True)
class FrozenBackbone:
    """The part of a network that is the same for all folds, and how it is fed. `size` is (H, W)."""

    name: str
    weights: Path
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels_last: bool
    amp: bool

    def load(self) -> OnPixels:
        """The network, with a head that means nothing. UserError for a file that is damaged or missing."""
        network = build_model(self.name, 1, image_size=self.size)
        checkpoints.load_backbone(self.weights, network)
        return OnPixels(network, self.mean, self.std)


@dataclass(frozen=True)
class Looks:
    """The views of each photo: itself, its mirror image, and `augmented` random ones."""

    augmented: int = 0
    augment: str = "none"

    @property
    def count(self) -> int:
        return 2 + self.augmented

    def of(self, picture: np.ndarray, image_id: str) -> list[np.ndarray]:
        """(H, W, 3) uint8 to `count` of them; the random ones hang on the photo's name alone."""
        transform = train_transform(self.augment)
        seen = [picture, picture[:, ::-1]]
        for number in range(self.augmented):
            seed_steps(transform, zlib.crc32(f"{number} {image_id}".encode("utf-8", "surrogateescape")))
            seen.append(transform(image=np.array(picture))["image"])
        return seen


@dataclass(frozen=True)
class Shard:
    """Some photos of a store: a piece of work, and the file that it leaves."""

    path: Path
    pixels: Path
    first: int
    image_ids: tuple[str, ...]
    backbone: FrozenBackbone
    looks: Looks

    def make(self, device: str) -> int:
        """Write the file and return the number of photos."""
        where = pick_device(device)
        model = _loaded(self.backbone, where)
        pixels = np.load(self.pixels, mmap_mode="r", allow_pickle=False)
        parts = []
        for first in range(0, len(self.image_ids), BATCH):
            ids = self.image_ids[first : first + BATCH]
            pictures = pixels[self.first + first : self.first + first + len(ids)]
            seen = [view for picture, name in zip(pictures, ids, strict=True) for view in self.looks.of(picture, name)]
            parts.append(
                features_of(model, np.stack(seen), self.backbone, where).reshape(len(ids), self.looks.count, -1)
            )
        files.write_array(self.path, np.concatenate(parts))
        return len(self.image_ids)


class FeatureStore:
    """Features (V, F) float16 of photos, found by image id. Only the name of the folder travels between processes."""

    def __init__(self, folder: Path, image_ids: Sequence[str]) -> None:
        self.folder = folder
        self._row_of = {image_id: row for row, image_id in enumerate(image_ids)}
        self._shards: dict[int, np.ndarray] = {}

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_shards": {}}

    def rows(self, image_ids: Sequence[str]) -> list[int]:
        return [self._row_of[image_id] for image_id in image_ids]

    def batches(self, rows: Sequence[int], views: Sequence[int]) -> Iterator[Tensor]:
        """The features of some views, batch by batch: (len(views), n, F) float32."""
        for first in range(0, len(rows), BATCH):
            some = np.stack([self.views(row)[list(views)] for row in rows[first : first + BATCH]])
            yield torch.from_numpy(some.astype(np.float32)).transpose(0, 1)

    def views(self, row: int) -> np.ndarray:
        number, within = divmod(row, SHARD)
        if number not in self._shards:
            self._shards[number] = _opened(_shard_path(self.folder, number))
        return self._shards[number][within]


class FeatureDataset(Dataset):
    """Stored features. An item is (features (F,) float32, target, index), as those of dataset.CropDataset.

    Takes an index, which gives the view `view`, or a Draw, whose seed gives one of the first `views` in turn.
    """

    def __init__(
        self,
        store: FeatureStore,
        rows: Sequence[int],
        *,
        view: int = PLAIN,
        views: int = 1,
        targets: Tensor | None = None,
    ) -> None:
        self.store = store
        self.rows = list(rows)
        self.view, self.views = view, views
        self.targets = torch.zeros(len(self.rows), dtype=torch.int64) if targets is None else targets

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int | Draw) -> tuple[Tensor, Tensor, int]:
        index, view = (item.index, item.seed % self.views) if isinstance(item, Draw) else (item, self.view)
        features = self.store.views(self.rows[index])[view]
        return torch.from_numpy(features.astype(np.float32)), self.targets[index], index


def is_frozen(config: Config) -> bool:
    return config.backbone_lr == 0


def freeze(run_dir: Path, config: Config, size: tuple[int, int]) -> FrozenBackbone:
    """The backbone of that configuration, its weights kept in the run folder.

    UserError for weights that cannot be had, and for a network whose head is not one part.
    """
    seed_everything(config.seed)
    network = build_model(config.backbone, 1, image_size=size, pretrained=config.pretrained)
    head_on_features(network)
    weights = checkpoints.save_tensors(run_dir / BACKBONES, config.backbone, backbone_tensors(network))
    mean, std = normalisation(config.backbone)
    return describe(config, weights, size, {"mean": mean, "std": std})


def describe(config: Config, weights: Path, size: tuple[int, int], normalised_by: Mapping) -> FrozenBackbone:
    """The backbone whose weights are in that file, fed as the settings and `normalisation` of config.json say."""
    mean, std = tuple(normalised_by["mean"]), tuple(normalised_by["std"])
    return FrozenBackbone(config.backbone, weights, size, mean, std, config.channels_last, config.amp)


def looks_of(config: Config) -> Looks:
    """What a configuration trains a head on."""
    augments = config.views > 0 and config.augment not in ("none", "flip")
    return Looks(config.views, config.augment) if augments else Looks()


def views_to_train_on(config: Config) -> int:
    """In how many kept views an epoch shows each photo: as it is alone where nothing is kept, or nothing augmented."""
    return looks_of(config).count if is_frozen(config) and config.augment != "none" else 1


def open_features(crops: Crops, backbone: FrozenBackbone, looks: Looks, *, device: str = "auto") -> FeatureStore:
    """The features of all these crops; what is missing is computed here, by this process."""
    shards = missing_shards(crops, backbone, looks)
    with progress(None, title="features", total=sum(len(shard.image_ids) for shard in shards)) as bar:
        for shard in shards:
            bar.update(shard.make(device))
    return FeatureStore(_folder(crops, backbone, looks), open_crop_cache(crops, backbone.size).image_ids)


def missing_shards(crops: Crops, backbone: FrozenBackbone, looks: Looks) -> list[Shard]:
    """The work that is still to be done; features of other crops, which nothing will read again, are removed."""
    pixels, folder = open_crop_cache(crops, backbone.size), _folder(crops, backbone, looks)
    files.remove_stale(folder)
    _remove_superseded(folder)
    image_ids = pixels.image_ids
    parts = [(first, tuple(image_ids[first : first + SHARD])) for first in range(0, len(image_ids), SHARD)]
    shards = [
        Shard(_shard_path(folder, first // SHARD), pixels.path, first, ids, backbone, looks) for first, ids in parts
    ]
    todo = [shard for shard in shards if not shard.path.exists()]
    photos = sum(len(shard.image_ids) for shard in todo)
    require_room(crops.crop_dir, photos * looks.count * _feature_bytes(backbone) if todo else 0, "features")
    return todo


def shard_maker(threads: int, device: str) -> Callable[[Shard], int]:
    """What computes shards in this process, with so many threads."""
    prepare_process(threads)
    return partial(Shard.make, device=device)


def _folder(crops: Crops, backbone: FrozenBackbone, looks: Looks) -> Path:
    looker = {**asdict(backbone), "weights": backbone.weights.name, "looks": asdict(looks), "format": [_FORMAT, SHARD]}
    key = files.text_hash([json.dumps(looker, sort_keys=True)])
    return crops.crop_dir / FOLDER / f"{crop_cache_path(crops, backbone.size).stem}-{key}"


def _shard_path(folder: Path, number: int) -> Path:
    return folder / f"{number:05}.npy"


def _opened(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: damaged or not there ({reason}); remove it, and it is made again") from None


def _remove_superseded(folder: Path) -> None:
    """Remove the features of crops that have changed since."""
    split, _, size, _ = folder.name.rsplit("-", 3)
    crops = folder.name.rpartition("-")[0]
    for other in folder.parent.glob(f"{split}-*-{size}-*"):
        if not other.name.startswith(crops):
            shutil.rmtree(other, ignore_errors=True)


def _feature_bytes(backbone: FrozenBackbone) -> int:
    with torch.device("meta"):
        return 2 * build_model(backbone.name, 1, image_size=backbone.size).head_hidden_size


@lru_cache(maxsize=1)
def _loaded(backbone: FrozenBackbone, device: torch.device) -> OnPixels:
    return place(backbone.load(), device, backbone.channels_last).eval()


@torch.inference_mode()
def features_of(model: OnPixels, pictures: np.ndarray, backbone: FrozenBackbone, device: torch.device) -> np.ndarray:
    """(N, H, W, 3) uint8 to (N, F) float16. UserError for features that float16 cannot hold."""
    found = []
    for batch in torch.from_numpy(pictures).split(BATCH):
        with Precision(device, backbone.amp, learns=False).autocast():
            features = model.features(to_device(batch, device, backbone.channels_last))
        found.append(features.to(torch.float16).cpu())
    found = torch.cat(found)
    if not found.isfinite().all():
        raise UserError(
            f"--backbone-lr 0: features of {backbone.name} are beyond 65504 or no numbers; give more than 0"
        )
    return found.numpy()
