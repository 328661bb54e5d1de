"""Table of launchers, and the flags that choose one.

A launcher yields `start()(item)` for each item, in whatever order they finish. `start` loads what the work needs,
wherever some of it is done. Where a machine is lost, work is done again, which must do no harm: a fold goes on after
its last whole epoch, a search is a row of a table.
"""

import argparse
from collections.abc import Generator, Sequence

from core import parallel
from core.cli import positive_int
from training.launcher_types import Item, Resources, Result, Start


def _run_here(start: Start, items: Sequence[Item], resources: Resources) -> Generator[Result, None, None]:
    return parallel.run_parallel(start, items, resources.processes, large=resources.shard == 1)


def _run_on_ray(start: Start, items: Sequence[Item], resources: Resources) -> Generator[Result, None, None]:
    # Ray is an extra: whoever does not ask for it need not have it.
    from training.ray_cluster import run

    return run(start, items, resources)


LOCAL = "local"
LAUNCHERS = {LOCAL: _run_here, "ray": _run_on_ray}


def add_launcher_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that `resources_of` reads."""
    group = parser.add_argument_group("where it runs (all machines of a cluster must see the same folders)")
    group.add_argument(
        "--launcher", choices=list(LAUNCHERS), default=LOCAL, help="ray: a cluster, or many jobs on this machine"
    )
    group.add_argument("--ray-address", default="", help="a Ray cluster that runs already, such as auto or host:6379")
    group.add_argument("--job-cpus", type=positive_int, default=1, help="ray: cores for each piece of work")
    group.add_argument("--job-gpus", type=float, default=0.0, help="ray: GPUs for each; 0.25 lets four share one")


def resources_of(args: argparse.Namespace, *, processes: int = 1, shard: int = 1) -> Resources:
    """Return what was typed of the flags that `add_launcher_flags` made."""
    return Resources(processes, args.job_cpus, args.job_gpus, args.ray_address, shard, args.launcher)


def launch(resources: Resources, start: Start, items: Sequence[Item]) -> Generator[Result, None, None]:
    """Yield the results of all items. Use it with `closing`, so that Ctrl-C ends the work."""
    return LAUNCHERS[resources.launcher](start, items, resources)
