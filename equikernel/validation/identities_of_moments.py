"""Identities of the Gaussian moments: Stein, scaling, the slope of V, error bounds, the fixed point, one layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import mpmath
import numpy as np
import sympy as sp

from equikernel.errors import AccuracyError
from equikernel.numerics.explicit import explicit_coefficients
from equikernel.numerics.moments import Moment, gaussian_moments
from equikernel.numerics.solve import solve
from equikernel.theory.models import ExplicitNetwork
from equikernel.theory.multiprecision import mp_arithmetic
from equikernel.validation.identities import EPS, Identity, Measured, Point, Subject, worst

__all__ = ["MOMENT_IDENTITIES"]

_DIGITS = 30
_STEP = 1e-7  # relative step in q: the quotient of 30 digits loses 7 of them, and 14 to truncation


def _taus(name: str, share: float) -> Callable[[Subject], list[Point]]:
    return lambda subject: [{"tau": tau} for tau in subject.scales(name, subject.few(share))]


def _jump_terms(subject: Subject, tau: float, weight: Callable[[float], float], square_around: float | None) -> float:
    """Sum over jumps b of J(b) weight(b) p_tau(b), J the jump of phi, or of (phi - c)^2/2 for ``square_around`` c."""
    arithmetic = mp_arithmetic(_DIGITS)
    total = 0.0
    for k, at in enumerate(subject.activation.breakpoints):
        if at not in subject.activation.jumps:
            continue
        point = at.value(arithmetic)
        left, right = (float(subject.activation.program.programs[i].run(arithmetic, point)) for i in (k, k + 1))
        jump = right - left
        if square_around is not None:
            jump *= 0.5 * (right + left) - square_around
        b = float(point)
        total += jump * weight(b) * math.exp(-0.5 * (b / tau) ** 2) / (tau * math.sqrt(2.0 * math.pi))
    return total


def _against(moment: Moment, direct: Any, extra: float, what: str) -> Measured:
    """A moment against an independent ``Estimate`` plus exact jump terms."""
    value = direct.value + extra
    tolerance = moment.error + direct.error + 4.0 * EPS * (abs(value) + abs(extra))
    got = float(moment.value)
    return Measured(abs(got - value), tolerance, f"{what} {got!r}, by direct integration {value!r}")


def _direct(subject: Subject, point: Point) -> Measured:
    tau = point["tau"]
    m = subject.moments(tau)
    phi = subject.activation.function("numpy")
    centre = float(m.mean.value)
    found = [
        _against(m.mean, subject.expectation(phi, tau, 1), 0.0, "mean"),
        _against(m.V, subject.expectation(lambda y: (phi(y) - centre) ** 2, tau), 0.0, "V"),
    ]
    if m.v_or_none is not None:
        slope = subject.activation.derivative("numpy")
        found.append(_against(m.v, subject.expectation(lambda y: slope(y) ** 2, tau), 0.0, "v"))
    # the centre that was subtracted is itself known to its error only, and rounded in every value
    shift = m.mean.error + EPS * abs(centre)
    return worst(Measured(f.error, f.tolerance + shift * (2.0 * math.sqrt(m.V.value) + shift), f.what) for f in found)


def _stein_d1(subject: Subject, point: Point) -> Measured:
    tau = point["tau"]
    slope = subject.activation.derivative("numpy")
    extra = _jump_terms(subject, tau, lambda b: 1.0, None)
    d1 = subject.moments(tau).d1
    return _against(d1, subject.expectation(slope, tau, 1), extra, "d1 = E[xi phi]/tau")


def _stein_d2(subject: Subject, point: Point) -> Measured:
    tau = point["tau"]
    slope = subject.activation.derivative("numpy")
    extra = _jump_terms(subject, tau, lambda b: b / tau**2, None)
    d2 = subject.moments(tau).d2
    return _against(
        d2, subject.expectation(lambda y: y * slope(y) / tau**2, tau, 1), extra, "d2 = E[(xi^2 - 1) phi]/tau^2"
    )


def _stein_h(subject: Subject, point: Point) -> Measured:
    tau = point["tau"]
    phi, slope = subject.activation.function("numpy"), subject.activation.derivative("numpy")
    m = subject.moments(tau)
    centre = float(m.mean.value)
    extra = _jump_terms(subject, tau, lambda b: b / tau**2, centre)
    direct = subject.expectation(lambda y: y * (phi(y) - centre) * slope(y) / tau**2, tau)
    found = _against(m.h, direct, extra, "h = E[(xi^2 - 1) phi_c^2]/(2 tau^2)")
    # dh/dc = -d2, and the rounding of phi - c meets y phi'/tau^2 of about d2
    size = subject.expectation(lambda y: np.abs(y * slope(y)) / tau**2, tau, 1).value
    return Measured(found.error, found.tolerance + (m.mean.error + EPS * abs(centre)) * size, found.what)


def _slope_of_variance(subject: Subject, point: Point) -> Measured:
    arithmetic = mp_arithmetic(_DIGITS)
    c = arithmetic.context
    q = c.mpf(point["tau"]) ** 2

    def variance(relative: float) -> Any:
        return gaussian_moments(subject.activation, c.sqrt(q * (1 + c.mpf(relative))), _DIGITS).V

    outer_low, low, high, outer_high = (variance(k * _STEP) for k in (-2.0, -1.0, 1.0, 2.0))
    quotient = (high.value - low.value) / (2 * _STEP * q)
    wide = (outer_high.value - outer_low.value) / (4 * _STEP * q)
    rounding = (high.error + low.error) / (2 * _STEP * q)
    h = subject.moments(point["tau"]).h
    tolerance = float(abs(quotient - wide) + rounding) + h.error + 4.0 * EPS * float(abs(quotient))
    what = f"h {float(h.value)!r}, difference quotient of V {mpmath.nstr(quotient, 17)}"
    return Measured(float(abs(h.value - quotient)), tolerance, what)


def _scaling_points(subject: Subject) -> list[Point]:
    factors = (2.0, 0.5, -1.0)
    return [{"tau": tau, "c": factors[k % 3]} for k, tau in enumerate(subject.scales("scaling", subject.few(0.2))[:4])]


def _scaling(subject: Subject, point: Point) -> Measured:
    tau, c = point["tau"], point["c"]
    scaled = gaussian_moments(subject.activation.scaled(sp.Rational(str(c))), tau)
    plain = subject.moments(abs(c) * tau)
    powers = {"mean": 1.0, "V": 1.0, "d1": c, "d2": c * c, "h": c * c, "v": c * c}
    expected = dict(plain.items())
    found = []
    for name, moment in scaled.items():
        value = powers[name] * float(expected[name].value)
        tolerance = moment.error + abs(powers[name]) * expected[name].error + 4.0 * EPS * abs(value)
        got = float(moment.value)
        found.append(Measured(abs(got - value), tolerance, f"{name} {got!r} of phi(c x), from phi {value!r}"))
    return worst(found)


def _digits(subject: Subject, point: Point) -> Measured:
    short = dict(subject.moments(point["tau"]).items())
    found = []
    for name, reference in gaussian_moments(subject.activation, point["tau"], _DIGITS).items():
        got = short[name]
        gap = float(abs(mpmath.mpf(got.value) - mpmath.mpf(reference.value)))
        what = f"{name} {float(got.value)!r} +- {got.error:.2g}, in 30 digits {mpmath.nstr(reference.value, 20)}"
        # the claimed bound is for the number before it is rounded to float64
        tolerance = got.error + float(reference.error) + EPS / 2.0 * abs(float(reference.value))
        found.append(Measured(gap, tolerance, what))
    return worst(found)


def _fixed_point(subject: Subject, point: Point) -> Measured:
    solution = solve(subject.deq, point["tau0"], trained="a")
    q, tau = float(solution.q), float(solution.tau)
    m = subject.moments(tau)
    phi, centre = subject.activation.function("numpy"), float(m.mean.value)
    V = subject.expectation(lambda y: (phi(y) - centre) ** 2, tau)
    sigma_a2, bias = float(subject.deq.sigma_a2), float(subject.deq.sigma_b2) * point["tau0"] ** 2
    shift = m.mean.error + EPS * abs(centre)
    noise = sigma_a2 * (V.error + 2.0 * shift * math.sqrt(m.V.value))
    if solution.residual is None:
        raise AccuracyError("a solved fixed point comes with its residual")
    # q is good to a unit of its last place, and T inherits that times its slope
    tolerance = noise + 4.0 * EPS * q * (1.0 + abs(sigma_a2 * m.h.value))
    what = f"q {q!r}, residual {solution.residual:.2g} by its own account"
    return Measured(abs(q - (sigma_a2 * V.value + bias)), tolerance, what)


def _one_layer(subject: Subject, point: Point) -> Measured:
    tau0 = point["tau0"]
    ntk = subject.activation.has_square_integrable_derivative
    got = explicit_coefficients(ExplicitNetwork.of(subject.activation, tau0=tau0), ntk=ntk)
    # the recursion carries tau0^2
    m = subject.moments((tau0**2) ** 0.5)
    expected, above, below = (
        _coefficients({name: float(x.value) + side * x.error for name, x in m.items()}, tau0) for side in (0, 1, -1)
    )
    found = []
    for name, value in expected.items():
        number = float(getattr(got, name))
        spread = abs(above[name] - value) + abs(below[name] - value)
        what = f"{name} {number!r}, from the moments {value!r}"
        found.append(Measured(abs(number - value), 8.0 * EPS * abs(value) + spread, what))
    return worst(found)


def _coefficients(m: Mapping[str, float], tau0: float) -> dict[str, float]:
    """One step of the recursion from alpha = (1, 0, 0, 1), beta = (1, 0, 0), kappa^2 = tau0^2, written out."""
    d1_2, d2_2 = m["d1"] ** 2, m["d2"] ** 2
    values = {"tau2": m["V"], "alpha1": d1_2, "alpha2": d2_2 / 4.0, "alpha3": d2_2 / 2.0, "alpha4": m["h"]}
    if "v" not in m:
        return values
    return values | {
        "beta1": 2.0 * d1_2,
        "beta2": d2_2 / 4.0,
        "beta3": 1.5 * d2_2,
        "kappa2": m["V"] + m["v"] * tau0**2,
    }


def _data_scales(subject: Subject) -> list[Point]:
    return [{"tau0": subject.tau0 * factor} for factor in (1.0, 0.5, 2.0)]


MOMENT_IDENTITIES = (
    Identity(
        "moments", "mean, V and v equal direct integrals of phi, phi_c^2 and phi'^2", _taus("moments", 0.25), _direct
    ),
    Identity("Stein, d1", "E[xi phi(tau xi)]/tau = E[phi'] + sum of jumps", _taus("d1", 0.25), _stein_d1),
    Identity("Stein, d2", "E[(xi^2 - 1) phi(tau xi)]/tau^2 = E[xi phi']/tau + jumps", _taus("d2", 0.25), _stein_d2),
    Identity("Stein, h", "E[(xi^2 - 1) phi_c^2]/(2 tau^2) = E[xi phi_c phi']/tau + jumps", _taus("h", 0.25), _stein_h),
    Identity(
        "slope of V",
        "dV/dq = h by differences of V in 30 digits",
        lambda subject: [{"tau": subject.scale}],
        _slope_of_variance,
    ),
    Identity(
        "scaling", "moments of phi(c x) at tau are those of phi at c tau, times 1, c or c^2", _scaling_points, _scaling
    ),
    Identity(
        "error bounds", "float64 and 30 digits differ by no more than the claimed errors", _taus("digits", 0.1), _digits
    ),
    Identity("fixed point", "q = sigma_a2 V(q) + sigma_b2 tau0^2, V by direct integration", _data_scales, _fixed_point),
    Identity(
        "one layer", "the explicit recursion of one layer gives d1^2, d2^2/4, d2^2/2, h, ...", _data_scales, _one_layer
    ),
)
