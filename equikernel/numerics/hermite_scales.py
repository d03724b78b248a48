r"""A Hermite series at other scales than its own: its Hermite coefficients, Gaussian moments and dual activations.

With gamma = sqrt(q)/tau, sigma(sqrt(q) x) = sum_k c_k he_k(gamma x) = sum_k a_k(q) he_k(x), where

    a_k(q) = gamma^k sum_{j >= 0} ((gamma^2 - 1)/2)^j/j! sqrt((k + 2j)!/k!) c_{k+2j}.

At q = tau^2 nothing is computed: a_k = c_k. For gamma < 1 no entry of this matrix exceeds gamma^(-1/2), as
E[he_n(gamma xi)^2] <= 1/gamma; for gamma > 1 the polynomial itself grows like (gamma + sqrt(gamma^2 - 1))^N.
Everything else follows from the a_k (theory, section 6): no quadrature in float64 could, since the energy of he_k lies
in |x| < 2 sqrt(k), where for k > 370 the Gaussian density is below the smallest float.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from equikernel.errors import AccuracyError
from equikernel.numerics.arithmetic import UNIT_ROUNDOFF
from equikernel.numerics.hermite_series import HermiteSeries
from equikernel.numerics.moment_values import Moment, Moments

__all__ = ["SeriesForm", "series_energies", "series_moments", "series_rows"]

FloatArray = npt.NDArray[np.float64]

_LARGEST = 1e150  # whose squares can be summed
_ULPS = 4.0  # of one step of the recurrence in j, and of a product of two coefficients


@numba.njit(cache=True, nogil=True)
def _rescale(c: Any, gamma: float, excess: float, out: Any) -> None:
    """out[k] = a_k; excess = gamma^2 - 1."""
    n = len(c)
    for k in range(n):
        factor = gamma**k
        total = factor * c[k]
        j = 1
        for m in range(k + 2, n, 2):
            factor *= excess * math.sqrt(float(m) * (m - 1.0)) / (2.0 * j)
            total += factor * c[m]
            j += 1
        out[k] = total


def _excess(series: HermiteSeries, q: float) -> float:
    """gamma^2 - 1, exactly 0 at the series' own scale."""
    own = series.scale * series.scale
    return (q - own) / own


def series_rows(series: HermiteSeries, variances: FloatArray) -> FloatArray:
    """a_k(q_i), k = 0 .. N, at positive variances, shape (n, N + 1); the bits of a row depend on q_i alone.

    Errors of about 3 N/2 units of the last place of the same sum over absolute values; none at q = scale^2.

    Raises:
        AccuracyError: overflow.
    """
    distinct, places = np.unique(variances, return_inverse=True)
    rows = np.empty((len(distinct), len(series.array)))
    for row, q in zip(rows, distinct, strict=True):
        excess = _excess(series, q)
        if excess == 0.0:
            row[:] = series.array
        else:
            _rescale(series.array, math.sqrt(q) / series.scale, excess, row)
    finite = (np.abs(rows) < _LARGEST).all(axis=1)
    if not finite.all():
        raise _overflow(series, distinct[~finite][0])
    return np.asarray(rows[places.ravel()])


def _overflow(series: HermiteSeries, q: float) -> AccuracyError:
    return AccuracyError(
        f"{series.name} overflows at q = {q:.4g}: it is made for variances of at most {series.scale**2:.4g}, beyond "
        "which polynomials of its degree explode; scale the data, or take fewer terms"
    )


def series_energies(series: HermiteSeries, variances: FloatArray) -> FloatArray:
    """V, dV/dq, v and a_0 .. a_N at positive variances, shape (n, 4 + N).

    V = sum_(k>=1) a_k^2, q dV/dq = sum_(k>=1) (k a_k^2 + sqrt((k + 1)(k + 2)) a_k a_(k+2)), q v = sum k a_k^2.

    Raises:
        AccuracyError: overflow.
    """
    rows = series_rows(series, variances)
    with np.errstate(under="ignore"):
        V, first, second = (np.array([math.fsum(row) for row in terms]) for terms in _terms(rows))
    return np.column_stack([V, (first + second) / variances, first / variances, rows])


