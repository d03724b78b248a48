"""mpmath as an arithmetic for programs: many digits, in private contexts, safe against runaway exponentials."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import mpmath
import sympy as sp

from equikernel.theory.program import Operators

__all__ = ["MpArithmetic", "mp_arithmetic", "sympy_to_mpf"]

_LARGEST_ANGLE_BITS = 20_000  # reducing a larger angle modulo pi would take as many bits of pi
_HUGE_EXPONENT = 1e12  # exp of more than this is refused: the exponent alone would not fit in memory


class MpArithmetic(Operators):
    """mpmath numbers with ``digits`` significant digits in a context of their own (scalars)."""

    def __init__(self, digits: int) -> None:
        self.digits = digits
        self.context = mpmath.MPContext()
        self.context.dps = digits
        self._constants: dict[sp.Expr, Any] = {}
        c = self.context
        scalar: dict[str, Callable[[Any], Any]] = {
            "exp": self._exp,
            "expm1": lambda u: c.expm1(u) if u < 1 else self._exp(u) - 1,
            "log": lambda u: c.log(self._positive(u, "log")),
            "log1p": lambda u: c.log1p(self._positive(1 + u, "log") - 1 if u < -0.5 else u),
            "sqrt": lambda u: c.zero if self._is_zero(u) else c.sqrt(self._positive(u, "sqrt")),
            "sin": lambda u: c.sin(self._reducible(u)),
            "cos": lambda u: c.cos(self._reducible(u)),
            "tan": lambda u: c.tan(self._reducible(u)),
            "sinh": lambda u: c.sinh(self._bounded(u)),
            "cosh": lambda u: c.cosh(self._bounded(u)),
            "tanh": lambda u: c.sign(u) if abs(u) > 10 * c.prec else c.tanh(u),
            "sech2": self._sech2,
            "atan": c.atan,
            "asinh": c.asinh,
            "erf": lambda u: c.sign(u) if abs(u) > 10 * c.prec else c.erf(u),
            "erfc": self._erfc,
            "sigmoid": self._sigmoid,
            "softplus": lambda u: max(u, c.zero) + c.log1p(self._exp(-abs(u))),
            "log_cosh": self._log_cosh,
        }
        self._scalar = scalar

    def _bounded(self, u: Any) -> Any:
        if abs(u) > _HUGE_EXPONENT:
            raise OverflowError("exponential of a number above 1e12")
        return u

    def _reducible(self, u: Any) -> Any:
        if self.context.mag(u) > _LARGEST_ANGLE_BITS:
            raise OverflowError("trigonometric function of a number with more than 20,000 bits before the point")
        return u

    def _is_zero(self, u: Any) -> bool:
        """Zero, or so little below it that it is the rounding of a breakpoint at which a root begins."""
        return bool(u == 0 or -(self.context.mpf(10) ** (5 - self.digits)) < u < 0)

    def _positive(self, u: Any, name: str) -> Any:
        if u <= 0:
            raise ValueError(f"{name} of a number that is not positive")
        return u

    def _exp(self, u: Any) -> Any:
        if u < -_HUGE_EXPONENT:
            return self.context.zero
        return self.context.exp(self._bounded(u))

    def _sech2(self, u: Any) -> Any:
        e = self._exp(-2 * abs(u))
        return 4 * e / (1 + e) ** 2

    def _erfc(self, u: Any) -> Any:
        if abs(u) > 1e6:
            return self.context.zero if u > 0 else 2 * self.context.one
        return self.context.erfc(u)

    def _sigmoid(self, u: Any) -> Any:
        e = self._exp(-abs(u))
        return (1 if u >= 0 else e) / (1 + e)

    def _log_cosh(self, u: Any) -> Any:
        c = self.context
        if abs(u) < 1:
            return c.log1p(2 * c.sinh(u / 2) ** 2)
        return abs(u) + c.log1p(self._exp(-2 * abs(u))) - c.ln2

    def number(self, value: Any) -> Any:
        """A number from an int, a float (taken exactly), a string, a Fraction or a number of another context."""
        if hasattr(value, "numerator") and not isinstance(value, int):
            return self.context.mpf(value.numerator) / value.denominator
        return self.context.mpf(value)

    def constant(self, value: sp.Expr) -> Any:
        if value not in self._constants:
            self._constants[value] = sympy_to_mpf(value, self)
        return self._constants[value]

    def unary(self, name: str) -> Callable[[Any], Any]:
        return self._scalar[name]

    def powr(self, a: Any, exponent: Any) -> Any:
        return self.context.zero if self._is_zero(a) else self._positive(a, "a real power") ** exponent

    def fill(self, x: Any, value: Any) -> Any:
        return value


_LOCAL = threading.local()


def mp_arithmetic(digits: int) -> MpArithmetic:
    """The calling thread's mpmath arithmetic of ``digits`` digits (contexts are not shared between threads)."""
    cache: dict[int, MpArithmetic] = _LOCAL.__dict__.setdefault("arithmetics", {})
    if digits not in cache:
        cache[digits] = MpArithmetic(digits)
    return cache[digits]


def sympy_to_mpf(value: sp.Expr, arithmetic: MpArithmetic) -> Any:
    """An exact SymPy number, correctly to the arithmetic's precision."""
    c = arithmetic.context
    value = sp.sympify(value)
    if value.is_Rational:
        return c.mpf(int(value.p)) / int(value.q)
    if value in (sp.oo, -sp.oo):
        return c.inf if value is sp.oo else -c.inf
    # maxn bounds SymPy's search for lost digits in nested constants
    evaluated = value.evalf(arithmetic.digits + 10, maxn=4 * arithmetic.digits + 400)
    if not evaluated.is_Float:
        raise ValueError(f"{value} is not a real number")
    return c.make_mpf(evaluated._mpf_)
