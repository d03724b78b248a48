"""Moments against closed forms and against themselves at more digits; error bounds must hold."""

from __future__ import annotations

import math

import mpmath
import pytest

from equikernel.errors import AccuracyError, InputError
from equikernel.numerics.moments import gaussian_moments
from equikernel.theory.activation import activation, registry_names

TAUS = ("0.001", "0.05", "0.7", "1", "3.3", "40", "1000")


def relu(t):
    c = 1 / mpmath.sqrt(2 * mpmath.pi)
    half = mpmath.mpf(1) / 2
    return {"mean": t * c, "V": t**2 * (half - c**2), "d1": half, "d2": c / t, "h": half - c**2, "v": half}


def erf(t):
    # V is the arcsine law; d1 and v are Gaussian integrals
    V = 2 / mpmath.pi * mpmath.asin(2 * t**2 / (1 + 2 * t**2))
    d1 = 2 / mpmath.sqrt(mpmath.pi * (1 + 2 * t**2))
    v = 4 / (mpmath.pi * mpmath.sqrt(1 + 4 * t**2))
    h = mpmath.diff(lambda q: 2 / mpmath.pi * mpmath.asin(2 * q / (1 + 2 * q)), t**2)
    return {"mean": 0, "V": V, "d1": d1, "d2": 0, "h": h, "v": v}


def hard_tanh(t):
    inside = mpmath.erf(1 / (t * mpmath.sqrt(2)))
    density = mpmath.exp(-1 / (2 * t**2)) / mpmath.sqrt(2 * mpmath.pi)
    h = inside - 2 * density / t
    return {"mean": 0, "V": t**2 * (inside - 2 * density / t) + 1 - inside, "d1": inside, "d2": 0, "h": h, "v": inside}


def sin(t):
    e = mpmath.exp(-(t**2))
    return {"mean": 0, "V": (1 - e**2) / 2, "d1": mpmath.sqrt(e), "d2": 0, "h": e**2, "v": (1 + e**2) / 2}


def exp(t):
    m = mpmath.exp(t**2 / 2)
    return {"mean": m, "V": m**4 - m**2, "d1": m, "d2": m, "h": 2 * m**4 - m**2, "v": m**4}


def cubic(t):
    q = t**2
    return {"mean": q, "V": 15 * q**3 + 2 * q**2, "d1": 3 * q, "d2": 2, "h": 45 * q**2 + 4 * q, "v": 27 * q**2 + 4 * q}


def sign(t):
    d1 = mpmath.sqrt(2 / mpmath.pi) / t
    return {"mean": 0, "V": 1, "d1": d1, "d2": 0, "h": 0}


CLOSED = {
    "relu": relu,
    "erf": erf,
    "hard_tanh": hard_tanh,
    "sin": sin,
    "exp(x)": exp,
    "x**3 + x**2": cubic,
    "sign": sign,
}


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("spec", CLOSED)
def test_float64_moments_equal_closed_forms(spec, tau):
    with mpmath.workdps(60):
        truth = CLOSED[spec](mpmath.mpf(float(tau)))
    # exp overflows float64 above, and E sin'(1000 xi) = exp(-500000) has no float64 value
    if spec == "exp(x)" and float(tau) > 15:
        with pytest.raises(AccuracyError, match="overflow"):
            gaussian_moments(activation(spec), float(tau))
        return
    moments = gaussian_moments(activation(spec), float(tau))
    for name, moment in moments.items():
        error = abs(mpmath.mpf(moment.value) - truth[name])
        assert error <= moment.error + 1e-15 * abs(truth[name]), name
        if name != "mean" and abs(truth[name]) > 1e-30:
            assert error <= 1e-13 * abs(truth[name]), name


@pytest.mark.parametrize("digits", [20, 50, 120])
@pytest.mark.parametrize("spec", CLOSED)
def test_many_digits_equal_closed_forms(spec, digits):
    moments = gaussian_moments(activation(spec), mpmath.mpf("0.75"), digits)
    with mpmath.workdps(digits + 30):
        truth = CLOSED[spec](mpmath.mpf("0.75"))
        for name, moment in moments.items():
            allowed = mpmath.mpf(10) ** -digits * (abs(truth[name]) or mpmath.mpf(1e-10))
            assert abs(moment.value - truth[name]) <= allowed, name


@pytest.mark.parametrize("spec", registry_names())
def test_float64_within_its_error_bounds_over_the_registry(spec):
    act = activation(spec)
    for tau in (0.03, 0.9, 7.0):
        coarse, fine = gaussian_moments(act, tau), gaussian_moments(act, tau, 25)
        for (name, moment), (_, exact) in zip(coarse.items(), fine.items(), strict=True):
            error = abs(mpmath.mpf(moment.value) - exact.value)
            assert error <= moment.error + 1e-16 * abs(exact.value), (name, tau)
            if name != "mean":
                assert error <= 1e-13 * abs(exact.value) or abs(exact.value) < 1e-30, (name, tau)


