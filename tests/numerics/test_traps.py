"""The traps of certified Gaussian moments, each by name, through the public functions and against an oracle.

Those that concern one part (the analytic flag, covers of boxes, budgets, precision between threads) are tested beside
that part, in ``test_balls`` and ``test_ball_engines``, under names that begin in the same way.
"""

from __future__ import annotations

from typing import Any

import flint
import mpmath
import numpy as np
import pytest
import sympy as sp

from equikernel.errors import ActivationError, InputError, NoClosedFormError, UncertifiedError
from equikernel.numerics.certificates.certificate import certify
from equikernel.numerics.closed_forms import verified_closed_forms
from equikernel.numerics.enclosed_moments import enclosed_moments
from equikernel.numerics.moments import gaussian_moments, multiprecision_moments
from equikernel.theory.activation import activation
from equikernel.theory.closed_forms import TAU, closed_form_moments
from equikernel.theory.models import DEQ
from equikernel.theory.multiprecision import mp_arithmetic
from equikernel.theory.program import X

DIGITS = 30
C = mp_arithmetic(60).context
ENGINES = ("integral", "trapezoid")


def contains(moment: Any, truth: Any) -> bool:
    """Whether a moment is within its claimed error of a number that is known to 60 digits."""
    return bool(abs(C.mpf(moment.value) - truth) <= C.mpf(moment.error) + abs(truth) * C.mpf(10) ** -55)


def hard_tanh_variance(tau: Any) -> Any:
    """E[clip(tau xi, -1, 1)^2], by parts."""
    c = 1 / C.mpf(tau)
    inside = C.erf(c / C.sqrt(2)) - 2 * c * C.npdf(c)
    return C.mpf(tau) ** 2 * inside + C.erfc(c / C.sqrt(2))


# -- from expression to integrand --------------------------------------------------------------------------------------


def test_trap_floats_become_fractions_before_algebra() -> None:
    # SELU with floats: simplification moved its breakpoint and its constants
    scale, alpha = 1.05070098735548, 1.67326324235438
    x = sp.Symbol("x")
    given = activation(scale * sp.Piecewise((x, x > 0), (alpha * (sp.exp(x) - 1), True)))
    s, a = C.mpf("1.05070098735548"), C.mpf("1.67326324235438")  # the decimals, exactly
    half = [C.exp(k * k / C.mpf(2)) * C.erfc(k / C.sqrt(2)) / 2 for k in (1, 2)]  # E[exp(k xi) 1(xi < 0)]
    truth = s * s * (C.mpf(1) / 2 + a * a * half[1])
    assert given.expr.atoms(sp.Float) == set()
    assert [b.exact for b in given.breakpoints] == [0]
    assert contains(enclosed_moments(given, 1, DIGITS).v, truth)
    assert contains(verified_closed_forms(given).moments(1, DIGITS).v, truth)
    assert float(gaussian_moments(given, 1.0).v.value) == pytest.approx(float(truth), rel=1e-13)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("max(sin(x), 0)", "changes sign more than 24 times"),
        ("sign(sin(x))", "changes sign more than 24 times"),
        (sp.floor(X), "the function floor is not supported"),
        (sp.Mod(X, 1), "the function Mod is not supported"),
    ],
)
def test_trap_switches_that_cannot_be_decided_are_refused(spec: Any, says: str) -> None:
    with pytest.raises(ActivationError, match=says):
        activation(spec)


@pytest.mark.parametrize("text", ["sin(x)/x", "(exp(x) - 1)/x", "tanh(x)/abs(x)**2"])
def test_trap_a_quotient_that_is_nan_at_zero_is_refused(text: str) -> None:
    with pytest.raises(ActivationError, match="vanishes there"):
        activation(text)


def test_trap_a_singularity_cut_out_is_right_up_to_the_cut() -> None:
    # what the refusal advises: E[sin(tau xi)/(tau xi)] is the integral of exp(-(s tau)^2/2) over 0 < s < 1
    cut = activation("where(abs(x) > 1e-9, sin(x)/x, 1)")
    truth = C.sqrt(C.pi / 2) * C.erf(1 / C.sqrt(2))
    for engine in ENGINES:
        mean = enclosed_moments(cut, 1, 20, engine).mean
        assert abs(C.mpf(mean.value) - truth) <= C.mpf(mean.error) + C.mpf(10) ** -27  # 1e-18/6, with probability 1e-9


@pytest.mark.parametrize("tau", ["1e-3", "1", "1e3"])
def test_trap_breakpoints_do_not_move_with_the_scale(tau: str) -> None:
    truth = hard_tanh_variance(tau)
    for engine in ENGINES:
        assert contains(enclosed_moments(activation("hard_tanh"), tau, DIGITS, engine).V, truth)


