"""F, F' and F''/2 on a strip of 256 pairs: by a Hermite series, or in closed form for phi = a x + b |x| + c.

All arrays of a strip lie in one buffer at constant distances, so that the compiler can prove that they do not overlap
and uses vector instructions.
"""

from __future__ import annotations

import math
from typing import Any

import numba

__all__ = ["ARRAYS", "WIDTH", "D", "E", "P", "R", "S", "X", "absolute_value", "series"]

WIDTH = 256  # pairs in a strip, and columns of a tile
ARRAYS = 7  # in a strip: s, r, r^p, F, F', F''/2, |step|
S, R, T, P, D, E, X = (WIDTH * k for k in range(ARRAYS))
# (asin(t)/t - 1)/t^2 as a polynomial in z = t^2 <= 1/4, highest power first: Chebyshev interpolation, error 2e-16
_ASIN = (
    0.028169218060881414,
    -0.010749050339697808,
    0.01603551434914882,
    0.0078029494773533175,
    0.011875494382636922,
    0.013929652902326633,
    0.017355259955786323,
    0.02237204763174451,
    0.03038194736709848,
    0.044642857103423646,
    0.07500000000020764,
    0.1666666666666665,
)
_HALF_PI = math.pi / 2.0


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _horner(row: Any, tile: Any, strip: Any, terms: int) -> None:
    """Q(t), Q'(t), Q''(t)/2 for Q = sum_k row_k tile_k t^k over a strip; ``terms`` is a multiple of 4."""
    t, p, d, e = strip[T : T + WIDTH], strip[P : P + WIDTH], strip[D : D + WIDTH], strip[E : E + WIDTH]
    for j in range(WIDTH):
        p[j] = d[j] = e[j] = 0.0
    for k in range(terms - 4, -1, -4):
        a, b, c, f = row[k], row[k + 1], row[k + 2], row[k + 3]
        four = tile[k * WIDTH : (k + 4) * WIDTH]
        for j in range(WIDTH):
            x, value, slope, bend = t[j], p[j], d[j], e[j]
            bend = bend * x + slope
            slope = slope * x + value
            value = value * x + f * four[3 * WIDTH + j]
            bend = bend * x + slope
            slope = slope * x + value
            value = value * x + c * four[2 * WIDTH + j]
            bend = bend * x + slope
            slope = slope * x + value
            value = value * x + b * four[WIDTH + j]
            bend = bend * x + slope
            slope = slope * x + value
            value = value * x + a * four[j]
            p[j], d[j], e[j] = value, slope, bend


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def series(row: Any, first: float, tile: Any, firsts: Any, strip: Any, terms: int, power: int, stride: int) -> None:
    """F, F', F''/2 at r over a strip, into the places of Q, Q', Q''/2: F = C_1 C_1' r + r^m Q(r^p)."""
    r, t = strip[R : R + WIDTH], strip[T : T + WIDTH]
    p, d, e = strip[P : P + WIDTH], strip[D : D + WIDTH], strip[E : E + WIDTH]
    for j in range(WIDTH):
        t[j] = r[j] if stride == 1 else r[j] * r[j]
    _horner(row, tile, strip, terms)
    if stride == 1:  # m = 2
        for j in range(WIDTH):
            x, q0, q1, q2, linear = r[j], p[j], d[j], e[j], first * firsts[j]
            p[j] = x * (linear + x * q0)
            d[j] = linear + x * (2.0 * q0 + x * q1)
            e[j] = q0 + x * (2.0 * q1 + x * q2)
    elif power == 2:
        for j in range(WIDTH):
            x, y, q0, q1, q2, linear = r[j], t[j], p[j], d[j], e[j], first * firsts[j]
            p[j] = x * linear + y * q0
            d[j] = linear + 2.0 * x * (q0 + y * q1)
            e[j] = q0 + y * (5.0 * q1 + 4.0 * y * q2)
    else:  # m = 3
        for j in range(WIDTH):
            x, y, q0, q1, q2, linear = r[j], t[j], p[j], d[j], e[j], first * firsts[j]
            p[j] = x * (linear + y * q0)
            d[j] = linear + y * (3.0 * q0 + 2.0 * y * q1)
            e[j] = x * (3.0 * q0 + y * (7.0 * q1 + 4.0 * y * q2))


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _asin(x: float) -> float:
    """Arcsine of 0 <= x <= 1, to 4e-16: asin x = pi/2 - 2 asin sqrt((1 - x)/2) above 1/2."""
    large = x > 0.5
    z = 0.5 * (1.0 - x) if large else x * x
    t = math.sqrt(z) if large else x
    p = _ASIN[0]
    for k in range(1, len(_ASIN)):
        p = p * z + _ASIN[k]
    value = t + t * z * p
    return _HALF_PI - 2.0 * value if large else value


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def absolute_value(first: float, firsts: Any, strip: Any, bend: float) -> None:
    """F, F', F''/2 at r for phi = a x + b |x| + c, bend = b^2: the arc-cosine kernel [Cho & Saul 2009], mean taken out.

    F = C_1 C_1' r + (2 b^2/pi) (sqrt(1 - r^2) + r asin r - 1).
    """
    r, p, d, e = strip[R : R + WIDTH], strip[P : P + WIDTH], strip[D : D + WIDTH], strip[E : E + WIDTH]
    scale = bend / _HALF_PI
    for j in range(WIDTH):
        x, linear = r[j], first * firsts[j]
        root = math.sqrt((1.0 - x) * (1.0 + x))
        angle = math.copysign(_asin(abs(x)), x)
        p[j] = linear * x + scale * (root + x * angle - 1.0)
        d[j] = linear + scale * angle
        e[j] = 0.5 * scale / root
