"""E[phi(u) phi(v)] by Monte Carlo: equikernel's two samplers against plain NumPy and a plain numba loop.

    OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=2 .venv/bin/python benchmarks/montecarlo.py --out montecarlo.json

All contenders average phi(u) phi(v) over pairs with variances 1 and correlation 1/2, each with a number of samples that
takes it some hundredths of a second; what is compared is samples a second.

- "numpy" is what one writes first: PCG64's standard_normal, u, v, the product and its mean, on arrays of 2^20 numbers.
- "numpy blocks" is the same on arrays of 2^14 numbers, which stay in the cache.
- "numba loop" is a compiled loop over numba's own normals and the C library's functions.
- "independent" is ``independent_duals``, one call; "independent, both" estimates E[phi'(u) phi'(v)] as well.
- "sobol" is ``sobol_duals`` with 16 replicates of 2^16 points, one call for each of several covariances, whose points
  were made before; "sobol first" makes them anew for every call.

The last lines compare errors: the root mean square of 32 errors of "sobol", and the standard error of the independent
samples that equikernel draws in the time of one such estimate.
"""

from __future__ import annotations

import argparse
import itertools
import math
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
_SAMPLES, _REPLICATES, _COVARIANCES = 2**16, 16, 8
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
    }


def run(name: str, threads: int, repeats: int) -> dict[str, Any]:
    """One activation: samples a second, ratios to NumPy, errors at equal time."""
    numba.set_num_threads(threads)
    phi = activation(name)
    truth = pair_duals(phi, 0.0, 1.0, 1.0, _RHO)[0]
    runs = contenders(name, phi)
    if threads > 1:  # the plain ones have one thread whatever is set
        runs = {who: runs[who] for who in ("numpy", "independent", "independent, both", "sobol", "sobol first")}
    for who, (estimate, samples) in runs.items():
        # all estimates have a standard deviation below one a sample
        assert abs(float(estimate()) - truth) < 6.0 / math.sqrt(samples), who
    seconds = take_turns({who: estimate for who, (estimate, _) in runs.items()}, repeats)
    rates = {who: {key: runs[who][1] / taken[other] for key, other in _RATES.items()} for who, taken in seconds.items()}
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
        "over_numpy": {who: rate["median"] / rates["numpy"]["median"] for who, rate in rates.items()},
        "sobol_error": error,
        "sobol_claimed_error": claimed,
        "independent_error_in_equal_time": independent,
    }


_RATES = {"median": "median", "least": "largest", "largest": "least"}


def report(row: dict[str, Any]) -> None:
    """A few lines for one activation."""
    print(f"{row['activation']}, {row['threads']} thread{'s' * (row['threads'] > 1)}: million samples a second")
    for who, rate in row["samples_per_second"].items():
        median, least, largest = (rate[key] / 1e6 for key in ("median", "least", "largest"))
        print(f"  {who:18s} {median:8.1f} ({least:.1f} to {largest:.1f}), {row['over_numpy'][who]:6.1f} times numpy")
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
