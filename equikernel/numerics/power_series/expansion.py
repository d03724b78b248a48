r"""The series itself in the variable u = s/r: the certified fixed point, Hermite coefficients, reversion.

With P(Y) = sum_{k>=1} c_k^2 Y^k and Y = (sigma_a2 F + sigma_b2 s)/q, u = (q Y - sigma_a2 P(Y))/(sigma_b2 r) is reverted
to Y(u); then F = P(Y) = (q Y - sigma_b2 r u)/sigma_a2, and since 1 - sigma_a2 P'(Y)/q = sigma_b2 r/(q Y'(u)),
K = F Y'(u) q/(sigma_b2 r), plus u F'(u) when the input weights are trained.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from flint import arb, arb_series, ctx

from equikernel.errors import UncertifiedError
from equikernel.numerics.balls.context import exact, precision
from equikernel.numerics.balls.functions import BallFunction, ball_function
from equikernel.numerics.balls.moments import BallMoments, ball_moments
from equikernel.numerics.certificates.equation import Equation
from equikernel.numerics.certificates.refine import Zero, isolate_zero, sharpen
from equikernel.numerics.power_series.hermite import hermite_coefficients, working_bits
from equikernel.numerics.solve import solve
from equikernel.theory.models import DEQ

__all__ = ["SphereEquation", "SphereExpansion", "expand"]

_BRACKETS = (2.0**-24, 2.0**-16, 2.0**-32)
_MOMENT_BITS = 64


@dataclass(frozen=True)
class SphereEquation:
    """q = sigma_a2 V(q) + sigma_b2 r, r the squared norm of all samples; the fixed point that ``solve`` selects."""

    deq: DEQ
    radius2: Fraction

    @cached_property
    def function(self) -> BallFunction:
        """The activation in ball arithmetic."""
        return ball_function(self.deq.activation)

    @cached_property
    def _equation(self) -> Equation:
        # sqrt(r) may be irrational: r goes into sigma_b2
        return Equation(self.deq.activation, self.deq.sigma_a2, self.deq.sigma_b2 * self.radius2, Fraction(1))

    @cached_property
    def _zero(self) -> Zero:
        """The fixed point, isolated.

        Raises:
            NoFixedPointError: there is no stable one.
            UncertifiedError: it could not be isolated.
        """
        scaled = DEQ(self.deq.activation, self.deq.sigma_a2, self.deq.sigma_b2 * self.radius2)
        approximate = float(solve(scaled, 1, trained="a").q)
        for relative in _BRACKETS:
            lower, upper = approximate * (1 - relative), approximate * (1 + relative)
            if self._equation.sign_at(lower) < 0 < self._equation.sign_at(upper):
                return isolate_zero(self._equation, lower, upper, rising=True)
        raise UncertifiedError(
            f"the fixed point near q = {approximate:.10g} could not be enclosed: it is nearly double; "
            "change sigma_a2 slightly"
        )

    def variance(self, bits: int) -> arb:
        """A ball with q, to about 2^-bits of it."""
        if self.deq.sigma_a2 == 0:
            return exact(self.deq.sigma_b2 * self.radius2)
        return sharpen(self._equation, self._zero, bits)

    @cached_property
    def rough(self) -> BallMoments:
        """The moments at the fixed point to some 18 digits."""
        with precision(2 * _MOMENT_BITS):
            return ball_moments(self.deq.activation, self.variance(_MOMENT_BITS).sqrt(), _MOMENT_BITS)


@dataclass(frozen=True)
class SphereExpansion:
    """The kernel to some order, as balls at ``precision`` bits.

    Attributes:
        equation: the equation on the sphere.
        precision: bits at which the balls are meant.
        q: the fixed point.
        gamma2: V(q) = F(r) on the diagonal.
        slope_energy: v = E[phi'^2], sharp for the tangent kernel; None where it is infinite.
        squares: c_1^2 .. c_order^2.
        scaled: b_0 = 0, b_1 r, b_2 r^2, .. of the kernel asked for.
    """

    equation: SphereEquation
    precision: int
    q: arb
    gamma2: arb
    slope_energy: arb | None
    squares: list[arb]
    scaled: list[arb]


@contextmanager
def _series_precision(bits: int, order: int) -> Iterator[None]:
    """Ball arithmetic and power series to u^order; both settings are restored."""
    with precision(bits):
        before = ctx.cap
        ctx.cap = order + 1
        try:
            yield
        finally:
            ctx.cap = before


def expand(equation: SphereEquation, order: int, bits: int, trained: str) -> SphereExpansion:
    """The scaled coefficients, each to about 2^-bits of gamma^2; ``trained`` = "a" is the conjugate kernel.

    Raises:
        UncertifiedError: the fixed point or the Hermite coefficients could not be enclosed.
    """
    deq, function = equation.deq, equation.function
    small = max(0, -math.frexp(float(equation.rough.V))[1])
    absolute = bits + small
    work = working_bits(order, absolute)
    with _series_precision(work, order):
        q = equation.variance(work)
        squares = [c * c for c in hermite_coefficients(function, q.sqrt(), order, absolute)[1:]]
        sigma_a2, source = exact(deq.sigma_a2), exact(deq.sigma_b2 * equation.radius2)
        P = arb_series([0, *squares], prec=order + 1)
        Y = arb_series([0, 1], prec=order + 1)
        if deq.sigma_a2 > 0:
            gamma2 = (q - source) / sigma_a2
            Y = ((q * Y - sigma_a2 * P) / source).reversion()
            F = (q * Y - arb_series([0, source], prec=order + 1)) / sigma_a2
        else:
            gamma2 = ball_moments(deq.activation, q.sqrt(), absolute).V
            F = P
        kernel = F
        if trained != "a":
            # Y' lacks its last coefficient, which F = O(u) does not need: F[0] is exactly 0
            kernel = F * arb_series([*Y.derivative().coeffs(), 0], prec=order + 1) * (q / source)
        if trained == "aAB":
            kernel += arb_series([k * b for k, b in enumerate(F.coeffs())], prec=order + 1)
        scaled = [kernel[k] for k in range(order + 1)]
        v = equation.rough.v_or_none
        if trained != "a":
            v = ball_moments(deq.activation, q.sqrt(), absolute).v_or_none
    return SphereExpansion(equation, work, q, gamma2, v, squares, scaled)
