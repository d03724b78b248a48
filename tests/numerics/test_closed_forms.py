"""Closed forms against balls, quadrature in mpmath and the reference values; their evaluation at extreme tau."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path

import flint
import mpmath
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from equikernel.errors import AccuracyError, InputError, NoClosedFormError, UncertifiedError
from equikernel.numerics import closed_forms as module
from equikernel.numerics.balls.context import exact, precision
from equikernel.numerics.balls.moments import ball_moments
from equikernel.numerics.closed_form_balls import enclosure
from equikernel.numerics.closed_forms import CHECKED_AT, verified_closed_forms
from equikernel.numerics.moments import multiprecision_moments
from equikernel.theory.activation import activation, registry_names
from equikernel.theory.closed_forms import TAU, closed_form_moments
from equikernel.theory.multiprecision import mp_arithmetic

REFERENCE = json.loads((Path(__file__).parents[1] / "data" / "reference.json").read_text())["values"]
CLOSED = ["elu", "gelu", "relu6", "normal_cdf", "gaussian", "snake", "cube"]


@pytest.mark.parametrize("name", CLOSED)
def test_against_quadrature_in_many_digits(name):
    forms = verified_closed_forms(name)
    found = forms.moments("0.7", 30)
    expected = multiprecision_moments(activation(name), "0.7", 40)
    for (moment, value), (_, other) in zip(found.items(), expected.items(), strict=True):
        assert abs(value.value - other.value) <= 1e-29 * (1 + abs(other.value)), (name, moment)


def test_against_the_reference_values():
    names = {"V": ("V", 1), "g1": ("d1", 2), "g2": ("d2", 2), "gdot": ("v", 1)}  # key: moment, power
    checked = 0
    for name, record in REFERENCE.items():
        try:
            forms = verified_closed_forms(record["expr"] if name not in registry_names() else name)
        except (NoClosedFormError, InputError):
            continue
        context = mp_arithmetic(60).context
        moments = dict(forms.moments(context.mpf(record["tau"]["mid"]), 45).items())
        for key, (moment, power) in names.items():
            # tau is known to 50 digits, and the moments have slopes of order one
            gap = context.mpf(moments[moment].value) ** power - context.mpf(record[key]["mid"])
            assert abs(gap) <= context.mpf(10) ** -43, (name, key)
            checked += 1
    assert checked >= 20


def test_what_has_no_enclosure_is_not_used():
    # continuous, since sin(1)^2 + cos(1)^2 = 1; enclosures do not prove that, so v has nothing to be compared with
    text = "where(x > 1, x, 0) + where(x > 1, cos(1)**2 - 1, 1 - sin(x)**2 - cos(x)**2 - sin(1)**2 + x)"
    assert "v" in closed_form_moments(text).expressions
    found = verified_closed_forms(text)
    assert "could not be compared with an enclosure" in found.forms.reasons["v"]
    assert "V" in found.forms.expressions
    with pytest.raises(NoClosedFormError, match=r"v of .* could not be compared"):
        found.moments(1)


def test_provenance_says_where_it_was_checked():
    moment = verified_closed_forms("relu").moments(1).V
    assert moment.provenance == "closed form (verified against balls at tau = 0.001, 0.1, 1, 10, 1000)"
    assert verified_closed_forms("sin").checked_at == CHECKED_AT[:4]  # oscillates too fast for quadrature at 1000


def test_a_wrong_closed_form_is_caught(monkeypatch):
    right = closed_form_moments("x**2/3 + x/7")

    def wrong(*_):
        expressions = {**right.expressions, "h": right.h * (1 + sp.Rational(1, 10**6))}
        return type(right)(right.expr, right.pieces, expressions, {}, right.expectations, right.integrals)

    monkeypatch.setattr(module, "closed_form_moments", wrong)
    with pytest.raises(UncertifiedError, match=r"the closed form of h of .* outside its enclosure"):
        verified_closed_forms("x**2/3 + x/7")


def test_tiny_moments_escalate():
    # trap: h of sin at tau = 5 is exp(-50), lost by cancellation in float64
    h = verified_closed_forms("sin").moments(5).h
    assert h.value == pytest.approx(math.exp(-50), rel=1e-14)
    assert h.relative_error < 1e-15


def test_small_tau_escalates():
    # trap: (xi^2 - 1) cancels at small tau
    for name, d2 in (("gelu", 2 / math.sqrt(2 * math.pi)), ("cos", -1.0), ("exp", 1.0)):
        moment = verified_closed_forms(name).moments("1e-9").d2
        assert moment.value == pytest.approx(d2, rel=1e-15)
        assert moment.relative_error < 1e-15


@pytest.mark.parametrize("tau", ["1e-6", "1e-3", "1e3", "1e6"])
@pytest.mark.parametrize(
    "name", ["relu", "elu", "celu", "selu", "gelu", "hard_tanh", "relu6", "softshrink", "normal_cdf"]
)
def test_extreme_tau_keeps_its_digits(name, tau):
    few, many = (dict(verified_closed_forms(name).moments(tau, digits).items()) for digits in (20, 60))
    for moment, value in few.items():
        reference = many[moment].value
        assert abs(value.value - reference) <= abs(reference) * mpmath.mpf(10) ** -20, (name, moment)


def test_huge_exponentials_times_tiny_tails():
    # exp(tau^2/2) (erf(z) - 1) at tau = 10^4: 10^7 bits if the ones were subtracted in numbers
    forms = verified_closed_forms("where(x < 1, exp(x), 0)")
    d2, mean = forms.moments("1e4").d2, forms.moments("1e4").mean
    leading = math.e / (math.sqrt(2 * math.pi) * 1e4)  # of the asymptotic series in 1/tau^2
    assert mean.value == pytest.approx(leading, rel=1e-3)
    assert mean.relative_error < 1e-15
    assert d2.relative_error < 1e-15


def test_enclosures_contain_wide_tau():
    forms = closed_form_moments("gelu")
    with precision(80):
        wide = exact(Fraction(9, 10)).union(exact(Fraction(11, 10)))
        hull = enclosure(forms.V, wide)
        for tau in (Fraction(9, 10), Fraction(1), Fraction(11, 10)):
            assert hull.contains(ball_moments(activation("gelu"), exact(tau), 40).V)


def test_growing_integrands_on_bounded_intervals():
    # sqrt(1 - 2 tau^2) is imaginary beyond tau = 1/sqrt(2): the value stays real, and right
    text = "where(abs(x) < 1, exp(x**2)*cos(2*x), 0)"
    forms = verified_closed_forms(text)
    for tau in ("0.4", "3"):
        expected = multiprecision_moments(activation(text), tau, 40)
        assert abs(forms.moments(tau, 25).V.value - expected.V.value) < 1e-24


def test_removable_singularity_is_refused_not_guessed():
    # 1 - 2 b tau^2 = 0 at tau = 1/2 for b = 2, where the formula is 0/0
    forms = verified_closed_forms("where(abs(x) < 1, exp(x**2), 0)")
    with pytest.raises(AccuracyError, match=r"is 0/0 at tau = 0\.5"):
        forms.moments("0.5")


def test_moments_that_vanish_are_exact_zeros():
    moments = verified_closed_forms("hard_tanh").moments(2)
    assert (moments.mean.value, moments.mean.error) == (0.0, 0.0)
    assert (moments.d2.value, moments.d2.error) == (0.0, 0.0)


def test_precision_is_given_back():
    # trap: python-flint's precision belongs to the process
    before = flint.ctx.prec
    verified_closed_forms("x**3 + x").moments(1, 60)
    with pytest.raises(InputError):
        verified_closed_forms("x**3 + x").moments(-1)
    assert flint.ctx.prec == before


def test_underflow_keeps_an_error_bound():
    moment = verified_closed_forms("sin").moments(1000).d1
    assert moment.value == 0.0
    assert moment.error > 0.0


def test_what_float64_cannot_hold_is_refused():
    with pytest.raises(AccuracyError, match="overflows float64"):
        verified_closed_forms("exp").moments(100)
    assert verified_closed_forms("exp").moments(100, 30).V.value > 1


@pytest.mark.parametrize("tau", [0, -1, math.nan, math.inf, "x", None])
def test_tau_must_be_positive(tau):
    with pytest.raises(InputError, match="tau must be a positive finite standard deviation"):
        verified_closed_forms("relu").moments(tau)


def test_parameters_are_checked_at_values_and_need_values():
    a, c = sp.Symbol("a", real=True), sp.Symbol("c", positive=True)
    forms = verified_closed_forms("a*hard_tanh(x, -c, c)", {"a": a, "c": c})
    assert forms.checked_at == CHECKED_AT
    with pytest.raises(InputError, match="put values in place of a, c"):
        forms.moments(1)


def test_partial_forms_give_no_moments():
    forms = verified_closed_forms("erf(x)**2")
    with pytest.raises(NoClosedFormError, match="orthant"):
        forms.moments(1)


_NUMBERS = st.sampled_from(["1", "2", "1/2", "-1/3", "-3/2"])
_SHIFTS = st.sampled_from(["0", "0", "1", "-1/2"])
_CUTS = st.sampled_from(["{u}", "{u}", "max({u}, 3/7)", "min({u}, -1/9)", "max(min({u}, 2), -5/4)", "abs({u})"])


@st.composite
def _members(draw) -> str:
    """A random member of the class: sums and products of its functions, cut at random breakpoints."""

    def term() -> str:
        u = draw(_CUTS).format(u=f"({draw(_NUMBERS)}*x + {draw(_SHIFTS)})")
        shape = draw(
            st.sampled_from(
                (
                    *("{u}**2", "{u}", "exp(-{u}**2/2)", "erf({u})", "sin({u})", "Phi({u})", "max({u}, 0)"),
                    *("erfc({u})", "sinh({u}/2)", "exp({u}/3)*cos({u})", "{u}*erf({u})"),
                    *("elu({u}, 1/3)", "where(x > {k}, {u}, 0)", "where(abs(x) < {k}, exp({u}), 1/2)", "cosh({u}/4)"),
                )
            )
        )
        k = Fraction(draw(st.integers(1, 40)), draw(st.integers(7, 20)))
        return shape.format(u=u, k=k)

    return " + ".join("*".join(term() for _ in range(draw(st.integers(1, 2)))) for _ in range(draw(st.integers(1, 2))))


@settings(max_examples=10, deadline=None, derandomize=True)
@given(_members())
def test_random_members_agree_with_balls(text):
    try:
        forms = verified_closed_forms(text)  # every moment that closes is compared with its enclosure
    except (NoClosedFormError, InputError):
        return
    tau = Fraction(7, 5)
    with precision(100):
        truth = ball_moments(activation(text), exact(tau), 40)
        for name, ball in truth.items():
            expr = forms.forms.get(name)
            if expr is not None:
                assert enclosure(expr, exact(tau)).overlaps(ball), name
    assert TAU not in activation(text).expr.free_symbols
