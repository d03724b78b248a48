"""Symmetry of an activation, proved on its expressions; what does not simplify counts as unsymmetric."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import sympy as sp

from equikernel.theory.constructors import add, compose, multiply, negate
from equikernel.theory.piecewise import Piece
from equikernel.theory.program import X

__all__ = ["is_odd_up_to_constant", "parity", "vanishes"]

_LARGEST, _LARGEST_EXPONENT = 300, 30  # operations in an expression, and in an exponent, that is expanded
_SWITCHES = (sp.Abs, sp.sign, sp.Heaviside, sp.Max, sp.Min, sp.Piecewise)
_EXPONENTIALS = {
    sp.tanh: lambda u: (sp.exp(u) - sp.exp(-u)) / (sp.exp(u) + sp.exp(-u)),
    sp.sinh: lambda u: (sp.exp(u) - sp.exp(-u)) / 2,
    sp.cosh: lambda u: (sp.exp(u) + sp.exp(-u)) / 2,
}


def _expanded(expr: sp.Expr) -> sp.Expr:
    """The expression expanded, if it is not so large that this could take long."""
    return expr if expr == 0 or expr.count_ops() > _LARGEST else sp.expand(expr)


def vanishes(expr: sp.Expr) -> bool:
    """Whether an expression is zero, by expansion, or as a rational function of x and one exponential."""
    if _expanded(expr) == 0:
        return True
    if not expr.has(sp.exp, *_EXPONENTIALS) or expr.count_ops() > _LARGEST:
        return False
    for kind, rewritten in _EXPONENTIALS.items():
        expr = expr.replace(kind, rewritten)
    exponents = list({e.args[0] for e in expr.atoms(sp.exp)})
    if any(e.count_ops() > _LARGEST_EXPONENT for e in exponents):
        return False
    ratios = [sp.expand(e / exponents[0]) for e in exponents]
    if not all(r.is_Rational for r in ratios):
        return False
    t = sp.Dummy(positive=True)
    common = math.lcm(*(int(r.q) for r in ratios))
    powers = {sp.exp(e): t ** (r * common) for e, r in zip(exponents, ratios, strict=True)}
    numerator, _ = sp.fraction(sp.together(expr.xreplace(powers)))
    return bool(sp.expand(numerator) == 0)


def _mirrored(pieces: Sequence[Piece]) -> bool:
    """Whether exact breakpoints lie symmetrically about 0."""
    points = [piece.upper for piece in pieces[:-1]]
    return all(
        a is not None
        and b is not None
        and a.exact is not None
        and b.exact is not None
        and sp.expand(a.exact + b.exact) == 0
        for a, b in zip(points, reversed(points), strict=True)
    )


def _sum_with_mirror(expr: sp.Expr, sign: int) -> sp.Expr:
    """phi(-x) + sign*phi(x), expanded where phi has no switches; with them, SymPy is not asked to evaluate it."""
    if not expr.has(*_SWITCHES):
        return _expanded(expr.subs(X, -X) + sign * expr)
    if expr.has(sp.Piecewise):
        return X  # left to the pieces
    return add(compose(expr, {X: negate(X)}), multiply(sp.Integer(sign), expr))


def parity(expr: sp.Expr, pieces: Sequence[Piece]) -> str | None:
    """Even, odd or None: phi(-x) = phi(x) or -phi(x), for phi as a whole or for mirrored pieces."""
    for name, sign in (("even", 1), ("odd", -1)):
        if _sum_with_mirror(expr, -sign) == 0:
            return name
        mirrored = zip(pieces, reversed(pieces), strict=True)
        if _mirrored(pieces) and all(vanishes(a.expr.subs(X, -X) - sign * b.expr) for a, b in mirrored):
            return name
    return None


def is_odd_up_to_constant(expr: sp.Expr, pieces: Sequence[Piece]) -> bool:
    """Whether phi - c is odd for some constant c, as for the sigmoid: phi(x) + phi(-x) = 2 c."""
    if not _sum_with_mirror(expr, 1).has(X):
        return True
    if not _mirrored(pieces):
        return False
    sums = [a.expr.subs(X, -X) + b.expr for a, b in zip(pieces, reversed(pieces), strict=True)]
    value = sums[0].subs(X, 0) if len(pieces) == 1 else _expanded(sums[0])
    if value.has(X):
        return False
    return all(vanishes(s - value) for s in sums) and all(vanishes(a - b) for a, b in itertools.pairwise(sums))
