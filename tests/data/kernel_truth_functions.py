"""The activations of the kernel truth, written by hand: formulas between kinks, their derivatives, poles and growth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from flint import arb, ctx

__all__ = ["FUNCTIONS", "NORMALISER", "Function", "Piece", "exact"]

ctx.dps = 50
NORMALISER = 1 / (2 * arb.pi()).sqrt()


@dataclass(frozen=True)
class Piece:
    """phi and phi' between two kinks, by one analytic formula, and the poles of that formula nearest the real line."""

    value: Callable[[arb], tuple[arb, arb]]
    poles: tuple[complex, ...] = ()


@dataclass(frozen=True)
class Function:
    """An activation: ``pieces[k]`` holds between ``kinks[k - 1]`` and ``kinks[k]``; None stands for zero.

    Attributes:
        text: what equikernel calls it.
        pieces: one more than kinks.
        kinks: in increasing order.
        rate: |phi(x + i y)| grows at most like exp(rate (|x| + |y|)), for the formula of any piece,
        gaussian: times exp(gaussian y^2/2),
        grows: and |phi(x)| on the real line like exp(grows |x|).
        odd: whether phi(-x) = -phi(x).
        scale: the factor on the data that keeps fast growing activations within reach of a fixed point.
    """

    text: str
    pieces: tuple[Piece | None, ...]
    kinks: tuple[Fraction, ...] = ()
    rate: float = 0.0
    gaussian: float = 0.0
    grows: float = 0.0
    odd: bool = False
    scale: float = 1.0

    def at_zero(self) -> tuple[arb, arb]:
        """phi(0) and phi'(0); the latter is one-sided, hence of no use, where 0 is a kink."""
        piece = self.pieces[sum(k <= 0 for k in self.kinks)]
        return piece.value(arb(0)) if piece else (arb(0), arb(0))


def exact(number: float | str | Fraction) -> arb:
    """The number, a float being the binary fraction that it is, as a ball of 50 digits."""
    fraction = Fraction(number)
    return arb(fraction.numerator) / fraction.denominator


def _line(intercept: str, slope: str) -> Piece:
    start, rise = exact(intercept), exact(slope)
    return Piece(lambda x: (start + rise * x, rise))


def _logistic(x: arb) -> arb:
    return 1 / (1 + (-x).exp())


def _elu(scale: arb, alpha: arb) -> tuple[Piece, Piece]:
    def below(x: arb) -> tuple[arb, arb]:
        slope = scale * alpha * x.exp()
        return slope - scale * alpha, slope

    return Piece(below), Piece(lambda x: (scale * x, scale))


def _silu(x: arb) -> tuple[arb, arb]:
    gate = _logistic(x)
    value = x * gate
    return value, gate + value * (1 - gate)


def _tanh(x: arb) -> tuple[arb, arb]:
    value = x.tanh()
    return value, 1 - value**2


def _gelu(x: arb) -> tuple[arb, arb]:
    gate = (1 + (x / arb(2).sqrt()).erf()) / 2
    return x * gate, gate + x * NORMALISER * (-x * x / 2).exp()


def _softplus(x: arb) -> tuple[arb, arb]:
    grown = x.exp()
    return (1 + grown).log(), grown / (1 + grown)


def _cosine(x: arb) -> tuple[arb, arb]:
    sine, cosine = x.sin_cos()
    return cosine, -sine


def _wavy(x: arb) -> tuple[arb, arb]:
    sine, cosine = (3 * x).sin_cos()
    return sine / 3 + x / 4, cosine + arb(1) / 4


def _exponential(x: arb) -> tuple[arb, arb]:
    value = x.exp()
    return value, value


def _softsign_above(x: arb) -> tuple[arb, arb]:
    gate = 1 / (1 + x)
    return x * gate, gate**2


def _softsign_below(x: arb) -> tuple[arb, arb]:
    gate = 1 / (1 - x)
    return x * gate, gate**2


_ZERO = (Fraction(0),)
_SELU = (exact("1.0507009873554804934193349852946"), exact("1.6732632423543772848170429916717"))

FUNCTIONS = {
    f.text: f
    for f in (
        Function("relu", (None, _line("0", "1")), _ZERO),
        Function("leaky_relu", (_line("0", "0.01"), _line("0", "1")), _ZERO),
        Function("abs", (_line("0", "-1"), _line("0", "1")), _ZERO),
        Function(
            "hard_tanh",
            (_line("-1", "0"), _line("0", "1"), _line("1", "0")),
            (Fraction(-1), Fraction(1)),
            odd=True,
        ),
        Function("relu6", (None, _line("0", "1"), _line("6", "0")), (Fraction(0), Fraction(6))),
        Function(
            "where(x>1,x-1,where(x<-0.5,0.3*(x+0.5),0))",
            (_line("0.15", "0.3"), None, _line("-1", "1")),
            (Fraction(-1, 2), Fraction(1)),
        ),
        Function(
            "hard_swish",
            (None, Piece(lambda x: (x * (x + 3) / 6, (2 * x + 3) / 6)), _line("0", "1")),
            (Fraction(-3), Fraction(3)),
        ),
        Function("squared_relu", (None, Piece(lambda x: (x * x, 2 * x))), _ZERO, scale=0.25),
        Function("elu", _elu(arb(1), arb(1)), _ZERO, rate=1.0),
        Function("selu", _elu(*_SELU), _ZERO, rate=1.0),
        Function("softsign", (Piece(_softsign_below, (1.0,)), Piece(_softsign_above, (-1.0,))), _ZERO, odd=True),
        Function("tanh", (Piece(_tanh, (0.5j * math.pi, -0.5j * math.pi)),), odd=True),
        Function("gelu", (Piece(_gelu),), gaussian=1.0),
        Function("silu", (Piece(_silu, (1j * math.pi, -1j * math.pi)),)),
        Function("softplus", (Piece(_softplus, (1j * math.pi, -1j * math.pi)),)),
        Function("cos", (Piece(_cosine),), rate=1.0),
        Function("sin(3*x)/3+x/4", (Piece(_wavy),), rate=3.0, odd=True),
        Function("exp", (Piece(_exponential),), rate=1.0, grows=1.0, scale=0.125),
    )
}
