"""All solutions of the scalar equation T(q) = q, T(q) = sigma_a2 V(sqrt q) + sigma_b2 tau0^2, in a scanned interval."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.optimize

from equikernel.errors import AccuracyError, ConvergenceError, NoFixedPointError, UncertifiedError, UnstableError
from equikernel.numerics.balls.context import bits_of_digits, precision
from equikernel.numerics.balls.functions import mpf_ball
from equikernel.numerics.certificates.equation import Equation
from equikernel.numerics.moments import multiprecision_moments, quick_moments
from equikernel.numerics.quadrature import rule
from equikernel.theory.activation import Activation
from equikernel.theory.equations import fixed_point_map, fixed_point_slope
from equikernel.theory.models import DEQ
from equikernel.theory.multiprecision import mp_arithmetic

__all__ = [
    "FixedPoint",
    "FixedPointScan",
    "defect",
    "polish",
    "rounded_root",
    "scan_fixed_points",
    "selected_fixed_point",
]

_RATIO = 1.25  # neighbouring grid points of the scan, as variances
_SPAN = 1e8  # the scan ends at this multiple of sigma_b2 tau0^2, or of 1
_WIDE, _BOUND_LEVEL = 1024.0, 7  # nodes over which the suprema of phi and phi' are taken
_SAFETY = 1.05
_TANGENT = 1e-11  # |q - T(q)|/q at an extremum below which a double root cannot be excluded in float64
_STEPS = 30
_SMALL = 1e-13


@dataclass(frozen=True)
class FixedPoint:
    """A solution q = tau^2 (a variance) of T(q) = q and the slope T'(q) = sigma_a2 h there."""

    q: float
    slope: float

    @property
    def stable(self) -> bool:
        """Whether the iteration q <- T(q) is attracted: |T'(q)| < 1."""
        return abs(self.slope) < 1.0


@dataclass(frozen=True)
class FixedPointScan:
    """Every fixed point found on [lower, upper], in increasing order.

    Attributes:
        points: simple fixed points.
        tangent: variances at which q - T(q) touches zero to float64 accuracy (a double root, or none: undecided).
        lower: sigma_b2 tau0^2; no fixed point lies below it.
        upper: end of the scanned interval.
        final_sign: sign of q - T(q) at ``upper``.
    """

    points: tuple[FixedPoint, ...]
    tangent: tuple[float, ...]
    lower: float
    upper: float
    final_sign: int

    @property
    def selected(self) -> FixedPoint | None:
        """The smallest stable fixed point."""
        return next((p for p in self.points if p.stable), None)


class _Equation:
    """F(q) = q - T(q) and F'(q) = 1 - sigma_a2 h in float64."""

    def __init__(self, activation: Activation, sigma_a2: float, bias: float) -> None:
        self.activation = activation
        self.sigma_a2 = sigma_a2
        self.bias = bias

    def both(self, q: float) -> tuple[float, float]:
        moments = quick_moments(self.activation, math.sqrt(q))
        value = q - fixed_point_map(moments.V.value, self.sigma_a2, 1.0, self.bias)
        return value, 1.0 - fixed_point_slope(moments.h.value, self.sigma_a2)

    def value(self, q: float) -> float:
        return self.both(q)[0]

    def slope(self, q: float) -> float:
        return self.both(q)[1]


