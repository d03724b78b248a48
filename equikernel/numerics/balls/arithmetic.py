"""Programs in ball arithmetic: real enclosures, and complex ones that know where the function is analytic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sympy as sp
from flint import acb, arb

from equikernel.numerics.balls.context import constant, hull
from equikernel.theory.program import Operators

__all__ = ["AnalyticArithmetic", "BallArithmetic", "absolute_value"]

_NAN = acb(arb.nan(), arb.nan())
_THIN = 2.0**-30  # balls relatively wider than this are mapped by their ends where the function is monotone


def absolute_value(u: arb) -> arb:
    """The exact range of |u| (``abs`` of a ball around 0 would reach below 0)."""
    return hull(u.abs_lower(), u.abs_upper())


def _increasing(function: Callable[[arb], arb]) -> Callable[[arb], arb]:
    """An increasing function on balls: wide balls by their two ends, which is tight."""

    def enclosed(u: arb) -> arb:
        if u.rad() <= _THIN * (1 + u.abs_upper()):
            return function(u)
        return function(u.lower()).union(function(u.upper()))

    return enclosed


def _even(function: Callable[[arb], arb]) -> Callable[[arb], arb]:
    """A function that is even, and monotone in |u|."""
    monotone = _increasing(function)
    return lambda u: monotone(absolute_value(u) if u.contains(0) else abs(u))


def _root(u: arb) -> arb:
    """The square root where it is defined: of the part of the ball in [0, oo)."""
    if u.contains(0):
        return arb(0) if u == 0 else hull(0, u.upper().sqrt().upper())
    return _increasing(arb.sqrt)(u)


def _sigmoid(u: arb) -> arb:
    if u >= 0:
        return 1 / (1 + (-u).exp())
    e = u.exp()
    return e / (1 + e)


def _softplus(u: arb) -> arb:
    return u + (-u).exp().log1p() if u >= 0 else u.exp().log1p()


def _sech2(u: arb) -> arb:
    e = (-2 * u).exp()
    return 4 * e / (1 + e) ** 2


def _log_cosh(u: arb) -> arb:
    if u < 1:
        return (2 * (u / 2).sinh() ** 2).log1p()
    return u + (-2 * u).exp().log1p() - arb(2).log()


_REAL: dict[str, Callable[[arb], arb]] = {
    "exp": _increasing(arb.exp),
    "expm1": _increasing(arb.expm1),
    "log": _increasing(arb.log),
    "log1p": _increasing(arb.log1p),
    "sqrt": _root,
    "sin": arb.sin,
    "cos": arb.cos,
    "tan": arb.tan,
    "sinh": _increasing(arb.sinh),
    "cosh": _even(arb.cosh),
    "tanh": _increasing(arb.tanh),
    "sech2": _even(_sech2),
    "atan": _increasing(arb.atan),
    "asinh": _increasing(arb.asinh),
    "erf": _increasing(arb.erf),
    "erfc": _increasing(arb.erfc),
    "sigmoid": _increasing(_sigmoid),
    "softplus": _increasing(_softplus),
    "log_cosh": _even(_log_cosh),
}


class BallArithmetic(Operators):
    """Real balls at the current precision: the result contains f(u) for every u in the ball where f is defined."""

    def constant(self, value: sp.Expr) -> arb:
        return constant(value)

    def unary(self, name: str) -> Callable[[arb], arb]:
        return _REAL[name]

    def powi(self, a: arb, n: int) -> arb:
        # balls forget that a square is not negative
        return absolute_value(a) ** n if n % 2 == 0 and a.contains(0) else a**n

    def powr(self, a: arb, exponent: arb) -> arb:
        if not a.contains(0):
            return _increasing(lambda u: u**exponent)(a)
        if not exponent > 0:
            return arb.nan()
        return arb(0) if a == 0 else hull(0, (a.upper() ** exponent).upper())

    def fill(self, x: arb, value: arb) -> arb:
        return value


class AnalyticArithmetic(Operators):
    """Complex boxes for rigorous integration.

    With ``analytic`` the result is not finite unless the function is analytic on the whole box; without it, the result
    contains the values on the box, at real points those of the real function. Every function of a program continues
    its real self: log(1 + e^u) is continued as u + log(1 + e^-u) in the right half-plane.
    """

    def __init__(self, analytic: bool) -> None:
        self.analytic = analytic
        self._functions: dict[str, Callable[[acb], acb]] = {
            "exp": acb.exp,
            "expm1": acb.expm1,
            "log": lambda z: z.log(analytic=analytic),
            "log1p": self._log1p,
            "sqrt": self._sqrt,
            "sin": acb.sin,
            "cos": acb.cos,
            "tan": acb.tan,
            "sinh": acb.sinh,
            "cosh": acb.cosh,
            "tanh": acb.tanh,
            "sech2": self._sech2,
            "atan": lambda z: _NAN if self._meets_cuts(z) else z.atan(),
            "asinh": self._asinh,
            "erf": acb.erf,
            "erfc": acb.erfc,
            "sigmoid": self._sigmoid,
            "softplus": self._softplus,
            "log_cosh": self._log_cosh,
        }

    def constant(self, value: sp.Expr) -> acb:
        return acb(constant(value))

    def unary(self, name: str) -> Callable[[acb], acb]:
        return self._functions[name]

    def powr(self, a: acb, exponent: acb) -> acb:
        if not self.analytic and a.imag == 0:
            return acb(BallArithmetic().powr(a.real, exponent.real))
        return a.pow(exponent, analytic=self.analytic)

    def fill(self, x: Any, value: acb) -> acb:
        return value

    def _sqrt(self, z: acb) -> acb:
        if not self.analytic and z.imag == 0:
            return acb(_REAL["sqrt"](z.real))
        return z.sqrt(analytic=self.analytic)

    def _meets_cuts(self, z: acb) -> bool:
        """Whether a box may meet the cuts of atan and asinh (Re z = 0, |Im z| >= 1), where that matters."""
        return self.analytic and z.real.contains(0) and not z.imag.abs_upper() < 1

    def _asinh(self, z: acb) -> acb:
        if self._meets_cuts(z):
            return _NAN
        # flint's asinh loses many boxes in the right half-plane and none in the left
        return -(-z).asinh() if z.real > 0 else z.asinh()

    def _log1p(self, z: acb) -> acb:
        on_cut = (1 + z.real).lower() <= 0 and z.imag.contains(0)
        return _NAN if self.analytic and on_cut else z.log1p()

    def _sech2(self, z: acb) -> acb:
        if z.real > 0 or z.real < 0:
            e = (-2 * z if z.real > 0 else 2 * z).exp()
            return 4 * e / (1 + e) ** 2
        return 1 / z.cosh() ** 2

    def _sigmoid(self, z: acb) -> acb:
        if z.real < 0:
            e = z.exp()
            return e / (1 + e)
        return 1 / (1 + (-z).exp())

    def _softplus(self, z: acb) -> acb:
        if z.real > 0:
            return z + (-z).exp().log1p()  # |e^-z| < 1: off the cut
        if z.real < 0 or not self.analytic or z.imag.abs_upper() < 3:  # straddling, below the branch points +-i pi
            return self._log1p(z.exp())
        return _NAN

    def _log_cosh(self, z: acb) -> acb:
        if z.real > 0 or z.real < 0:
            z = z if z.real > 0 else -z
            if z.real.lower() > 0.5:
                return z + (-2 * z).exp().log1p() - arb(2).log()
        if not self.analytic or z.imag.abs_upper() < 1.5:  # Re cosh z > 0
            return self._log1p(2 * (z / 2).sinh() ** 2)
        return _NAN
