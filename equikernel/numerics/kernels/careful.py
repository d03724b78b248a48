"""The pairs that the short series of a tile cannot do: a long series, then quadrature in the angle between the samples.

Kinks make Hermite coefficients decay like a power of k, so that near r = 1 no series will do. There the equation is
solved for y = 1 - |r| and not for r, which would have lost the digits of y: with r = s (1 - y), s = +-1,

    2 w_i w_j y + (w_i - w_j)^2 = sigma_a2 E[(phi_c(u) - s phi_c(v))^2] + sigma_b2 ||x_i - s x_j||^2,

every term of which is known to its own last digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from equikernel.numerics.data import row_norms
from equikernel.numerics.dual import rotated_duals
from equikernel.numerics.kernels.samples import TAIL, Scales, scaled_rows, series_reach
from equikernel.numerics.kernels.table import TIERS, HermiteTable

__all__ = [
    "CAREFUL",
    "CLOSE",
    "CRITICAL",
    "LONG",
    "UNSETTLED",
    "Pairs",
    "Solved",
    "opposite_distance",
    "solve_by_angle",
    "solve_by_long_series",
    "squared_distance",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

LONG, CAREFUL, UNSETTLED = 2, 3, -1  # how a pair was solved
_LANES = 8
_LONG_TERMS = TIERS[1:]
_COSTLY, _MANY = 1024, 256  # a table of more terms is made when quadrature would have to do more pairs than this
_STEPS = 100
CRITICAL = 0.95  # sigma_a2 F' above which errors of r are amplified too much
CLOSE = 1e-3  # kinks make the slope as sensitive as sqrt(1 - |r|): above 1 - this, r has too few digits
_ROUNDING = 2.0**-50  # of r
_ULPS = 2.0**-51
_SETTLED, _NOTHING = 1e-14, 1e-22  # of y = 1 - |r|, relative and absolute
_LEAST_RATE = 1e-6  # of 1 - sigma_a2 F', below which a plain step takes the place of Newton's
_BATCH = 1024


@dataclass(frozen=True)
class Pairs:
    """Pairs of a block, arrays of one shape: places of the rows and columns, and <x_i, x_j>."""

    i: IntArray
    j: IntArray
    products: FloatArray

    def only(self, which: npt.NDArray[Any]) -> Pairs:
        return Pairs(self.i[which], self.j[which], self.products[which])


@dataclass(frozen=True)
class Solved:
    """G, E[phi'(u) phi'(v)], the correlation and the method of pairs; for the next layer E[(phi_c(u) - s phi_c(v))^2].

    error is relative to sqrt(E phi_c(u)^2 E phi_c(v)^2).
    """

    G: FloatArray
    G_dot: FloatArray
    r: FloatArray
    method: npt.NDArray[np.int8]
    distance: FloatArray
    error: FloatArray

    @classmethod
    def empty(cls, n: int) -> Solved:
        G, G_dot, r, distance = (np.full(n, np.nan) for _ in range(4))
        return cls(G, G_dot, r, np.zeros(n, np.int8), distance, np.zeros(n))


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _long_series(a: Any, b: Any, r: float) -> tuple[float, float]:
    """sum_(k>=1) a_k b_k r^k and its derivative: eight interleaved Horner schemes in r^8."""
    x = r**_LANES
    p, d = np.zeros(_LANES), np.zeros(_LANES)
    for block in range(len(a) // _LANES - 1, -1, -1):
        left, right = a[block * _LANES : (block + 1) * _LANES], b[block * _LANES : (block + 1) * _LANES]
        for lane in range(_LANES):
            d[lane] = d[lane] * x + p[lane]
            p[lane] = p[lane] * x + left[lane] * right[lane]
    value, slope = 0.0, 0.0
    # value = sum_lane r^lane p_lane(r^8), by Horner again; its derivative lane by lane
    chain = _LANES * r ** (_LANES - 1)
    for lane in range(_LANES - 1, -1, -1):
        slope = slope * r + value
        value = value * r + p[lane]
    power = 1.0
    for lane in range(_LANES):
        slope += power * chain * d[lane]
        power *= r
    return value, slope


@numba.njit(cache=True, nogil=True)
def _solve_long(a: Any, b: Any, i: Any, j: Any, s: Any, sigma_a2: float, F: Any, F_dot: Any, r_out: Any) -> None:
    """Newton's iteration for r = s + sigma_a2 F(r), pair by pair; F_dot is NaN where it did not settle."""
    for p in range(len(s)):
        left, right = a[i[p]], b[j[p]]
        r = min(max(s[p], -1.0), 1.0)
        value, slope = _long_series(left, right, r)
        settled = sigma_a2 == 0.0
        for _ in range(_STEPS):
            if settled:
                break
            rate = 1.0 - sigma_a2 * slope
            gap = s[p] + sigma_a2 * value - r
            moved = min(max(r + gap / (rate if rate > _LEAST_RATE else 1.0), -1.0), 1.0)
            settled = abs(gap) <= _ROUNDING
            r = moved
            value, slope = _long_series(left, right, r)
        F[p], r_out[p] = value, r
        F_dot[p] = slope if settled else np.nan