def scan_fixed_points(deq: DEQ, tau0: float) -> FixedPointScan:
    """Locate the fixed points of T from b = sigma_b2 tau0^2 up to a bound on all of them, else up to 1e8 max(b, 1).

    Bounds: V <= sup phi^2, and V <= q sup phi'^2 (Poincare), the suprema taken over quadrature nodes. q - T(q) and its
    derivative are taken on a grid of ratio 1.25 in q; sign changes are bracketed and solved by a safeguarded Newton
    iteration, and between grid points where the derivative turns, the extremum is located so that pairs of close roots
    are not missed. Not a proof: features of the activation narrower than the grid can hide roots.

    Args:
        deq: the network.
        tau0: standard deviation of the data (tau0^2 is the mean squared norm of a sample).
    """
    sigma_a2 = float(deq.sigma_a2)
    lower = float(deq.sigma_b2) * tau0 * tau0
    equation = _Equation(deq.activation, sigma_a2, lower)
    grid: list[tuple[float, float, float]] = []
    q = lower
    limit = _upper_bound(deq.activation, sigma_a2, lower)
    while q <= limit * _RATIO:
        try:
            value, slope = equation.both(q)
        except AccuracyError:
            break  # moments overflow: T(q) is far above q from here on
        if not (math.isfinite(value) and math.isfinite(slope)):
            break
        if not grid:  # F(b) = -sigma_a2 V <= 0: a fixed point at b to rounding must not hide behind its sign
            value = min(value, 0.0)
        grid.append((q, value, slope))
        q *= _RATIO
    if not grid:
        equation.both(lower)
    points: list[FixedPoint] = []
    tangent: list[float] = []
    for (qa, fa, da), (qb, fb, db) in itertools.pairwise(grid):
        edges = [(qa, fa), (qb, fb)]
        if da * db < 0 and fa * fb > 0 and da * fa < 0:
            extremum = float(scipy.optimize.brentq(equation.slope, qa, qb, xtol=1e-14 * qb))
            value = equation.value(extremum)
            if abs(value) <= _TANGENT * extremum:
                tangent.append(extremum)
                continue
            edges.insert(1, (extremum, value))
        for (low, f_low), (high, f_high) in itertools.pairwise(edges):
            if f_low * f_high < 0 or f_low == 0:
                points.append(_solve(equation, low, high, f_low))
    final_sign = 0 if not grid else (1 if grid[-1][1] > 0 else -1)
    return FixedPointScan(tuple(points), tuple(tangent), lower, grid[-1][0], final_sign)


def _upper_bound(activation: Activation, sigma_a2: float, bias: float) -> float:
    """A number above every fixed point if phi is bounded or its Lipschitz constant small; else _SPAN * max(bias, 1)."""
    bounds = [_SPAN * max(bias, 1.0)]
    growth = activation.growth
    if growth.rate > 0.0 or growth.degree >= 1.01:
        return _SAFETY * bounds[0]
    nodes = rule(activation).nodes(_WIDE, _BOUND_LEVEL)
    if growth.degree < 0.01:
        bounds.append(bias + sigma_a2 * float(np.max(nodes.phi**2)))
    if activation.has_square_integrable_derivative:
        contraction = _SAFETY * sigma_a2 * float(np.max(nodes.slope**2))
        if contraction < 1.0:
            bounds.append(bias / (1.0 - contraction))
    return _SAFETY * min(bounds)


def _solve(equation: _Equation, low: float, high: float, f_low: float) -> FixedPoint:
    """Newton's iteration kept inside a bracket by bisection."""
    if f_low == 0:
        return FixedPoint(low, 1.0 - equation.slope(low))
    q = 0.5 * (low + high)
    for _ in range(200):
        value, slope = equation.both(q)
        if value == 0:
            break
        if (value < 0) == (f_low < 0):
            low = q
        else:
            high = q
        candidate = q - value / slope if slope != 0 else low
        if not low < candidate < high:
            candidate = 0.5 * (low + high)
        if abs(candidate - q) <= 2.0**-52 * q:
            q = candidate
            break
        q = candidate
    return FixedPoint(q, 1.0 - equation.slope(q))


