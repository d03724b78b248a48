"""Precision of ball arithmetic, exact constants and hulls.

python-flint's precision is a property of the process, not of a thread or a number: everything that computes with balls
does so inside ``precision``, which holds a lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import sympy as sp
from flint import arb, ctx, fmpq

from equikernel.errors import UncertifiedError

__all__ = ["bits_of_digits", "constant", "exact", "hull", "precision"]

_LOCK = threading.RLock()
_CONSTANTS: dict[tuple[sp.Expr, int], arb] = {}


@contextmanager
def precision(bits: int) -> Iterator[None]:
    """Ball arithmetic with ``bits`` bits; one thread at a time, the precision restored on leaving."""
    with _LOCK:
        before = ctx.prec
        ctx.prec = bits
        try:
            yield
        finally:
            ctx.prec = before


def bits_of_digits(digits: int) -> int:
    """Bits that hold ``digits`` decimal digits."""
    return int(digits * 3.3219280948873626) + 2


def exact(value: Fraction | int) -> arb:
    """A rational number, rounded outward to the current precision."""
    return arb(fmpq(value.numerator, value.denominator))


def hull(a: Any, b: Any) -> arb:
    """The smallest ball that contains two numbers; midpoint and radius in floats would not be a cover at ulp scale."""
    return arb(a).union(arb(b))


_FUNCTIONS: dict[type, Callable[[arb], arb]] = {
    sp.exp: arb.exp,
    sp.log: arb.log,
    sp.sin: arb.sin,
    sp.cos: arb.cos,
    sp.tan: arb.tan,
    sp.sinh: arb.sinh,
    sp.cosh: arb.cosh,
    sp.tanh: arb.tanh,
    sp.atan: arb.atan,
    sp.asin: arb.asin,
    sp.acos: arb.acos,
    sp.asinh: arb.asinh,
    sp.atanh: arb.atanh,
    sp.erf: arb.erf,
    sp.erfc: arb.erfc,
    sp.erfinv: arb.erfinv,
}


def constant(value: sp.Expr) -> arb:
    """An enclosure of an exact real SymPy number at the current precision.

    Raises:
        UncertifiedError: the number is not built from rationals, pi, E, powers and elementary functions, or is not
            finite and real.
    """
    key = (value, ctx.prec)
    if key not in _CONSTANTS:
        ball = _constant(sp.sympify(value))
        if not ball.is_finite():
            raise UncertifiedError(f"the constant {value} has no finite real enclosure; write it without cancellation")
        _CONSTANTS[key] = ball
    return _CONSTANTS[key]


def _constant(value: sp.Expr) -> arb:
    if value.is_Rational:
        return arb(fmpq(int(value.p), int(value.q)))
    if value.is_Float:
        return _constant(sp.Rational(value))  # the binary number it stores
    if value is sp.pi:
        return arb.pi()
    if value is sp.E:
        return arb.const_e()
    args = [_constant(a) for a in value.args]
    if value.is_Add:
        return sum(args, arb(0))
    if value.is_Mul:
        product = arb(1)
        for factor in args:
            product *= factor
        return product
    if value.is_Pow:
        base, exponent = args
        if value.exp.is_Integer:
            return base ** int(value.exp)
        return base.sqrt() if value.exp == sp.Rational(1, 2) else base**exponent
    if isinstance(value, sp.Abs):
        return hull(args[0].abs_lower(), args[0].abs_upper())
    if value.func not in _FUNCTIONS:
        raise UncertifiedError(
            f"the constant {value} cannot be enclosed: {value.func.__name__} has no rigorous rule; "
            "write it with rationals, pi, powers and elementary functions"
        )
    return _FUNCTIONS[value.func](args[0])
