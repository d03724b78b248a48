"""Dual activations in closed form: published formulas, quadrature, Price's theorem, limits, refusals."""

from __future__ import annotations

import json
import math

import mpmath
import numpy as np
import pytest
import sympy as sp

from equikernel.errors import AccuracyError, ActivationError, InputError, NoClosedFormError, ParseError
from equikernel.numerics.dual import pair_duals
from equikernel.theory.activation import activation
from equikernel.theory.closed_forms import TAU, closed_form_moments
from equikernel.theory.dual_forms import dual_activation
from equikernel.theory.dual_forms.values import Q_I, Q_J, RHO
from equikernel.theory.program import X

ROOT = sp.sqrt(Q_I) * sp.sqrt(Q_J)
THETA = sp.acos(RHO)
SINE = sp.sqrt(1 - RHO**2)
PAIRS = ((1.3, 0.7, 0.4), (0.5, 2.0, -0.8), (1.0, 1.0, 0.999), (2.0, 2.0, 1.0), (1.0, 1.5, -1.0))
CLASS = (
    "relu",
    "leaky_relu",
    "gelu",
    "squared_relu",
    "normal_cdf",
    "erf",
    "sin",
    "cos",
    "exp",
    "gaussian",
    "snake",
    "abs",
    "identity",
    "square",
    "cube",
)
MIXED = (
    "x*sin(x)",
    "exp(x)*sin(x)",
    "abs(x) + sin(2*x)",
    "x*exp(-x**2/2)",
    "x*erf(x) + x**2",
    "max(x, 0)**3",
    "exp(-x**2/2)*cos(2*x + 1)",
    "exp(x/3 - 1) + x**3",
    "abs(x) + erf(x)",
    "2**x + x",
    "relu(x) + 1/(3*exp(2*x))",
    "where(x < 0, 1, exp(-x*x))",
    "erf(pi*x) + x**3",
)
JUMPS = ("sign", "heaviside", "relu(x) + sign(x)")


def zero(expression):
    """Whether an expression vanishes, decided at irrational-looking points to 40 digits."""
    points = [(sp.Rational(13, 7), sp.Rational(5, 11), r) for r in (sp.Rational(-9, 13), sp.Rational(2, 7), 1, -1)]
    return all(
        abs(sp.N(expression.subs({Q_I: a, Q_J: b, RHO: r}), 40, maxn=400)) < sp.Float(10) ** -35 for a, b, r in points
    )


@pytest.mark.parametrize(
    ("name", "published"),
    [
        # Cho & Saul 2009: (q_i q_j)^(n/2) J_n/(2 pi)
        ("heaviside", (sp.pi - THETA) / (2 * sp.pi)),
        ("relu", ROOT * (SINE + (sp.pi - THETA) * RHO) / (2 * sp.pi)),
        ("squared_relu", Q_I * Q_J * (3 * SINE * RHO + (sp.pi - THETA) * (1 + 2 * RHO**2)) / (2 * sp.pi)),
        # Williams 1998
        ("erf", 2 / sp.pi * sp.asin(2 * ROOT * RHO / sp.sqrt((1 + 2 * Q_I) * (1 + 2 * Q_J)))),
        ("gaussian", 1 / sp.sqrt((1 + 2 * Q_I) * (1 + 2 * Q_J) - 4 * Q_I * Q_J * RHO**2)),
        # Daniely 2016
        ("sign", 2 / sp.pi * sp.asin(RHO)),
        ("sin", sp.exp(-(Q_I + Q_J) / 2) * sp.sinh(ROOT * RHO)),
        ("cos", sp.exp(-(Q_I + Q_J) / 2) * sp.cosh(ROOT * RHO)),
        ("exp", sp.exp((Q_I + Q_J) / 2 + ROOT * RHO)),
        ("abs", 2 * ROOT / sp.pi * (SINE + RHO * sp.asin(RHO))),
        ("cube", (ROOT**3) * (6 * RHO**3 + 9 * RHO)),
    ],
)
def test_published_formulas(name, published):
    assert zero(dual_activation(name).expression - published)


