"""One training over several processes, GPUs or machines, as torchrun starts them. Without torchrun nothing here acts.

    torchrun --nproc-per-node 2 train.py --task age

Each process (rank) takes its part of every batch and of every prediction. Gradients are averaged, losses and
predictions gathered. Rank and count come from the process group that `joined` sets up, never from the environment
alone. Rank 0 writes the files; the others write nothing but their part of a feature cache.
Environment variables of torchrun: https://docs.pytorch.org/docs/stable/elastic/run.html
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from core.cli import UserError

Item = TypeVar("Item")
PATIENCE = timedelta(days=1)
"""Time that ranks wait for one that makes a cache. When one dies, torchrun ends the others at once.

Gradients keep the library's own timeout: during training no rank has a reason to be late.
"""

_NUMBERS = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")

_host_group: distributed.ProcessGroup | None = None
"""Group of all ranks for what is not on a GPU, with PATIENCE; set inside `joined` alone, like torch's default group."""


def count() -> int:
    """Return the number of ranks, 1 without torchrun."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def count_here() -> int:
    """Return the number of ranks on this machine, which share its cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if distributed.is_initialized() else 1


def number() -> int:
    """Return this process's rank, 0 without torchrun."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_first() -> bool:
    """Return True on the rank that writes files and prints."""
    return number() == 0


@contextmanager
def joined() -> Iterator[None]:
    """Join the other processes of torchrun, if it started this one. Only rank 0 prints."""
    global _host_group
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield
        return
    _refuse_other_environment()
    gpus = torch.cuda.is_available()
    if gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")
    _host_group = distributed.new_group(backend="gloo", timeout=PATIENCE)
    with ExitStack() as silence:
        if not is_first():
            silence.enter_context(redirect_stdout(silence.enter_context(Path(os.devnull).open("w", encoding="utf-8"))))
        try:
            yield
        finally:
            distributed.destroy_process_group()
            _host_group = None


def _refuse_other_environment() -> None:
    """UserError unless WORLD_SIZE comes from torchrun: clusters set it, too."""
    wrong = [name for name in _NUMBERS if not os.environ.get(name, "").isdecimal()]
    wrong += [name for name in ("MASTER_ADDR",) if not os.environ.get(name)]
    if wrong:
        raise UserError(
            f"environment variable WORLD_SIZE is {os.environ['WORLD_SIZE']!r}, but {wrong[0]} is not as torchrun sets "
            f"it; start train.py with torchrun, or unset WORLD_SIZE"
        )


def wait_for_all() -> None:
    """Return when every rank has come here. What rank 0 wrote before is then there for all."""
    if distributed.is_initialized():
        distributed.barrier(group=_host_group)


def share(items: Sequence[Item]) -> Sequence[Item]:
    """Return this rank's part: every item is in the part of one rank."""
    return items[number() :: count()]


def even_share(items: Sequence[Item]) -> Sequence[Item]:
    """Return this rank's part, of the same length on all ranks. Up to `count() - 1` of the last items are left out."""
    return share(items[: len(items) // count() * count()])


def share_of_batch(batch_size: int) -> int:
    """Return the number of photos of a step for this rank; UserError if they cannot be divided evenly."""
    if batch_size % count():
        raise UserError(f"--batch-size {batch_size}: allowed with {count()} processes are multiples of {count()}")
    return batch_size // count()


def gathered(items: list[Item]) -> list[Item]:
    """Return the lists of all ranks joined in the order of ranks, on every rank."""
    if not distributed.is_initialized():
        return items
    lists: list[list[Item]] = [[] for _ in range(count())]
    distributed.all_gather_object(lists, items, group=_host_group)
    return [item for part in lists for item in part]


def averaging_gradients(model: nn.Module) -> nn.Module:
    """Wrap the network, which keeps its weights, so that a backward pass averages gradients over the ranks."""
    return DistributedDataParallel(model) if distributed.is_initialized() else model


def broadcast_buffers(model: nn.Module) -> None:
    """Copy rank 0's buffers to all ranks. BatchNorm statistics differ per rank, and rank 0's are saved."""
    if distributed.is_initialized():
        for buffer in model.buffers():
            distributed.broadcast(buffer, src=0)