@pytest.mark.parametrize("engine", ENGINES)
def test_trap_cuts_close_to_the_line(engine: str) -> None:
    # sqrt(x^2 + e^2), cut at +-ie: E = e^2/(2 sqrt(2 pi)) exp(z) (K0(z) + K1(z)), z = e^2/4
    e = C.mpf(10) ** -3
    z = e * e / 4
    truth = e * e / (2 * C.sqrt(2 * C.pi)) * C.exp(z) * (C.besselk(0, z) + C.besselk(1, z))
    found = enclosed_moments(activation("sqrt(x**2 + 1e-6)"), 1, 20, engine)
    assert contains(found.mean, truth)
    assert contains(found.V, 1 + e * e - truth**2)


@pytest.mark.parametrize(("a", "b"), [("1/3", "1/100"), ("-1.7", "1/60"), ("0.123456789", "1/7")])
@pytest.mark.parametrize("engine", ENGINES)
def test_trap_poles_close_to_the_line(engine: str, a: str, b: str) -> None:
    # the Voigt profile: E[1/((xi - a)^2 + b^2)] = sqrt(pi/2)/b Re w((a + ib)/sqrt 2), w(z) = exp(-z^2) erfc(-iz)
    real, imaginary = (C.mpf(sp.Rational(text).p) / sp.Rational(text).q for text in (a, b))
    z = C.mpc(real, imaginary) / C.sqrt(2)
    truth = C.sqrt(C.pi / 2) / imaginary * C.re(C.exp(-z * z) * C.erfc(-1j * z))
    assert contains(enclosed_moments(activation(f"1/((x - ({a}))**2 + ({b})**2)"), 1, 20, engine).mean, truth)


# -- what a moment is --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["sign", "hard_shrink", "x + 1e-60*heaviside(x - 1)"])
def test_trap_the_mean_square_of_the_slope_is_infinite_at_a_jump(text: str) -> None:
    given = activation(text)
    for moments in (gaussian_moments(given, 1.0), enclosed_moments(given, 1, DIGITS)):
        assert moments.v_or_none is None
        with pytest.raises(InputError, match="infinite"):
            _ = moments.v
    with pytest.raises(NoClosedFormError, match="jumps at x ="):
        _ = closed_form_moments(text).v
    assert "kappa2" in certify(DEQ(given, "0.1")).to_dict()["refused"]


@pytest.mark.parametrize("tau", ["1e-6", "1", "1e6"])
def test_trap_the_second_derivative_of_relu_is_not_zero(tau: str) -> None:
    # the Stein form sees the point mass at the kink: 1/(sqrt(2 pi) tau), .39894 at tau = 1
    truth = 1 / (C.sqrt(2 * C.pi) * C.mpf(tau))
    assert contains(enclosed_moments(activation("relu"), tau, DIGITS).d2, truth)
    assert contains(verified_closed_forms("relu").moments(tau, DIGITS).d2, truth)
    assert float(gaussian_moments(activation("relu"), float(tau)).d2.value) == pytest.approx(float(truth), rel=1e-13)


# -- cancellation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", ["1e-4", "1e-8"])
def test_trap_the_second_hermite_weight_cancels_at_small_scales(tau: str) -> None:
    # gelu'' = (2 - x^2) density(x), E[density] = (2 pi (1 + q))^(-1/2), E[x^2 density] = q (2 pi)^(-1/2) (1 + q)^(-3/2)
    q = C.mpf(tau) ** 2
    truth = C.sqrt(2 / C.pi) / C.sqrt(1 + q) - q / (C.sqrt(2 * C.pi) * (1 + q) ** C.mpf("1.5"))
    found = gaussian_moments(activation("gelu"), float(tau)).d2
    assert found.relative_error <= 1e-13
    assert float(found.value) == pytest.approx(float(truth), rel=1e-13)
    many = enclosed_moments(activation("gelu"), tau, DIGITS).d2
    assert contains(many, truth)
    assert many.relative_error <= 1e-29


def test_trap_tiny_moments_are_escalated() -> None:
    # sin at tau = 5: dV/dq = exp(-2 q) = exp(-50) = 1.93e-22, which no rule in float64 can see next to V = 1/2
    truth = C.exp(-50)
    for found in (gaussian_moments(activation("sin"), 5.0).h, enclosed_moments(activation("sin"), 5, DIGITS).h):
        assert found.relative_error <= 1e-13
        assert contains(found, truth)


@pytest.mark.parametrize("factor", ["1e-30", "1e30"])
def test_trap_tolerances_are_relative_to_the_size_of_the_integrand(factor: str) -> None:
    # an absolute tolerance alone loses the digits of small functions, and never reaches them for large ones
    plain = enclosed_moments(activation("tanh"), 1, DIGITS)
    scaled = enclosed_moments(activation(f"{factor}*tanh(x)"), 1, DIGITS)
    for name, power in (("V", 2), ("d1", 1), ("h", 2), ("v", 2)):
        a, b = getattr(plain, name), getattr(scaled, name)
        gap = C.mpf(b.value) - C.mpf(a.value) * C.mpf(factor) ** power
        assert abs(gap) <= C.mpf(b.error) + C.mpf(a.error) * C.mpf(factor) ** power * (1 + C.mpf(10) ** -50)
        assert b.relative_error <= 1e-29


