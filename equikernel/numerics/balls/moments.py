"""Enclosures of the Gaussian moments of an activation, by either of two rigorous engines."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from flint import arb

from equikernel.errors import InputError, UncertifiedError
from equikernel.numerics.balls.context import precision
from equikernel.numerics.balls.functions import BallFunction, ball_function
from equikernel.numerics.balls.integral import integral_moments
from equikernel.numerics.balls.problem import Problem, RawBalls, moment_problem
from equikernel.numerics.balls.trapezoid import trapezoid_moments
from equikernel.theory import moments as formulas
from equikernel.theory.activation import Activation

__all__ = ["ENGINES", "BallMoments", "ball_moments"]

ENGINES = ("auto", "integral", "trapezoid")
_GUARD = 12
_MANY_BITS = 400
_PILOT_BITS = 64  # cancellation is measured at so few bits before many are spent
_PATIENCE = 20_000  # evaluations that an attempt may have taken for another one to look for hidden moments
_HIDDEN = (64, 256)  # extra bits tried for a moment that cannot be told from zero; then it is left as it is
_TRAPEZOID_SMOOTH, _TRAPEZOID_KINKED = 280, 800  # bits from which the trapezoidal rule is the faster engine
_ATTEMPTS = 3
_WORKING = 24  # bits for rounding
_USELESS = 2.0**-10
_FLOOR = 16  # how far above the spread caused by a wide tau an error is put down to it


@dataclass(frozen=True)
class BallMoments:
    """Balls that contain the moments of phi(tau xi) for every tau in a ball; definitions in ``theory.moments``.

    Attributes:
        activation: phi.
        tau: the standard deviations meant.
        raw: m0, s0, m1, m2, s2, v of phi itself (shift 0); v is None where it is infinite or not proved finite.
        mean, V, d1, d2, h: E[phi], Var phi, E[phi'], E[phi''], dV/dq with the bias fixed.
        v_or_none: E[phi'^2], None where it is infinite or phi is not proved to be continuous.
        engine: "integral" or "trapezoid".
        bits: the relative accuracy asked for; the balls say what was reached.
    """

    activation: Activation
    tau: arb
    raw: tuple[Any, ...]
    mean: arb
    V: arb
    d1: arb
    d2: arb
    h: arb
    v_or_none: arb | None
    engine: str
    bits: int

    def items(self) -> Iterator[tuple[str, arb]]:
        """(name, ball) of V, d1, d2, h and, where finite, v."""
        for name in ("V", "d1", "d2", "h"):
            yield name, getattr(self, name)
        if self.v_or_none is not None:
            yield "v", self.v_or_none


def _derived(activation: Activation, tau: arb, raw: tuple[Any, ...], engine: str, bits: int) -> BallMoments:
    m0, s0, m1, m2, s2, v = raw
    return BallMoments(
        activation=activation,
        tau=tau,
        raw=raw,
        mean=m0,
        V=formulas.variance(m0, s0),
        d1=formulas.mean_slope(m1, tau),
        d2=formulas.curvature(m2, tau),
        h=formulas.variance_slope(m0, m2, s2, tau),
        v_or_none=v,
        engine=engine,
        bits=bits,
    )


@dataclass(frozen=True)
class _Attempt:
    """Moments, the radii that a wide tau alone explains, about E|f_i|, the work, and whether it ran out."""

    moments: BallMoments
    floors: dict[str, arb]
    sizes: tuple[arb, ...]
    bits: int
    work: int
    exhausted: bool

    def losses(self) -> dict[str, float]:
        """Bits lost by each moment that fell short for want of bits; inf for one that is hidden by its error."""
        lost = {}
        for name, ball in self.moments.items():
            size, radius = ball.abs_lower(), ball.rad()
            if radius == 0 or not ball.is_finite() or radius <= _FLOOR * self.floors[name]:
                continue
            if name == "d2" and ball.contains(0) and self.moments.activation.odd_up_to_constant:
                continue  # zero, though not provably: more bits would not find it otherwise
            lost[name] = self.bits + _log2(radius) - _log2(size) if size > 0 else math.inf
        return lost


def _log2(value: arb) -> float:
    return float(value.mid().log().mid()) / math.log(2)


def _run(problem: Problem, bits: int, engine: str) -> tuple[RawBalls, str]:
    """The raw moments, and the engine that found them."""
    threshold = _TRAPEZOID_SMOOTH if len(problem.function.pieces) == 1 else _TRAPEZOID_KINKED
    if engine == "trapezoid" or (engine == "auto" and bits >= threshold):
        try:
            return trapezoid_moments(problem, bits), "trapezoid"
        except UncertifiedError:
            if engine == "trapezoid":
                raise
    return integral_moments(problem, bits), "integral"


def _attempt(function: BallFunction, tau: arb, bits: int, engine: str) -> _Attempt:
    """Moments to about ``bits`` bits of the absolute integrals."""
    with precision(bits + _WORKING + 2 * bits.bit_length()):
        problem = moment_problem(function, tau, bits)
        found, engine = _run(problem, bits, engine)
        relative = tau.rad() / tau.abs_lower()
        spread = tuple(
            None if b is None else arb(b.mid(), s * relative)
            for b, s in zip(found.values, problem.spreads, strict=True)
        )
        moments = _derived(function.activation, tau, found.values, engine, bits)
        floors = dict(_derived(function.activation, tau, spread, engine, bits).items())
        return _Attempt(
            moments, {n: b.rad() for n, b in floors.items()}, problem.sizes, bits, found.work, found.exhausted
        )


def ball_moments(activation: Activation, tau: arb, bits: int, engine: str = "auto") -> BallMoments:
    """Balls that contain the Gaussian moments of phi(tau xi) for every tau in the ball ``tau``.

    The relative accuracy of V, d1, d2, h and v is 2^-bits where tau is exact, and what its width allows where not. Bits
    lost to cancellation (small tau, moments that nearly vanish) are measured at few bits and added; a moment that 256
    more bits do not tell from zero is returned as the ball it is. v is not finite where phi' is not bounded. Where the
    stated work runs out the balls are as wide as they are; V and h are not returned as mere guesses.

    Args:
        activation: phi.
        tau: standard deviations; positive.
        bits: relative accuracy.
        engine: "integral" (adaptive Gauss-Legendre), "trapezoid" (certified sinh-trapezoid) or "auto", the faster.

    Raises:
        InputError: tau or the engine is not one.
        UncertifiedError: nothing could be proved: no growth bound, or the stated work did not suffice.
    """
    if engine not in ENGINES:
        raise InputError(f"unknown engine {engine!r}: expected one of {', '.join(ENGINES)}")
    if not (tau > 0 and tau.is_finite()):
        raise InputError(f"tau must be a ball of positive finite standard deviations; got {tau}")
    function, asked = ball_function(activation), bits
    if not tau.is_exact():  # no more bits than tau has
        bits = min(bits, max(math.ceil(_log2(tau.abs_lower()) - _log2(tau.rad())), 0) + _GUARD)
    pilot = bits if bits <= _MANY_BITS else _PILOT_BITS
    for extra in (0, *_HIDDEN):
        attempt = _attempt(function, tau, pilot + extra + _GUARD, engine)
        losses = attempt.losses().values()
        if attempt.work > _PATIENCE or math.inf not in losses:
            break
    lost = max((loss for loss in losses if loss < math.inf), default=0.0)
    for _ in range(_ATTEMPTS):
        if attempt.exhausted or attempt.bits - lost >= bits:
            break
        work = bits + math.ceil(max(lost, 0.0)) + _GUARD
        attempt = _attempt(function, tau, work, engine)
        lost = max((loss for loss in attempt.losses().values() if loss < math.inf), default=0.0)
    return replace(_useful(attempt), bits=asked)


def _useful(attempt: _Attempt) -> BallMoments:
    """The moments, unless the work ran out and left V or h no more than a guess.

    Raises:
        UncertifiedError: names the moment and what remained.
    """
    moments = attempt.moments
    for name, size in (("V", attempt.sizes[1]), ("h", attempt.sizes[4] / (2 * moments.tau**2))):
        ball = getattr(moments, name)
        if ball.is_finite() and not (attempt.exhausted and ball.rad() > _USELESS * size.abs_lower()):
            continue
        raise UncertifiedError(
            f"the moment {name} of {moments.activation.name} at tau = {moments.tau.str(6, radius=False)} could not be "
            f"enclosed by the engine {moments.engine!r} in its stated work (it is {ball.str(5)}); "
            "take fewer digits, the other engine, or a smoother activation"
        )
    return moments
