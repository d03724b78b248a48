"""Affine asymptotes of a program, proved: f(y) = slope*y + offset + remainder(y) for all y far enough on one side.

``AsymptoteArithmetic`` runs a program on such triples instead of numbers. Slope and offset are exact, and the remainder
is an ``Envelope``. Functions that saturate are written around their limit, sigmoid(u) = 1 - sigmoid(-u), so that
x*sigmoid(x) - x is seen to vanish at infinity. What is bounded and has no limit, like sin(x), is all remainder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sympy as sp
from flint import arb

from equikernel.numerics.balls.context import constant
from equikernel.numerics.balls.envelope import Envelope, EnvelopeArithmetic
from equikernel.theory.program import Operators, Program

__all__ = ["Asymptote", "asymptote"]

# |f(t + e) - f(t)| <= L |e|
_LIPSCHITZ: dict[str, int] = {
    **dict.fromkeys(("sin", "cos", "tanh", "sech2", "atan", "asinh", "sigmoid", "softplus", "log_cosh"), 1),
    **dict.fromkeys(("erf", "erfc"), 2),
}
_EXACT: dict[str, Callable[[sp.Expr], sp.Expr]] = {
    "exp": sp.exp,
    "expm1": lambda t: sp.exp(t) - 1,
    "sin": sp.sin,
    "cos": sp.cos,
    "tanh": sp.tanh,
    "sech2": lambda t: 1 / sp.cosh(t) ** 2,
    "atan": sp.atan,
    "asinh": sp.asinh,
    "erf": sp.erf,
    "erfc": sp.erfc,
    "sigmoid": lambda t: 1 / (1 + sp.exp(-t)),
    "softplus": lambda t: sp.log(1 + sp.exp(t)),
    "log_cosh": lambda t: sp.log(sp.cosh(t)),
}


@dataclass(frozen=True)
class Asymptote:
    """f(y) = slope*y + offset + remainder(y) on {side*y >= start}.

    Attributes:
        slope, offset: exact numbers.
        remainder: its range and its exponential decay.
    """

    slope: sp.Expr
    offset: sp.Expr
    remainder: Envelope

    def deviation(self) -> tuple[arb, arb]:
        """The range of f(y) - slope*y."""
        offset = constant(self.offset)
        return (offset + self.remainder.low).lower(), (offset + self.remainder.high).upper()


@dataclass(frozen=True)
class _Value:
    """A function on the half-line: bounds on the whole of it, and its asymptote where it is known to have one."""

    whole: Envelope
    asymptote: Asymptote | None


def asymptote(program: Program, side: int, start: arb) -> Asymptote | None:
    """The affine asymptote of a program on {side*y >= start}, start >= 0; None where none could be proved.

    Raises:
        UncertifiedError: not even a bound on the program could be proved.
    """
    arithmetic = AsymptoteArithmetic(side, start)
    value: _Value = program.run(arithmetic, arithmetic.x)
    found = value.asymptote
    if found is None or not (found.remainder.low.is_finite() and found.remainder.high.is_finite()):
        return None
    return found


class AsymptoteArithmetic(Operators):
    """The operations of programs on functions over {side*y >= start} that may have an asymptote."""

    def __init__(self, side: int, start: arb) -> None:
        self.side = side
        self.envelopes = EnvelopeArithmetic(side, start)
        self._nothing = self.envelopes.constant(sp.S.Zero)

    @property
    def x(self) -> _Value:
        """Y itself."""
        return _Value(self.envelopes.x, Asymptote(sp.S.One, sp.S.Zero, self._nothing))

    def constant(self, value: sp.Expr) -> _Value:
        return _Value(self.envelopes.constant(value), Asymptote(sp.S.Zero, value, self._nothing))

    def fill(self, x: Any, value: _Value) -> _Value:
        return value

    def add(self, a: _Value, b: _Value) -> _Value:
        whole = self.envelopes.add(a.whole, b.whole)
        if a.asymptote is None or b.asymptote is None:
            return _Value(whole, None)
        p, q = a.asymptote, b.asymptote
        remainder = self._plus(p.remainder, q.remainder)
        return _Value(whole, Asymptote(_sum(p.slope, q.slope), _sum(p.offset, q.offset), remainder))

    def neg(self, a: _Value) -> _Value:
        whole, p = self.envelopes.neg(a.whole), a.asymptote
        return _Value(whole, p and Asymptote(-p.slope, -p.offset, self.envelopes.neg(p.remainder)))

    def mul(self, a: _Value, b: _Value) -> _Value:
        if a.whole.magnitude == 0 or b.whole.magnitude == 0:
            return self.constant(sp.S.Zero)
        return self._made(self.envelopes.mul(a.whole, b.whole), self._product(a, b))

    @staticmethod
    def _made(whole: Envelope, found: Asymptote | None) -> _Value:
        """A value; one that is bounded has at least the asymptote 0."""
        lost = found is None or not found.remainder.magnitude.is_finite()
        if lost and whole.magnitude.is_finite():
            return _Value(whole, Asymptote(sp.S.Zero, sp.S.Zero, whole))
        return _Value(whole, found)

    def _product(self, a: _Value, b: _Value) -> Asymptote | None:
        """(s y + t + e)(t' + e') = s t' y + t t' + (s y + t) e' + (t' + e') e."""
        if a.asymptote is None or b.asymptote is None:
            return self._vanishing_product(a, b) or self._vanishing_product(b, a)
        if b.asymptote.slope != 0:
            a, b = b, a
        p, q = a.asymptote, b.asymptote
        if p is None or q is None or q.slope != 0:
            return None
        affine = self._affine(p)
        crossed = self._plus(self._scaled(affine, q.remainder), self._scaled(b.whole, p.remainder))
        return Asymptote(p.slope * q.offset, p.offset * q.offset, crossed)

    def _vanishing_product(self, a: _Value, b: _Value) -> Asymptote | None:
        """Something without an asymptote times something that decays faster than it grows."""
        if a.asymptote is None and b.asymptote is not None and b.asymptote.slope == b.asymptote.offset == 0:
            return Asymptote(sp.S.Zero, sp.S.Zero, self._scaled(a.whole, b.asymptote.remainder))
        return None

    def _affine(self, p: Asymptote) -> Envelope:
        """The envelope of slope*y + offset."""
        e = self.envelopes
        offset = e.constant(p.offset)
        return offset if p.slope == 0 else e.add(e.mul(e.constant(p.slope), e.x), offset)

    def _plus(self, a: Envelope, b: Envelope) -> Envelope:
        """The sum of remainders; nothing added must not cost the other its decay."""
        return b if a.C == 0 else a if b.C == 0 else self.envelopes.add(a, b)

    def _scaled(self, factor: Envelope, remainder: Envelope) -> Envelope:
        vanishes = remainder.C == 0 or factor.magnitude == 0
        return self._nothing if vanishes else self.envelopes.mul(factor, remainder)

    def div(self, a: _Value, b: _Value) -> _Value:
        whole, e, q = self.envelopes.div(a.whole, b.whole), self.envelopes, b.asymptote
        if q is not None and q.slope != 0 and a.asymptote is not None:
            # a/b = r + (a - r b)/b, r the quotient of the slopes
            ratio = a.asymptote.slope / q.slope
            rest = self.add(a, self.neg(self.mul(self.constant(ratio), b)))
            if rest.asymptote is not None and rest.asymptote.slope == 0:
                bounded = self._envelope(rest.asymptote)
                return self._made(whole, Asymptote(sp.S.Zero, ratio, e.div(bounded, b.whole)))
        if q is None or q.slope != 0 or q.offset == 0:
            return self._made(whole, None)
        # 1/(t + e) = 1/t - e/(t (t + e))
        correction = self._nothing
        if q.remainder.C != 0:
            correction = e.neg(e.div(q.remainder, e.mul(e.constant(q.offset), b.whole)))
        reciprocal = e.div(e.constant(sp.S.One), b.whole)
        return self._made(whole, self._product(a, _Value(reciprocal, Asymptote(sp.S.Zero, 1 / q.offset, correction))))

    def _envelope(self, p: Asymptote) -> Envelope:
        return self.envelopes.add(self._affine(p), p.remainder)

    def powi(self, a: _Value, n: int) -> _Value:
        product = a
        for _ in range(n - 1):
            product = self.mul(product, a)
        return self._made(self.envelopes.powi(a.whole, n), product.asymptote)

    def powr(self, a: _Value, exponent: _Value) -> _Value:
        return self._made(self.envelopes.powr(a.whole, exponent.whole), None)

    def unary(self, name: str) -> Callable[[_Value], _Value]:
        return lambda u: self._made(self.envelopes.unary(name)(u.whole), self._function(name, u))

    def _function(self, name: str, u: _Value) -> Asymptote | None:
        p = u.asymptote
        if p is not None and p.slope == 0:
            return self._around_limit(name, u, p)
        rule = _TO_INFINITY.get(name)
        towards = self._direction(u)
        return None if rule is None or towards == 0 else rule(self, u, towards > 0)

    def _direction(self, u: _Value) -> int:
        """The sign that u keeps far out: +1, -1, or 0 when it is not decided."""
        return int(u.whole.low > 0) - int(u.whole.high < 0)

    def _around_limit(self, name: str, u: _Value, p: Asymptote) -> Asymptote | None:
        """F(t + e) = f(t) + at most L |e|."""
        if name in _LIPSCHITZ:
            steepest = arb(_LIPSCHITZ[name])
        elif name in {"exp", "expm1"}:
            steepest = u.whole.high.exp().upper()
        else:
            return None
        limit = _EXACT[name](p.offset)
        if p.remainder.C == 0:
            return Asymptote(sp.S.Zero, limit, self._nothing)
        return Asymptote(sp.S.Zero, limit, _within(p.remainder, steepest))

    def vanishing(self, name: str, u: _Value) -> _Value:
        """A function that decays where its argument u goes."""
        envelope: Envelope = self.envelopes.unary(name)(u.whole)
        decays = bool(envelope.c < 0) or bool(envelope.C == 0)
        return _Value(envelope, Asymptote(sp.S.Zero, sp.S.Zero, envelope) if decays else None)

    def shifted(self, value: sp.Expr, u: _Value) -> _Value:
        """Value + u."""
        return self.add(self.constant(value), u)

    def times(self, value: int, u: _Value) -> _Value:
        """Value * u."""
        return self.mul(self.constant(sp.Integer(value)), u)