@pytest.mark.parametrize("spec", ["gelu", "mish", "elu", "softsign", "abs(x)**1.5", "max(tanh(x), x/2)"])
def test_each_precision_agrees_with_the_next(spec):
    act = activation(spec)
    low, high = gaussian_moments(act, "0.8", 30), gaussian_moments(act, "0.8", 50)
    for (_, a), (_, b) in zip(low.items(), high.items(), strict=True):
        assert abs(a.value - b.value) <= mpmath.mpf(10) ** -30 * abs(b.value)


def test_provenance_tells_how_a_number_was_made():
    moments = gaussian_moments(activation("tanh"), 1.0)
    assert moments.d2.value == 0
    assert moments.d2.error == 0
    assert moments.d2.provenance == "symmetry (odd)"
    assert moments.V.provenance == "quadrature (float64)"
    # at tau = 5 the moments of sin nearly cancel: escalated
    tiny = gaussian_moments(activation("sin"), 5.0)
    assert tiny.h.value == pytest.approx(math.exp(-50.0), rel=1e-13)
    assert "ball enclosure" in tiny.h.provenance


def test_scaling_law():
    # phi(c x) at tau is phi at c tau
    scaled, plain = gaussian_moments(activation("gelu(3*x)"), 0.5), gaussian_moments(activation("gelu"), 1.5)
    assert scaled.V.value == pytest.approx(plain.V.value, rel=1e-14)
    assert scaled.d1.value == pytest.approx(3 * plain.d1.value, rel=1e-14)
    assert scaled.d2.value == pytest.approx(9 * plain.d2.value, rel=1e-13)
    assert scaled.h.value == pytest.approx(9 * plain.h.value, rel=1e-13)


@pytest.mark.parametrize("spec", ["sign", "heaviside", "sqrt(abs(x))"])
def test_infinite_v_is_an_error_not_a_number(spec):
    moments = gaussian_moments(activation(spec), 1.0)
    assert moments.v_or_none is None
    assert "v" not in dict(moments.items())
    with pytest.raises(InputError, match="infinite"):
        _ = moments.v


@pytest.mark.parametrize("tau", [0.0, -1.0, math.nan, math.inf])
def test_bad_scales(tau):
    with pytest.raises(InputError, match="positive finite"):
        gaussian_moments(activation("relu"), tau)


def test_kinks_far_from_zero_and_narrow_features():
    # E max(x - 5, 0) at tau = 1 is a tail integral
    with mpmath.workdps(40):
        truth = mpmath.npdf(5) - 5 * mpmath.erfc(5 / mpmath.sqrt(2)) / 2
    assert gaussian_moments(activation("relu(x - 5)"), 1.0).mean.value == pytest.approx(float(truth), rel=1e-12)
    steep = gaussian_moments(activation("tanh(200*x)"), 1.0)
    with mpmath.workdps(20):
        edges = [-12, -1, -0.1, -0.01, 0, 0.01, 0.1, 1, 12]
        V = mpmath.quad(lambda x: mpmath.tanh(200 * x) ** 2 * mpmath.npdf(x), edges)
    assert steep.V.value == pytest.approx(float(V), rel=1e-13)


def test_what_cannot_be_enclosed_is_integrated():
    """A denominator that balls do not tell from zero far out: digits all the same, and the provenance says so."""
    act = activation("x/(0.9 + sin(x)*cos(x))")
    moments = gaussian_moments(act, 1, digits=20)
    assert all("quadrature" in m.provenance for _, m in moments.items())


def test_a_ball_is_an_exact_number_of_its_own_digits():
    """The value of an enclosed moment and its error cover 20 more digits of the same moment."""
    for spec in ("gelu", "hard_swish", "max(exp(x)-2-x,0)"):
        few, many = (gaussian_moments(activation(spec), "0.7", digits=d) for d in (30, 50))
        for (name, a), (_, b) in zip(few.items(), many.items(), strict=True):
            assert abs(a.value - b.value) <= a.error + b.error, (spec, name)
            assert a.relative_error < 1e-29, (spec, name)


def test_a_cancelled_tail_is_not_repaired_at_any_price():
    """x - gelu(x) at tau = 1000: thousands of values that vanish beside the rest once took minutes to repair."""
    act = activation("x - max(gelu(x), -1)")
    floats, proved = gaussian_moments(act, 1000.0), gaussian_moments(act, 1000, digits=20)
    for (name, a), (_, b) in zip(floats.items(), proved.items(), strict=True):
        assert abs(a.value - float(b.value)) <= a.error + float(b.error), name
        assert a.relative_error < 1e-13, name