def test_the_arc_cosine_kernel_is_printed_as_in_the_papers():
    relu = dual_activation("relu")
    assert relu.expression == ROOT * (RHO * (sp.pi - THETA) + SINE) / (2 * sp.pi)
    assert relu.slope == (sp.pi - THETA) / (2 * sp.pi)
    assert dual_activation("sin").expression == sp.exp(-Q_I / 2 - Q_J / 2) * sp.sinh(ROOT * RHO)


@pytest.mark.parametrize("name", CLASS + MIXED)
def test_agrees_with_two_dimensional_quadrature(name):
    phi = activation(name)
    form = dual_activation(name)
    for q_i, q_j, rho in PAIRS:
        value, slope = pair_duals(phi, 0.0, q_i, q_j, rho)
        norms = [pair_duals(phi, 0.0, q, q, 1.0) for q in (q_i, q_j)]
        # pair_duals claims about 1e-14 of the norm
        assert abs(float(form.value(q_i, q_j, rho)) - value) <= 1e-13 * math.sqrt(norms[0][0] * norms[1][0])
        assert abs(float(form.value(q_i, q_j, rho, slope=True)) - slope) <= 1e-13 * math.sqrt(norms[0][1] * norms[1][1])


@pytest.mark.parametrize("name", JUMPS)
def test_jumps_agree_with_quadrature_below_correlation_one(name):
    phi, form = activation(name), dual_activation(name)
    assert form.jumps
    for q_i, q_j, rho in PAIRS:
        value, _ = pair_duals(phi, 0.0, q_i, q_j, rho)
        assert float(form.value(q_i, q_j, rho)) == pytest.approx(value, rel=1e-12, abs=1e-13)
    with pytest.raises(InputError, match="phi jumps"):
        form.value(1, 1, 1, slope=True)


@pytest.mark.parametrize("name", ["gelu", "x*sin(x)"])
def test_agrees_with_many_digits_of_quadrature(name):
    phi = activation(name).function("mpmath", digits=30)
    c = mpmath.MPContext()
    c.dps = 30
    root_i, root_j, rho = c.sqrt(c.mpf("1.3")), c.sqrt(c.mpf("0.7")), c.mpf("0.6")
    # the trapezoidal rule of step 1/3 is exact to exp(-2 pi^2 9) for Gaussians, and less by the growth exp(6 pi) of sin
    nodes = [c.mpf(k) / 3 for k in range(-33, 34)]
    total = c.mpf(0)
    for a in nodes:
        row = [phi(root_j * (rho * a + c.sqrt(1 - rho**2) * b)) * c.exp(-(a * a + b * b) / 2) for b in nodes]
        total += phi(root_i * a) * c.fsum(row)
    expected = total / (18 * c.pi)
    found = c.mpf(str(dual_activation(name).value("1.3", "0.7", "0.6", digits=28)))
    assert abs(found - expected) <= c.mpf(10) ** -22 * expected


@pytest.mark.parametrize("name", CLASS + MIXED + JUMPS)
def test_price_theorem(name):
    form = dual_activation(name)
    difference = sp.diff(form.expression, RHO) / ROOT - form.slope
    for rho in (sp.Rational(-2, 7), sp.Rational(5, 9)):
        values = {Q_I: sp.Rational(6, 5), Q_J: sp.Rational(4, 5), RHO: rho}
        assert abs(sp.N(difference.subs(values), 30)) < sp.Float(10) ** -28


