"""Fold jobs: folds of tasks that can be trained at once, in processes that know nothing of one another.

On a CPU, two processes of one thread train about twice as fast as one process of two threads, and a busy core slows
down one of them alone, since no thread waits for another.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path

from core import distributed
from core.cli import UserError, cpu_count, progress
from core.files import require_room
from storage.run_dir import is_done
from training.checkpoints import training_bytes
from training.config import Config
from training.device import pick_device, prepare_process
from training.feature_cache import Shard, shard_maker
from training.fold import train_fold
from training.fold_setup import FoldData, training_cost, weight_bytes
from training.launcher_types import Resources
from training.launchers import LOCAL, launch


@dataclass(frozen=True, eq=False)
class FoldJob:
    """One fold of one task, to be trained in a run folder."""

    run_dir: Path
    config: Config
    overwrite: bool
    data: FoldData

    @property
    def fold_dir(self) -> Path:
        return self.data.folder(self.run_dir)

    @property
    def is_left(self) -> bool:
        """Return whether there is something to train."""
        return self.overwrite or not is_done(self.fold_dir)


def train_job(job: FoldJob) -> str:
    """Train one fold from where it stands, and return its title. A fold that is done is left alone."""
    train_fold(job.run_dir, job.data, job.config, overwrite=job.overwrite)
    return job.data.title


def job_trainer(threads: int) -> Callable[[FoldJob], str]:
    """Prepare this process with a number of threads, and return the function that trains jobs in it."""
    prepare_process(threads)
    return train_job


def train_jobs(jobs: Sequence[FoldJob], *, at_once: int, resources: Resources) -> None:
    """Train all jobs that are left, several at once; 0 `at_once` is as many as suit the machine."""
    # The longest first, so that few cores are idle at the end.
    left = [job for job in jobs if job.is_left]
    left.sort(key=lambda job: training_cost(job.data, job.config), reverse=True)
    for job in jobs:
        if not job.is_left:
            train_job(job)
    at_once = at_once or jobs_at_once([job.config for job in jobs])
    if distributed.count() > 1 and (at_once > 1 or resources.launcher != LOCAL):
        raise UserError("--jobs and --launcher: under torchrun one fold is trained at a time, by all its processes")
    # Threads change the last bits of a sum, so they must not depend on how many folds are still to be trained.
    threads = max(1, cpu_count() // (at_once * distributed.count_here()))
    # Caches are made here, once: otherwise all processes would make the same ones. Features are shared out.
    shards = distributed.share(distributed.gathered(make_caches(left) if distributed.is_first() else []))
    make_features(shards, device=jobs[0].config.device, threads=threads, at_once=at_once, resources=resources)
    distributed.wait_for_all()
    start = partial(job_trainer, threads=threads if resources.launcher == LOCAL else resources.cpus)
    cost = sum(training_cost(job.data, job.config) for job in left)
    launched = launch(replace(resources, processes=min(at_once, len(left) or 1)), start, left)
    # Each job moves the bar itself, from the process that does it.
    with progress(None, title="training", total=cost, unit="", shown=distributed.is_first()) as bar, closing(launched):
        for title in launched:
            bar.write(f"{title}: done")


def jobs_at_once(configs: Sequence[Config]) -> int:
    """One job per CPU core; one per GPU, where more are slower, and one where several processes train one fold."""
    on_cpu = all(pick_device(config.device).type == "cpu" for config in configs)
    return cpu_count() if on_cpu and distributed.count() == 1 else 1


def make_caches(jobs: Sequence[FoldJob]) -> list[Shard]:
    """Make the crop caches that jobs read; return the work that is left for their feature caches."""
    shards = {}
    for job in jobs:
        fold_input = job.data.input_for(job.config).prepared(job.run_dir)
        for crops in filter(None, (job.data.crops, job.data.drawn)):
            shards |= {shard.path: shard for shard in fold_input.missing_shards(crops)}
    return list(shards.values())


def make_features(shards: Sequence[Shard], *, device: str, threads: int, at_once: int, resources: Resources) -> None:
    """Compute features by `at_once` processes, or over a cluster. Files that are whole stay, however this ends."""
    if not shards:
        return
    photos = sum(len(shard.image_ids) for shard in shards)
    print(f"features of {photos} photos, for all folds", flush=True)
    start = partial(shard_maker, threads, device)
    launched = launch(replace(resources, processes=min(at_once, len(shards))), start, shards)
    shown = {"shown": distributed.is_first(), "part": 0.4}
    with closing(launched) as made, progress(None, title="features", total=photos, **shown) as bar:
        for number in made:
            bar.update(number)


def require_room_for(jobs: Sequence[FoldJob], at_once: int) -> None:
    """UserError if the disk cannot take what is left to be trained."""
    needed = 0
    for _, of_task in groupby(jobs, key=lambda job: job.data.task.name):
        left = [job for job in of_task if job.is_left]
        if left:
            config = left[0].config
            weights = weight_bytes(left[0].data.task, config)
            needed += training_bytes(weights, len(left), at_once or jobs_at_once([config]))
    require_room(jobs[0].run_dir, needed, "training")
