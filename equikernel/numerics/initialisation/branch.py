"""Fixed points of the length for weights with u independent of x: v = s q(v), q(v) = E(phi(u) + x)^2, u ~ N(0, v).

The variance v of u, not sigma, is the parameter: s(v) = v/q(v) is explicit, rises from 0, and the fixed point that is
reached from short states is the smallest v with s(v) = s. At it kappa = s q'(v) <= 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import scipy.optimize

from equikernel.errors import AccuracyError, ConvergenceError, InputError, NoFixedPointError
from equikernel.numerics.initialisation.independent import Independent, independent
from equikernel.numerics.initialisation.inputs import InputLaw
from equikernel.numerics.initialisation.precision import Precision
from equikernel.theory.activation import Activation

__all__ = ["Branch", "BranchPoint", "Critical", "critical_point", "fixed_point", "smallest"]

_FIRST, _RATIO, _LAST = 2.0**-10, 1.25, 1e16  # the scan in v, in units of s E(phi(0) + x)^2 or of E(phi(0) + x)^2
_STEPS = 60
_SATURATED = 1e-6
_END = 1e-13
_ROUNDING = 1e-13  # of chi and kappa: nearer to 1 the sign of their excess means nothing


@dataclass(frozen=True)
class Critical:
    """Where stability ends, going up from sigma = 0.

    Attributes:
        sigma: the critical standard deviation; infinite if none was found.
        kind: "instability" (perturbations stop decaying), "no fixed point" (none beyond) or "none".
        lower, upper: bracket of sigma.
    """

    sigma: float
    kind: str
    lower: float
    upper: float


@dataclass(frozen=True)
class BranchPoint:
    """One v (a variance): the integrals, q, dq/dv, s = v/q, chi = s E phi'^2, kappa = s dq/dv."""

    v: Any
    integrals: Independent
    q: Any
    q_v: Any
    s: Any
    chi: Any
    kappa: Any


class Branch:
    """The curve v -> (q, s, chi, kappa) of one activation and input law.

    ``bias`` is the variance of a Gaussian input inside phi, beside the v that is fed back.
    """

    def __init__(self, activation: Activation, law: InputLaw, bias: float = 0.0) -> None:
        self.activation = activation
        self.law = law
        self.bias = float(bias)

    def at(self, v: Any, precision: Precision) -> BranchPoint:
        """One point of the curve.

        Raises:
            AccuracyError: the quadrature did not converge, or overflows.
        """
        found = independent(self.activation, v + self.bias if self.bias else v, precision)
        v = precision.number(v)
        m1, m2 = (self.law.moment(k, precision.number) for k in (1, 2))
        q, q_v = found.p2 + 2 * m1 * found.p1 + m2, found.p2_v + 2 * m1 * found.p1_v
        s = v / q
        return BranchPoint(v, found, q, q_v, s, s * found.d2, s * q_v)

    def at_rest(self) -> float:
        """The q at v = 0: without bias E(phi(0) + x)^2.

        Raises:
            InputError: it vanishes, and with it every z.
        """
        if self.bias:
            found = independent(self.activation, self.bias, Precision())
            return float(found.p2 + 2 * found.p1 * self.law.moment(1) + self.law.moment(2))
        rest = float(self.activation.function("numpy")(0.0))
        q = rest * rest + 2 * rest * self.law.moment(1) + self.law.moment(2)
        if q <= 0:
            raise InputError(
                f"the input x = 0 of {self.activation.name} has the fixed point z = 0, whose length relative to x has "
                "no meaning; give an x that is not zero"
            )
        return float(q)


def fixed_point(branch: Branch, s: Any, precision: Precision) -> BranchPoint:
    """The smallest v > 0 with v = s q(v), relative error about 1e-15 (float64) or 10^-(digits - 8).

    Located by a sign change of v - s q(v) on a grid of ratio 1.25 in v; a pair of roots closer than that may be missed.

    Raises:
        NoFixedPointError: none up to 1e16 s E(phi(0) + x)^2, or before the integrals overflow.
        ConvergenceError: a nearly double root.
    """
    return _polished(branch, s, smallest(branch, float(s)), precision)


