"""Features of frozen backbones, computed by several processes, or over a cluster."""

import argparse
from collections.abc import Sequence
from contextlib import closing
from functools import partial

from core import distributed
from core.cli import progress
from training.feature_cache import Shard, shard_maker
from training.launchers import launch


def make_features(args: argparse.Namespace, shards: Sequence[Shard], *, device: str, jobs: int, threads: int) -> None:
    """Compute what is missing of stores; each file that is whole stays, however this ends."""
    if not shards:
        return
    photos = sum(len(shard.image_ids) for shard in shards)
    print(f"features of {photos} photos, for all folds", flush=True)
    start = partial(shard_maker, threads, device)
    launched = launch(args, start, shards, processes=min(jobs, len(shards)))
    with closing(launched) as made, progress(None, title="features", total=photos, shown=distributed.is_first()) as bar:
        for number in made:
            bar.update(number)