_Rule = Callable[[AsymptoteArithmetic, _Value, bool], Asymptote | None]


def _sigmoid(A: AsymptoteArithmetic, u: _Value, up: bool) -> _Value:
    return A.shifted(sp.S.One, A.neg(A.vanishing("sigmoid", A.neg(u)))) if up else A.vanishing("sigmoid", u)


def _tanh(A: AsymptoteArithmetic, u: _Value, up: bool) -> _Value:
    if not up:
        return A.neg(_tanh(A, A.neg(u), True))
    return A.shifted(sp.S.One, A.times(-2, A.vanishing("sigmoid", A.times(-2, u))))


def _erfc(A: AsymptoteArithmetic, u: _Value, up: bool) -> _Value:
    return A.vanishing("erfc", u) if up else A.shifted(sp.Integer(2), A.neg(A.vanishing("erfc", A.neg(u))))


def _softplus(A: AsymptoteArithmetic, u: _Value, up: bool) -> _Value:
    return A.add(u, A.vanishing("softplus", A.neg(u))) if up else A.vanishing("softplus", u)


def _log_cosh(A: AsymptoteArithmetic, u: _Value, up: bool) -> _Value:
    u = u if up else A.neg(u)
    return A.shifted(-sp.log(2), A.add(u, A.vanishing("softplus", A.times(-2, u))))