def solve_by_long_series(
    table: HermiteTable, rows: Scales, columns: Scales, pairs: Pairs, sigmas: tuple[float, float]
) -> Solved:
    """What more terms of the series can do; the others are left with method 0 (or UNSETTLED), r being an estimate."""
    result = Solved.empty(len(pairs.i))
    pending = np.arange(len(pairs.i))
    for terms in _LONG_TERMS:
        if terms > _COSTLY and len(pending) < _MANY:
            break
        for start in range(0, len(pending), _BATCH):
            chunk = pending[start : start + _BATCH]
            _long_batch(table, (rows, columns), pairs.only(chunk), sigmas, terms, result, chunk)
        pending = np.flatnonzero(result.method != LONG)
        if not len(pending):
            break
    return result


def _long_batch(
    table: HermiteTable,
    sides: tuple[Scales, Scales],
    pairs: Pairs,
    sigmas: tuple[float, float],
    terms: int,
    result: Solved,
    places: IntArray,
) -> None:
    rows, columns = sides
    sigma_a2, sigma_b2 = sigmas
    a, i, limit_i = _long_rows(table, rows, pairs.i, terms)
    b, j, limit_j = _long_rows(table, columns, pairs.j, terms)
    w = rows.roots[pairs.i] * columns.roots[pairs.j]
    inverse = rows.inverse_roots[pairs.i] * columns.inverse_roots[pairs.j]
    constant = rows.means[pairs.i] * columns.means[pairs.j]
    s = (sigma_b2 * pairs.products + sigma_a2 * constant) * inverse
    F, F_dot, r = (np.empty(len(s)) for _ in range(3))
    _solve_long(a, b, i, j, s, sigma_a2, F, F_dot, r)
    settled = np.isfinite(F_dot)
    reach = min(limit_i, limit_j)
    if table.activation.breakpoints:
        reach = min(reach, 1.0 - CLOSE)
    done = settled & (np.abs(r) <= reach) & ~(sigma_a2 * F_dot > CRITICAL)
    result.G[places], result.G_dot[places], result.r[places] = constant + w * F, F_dot, r
    result.method[places] = np.where(done, LONG, np.where(settled, 0, UNSETTLED))
    result.error[places] = TAIL


def _long_rows(table: HermiteTable, side: Scales, places: IntArray, terms: int) -> tuple[FloatArray, IntArray, float]:
    """C_k of the samples in question (index 0 emptied), where each is found, and the largest |r| they are good for."""
    distinct, inverse = np.unique(places, return_inverse=True)
    rows = scaled_rows(table, side.variances[distinct], terms)
    rows[:, 0] = 0.0
    reach = series_reach(rows, side.energy[distinct], side.slope_energy[distinct])
    return rows, inverse.ravel(), reach


