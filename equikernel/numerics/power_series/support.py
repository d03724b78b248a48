"""Which coefficients of a power series are proved to vanish: sets of exponents as bits of integers."""

from __future__ import annotations

from collections.abc import Iterable

import sympy as sp

from equikernel.numerics.balls.functions import BallFunction
from equikernel.theory.program import X

__all__ = ["hermite_support", "kernel_support"]

_MAX_OPERATIONS = 60  # of what SymPy is asked to cancel


def hermite_support(function: BallFunction, order: int) -> frozenset[int]:
    """The k in 1 .. order for which c_k is not proved to vanish, whatever the scale.

    c_k of odd k belong to the odd part of phi, those of even k to the even part, and a part that is a polynomial of
    degree d has none above d (relu is |x|/2 + x/2). Both are decided on the expressions of the pieces.
    """
    largest = {parity: _degree(function, parity) for parity in (0, 1)}
    return frozenset(k for k in range(1, order + 1) if largest[k % 2] is None or k <= (largest[k % 2] or 0))


def _degree(function: BallFunction, parity: int) -> int | None:
    """The degree of the even (0) or odd (1) part of phi if it is a polynomial, 0 if it is zero; else None."""
    activation = function.activation
    points = [b.exact for b in activation.breakpoints]
    if any(p is None or q is None or sp.expand(p + q) != 0 for p, q in zip(points, reversed(points), strict=True)):
        return None
    pieces = activation.pieces
    parts = {
        _simplified((piece.expr + (-1) ** parity * mirror.expr.subs(X, -X)) / 2)
        for piece, mirror in zip(pieces, reversed(pieces), strict=True)
    }
    if len(parts) > 1 or not (part := parts.pop()).is_polynomial(X):
        return None
    return int(sp.degree(part, X)) if part.has(X) else 0


def _simplified(part: sp.Expr) -> sp.Expr:
    """Expanded; a rational function of x and e^(cx) in lowest terms, which shows that sigmoid - 1/2 is odd."""
    expanded = sp.expand(part)
    if expanded.is_polynomial(X) or sp.count_ops(expanded) > _MAX_OPERATIONS:
        return expanded
    exponents = {e.args[0] for e in expanded.atoms(sp.exp)}
    scale = next(iter(exponents), sp.S.Zero)
    t = sp.Dummy("t")
    rational = expanded.xreplace({sp.exp(scale): t, sp.exp(-scale): 1 / t})
    if not (exponents <= {scale, -scale} and rational.is_rational_function(X, t)):
        return expanded
    return sp.cancel(rational).xreplace({t: sp.exp(scale)})


def kernel_support(hermite: Iterable[int], order: int, *, feedback: bool, tangent: bool) -> frozenset[int]:
    """The k in 1 .. order for which the coefficient of s^k may be positive; the others are zero.

    With h the exponents of P(y) = sum c_k^2 y^k: F = P(sigma_a2 F + sigma_b2 s), without ``feedback`` P(sigma_b2 s).
    For the ``tangent`` kernel, F times powers of sigma_a2 P'(y).
    """
    exponents = sorted(hermite)
    mask = (1 << (order + 1)) - 1
    outer = 0
    while True:
        inner = 2 | (outer if feedback else 0)
        powers = [1]
        for _ in range(max(exponents, default=0)):
            powers.append(_sums(powers[-1], inner, mask))
        found = 0
        for k in exponents:
            found |= powers[k]
        if found == outer:
            break
        outer = found
    if tangent and feedback:
        slope = 1
        for k in exponents:
            slope |= powers[k - 1]
        while (longer := _sums(slope, slope, mask)) != slope:
            slope = longer
        outer = _sums(outer, slope, mask)
    return frozenset(k for k in range(1, order + 1) if outer >> k & 1)


def _sums(a: int, b: int, mask: int) -> int:
    """All sums of an element of a and one of b."""
    total = 0
    while b:
        lowest = b & -b
        total |= a * lowest
        b ^= lowest
    return total & mask
