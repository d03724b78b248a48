"""Blocks solved by the workers of a dask.distributed cluster, no more than a stated number of them at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from equikernel.errors import EquikernelError, InputError, MemoryLimitError
from equikernel.numerics.kernels.job import Job, itself
from equikernel.numerics.kernels.manifest import BlockRecord
from equikernel.numerics.kernels.plan import Place

__all__ = ["require_worker_memory", "run_on_cluster", "worker_threads"]


def worker_threads(client: Any) -> int:
    """The number of tasks that the cluster runs at once.

    Raises:
        InputError: not a dask.distributed client, or a cluster without workers.
    """
    try:
        threads = sum(client.nthreads().values())
    except AttributeError:
        raise InputError(f"client must be a dask.distributed.Client; got {type(client).__name__}") from None
    if not threads:
        raise InputError("the cluster has no workers yet: call client.wait_for_workers(1) first")
    return int(threads)


def require_worker_memory(client: Any, needed: int, block_bytes: int) -> None:
    """Refuse blocks that would not fit into the workers' memory.

    Args:
        client: of the cluster.
        needed: bytes that a worker of one thread takes.
        block_bytes: bytes that every further thread takes.

    Raises:
        MemoryLimitError: a worker's limit is below what its threads need.
    """
    for name, worker in client.scheduler_info(n_workers=-1)["workers"].items():
        limit, total = worker["memory_limit"], needed + (worker["nthreads"] - 1) * block_bytes
        if limit and total > limit:  # 0: no limit
            raise MemoryLimitError(
                f"the blocks of worker {name} need {total / 1e9:.3g} GB, its limit is {limit / 1e9:.3g} GB: use a "
                "smaller block, or fewer threads a worker"
            )


def run_on_cluster(
    client: Any, job: Job, places: Iterator[Place], max_blocks: int, record: Callable[[BlockRecord], None]
) -> int:
    """Have every block solved and written by the workers; ``record`` is called here for each that is on the disk.

    A worker that is lost costs the blocks that it had in hand: the scheduler gives them to others.

    Returns:
        The most blocks that were in the cluster's hands at once.

    Raises:
        EquikernelError: what a block raised, or the cluster is lost.
    """
    from distributed import CancelledError, KilledWorker, as_completed
    from distributed.client import ClosedClientError

    # a task, and not data sent to one worker: it can be had again when that worker is lost
    remote = client.submit(itself, job, pure=False)
    futures = {client.submit(Job.solve_and_write, remote, place, pure=False) for place in islice(places, max_blocks)}
    completed: Any = as_completed(futures)  # type: ignore[no-untyped-call]
    most = len(futures)
    try:
        for future in completed:
            record(future.result())
            futures.discard(future)
            for place in islice(places, 1):
                following = client.submit(Job.solve_and_write, remote, place, pure=False)
                futures.add(following)
                completed.add(following)
            most = max(most, len(futures))
    except KilledWorker as error:
        raise InputError(
            f"a block's worker was killed {error.allowed_failures + 1} times (too little memory?): use a smaller block "
            "or larger workers and call again, blocks that are done are kept"
        ) from error
    except (CancelledError, ClosedClientError, OSError) as error:
        raise EquikernelError("the cluster was lost: call again, blocks that are done are kept") from error
    finally:
        for future in futures:  # what is not begun is not begun any more
            future.release()
    return most