def solve_by_angle(
    table: HermiteTable,
    sides: tuple[Scales, Scales],
    pairs: Pairs,
    distances: FloatArray,
    sigma_a2: float,
    estimate: FloatArray,
) -> Solved:
    """Newton's iteration in y = 1 - |r| by quadrature (see the module's docstring).

    Args:
        table: of the activation.
        sides: scales of the rows and of the columns.
        pairs: which.
        distances: sigma_b2 ||x_i - s x_j||^2 (with sigma_a2 = 0 the distance of a layer's inputs), s the sign of r.
        sigma_a2: hidden variance.
        estimate: r, roughly, and its sign s.
    """
    rows, columns = sides
    n = len(pairs.i)
    q = rows.variances[pairs.i], columns.variances[pairs.j]
    w = rows.roots[pairs.i] * columns.roots[pairs.j]
    apart = (q[0] - q[1]) ** 2 / (rows.roots[pairs.i] + columns.roots[pairs.j]) ** 2
    sign = np.where(estimate < 0.0, -1.0, 1.0)
    given = (distances - apart) / (2.0 * w)
    size = (distances + apart) / (2.0 * w)  # of what may cancel in the equation
    energy = np.maximum(rows.second_moment[pairs.i], columns.second_moment[pairs.j])
    y = np.clip(1.0 - np.abs(estimate) if sigma_a2 else given, 0.0, 1.0)
    result = Solved.empty(n)
    result.method[:] = UNSETTLED
    pending, settled = np.arange(n), np.zeros(n, dtype=bool)
    before: tuple[FloatArray, FloatArray] | None = None
    for _ in range(_STEPS):
        at = y[pending]
        omega = 2.0 * np.arcsin(np.sqrt(0.5 * at))
        found = rotated_duals(table.activation, rows.centre, q[0][pending], q[1][pending], omega, sign[pending])
        result.G[pending], result.G_dot[pending] = found.value, found.slope
        result.distance[pending], result.error[pending] = found.distance, found.error
        if not sigma_a2:
            result.method[:] = CAREFUL
            break
        gap = at - given[pending] - sigma_a2 * found.distance / (2.0 * w[pending])
        moved = np.clip(at - gap / _rate(sigma_a2, found.slope, at, gap, before), 0.0, 1.0)
        # phi(u) - phi(v) is known to the last digits of phi, not to its own
        blur = found.distance + np.sqrt(found.distance * energy[pending])
        noise = _ULPS * (4.0 * size[pending] + sigma_a2 * blur / (2.0 * w[pending]))
        y[pending] = moved
        done = settled[pending]  # with the step after the one that settled: its error is divided by 1 - sigma_a2 F'
        settled[pending] = np.abs(gap) <= _SETTLED * at + noise + _NOTHING
        result.method[pending[done]] = CAREFUL
        before = (at[~done], gap[~done])
        pending = pending[~done]
        if not len(pending):
            break
    result.r[:] = sign * (1.0 - y)
    return result


def _rate(
    sigma_a2: float, slope: FloatArray, y: FloatArray, gap: FloatArray, before: tuple[FloatArray, FloatArray] | None
) -> FloatArray:
    """The derivative of the gap in y: 1 - sigma_a2 E[phi' phi'], or the secant's where phi jumps."""
    if np.isfinite(slope).all():
        return np.maximum(1.0 - sigma_a2 * slope, _LEAST_RATE)
    if before is None:
        return np.ones_like(y)
    with np.errstate(divide="ignore", invalid="ignore"):
        secant = (gap - before[1]) / (y - before[0])
    usable: FloatArray = np.where(np.isfinite(secant) & (secant > _LEAST_RATE), secant, 1.0)
    return usable


def opposite_distance(scales: tuple[Scales, Scales], pairs: Pairs, distance: FloatArray) -> FloatArray:
    """E[(phi_c(u) + s phi_c(v))^2] from E[(phi_c(u) - s phi_c(v))^2]."""
    rows, columns = scales
    return 2.0 * (rows.second_moment[pairs.i] + columns.second_moment[pairs.j]) - distance


def squared_distance(x: FloatArray, y: FloatArray, sign: FloatArray) -> FloatArray:
    """||x_i - s_i y_i||^2 of rows, from the differences themselves."""
    return row_norms(x - sign[:, None] * y)
