"""Where to cut the Gaussian integrals, and a proved bound of what is cut off.

With |phi| <= C (1 + y)^k e^(c y) for y >= X, an integrand is at most e^psi(y)/(tau sqrt(2 pi)) with

    psi(y) = j log C + j k log(1 + y) + j c y + m log(1 + y/tau) - y^2/(2 tau^2),

j the power of phi and m the degree of the polynomial in xi (|He_2| <= (1 + xi)^2 for xi >= 0, |He_4| <= (1 + xi)^4 for
xi >= 1/2). psi is concave, so that the integral from X on is at most e^psi(X)/(-psi'(X)) where psi'(X) < 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from flint import arb

from equikernel.errors import UncertifiedError
from equikernel.numerics.balls.context import precision
from equikernel.numerics.balls.envelope import Envelope
from equikernel.numerics.balls.functions import BallFunction
from equikernel.numerics.balls.integrands import Shape

__all__ = ["Cut", "TailGrowth", "cut_integrals", "growth_rate", "tail_growth"]

_TAIL_BITS = 64  # a bound needs no more
_STARTS = (1.0, 8.0, 64.0, 512.0)  # beyond the breakpoints: some bounds hold for large |y| only
_STRETCH = 1.02
_TRIES = 60
_LEAST = 1e-100


@dataclass(frozen=True)
class Cut:
    """Integrate over [-left, right] (exact numbers); ``tails`` bounds what each integral has beyond, both sides."""

    left: arb
    right: arb
    tails: tuple[arb, ...]


@dataclass(frozen=True)
class TailGrowth:
    """Growth of phi and phi' on one side, from ``start`` on."""

    start: float
    phi: Envelope
    slope: Envelope

    def of(self, shape: Shape) -> tuple[arb, int, arb]:
        """(C, k, c) of phi^value phi'^slope."""
        p, d = shape.value, shape.slope
        return (
            self.phi.C**p * self.slope.C**d,
            p * self.phi.k + d * self.slope.k,
            p * self.phi.c + d * self.slope.c,
        )


@lru_cache(maxsize=256)
def tail_growth(function: BallFunction, side: int) -> TailGrowth:
    """Growth bounds of phi and phi' far enough out on one side.

    Raises:
        UncertifiedError: none could be proved.
    """
    refusal: UncertifiedError | None = None
    with precision(_TAIL_BITS):
        last = float(function.outermost().upper()) * (1 + 2.0**-20)
        for distance in _STARTS:
            start = math.ceil(last) + distance
            try:
                phi, slope = function.envelope(side, arb(start))
            except UncertifiedError as error:
                refusal = refusal or error
                continue
            if phi.C.is_finite() and slope.C.is_finite():
                return TailGrowth(start, phi, slope)
    raise UncertifiedError(
        f"no growth bound for {function.activation.name} at infinity, so its Gaussian tails cannot be bounded"
        + (f": {refusal}" if refusal else "")
    )


def growth_rate(function: BallFunction, side: int) -> float:
    """The c in |phi| <= C (1 + |y|)^k e^(c |y|) on one side."""
    return float(tail_growth(function, side).phi.c)


def _bound(growth: TailGrowth, shape: Shape, tau: arb, cut: arb) -> arb:
    """The bound of the module's first lines for one integrand beyond ``cut``, for every tau of the ball."""
    C, k, c = growth.of(shape)
    q = tau * tau
    falling = cut / q - k / (1 + cut) - c - shape.degree / (tau + cut)
    if not falling > 0:
        return arb.pos_inf()
    psi = k * (1 + cut).log() + c * cut + shape.degree * (1 + cut / tau).log() - cut * cut / (2 * q)
    return C * psi.exp() / (falling * tau * (2 * arb.pi()).sqrt())


def _float_log(value: arb) -> float:
    return float(value.upper().log().mid()) if value.upper() > 0 else -math.inf


def _guess(growth: TailGrowth, shapes: Sequence[Shape], tau: float, goals: Sequence[float]) -> float:
    """About the smallest cut whose bounds are below exp(goal), in floats; the proof is not here."""
    parts = [(_float_log(C), k, float(c), s.degree) for s in shapes for C, k, c in (growth.of(s),)]

    def excess(cut: float) -> float:
        worst = -math.inf
        for (log_C, k, c, degree), goal in zip(parts, goals, strict=True):
            falling = cut / tau / tau - k / (1 + cut) - c - degree / (tau + cut)
            if falling <= 0:
                return math.inf
            psi = log_C + k * math.log1p(cut) + c * cut + degree * math.log1p(cut / tau) - 0.5 * (cut / tau) ** 2
            worst = max(worst, psi - math.log(falling * tau * 2.5066) - goal)
        return worst

    low = high = max(growth.start, tau)
    while excess(high) > 0:
        low, high = high, 2 * high
        if high > 1e150:
            raise UncertifiedError(f"the Gaussian tails at tau = {tau:.6g} are not negligible anywhere below 1e150")
    while high > low * 1.01 + 1e-300:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if excess(middle) <= 0 else (middle, high)
    return high


def cut_integrals(function: BallFunction, tau: arb, shapes: Sequence[Shape], goals: Sequence[arb]) -> Cut:
    """A cut whose tails are below ``goals``, one for each shape, for every tau in the ball.

    Raises:
        UncertifiedError: no growth bound, or none that the Gaussian weight beats; tau is not between 1e-100 and 1e100.
    """
    if not (tau > _LEAST and tau < 1 / _LEAST):
        raise UncertifiedError(f"tau = {tau.str(6)} is not between 1e-100 and 1e100, where Gaussian tails are bounded")
    logs = [_float_log(goal) - 1.0 for goal in goals]  # two sides
    ends: list[arb] = []
    totals = [arb(0)] * len(shapes)
    with precision(_TAIL_BITS):
        # of a symmetric function one half-line is integrated, and its cut and tail stand for both
        for side in (-1, 1) if function.parity is None else (1, 1):
            growth = tail_growth(function, side)
            guess = _guess(growth, shapes, float(tau.upper()), logs)
            for _ in range(_TRIES):
                tails = [_bound(growth, shape, tau, arb(guess)) for shape in shapes]
                if all(2 * t <= g for t, g in zip(tails, goals, strict=True)):
                    break
                guess *= _STRETCH
            else:
                raise UncertifiedError(
                    f"the Gaussian tails of {function.activation.name} at tau = {float(tau):.6g} cannot be bounded; "
                    "reduce tau or the growth of the activation"
                )
            ends.append(arb(guess))
            totals = [total + tail for total, tail in zip(totals, tails, strict=True)]
    return Cut(ends[0], ends[1], tuple(total.upper() for total in totals))
