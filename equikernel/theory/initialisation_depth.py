"""Linear DEQs stopped after L iterations, z_L = sum_{l <= L} W^l x, with tied weights and with untied ones.

Plain functions of ``+ - * /``, as in ``theory.initialisation``, whose families, conventions (s = sigma^2, a variance)
and source they share. All are derived and checked, at leading order in 1/N and for L^2 much smaller than N; no
condition on s, since every power of W is bounded.
"""

from __future__ import annotations

import itertools
from math import comb
from typing import Any

from equikernel.errors import InputError
from equikernel.theory.initialisation import SquareRoot, length_noise, require_family

__all__ = ["depth_error", "require_depth", "tied_length", "tied_noise", "tied_square", "untied_length", "untied_noise"]


def require_depth(depth: Any) -> None:
    """Refuse a number of iterations that is not a non-negative integer.

    Raises:
        InputError: negative, or not an integer.
    """
    if not isinstance(depth, int) or isinstance(depth, bool) or depth < 0:
        raise InputError(f"the number of iterations must be a non-negative integer; got {depth!r}")


def _catalan(j: int) -> int:
    return comb(2 * j, j) // (j + 1)


def tied_length(family: str, s: Any, depth: int) -> Any:
    """tau(P_L), the limit of |z_L|^2/|x|^2.

    sum_{l <= L} s^l (iid, orthogonal); sum_{j <= L} (L + 1 - |L - 2j|) C_j s^j with Catalan numbers C_j (goe).

    Raises:
        InputError: unknown family, or a depth that is not a non-negative integer.
    """
    require_family(family)
    require_depth(depth)
    if family == "goe":
        return sum((depth + 1 - abs(depth - 2 * j)) * _catalan(j) * s**j for j in range(depth + 1))
    return sum(s**k for k in range(depth + 1))


def tied_square(family: str, s: Any, depth: int) -> Any:
    """tau(P_L^2).

    iid: the sum of (min(a,b,c,d) + 1) s^(a+c) over a + c = b + d, all at most L. Orthogonal: the sum of c_k^2 over
    |k| <= L, c_k = sigma^|k| sum_{l <= L-|k|} s^l. GOE: sum_j n_4(2j) C_j s^j, n_4 the coefficients of
    (1 + ... + t^L)^4.

    Raises:
        InputError: unknown family, or a depth that is not a non-negative integer.
    """
    require_family(family)
    require_depth(depth)
    if family == "iid":
        return sum(weight * s**power for power, weight in enumerate(_iid_weights(depth)))
    if family == "orthogonal":
        partial = [sum(s**k for k in range(depth - lag + 1)) for lag in range(depth + 1)]
        return sum((1 if lag == 0 else 2) * s**lag * partial[lag] * partial[lag] for lag in range(depth + 1))
    weights = _fourfold(depth)
    return sum(weights[2 * j] * _catalan(j) * s**j for j in range(2 * depth + 1))


def _iid_weights(depth: int) -> list[int]:
    """How often s^p occurs, p = a + c = b + d: the sum of min(a,b,c,d) + 1."""
    weights = [0] * (2 * depth + 1)
    for power in range(2 * depth + 1):
        shorter = [min(a, power - a) for a in range(max(0, power - depth), min(depth, power) + 1)]
        weights[power] = sum(min(pair) + 1 for pair in itertools.product(shorter, repeat=2))
    return weights


def _fourfold(depth: int) -> list[int]:
    """Coefficients of (1 + t + ... + t^L)^4."""
    coefficients = [1]
    for _ in range(4):
        longer = [0] * (len(coefficients) + depth)
        for k, value in enumerate(coefficients):
            for step in range(depth + 1):
                longer[k + step] += value
        coefficients = longer
    return coefficients


def tied_noise(family: str, s: Any, depth: int) -> Any:
    """The limit of N Var |z_L|^2/|x|^2 = 2(tau(P_L^2) - tau(P_L)^2)."""
    return length_noise(tied_length(family, s, depth), tied_square(family, s, depth))


def untied_length(s: Any, depth: int) -> Any:
    """The limit of |z_L|^2/|x|^2 with a new W in each layer: sum_{l <= L} s^l, the same for all families."""
    require_depth(depth)
    return sum(s**k for k in range(depth + 1))


def untied_noise(family: str, s: Any, depth: int) -> Any:
    """The limit of N Var |z_L|^2/|x|^2 with a new W in each layer.

    V <- s^2 V + a and q <- s q + 1 from V = 0, q = 1, with a = 2s^2 q^2 + 4s q (iid), 4s q (orthogonal),
    2s^2 q^2 + 4s(q + 1) (goe).

    Raises:
        InputError: unknown family, or a depth that is not a non-negative integer.
    """
    require_family(family)
    require_depth(depth)
    V, q = 0 * s, 1 + 0 * s
    for _ in range(depth):
        cross = 4 * s * (q + 1) if family == "goe" else 4 * s * q
        square = 0 if family == "orthogonal" else 2 * s * s * q * q
        V, q = s * s * V + square + cross, s * q + 1
    return V


def depth_error(family: str, s: Any, depth: int, sqrt: SquareRoot) -> Any:
    """The limit of |z* - z_L|^2/|x|^2 with tied weights.

    s^(L+1)/(1 - s) (iid; orthogonal, where it is exact at every N given |z*|^2: W^(L+1) keeps lengths up to
    sigma^(L+1)). GOE: sum over even k of (k+1) s^(L+1+k/2) C_(L+1+k/2); with n = 2L + 2 and the semicircle's moments
    M_m the sum is tau((1-W)^-2) - n tau((1-W)^-1) + sum_{m < n} (n - m - 1) M_m. That closed form loses about
    (L+1) log10(1/(4s)) digits: take an arithmetic that has them.

    Args:
        family: one of ``FAMILIES``.
        s: sigma^2, below 1 (iid, orthogonal) or 1/4 (goe).
        depth: L.
        sqrt: the square root of s's arithmetic; used by ``goe`` alone.

    Raises:
        InputError: unknown family, or a depth that is not a non-negative integer.
    """
    require_family(family)
    require_depth(depth)
    if family != "goe":
        return s ** (depth + 1) / (1 - s)
    S = sqrt(1 - 4 * s)
    n = 2 * depth + 2
    known = sum((n - 2 * j - 1) * _catalan(j) * s**j for j in range(depth + 1))
    return 2 / (S * (1 + S)) - n * 2 / (1 + S) + known
