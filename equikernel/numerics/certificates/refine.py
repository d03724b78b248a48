"""A simple zero of F = q - T(q), refined by Newton's iteration and enclosed.

With |F'| >= m > 0 on an interval around q0 of radius at least |F(q0)|/m, F has exactly one zero within |F(q0)|/m of q0
(docs/proofs.md). Newton's iteration is only how q0 is found.
"""

from __future__ import annotations

from flint import arb

from equikernel.errors import UncertifiedError
from equikernel.numerics.balls.context import precision
from equikernel.numerics.certificates.equation import Equation

__all__ = ["enclose_zero"]

_FLOAT_BITS = 53
_SLOPE_BITS = 32
_NEIGHBOURHOODS = (2.0**-16, 2.0**-28, 2.0**-40)  # relative radii on which F' is enclosed
_MAX_STEPS = 200
_GUARD = 16


def enclose_zero(equation: Equation, lower: float, upper: float, rising: bool, bits: int) -> arb:
    """A ball of relative radius about 2^-bits that contains the only zero of F in [lower, upper], and no other.

    Args:
        equation: the equation.
        lower: where F has one sign.
        upper: where it has the other; F has one zero in between.
        rising: whether F goes from negative to positive.
        bits: relative accuracy.

    Raises:
        UncertifiedError: the zero could not be enclosed in the interval: it is nearly double, or next to an end.
    """
    q = _approximate(equation, lower, upper, rising)
    work = _FLOAT_BITS - 8
    while work < bits + _GUARD:
        work = min(2 * work - 8, bits + _GUARD)
        q = _step(equation, q, work)
    with precision(bits + 2 * _GUARD):
        value, _ = equation.at(q, bits + _GUARD)
        for relative in _NEIGHBOURHOODS:
            radius = (q * relative).mid()
            try:
                _, slope = equation.over(float((q - radius).lower()), float((q + radius).upper()), _SLOPE_BITS)
            except UncertifiedError:
                continue
            if not (slope > 0 or slope < 0):
                continue
            distance = (abs(value) / slope.abs_lower()).upper()
            zero = arb(q, distance)
            if distance < radius / 2 and zero.lower() > lower and zero.upper() < upper:
                return zero
    raise UncertifiedError(
        f"the fixed point in [{lower:.17g}, {upper:.17g}] could not be enclosed: it is nearly double; "
        "change sigma_a2 slightly"
    )


def _approximate(equation: Equation, lower: float, upper: float, rising: bool) -> arb:
    """Newton's iteration kept inside the bracket by bisection, in about float64 accuracy."""
    low, high, q = lower, upper, (lower * upper) ** 0.5
    for _ in range(_MAX_STEPS):
        value, slope = equation.at(arb(q), _FLOAT_BITS)
        if value.contains(0):
            break
        if (value < 0) == rising:
            low = q
        else:
            high = q
        step = value.mid() / slope.mid() if slope.mid() != 0 else arb(0)
        candidate = float((arb(q) - step).mid())
        if not low < candidate < high:
            candidate = (low * high) ** 0.5
        if abs(candidate - q) <= 2.0**-50 * q:
            q = candidate
            break
        q = candidate
    return arb(q)


def _step(equation: Equation, q: arb, bits: int) -> arb:
    """One step of Newton's iteration, rounded to an exact number of about ``bits`` bits."""
    value, slope = equation.at(q, bits)
    with precision(bits + _GUARD):
        return (q - value.mid() / slope.mid()).mid() if slope.mid() != 0 else q
