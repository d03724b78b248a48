"""The Gaussian moments V, d1, d2, h, v of an activation at scale tau, with error bounds and provenance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np

from equikernel.errors import AccuracyError, InputError
from equikernel.numerics.quadrature import FIRST_LEVEL, Nodes, Rule, not_converged, rule
from equikernel.theory import moments as formulas
from equikernel.theory.activation import Activation
from equikernel.theory.multiprecision import mp_arithmetic

__all__ = ["Moment", "Moments", "gaussian_moments", "multiprecision_moments", "quick_moments", "require_derivative"]

FLOAT64_DIGITS = 15
TARGET_FLOAT64 = 1e-13
_TERM_ULPS = 6.0
_EDGE = 64.0
_ESCALATIONS = (32, 64)
_DEAREST_LEVEL = 9  # of the float64 rule: beyond, many digits would take minutes, and absolute accuracy must do
_NEGLIGIBLE = 1e-50  # a moment known to this absolute accuracy that is still all error is reported as it is


@dataclass(frozen=True)
class Moment:
    """A number, a bound on its absolute error, and where it comes from."""

    value: Any
    error: float
    provenance: str

    @property
    def relative_error(self) -> float:
        """The error bound divided by |value|; 0 for an exact zero, infinite for a zero that is not known to be one."""
        if self.error == 0.0:
            return 0.0
        size = abs(float(self.value))
        return self.error / size if size else math.inf


@dataclass(frozen=True)
class Moments:
    """Moments of phi(tau xi), xi ~ N(0, 1), tau a standard deviation; definitions in ``theory.moments``.

    Attributes:
        mean: E[phi(tau xi)].
        V: Var phi(tau xi).
        d1: E[phi'(tau xi)].
        d2: E[phi''(tau xi)].
        h: E[(phi_c^2)''(tau xi)]/2.
        v_or_none: E[phi'(tau xi)^2], None where it is infinite; use ``v``.
    """

    activation: Activation
    tau: Any
    mean: Moment
    V: Moment
    d1: Moment
    d2: Moment
    h: Moment
    v_or_none: Moment | None

    @property
    def v(self) -> Moment:
        """E[phi'(tau xi)^2].

        Raises:
            InputError: phi jumps or its derivative is not square integrable, so that v is infinite.
        """
        require_derivative(self.activation)
        if self.v_or_none is None:
            raise AssertionError("v is computed whenever phi' is square integrable")
        return self.v_or_none

    def items(self) -> list[tuple[str, Moment]]:
        """(name, moment) pairs; v is left out where it is infinite."""
        pairs = [("mean", self.mean), ("V", self.V), ("d1", self.d1), ("d2", self.d2), ("h", self.h)]
        return pairs if self.v_or_none is None else [*pairs, ("v", self.v_or_none)]


def require_derivative(activation: Activation) -> None:
    """Refuse an activation whose E[phi'^2] is infinite.

    Raises:
        InputError: names the offending point.
    """
    if activation.has_square_integrable_derivative:
        return
    where = f"jumps at x = {activation.jumps[0].to_sympy()}" if activation.jumps else "is too steep at a breakpoint"
    raise InputError(
        f"{activation.name} {where}, so E[phi'^2] is infinite and it has no neural tangent kernel; "
        'ask for the conjugate kernel alone (trained="a"), or smooth the activation'
    )


@dataclass(frozen=True)
class _Raw:
    """The six raw moments of phi - shift and bounds on their errors, in the order of ``theory.moments``."""

    shift: Any
    shift_error: float
    values: list[Any]
    errors: list[float]


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


def _raw_moments(r: Rule, tau: Any, relative: float) -> _Raw:
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
                return _Raw(shift, 2 * r.unit * abs(float(shift)), values, errors)
        previous = values
    raise not_converged(r.activation, tau, r.digits)


def _assemble(activation: Activation, tau: Any, raw: _Raw, provenance: str) -> Moments:
    """The moments and their error bounds from the raw ones, exact zeros from parity."""
    m0, s0, m1, m2, s2 = raw.values[:5]
    e0, es0, e1, e2, es2 = raw.errors[:5]
    scale = float(tau)

    def moment(value: Any, error: float, symmetry: str = "", holds: bool = False) -> Moment:
        return Moment(tau * 0, 0.0, f"symmetry ({symmetry})") if holds else Moment(value, error, provenance)

    odd, even = activation.parity == "odd", activation.parity == "even"
    odd_name = "odd" if odd else "odd up to a constant"

    h_error = (es2 + 2 * abs(float(m0)) * e2 + 2 * abs(float(m2)) * e0) / (2 * scale**2)
    return Moments(
        activation=activation,
        tau=tau,
        mean=moment(raw.shift + m0, e0 + raw.shift_error, "odd", odd),
        V=moment(formulas.variance(m0, s0), es0 + 2 * abs(float(m0)) * e0),
        d1=moment(formulas.mean_slope(m1, tau), e1 / scale, "even", even),
        d2=moment(formulas.curvature(m2, tau), e2 / scale**2, odd_name, activation.odd_up_to_constant),
        h=moment(formulas.variance_slope(m0, m2, s2, tau), h_error),
        v_or_none=moment(raw.values[5], raw.errors[5]) if len(raw.values) > 5 else None,
    )


def _accurate_enough(moments: Moments, relative: float) -> bool:
    return all(m.relative_error <= relative or m.error < _NEGLIGIBLE for name, m in moments.items() if name != "mean")


def _worth_escalating(moments: Moments) -> bool:
    """Whether a moment misses its target and, after one escalation, still has a digit to show."""
    missed = [m for name, m in moments.items() if name != "mean" and m.relative_error > TARGET_FLOAT64]
    return any("float64" in m.provenance or m.relative_error < 0.1 for m in missed)


def multiprecision_moments(activation: Activation, tau: Any, digits: int) -> Moments:
    """Moments by one quadrature at ``digits`` working digits: absolute accuracy about 10^-(digits - 5)."""
    arithmetic = mp_arithmetic(digits)
    relative = 10.0 ** -(digits - 5) if digits < 300 else mpmath.mpf(10) ** -(digits - 5)
    raw = _raw_moments(rule(activation, digits), arithmetic.number(tau), relative)
    return _assemble(activation, arithmetic.number(tau), raw, f"quadrature ({digits} working digits)")


def gaussian_moments(activation: Activation, tau: Any, digits: int = FLOAT64_DIGITS) -> Moments:
    """Moments of phi(tau xi), xi ~ N(0, 1) (theory, section 2).

    Up to 15 digits in float64, with relative error at most 1e-13 in V, d1, d2, h and v: where cancellation would cost
    more (small tau, moments that nearly vanish), the same quadrature runs again in mpmath. Above, in mpmath with guard
    digits. Moments that vanish by symmetry are exactly zero. A moment that is zero for no reason the program knows
    keeps its absolute error bound instead of a relative one.

    Args:
        activation: phi.
        tau: a standard deviation, positive; float, Fraction, string or mpmath number.
        digits: significant digits of the result.

    Raises:
        InputError: tau is not positive and finite.
        AccuracyError: the quadrature did not converge, or the moments overflow.
    """
    if not (math.isfinite(float(tau)) and float(tau) > 0):
        raise InputError(f"tau must be a positive finite standard deviation; got {tau!r}")
    if digits <= FLOAT64_DIGITS:
        moments = _float64_moments(activation, float(tau), 4e-15)
        for work in _ESCALATIONS:
            if not _worth_escalating(moments) or rule(activation).converged_level(float(tau)) > _DEAREST_LEVEL:
                break
            moments = _rounded(multiprecision_moments(activation, float(tau), work))
        return moments
    for extra in (15, 15 + digits):
        moments = multiprecision_moments(activation, tau, digits + extra)
        if _accurate_enough(moments, float(mpmath.mpf(10) ** -(digits + 1)) or 1e-300):
            break
    return moments


def quick_moments(activation: Activation, tau: float) -> Moments:
    """Float64 moments with absolute accuracy only, about 1e-12 of the absolute integrals: for scans."""
    return _float64_moments(activation, tau, 1e-12)


def _float64_moments(activation: Activation, tau: float, relative: float) -> Moments:
    raw = _raw_moments(rule(activation), tau, relative)
    plain = _Raw(float(raw.shift), raw.shift_error, [float(v) for v in raw.values], raw.errors)
    return _assemble(activation, tau, plain, "quadrature (float64)")


def _rounded(moments: Moments) -> Moments:
    """Multiprecision moments as floats."""

    def rounded(m: Moment) -> Moment:
        return Moment(float(m.value), m.error + abs(float(m.value)) * 2.0**-53, m.provenance)

    return Moments(
        activation=moments.activation,
        tau=float(moments.tau),
        mean=rounded(moments.mean),
        V=rounded(moments.V),
        d1=rounded(moments.d1),
        d2=rounded(moments.d2),
        h=rounded(moments.h),
        v_or_none=None if moments.v_or_none is None else rounded(moments.v_or_none),
    )
