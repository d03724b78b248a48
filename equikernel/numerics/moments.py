"""The Gaussian moments V, d1, d2, h, v of an activation at scale tau: the most trustworthy way that is fast enough."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import mpmath
import sympy as sp

from equikernel.errors import AccuracyError, InputError, NoClosedFormError, UncertifiedError
from equikernel.numerics.closed_forms import verified_closed_forms
from equikernel.numerics.enclosed_moments import enclosed_moments, quick_verdict
from equikernel.numerics.hermite_scales import series_moments
from equikernel.numerics.hermite_series import HermiteSeries
from equikernel.numerics.moment_values import FLOAT64_DIGITS, Moment, Moments, require_derivative
from equikernel.numerics.quadrature import rule
from equikernel.numerics.quadrature_moments import float64_moments, multiprecision_moments, quick_moments
from equikernel.theory.activation import Activation

__all__ = [
    "Moment",
    "Moments",
    "gaussian_moments",
    "multiprecision_moments",
    "quick_moments",
    "require_derivative",
    "without_constant",
]

TARGET_FLOAT64 = 1e-13
_LARGE_MEAN = 1e4  # mean^2/variance above which a constant is taken out of the activation
_TINIEST = 5e-324  # what a number below the floats is rounded by
_ENCLOSED_FIRST = 100  # digits
_ESCALATED = 17  # digits enclosed where float64 misses its target
_ESCALATIONS = (32, 64)
_DEAREST_LEVEL = 9  # of the float64 rule: beyond, many digits would take minutes, and absolute accuracy must do
_NEGLIGIBLE = 1e-50  # a moment known to this absolute accuracy that is still all error is reported as it is


def _accurate_enough(moments: Moments, relative: float) -> bool:
    return all(m.relative_error <= relative or m.error < _NEGLIGIBLE for name, m in moments.items() if name != "mean")


def _resolved(moments: Moments) -> bool:
    """Whether every moment but the mean has the relative accuracy promised of float64."""
    return all(m.relative_error <= TARGET_FLOAT64 for name, m in moments.items() if name != "mean")


def without_constant(activation: Activation, tau: float) -> Activation:
    """Phi less its mean at scale tau where that would drown it in float64, else phi itself.

    Kernels do not depend on constants; of ``3 + 1e-6*x`` float64 values would keep ten digits.
    """
    if not activation.has_expression:
        return activation
    m = gaussian_moments(activation, tau)
    centre = float(m.mean.value)
    if centre * centre <= _LARGE_MEAN * float(m.V.value):
        return activation
    return Activation(activation.expr - sp.Rational(repr(centre)), activation.name)


def gaussian_moments(activation: Activation, tau: Any, digits: int = FLOAT64_DIGITS) -> Moments:
    """Moments of phi(tau xi), xi ~ N(0, 1) (theory, section 2).

    Up to 15 digits by quadrature in float64, with relative error at most 1e-13 in V, d1, d2, h and v, and V confirmed
    by a rough enclosure once for every octave of tau (the provenance says when it could not be); where
    cancellation would cost more (small tau, moments that nearly vanish), and above 15 digits, by ball enclosures or
    closed forms; where there are neither, by the same quadrature in mpmath. The provenance of each moment says which.
    A plain Python function has its float64 quadrature and error bounds, and nothing else; a Hermite series the closed
    forms in its coefficients.
    Moments that vanish by symmetry, or whose closed form does, are exactly zero. A moment that is zero for no reason
    the program knows keeps its absolute error bound instead of a relative one.

    Args:
        activation: phi.
        tau: a standard deviation, positive; float, Fraction, string or mpmath number.
        digits: significant digits of the result.

    Raises:
        InputError: tau is not positive and finite; more than 15 digits of what has no expression.
        AccuracyError: the quadrature did not converge, or the moments overflow.
    """
    if not (math.isfinite(float(tau)) and float(tau) > 0):
        raise InputError(f"tau must be a positive finite standard deviation; got {tau!r}")
    if digits > FLOAT64_DIGITS:
        return _many_digit_moments(activation, tau, digits)
    if isinstance(activation, HermiteSeries):
        return series_moments(activation, float(tau))
    moments = float64_moments(activation, float(tau), 4e-15)
    if not activation.has_expression:
        return _annotated(moments, "of a Python function: not confirmed by an enclosure")
    verdict = _verdict(activation, math.ceil(math.log2(float(tau))), moments)
    known = verdict in ("confirmed", "disproved")
    if _resolved(moments) and verdict != "disproved":
        return moments if known else _annotated(moments, verdict)
    try:
        return _rounded(_proved_moments(activation, float(tau), _ESCALATED))
    except UncertifiedError:
        improved = _by_more_quadrature(moments)
        return improved if known else _annotated(improved, verdict)


def _proved_moments(activation: Activation, tau: Any, digits: int) -> Moments:
    """By ball enclosures up to 100 digits, by closed forms above, where they are faster; each stands in for the other.

    Closed forms also tell which moments are exactly zero, where balls only see that they are small.

    Raises:
        UncertifiedError: neither is to be had.
    """
    methods = (enclosed_moments, _closed_moments)
    found: Moments | None = None
    for method in methods if digits <= _ENCLOSED_FIRST else reversed(methods):
        try:
            moments = method(activation, tau, digits)
        except (NoClosedFormError, UncertifiedError, AccuracyError):
            continue
        if _resolved(moments):
            return moments
        found = found or moments
    if found is None:
        raise UncertifiedError(f"the moments of {activation.name} have no closed form and could not be enclosed")
    return found


def _closed_moments(activation: Activation, tau: Any, digits: int) -> Moments:
    return verified_closed_forms(activation).moments(tau, digits)


_VERDICTS: dict[tuple[Activation, int], str] = {}


def _verdict(activation: Activation, octave: int, moments: Moments) -> str:
    """Whether an enclosure confirms the float64 quadrature, asked once for every octave of tau and its set of nodes."""
    key = (activation, octave)
    if key not in _VERDICTS:
        _VERDICTS[key] = quick_verdict(activation, float(moments.tau), float(moments.V.value))
    return _VERDICTS[key]


def _annotated(moments: Moments, remark: str) -> Moments:
    """The moments with a remark in the provenance of every one that is not exact."""

    def noted(m: Moment) -> Moment:
        return m if m.error == 0 else Moment(m.value, m.error, f"{m.provenance}, {remark}")

    return moments.map(noted)


def _many_digit_moments(activation: Activation, tau: Any, digits: int) -> Moments:
    try:
        return _proved_moments(activation, tau, digits)
    except UncertifiedError:
        for extra in (15, 15 + digits):
            moments = multiprecision_moments(activation, tau, digits + extra)
            if _accurate_enough(moments, float(mpmath.mpf(10) ** -(digits + 1)) or 1e-300):
                break
        return moments


def _by_more_quadrature(moments: Moments) -> Moments:
    """Float64 moments that missed their target, by quadrature in mpmath where that is affordable."""
    activation, tau = moments.activation, float(moments.tau)
    for work in _ESCALATIONS:
        missed = [m for name, m in moments.items() if name != "mean" and m.relative_error > TARGET_FLOAT64]
        # one escalation always; a second one where a digit is left to show
        worth = any("float64" in m.provenance or m.relative_error < 0.1 for m in missed)
        dear = activation.has_algebraic_breakpoints or rule(activation).converged_level(tau) > _DEAREST_LEVEL
        if not worth or dear:
            break
        try:
            moments = _rounded(multiprecision_moments(activation, tau, work))
        except AccuracyError:
            break  # the float64 moments and their error bounds are what there is
    return moments


def _rounded(moments: Moments) -> Moments:
    """Multiprecision moments as floats."""

    def rounded(m: Moment) -> Moment:
        error = float(m.error) + abs(float(m.value)) * 2.0**-53
        return Moment(float(m.value), error if m.error == 0 else max(error, _TINIEST), m.provenance)

    return replace(moments.map(rounded), tau=float(moments.tau))
