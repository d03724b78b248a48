"""One measured process of exact_memory.py: reports each event as a line of JSON and waits for a line before it goes on.

    python exact_memory_child.py '{"job": "kernel", "n": 200, "activation": "relu"}'

It imports nothing but what it measures, and its clock starts with its first statement.
"""

import time

_START = time.perf_counter()

import json  # noqa: E402 - the clock comes first
import sys  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Any  # noqa: E402

FEATURES = 784


def _report(event: str, seconds: float) -> None:
    """Tell the parent what has happened, and let it read this process's memory before anything else does."""
    print(json.dumps({"event": event, "seconds": seconds}), flush=True)
    sys.stdin.readline()


def _samples(n: int) -> Any:
    """Standard normal samples over sqrt(p), (n, p), made in place."""
    import numpy as np

    X = np.empty((n, FEATURES))
    np.random.default_rng(0).standard_normal(out=X)
    X *= FEATURES**-0.5
    return X


def _timed(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def kernel(n: int, activation: str) -> None:
    """CK and NTK of n samples in memory, twice: the first call compiles, or finds compiled code."""
    from equikernel.numerics.kernels import implicit_kernels
    from equikernel.theory.models import DEQ

    _report("imported", time.perf_counter() - _START)
    X, deq = _samples(n), DEQ(activation, "0.2", "0.8")
    _report("data", time.perf_counter() - _START)
    for event in ("first call", "second call"):
        _report(event, _timed(lambda: implicit_kernels(X, deq, tau0=1, ntk=True)))


def stream(n: int, activation: str, folder: str) -> None:
    """CK and NTK of n samples streamed to files in a folder."""
    from equikernel import stream_kernels
    from equikernel.theory.models import DEQ

    _report("imported", time.perf_counter() - _START)
    X, deq = _samples(n), DEQ(activation, "0.2", "0.8")
    _report("data", time.perf_counter() - _START)
    _report("first call", _timed(lambda: stream_kernels(X, deq, folder, tau0=1)))


_JOBS: dict[str, Callable[..., None]] = {"kernel": kernel, "stream": stream}

if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    _JOBS[asked.pop("job")](**asked)
