"""Timing for the benchmarks: contenders take turns in one process, and a record says what was measured where."""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from equikernel.validation.store import write_text

__all__ = ["arguments", "take_turns", "write_record"]

_PACKAGES = ("mpmath", "numba", "numpy", "scipy", "sympy")


def take_turns(contenders: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, dict[str, float]]:
    """Median, least and largest seconds of every contender, run in turns after one round that is not counted.

    Turns, because a machine that slows down for a while should slow down all of them.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for count in range(repeats + 1):
        for name, run in contenders.items():
            gc.collect()
            start = time.perf_counter()
            run()
            elapsed = time.perf_counter() - start
            if count:
                seconds[name].append(elapsed)
    return {
        name: {"median": statistics.median(taken), "least": min(taken), "largest": max(taken)}
        for name, taken in seconds.items()
    }


def arguments(description: str, *, repeats: int) -> argparse.ArgumentParser:
    """A parser with what every benchmark takes: --repeats and --out."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--repeats", type=int, default=repeats, help="timed runs of every contender")
    parser.add_argument("--out", type=Path, help="a .json file for the numbers")
    return parser


def write_record(out: Path | None, parameters: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """The rows, what they were run with and where, as one JSON file; nothing without a path."""
    if out is None:
        return
    record = {
        "parameters": {name: str(value) for name, value in parameters.items()},
        "versions": {name: metadata.version(name) for name in ("equikernel", *_PACKAGES)},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "load_average": os.getloadavg(),
        "rows": list(rows),
    }
    write_text(out, json.dumps(record, indent=1, allow_nan=False) + "\n")
