"""Closed forms in ball arithmetic: expressions walked once, erf far from zero as its complement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import sympy as sp
from flint import acb, arb

from equikernel.numerics.balls.context import constant
from equikernel.theory.closed_forms import TAU, im_erf, re_erf
from equikernel.theory.closed_forms.combination import Combination, rational
from equikernel.theory.walk import Walk

__all__ = ["ball_walk", "combination_ball", "enclosure"]

_LARGE_ERFC = 10**4


def combination_ball(value: Combination, tau: arb) -> arb:
    """A combination at tau, erf far from zero as +-1 -+ erfc.

    K (erf(z) - 1) with huge K = exp(tau^2/2) would take as many bits as K is long. The ones are added up symbolically,
    and where they cancel only erfc is left.
    """
    walk = ball_walk({TAU: tau})
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
    ball: arb = ball_walk({TAU: tau})(expr).real
    return ball


_FUNCTIONS: dict[Any, Callable[..., acb]] = {
    sp.exp: acb.exp,
    sp.log: acb.log,
    sp.sqrt: acb.sqrt,
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


def ball_walk(values: Mapping[sp.Symbol, arb]) -> Walk:
    """Complex enclosures of closed forms at real balls in the place of their symbols, at the current precision."""
    return Walk({s: acb(value) for s, value in values.items()}, _FUNCTIONS, lambda expr: acb(constant(expr)))
