"""Pairs of independent standard normals by number: pair n of a stream is a function of the stream's key and of n."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from equikernel.numerics.montecarlo.elementary import circle_point, log_of_normal, unit_number

__all__ = ["fill_normals", "gaussian_pair", "random_bits", "stream_keys"]

# a product and a sum may be fused (one rounding instead of two), but no sum is reordered
_compiled = numba.njit(cache=True, error_model="numpy", fastmath={"contract"}, forceinline=True)

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIERS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)


def stream_keys(seed: int, purpose: int, count: int) -> npt.NDArray[np.uint64]:
    """Keys of ``count`` streams; streams of other seeds and purposes have nothing in common but by accident (2^-64)."""
    keys = np.random.SeedSequence(seed, spawn_key=(purpose,)).generate_state(count, np.uint64)
    return keys.astype(np.uint64, copy=False)


@_compiled
def random_bits(key: np.uint64, n: np.uint64) -> np.uint64:
    """64 random bits for the number n: SplitMix64 [Steele, Lea & Flood 2014], whose n-th output is a hash of n."""
    z = key + n * _STEP
    z = (z ^ (z >> _SHIFTS[0])) * _MULTIPLIERS[0]
    z = (z ^ (z >> _SHIFTS[1])) * _MULTIPLIERS[1]
    return z ^ (z >> _SHIFTS[2])


@_compiled
def gaussian_pair(radial: np.uint64, angular: np.uint64, variance: float) -> tuple[float, float, float]:
    """(a, b, x) with (a, b) = sqrt(-2 variance log x) (cos t, sin t), x and t/(2 pi) uniform from 64 bits each.

    a and b are independent normals of that variance, and x = exp(-(a^2 + b^2)/(2 variance)) [Box & Muller 1958].
    """
    x = unit_number(radial)
    radius = math.sqrt(-2.0 * variance * log_of_normal(x))
    cosine, sine = circle_point(angular)
    return radius * cosine, radius * sine, x


@numba.njit(cache=True, error_model="numpy", fastmath={"contract"})
def fill_normals(key: np.uint64, first: int, a: Any, b: Any) -> None:
    """Pairs ``first``, ``first`` + 1, ... of a stream into the arrays a and b, (n,) each, |a|, |b| <= 8.6."""
    for k in range(a.size):
        n = np.uint64(2 * (first + k))
        a[k], b[k], _ = gaussian_pair(random_bits(key, n), random_bits(key, n + np.uint64(1)), 1.0)
