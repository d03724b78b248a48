"""Independent tasks in as many threads as numba is set to use."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba

__all__ = ["in_threads"]

_WORTH_THREADS = 2**18  # fewer numbers than that are done before a thread has started


def in_threads(task: Callable[[int], Any], count: int, size: int) -> None:
    """task(0), ..., task(count - 1) in ``numba.get_num_threads()`` threads, in no order; one thread for a small size.

    The tasks must not depend on each other, and should leave Python's interpreter lock to others while they compute.
    """
    threads = min(numba.get_num_threads(), count)
    if threads == 1 or size < _WORTH_THREADS:
        for k in range(count):
            task(k)
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in pool.map(task, range(count)):
            del done
