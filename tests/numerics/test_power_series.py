"""The power series of the kernels on a sphere: published series, the four equations, exact kernels, tails, phases."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import sympy as sp
from flint import arb, ctx

from equikernel.errors import InputError, NoFixedPointError, UncertifiedError
from equikernel.numerics.balls.context import exact, precision
from equikernel.numerics.balls.functions import ball_function
from equikernel.numerics.balls.moments import ball_moments
from equikernel.numerics.kernels import implicit_kernels
from equikernel.numerics.power_series import kernel_series
from equikernel.numerics.power_series.hermite import hermite_coefficients, working_bits
from equikernel.numerics.power_series.support import hermite_support, kernel_support
from equikernel.numerics.solve import solve
from equikernel.theory.activation import activation
from equikernel.theory.models import DEQ

SIX = ("relu", "tanh", "silu", "gelu", "elu", "cos")
KERNELS = (("ck", "a"), ("ntk", "aA"), ("ntk", "aAB"))


def contains(ball, value):
    """Whether a ball contains an mpmath number, up to the rounding of the number."""
    with precision(400):
        return ball.overlaps(arb(mpmath.nstr(value, 60)) + arb(0, abs(value) * 1e-48 + mpmath.mpf(10) ** -60))


# -- Hermite coefficients --------------------------------------------------------------------------------------------


def coefficients(name, tau, order, bits=100):
    with precision(working_bits(order, bits)):
        return hermite_coefficients(ball_function(activation(name)), tau(), order, bits)


def test_hermite_coefficients_of_relu_sign_and_sine():
    c = mpmath.MPContext()
    c.dps = 60
    relu = coefficients("relu", lambda: arb(1), 12)
    sign = coefficients("sign", lambda: arb(3), 12)
    sine = coefficients("sin", lambda: arb(1) / 2, 12)
    for k in range(13):
        # (2l - 3)!!-formulas of [Daniely16]; E[sgn(x) He_k] = 2 He_{k-1}(0)/sqrt(2 pi), E[relu He_k] = He_{k-2}(0)/...
        below = [c.hermite(n, 0) / c.sqrt(2) ** n if n >= 0 else c.mpf(0) for n in (k - 1, k - 2)]
        norm = c.sqrt(2 * c.pi * c.factorial(k))
        assert contains(sign[k], 2 * below[0] / norm if k else c.mpf(0))
        half = {0: 1 / c.sqrt(2 * c.pi), 1: c.mpf(1) / 2}
        assert contains(relu[k], half.get(k, below[1] / norm))
        wave = (-1) ** (k // 2) * c.mpf(0.5) ** k * c.exp(-c.mpf(1) / 8) / c.sqrt(c.factorial(k))
        assert contains(sine[k], wave if k % 2 else c.mpf(0))


@pytest.mark.parametrize("name", ["tanh", "max(x - 1/3, x/5)", "sqrt(abs(x))", "hard_tanh", "tanh(50*x)", "exp(2*x)"])
def test_hermite_coefficients_against_the_moment_engines(name):
    with precision(160):
        tau = arb(3).sqrt() / 2
        found = hermite_coefficients(ball_function(activation(name)), tau, 3, 100)
        moments = ball_moments(activation(name), tau, 100)
        assert found[0].overlaps(moments.mean)
        assert found[1].overlaps(moments.d1 * tau)
        assert found[2].overlaps(moments.d2 * tau**2 / arb(2).sqrt())
        assert all(ball.rad() < 2.0**-95 * (1 + abs(ball)) for ball in found)


def test_hermite_coefficients_of_a_wide_tau_contain_those_of_its_points():
    wide = coefficients("gelu", lambda: arb(1, 0.001), 6, 60)
    for shift in (-0.0009, 0.0, 0.0009):
        thin = coefficients("gelu", lambda shift=shift: arb(1 + shift), 6, 60)
        assert all(w.contains(t) for w, t in zip(wide, thin, strict=True))


def test_parseval():
    c = coefficients("gelu", lambda: arb(1), 120, 120)
    with precision(200):
        rest = ball_moments(activation("gelu"), arb(1), 120).V - sum((x * x for x in c[1:]), arb(0))
    assert abs(rest) < 1e-34
    assert not rest < 0


# -- published series ------------------------------------------------------------------------------------------------


def test_without_feedback_the_series_is_that_of_the_dual_activation():
    u = sp.Symbol("u")
    r = sp.Rational(3, 2)
    c = mpmath.MPContext()
    c.dps = 60
    duals = {
        "erf": 2 / sp.pi * sp.asin(2 * r * u / (1 + 2 * r)),
        "sin": sp.exp(-r) * sp.sinh(r * u),
        "exp": sp.exp(r) * (sp.exp(r * u) - 1),
        "abs": 2 * r / sp.pi * (sp.sqrt(1 - u**2) + u * sp.asin(u) - 1),
        "sign": 2 / sp.pi * sp.asin(u),
    }
    for name, dual in duals.items():
        expected = sp.series(dual, u, 0, 10).removeO()
        found = kernel_series(DEQ(name, 0, 1), "1.5", order=9, digits=30)
        for k, (ball, verdict) in enumerate(zip(found.coefficients, found.verdicts, strict=True), start=1):
            value = expected.coeff(u, k) / r**k
            assert contains(ball, c.mpf(str(sp.N(value, 60))))
            assert verdict == ("positive" if value != 0 else "zero (by symmetry)")


@pytest.mark.parametrize("digits", [150, pytest.param(1000, marks=pytest.mark.slow)])
def test_many_digits(digits):
    series = kernel_series(DEQ("relu", "0.2", "0.8"), 1, order=2, digits=digits)
    # alpha1 = (1/4)(4/5)/(1 - 1/20) = 4/19
    with precision(3500):
        assert series.coefficients[0].contains(exact(Fraction(4, 19)))
        assert all(b.rel_accuracy_bits() > digits * math.log2(10) for b in series.coefficients)


def test_erf_solves_its_equation_to_many_digits():
    series = kernel_series(DEQ("erf", "0.9", "0.5"), 1, order=150, digits=30)
    c = mpmath.MPContext()
    c.dps = 60
    q = c.findroot(lambda q: q - c.mpf("0.9") * 2 / c.pi * c.asin(2 * q / (1 + 2 * q)) - c.mpf("0.5"), 1)
    assert contains(series.q, q)
    for s in ("0.5", "-0.7", "0.05"):
        root = c.findroot(
            lambda F, s=s: F - 2 / c.pi * c.asin(2 * (c.mpf("0.9") * F + c.mpf("0.5") * c.mpf(s)) / (1 + 2 * q)),
            c.mpf(s) / 3,
        )
        ball = series.enclosure(s)
        assert contains(ball, root)
        assert ball.rad() < 1e-8  # the tail: b_k r^k falls like k^(-3/2), and slowly beyond


# -- the four equations and the exact kernels ------------------------------------------------------------------------


@pytest.mark.parametrize("name", SIX)
@pytest.mark.parametrize(("kernel", "trained"), KERNELS)
def test_the_four_equations_and_the_exact_kernels(name, kernel, trained):
    deq = DEQ(name, "0.4", "0.6")
    series = kernel_series(deq, "0.7", order=24, digits=20, kernel=kernel, trained=trained)
    tau0 = math.sqrt(0.7)
    solution = solve(deq, tau0, trained=trained)
    names = ("alpha1", "alpha3", "gamma2") if kernel == "ck" else ("beta1", "beta3", "kappa2")
    found = (*(float(v) for v in series.values[:2]), float(series.remainder.diagonal))
    for value, quantity in zip(found, names, strict=True):
        # 15 digits of a solution at a tau0 that is rounded to 16
        assert value == pytest.approx(getattr(solution, quantity), rel=2e-14, abs=1e-16)
    angles = np.linspace(0.0, 2.9, 5)
    X = tau0 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    kernels = implicit_kernels(X, deq, tau0=tau0, trained=trained, ntk=kernel == "ntk")
    K = kernels.ck if kernel == "ck" else kernels.ntk
    for j in range(1, 5):
        ball = series.enclosure(float(X[0] @ X[j]))
        assert abs(float(ball.mid()) - K[0, j]) <= float(ball.rad()) + 1e-13 * K[0, 0]
        assert float(ball.rad()) < 0.03 * K[0, 0]
    assert set(series.verdicts) <= {"positive", "zero (by symmetry)"}
    assert series.remainder.phase == "ordered"


@pytest.mark.parametrize(("kernel", "trained"), KERNELS)
@pytest.mark.parametrize("deq", [DEQ("elu", "0.5", "0.5"), DEQ("sin(5*x)", "0.3", "0.7")], ids=str)
def test_the_tail_contains_what_more_terms_say(deq, kernel, trained):
    short, long = (kernel_series(deq, 1, order, 15, kernel, trained) for order in (30, 60))
    with precision(200):
        for a, b in zip(short.coefficients, long.coefficients, strict=False):
            assert a.overlaps(b)
        more = sum(long.coefficients[30:], arb(0)) + long.remainder.tail
        assert short.remainder.tail.overlaps(more)
        assert short.remainder.tail.upper() >= sum(long.coefficients[30:], arb(0)).lower()
        assert long.remainder.tail.upper() < short.remainder.tail.upper()


def test_more_digits_refine():
    coarse, fine = (kernel_series(DEQ("gelu"), 1, 12, digits) for digits in (15, 60))
    with precision(400):
        assert all(a.overlaps(b) for a, b in zip(coarse.coefficients, fine.coefficients, strict=True))
        assert min(b.rel_accuracy_bits() for b in fine.coefficients) > 60 * 3.32
    assert [mpmath.nstr(v, 14) for v in coarse.values] == [mpmath.nstr(v, 14) for v in fine.values]


def test_tiny_coefficients_have_their_digits():
    series = kernel_series(DEQ("sin"), 1, order=80, digits=15)
    last = series.coefficients[78]
    assert 0 < last < 1e-30
    assert last.rel_accuracy_bits() > 15 * 3.32


# -- phases ----------------------------------------------------------------------------------------------------------


def test_chaotic_phase_the_sum_is_below_the_diagonal():
    deq = DEQ("sin(5*x)", "0.3", "0.7")
    series = kernel_series(deq, 1, order=120)
    assert series.remainder.phase == "chaotic"
    # F = e^-25q sinh(25 (0.3 F + 0.7 s)), and F(r) is the smaller root
    c = mpmath.MPContext()
    c.dps = 40
    q = c.findroot(lambda q: q - c.mpf("0.3") * (1 - c.exp(-50 * q)) / 2 - c.mpf("0.7"), 0.85)
    root = c.findroot(lambda F: F - c.exp(-25 * q) * c.sinh(25 * (c.mpf("0.3") * F + c.mpf("0.7"))), 0.02)
    with precision(100):
        total = sum(series.coefficients, arb(0))
        assert total + series.remainder.tail < series.remainder.diagonal
        assert contains(total + series.remainder.tail, root)
        assert (series.remainder.tail / total).upper() < 1e-4
    tangent = kernel_series(deq, 1, order=60, kernel="ntk")
    assert tangent.remainder.diagonal is None
    assert "no meaning" in tangent.remainder.statement


def test_an_activation_that_jumps_is_chaotic():
    series = kernel_series(DEQ("sign", "0.3", "0.7"), 1, order=200)
    assert (series.remainder.phase, series.remainder.statement[:16]) == ("chaotic", "sigma_a2*v = oo ")

    # F(r) is the smaller root of F = (2/pi) asin((0.3 F + 0.7 s)/q), q = 1
    def equation(F):
        return F - 2 / mpmath.pi * mpmath.asin(0.3 * F + 0.7)

    root = mpmath.findroot(equation, (0, 0.95), solver="anderson")
    with precision(100):
        total = float(sum(series.coefficients, arb(0)).mid())
        assert total <= root <= total + float(series.remainder.tail.upper()) < float(series.remainder.diagonal.mid())
    with pytest.raises(InputError, match="jumps"):
        kernel_series(DEQ("sign", "0.3", "0.7"), kernel="ntk")


def test_the_critical_point_is_not_decided():
    # v = 1/2 for relu
    series = kernel_series(DEQ("relu", 2, "0.8"), 1)
    assert series.remainder.phase == "critical"
    assert series.remainder.tail > 0 or series.remainder.tail.contains(0)
    tangent = kernel_series(DEQ("relu", 2, "0.8"), 1, kernel="ntk")
    assert tangent.remainder.tail is None
    with pytest.raises(UncertifiedError, match="no bound"):
        tangent.enclosure(0.5)


# -- zeros -----------------------------------------------------------------------------------------------------------


def test_which_coefficients_vanish():
    def support(name):
        return sorted(hermite_support(ball_function(activation(name)), 7))

    assert support("relu") == [1, 2, 4, 6]
    assert support("leaky_relu") == [1, 2, 4, 6]
    assert support("tanh") == [1, 3, 5, 7]
    assert support("abs") == [2, 4, 6]
    assert support("sigmoid") == [1, 3, 5, 7]
    assert support("silu") == [1, 2, 4, 6]
    assert support("exp") == support("sinh(x) + exp(x)") == support("x*exp(x)") == [1, 2, 3, 4, 5, 6, 7]
    assert support("cube") == [1, 3]
    assert support("x**2 + x") == [1, 2]
    assert support("elu") == [1, 2, 3, 4, 5, 6, 7]
    assert sorted(kernel_support({1, 3}, 7, feedback=True, tangent=True)) == [1, 3, 5, 7]
    assert sorted(kernel_support({1, 3}, 7, feedback=False, tangent=True)) == [1, 3]
    assert sorted(kernel_support({2}, 5, feedback=True, tangent=False)) == [2, 3, 4, 5]
    assert sorted(kernel_support({1, 2}, 4, feedback=True, tangent=False)) == [1, 2, 3, 4]


def test_a_zero_that_is_not_proved_is_not_decided():
    # softplus(x) - softplus(-x) = x
    series = kernel_series(DEQ("softplus", 0, 1), 1, order=3, digits=5)
    assert series.verdicts == ("positive", "positive", "not decided")
    assert series.coefficients[2].contains(0)


# -- the result ------------------------------------------------------------------------------------------------------


def test_export():
    series = kernel_series(DEQ("tanh"), 1, 6)
    record = json.loads(json.dumps(series.to_dict()))
    assert [c["k"] for c in record["coefficients"]] == list(range(1, 7))
    assert record["coefficients"][1] == {"k": 2, "mid": "0", "rad": "0", "verdict": "zero (by symmetry)"}
    middle, radius = (Fraction(record["coefficients"][0][part]) for part in ("mid", "rad"))
    with precision(200):
        assert (exact(middle - radius)).union(exact(middle + radius)).contains(series.coefficients[0])
    assert series.to_latex(2, 4).startswith(r"F(s) = 0.")
    assert "s^{3}" in series.to_latex(2, 4)


def test_precision_and_length_of_series_are_restored():
    before = ctx.prec, ctx.cap
    kernel_series(DEQ("relu"), 1, 5)
    with pytest.raises(NoFixedPointError):
        kernel_series(DEQ("2*x", "0.3", "0.7"))
    assert (ctx.prec, ctx.cap) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 0}, "order"),
        ({"order": 1001}, "order"),
        ({"digits": 0}, "digits"),
        ({"digits": 2.5}, "digits"),
        ({"radius2": 0}, "radius2"),
        ({"radius2": "nan"}, "radius2"),
        ({"kernel": "rbf"}, "kernel"),
        ({"trained": "B"}, "trained"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(InputError, match=message):
        kernel_series(DEQ("relu"), **options)


@pytest.mark.parametrize("s", [1.5, "-1.01", "x", math.nan])
def test_inner_products_outside_the_sphere(s):
    series = kernel_series(DEQ("relu"), 1, 3)
    with pytest.raises(InputError):
        series.enclosure(s)


def test_work_is_limited(monkeypatch):
    monkeypatch.setattr("equikernel.numerics.power_series.hermite._MAX_WORK", 1000)
    with pytest.raises(UncertifiedError, match="stated work"):
        kernel_series(DEQ("tanh"), 1, order=30)
    monkeypatch.setattr("equikernel.numerics.power_series.hermite._MAX_PANELS", 2)
    with pytest.raises(UncertifiedError, match="panels"):
        kernel_series(DEQ("sqrt(abs(x))"), 1, order=3)
