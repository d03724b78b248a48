"""Closed forms in ball arithmetic: expressions walked once, erf far from zero as its complement."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import sympy as sp
from flint import acb, arb

from equikernel.numerics.balls.context import constant
from equikernel.theory.closed_forms import TAU, im_erf, re_erf
from equikernel.theory.closed_forms.combination import Combination, rational

__all__ = ["combination_ball", "enclosure"]

_LARGE_ERFC = 10**4


def combination_ball(value: Combination, tau: arb) -> arb:
    """A combination at tau, erf far from zero as +-1 -+ erfc.

    K (erf(z) - 1) with huge K = exp(tau^2/2) would take as many bits as K is long. The ones are added up symbolically,
    and where they cancel only erfc is left.
    """
    walk = _Walk({TAU: acb(tau)})
    total = acb(0)
    for rest, (constant_part, errors) in _by_error_functions(value).items():
        inner, plain = acb(0), constant_part
        for argument, coefficient in errors:
            z = walk(argument).real
            if abs(z) > 1:
                sign = 1 if z > 0 else -1
                plain = rational(plain + sign * coefficient)
                inner -= sign * walk(coefficient) * _erfc(sign * z)
            else:
                inner += walk(coefficient) * z.erf()
        total += walk(rest) * (inner + walk(plain))
    return total.real


def _erfc(z: arb) -> arb:
    """erfc(z) for z > 1; arb's own gives up its relative accuracy beyond 10^5."""
    if z < _LARGE_ERFC:
        return z.erfc()
    half = arb(1) / 2
    square = z * z
    return (-square).exp() * arb.hypgeom_u(square, half, half) / arb.pi().sqrt()


def _by_error_functions(value: Combination) -> dict[sp.Expr, tuple[sp.Expr, list[tuple[sp.Expr, sp.Expr]]]]:
    """K: (c, [(z, c_z), ...]) for the sum of K (c + sum c_z erf(z))."""
    groups: dict[sp.Expr, tuple[sp.Expr, list[tuple[sp.Expr, sp.Expr]]]] = {}
    for kernel, coefficient in value.terms.items():
        errors = [f for f in sp.Mul.make_args(kernel) if isinstance(f, sp.erf) and f.args[0].is_extended_real]
        rest = kernel / errors[0] if errors else kernel
        plain, known = groups.get(rest, (sp.S.Zero, []))
        if errors:
            groups[rest] = (plain, [*known, (errors[0].args[0], coefficient)])
        else:
            groups[rest] = (plain + coefficient, known)
    return groups


def enclosure(expr: sp.Expr, tau: arb) -> arb:
    """A ball that contains a closed form (without parameters) at every tau of a ball, at the current precision."""
    return _Walk({TAU: acb(tau)})(expr).real


_FUNCTIONS: dict[type, Callable[..., acb]] = {
    sp.exp: acb.exp,
    sp.sin: acb.sin,
    sp.cos: acb.cos,
    sp.erf: acb.erf,
    sp.erfc: acb.erfc,
    sp.erfi: acb.erfi,
    sp.asin: acb.asin,
    sp.atan: acb.atan,
    re_erf: lambda a, b: ((a + 1j * b).erf() + (a - 1j * b).erf()) / 2,
    im_erf: lambda a, b: ((a + 1j * b).erf() - (a - 1j * b).erf()) / 2j,
}


class _Walk:
    """Complex enclosures of expressions, subexpressions once."""

    def __init__(self, values: Mapping[sp.Expr, acb]) -> None:
        self._known = dict(values)

    def __call__(self, expr: sp.Expr) -> acb:
        value = self._known.get(expr)
        if value is None:
            value = self._known[expr] = self._value(expr)
        return value

    def _value(self, expr: sp.Expr) -> acb:
        if not expr.has(TAU):
            return acb(constant(expr))
        if expr.is_Add:
            return sum(self._args(expr), acb(0))
        if expr.is_Mul:
            product = acb(1)
            for factor in self._args(expr):
                product *= factor
            return product
        if expr.is_Pow:
            base = self(expr.base)
            if expr.exp.is_Integer:
                return base ** int(expr.exp)
            return base.sqrt() ** int(2 * expr.exp)
        value: acb = _FUNCTIONS[expr.func](*self._args(expr))
        return value

    def _args(self, expr: sp.Expr) -> Iterator[acb]:
        return (self(argument) for argument in expr.args)
