"""V and h over a whole interval of variances q, cheaply and tightly: Taylor's theorem around the middle.

With c a constant near E[phi] at the middle q_m, A(q) = E[(phi(sqrt(q) xi) - c)^2] and m(q) = E[phi(sqrt(q) xi)] - c,

    V = A - m^2,   h = V' = A' - 2 m m',   V'' = A'' - 2 m'^2 - 2 m m'',
    A'' = E[He_4(xi) (phi - c)^2]/(4 q^2),   m' = E[He_2(xi) phi]/(2 q),   m'' = E[He_4(xi) (phi - c)]/(4 q^2),

since d/dq acts on the Gaussian weight as half the second derivative in y. The values at q_m are thin; only A'' and m''
are enclosed over the interval, and they meet the square of its half-width.
"""

from __future__ import annotations

import math

from flint import acb, arb

from equikernel.errors import InputError, UncertifiedError
from equikernel.numerics.balls.context import hull, precision
from equikernel.numerics.balls.functions import BallFunction, BallPiece, ball_function
from equikernel.numerics.balls.integral import integral_moments, integrate, work_limit
from equikernel.numerics.balls.integrands import Shape, hermite4
from equikernel.numerics.balls.problem import RawBalls, end_slack, moment_problem, segments
from equikernel.numerics.balls.tails import cut_integrals
from equikernel.theory import moments as formulas
from equikernel.theory.activation import Activation

__all__ = ["variance_enclosure"]

_GUARD = 12
_WORKING = 40
_CURVATURE_BITS = 12  # second derivatives over an interval are rough anyway
_WANTED = (0, 1, 3, 4)  # m0, s0, m2, s2
_ATTEMPTS = 4
_FOURTH = (Shape(0, 0, 4), Shape(1, 0, 4), Shape(2, 0, 4))


def variance_enclosure(activation: Activation, q: arb, bits: int) -> tuple[arb, arb]:
    """(V, h): balls that contain Var phi(sqrt(q) xi) and its derivative in q, for every q in the ball.

    Widths are of the first order in the width of q with the true slopes, and of second order beyond; at an exact q both
    are good to 2^-bits of V and V/q.

    Args:
        activation: phi.
        q: variances; positive.
        bits: accuracy relative to V and V/q.

    Raises:
        InputError: q is not a ball of positive finite variances.
        UncertifiedError: no growth bound, or the stated work did not suffice.
    """
    if not (q > 0 and q.is_finite()):
        raise InputError(f"q must be a ball of positive finite variances; got {q}")
    function = ball_function(activation)
    middle = q.mid()
    lost = 0
    for _ in range(_ATTEMPTS):
        with precision(bits + lost + _WORKING):
            tau, work = middle.sqrt(), bits + lost + _GUARD
            found = integral_moments(moment_problem(function, tau, work, _WANTED), work)
            m, m_slope, V, h = _derived(tau, found)
            short = max(_shortage(V, V, bits), _shortage(middle * h, V, bits))
        if short <= 0 or found.exhausted:
            break
        lost += short + _GUARD
    if not q.is_exact() and V.is_finite():
        with precision(bits + lost + _WORKING):
            step = q - middle
            square = hull(0, q.rad() ** 2)
            V_curve, m_curve = _curvatures(function, q, m.mid(), V)
            m_over = (m - m.mid()) + m_slope * step + m_curve * square / 2
            m_slope_over = m_slope + m_curve * step
            curve = V_curve - 2 * m_slope_over * m_slope_over - 2 * m_over * m_curve
            V, h = V + h * step + curve * square / 2, h + curve * step
    if not (V.is_finite() and h.is_finite()):
        raise UncertifiedError(
            f"the variance of {activation.name} over the interval {q.str(6)} of q could not be enclosed; "
            "take a narrower interval or a smoother activation"
        )
    return V, h


def _shortage(value: arb, size: arb, bits: int) -> int:
    """How many bits the ball lacks of an accuracy of 2^-bits times ``size``; many when ``size`` is not known."""
    if value.rad() == 0:
        return 0
    if size.contains(0) or not value.is_finite():
        return bits + _WORKING
    return bits + math.ceil(float((value.rad() / size.abs_lower()).log().mid()) / math.log(2))


def _derived(tau: arb, found: RawBalls) -> tuple[arb, arb, arb, arb]:
    """The mean, its slope in q, V and h at one tau."""
    m0, s0, _, m2, s2, _ = found.values
    slope = formulas.curvature(m2, tau) / 2
    return m0, slope, formulas.variance(m0, s0), formulas.variance_slope(m0, m2, s2, tau)


def _curvatures(function: BallFunction, q: arb, c: arb, V: arb) -> tuple[arb, arb]:
    """A'' and m'' over the interval q."""
    tau = q.sqrt()
    scale = V.abs_upper()
    root = scale.sqrt()
    small = arb(2) ** -_CURVATURE_BITS
    size = abs(c).upper() + root
    cut = cut_integrals(function, tau, _FOURTH, [small * scale / size**2, small * scale / size, small * scale])
    norm = 1 / (tau * (2 * arb.pi()).sqrt())
    q2 = -1 / (2 * q)
    imaginary = acb(0, 1 / root)

    def integrand(piece: BallPiece, y: acb, analytic: bool) -> acb:
        centred = piece.analytic(y, analytic)[0] - c
        square = y * y
        weight = (q2 * square).exp() * norm / root
        combined: acb = weight * hermite4(square / q) * centred * (1 + imaginary * centred)
        return combined

    limit = work_limit(_CURVATURE_BITS)
    total, _ = integrate(integrand, segments(function), cut.left, cut.right, _CURVATURE_BITS, limit)
    slack = sum(end_slack(function, lambda piece, y: (integrand(piece, y, False),)), arb(0))
    constant_tail, first_tail, second_tail = cut.tails
    first_error = slack * root + first_tail + abs(c) * constant_tail
    second_error = slack * scale + 2 * second_tail + 2 * c * c * constant_tail  # (phi - c)^2 <= 2 phi^2 + 2 c^2
    second = (total.imag * scale + arb(0, second_error.upper())) / (4 * q * q)
    if function.parity == "odd":
        return second, arb(0)
    return second, (total.real * root + arb(0, first_error.upper())) / (4 * q * q)
