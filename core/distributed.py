"""One training over several processes, GPUs or machines, as torchrun starts them; alone, all of this does nothing.

    torchrun --nproc-per-node 2 train.py --task age

Each process (rank) takes its share of every batch and of every prediction; gradients are averaged, losses and
predictions put together. Files are rank 0's alone, but for shares of a store: what the others write is thrown away
(`core.files.replacing`).
https://docs.pytorch.org/docs/stable/elastic/run.html tells what torchrun puts into the environment.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from core.cli import UserError, is_first_rank

Item = TypeVar("Item")
PATIENCE = timedelta(days=1)
"""How long ranks wait for one that makes a store. When one dies, torchrun ends the others at once.

Gradients have the library's own patience: during training nobody has a reason to be late.
"""


def count() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def count_here() -> int:
    """Ranks on this machine, which share its cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if distributed.is_initialized() else 1


def number() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_first() -> bool:
    return is_first_rank()


@contextmanager
def joined() -> Iterator[None]:
    """Join the other processes that torchrun has started, if it has. Only the first one prints."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    gpus = torch.cuda.is_available()
    if gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")
    _hosts()
    with ExitStack() as silence:
        if not is_first():
            silence.enter_context(redirect_stdout(silence.enter_context(Path(os.devnull).open("w"))))
        try:
            yield
        finally:
            distributed.destroy_process_group()


@cache
def _hosts() -> distributed.ProcessGroup:
    """All ranks, for what is not on a GPU. Each must come here first at the same place: in `joined`."""
    return distributed.new_group(backend="gloo", timeout=PATIENCE)


def wait_for_all() -> None:
    """Return when every rank has come here: what rank 0 wrote before is then there for all."""
    if distributed.is_initialized():
        distributed.barrier(group=_hosts())


def share(items: Sequence[Item]) -> Sequence[Item]:
    """This rank's part: every item is in one rank's."""
    return items[number() :: count()]


def even_share(items: Sequence[Item]) -> Sequence[Item]:
    """This rank's part, of the same length for all: up to `count() - 1` of the last items are in nobody's."""
    return share(items[: len(items) // count() * count()])


def share_of_batch(batch_size: int) -> int:
    """How many photos of a step are this rank's; UserError if they cannot be divided."""
    if batch_size % count():
        raise UserError(f"--batch-size {batch_size}: allowed with {count()} processes are multiples of {count()}")
    return batch_size // count()


def gathered(items: list[Item]) -> list[Item]:
    """The lists of all ranks, one after the other, on every rank."""
    if not distributed.is_initialized():
        return items
    lists: list[list[Item]] = [[] for _ in range(count())]
    distributed.all_gather_object(lists, items, group=_hosts())
    return [item for part in lists for item in part]


def averaging_gradients(model: nn.Module) -> nn.Module:
    """The network, sharing its weights, whose gradients after a backward pass are the mean over the ranks."""
    return DistributedDataParallel(model) if distributed.is_initialized() else model


def align(model: nn.Module) -> None:
    """Give all ranks the buffers of rank 0, which is the one that is saved: each has met other photos on its way."""
    if distributed.is_initialized():
        for buffer in model.buffers():
            distributed.broadcast(buffer, src=0)