def selected_fixed_point(deq: DEQ, scan: FixedPointScan) -> FixedPoint:
    """The smallest stable fixed point of a scan.

    Raises:
        UnstableError: there are fixed points, and none is stable.
        NoFixedPointError: there is none.
    """
    selected = scan.selected
    if selected is not None:
        return selected
    name, a2 = deq.activation.name, float(deq.sigma_a2)
    if scan.points:
        found = ", ".join(f"q = {p.q:.6g} with sigma_a2*h = {p.slope:.4g}" for p in scan.points)
        raise UnstableError(
            f"every fixed point of {name} at sigma_a2 = {a2:g} is unstable ({found}; stable needs |sigma_a2*h| < 1); "
            "reduce sigma_a2"
        )
    touching = "".join(f"; q - T(q) touches zero near q = {q:.6g} (a double root, undecided)" for q in scan.tangent)
    raise NoFixedPointError(
        f"no fixed point: no solution of T(q) = q was found for {name} with sigma_a2 = {a2:g} "
        f"on [{scan.lower:.4g}, {scan.upper:.4g}]{touching}; reduce sigma_a2, or sigma_b2*tau0^2"
    )


def rounded_root(name: str, start: float, defect_at: Callable[[float], tuple[Any, Any]]) -> tuple[float, Any]:
    """The fixed point as a float, by Newton's iteration from ``start``, and the defect there.

    Args:
        name: the activation's, for the error.
        start: a variance close to the fixed point.
        defect_at: q -> (q - T(q), 1 - sigma_a2 h).

    Raises:
        ConvergenceError: the defect does not become small: a nearly double root.
    """
    q = start
    for _ in range(_STEPS):
        value, slope = defect_at(q)
        nearer = float(q - value / slope)
        if not abs(nearer - q) > 2.0**-52 * q:
            break
        q = nearer
    value, _ = defect_at(q)
    if not abs(value) <= _SMALL * q:
        raise ConvergenceError(
            f"Newton's iteration for tau of {name} did not settle (|q - T(q)|/q = {float(abs(value) / q):.2g}): the "
            "fixed point is nearly double; change sigma_a2 slightly, or ask for a certificate"
        )
    return q, value


@lru_cache(maxsize=64)
def defect(deq: DEQ, tau0: Any, q: Any, digits: int) -> tuple[Any, Any]:
    """The defect q - T(q) and its derivative 1 - sigma_a2 h to ``digits`` digits; q is taken exactly.

    The defect is the end farthest from zero of a ball that contains it, the derivative a midpoint; by quadrature where
    nothing can be enclosed.
    """
    arithmetic = mp_arithmetic(digits)
    c = arithmetic.context
    q = arithmetic.number(q)
    bits = bits_of_digits(digits)
    try:
        value, slope = Equation(deq.activation, deq.sigma_a2, deq.sigma_b2, tau0).at(mpf_ball(q), bits)
        with precision(bits):
            furthest = value.abs_upper() if value.mid() > 0 else -value.abs_upper()
        return c.make_mpf(furthest._mpf_), c.make_mpf(slope.mid()._mpf_)
    except UncertifiedError:
        moments = multiprecision_moments(deq.activation, c.sqrt(q), digits)
    sigma_a2 = arithmetic.number(deq.sigma_a2)
    T = fixed_point_map(moments.V.value, sigma_a2, arithmetic.number(deq.sigma_b2), arithmetic.number(tau0) ** 2)
    return q - T, 1 - fixed_point_slope(moments.h.value, sigma_a2)


def polish(deq: DEQ, tau0: Any, start: float, digits: int) -> Any:
    """Newton's iteration in mpmath from a float64 solution, doubling the digits each step.

    Returns:
        q with relative error about 10^-digits, as a number of ``mp_arithmetic(digits + 10)``.

    Raises:
        ConvergenceError: the last step did not settle (a nearly double root).
    """
    q: Any = start
    work = 15
    step: Any = math.inf
    for _ in range(60):
        work = min(2 * work, digits + 10)
        arithmetic = mp_arithmetic(work)
        value, slope = defect(deq, tau0, q, work + 5)
        q = arithmetic.number(q) - value / slope
        step = abs(value / slope) / q
        if work == digits + 10 and step <= arithmetic.context.mpf(10) ** (-(digits + 2)):
            return q
    raise ConvergenceError(
        f"Newton's iteration for tau of {deq.activation.name} stalled at relative step {float(step):.2g}; "
        "the fixed point is nearly double: change sigma_a2 slightly, or ask for fewer digits"
    )