@pytest.mark.parametrize("name", CLASS)
def test_identical_and_independent_arguments(name):
    form, moments = dual_activation(name), closed_form_moments(name)
    for q in (sp.Rational(1, 3), sp.Integer(2)):
        same = {Q_I: q, Q_J: q}
        assert abs(sp.N(form.expression.subs({**same, RHO: 1}) - moments.s0.subs(TAU, sp.sqrt(q)), 30)) < 1e-25
        assert abs(sp.N(form.slope.subs({**same, RHO: 1}) - moments.v.subs(TAU, sp.sqrt(q)), 30)) < 1e-25
        assert abs(sp.N(form.mean_i.subs(Q_I, q) - moments.m0.subs(TAU, sp.sqrt(q)), 30)) < 1e-25
        assert abs(sp.N(form.covariance.subs({**same, RHO: 0}), 30)) < 1e-25
        centre = moments.m0.subs(TAU, sp.sqrt(q))
        gap = form.centred(centre).subs(same) - form.covariance.subs(same)
        assert abs(sp.N(gap.subs(RHO, sp.Rational(1, 3)), 30)) < 1e-25


A = sp.Symbol("a", real=True)
W, C = sp.symbols("w c", positive=True)


@pytest.mark.parametrize(
    ("phi", "values"),
    [
        (sp.Max(X, 0) + A * sp.Min(X, 0), {A: sp.Rational(-1, 5)}),
        (sp.sin(W * X + A), {W: sp.Rational(3, 2), A: sp.Rational(1, 4)}),
        (sp.exp(-C * X**2), {C: sp.Rational(2, 3)}),
        (sp.erf(W * X), {W: sp.Integer(2)}),
        (A + W * X + C * X**2, {A: 1, W: 2, C: sp.Rational(1, 2)}),
        (X + sp.sin(W * X) ** 2 / W, {W: sp.Integer(3)}),
        (sp.Abs(W * X) * A, {A: -1, W: 2}),
    ],
    ids=str,
)
def test_parameters_may_be_replaced_before_or_after(phi, values):
    symbolic = dual_activation(phi)
    assert set(symbolic.parameters) == set(values)
    number = dual_activation(phi.subs(values))
    assert zero(symbolic.expression.subs(values) - number.expression)
    if not number.slope.has(sp.zoo):
        assert zero(symbolic.slope.subs(values) - number.slope)
    with pytest.raises(InputError, match="parameters"):
        symbolic.value(1, 1, 0)


def test_leaky_relu_with_symbolic_slope():
    form = dual_activation("leaky_relu(x, a)", {"a": A})
    expected = ROOT * (A * RHO + (1 - A) ** 2 * (RHO * (sp.pi - THETA) + SINE) / (2 * sp.pi))
    assert sp.simplify(form.expression - expected) == 0
    assert sp.simplify(form.slope - A - (1 - A) ** 2 * (sp.pi - THETA) / (2 * sp.pi)) == 0


def test_sums_of_terms_drawn_at_random():
    rng = np.random.default_rng(20260101)
    parts = ("x", "x**2", "abs(x)", "erf(x)", "sin(2*x)", "cos(x)", "exp(x/2)", "x*exp(-x**2)", "x*Phi(x)", "1")
    done = 0
    while done < 5:
        chosen = rng.choice(parts, 3, replace=False)
        text = " + ".join(f"({rng.integers(-9, 10)}/4)*{part}" for part in chosen)
        if "erf" in text and ("exp(x" in text or "sin" in text or "cos" in text):
            continue  # an error function and a phase: see the refusals
        try:
            form, phi = dual_activation(text), activation(text)
        except (NoClosedFormError, ActivationError):
            continue
        done += 1
        for q_i, q_j, rho in PAIRS[:2]:
            value, _ = pair_duals(phi, 0.0, q_i, q_j, rho)
            norm = math.sqrt(pair_duals(phi, 0.0, q_i, q_i, 1.0)[0] * pair_duals(phi, 0.0, q_j, q_j, 1.0)[0])
            assert abs(float(form.value(q_i, q_j, rho)) - value) <= 1e-13 * norm, text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("elu", "quadrant off-centre"),
        ("exp(x)*abs(x)", "quadrant off-centre"),
        ("sign(x)*cos(x)", "quadrant off-centre"),
        ("hard_tanh", "breakpoint at x = -1"),
        ("relu(x - 1)", "breakpoint at x = 1"),
        ("relu6", "breakpoint at x = 6"),
        ("erf(x + 1)", "does not vanish at x = 0"),
        ("erf(x)**2", "4 error functions"),
        ("relu(x*erf(x))*sign(x)", "4 error functions"),
        ("tanh", "tanh"),
        ("silu", "exp"),
        ("sin(x**2)", "linear"),
        ("x**7*sin(x)", "degree"),
        ("x**13", "degree"),
        ("relu(x) + cos(x)", "complex number"),
    ],
)
def test_refusals_say_why(text, reason):
    with pytest.raises(NoClosedFormError, match=reason):
        dual_activation(text)


