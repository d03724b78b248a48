"""Every pair at once: r = (sigma_a2 sum_k A_ik A_jk r^k + sigma_b2 s_ij)/sqrt(q_i q_j), solved by Newton's iteration.

The series is cut, pair by pair, where its tail is below rounding; the tail is bounded by the energy left in the rows,
|sum_{k>=K} A_ik A_jk r^k| <= |r|^K sqrt(R_i R_j), R_i = E phi_c^2 - sum_{k<K} A_ik^2 (and likewise for the derivative).
Pairs for which no cut will do (kinks at high |r|) are flagged and left to ``numerics.dual``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from equikernel.numerics.hermite import HermiteRows

__all__ = ["NEEDS_QUADRATURE", "cut_table", "solve_pairs"]

FloatArray = npt.NDArray[np.float64]
NEEDS_QUADRATURE = -1
_BINS_PER_BIT = 16
_BITS = 52
_TAIL = 1e-15
# the energies are differences of sums with this relative rounding: a tail below it counts as nothing
_ROUNDING = 4e-15


def cut_table(rows: HermiteRows) -> npt.NDArray[np.int64]:
    """Number of terms that suffice for |r| in each bin of -log2(1 - |r|), or NEEDS_QUADRATURE.

    Both the kernel and its derivative must be within 1e-15 of their sizes; without a derivative (phi jumps) the kernel
    alone decides.
    """
    positive = rows.variances > 0.0
    squares = rows.coefficients[positive] ** 2
    if not len(squares):
        return np.ones(_BINS_PER_BIT * _BITS + 1, dtype=np.int64)
    terms = squares.shape[1]
    energy = rows.second_moment[positive]
    tail = _relative_tail(squares, energy)
    tails = [tail]
    slope = rows.slope_energy[positive] * rows.variances[positive]
    if np.isfinite(slope).all():
        # the derivative's series has |r|^(k-1): one power less than its index
        tails.append(np.concatenate([_relative_tail(squares * np.arange(terms), slope)[1:], [np.inf]]))
    table = np.empty(_BINS_PER_BIT * _BITS + 1, dtype=np.int64)
    k = np.arange(terms + 1)
    for b in range(len(table)):
        largest = 1.0 - 2.0 ** (-(b + 1) / _BINS_PER_BIT) if b < len(table) - 1 else 1.0
        with np.errstate(under="ignore"):
            powers = largest**k
        enough = np.ones(terms + 1, dtype=bool)
        for t in tails:
            with np.errstate(invalid="ignore"):  # 0 * inf: no bound, hence not enough
                enough &= powers[: len(t)] * t <= _TAIL
        found = np.flatnonzero(enough)
        table[b] = found[0] if len(found) else NEEDS_QUADRATURE
    return table


def _relative_tail(squares: FloatArray, total: FloatArray) -> FloatArray:
    """max_i R_i(K)/total_i for K = 0 .. terms, shape (terms + 1,); zero where it is rounding."""
    kept = np.concatenate([np.zeros((len(squares), 1)), np.cumsum(squares, axis=1)], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.where(total[:, None] > 0.0, 1.0 - kept / total[:, None], 0.0)
    worst: FloatArray = np.where(left <= _ROUNDING, 0.0, left).max(axis=0)
    return worst


@numba.njit(cache=True, inline="always")
def _bin(r: float, bins: int) -> int:
    """The bin of -log2(1 - |r|)."""
    gap = 1.0 - abs(r)
    if gap <= 0.0:
        return bins - 1
    return min(int(-np.log2(gap) * _BINS_PER_BIT), bins - 1)


@numba.njit(cache=True)
def _series(a: Any, b: Any, r: float, terms: int) -> tuple[float, float]:
    """sum_k a_k b_k r^k and its derivative in r, by Horner's rule."""
    value, slope = 0.0, 0.0
    for k in range(terms - 1, -1, -1):
        slope = slope * r + value
        value = value * r + a[k] * b[k]
    return value, slope


@numba.njit(cache=True, parallel=True)
def _solve(
    A: Any, s: Any, q: Any, sigma_a2: float, sigma_b2: float, table: Any, G: Any, G_dot: Any, r_out: Any, used: Any
) -> None:
    """Fill the strict upper triangle of G, G_dot, r_out and used; see ``solve_pairs``."""
    n = A.shape[0]
    bins = table.shape[0]
    for i in numba.prange(n):
        for j in range(i + 1, n):
            scale = np.sqrt(q[i] * q[j])
            if scale == 0.0:
                # one argument is almost surely 0: independence, and only the constants survive
                G[i, j] = A[i, 0] * A[j, 0]
                G_dot[i, j] = A[i, 1] * A[j, 1]
                r_out[i, j] = 0.0
                used[i, j] = 1
                continue
            bias = sigma_b2 * s[i, j] / scale
            gain = sigma_a2 / scale
            r = min(max(bias, -1.0), 1.0)
            terms = 0
            value, slope = 0.0, 0.0
            for _ in range(60):
                terms = table[_bin(r, bins)]
                kept = A.shape[1] if terms < 0 else terms
                value, slope = _series(A[i], A[j], r, kept)
                derivative = 1.0 - gain * slope
                step = (r - gain * value - bias) / derivative if derivative > 0.05 else r - gain * value - bias
                r = min(max(r - step, -1.0), 1.0)
                if abs(step) <= 2e-16 * max(abs(r), 1e-3):
                    break
            terms = table[_bin(r, bins)]
            value, slope = _series(A[i], A[j], r, A.shape[1] if terms < 0 else terms)
            G[i, j] = value
            G_dot[i, j] = slope / scale
            r_out[i, j] = r
            used[i, j] = terms if abs(r - gain * value - bias) <= 1e-13 or terms < 0 else -2


def solve_pairs(
    rows: HermiteRows, s: FloatArray, sigma_a2: float, sigma_b2: float, table: npt.NDArray[np.int64]
) -> tuple[FloatArray, FloatArray, FloatArray, npt.NDArray[np.int64]]:
    """Solve every pair i < j with the series.

    Args:
        rows: Hermite rows at the variances q_i.
        s: inner products, (n, n). With sigma_a2 = 0 and sigma_b2 = 1 it is the covariance itself (explicit layers).
        sigma_a2: hidden variance.
        sigma_b2: input variance.
        table: from ``cut_table``.

    Returns:
        G, G_dot, r, and the number of terms used (NEEDS_QUADRATURE where the series cannot be trusted, -2 where the
        iteration did not settle); only the strict upper triangles are filled.
    """
    n = len(rows.variances)
    G, G_dot, r = (np.zeros((n, n)) for _ in range(3))
    used = np.zeros((n, n), dtype=np.int64)
    solve: Callable[..., None] = _solve
    solve(
        np.ascontiguousarray(rows.coefficients),
        s,
        rows.variances,
        sigma_a2,
        sigma_b2,
        table,
        G,
        G_dot,
        r,
        used,
    )
    return G, G_dot, r, used
