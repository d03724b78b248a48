"""Elementary functions of float64 numbers as polynomials, for loops that a compiler turns into vector instructions.

The C library's functions take one number at a time. These have no tables, and only branches that a compiler can turn
into a choice between two results, so that a loop over an array works on four or eight numbers at once. The coefficients
are those of Taylor series, long enough for the interval to which the argument is reduced; only erfc's are fitted.

Errors are a few units of the last place, against mpmath in ``tests/numerics/test_montecarlo.py``; erfc(x) has x^2
units more, from exp(-x^2), and ``power`` |c log b|. Numbers below 2.2e-308 count as zero, and angles must be below
``LARGEST_ANGLE`` in size.

numba's cache of compiled code watches the file of a function, but not those of the functions it calls: after a change
here, delete the .nbi files in ``__pycache__``.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

__all__ = [
    "LARGEST_ANGLE",
    "asinh",
    "atan",
    "circle_point",
    "cos",
    "cosh",
    "erf",
    "erfc",
    "exp",
    "expm1",
    "log",
    "log1p",
    "log_cosh",
    "log_of_normal",
    "power",
    "sech2",
    "sigmoid",
    "sin",
    "sinh",
    "softplus",
    "tan",
    "tanh",
    "unit_number",
]

# a product and a sum may be fused (one rounding instead of two), but no sum is reordered
_elementary = numba.njit(cache=True, error_model="numpy", fastmath={"contract"}, forceinline=True)

_SMALLEST = 2.0**-1022  # the smallest normal number
_ONE = np.uint64(0x3FF0000000000000)  # the bits of 1.0: an exponent of 1023 before 52 bits of fraction
_ROOT_HALF = 0x3FE6A09E667F3BCD  # the bits of sqrt(1/2)
_LN2_HIGH = float.fromhex("0x1.62e42fefa3800p-1")  # its products with exponents are exact
_LN2_LOW = float.fromhex("0x1.ef35793c76730p-45")
_HALF_PI_HIGH = float.fromhex("0x1.921fb54400000p+0")  # pi/2 in parts of 33 bits: k times a part is exact
_HALF_PI_MIDDLE = float.fromhex("0x1.0b4611a600000p-34")
_HALF_PI_LOW = float.fromhex("0x1.3198a2e037073p-69")
LARGEST_ANGLE = 1e6  # k stays below 2^20

_ATANH = tuple(2.0 / (2 * k + 1) for k in range(11))  # 2 atanh(s)/s in s^2 <= (sqrt 2 - 1)^4
_EXPM1 = tuple(1.0 / math.factorial(k + 1) for k in range(13))  # (e^r - 1)/r, |r| <= log(2)/2
_SIN = tuple((-1.0) ** k / math.factorial(2 * k + 1) for k in range(9))  # sin(t)/t in t^2, |t| <= pi/4
_COS = tuple((-1.0) ** k / math.factorial(2 * k) for k in range(9))
_ATAN = tuple((-1.0) ** k / (2 * k + 1) for k in range(22))  # atan(t)/t in t^2 <= tan(pi/8)^2
_ERF = tuple((-1.0) ** k * 2.0 / (math.sqrt(math.pi) * math.factorial(k) * (2 * k + 1)) for k in range(19))  # |x| <= 1
_LARGEST_ERFC = 30.0  # beyond, erfc(x) < 1e-392
_ERFC_MIDDLE = 3.75
# (1 + 2x) exp(x^2) erfc(x) in powers of t = (x - 3.75)/(x + 3.75), interpolated at 25 Chebyshev points
# [Shepherd & Laframboise 1981]: relative error 2e-16 for x >= 0
_ERFC = (
    1.2375126308378275,
    -0.14024059858554697,
    0.003585415485463775,
    0.08227673849014516,
    -0.10880393014171785,
    0.09230432116037876,
    -0.058693398590212366,
    0.028362277418940665,
    -0.009746579552504244,
    0.0017556258530017257,
    0.0002937136342850081,
    -0.0002901540809795271,
    5.1649211390702855e-05,
    2.2384240314224437e-05,
    -1.1444412439171722e-05,
    -9.735619015182663e-07,
    1.752057970166318e-06,
    -5.721597255990987e-08,
    -2.591069687796658e-07,
    2.3261913276696566e-08,
    3.8965452548985966e-08,
    -3.743568033634583e-09,
    -5.28428697963142e-09,
    3.110310719839165e-10,
    4.434959070009628e-10,
)


@_elementary
def _polynomial(coefficients: tuple[float, ...], x: float) -> float:
    """sum_k c_k x^k, by Horner's rule for the even and for the odd powers: two chains of operations at once."""
    square = x * x
    last = len(coefficients) - 1
    upper, lower = coefficients[last], coefficients[last - 1]
    for k in range(last - 2, 0, -2):
        upper = upper * square + coefficients[k]
        lower = lower * square + coefficients[k - 1]
    if last % 2:
        return upper * x + lower
    upper = upper * square + coefficients[0]
    return upper + lower * x