def _terms(rows: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """a_k^2, k a_k^2 and sqrt((k + 1)(k + 2)) a_k a_(k+2) over k >= 1; the last axis is k."""
    k = np.arange(1.0, rows.shape[-1])
    a = rows[..., 1:]
    squares = a * a
    return squares, k * squares, np.sqrt((k[:-2] + 1.0) * (k[:-2] + 2.0)) * a[..., :-2] * a[..., 2:]


def series_moments(series: HermiteSeries, tau: float) -> Moments:
    """The Gaussian moments from the a_k at q = tau^2, with bounds of their rounding.

    Raises:
        AccuracyError: overflow.
    """
    q = tau * tau
    energies = series_energies(series, np.array([q]))[0]
    a = energies[3:]
    spread = _row_error(series, tau)
    provenance = "closed form (Hermite coefficients)"

    def moment(value: float, error: float, symmetry: str = "", holds: bool = False) -> Moment:
        if holds:
            return Moment(0.0, 0.0, f"symmetry ({symmetry})")
        return Moment(value, error + _ULPS * UNIT_ROUNDOFF * abs(value), provenance)

    # a_k moves by e_k: a product of two by |a| e + |e| a + e e, and is rounded besides
    near, far = np.abs(a), np.abs(a) + spread
    sums = [math.fsum(x) for x in _terms(near)]
    moved = [math.fsum(x) - before for x, before in zip(_terms(far), sums, strict=True)]
    errors = [m + 2.0 * _ULPS * UNIT_ROUNDOFF * size for m, size in zip(moved, sums, strict=True)]
    odd, even = series.parity == "odd", series.parity == "even"
    a2, e2 = (float(v[2]) if len(v) > 2 else 0.0 for v in (a, spread))
    flat = series.odd_up_to_constant
    return Moments(
        activation=series,
        tau=tau,
        mean=moment(float(a[0]), float(spread[0]), "odd", odd),
        V=moment(float(energies[0]), errors[0]),
        d1=moment(float(a[1]) / tau, float(spread[1]) / tau, "even", even),
        d2=moment(math.sqrt(2.0) * a2 / q, math.sqrt(2.0) * e2 / q, "odd" if odd else "odd up to a constant", flat),
        h=moment(float(energies[1]), (errors[1] + errors[2]) / q),
        v_or_none=moment(float(energies[2]), errors[1] / q),
    )


def _row_error(series: HermiteSeries, tau: float) -> FloatArray:
    """Bounds of the errors of ``series_rows`` at q = tau^2."""
    if tau == series.scale:
        return np.zeros(len(series.array))
    # q and the scale's square are rounded, which moves gamma^2 - 1 by up to 3 u; it enters the j-th term j times
    excess = max(abs(_excess(series, tau * tau)), 4.0 * UNIT_ROUNDOFF)
    sizes, gamma, n = np.empty(len(series.array)), tau / series.scale, len(series.array)
    _rescale(np.abs(series.array), gamma, excess, sizes)
    later = sizes - gamma ** np.arange(n) * np.abs(series.array)
    return np.asarray((_ULPS + 1.5 * n) * UNIT_ROUNDOFF * (sizes + np.abs(later) / excess))


@dataclass(frozen=True)
class SeriesForm:
    """The dual activations of a Hermite series in closed form (see ``numerics.dual`` for the angle)."""

    series: HermiteSeries

    def duals(
        self, centre: float, roots: tuple[FloatArray, FloatArray], omega: FloatArray, sign: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """E[phi_c(u) phi_c(v)], E[phi'(u) phi'(v)] and E[(phi_c(u) - s phi_c(v))^2] for correlations s cos(omega).

        The last is sum (a_k - t_k b_k)^2 + 2 t_k a_k b_k (1 - cos^k omega), t_k = s^(k+1), without cancellation.
        """
        w, other = roots
        a, b = (series_rows(self.series, root * root) for root in roots)
        a[:, 0] -= centre
        b[:, 0] -= centre
        k = np.arange(a.shape[1])
        with np.errstate(divide="ignore", invalid="ignore", under="ignore"):
            # log cos omega, accurate near 0
            log = 0.5 * np.log1p(-(np.sin(omega) ** 2))[:, None]
            powers, gaps = np.exp(k * log), -np.expm1(k * log)
        powers[:, 0], gaps[:, 0] = 1.0, 0.0  # not 0 * log 0
        signs = np.where(k % 2 == 0, 1.0, sign[:, None])
        products = a * b
        value = (products * powers * signs).sum(axis=1)
        below = np.roll(powers * signs, 1, axis=1)
        slope = (k * products * below).sum(axis=1) / (w * other)
        turned = signs * sign[:, None]
        distance = ((a - turned * b) ** 2 + 2.0 * turned * products * gaps).sum(axis=1)
        return value, slope, distance
