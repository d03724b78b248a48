"""One BLAS thread a call, for as long as somebody needs it: the bits of a product then do not depend on the machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

__all__ = ["serial_blas"]

_LOCK = threading.Lock()
_HELD: list[Any] = []
_USERS = [0]


@cache
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextmanager
def serial_blas() -> Iterator[None]:
    """BLAS runs on one thread inside; blocks may nest and overlap in several threads, the last one out restores it."""
    with _LOCK:
        if _USERS[0] == 0:
            _HELD.append(_controller().limit(limits=1, user_api="blas"))
        _USERS[0] += 1
    try:
        yield
    finally:
        with _LOCK:
            _USERS[0] -= 1
            if _USERS[0] == 0:
                _HELD.pop().restore_original_limits()