def _atan(A: AsymptoteArithmetic, u: _Value, up: bool) -> Asymptote:
    """Atan u = +-pi/2 - atan(1/u), and |atan(1/u)| <= 1/|u|."""
    e = A.envelopes
    return Asymptote(sp.S.Zero, sp.pi / 2 if up else -sp.pi / 2, _within(e.div(e.constant(sp.S.One), u.whole), arb(1)))


def _within(e: Envelope, factor: arb) -> Envelope:
    """Everything of at most ``factor`` times the magnitude of e."""
    bound = (e.magnitude * factor).upper()
    return Envelope(-bound, bound, (e.C * factor).upper(), e.k, e.c, (-bound, arb(0)), (bound, arb(0)))


# a function whose argument keeps a sign far out, written around its own asymptote
_TO_INFINITY: dict[str, _Rule] = {
    "exp": lambda A, u, up: A.vanishing("exp", u).asymptote,
    "expm1": lambda A, u, up: A.shifted(sp.S.NegativeOne, A.vanishing("exp", u)).asymptote,
    "sigmoid": lambda A, u, up: _sigmoid(A, u, up).asymptote,
    "tanh": lambda A, u, up: _tanh(A, u, up).asymptote,
    "sech2": lambda A, u, up: A.vanishing("sech2", u).asymptote,
    "erf": lambda A, u, up: A.shifted(sp.S.One, A.neg(_erfc(A, u, up))).asymptote,
    "erfc": lambda A, u, up: _erfc(A, u, up).asymptote,
    "softplus": lambda A, u, up: _softplus(A, u, up).asymptote,
    "log_cosh": lambda A, u, up: _log_cosh(A, u, up).asymptote,
    "atan": _atan,
}


def _sum(a: sp.Expr, b: sp.Expr) -> sp.Expr:
    total = a + b
    return total if total.is_Number else sp.expand(total)
