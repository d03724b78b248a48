"""The Gaussian moments by ball enclosures: their error bounds are proofs."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from flint import arb

from equikernel.errors import UncertifiedError
from equikernel.numerics.balls.context import bits_of_digits, exact, precision
from equikernel.numerics.balls.functions import ball_function, mpf_ball
from equikernel.numerics.balls.integral import integral_moments
from equikernel.numerics.balls.moments import ball_moments
from equikernel.numerics.balls.problem import moment_problem
from equikernel.numerics.moment_values import Moment, Moments
from equikernel.theory import moments as formulas
from equikernel.theory.activation import Activation
from equikernel.theory.models import exact_number
from equikernel.theory.multiprecision import MpArithmetic, mp_arithmetic

__all__ = ["ball_number", "enclosed_moments", "quick_verdict"]

_GUARD_BITS = 64  # of tau, so that its rounding costs no digit of the moments
_QUICK_BITS, _QUICK_WORK = 24, 4000  # a few milliseconds


def enclosed_moments(activation: Activation, tau: Any, digits: int, engine: str = "auto") -> Moments:
    """Moments to ``digits`` significant digits, as mpmath numbers whose errors are radii of balls.

    What vanishes by symmetry is exactly zero. A moment that cannot be told from zero keeps the radius of its ball.

    Args:
        activation: phi.
        tau: a standard deviation; float and mpmath numbers are taken exactly.
        digits: significant digits.
        engine: see ``balls.moments.ball_moments``.

    Raises:
        UncertifiedError: nothing could be proved, or not in the stated work.
    """
    bits = bits_of_digits(digits) + 4
    arithmetic = mp_arithmetic(digits + 10)
    with precision(bits + _GUARD_BITS):
        found = ball_moments(activation, _tau_ball(tau), bits, engine)
        if found.v_or_none is None and activation.has_square_integrable_derivative:
            raise UncertifiedError(f"{activation.name} could not be proved to be continuous, so E[phi'^2] has no proof")
        provenance = f"ball enclosure ({found.engine}, {digits} digits)"
        odd, even = activation.parity == "odd", activation.parity == "even"

        def moment(ball: arb, symmetry: str = "", holds: bool = False) -> Moment:
            if holds and ball.contains(0):
                return Moment(arithmetic.context.zero, 0.0, f"symmetry ({symmetry})")
            return ball_number(ball, arithmetic, provenance)

        return Moments(
            activation=activation,
            tau=arithmetic.number(tau),
            mean=moment(found.mean, "odd", odd),
            V=moment(found.V),
            d1=moment(found.d1, "even", even),
            d2=moment(found.d2, "odd" if odd else "odd up to a constant", activation.odd_up_to_constant),
            h=moment(found.h),
            v_or_none=None if found.v_or_none is None else moment(found.v_or_none),
        )


def _tau_ball(tau: Any) -> arb:
    if hasattr(tau, "_mpf_"):
        return mpf_ball(tau)
    return exact(Fraction(tau) if isinstance(tau, float) else exact_number(tau, "tau", positive=True))


def ball_number(ball: arb, arithmetic: MpArithmetic, provenance: str) -> Moment:
    """The midpoint of a ball as an mpmath number, with a bound on its distance to all of the ball."""
    c = arithmetic.context
    value = +c.make_mpf(ball.mid()._mpf_)
    return Moment(value, c.make_mpf(ball.rad()._mpf_) + abs(value) * c.eps, provenance)


def quick_verdict(activation: Activation, tau: float, V: float) -> str:
    """What a rough enclosure says of a value of Var phi(tau xi): "confirmed", "disproved", or why it says nothing.

    Quadrature misses features narrower than the distance of its nodes, in every precision; enclosures do not.
    """
    try:
        function = ball_function(activation)
    except UncertifiedError:
        return "breakpoints not proved"
    try:
        with precision(_GUARD_BITS):
            problem = moment_problem(function, arb(tau), _QUICK_BITS, (0, 1))
            found = integral_moments(problem, _QUICK_BITS, _QUICK_WORK)
            ball = formulas.variance(*found.values[:2])
            if found.exhausted or not ball.is_finite():
                return "not confirmed by an enclosure"
            slack = (abs(ball) + found.values[0] ** 2) * arb(2) ** -_QUICK_BITS
            return "confirmed" if (ball + arb(0, slack.upper())).contains(arb(V)) else "disproved"
    except UncertifiedError:
        return "not confirmed by an enclosure"