def smallest(branch: Branch, s: float) -> float:
    """The smallest v > 0 with v = s q(v), in float64; see ``fixed_point``."""
    plain = Precision()

    def defect(v: float) -> float:
        return v - s * float(branch.at(v, plain).q)

    start = s * branch.at_rest()
    low, high = 0.0, start * _FIRST
    nothing = NoFixedPointError(
        f"no fixed point: |z|^2/N has no solution for {branch.activation.name} at sigma = {math.sqrt(s):.6g}; "
        "reduce sigma"
    )
    try:
        while defect(high) <= 0:
            low, high = high, high * _RATIO
            if high > start * _LAST:
                raise nothing
    except AccuracyError:  # q overflows, or the branch ends
        raise nothing from None
    if low == 0.0:
        return high
    if not defect(low) <= 0 < defect(high):  # points are found from their neighbours: rounding decides on the sign
        raise ConvergenceError(
            f"the fixed point of {branch.activation.name} at sigma = {math.sqrt(s):.6g} is nearly double; change sigma "
            "slightly"
        )
    return float(scipy.optimize.brentq(defect, low, high, xtol=1e-300, rtol=1e-15))


def _polished(branch: Branch, s: Any, v: Any, precision: Precision) -> BranchPoint:
    """Newton's iteration for v = s q(v)."""
    s, v = precision.number(s), precision.number(v)
    for _ in range(_STEPS):
        point = branch.at(v, precision)
        step = (v - s * point.q) / (1 - s * point.q_v)
        if abs(step) <= 32 * precision.unit * v:
            return point
        v = v - step if v > step else v / 2
    raise ConvergenceError(
        f"Newton's iteration for |z|^2/N of {branch.activation.name} did not settle at sigma = "
        f"{math.sqrt(float(s)):.6g}: the fixed point is nearly double; change sigma slightly"
    )


def critical_point(branch: Branch) -> Critical:
    """The first sigma at which chi = 1 or kappa = 1 (a fold), or to which sigma rises as v -> infinity."""
    plain = Precision()

    def excess(v: float) -> float:
        point = branch.at(v, plain)
        return float(max(point.chi, point.kappa)) - 1.0

    rest = branch.at_rest()
    low = rest * _FIRST
    while excess(low) >= 0:  # a steep activation
        low *= _FIRST
    high = low
    try:
        while (gap := excess(high)) < -_ROUNDING:
            low, high = high, high * _RATIO
            if high > rest * _LAST:
                return _limit(branch, low, plain)
    except AccuracyError:
        low, high = _end(excess, low, high)
        gap = excess(low if low == high else high)
    if low == high or gap <= _ROUNDING:  # the end of the curve; or 1 is approached as v grows, or met at v = high
        point = branch.at(low if low == high else high, plain)
        sigma = math.sqrt(point.s)
        kind = "instability" if low != high and point.chi > point.kappa + 1e-9 else "no fixed point"
        return Critical(sigma, kind, sigma, sigma)
    v = scipy.optimize.brentq(excess, low, high, xtol=1e-300, rtol=1e-15)
    point = branch.at(v, plain)
    kind = "instability" if point.chi > point.kappa + 1e-9 else "no fixed point"
    ends = [math.sqrt(branch.at(end, plain).s) for end in (v * (1 - 1e-14), v, v * (1 + 1e-14))]
    return Critical(ends[1], kind, min(ends), max(ends))


def _end(excess: Callable[[float], float], low: float, high: float) -> tuple[float, float]:
    """A bracket of excess = 0 before the curve ends between low and high, or its end, twice."""
    while high - low > _END * high:
        middle = 0.5 * (low + high)
        try:
            if excess(middle) >= 0:
                return low, middle
            low = middle
        except AccuracyError:
            high = middle
    return low, low


def _limit(branch: Branch, v: float, plain: Precision) -> Critical:
    """Nothing is critical up to v: sigma may have risen to a limit there."""
    here, before = (math.sqrt(branch.at(at, plain).s) for at in (v, v / 16))
    if here > before * (1 + _SATURATED):
        return Critical(math.inf, "none", here, math.inf)
    return Critical(here, "no fixed point", before, here + (here - before))
