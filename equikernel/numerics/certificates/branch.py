"""The curve of solutions in the plane of sigma_a2 and q, and the first zero of a function along it, certified.

With sigma_b2 fixed, b = sigma_b2 tau0^2 and sigma_a2 > 0, q = T(q) says sigma_a2 = (q - b)/V(q). With
sigma_b2 = 1 - sigma_a2 it says sigma_a2 = (q - tau0^2)/(V(q) - tau0^2). Both are (q - c)/W(q), and

    d sigma_a2/dq = (W - (q - c) h)/W^2,

so that sigma_a2 h = 1 where the curve turns back.
"""

from __future__ import annotations

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
_MOMENT_BITS = 40
_WIDEST, _FIRST = 0.4, 2.0**-6  # relative widths of boxes
_GROWTH = 1.3  # of a box after a success; a failure halves it
_MAX_BOXES = 120


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
            middle = q.mid()
            W, h = self._denominator(middle)
            value: arb = (middle - exact(self.c)) / W
            if q.is_exact():
                return value
            W, h = self._denominator(q)
            return value + (W - (q - exact(self.c)) * h) / W**2 * (q - middle)

    def norm(self, q: arb) -> arb:
        """W - (q - c) h, times the direction: positive while sigma_a2 h < 1."""
        with precision(_BITS):
            return self._difference(q, self._denominator(q)[1])

    def chaos(self, q: arb) -> arb:
        """W - (q - c) v, times the direction: positive while sigma_a2 v < 1."""
        with precision(_BITS):
            v = ball_moments(self.activation, q.sqrt(), _MOMENT_BITS).v_or_none
            if v is None:
                raise UncertifiedError("E[phi'^2] is infinite")
            return self._difference(q, v)

    def _difference(self, q: arb, x: arb) -> arb:
        """W - (q - c) x = W(m) - (m - c) x + (h - x)(q - m) over a ball of q with the middle m."""
        middle = q.mid()
        W, _ = self._denominator(middle)
        value: arb = W - (middle - exact(self.c)) * x
        if not q.is_exact():
            value += (self._denominator(q)[1] - x) * (q - middle)
        return value * self.direction

    def _denominator(self, q: arb) -> tuple[arb, arb]:
        """W and its derivative h."""
        V, h = variance_enclosure(self.activation, q, _MOMENT_BITS)
        return V - exact(self.offset), h


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
    q, width = start, _FIRST
    for _ in range(_MAX_BOXES):
        following = min(q * (1 + width), end) if sign > 0 else max(q * (1 - width), end)
        if _positive(function, hull(q, following)):
            q, width = following, min(_GROWTH * width, _WIDEST)
            if q == end or stop(q):
                return FirstZero(q, None, True)
            continue
        if width > accuracy:
            width /= 2
            continue
        for further in (1, 4, 16, 64, 256):
            beyond = q * (1 + sign * further * accuracy)
            if _negative(function, arb(beyond)):
                return FirstZero(q, hull(q, beyond), True)
        return FirstZero(q, None, False)
    return FirstZero(q, None, True)


def _positive(function: Callable[[arb], arb], q: arb) -> bool:
    try:
        return bool(function(q) > 0)
    except UncertifiedError:
        return False


def _negative(function: Callable[[arb], arb], q: arb) -> bool:
    try:
        return bool(function(q) < 0)
    except UncertifiedError:
        return False
