"""Networks of any depth with given coefficients, in closed form: proofs that a depth is enough.

L layers, in units of tau0: j - 1 equal cubic ones, c_1 he_1 + c_3 he_3 scaled to V = 1 with c_3/c_1 = u; one with
d1^2 = y and d2^2 = z of degree 2; L - j linear ones. With p = 1/(1 + u^2), x = H/p = 1 + sqrt(6) u + 3 u^2 and
W = 1 + 2 u^2 p of a cubic layer, the recursion of theory, section 5, gives

    CK  (j = L):  e1 = p^(j-1) y,        2 e3 = p^(2j-2) z,                4 e2 = 2 e3 x^(2j-2),      V = y + z/2
    NTK:          e1 = (L+1) p^(j-1) y,  2 e3 = (L+1+j) p^(2j-2) z,        4 e2 = (L-j+1) p^(2j-2) z x^(2j-2),
                  kappa^2 = (L-j+1) (y + z/2) + (1 + W + ... + W^(j-1)) (y + z).

The second and third determine x, hence u, p and W; then y and z follow, and the diagonal may be any number that is at
least the one above (mass of high degree in the last nonlinear layer raises it).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flint import arb

from equikernel.numerics.balls.context import precision
from equikernel.numerics.designs.depth.realisability import BITS
from equikernel.numerics.designs.depth.two_layers import Target

__all__ = ["DEEPEST", "enough_layers"]

DEEPEST = 200
_MARGIN = 1e-9  # relative, in float64, before a depth is tried with balls


def enough_layers(target: Target, least: int = 2) -> int | None:
    """The least depth from ``least`` to ``DEEPEST`` at which a chain has the coefficients, proved; None without one."""
    limit = float(target.diagonal.mid()) * (1 - _MARGIN)
    for depth in range(least, DEEPEST + 1):
        for j in range(2, depth + 1) if target.match == "ntk" else (depth,):
            if _diagonal(_floats(target), target.match, depth, j) <= limit and _proved(target, depth, j):
                return depth
    return None


def _floats(target: Target) -> tuple[float, float, float]:
    return float(target.e1), float(target.e2), float(target.e3)


def _proved(target: Target, depth: int, j: int) -> bool:
    with precision(BITS):
        found = _diagonal((target.e1, target.e2, target.e3), target.match, depth, j)
        return bool(found <= target.diagonal)


def _diagonal(e: tuple[Any, Any, Any], match: str, depth: int, j: int) -> Any:
    """The least diagonal of a chain of ``depth`` layers whose j-th is the quadratic one; nan or inf without a chain."""
    e1, e2, e3 = e
    ck = match == "ck"
    squared = 2 * e2 / e3 if ck else 2 * e2 * (depth + 1 + j) / (e3 * (depth - j + 1))  # x^(2j-2)
    x = squared ** (1 / arb(2 * j - 2)) if isinstance(squared, arb) else squared ** (0.5 / (j - 1))
    inside = 12 * x - 6
    if not inside >= 0:
        return np.inf
    u = (inside**0.5 - _root6(inside)) / 6
    p = 1 / (1 + u * u)
    y = e1 / p ** (j - 1)
    z = 2 * e3 / p ** (2 * j - 2)
    if ck:
        return y + z / 2
    y, z = y / (depth + 1), z / (depth + 1 + j)
    W = 1 + 2 * u * u * p
    below: Any = sum(W**i for i in range(j))
    return (depth - j + 1) * (y + z / 2) + below * (y + z)


def _root6(like: Any) -> Any:
    return arb(6).sqrt() if isinstance(like, arb) else 6.0**0.5