@_elementary
def unit_number(bits: np.uint64) -> float:
    """(k + 1/2)/2^52 with k the upper 52 of 64 bits: uniform in (0, 1) for random bits, and never 0 or 1."""
    one_to_two = np.int64((bits >> np.uint64(12)) | _ONE).view(np.float64)
    return one_to_two - (1.0 - 2.0**-53)


@_elementary
def circle_point(bits: np.uint64) -> tuple[float, float]:
    """(cos, sin) of 2 pi bits/2^64.

    The upper three bits say in which eighth of the circle the angle lies. Odd eighths are mirror images of even ones,
    so that polynomials are needed on 0 < t < pi/4 only; cosine and sine may change places and signs.
    """
    eighth = bits >> np.uint64(61)
    t = unit_number(bits << np.uint64(3))
    t = (1.0 - t if eighth & np.uint64(1) else t) * (math.pi / 4.0)
    cosine = _polynomial(_COS, t * t)
    sine = t * _polynomial(_SIN, t * t)
    swapped = (eighth ^ (eighth >> np.uint64(1))) & np.uint64(1)
    x = sine if swapped else cosine
    y = cosine if swapped else sine
    left = ((eighth >> np.uint64(1)) ^ (eighth >> np.uint64(2))) & np.uint64(1)
    return -x if left else x, -y if eighth & np.uint64(4) else y


@_elementary
def log_of_normal(x: float) -> float:
    """Log x = e log 2 + 2 atanh((m - 1)/(m + 1)) for a normal x = 2^e m > 0, sqrt(1/2) <= m < sqrt 2."""
    bits = np.float64(x).view(np.int64)
    e = (bits - _ROOT_HALF) >> 52
    m = np.int64(bits - (e << 52)).view(np.float64)
    s = (m - 1.0) / (m + 1.0)
    exponent = np.float64(np.int32(e))
    return exponent * _LN2_HIGH + (s * _polynomial(_ATANH, s * s) + exponent * _LN2_LOW)


@_elementary
def log(x: float) -> float:
    """The logarithm of any x: -inf at 0, nan below it."""
    value = log_of_normal(x) if x < math.inf else x
    if x < _SMALLEST:
        value = -math.inf if x >= 0.0 else math.nan
    return value


@_elementary
def log1p(x: float) -> float:
    """log(1 + x) = log w + (x - (w - 1))/w to first order, w = 1 + x rounded."""
    w = 1.0 + x
    lost = (x - (w - 1.0)) / w
    return log(w) + (lost if 0.0 < w < math.inf else 0.0)


@_elementary
def _exponential_parts(x: float) -> tuple[float, float]:
    """(2^k, e^r - 1) with x = k log 2 + r, |r| <= log(2)/2, so that e^x = 2^k (1 + (e^r - 1)); -708 <= x <= 709."""
    k = np.rint(x * (1.0 / math.log(2.0)))
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    scale = np.int64((np.int64(np.int32(k)) + 1023) << 52).view(np.float64)
    return scale, r * _polynomial(_EXPM1, r)


@_elementary
def exp(x: float) -> float:
    """e^x: 0 below -708, inf above 709."""
    scale, rest = _exponential_parts(x)
    value = scale + scale * rest
    value = 0.0 if x < -708.0 else value
    return math.inf if x > 709.0 else value


@_elementary
def expm1(x: float) -> float:
    """e^x - 1 = 2^k (e^r - 1) + (2^k - 1)."""
    scale, rest = _exponential_parts(x)
    value = scale * rest + (scale - 1.0)
    value = -1.0 if x < -708.0 else value
    return math.inf if x > 709.0 else value


@_elementary
def sinh(x: float) -> float:
    """The hyperbolic sine (w + w/(w + 1))/2 with w = e^|x| - 1, with the sign of x."""
    w = expm1(abs(x))
    return math.copysign(0.5 * (w + (w / (w + 1.0) if w < math.inf else 1.0)), x)


@_elementary
def cosh(x: float) -> float:
    """The hyperbolic cosine (e^|x| + e^-|x|)/2."""
    w = exp(abs(x))
    return 0.5 * (w + 1.0 / w)


