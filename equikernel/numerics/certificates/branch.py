"""The curve of solutions in the plane of sigma_a2 and q, and the first zero of a function along it, certified.

With sigma_b2 fixed, b = sigma_b2 tau0^2 and sigma_a2 > 0, q = T(q) says sigma_a2 = (q - b)/V(q). With
sigma_b2 = 1 - sigma_a2 it says sigma_a2 = (q - tau0^2)/(V(q) - tau0^2). Both are (q - c)/W(q), and

    d sigma_a2/dq = (W - (q - c) h)/W^2,

so that sigma_a2 h = 1 where the curve turns back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from flint import arb

from equikernel.errors import UncertifiedError
from equikernel.numerics.balls.context import exact, hull, precision
from equikernel.numerics.balls.moments import ball_moments
from equikernel.numerics.balls.variance import variance_enclosure
from equikernel.numerics.certificates.decimals import to_record
from equikernel.theory.activation import Activation

__all__ = ["Branch", "FirstZero", "Transition", "first_zero", "shown_above", "shown_below"]

_BITS = 80
_FEWEST, _MOST = 20, 60  # bits of the moments on a wide box, and on a point
_WIDEST, _FIRST = 0.4, 2.0**-6  # relative widths of boxes
_GROWTH, _CAREFUL_GROWTH = 1.3, 1.05  # of a box after a success: before any failure, and later
_FIRST_SHRINK, _SHRINK = 0.75, 0.5  # after one failure, and after more in a row
_MAX_BOXES = 80
_PROBE = 3  # how many widths ahead of a box that fails a negative value is looked for
_FIRST_STEP, _NARROWING = 0.9, 0.85  # part of the way to a zero that a box tries to cover, and after a failure
_MAX_STEPS = 60


@dataclass(frozen=True)
class Transition:
    """A critical value.

    Attributes:
        sigma_a2: a ball that contains it; None when it was not reached.
        q: a ball of the fixed point there; None when it is not reached at a finite one.
        verdict: "reached", "never" (proved for every sigma_a2), "not reached" (proved up to a stated value), or
            "undecided".
        statement: the sentence.
    """

    sigma_a2: arb | None
    q: arb | None
    verdict: str
    statement: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        balls = {"sigma_a2": self.sigma_a2, "q": self.q}
        return {name: None if ball is None else to_record(ball) for name, ball in balls.items()} | {
            "verdict": self.verdict,
            "statement": self.statement,
        }


@dataclass(frozen=True)
class Branch:
    """The curve that starts at sigma_a2 = 0, q = c.

    Attributes:
        activation: phi.
        c: where it starts, a variance.
        offset: W = V - offset.
        direction: 1 when q grows from c on, -1 when it falls.
    """

    activation: Activation
    c: Fraction
    offset: Fraction
    direction: int

    def sigma_a2(self, q: arb) -> arb:
        """sigma_a2 over a ball of q, by the mean value form."""
        with precision(_BITS):
            middle, bits = q.mid(), _bits_for(q)
            W, h = self._denominator(middle, bits)
            value: arb = (middle - exact(self.c)) / W
            if q.is_exact():
                return value
            W, h = self._denominator(q, bits)
            return value + (W - (q - exact(self.c)) * h) / W**2 * (q - middle)

    def norm(self, q: arb) -> arb:
        """W - (q - c) h, times the direction: positive while sigma_a2 h < 1."""
        with precision(_BITS):
            return self._difference(q, None)

    def chaos(self, q: arb) -> arb:
        """W - (q - c) v, times the direction: positive while sigma_a2 v < 1."""
        with precision(_BITS):
            v = ball_moments(self.activation, q.sqrt(), _bits_for(q)).v_or_none
            if v is None:
                raise UncertifiedError("E[phi'^2] is infinite")
            return self._difference(q, v)

    def _difference(self, q: arb, x: arb | None) -> arb:
        """W - (q - c) x = W(m) - (m - c) x + (h - x)(q - m) over a ball of q with the middle m; x = h if not given."""
        middle, bits = q.mid(), _bits_for(q)
        W, h = self._denominator(middle, bits)
        if not q.is_exact():
            _, h = self._denominator(q, bits)
        x = h if x is None else x
        value: arb = W - (middle - exact(self.c)) * x + (h - x) * (q - middle)
        return value * self.direction

    def _denominator(self, q: arb, bits: int) -> tuple[arb, arb]:
        """W and its derivative h."""
        V, h = variance_enclosure(self.activation, q, bits)
        return V - exact(self.offset), h


def _bits_for(q: arb) -> int:
    """Bits that do not lose what the width of q allows: on wide boxes many would be wasted."""
    return _MOST if q.is_exact() else min(_FEWEST + max(0, int(q.rel_accuracy_bits())), _MOST)


@dataclass(frozen=True)
class FirstZero:
    """Where a function along the branch first vanishes.

    Attributes:
        positive_to: it is proved positive from c to here.
        zero: a ball with the first zero; None when none was found.
        decided: False when the function could not be told from zero at ``positive_to``; True when the search ended
            there by its length.
    """

    positive_to: float
    zero: arb | None
    decided: bool


def shown_below(ball: arb) -> str:
    """Eight digits of a positive number that is below the ball."""
    return f"{float(ball.lower()) * (1 - 1e-7):.8g}"


def shown_above(ball: arb) -> str:
    """Eight digits of a positive number that is above the ball."""
    return f"{float(ball.upper()) * (1 + 1e-7):.8g}"


def first_zero(
    function: Callable[[arb], arb],
    start: float,
    end: float,
    accuracy: float,
    stop: Callable[[float], bool] = lambda q: False,
) -> FirstZero:
    """The first zero from ``start`` towards ``end``, with a change of sign, to a relative accuracy.

    The function is proved positive on boxes that leave no gap. Where a box as narrow as ``accuracy`` cannot be proved
    positive, the function is negative a little further on, or the search ends undecided.

    Args:
        function: an enclosure of the function over a ball of q.
        start: where it is positive.
        end: where to stop.
        accuracy: relative width of the result.
        stop: asked after each box whether to go on.
    """
    sign = 1 if end > start else -1
    q, width, growth, shrink = start, _FIRST, _GROWTH, _FIRST_SHRINK
    for _ in range(_MAX_BOXES):
        following = min(q * (1 + width), end) if sign > 0 else max(q * (1 - width), end)
        if _positive(function, hull(q, following)):
            q, width, shrink = following, min(growth * width, _WIDEST), _FIRST_SHRINK
            if q == end or stop(q):
                return FirstZero(q, None, True)
            continue
        beyond = min(q * (1 + _PROBE * width), end) if sign > 0 else max(q * (1 - _PROBE * width), end)
        if _negative(function, arb(beyond)):
            q, beyond = _closed_in(function, q, beyond, accuracy)
            return FirstZero(q, hull(q, beyond), True)
        if width > accuracy:
            width, growth, shrink = shrink * width, _CAREFUL_GROWTH, _SHRINK
            continue
        for further in (4, 16, 64, 256):
            beyond = q * (1 + sign * further * accuracy)
            if _negative(function, arb(beyond)):
                return FirstZero(q, hull(q, beyond), True)
        return FirstZero(q, None, False)
    return FirstZero(q, None, True)


def _closed_in(function: Callable[[arb], arb], near: float, far: float, accuracy: float) -> tuple[float, float]:
    """A bracket of the first zero, positive up to ``near`` and negative at ``far``, made as narrow as it gets."""
    goal = accuracy * near
    far = _just_beyond(function, near, far, goal / 4)
    part = _FIRST_STEP
    for _ in range(_MAX_STEPS):
        nearer = near + part * (far - near)
        if abs(far - near) <= goal or nearer == near:
            break
        if _positive(function, hull(near, nearer)):
            near = nearer
        else:
            part *= _NARROWING
    return near, far


def _just_beyond(function: Callable[[arb], arb], near: float, far: float, within: float) -> float:
    """A point where the function is proved negative, ``within`` of a zero by regula falsi (the Illinois rule)."""
    low, high = (float(_value(function, arb(q)).mid()) for q in (near, far))
    kept = 0
    for _ in range(_MAX_STEPS):
        if abs(far - near) <= within or not low > 0 > high:
            break
        middle = near + (far - near) * min(max(low / (low - high), 0.01), 0.99)
        value = _value(function, arb(middle))
        if value < 0:
            far, high = middle, float(value.mid())
            low, kept = low / 2 if kept < 0 else low, -1
        elif value > 0:
            near, low = middle, float(value.mid())
            high, kept = high / 2 if kept > 0 else high, 1
        else:  # on the zero, as far as can be told
            beyond = middle + math.copysign(within, far - near)
            return beyond if _negative(function, arb(beyond)) else far
    return far


def _value(function: Callable[[arb], arb], q: arb) -> arb:
    """The function over a ball; no number where it has no enclosure, which is neither positive nor negative."""
    try:
        return function(q)
    except UncertifiedError:
        return arb.nan()


def _positive(function: Callable[[arb], arb], q: arb) -> bool:
    return bool(_value(function, q) > 0)


def _negative(function: Callable[[arb], arb], q: arb) -> bool:
    return bool(_value(function, q) < 0)
