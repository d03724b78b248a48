"""Linear DEQs z* = W z* + x at initialisation: how long z* is, and how much its length fluctuates.

Three families of N x N weights, s = sigma^2 (a variance) throughout: ``iid``, entries N(0, s/N); ``orthogonal``, sigma
times a Haar orthogonal matrix; ``goe``, symmetric, variance s/N off the diagonal and 2s/N on it. With
P = (I - W)^-T (I - W)^-1 and tau(.) = lim tr(.)/N, the squared length r = |z*|^2/|x|^2 = x^T P x/|x|^2.

Plain functions of ``+ - * /`` and, where a root is needed, of a square root that is handed in: they run on SymPy
symbols, floats, NumPy arrays, mpmath numbers and balls alike. Source: [Agarwala22]; derived for this package. Level of
proof: *proved* (exact at finite N, by invariance under rotations), *derived and checked* (leading order in 1/N, by
moments and free probability, compared with simulation).

E r is infinite at finite N for ``iid`` and ``goe``, whose eigenvalues reach 1 with positive density: expansions in 1/N
are statements about typical values there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from equikernel.errors import InputError

__all__ = [
    "DIVERGENCE",
    "FAMILIES",
    "Divergence",
    "LinearStatistics",
    "haar_length",
    "haar_length_variance",
    "haar_square",
    "haar_trace_variance",
    "kernel_mean",
    "kernel_noise",
    "length_noise",
    "length_variance",
    "linear_statistics",
    "noise_at_length",
    "require_family",
]

FAMILIES = ("iid", "orthogonal", "goe")
SquareRoot = Callable[[Any], Any]


def require_family(family: str) -> str:
    """The family itself, if it is one of ``FAMILIES``.

    Raises:
        InputError: unknown family.
    """
    if family not in FAMILIES:
        raise InputError(f"unknown weight family {family!r}: expected one of {', '.join(FAMILIES)}")
    return family


@dataclass(frozen=True)
class LinearStatistics:
    """Leading values of a linear DEQ as N grows; all are pure numbers.

    Attributes:
        length: tau(P), the limit of r = |z*|^2/|x|^2.
        length_noise: the limit of N Var r.
        trace_noise: the limit of Var Tr P.
        length_correction: the coefficient of 1/N in E r (in the typical value where E r is infinite).
        square: tau(P^2).
        overlap: the limit of x . z*/|x|^2.
    """

    length: Any
    length_noise: Any
    trace_noise: Any
    length_correction: Any
    square: Any
    overlap: Any


def linear_statistics(family: str, s: Any, sqrt: SquareRoot) -> LinearStatistics:
    """The leading values of one family; see ``LinearStatistics`` for the fields, the three functions for formulas.

    Args:
        family: one of ``FAMILIES``.
        s: sigma^2, a variance, with radius^2 < 1: s < 1 (``iid``, ``orthogonal``), s < 1/4 (``goe``). Not checked here,
            for it may be a symbol.
        sqrt: the square root of s's arithmetic; used by ``goe`` alone.

    Raises:
        InputError: unknown family.
    """
    require_family(family)
    if family == "iid":
        return _iid(s)
    return _orthogonal(s) if family == "orthogonal" else _goe(s, sqrt)


def _iid(s: Any) -> LinearStatistics:
    """With e = 1 - s: 1/e, 2s(2-s)/e^4, 2s(2+s)/e^6, 2s/e^3, 1/e^4, 1. Derived and checked."""
    e = 1 - s
    return LinearStatistics(
        length=1 / e,
        length_noise=2 * s * (2 - s) / e**4,
        trace_noise=2 * s * (2 + s) / e**6,
        length_correction=2 * s / e**3,
        square=1 / e**4,
        overlap=1 + 0 * s,
    )


def _orthogonal(s: Any) -> LinearStatistics:
    """With e = 1 - s: 1/e, 4s/e^3, 4s/e^4, 2s/e^2, (1+s)/e^3, 1. Derived and checked; the correction is proved."""
    e = 1 - s
    return LinearStatistics(
        length=1 / e,
        length_noise=4 * s / e**3,
        trace_noise=4 * s / e**4,
        length_correction=2 * s / e**2,
        square=(1 + s) / e**3,
        overlap=1 + 0 * s,
    )


def _goe(s: Any, sqrt: SquareRoot) -> LinearStatistics:
    """With S = sqrt(1 - 4s); derived and checked.

    2/(S(1+S)), 2(1-S)(4S^2+3S+1)/(S^5(1+S)^2), (1-S^2)(9-S^2)/(4S^8), (1+4s)/(2S^4) - 1/(2S^3), S^-5, (1-S)/(2s);
    written with 1 - S = 4s/(1+S), so that nothing cancels at small s.
    """
    S = sqrt(1 - 4 * s)
    above = 1 + S
    return LinearStatistics(
        length=2 / (S * above),
        length_noise=8 * s * (4 * S**2 + 3 * S + 1) / (S**5 * above**3),
        trace_noise=s * (9 - S**2) / S**8,
        length_correction=2 * s * (2 + S) / (above * S**4),
        square=1 / S**5,
        overlap=2 / above,
    )


def length_noise(length: Any, square: Any) -> Any:
    """N Var r -> 2(tau(P^2) - tau(P)^2) for a W whose law is invariant under rotations. Proved, given the limits."""
    return 2 * (square - length * length)


def length_variance(N: Any, trace_mean: Any, trace_variance: Any, square_trace: Any) -> Any:
    """Var r = [E(TrP)^2 + 2 E TrP^2]/(N(N+2)) - (E TrP/N)^2, exact at finite N where the moments exist. Proved.

    Args:
        N: the dimension.
        trace_mean: E Tr P.
        trace_variance: Var Tr P.
        square_trace: E Tr P^2.
    """
    second = trace_variance + trace_mean * trace_mean
    return (second + 2 * square_trace) / (N * (N + 2)) - trace_mean * trace_mean / (N * N)


def kernel_mean(cosine: Any, length: Any) -> Any:
    """E z(x) . z(y) = c E r for unit x, y with c = x . y. Proved. The same W serves both inputs.

    The backward pass needs no formula of its own: (I - W)^-T v has the law of (I - W)^-1 v, since W^T has the law of W
    in all three families, so a gradient's length is distributed as z*'s. Proved.
    """
    return cosine * length


def kernel_noise(cosine: Any, length: Any, square: Any) -> Any:
    """N Var z(x).z(y) -> (1 + c^2)(tau(P^2) - tau(P)^2) for unit x, y with c = x . y. Proved, given the limits."""
    return (1 + cosine * cosine) * (square - length * length)


def haar_length(N: Any, s: Any) -> Any:
    """E r = [N(1-s) + 2s]/(N(1-s)^2) for orthogonal W, exact for every N >= 1. Proved."""
    return (N * (1 - s) + 2 * s) / (N * (1 - s) ** 2)


def haar_trace_variance(s: Any) -> Any:
    """Var Tr P = 4s/(1-s)^4 for orthogonal W, whatever N.

    Exact at N = 1 ... 6 (by Weyl's integration formula); for larger N correct up to terms of order sigma^N, and not
    proved to be exact.
    """
    return 4 * s / (1 - s) ** 4


def haar_square(N: Any, s: Any) -> Any:
    """E Tr P^2 = [N(1+s)/(1-s) + 2s(3+s)/(1-s)^2]/(1-s)^2 for orthogonal W; exact as ``haar_trace_variance``."""
    return (N * (1 + s) / (1 - s) + 2 * s * (3 + s) / (1 - s) ** 2) / (1 - s) ** 2


def haar_length_variance(N: Any, s: Any) -> Any:
    """Var r for orthogonal W at finite N; exact as ``haar_trace_variance``."""
    return length_variance(N, N * haar_length(N, s), haar_trace_variance(s), haar_square(N, s))


def noise_at_length(family: str, length: Any, sqrt: SquareRoot) -> Any:
    """N Var r as a function of q = tau(P), to compare families whose z* has the same length. Derived and checked.

    2q^4 - 2q^2 (iid), 4q^3 - 4q^2 (orthogonal), 2S^-5 - 2q^2 with S = (sqrt(1 + 8/q) - 1)/2 (goe). ``goe`` fluctuates
    most of all for q > 21.0498.

    Raises:
        InputError: unknown family.
    """
    require_family(family)
    square = length * length
    if family == "iid":
        return length_noise(length, square * square)
    if family == "orthogonal":
        return length_noise(length, 2 * square * length - square)
    S = (sqrt(1 + 8 / length) - 1) / 2
    return length_noise(length, 1 / S**5)


@dataclass(frozen=True)
class Divergence:
    """How statistics diverge as eps = 1 - radius^2 -> 0: a statistic grows like eps^-exponent.

    Attributes:
        length: of tau(P).
        length_noise: of N Var r.
        relative: of N Var r/tau(P)^2.
        window: N^-window is the eps at which finite size takes over.
    """

    length: Fraction
    length_noise: Fraction
    relative: Fraction
    window: Fraction


DIVERGENCE = {
    "iid": Divergence(Fraction(1), Fraction(4), Fraction(2), Fraction(1, 2)),
    "orthogonal": Divergence(Fraction(1), Fraction(3), Fraction(1), Fraction(1)),
    "goe": Divergence(Fraction(1, 2), Fraction(5, 2), Fraction(3, 2), Fraction(2, 3)),
}