@pytest.mark.parametrize(("text", "tau"), [("exp(5*x)", "2"), ("cosh(5*x) + x**3", "2"), ("max(exp(10*x), 1)", "1")])
def test_trap_tails_of_growing_functions_are_not_cut(text: str, tau: str) -> None:
    # phi^2 has its mass at 2 c tau standard deviations, far outside the bulk of the Gaussian
    found = enclosed_moments(activation(text), tau, DIGITS).mean
    q, c = C.mpf(tau) ** 2, 10 if "10" in text else 5
    growth = C.exp(c * c * q / 2)
    if text.startswith("max"):
        growth = growth * (1 + C.erf(c * C.sqrt(q / 2))) / 2 + C.mpf(1) / 2
    assert contains(found, growth)
    square = enclosed_moments(activation("exp(5*x)"), 2, DIGITS).V
    assert contains(square, C.exp(100) * (C.exp(100) - 1))


# -- quadrature that is not proved -------------------------------------------------------------------------------------


def test_trap_quadrature_across_a_kink_claims_too_small_an_error() -> None:
    # mpmath.quad over the line, hard tanh not split at its kinks: it errs by more than it says; no bound of ours does
    for tau in (1.0, 3.0):
        truth = hard_tanh_variance(tau)
        given = activation("hard_tanh")
        for moments in (
            gaussian_moments(given, tau),
            multiprecision_moments(given, tau, 25),
            enclosed_moments(given, tau, 25),
            verified_closed_forms(given).moments(tau, 25),
        ):
            assert contains(moments.V, truth)
            assert moments.V.relative_error <= 1e-13
    with mpmath.workdps(15):
        value, claimed = mpmath.quad(
            lambda x: min(max(x, -1), 1) ** 2 * mpmath.npdf(x), [-mpmath.inf, mpmath.inf], error=True
        )
    assert abs(value - hard_tanh_variance(1)) > claimed


def test_trap_gauss_hermite_is_the_wrong_tool() -> None:
    nodes, weights = np.polynomial.hermite_e.hermegauss(178)
    weights = weights / weights.sum()
    by_hermite = float(weights @ np.clip(3 * nodes, -1, 1) ** 2)
    truth = float(hard_tanh_variance(3))
    assert abs(by_hermite - truth) > 1e-3
    assert float(gaussian_moments(activation("hard_tanh"), 3.0).V.value) == pytest.approx(truth, rel=1e-13)


# -- the libraries -----------------------------------------------------------------------------------------------------


def test_trap_the_precision_of_the_caller_is_neither_used_nor_changed() -> None:
    before, work = flint.ctx.prec, mpmath.mp.dps
    try:
        flint.ctx.prec, mpmath.mp.dps = 11, 4
        found = certify(DEQ("arctan"), digits=20).to_dict()["enclosures"]
        closed = verified_closed_forms("x**3/7 + abs(x)").moments(2, DIGITS)
        many = enclosed_moments(activation("x**3/7 + abs(x)"), 2, DIGITS)
        with pytest.raises(UncertifiedError):
            enclosed_moments(activation("tanh"), "1e200", DIGITS)
        assert (flint.ctx.prec, mpmath.mp.dps) == (11, 4)
    finally:
        flint.ctx.prec, mpmath.mp.dps = before, work
    assert found == certify(DEQ("arctan"), digits=20).to_dict()["enclosures"]
    # V = 15 q^3/49 + q (1 - 2/pi) at q = 4
    truth = C.mpf(15 * 64) / 49 + 4 * (1 - 2 / C.pi)
    assert contains(closed.V, truth)
    assert contains(many.V, truth)


def test_trap_closed_forms_never_search_an_antiderivative(monkeypatch: pytest.MonkeyPatch) -> None:
    # SymPy's integrate hangs on E[gelu^2] and leaves those of ELU and erf unevaluated
    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("an integrator was called")

    monkeypatch.setattr(sp, "integrate", forbidden)
    monkeypatch.setattr(sp.Integral, "doit", forbidden)
    q = 9 * TAU**2 / 4  # gelu(3 x/2) at tau is gelu at 3 tau/2, whose kernel was published by Tsuchida et al.
    published = q / 4 + q / (2 * sp.pi) * (sp.asin(q / (1 + q)) + 2 * q / ((1 + q) * sp.sqrt(1 + 2 * q)))
    at = {TAU: sp.sqrt(7) / 3}
    assert abs((closed_form_moments("gelu(3*x/2)").s0 - published).subs(at).evalf(40)) < 1e-38
    assert closed_form_moments("erf(3*x/2)").is_complete
    assert closed_form_moments("elu(3*x/2, 1/3)").is_complete
