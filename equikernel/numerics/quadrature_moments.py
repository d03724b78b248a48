"""The Gaussian moments by double-exponential quadrature, in float64 or mpmath, with error bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np

from equikernel.errors import AccuracyError
from equikernel.numerics.hermite_scales import series_moments
from equikernel.numerics.hermite_series import HermiteSeries
from equikernel.numerics.moment_values import Moments, RawMoments, assemble
from equikernel.numerics.quadrature import FIRST_LEVEL, Nodes, Rule, not_converged, rule
from equikernel.theory.activation import Activation
from equikernel.theory.multiprecision import mp_arithmetic

__all__ = ["float64_moments", "multiprecision_moments", "quick_moments"]

_TERM_ULPS = 6.0
_EDGE = 64.0


@dataclass(frozen=True)
class _Sums:
    """The six trapezoidal sums, the sums of absolute values, and bounds of their rounding."""

    values: list[Any]
    sizes: list[float]
    rounding: list[float]


def _sums(nodes: Nodes, tau: Any, shift: Any, math_: Any, unit: float) -> _Sums:
    xi = nodes.y / tau
    weight = nodes.dy * math_.exp(-(xi * xi) / 2) / (tau * math_.root_two_pi)
    alive = np.asarray(weight > 0, dtype=bool)
    xi, weight = xi[alive], weight[alive]
    phi, slope = nodes.phi[alive], nodes.slope[alive]
    f = phi - shift
    hermite2 = xi * xi - 1
    wf = weight * f
    wff = wf * f
    terms = [wf, wff, xi * wf, hermite2 * wf, hermite2 * wff, weight * slope * slope]
    # the errors of phi and of the node y enter f = phi - shift; xi^2 roundoffs enter the weight, a few each product
    moved = unit * abs(nodes.y[alive] * slope)
    wp = weight * (nodes.phi_error[alive] + moved + unit * (abs(phi) + abs(shift)))
    wfp = 2 * wp * abs(f)
    ws = 2 * weight * abs(slope) * nodes.slope_error[alive]
    exposed = [wp, wfp, xi * wp, hermite2 * wp, hermite2 * wfp, ws]
    factor = unit * (_TERM_ULPS + xi * xi)
    # where the weight underflowed before phi^2 had met its match, the last terms tell what was lost
    ends = [] if alive.all() else [xi.argmin(), xi.argmax()]
    lost = [_EDGE * sum(float(abs(t[end])) for end in ends) for t in terms]
    return _Sums(
        [t.sum() for t in terms],
        [float(abs(t).sum()) for t in terms],
        [float((abs(t) * factor + abs(e)).sum()) + x for t, e, x in zip(terms, exposed, lost, strict=True)],
    )


def _raw_moments(r: Rule, tau: Any, relative: float) -> RawMoments:
    """Halve the step until the sums agree to ``relative`` of their absolute sums, or to rounding.

    The trapezoidal rule converges quadratically here (the error of a level is about the square of the one before), so
    that the difference of the last two levels is a generous bound for the last one. Rounding and the truncated tail of
    the weight are added to it.

    Raises:
        AccuracyError: no agreement at the last level, or overflow.
    """
    shift = tau * 0
    previous: list[Any] | None = None
    count = 6 if r.activation.has_square_integrable_derivative else 5
    tail = r.tail(tau)
    # always from the first level: the bits must not depend on what was computed before
    for level in range(FIRST_LEVEL, r.last_level + 1):
        nodes = r.nodes(tau, level)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            if previous is None:
                shift = _sums(nodes, tau, shift, r.math, r.unit).values[0]
            sums = _sums(nodes, tau, shift, r.math, r.unit)
        if not all(math.isfinite(s) for s in sums.sizes[:count]):
            raise AccuracyError(
                f"the Gaussian moments of {r.activation.name} at tau = {float(tau):.6g} overflow; "
                "reduce tau0 or the sigmas"
            )
        values = sums.values[:count]
        if previous is not None:
            gaps = [float(abs(a - b)) for a, b in zip(values, previous, strict=True)]
            rounding = [error + tail for error in sums.rounding]
            if all(g <= relative * s + 2 * n for g, s, n in zip(gaps, sums.sizes, rounding, strict=False)):
                r.remember_level(tau, level)
                errors = [g + n for g, n in zip(gaps, rounding, strict=False)]
                return RawMoments(shift, 2 * r.unit * abs(float(shift)), values, errors)
        previous = values
    raise not_converged(r.activation, tau, r.digits)


def multiprecision_moments(activation: Activation, tau: Any, digits: int) -> Moments:
    """Moments by one quadrature at ``digits`` working digits: absolute accuracy about 10^-(digits - 5)."""
    arithmetic = mp_arithmetic(digits)
    relative = 10.0 ** -(digits - 5) if digits < 300 else mpmath.mpf(10) ** -(digits - 5)
    raw = _raw_moments(rule(activation, digits), arithmetic.number(tau), relative)
    return assemble(activation, arithmetic.number(tau), raw, f"quadrature ({digits} working digits)")


def quick_moments(activation: Activation, tau: float) -> Moments:
    """Float64 moments with absolute accuracy only, about 1e-12 of the absolute integrals: for scans."""
    if isinstance(activation, HermiteSeries):
        return series_moments(activation, tau)
    return float64_moments(activation, tau, 1e-12)


def float64_moments(activation: Activation, tau: float, relative: float) -> Moments:
    """Moments in float64, levels of the quadrature agreeing to ``relative`` of the absolute integrals."""
    raw = _raw_moments(rule(activation), tau, relative)
    plain = RawMoments(float(raw.shift), raw.shift_error, [float(v) for v in raw.values], raw.errors)
    return assemble(activation, tau, plain, "quadrature (float64)")
