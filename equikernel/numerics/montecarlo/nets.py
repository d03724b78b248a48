"""Scrambled Sobol nets in the plane, as weighted points for Gaussian averages, and a bounded store of them.

The 2^m points (f, T f), f = 0, ..., 2^m - 1, of the first two Sobol sequences are a (0, m, 2)-net: every rectangle of
area 2^-m with dyadic sides holds exactly one. Each replicate scrambles their digits anew by nested uniform scrambling
[Owen 1995], the randomisation for which averages over such nets are asymptotically normal [Loh 2003]. (A random linear
scramble with a digital shift, as in SciPy, has the same variance, but errors with heavy tails when the integrand is
smooth: an excess kurtosis of 49 against 0.3 was measured for E[tanh'(u) tanh'(v)] at 2^14 points. Its error bars would
hang on rare replicates.)

A point (x, y) of the unit square becomes sqrt(-4 log x) (cos 2 pi (y + s), sin 2 pi (y + s)), a draw from N(0, 2 I)
[Box & Muller 1958], of weight 2x, the ratio of the densities of N(0, I) and N(0, 2 I). The wider Gaussian puts points
where phi grows, and the weight takes the few outermost points their say: without it the error of a growing phi is that
of the one largest term. The rotation s, uniform and common to the points of a replicate, keeps kinks on rays through
the origin from meeting the same cells of the net in every replicate.

Points are kept in single precision, because reading them takes longer than averaging a simple phi. Rounding to nearest
is one more random error, 1e-8 of a term and independent from point to point, and leaves a bias of the order of its
square.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from equikernel.numerics.montecarlo.normals import gaussian_pair, random_bits, stream_keys
from equikernel.numerics.montecarlo.threads import in_threads

__all__ = ["LARGEST_NET", "net_batches"]

PointArray = npt.NDArray[np.float32]
LARGEST_NET = 2**24
_BATCH_BYTES = 2**26
_POINT_BYTES = 12
_EFFORT = 4  # terms that are summed in the time it takes to make a point
_KEYS = 4
_PURPOSE = 1


def net_batches(samples: int, replicates: int, seed: int) -> Iterator[PointArray]:
    """Weighted points of all replicates, in batches of shape (replicates, 3, samples): rows a, b and weight.

    A set of up to 64 MiB is one batch, and the last four such sets are kept; larger ones are made anew every time, as
    many replicates at once as fit in 64 MiB, at least one.
    """
    keys = stream_keys(seed, _PURPOSE, _KEYS * replicates).reshape(replicates, _KEYS)
    at_once = max(_BATCH_BYTES // (_POINT_BYTES * samples), 1)
    if replicates <= at_once:
        yield _kept(samples, keys.tobytes())
        return
    for start in range(0, replicates, at_once):
        yield _made(samples, keys[start : start + at_once])


@lru_cache(maxsize=4)
def _kept(samples: int, keys: bytes) -> PointArray:
    return _made(samples, np.frombuffer(keys, dtype=np.uint64).reshape(-1, _KEYS))


def _made(samples: int, keys: npt.NDArray[np.uint64]) -> PointArray:
    points = np.empty((len(keys), 3, samples), dtype=np.float32)
    m, second = np.uint64(samples.bit_length() - 1), _second_digits(samples)
    in_threads(lambda k: _fill_replicate(keys[k], m, second, points[k]), len(keys), points.size // 3 * _EFFORT)
    return points


def _second_digits(samples: int) -> npt.NDArray[np.uint32]:
    """T f for every f: the digits of the second Sobol coordinate of the point whose first has the digits f.

    Digit c of f is digit m - 1 - c of the point's index, and the direction numbers are those of the polynomial x + 1:
    the columns of Pascal's triangle modulo 2.
    """
    direction = samples // 2
    directions: list[int] = []
    while len(directions) < samples.bit_length() - 1:
        directions.append(direction)
        direction ^= direction >> 1
    digits = np.zeros(1, dtype=np.uint32)
    for direction in reversed(directions):
        digits = np.concatenate([digits, digits ^ np.uint32(direction)])
    return digits


@numba.njit(cache=True)
def _nested_scramble(key: Any, table: Any) -> None:
    """A random permutation of 0, ..., 2^m - 1 in which the first d digits of the image depend on the first d only.

    Every node of the binary tree of digits has one random bit, which says whether its two subtrees change places.
    """
    table[0] = 0
    nodes = 1
    while nodes < table.size:
        for k in range(nodes - 1, -1, -1):
            flipped = np.uint32(random_bits(key, np.uint64(nodes + k)) >> np.uint64(63))
            table[2 * k + 1] = 2 * table[k] + 1 - flipped
            table[2 * k] = 2 * table[k] + flipped
        nodes *= 2


@numba.njit(cache=True)
def _permuted(table: Any, index: Any) -> Any:
    """table[index]: NumPy's own indexing would not be compiled into vector instructions."""
    values = np.empty_like(index)
    for f in range(index.size):
        values[f] = table[index[f]]
    return values


@numba.njit(cache=True, error_model="numpy", fastmath={"contract"})
def _weighted_points(keys: Any, m: Any, first: Any, second: Any, a: Any, b: Any, weight: Any) -> None:
    """Points of the plane from the m leading digits of both coordinates; random digits follow, and one rotation."""
    free = np.uint64(64) - m
    for f in range(a.size):
        n = np.uint64(2 * f)
        x = np.uint64(first[f]) << free | random_bits(keys[2], n) >> m
        y = np.uint64(second[f]) << free | random_bits(keys[2], n + np.uint64(1)) >> m
        a[f], b[f], ratio = gaussian_pair(x, y + keys[3], 2.0)
        weight[f] = 2.0 * ratio


@numba.njit(cache=True, nogil=True)
def _fill_replicate(keys: Any, m: Any, second: Any, points: Any) -> None:
    """One replicate, (3, 2^m), from its four keys."""
    tables = np.empty((2, second.size), dtype=np.uint32)
    _nested_scramble(keys[0], tables[0])
    _nested_scramble(keys[1], tables[1])
    _weighted_points(keys, m, tables[0], _permuted(tables[1], second), points[0], points[1], points[2])