def test_assumptions_that_are_missing_are_named():
    unknown = sp.Symbol("b", real=True)
    with pytest.raises(NoClosedFormError, match="known to be negative"):
        dual_activation(sp.exp(unknown * X**2))
    with pytest.raises(NoClosedFormError, match="sign of b"):
        dual_activation(sp.erf(unknown * X))
    with pytest.raises(ActivationError, match="sign"):
        dual_activation(sp.Abs(unknown * X))
    with pytest.raises(ActivationError, match="must be real"):
        dual_activation(sp.sin(sp.Symbol("w") * X))
    with pytest.raises(NoClosedFormError, match="breakpoint"):
        dual_activation(sp.Max(X - W, 0))
    with pytest.raises(ActivationError, match="must not be called"):
        dual_activation(sp.sin(Q_I * X))
    with pytest.raises(ParseError):
        dual_activation("relux")


def test_values_have_the_digits_asked_for():
    form = dual_activation("gelu")
    coarse, fine = form.value("1.3", "0.7", "0.4", digits=30), form.value("1.3", "0.7", "0.4", digits=80)
    assert abs(coarse - fine) <= 10**-29 * fine
    # 1.5 digits of relu's formula survive in float64 at rho = -1 + 1e-10; the value is 8/(3 pi) 2^(-3/2) (1e-10)^(3/2)
    tiny = dual_activation("relu").value(1, 1, sp.Rational(1, 10**10) - 1)
    assert float(tiny) == pytest.approx(math.sqrt(2) * 1e-15 * 2 / (3 * math.pi), rel=1e-9)
    assert dual_activation("relu").value(1, 1, -1) == 0


@pytest.mark.parametrize(
    "arguments",
    [(0, 1, 0), (1, -1, 0), (1, 1, 1.01), (1, 1, math.nan), ("one", 1, 0), (1, 1, True)],
)
def test_bad_arguments_of_value(arguments):
    with pytest.raises(InputError):
        dual_activation("relu").value(*arguments)


def test_bad_digits():
    with pytest.raises(InputError, match="digits"):
        dual_activation("relu").value(1, 1, 0, digits=0)


def test_a_vanishing_value_is_zero_or_refused():
    try:
        assert abs(dual_activation("sin").value(1, 1, 0)) == 0
    except AccuracyError as error:
        assert "zero" in str(error)  # noqa: PT017 - both outcomes are honest


@pytest.mark.parametrize(
    ("name", "where"),
    [("relu", "rho -> -1"), ("heaviside", "rho -> -1"), ("abs", ""), ("gelu", ""), ("erf", "")],
)
def test_cancellation_is_announced(name, where):
    assert dual_activation(name).cancellation == where


def test_export():
    form = dual_activation("gelu")
    record = json.loads(json.dumps(form.to_dict()))
    assert record["expression"] == str(form.expression)
    assert set(record["latex"]) == {"expression", "slope", "mean_i", "mean_j", "covariance"}
    assert [step["text"] for step in record["steps"]][-1].startswith("the same for the derivative")
    for latex in (form.to_latex(), *record["latex"].values(), *(step["latex"] for step in record["steps"])):
        assert latex.count("{") == latex.count("}")
        assert latex.count(r"\left") == latex.count(r"\right")
