"""Launcher for a Ray cluster (https://docs.ray.io), or one started on the cores of this machine.

Work whose process dies, or whose machine is lost, is done again elsewhere. All machines must see the same folders, of
the project and of the data, under the same paths, and have the same packages.
"""

import os
import secrets
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

from core.environment import MAX_PIXELS, max_pixels

from core.cli import UserError, cpu_count
from training.launcher_types import Item, Resources, Result, Start

try:
    import ray
except ImportError as error:
    raise UserError(f"--launcher ray: {error}; python scripts/install.py ray") from None

ROOT = Path(__file__).resolve().parents[1]
LOST = (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError, ray.exceptions.NodeDiedError)
TRIES = 4
"""Attempts at a piece of work whose process dies before it is given up."""
WAITING = 2
"""Shards handed to Ray for each that can run: enough to keep all busy, few enough to end soon after Ctrl-C."""


def run(start: Start, items: Sequence[Item], resources: Resources) -> Generator[Result, None, None]:
    """Yield `start()(item)` for all items, in whatever order their shards finish.

    UserError as the work raises it, and for work whose process dies again and again.
    """
    shards = [items[first : first + resources.shard] for first in range(0, len(items), resources.shard)]
    options = {"num_cpus": resources.cpus, "num_gpus": resources.gpus, "max_retries": TRIES - 1}
    with _cluster(resources):
        do = ray.remote(**options)(_do_shard)
        yield from _flow(partial(do.remote, start, str(Path.cwd())), shards, _at_once(resources))


def _flow(submit: partial, shards: Sequence[Sequence[Item]], waiting: int) -> Iterator[Result]:
    """Keep `waiting` shards handed out, never more, and yield what comes back."""
    rest = iter(shards)
    pending = [submit(shard) for shard in islice(rest, waiting)]
    try:
        while pending:
            finished, pending = ray.wait(pending)
            pending += [submit(shard) for shard in islice(rest, len(finished))]
            for one in finished:
                yield from _results_of(one)
    finally:
        for one in pending:
            ray.cancel(one, force=True)


def _results_of(finished: "ray.ObjectRef") -> list[Result]:
    try:
        results, refusal = ray.get(finished)
    except LOST:
        raise UserError(
            f"--launcher ray: a piece of work was lost {TRIES} times, perhaps for lack of memory; give it more "
            "--job-cpus, so that fewer run at once"
        ) from None
    if refusal is not None:
        raise UserError(refusal)
    return results


def _do_shard(start: Start, folder: str, shard: Sequence[Item]) -> tuple[list[Result], str | None]:
    """Work on a shard, on the cluster; return its results, or the message of a UserError, which Ray would wrap."""
    # The caller's relative paths shall mean the same here.
    os.chdir(folder)
    try:
        work = start()
        return [work(item) for item in shard], None
    except UserError as error:
        return [], str(error)


@contextmanager
def _cluster(resources: Resources) -> Iterator[None]:
    """Connect to the cluster, or start one on this machine's cores that ends with the work."""
    where = {"address": resources.address} if resources.address else _own_cluster()
    try:
        ray.init(runtime_env={"env_vars": {"PYTHONPATH": str(ROOT), MAX_PIXELS: str(max_pixels())}}, **where)
    except (ConnectionError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"--ray-address {resources.address!r}: no cluster answers there ({reason})") from None
    try:
        _refuse_too_much(resources)
        yield
    finally:
        ray.shutdown()


def _own_cluster() -> dict[str, str | int | bool]:
    """Return what starts a cluster that this machine alone can reach, with a token and without a page."""
    # Else Ray keeps a token for all clusters in the home folder.
    if "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    return {
        **{"address": "local", "num_cpus": cpu_count(), "include_dashboard": False},
        "_node_ip_address": "127.0.0.1",
    }


def _refuse_too_much(resources: Resources) -> None:
    """UserError for work that no cluster machine could take: Ray would wait for ever."""
    there = ray.cluster_resources()
    for flag, name, wanted in (("--job-cpus", "CPU", resources.cpus), ("--job-gpus", "GPU", resources.gpus)):
        if wanted > there.get(name, 0):
            raise UserError(f"{flag} {wanted}: the cluster has {there.get(name, 0):g} in all")


def _at_once(resources: Resources) -> int:
    there = ray.cluster_resources()
    by_cpu = there["CPU"] // resources.cpus
    by_gpu = there["GPU"] // resources.gpus if resources.gpus else by_cpu
    return max(1, int(min(by_cpu, by_gpu))) * WAITING