@_elementary
def tanh(x: float) -> float:
    """The hyperbolic tangent w/(w + 2) with w = e^(2|x|) - 1, and the sign of x; 1 from |x| = 20 on."""
    w = expm1(2.0 * min(abs(x), 20.0))
    return math.copysign(w / (w + 2.0), x)


@_elementary
def sech2(x: float) -> float:
    """1/cosh(x)^2 = 4 w/(1 + w)^2 with w = e^(-2|x|)."""
    w = exp(-2.0 * abs(x))
    return 4.0 * w / ((1.0 + w) * (1.0 + w))


@_elementary
def sigmoid(x: float) -> float:
    """1/(1 + e^-x)."""
    return 1.0 / (1.0 + exp(-x))


@_elementary
def softplus(x: float) -> float:
    """log(1 + e^x) = max(x, 0) + log(1 + e^-|x|)."""
    return max(x, 0.0) + log1p(exp(-abs(x)))


@_elementary
def log_cosh(x: float) -> float:
    """The logarithm of cosh x, log(1 + w^2/(2 (w + 1))) with w = e^|x| - 1; |x| - log 2 from |x| = 20 on."""
    w = expm1(min(abs(x), 20.0))
    near = log1p(0.5 * w * (w / (w + 1.0)))
    return abs(x) - math.log(2.0) if abs(x) > 20.0 else near


@_elementary
def asinh(x: float) -> float:
    """The inverse hyperbolic sine log(1 + a + a^2/(1 + sqrt(1 + a^2))) with a = |x|, and the sign of x; |x| < 1e150."""
    a = abs(x)
    return math.copysign(log1p(a + a * a / (1.0 + math.sqrt(1.0 + a * a))), x)


@_elementary
def power(b: float, c: float) -> float:
    """b^c = exp(c log b) for b >= 0, c > 0."""
    return exp(c * log(b))


@_elementary
def _quarter_turns(x: float) -> tuple[Any, float, float]:
    """(k, cos r, sin r) with x = k pi/2 + r, |r| <= pi/4."""
    k = np.rint(x * (2.0 / math.pi))
    r = ((x - k * _HALF_PI_HIGH) - k * _HALF_PI_MIDDLE) - k * _HALF_PI_LOW
    return np.int32(k), _polynomial(_COS, r * r), r * _polynomial(_SIN, r * r)


@_elementary
def sin(x: float) -> float:
    """The sine +-sin r or +-cos r, by the quarter of the circle."""
    k, cosine, sine = _quarter_turns(x)
    value = cosine if k & 1 else sine
    return -value if k & 2 else value


@_elementary
def cos(x: float) -> float:
    """The cosine +-cos r or +-sin r, by the quarter of the circle."""
    k, cosine, sine = _quarter_turns(x)
    value = sine if k & 1 else cosine
    return -value if (k + 1) & 2 else value


@_elementary
def tan(x: float) -> float:
    """The tangent sin r/cos r, or -cos r/sin r in odd quarters of the circle."""
    k, cosine, sine = _quarter_turns(x)
    return -cosine / sine if k & 1 else sine / cosine


@_elementary
def _half_angle(t: float) -> float:
    """tan(angle/2) = t/(1 + sqrt(1 + t^2)) from t = tan(angle)."""
    return t / (1.0 + math.sqrt(1.0 + t * t))


@_elementary
def atan(x: float) -> float:
    """The arc tangent as four times a quarter of it, whose tangent is at most tan(pi/8); |x| counts as 1e17 at most."""
    t = _half_angle(_half_angle(min(abs(x), 1e17)))
    return math.copysign(4.0 * t * _polynomial(_ATAN, t * t), x)


@_elementary
def erfc(x: float) -> float:
    """The complementary error function exp(-x^2) p(t)/(1 + 2|x|) of |x|, and 2 minus that for negative x."""
    a = min(abs(x), _LARGEST_ERFC)
    t = (a - _ERFC_MIDDLE) / (a + _ERFC_MIDDLE)
    value = exp(-a * a) * _polynomial(_ERFC, t) / (1.0 + 2.0 * a)
    return 2.0 - value if x < 0.0 else value


@_elementary
def erf(x: float) -> float:
    """The error function by its Taylor series for |x| < 1, otherwise 1 - erfc |x| with the sign of x."""
    near = x * _polynomial(_ERF, x * x)
    return math.copysign(1.0 - erfc(abs(x)), x) if abs(x) > 1.0 else near
