"""The grid of tasks and folds as pieces of work that know nothing of one another, and can be trained at once.

On a CPU a network of these sizes trains about twice as fast as two processes of one thread each than as one process of
two threads, and a busy neighbour slows it by no more than its share: no thread ever waits for another one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from core import distributed
from core.cli import cpu_count
from core.tasks import Task
from model import build_model, head_weights
from storage.crop_cache import open_crop_cache
from training.config import Config
from training.device import pick_device, prepare_process
from training.feature_cache import Shard, freeze, is_frozen, looks_of, missing_shards
from training.fold import epoch_sampler, train_fold
from training.fold_data import FoldData
from training.predictor import input_size


@dataclass(frozen=True, eq=False)
class Cell:
    """One fold of one task, to be trained into its folder."""

    fold_dir: Path
    config: Config
    overwrite: bool
    data: FoldData


def cell_trainer(threads: int) -> Callable[[Cell], str]:
    """What trains cells in this process, with so many threads; it returns their titles."""
    prepare_process(threads)
    return train_cell


def train_cell(cell: Cell) -> str:
    """Train one fold from where it stands; a fold that is done is left alone."""
    train_fold(cell.fold_dir, cell.data, cell.config, overwrite=cell.overwrite)
    return cell.data.title


def longest_first(cells: Sequence[Cell]) -> list[Cell]:
    """By the pixels that each will see, so that few cores are idle at the end; heads on stored features come last."""

    def pixels(cell: Cell) -> int:
        pixels_of_a_photo = 1 if is_frozen(cell.config) else cell.config.image_size**2
        return cell.config.epochs * len(epoch_sampler(cell.data, cell.config)) * pixels_of_a_photo

    return sorted(cells, key=pixels, reverse=True)


def jobs_at_once(configs: Sequence[Config]) -> int:
    """One a core on a CPU; one at a time where a GPU is used, which is slower with too many than with one, or where
    several processes train one."""
    on_cpu = all(pick_device(config.device).type == "cpu" for config in configs)
    return cpu_count() if on_cpu and distributed.count() == 1 else 1


def stores_to_make(cells: Sequence[Cell]) -> list[Shard]:
    """Make the stores of pictures that cells will read; returns the work that stores of features still need."""
    shards = {}
    for cell in cells:
        size = input_size(cell.config, cell.data.crops.source)
        open_crop_cache(cell.data.crops, size)
        if is_frozen(cell.config):
            frozen = freeze(cell.fold_dir.parents[1], cell.config, size)
            shards |= {shard.path: shard for shard in missing_shards(cell.data.crops, frozen, looks_of(cell.config))}
    return list(shards.values())


def weight_bytes(task: Task, config: Config) -> int:
    """Size of what a fold keeps of its network, of which nothing but the shapes is made."""
    with torch.device("meta"):
        model = build_model(config.backbone, len(task.classes), image_size=(config.image_size, config.image_size))
    kept = head_weights(model) if is_frozen(config) else model
    return sum(tensor.numel() * tensor.element_size() for tensor in kept.state_dict().values())
