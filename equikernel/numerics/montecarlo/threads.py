"""Independent tasks in as many threads as numba is set to use."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any

import numba

__all__ = ["in_threads"]

_WORTH_THREADS = 2**22  # terms: fewer are summed before a second thread has helped


def in_threads(task: Callable[[int], Any], count: int, terms: int) -> None:
    """task(0), ..., task(count - 1) in ``numba.get_num_threads()`` threads, this one among them, in no order.

    The tasks must not depend on each other, and should leave Python's interpreter lock to others while they compute.
    They are worth several threads when they sum many terms in all.
    """
    threads = min(numba.get_num_threads(), count) if terms >= _WORTH_THREADS else 1
    waiting: SimpleQueue[int] = SimpleQueue()
    for k in range(count):
        waiting.put(k)

    def work() -> None:
        while True:
            try:
                k = waiting.get_nowait()
            except Empty:
                return
            task(k)

    if threads == 1:
        work()
        return
    with ThreadPoolExecutor(threads - 1) as pool:
        others = [pool.submit(work) for _ in range(threads - 1)]
        work()
        for other in others:
            other.result()
