"""A simple zero of F = q - T(q): found approximately, then enclosed by the interval Newton iteration.

With F' of one sign on Q and q0 in Q, every zero of F in Q lies in N(Q) = q0 - F(q0)/F'(Q), and if N(Q) lies inside Q
there is exactly one (docs/proofs.md). Each step doubles the digits; only the start is unproved. It comes from float64,
and from the middles of balls where that proves nothing: quadrature misses narrow features and loses to cancellation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from flint import arb

from equikernel.errors import AccuracyError, UncertifiedError
from equikernel.numerics.balls.context import hull, precision
from equikernel.numerics.certificates.budget import Budget
from equikernel.numerics.certificates.equation import Equation
from equikernel.numerics.quadrature_moments import quick_moments
from equikernel.theory.equations import fixed_point_map, gain_norm

__all__ = ["Zero", "bracket_zero", "isolate_zero", "sharpen"]

_FLOAT_BITS = 53
_FIRST_BITS = 72  # the start has about 46 bits, one step of Newton's iteration doubles them
_SLOPE_BITS = 30
_NEIGHBOURHOODS = (2.0**-36, 2.0**-28, 2.0**-20, 2.0**-44)  # relative radii tried around the start
_MAX_STEPS = 100
_BRACKETED = 2.0**-20  # relative width of a bracket by signs
_GUARD = 16
_FEWEST = 30  # bits of a first step from a wide ball
_LOSS = 4  # bits that a doubling may fall short by
_LEAST_GAIN = 2  # bits of a step; less is the end of what the moments allow


@dataclass(frozen=True)
class Zero:
    """A ball that contains exactly one fixed point, and a ball that contains F' = 1 - sigma_a2 h on all of it."""

    q: arb
    slope: arb

    @property
    def stable(self) -> bool | None:
        """Whether |T'| = |1 - F'| < 1 on all of the ball; None when undecided."""
        size = abs(1 - self.slope)
        return True if size < 1 else False if size > 1 else None


def isolate_zero(equation: Equation, lower: float, upper: float, rising: bool) -> Zero:
    """The only zero of F in [lower, upper], to about 20 digits.

    Args:
        equation: the equation.
        lower: where F has one sign.
        upper: where it has the other; F has one zero in between.
        rising: whether F goes from negative to positive.

    Raises:
        UncertifiedError: the zero could not be enclosed: it is nearly double, or next to an end.
    """
    for approximate in (_in_float64, _from_balls):
        start = _start(partial(approximate, equation), lower, upper, rising)
        zero = _isolated(equation, start)
        if zero is not None and zero.q.lower() > lower and zero.q.upper() < upper:
            return zero
    raise UncertifiedError(
        f"the fixed point in [{lower:.17g}, {upper:.17g}] could not be enclosed: it is nearly double, or next to an "
        "end; change sigma_a2 slightly"
    )


def _isolated(equation: Equation, start: float) -> Zero | None:
    """A zero in a neighbourhood of ``start`` by one step of Newton's iteration; None proves nothing."""
    with precision(_FIRST_BITS + _GUARD):
        q = arb(start)
        try:
            value, _ = equation.at(q, _FIRST_BITS)
        except UncertifiedError:
            return None
        for relative in _NEIGHBOURHOODS:
            around = arb(start, start * relative)
            try:
                slope = equation.slope_over(around, _SLOPE_BITS)
            except UncertifiedError:
                continue
            newton = _newton(q, value, slope, around)
            if newton is not None:
                return Zero(newton, slope)
    return None


def bracket_zero(equation: Equation, lower: float, upper: float, rising: bool, budget: Budget) -> arb:
    """The only zero of F in [lower, upper] by signs alone, for one so nearly double that Newton's iteration fails.

    It is bracketed as well as the signs and the budget allow; at worst by [lower, upper] itself.

    Args:
        equation: the equation.
        lower: where F has one sign.
        upper: where it has the other; F has one zero in between.
        rising: whether F goes from negative to positive.
        budget: when it is spent the bracket stays as it is.
    """
    low, high = lower, upper
    while high - low > _BRACKETED * low and not budget.spent:
        middle = low + 0.47 * (high - low)
        sign = equation.sign_at(middle)
        if sign == 0 or not low < middle < high:
            break
        if (sign < 0) == rising:
            low = middle
        else:
            high = middle
    return hull(low, high)


def sharpen(equation: Equation, zero: Zero, bits: int, engine: str = "auto", budget: Budget | None = None) -> arb:
    """The ball of an isolated zero, shrunk to a relative radius of about 2^-bits; it contains the same zero.

    Raises:
        UncertifiedError: the moments could not be enclosed so sharply, or not within the budget.
    """
    found, have = zero.q, _accuracy(zero.q)
    while have < bits:
        if budget is not None:
            budget.require(f"the fixed point was enclosed to {bits} bits")
        work = _next(have, bits + _GUARD)
        with precision(work + _GUARD):
            # the digits gained are those of F' on the ball
            slope = equation.slope_over(found, work - have + _GUARD, engine)
            middle = found.mid()
            value, _ = equation.at(middle, work + _GUARD, engine)
            newton = _newton(middle, value, slope, found)
            if newton is None:
                break
            gained = _accuracy(newton) - have
            found, have = newton, have + gained
            if gained < _LEAST_GAIN:
                break
    if have < bits - _GUARD:
        raise UncertifiedError(
            f"the fixed point near q = {found.str(10, radius=False)} could not be enclosed to {bits} bits: it is "
            "nearly double; ask for fewer digits, or change sigma_a2 slightly"
        )
    return found


def _next(have: int, goal: int) -> int:
    """The next of as few precisions as doubling allows, the last of which is the goal."""
    reach = max(2 * have - _LOSS, _FEWEST)
    while goal > reach:
        goal = goal // 2 + _LOSS
    return goal


def _newton(q: arb, value: arb, slope: arb, around: arb) -> arb | None:
    """N(around), if it lies inside ``around``: then it contains exactly one zero. None proves nothing."""
    if not (slope > 0 or slope < 0):
        return None
    newton: arb = q - value / slope
    return newton if around.contains_interior(newton) else None


def _accuracy(q: arb) -> int:
    """Bits of relative accuracy of a ball."""
    return int(q.rel_accuracy_bits())


def _start(values: Callable[[float], tuple[float, float]], lower: float, upper: float, rising: bool) -> float:
    """Newton's iteration on F and F' kept inside the bracket by bisection."""
    low, high = lower, upper
    q = math.sqrt(lower * upper)
    for _ in range(_MAX_STEPS):
        value, slope = values(q)
        if value == 0:
            break
        if (value < 0) == rising:
            low = q
        else:
            high = q
        candidate = q - value / slope if slope != 0 else low
        if not low < candidate < high:
            candidate = math.sqrt(low * high)
        if abs(candidate - q) <= 2.0**-51 * q:
            q = candidate
            break
        q = candidate
    return q


def _from_balls(equation: Equation, q: float) -> tuple[float, float]:
    """F and F', the middles of balls."""
    value, slope = equation.at(arb(q), _FLOAT_BITS)
    return float(value.mid()), float(slope.mid())


def _in_float64(equation: Equation, q: float) -> tuple[float, float]:
    """F and F' by quadrature, from balls where float64 fails."""
    try:
        moments = quick_moments(equation.activation, q**0.5)
    except AccuracyError:
        return _from_balls(equation, q)
    a2 = float(equation.sigma_a2)
    T = fixed_point_map(moments.V.value, a2, float(equation.sigma_b2), float(equation.tau0**2))
    return q - float(T), float(gain_norm(moments.h.value, a2))
