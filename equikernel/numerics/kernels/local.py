"""Blocks solved in this process, one after the other, while a second thread writes those that are solved."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from equikernel.numerics.kernels.job import Buffers, Job
from equikernel.numerics.kernels.manifest import BlockRecord
from equikernel.numerics.kernels.plan import Place

__all__ = ["run_here", "streaming_bytes"]

_WORKSPACE = 2**27  # of the threads' tiles, and of strips on their way to the disk


def streaming_bytes(job: Job, max_blocks: int) -> int:
    """Bytes that streaming takes at most, besides the interpreter and the caller's own arrays."""
    kernels = job.engine.ck + job.engine.ntk
    return max_blocks * kernels * job.plan.block_bytes + job.prepared_bytes + 4 * job.sample_bytes + _WORKSPACE


def run_here(job: Job, places: list[Place], max_blocks: int, record: Callable[[BlockRecord], None]) -> int:
    """Have every block solved and written; ``record`` is called for each that is on the disk.

    Returns:
        The most blocks that were held at once: no more arrays are made than max_blocks blocks take.
    """
    free: list[Buffers] = []
    made = 0
    pending: deque[tuple[BlockRecord, Future[None], Buffers]] = deque()

    def settle(left: int) -> None:
        while pending and (len(pending) > left or pending[0][1].done()):
            done, written, arrays = pending.popleft()
            written.result()
            free.append(arrays)
            record(done)

    with ThreadPoolExecutor(1) as writer:
        try:
            for place in places:
                settle(max_blocks - 1)
                if not free:
                    made += 1
                arrays = free.pop() if free else job.arrays()
                solved, done = job.solve(place, job.views(arrays, place))
                pending.append((done, writer.submit(job.write, place, solved), arrays))
        finally:  # what is solved is not lost when a later block cannot be
            settle(0)
    return made
