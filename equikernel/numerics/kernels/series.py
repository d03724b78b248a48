"""The pairs of a tile by Hermite series: strips of 256 pairs, a Horner pass and a third-order step at a time.

For a pair of variances q_i, q_j, with w = sqrt(q), C_k = a_k(q)/w and A_0 = E[phi_c(w xi)], the kernel is

    G = A_i0 A_j0 + w_i w_j F(r),   F(r) = sum_(k>=1) C_ik C_jk r^k,   E[phi'(u) phi'(v)] = F'(r),

and the correlation r solves r = s + sigma_a2 F(r) with s = (sigma_b2 <x_i, x_j> + sigma_a2 A_i0 A_j0)/(w_i w_j). With
sigma_a2 = 0 nothing is solved: r = s, which is how layers of explicit networks are evaluated.

F = C_i1 C_j1 r + r^m Q(r^p): p = 1, m = 2, or, when all even or all odd terms k >= 2 vanish, p = 2 and m = 3 or 2.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from equikernel.numerics.kernels.strips import ARRAYS, WIDTH, D, E, P, R, S, X, absolute_value, series

__all__ = ["solve_tile", "starting_polynomials"]

FloatArray = npt.NDArray[np.float64]

_STEPS = 8  # full passes after which a pair is left to the careful methods
_STEP = 1e-7  # a last step this small leaves nothing in F and 1e-13 in F'
_FLAT = 1e-3  # the smallest 1 - sigma_a2 F' that a plain iteration is trusted with
_QUARTER = WIDTH // 4
_START = 6  # coefficients of a starting polynomial
_NARROW, _FIT = 0.3, 24  # it is fitted at so many points of |r| < 0.3, and of |r| < 1
_CLOSED = 24  # terms of a series that cost as much as the closed form


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _step(strip: Any, sigma_a2: float) -> None:
    """One third-order step for r = s + sigma_a2 F(r); F and F' are carried to the new r, X is the size of the step.

    With g = s + sigma_a2 F - r and h = 1 - sigma_a2 F' the step solves g - h x + sigma_a2 (F''/2) x^2 = 0 to second
    order in g/h.
    """
    s, r, x = strip[S : S + WIDTH], strip[R : R + WIDTH], strip[X : X + WIDTH]
    p, d, e = strip[P : P + WIDTH], strip[D : D + WIDTH], strip[E : E + WIDTH]
    for j in range(WIDTH):
        h = 1.0 - sigma_a2 * d[j]
        inverse = 1.0 / max(h, _FLAT)
        newton = (s[j] + sigma_a2 * p[j] - r[j]) * inverse
        step = newton * (1.0 + sigma_a2 * e[j] * inverse * newton)
        moved = min(max(r[j] + step, -1.0), 1.0)
        step = moved - r[j]
        p[j] = p[j] + step * (d[j] + step * e[j])
        d[j] = d[j] + 2.0 * step * e[j]
        r[j] = moved
        x[j] = abs(step) if h > _FLAT else 1.0


@numba.njit(cache=True, nogil=True)
def _largest(values: Any) -> float:
    """The largest |value|, in four chains that do not wait for each other."""
    a = b = c = d = 0.0
    for j in range(_QUARTER):
        a = max(a, abs(values[j]))
        b = max(b, abs(values[_QUARTER + j]))
        c = max(c, abs(values[2 * _QUARTER + j]))
        d = max(d, abs(values[3 * _QUARTER + j]))
    return max(a, b, c, d)


@numba.njit(cache=True, nogil=True)
def _terms(reach: Any, rho: float) -> int:
    """The least multiple of 4 of terms that suffice up to |r| = rho; all where none does."""
    k = 0
    while k < len(reach) - 1 and reach[k] < rho:
        k += 4
    return k


@numba.njit(cache=True, nogil=True)
def _set_aside(strip: Any, left: Any, limit: float) -> float:
    """Note and zero the pairs beyond the reach of the series; the largest |r| of the others."""
    s, r = strip[S : S + WIDTH], strip[R : R + WIDTH]
    largest = _largest(r)
    if largest <= limit:
        return largest
    for j in range(WIDTH):
        if abs(r[j]) > limit:
            left[j] = True
            s[j] = r[j] = 0.0
    return _largest(r)


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _start(strip: Any, start: Any) -> None:
    """R from a polynomial in s."""
    s, r = strip[S : S + WIDTH], strip[R : R + WIDTH]
    a, b, c, d, e, f = start[0], start[1], start[2], start[3], start[4], start[5]
    for j in range(WIDTH):
        x = s[j]
        r[j] = min(max(a + x * (b + x * (c + x * (d + x * (e + x * f)))), -1.0), 1.0)


@numba.njit(cache=True, nogil=True)
def _evaluate(
    row: Any, first: float, tile: Any, firsts: Any, strip: Any, reach: Any, rho: float, form: tuple[int, int, float]
) -> int:
    """F, F', F''/2 at all r of a strip, |r| <= rho. Returns the terms used, -1 for the closed form."""
    power, stride, bend = form
    terms = _terms(reach, rho)
    if bend > 0.0 and terms > _CLOSED:
        absolute_value(first, firsts, strip, bend)
        return -1
    series(row, first, tile, firsts, strip, terms, power, stride)
    return terms


