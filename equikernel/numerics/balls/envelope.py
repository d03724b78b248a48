"""Growth on a half-line, proved: programs run on envelopes instead of numbers.

An ``Envelope`` bounds a function f on {y : side*y >= start} by its range, by C (1 + |y|)^k e^(c|y|), and by two affine
functions of |y|. ``EnvelopeArithmetic`` propagates all of them through the operations of a program, so that the bounds
hold for every y of the half-line, not for those that were tried. All numbers are exact (rounded outward); infinite ones
stand for no bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sympy as sp
from flint import arb

from equikernel.errors import UncertifiedError
from equikernel.numerics.balls.arithmetic import BallArithmetic
from equikernel.numerics.balls.context import constant, hull
from equikernel.theory.program import Operators

__all__ = ["Envelope", "EnvelopeArithmetic"]

_OO, _ZERO, _ONE = arb.pos_inf(), arb(0), arb(1)
_LARGEST_POWER = 10_000
Affine = tuple[arb, arb]


@dataclass(frozen=True)
class Envelope:
    """Bounds of f on side*y >= start, with t = |y|.

    Attributes:
        low, high: low <= f <= high, infinite where there is no bound.
        C, k, c: |f| <= C (1 + t)^k e^(c t); c may be negative.
        below, above: (a, s) with f >= a + s t and f <= a + s t; None where there is no affine bound.
    """

    low: arb
    high: arb
    C: arb
    k: int
    c: arb
    below: Affine | None
    above: Affine | None

    @property
    def magnitude(self) -> arb:
        """The supremum of |f|, possibly infinite."""
        return max(self.high, -self.low)


def _down(value: arb) -> arb:
    return value.lower() if value.is_finite() else value


def _up(value: arb) -> arb:
    return value.upper() if value.is_finite() else value


def _product(p: arb, q: arb) -> arb:
    """The product of two ends of ranges: an infinite end is an open one, so that 0 times it is 0."""
    return _ZERO if p == 0 or q == 0 else p * q


def _power(value: arb, n: int) -> arb:
    if value.is_finite():
        return value**n
    return _OO if value > 0 or n % 2 == 0 else -_OO


def _affine(kind: str, *terms: tuple[Affine | None, arb]) -> Affine | None:
    """The sum of affine bounds times factors, rounded downward ("below") or upward ("above")."""
    offset = slope = _ZERO
    for bound, factor in terms:
        if bound is None:
            return None
        offset, slope = offset + bound[0] * factor, slope + bound[1] * factor
    return (_down(offset), _down(slope)) if kind == "below" else (_up(offset), _up(slope))


class EnvelopeArithmetic(Operators):
    """The operations of programs on envelopes over {side*y >= start}, start >= 0.

    Every operation raises ``UncertifiedError`` where it cannot prove a bound: growth that is more than exponential, a
    denominator or the argument of a logarithm or root that is not bounded away from where it fails.
    """

    def __init__(self, side: int, start: arb) -> None:
        self.side = side
        self.start = arb(start).lower()

    @property
    def x(self) -> Envelope:
        """The envelope of y itself."""
        identity = (_ZERO, arb(self.side))
        ends = (self.start, _OO) if self.side > 0 else (-_OO, -self.start)
        return Envelope(*ends, _ONE, 1, _ZERO, identity, identity)

    def _make(
        self,
        low: arb,
        high: arb,
        bound: tuple[arb, int, arb],
        below: Affine | None = None,
        above: Affine | None = None,
    ) -> Envelope:
        """An envelope whose bounds have informed each other."""
        C, k, c = _up(bound[0]), bound[1], _up(bound[2])
        supremum = self._supremum(C, k, c)
        low, high = max(_down(low), -supremum), min(_up(high), supremum)
        if above is not None and above[1] <= 0:
            high = min(high, _up(above[0] + above[1] * self.start))
        if below is not None and below[1] >= 0:
            low = max(low, _down(below[0] + below[1] * self.start))
        largest = max(high, -low, _ZERO)
        if largest.is_finite() and (c > 0 or (c == 0 and (k > 0 or largest < C))):
            C, k, c = largest, 0, _ZERO
        if high.is_finite() and (above is None or not above[1] < 0):
            above = (high, _ZERO)
        if low.is_finite() and (below is None or not below[1] > 0):
            below = (low, _ZERO)
        return Envelope(low, high, C, k, c, below, above)

    def _supremum(self, C: arb, k: int, c: arb) -> arb:
        """Sup of C (1 + t)^k e^(c t) over t >= start."""
        if C == 0:
            return _ZERO
        if not C.is_finite() or c > 0 or (c == 0 and k > 0):
            return _OO
        if k == 0 or arb(k) / (1 + self.start) + c <= 0:
            return _up(C * (1 + self.start) ** k * (c * self.start).exp())
        peak = arb(k) / -c
        return _up(C * peak**k * (c * (peak - 1)).exp())

    def _bounded(self, low: arb, high: arb) -> Envelope:
        return self._make(low, high, (max(_up(high), -_down(low)), 0, _ZERO))

    def constant(self, value: sp.Expr) -> Envelope:
        ball = constant(value)
        return self._bounded(ball, ball)

    def fill(self, x: Any, value: Envelope) -> Envelope:
        return value

    # -- operations ----------------------------------------------------------------------------------------------------

    def add(self, a: Envelope, b: Envelope) -> Envelope:
        for one, other in ((a, b), (b, a)):
            if one.low == one.high == 0:
                return other
        below = _affine("below", (a.below, _ONE), (b.below, _ONE))
        above = _affine("above", (a.above, _ONE), (b.above, _ONE))
        bound = (a.C + b.C, max(a.k, b.k), max(a.c, b.c))
        return self._make(a.low + b.low, a.high + b.high, bound, below, above)

    def neg(self, a: Envelope) -> Envelope:
        minus = -_ONE
        flipped = _affine("below", (a.above, minus)), _affine("above", (a.below, minus))
        return Envelope(-a.high, -a.low, a.C, a.k, a.c, *flipped)

    def mul(self, a: Envelope, b: Envelope) -> Envelope:
        low = high = _product(a.low, b.low)
        for p, q in ((a.low, b.high), (a.high, b.low), (a.high, b.high)):
            low, high = min(low, _down(_product(p, q))), max(high, _up(_product(p, q)))
        below, above = self._affine_product(a, b) or self._affine_product(b, a) or (None, None)
        return self._make(low, high, (a.C * b.C, a.k + b.k, a.c + b.c), below, above)

    def _affine_product(self, factor: Envelope, other: Envelope) -> tuple[Affine | None, Affine | None] | None:
        """Affine bounds of a factor in a finite range [least, most] of one sign times a function of one sign."""
        if factor.low == factor.high == 0:
            return (_ZERO, _ZERO), (_ZERO, _ZERO)
        if factor.high <= 0:
            flipped = self._affine_product(self.neg(factor), other)
            if flipped is None:
                return None
            below, above = flipped
            return _affine("below", (above, -_ONE)), _affine("above", (below, -_ONE))
        least, most = factor.low, factor.high
        if not (least >= 0 and most.is_finite()):
            return None
        if least == most:
            return _affine("below", (other.below, least)), _affine("above", (other.above, least))
        if other.low >= 0:
            return _affine("below", (other.below, least)), _affine("above", (other.above, most))
        if other.high <= 0:
            return _affine("below", (other.below, most)), _affine("above", (other.above, least))
        return None

    def div(self, a: Envelope, b: Envelope) -> Envelope:
        if b.high < 0:
            return self.neg(self.div(a, self.neg(b)))
        if not b.low > 0:
            raise UncertifiedError("a denominator is not proved to stay away from zero for large |x|")
        return self.mul(a, self._bounded(1 / b.high if b.high.is_finite() else _ZERO, 1 / b.low))

    def powi(self, a: Envelope, n: int) -> Envelope:
        if n > _LARGEST_POWER:
            raise UncertifiedError(f"a power above {_LARGEST_POWER} has no growth bound")
        if a.high <= 0:
            positive = self.powi(self.neg(a), n)
            return self.neg(positive) if n % 2 else positive
        bound = (a.C**n, a.k * n, a.c * n)
        if a.low >= 0:  # a^n >= low^(n-1) a
            below = _affine("below", (a.below, _down(a.low ** (n - 1))))
            return self._make(_power(a.low, n), _power(a.high, n), bound, below)
        low = _power(a.low, n) if n % 2 else _ZERO
        return self._make(low, _power(a.magnitude, n), bound)

    def powr(self, a: Envelope, exponent: Envelope) -> Envelope:
        p = exponent.high  # the exponent is one exact number: low and high differ by its rounding
        if not (a.low >= 0 and exponent.low > 0 and p.is_finite()):
            raise UncertifiedError("a real power of something that is not proved to be nonnegative for large |x|")

        def power(value: arb) -> arb:
            if value == 0 or not value.is_finite():
                return value
            return (value**exponent.low).union(value**p)

        k = int(_up(a.k * p).ceil().fmpz())
        return self._make(power(a.low), power(a.high), (power(a.C), k, max(a.c * p, a.c * exponent.low)))

    # -- functions -----------------------------------------------------------------------------------------------------

    def unary(self, name: str) -> Callable[[Envelope], Envelope]:
        own: Callable[[Envelope], Envelope] | None = getattr(self, f"_{name}", None)
        return own or (lambda u: self._by_ends(name, u))

    def _range(self, name: str, u: Envelope) -> tuple[arb, arb]:
        """The range of an increasing function on the range of u."""
        function = BallArithmetic().unary(name)
        at_minus, at_plus = _LIMITS[name]
        low = function(u.low) if u.low.is_finite() else at_minus
        high = function(u.high) if u.high.is_finite() else at_plus
        return low, high

    def _by_ends(self, name: str, u: Envelope) -> Envelope:
        return self._bounded(*self._range(name, u))

    def _absolute_affine(self, u: Envelope) -> Affine:
        """(a, s) with |u| <= a + s t, s >= 0."""
        if u.above is None or u.below is None:
            raise UncertifiedError("an exponential of something that is not proved to grow at most linearly")
        return max(u.above[0], -u.below[0]), max(u.above[1], -u.below[1], _ZERO)

    def _exp(self, u: Envelope) -> Envelope:
        if u.above is None:
            raise UncertifiedError("an exponential of something that is not proved to grow at most linearly")
        low, high = self._range("exp", u)
        return self._make(low, high, (u.above[0].exp(), 0, u.above[1]))

    def _expm1(self, u: Envelope) -> Envelope:
        e = self._exp(u)
        low, high = self._range("expm1", u)
        return self._make(low, high, (max(e.C, _ONE), 0, max(e.c, _ZERO)))

    def _log(self, u: Envelope) -> Envelope:
        if not u.low > 0:
            raise UncertifiedError("the argument of a logarithm is not proved to stay positive for large |x|")
        low, high = self._range("log", u)
        if u.high.is_finite():
            return self._bounded(low, high)
        # log(1 + t) lies below its tangent at the start
        slope = u.k / (1 + self.start) + max(u.c, _ZERO)
        offset = u.C.log() + u.k * ((1 + self.start).log() - self.start / (1 + self.start))
        size = max(_up(offset.abs_upper()), _up(low.abs_upper()), _up(slope))
        return self._make(low, high, (size, 1, _ZERO), None, (_up(offset), _up(slope)))

    def _log1p(self, u: Envelope) -> Envelope:
        return self._log(self.add(u, self._bounded(_ONE, _ONE)))

    def _sqrt(self, u: Envelope) -> Envelope:
        half = arb(1) / 2
        return self.powr(u, self._bounded(half, half))

    def _wave(self, function: Callable[[arb], arb], u: Envelope) -> Envelope:
        if not u.magnitude.is_finite():
            return self._bounded(-_ONE, _ONE)
        ball = function(hull(u.low, u.high))
        return self._bounded(max(_down(ball), -_ONE), min(_up(ball), _ONE))

    def _sin(self, u: Envelope) -> Envelope:
        return self._wave(arb.sin, u)

    def _cos(self, u: Envelope) -> Envelope:
        return self._wave(arb.cos, u)

    def _tan(self, u: Envelope) -> Envelope:
        quarter = arb.pi() / 2
        if not (u.low > -quarter and u.high < quarter):
            raise UncertifiedError("a tangent is not proved to stay away from its poles for large |x|")
        return self._bounded(u.low.tan(), u.high.tan())

    def _sinh(self, u: Envelope) -> Envelope:
        offset, slope = self._absolute_affine(u)
        return self._make(*self._range("sinh", u), (offset.exp(), 0, slope))

    def _cosh(self, u: Envelope) -> Envelope:
        offset, slope = self._absolute_affine(u)
        high = u.magnitude.cosh() if u.magnitude.is_finite() else _OO
        return self._make(_ONE, high, (offset.exp(), 0, slope))

    def _sech2(self, u: Envelope) -> Envelope:
        nearest = max(u.low, -u.high, _ZERO)
        high = BallArithmetic().unary("sech2")(nearest) if nearest.is_finite() else _ZERO
        for bound, sign in ((u.below, 1), (u.above, -1)):
            if bound is not None and sign * bound[1] > 0:
                # sech^2 u <= 4 e^(-2|u|)
                return self._make(_ZERO, high, (4 * (-2 * sign * bound[0]).exp(), 0, _up(-2 * sign * bound[1])))
        return self._bounded(_ZERO, high)

    def _asinh(self, u: Envelope) -> Envelope:
        low, high = self._range("asinh", u)
        if u.magnitude.is_finite():
            return self._bounded(low, high)
        # asinh|u| <= log(1 + 2|u|)
        offset, slope = _up((1 + 2 * u.C).log()), _up(u.k + max(u.c, _ZERO))
        return self._make(low, high, (max(offset, slope), 1, _ZERO), (-offset, -slope), (offset, slope))

    def _erfc(self, u: Envelope) -> Envelope:
        low, high = -u.high, -u.low
        low, high = (low.erf() if low.is_finite() else -_ONE), (high.erf() if high.is_finite() else _ONE)
        if u.low > 0:
            high = _up(u.low.erfc())
            if u.below is not None and u.below[1] > 0:
                # erfc u <= e^(-u^2) <= e^(-low u)
                return self._make(_ZERO, high, ((-u.low * u.below[0]).exp(), 0, _up(-u.low * u.below[1])))
            return self._bounded(_ZERO, high)
        return self._bounded(max(1 + _down(low), _ZERO), 1 + _up(high))

    def _sigmoid(self, u: Envelope) -> Envelope:
        low, high = self._range("sigmoid", u)
        if u.above is not None and u.above[1] < 0:
            return self._make(low, high, (u.above[0].exp(), 0, u.above[1]))
        return self._bounded(low, high)

    def _softplus(self, u: Envelope) -> Envelope:
        low, high = self._range("softplus", u)
        if u.above is not None and u.above[1] < 0:
            return self._make(low, high, (u.above[0].exp(), 0, u.above[1]))
        log2 = arb(2).log()
        above = None
        if u.above is not None:  # softplus(u) <= log 2 + max(u, 0)
            above = _up(log2 + max(u.above[0], _ZERO)), max(u.above[1], _ZERO)
        return self._make(low, high, (log2 + u.C, u.k, max(u.c, _ZERO)), u.below, above)

    def _log_cosh(self, u: Envelope) -> Envelope:
        if u.high <= 0:
            u = self.neg(u)
        nearest = max(u.low, _ZERO)
        function = BallArithmetic().unary("log_cosh")
        high = function(u.magnitude) if u.magnitude.is_finite() else _OO
        below = above = None
        if u.low >= 0:  # u - log 2 <= log cosh u <= u
            above = u.above
            below = None if u.below is None else (_down(u.below[0] - arb(2).log()), u.below[1])
        return self._make(function(nearest), high, (u.C, u.k, u.c), below, above)


# values at -oo and +oo of the increasing functions
_LIMITS: dict[str, tuple[arb, arb]] = {
    "exp": (_ZERO, _OO),
    "expm1": (-_ONE, _OO),
    "log": (-_OO, _OO),
    "sinh": (-_OO, _OO),
    "tanh": (-_ONE, _ONE),
    "atan": (arb(-2), arb(2)),  # wider than pi/2, and exact
    "asinh": (-_OO, _OO),
    "erf": (-_ONE, _ONE),
    "sigmoid": (_ZERO, _ONE),
    "softplus": (_ZERO, _OO),
}
