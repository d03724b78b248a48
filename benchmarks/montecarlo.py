"""E[phi(u) phi(v)] by Monte Carlo: equikernel's two samplers against plain NumPy and a plain numba loop.

    OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=2 .venv/bin/python benchmarks/montecarlo.py --out montecarlo.json

All contenders average phi(u) phi(v) over pairs with variances 1 and correlation 1/2, each with a number of samples that
takes it some hundredths of a second; what is compared is samples a second.

- "numpy" is what one writes first: PCG64's standard_normal, u, v, the product and its mean, on arrays of 2^20 numbers.
- "numpy blocks" is the same on arrays of 2^14 numbers, which stay in the cache.
- "numba loop" is a compiled loop over numba's own normals and the C library's functions.
- "independent" is ``independent_duals``, one call; "independent, both" estimates E[phi'(u) phi'(v)] as well.
- "sobol" is ``sobol_duals`` with 16 replicates of 2^16 points, one call for each of eight covariances, whose points
  were made before (such a call is too short for a second thread); "sobol first" makes them anew for every call; "sobol,
  64 at once" is one call for 64 covariances.

Rates are medians of wall-clock time, with the least and the largest; beside them, for one thread, the median of
processor time, which the work of others on the machine disturbs less. Ratios are to "numpy".

The last line compares errors: the root mean square of 32 errors of "sobol", and the standard error of the independent
samples that equikernel draws in the time of one such estimate.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import scipy.special
from timing import arguments, take_turns, write_record

from equikernel.numerics.dual import pair_duals
from equikernel.numerics.montecarlo import independent_duals, sobol_duals
from equikernel.theory.activation import Activation, activation

_RHO = 0.5
_ACROSS = math.sqrt(1.0 - _RHO**2)
_PLAIN, _INDEPENDENT = 2**20, 2**22
_SAMPLES, _REPLICATES, _COVARIANCES, _AT_ONCE = 2**16, 16, 8, 64
_SEEDS = 32
_Contender = tuple[Callable[[], Any], int]  # what to run, and its number of samples

# What plain implementations have instead of equikernel's activations: phi written by hand, for arrays and for numbers.
_ARRAYS: dict[str, Callable[[Any], Any]] = {
    "relu": lambda x: np.maximum(x, 0.0),
    "tanh": np.tanh,
    "gelu": lambda x: 0.5 * x * scipy.special.erfc(-x / math.sqrt(2.0)),
}


@numba.njit
def _relu(x: float) -> float:
    return max(x, 0.0)


@numba.njit
def _tanh(x: float) -> float:
    return math.tanh(x)


@numba.njit
def _gelu(x: float) -> float:
    return 0.5 * x * math.erfc(-x / math.sqrt(2.0))


_NUMBERS = {"relu": _relu, "tanh": _tanh, "gelu": _gelu}


@numba.njit
def _numba_loop(phi: Any, samples: int) -> float:
    total = 0.0
    for _ in range(samples):
        u, other = np.random.standard_normal(), np.random.standard_normal()  # noqa: NPY002 - numba's generator
        total += phi(u) * phi(_RHO * u + _ACROSS * other)
    return total / samples


def _numpy(phi: Callable[[Any], Any], generator: np.random.Generator, samples: int, block: int) -> float:
    means = []
    for _ in range(samples // block):
        u, other = generator.standard_normal(block), generator.standard_normal(block)
        means.append(np.mean(phi(u) * phi(_RHO * u + _ACROSS * other)))
    return float(np.mean(means))


def contenders(name: str, phi: Activation) -> dict[str, _Contender]:
    """What takes turns, in one thread."""
    generator = np.random.Generator(np.random.PCG64(0))
    plain, loop = _ARRAYS[name], _NUMBERS[name]
    covariances = np.linspace(_RHO, 0.9, _COVARIANCES).tolist()
    seeds = itertools.count(1)

    def sobol(seed: int = 0, count: int = _COVARIANCES) -> Any:
        found = [sobol_duals(phi, 1.0, 1.0, c, slope=False, seed=seed) for c in covariances[:count]]
        return found[0].value

    return {
        "numpy": (lambda: _numpy(plain, generator, _PLAIN, _PLAIN), _PLAIN),
        "numpy blocks": (lambda: _numpy(plain, generator, _PLAIN, 2**14), _PLAIN),
        "numba loop": (lambda: _numba_loop(loop, _PLAIN), _PLAIN),
        "independent": (
            lambda: independent_duals(phi, 1.0, 1.0, _RHO, slope=False, samples=_INDEPENDENT).value,
            _INDEPENDENT,
        ),
        "independent, both": (lambda: independent_duals(phi, 1.0, 1.0, _RHO, samples=_INDEPENDENT).value, _INDEPENDENT),
        "sobol": (sobol, _SAMPLES * _REPLICATES * _COVARIANCES),
        "sobol first": (lambda: sobol(next(seeds), 1), _SAMPLES * _REPLICATES),
        "sobol, 64 at once": (
            lambda: sobol_duals(phi, 1.0, 1.0, np.linspace(_RHO, 0.9, _AT_ONCE), slope=False).value[0],
            _SAMPLES * _REPLICATES * _AT_ONCE,
        ),
    }


def _on_the_clock(run: Callable[[], Any], taken: list[float]) -> Callable[[], Any]:
    """The same, adding its processor seconds to a list."""

    def clocked() -> Any:
        start = time.process_time()
        result = run()
        taken.append(time.process_time() - start)
        return result

    return clocked


def run(name: str, threads: int, repeats: int) -> dict[str, Any]:
    """One activation: samples a second, ratios to NumPy, errors at equal time."""
    numba.set_num_threads(threads)
    phi = activation(name)
    truth = pair_duals(phi, 0.0, 1.0, 1.0, _RHO)[0]
    runs = contenders(name, phi)
    if threads > 1:  # the plain ones have one thread whatever is set
        runs = {who: run for who, run in runs.items() if who not in ("numpy blocks", "numba loop")}
    for who, (estimate, samples) in runs.items():
        # a sample has a standard deviation below one, and 2^20 samples are the fewest in an estimate
        assert abs(float(estimate()) - truth) < 6.0 / math.sqrt(min(samples, _PLAIN)), who
    processor: dict[str, list[float]] = {who: [] for who in runs}
    seconds = take_turns({who: _on_the_clock(run, processor[who]) for who, (run, _) in runs.items()}, repeats)
    rates = {who: {key: runs[who][1] / taken[other] for key, other in _RATES.items()} for who, taken in seconds.items()}
    for who, taken in processor.items():
        rates[who]["processor"] = runs[who][1] / statistics.median(taken[1:])  # the first round is not counted
    found = [sobol_duals(phi, 1.0, 1.0, _RHO, slope=False, seed=1000 + seed) for seed in range(_SEEDS)]
    error = math.sqrt(np.mean([(float(f.value) - truth) ** 2 for f in found]))
    claimed = math.sqrt(np.mean([float(f.value_error) ** 2 for f in found]))
    plain = independent_duals(phi, 1.0, 1.0, _RHO, slope=False, samples=_INDEPENDENT)
    samples = rates["independent"]["median"] * seconds["sobol"]["median"] / _COVARIANCES
    independent = float(plain.value_error) * math.sqrt(_INDEPENDENT / samples)
    return {
        "activation": name,
        "threads": threads,
        "seconds": seconds,
        "samples_per_second": rates,
        "over_numpy": {
            who: {key: rate[key] / rates["numpy"][key] for key in ("median", "processor")}
            for who, rate in rates.items()
        },
        "sobol_error": error,
        "sobol_claimed_error": claimed,
        "independent_error_in_equal_time": independent,
    }


_RATES = {"median": "median", "least": "largest", "largest": "least"}


def report(row: dict[str, Any]) -> None:
    """A few lines for one activation."""
    print(f"{row['activation']}, {row['threads']} thread{'s' * (row['threads'] > 1)}: million samples a second")
    for who, rate in row["samples_per_second"].items():
        median, least, largest, processor = (rate[k] / 1e6 for k in ("median", "least", "largest", "processor"))
        times = row["over_numpy"][who]
        line = f"  {who:18s} {median:7.1f} ({least:6.1f} to {largest:6.1f}) {times['median']:6.1f} x"
        print(line + f"   processor {processor:7.1f} {times['processor']:6.1f} x" * (row["threads"] == 1))
    error, independent = row["sobol_error"], row["independent_error_in_equal_time"]
    print(
        f"  error of sobol {error:.2g} (claimed {row['sobol_claimed_error']:.2g}), of independent samples in the same "
        f"time {independent:.2g}: {independent / error:.0f} times as large"
    )


def main() -> None:
    """Run, print, and write the record."""
    parser: argparse.ArgumentParser = arguments("Monte Carlo of dual activations against NumPy and numba", repeats=9)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads to try")
    given = parser.parse_args()
    rows = []
    for threads in given.threads:
        if threads > numba.config.NUMBA_NUM_THREADS:
            print(f"{threads} threads: skipped, since NUMBA_NUM_THREADS is {numba.config.NUMBA_NUM_THREADS}")
            continue
        for name in _ARRAYS:
            rows.append(run(name, threads, given.repeats))
            report(rows[-1])
    write_record(given.out, vars(given), rows)


if __name__ == "__main__":
    main()