@numba.njit(cache=True, nogil=True)
def _solve_strip(
    row: Any, first: float, tile: Any, firsts: Any, strip: Any, left: Any, reach: Any, rough: Any, starts: Any,
    limit: float, sigma_a2: float, form: tuple[int, int, float],
) -> int:  # fmt: skip
    """r, F and F' of a strip; what cannot be done here is marked in ``left``. Returns what ``_evaluate`` does."""
    s, r, x = strip[S : S + WIDTH], strip[R : R + WIDTH], strip[X : X + WIDTH]
    if sigma_a2 == 0.0:
        r[:] = s
        largest = _set_aside(strip, left, limit)
        return _evaluate(row, first, tile, firsts, strip, reach, largest, form)
    _start(strip, starts[0 if _largest(s) <= starts[0, _START] else 1])
    largest = _set_aside(strip, left, limit)
    _evaluate(row, first, tile, firsts, strip, rough, largest, form)
    _step(strip, sigma_a2)
    terms = 0
    for _ in range(_STEPS):
        largest = _set_aside(strip, left, limit)
        terms = _evaluate(row, first, tile, firsts, strip, reach, min(1.0001 * largest, limit), form)
        _step(strip, sigma_a2)
        if _largest(x) <= _STEP and _largest(r) <= limit:
            return terms
    for j in range(WIDTH):
        left[j] |= x[j] > _STEP or abs(r[j]) > limit
    return terms


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def solve_tile(
    products: Any, rows: Any, tile: Any, columns: Any, reach: Any, rough: Any, starts: Any, limit: float,
    critical: float, sigma_a2: float, sigma_b2: float, form: tuple[int, int, float], diagonal: bool,
    G: Any, G_dot: Any, left: Any,
) -> tuple[int, int]:  # fmt: skip
    """Every pair of a tile; see the module's docstring for the formulas.

    Args:
        products: <x_i, x_j> (or the covariances of a layer), (rows, columns <= WIDTH).
        rows: per row of the tile w, 1/w (0 where w = 0), A_0, C_1 and then the packed C_k, (rows, 4 + terms).
        tile: the columns' packed C_k, one dimension, C_jk at k * WIDTH + j.
        columns: the columns' w, 1/w, A_0, C_1, (4, WIDTH).
        reach: reach[k] is the largest |r| for which k terms suffice, increasing.
        rough: the same for the first pass, which need not be exact.
        starts: two starting polynomials and, in the last place, the largest |s| they are good for, (2, 7).
        limit: the largest |r| that is solved here.
        critical: sigma_a2 F' above which a pair is left to more careful methods.
        sigma_a2: hidden variance.
        sigma_b2: input variance.
        form: m, p, and b^2 if phi = a x + b |x| + c, else 0.
        diagonal: rows and columns are the same samples: only pairs above the diagonal are solved.
        G: E[phi_c(u) phi_c(v)], filled.
        G_dot: E[phi'(u) phi'(v)], filled.
        left: set where the series could not be used.

    Returns:
        The largest number of terms of a series, and the number of pairs done in closed form.
    """
    count = products.shape[1]
    strip = np.zeros(ARRAYS * WIDTH)
    s, value, slope = strip[S : S + WIDTH], strip[P : P + WIDTH], strip[D : D + WIDTH]
    mark = np.zeros(WIDTH, dtype=np.bool_)
    scales, inverses, means, firsts = columns[0], columns[1], columns[2], columns[3]
    most, closed = 0, 0
    for i in range(products.shape[0]):
        begin = i + 1 if diagonal else 0
        w, inverse, mean, first = rows[i, 0], rows[i, 1], rows[i, 2], rows[i, 3]
        shift = sigma_a2 * mean
        given, out, out_dot = products[i], G[i], G_dot[i]
        s[:begin] = 0.0
        for j in range(begin, count):
            s[j] = (sigma_b2 * given[j] + shift * means[j]) * (inverse * inverses[j])
        mark[:] = False
        terms = _solve_strip(rows[i, 4:], first, tile, firsts, strip, mark, reach, rough, starts, limit, sigma_a2, form)
        if sigma_a2 * _largest(slope) > critical:
            for j in range(begin, count):
                mark[j] |= sigma_a2 * slope[j] > critical
        most = max(most, terms)
        closed += count - begin if terms < 0 else 0
        for j in range(begin, count):
            out[j] = mean * means[j] + w * scales[j] * value[j]
        out_dot[begin:count] = slope[begin:count]
        left[i, begin:count] = mark[begin:count]
    return most, closed


def starting_polynomials(median: FloatArray, power: int, stride: int, sigma_a2: float) -> FloatArray:
    """Two polynomials of degree 5 for r in terms of s, fitted at one packed row, and how far each is good, (2, 7).

    The first is for small |s|, the second for the rest. No more than a start: Newton's iteration corrects it.
    """
    squares = median[4:] ** 2
    result = np.zeros((2, _START + 1))
    for k, reach in enumerate((_NARROW, 1.0)):
        r = reach * np.cos(np.pi * (np.arange(_FIT) + 0.5) / _FIT)
        series = median[3] ** 2 * r + r**power * np.polynomial.polynomial.polyval(r**stride, squares)
        s = r - sigma_a2 * series
        if (np.diff(s) < 0.0).all():
            result[k, :_START] = np.polynomial.polynomial.polyfit(s, r, _START - 1)
            result[k, _START] = min(-s[-1], s[0])
        else:
            result[k, 1] = 1.0
    return result
