"""One object, every arithmetic: functions, derivatives, parity, jumps, growth and what is refused."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import sympy as sp

from equikernel.errors import ActivationError, InputError, ParseError
from equikernel.theory.activation import activation, registry_names
from equikernel.theory.multiprecision import mp_arithmetic
from equikernel.theory.program import X

STRINGS = [
    "x*tanh(log(1+exp(x)))",
    "(exp(x)-exp(-x))/(exp(x)+exp(-x))",
    "where(x > 1, x - 1, where(x < -0.5, 0.3*(x + 0.5), 0))",
    "max(tanh(x), x/2)",
    "x*Phi(x) + 0.1*sin(3*x)",
    "abs(x)**1.5",
    "log(1 + abs(x))",
    "1/(2 + sin(x))",
    "relu(x - 1) - relu(-x - 1)",
    "sigmoid(x)*softplus(x) - erfc(x)",
]
GRID = np.unique(np.concatenate([np.linspace(-40, 40, 161), np.linspace(-3, 3, 121), [-800.0, 800.0, 1e-9, -1e-9]]))


@pytest.mark.parametrize("spec", [*registry_names(), *STRINGS])
def test_float64_and_many_digits_agree(spec):
    act = activation(spec)
    grid = np.unique(np.concatenate([GRID, [float(b) for b in act.breakpoints]]))
    exact, exact_slope = act.function("mpmath", digits=30), act.derivative("mpmath", digits=30)
    values, slopes = act(grid), act.derivative("numpy")(grid)
    largest = float(np.finfo(float).max)
    for x, value, slope in zip(grid, values, slopes, strict=True):
        truth, true_slope = exact(float(x)), exact_slope(float(x))
        if abs(truth) > largest:
            assert np.isinf(value)
            continue
        # the contract: 3e-14 relative, or a few ulps of the argument
        allowed = 3e-14 * abs(truth) + 2e-15 * abs(x * true_slope) + 1e-300
        assert abs(mpmath.mpf(value) - truth) <= allowed, (x, value, truth)
        if mpmath.isnan(true_slope):
            assert np.isnan(slope)
        elif abs(true_slope) < largest:
            # one more derivative would bound this exactly; the argument's rounding is at most |x| ulps of curvature
            assert abs(mpmath.mpf(slope) - true_slope) <= 1e-12 * max(abs(true_slope), mpmath.mpf(1e-280)), (x, slope)


@pytest.mark.parametrize("spec", [*registry_names(), *STRINGS])
def test_derivative_is_the_limit_of_differences(spec):
    act = activation(spec)
    slope = act.derivative("mpmath", digits=30)
    program = act.program
    for x in ("-2.3171", "-0.4142", "0.377", "1.6180", "2.91"):
        with mpmath.workdps(60):
            arithmetic = mp_arithmetic(80)
            point, h = arithmetic.context.mpf(x), arithmetic.context.mpf(10) ** -25
            difference = (program.run(arithmetic, point + h) - program.run(arithmetic, point - h)) / (2 * h)
            assert abs(difference - slope(x)) <= mpmath.mpf(10) ** -24 * max(1, abs(difference))


def test_the_issue_example_does_not_overflow():
    assert activation("log(1+exp(x))")(800.0) == 800.0


@pytest.mark.parametrize(
    ("spec", "parity"),
    [
        ("tanh", "odd"),
        ("sin", "odd"),
        ("hard_tanh", "odd"),
        ("sign", "odd"),
        ("softsign", "odd"),
        ("x*cos(x)", "odd"),
        ("(exp(x)-exp(-x))/(exp(x)+exp(-x))", "odd"),
        ("cos", "even"),
        ("abs", "even"),
        ("log_cosh", "even"),
        ("gaussian", "even"),
        ("x*tanh(x)", "even"),
        ("abs(abs(x)-1)", "even"),
        ("relu", None),
        ("gelu", None),
        ("heaviside", None),
        ("tanh(x) + 1e-60*x**2", None),
        ("abs(x-1)", None),
    ],
)
def test_parity(spec, parity):
    assert activation(spec).parity == parity


@pytest.mark.parametrize(
    ("spec", "jumps", "square_integrable"),
    [
        ("sign", ["0"], False),
        ("heaviside", ["0"], False),
        ("where(x > 1, 2, where(x < -1, -2, x))", ["-1", "1"], False),
        ("where(x >= 1, x, x**2)", [], True),
        ("relu", [], True),
        ("sqrt(abs(x))", [], False),
        ("abs(x)**0.75", [], True),
        ("abs(x)**1.5", [], True),
        ("hard_shrink", ["-1/2", "1/2"], False),
    ],
)
def test_jumps(spec, jumps, square_integrable):
    act = activation(spec)
    assert [str(b.to_sympy()) for b in act.jumps] == jumps
    assert act.has_square_integrable_derivative is square_integrable


def test_values_at_breakpoints_are_those_of_the_expression():
    assert activation("sign")(0.0) == 0.0
    assert activation("heaviside")(0.0) == 0.5
    assert activation("where(x > 1, 2, 0)")(1.0) == 0.0
    assert activation("where(x >= 1, 2, 0)")(1.0) == 2.0
    assert activation("relu").derivative("numpy")(0.0) == 0.5  # the mean of the one-sided derivatives


def test_breakpoints_of_different_activations_do_not_mix():
    # both scanned zeros lie in the same bracket of the scan
    first, second = activation("max(x*x, x/(1.5+x**2))"), activation("max(x*x, x/(1.52+x**2))")
    for act, c in ((first, 1.5), (second, 1.52)):
        root = float(act.breakpoints[-1])
        assert root**3 + c * root == pytest.approx(1.0, rel=1e-14)


def test_a_product_of_two_cancelled_factors_is_repaired():
    slope = activation("cosh(relu6(x) - sin(x))").derivative("numpy")(1e-8)
    assert slope == pytest.approx(8.333333333333333e-42, rel=1e-12)


def test_latex_of_powers_of_cases():
    assert r"\begin{cases}" in activation("(where(x < 4, 3, x - 2))**1.5").latex()


def test_growth():
    assert activation("relu").growth.degree == pytest.approx(1.0, abs=0.01)
    assert activation("x**3").growth.degree == pytest.approx(3.0, abs=0.01)
    assert activation("tanh").growth.degree == 0.0
    assert activation("exp(0.5*x)").growth.rate == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize(
    ("spec", "error", "says"),
    [
        ("exp(x**2)", ActivationError, "too fast"),
        ("exp(x**2/1000)", ActivationError, "too fast"),
        ("exp(exp(x))", ActivationError, "too fast"),
        ("exp(exp(exp(x)))", ActivationError, "too fast"),
        ("3", ActivationError, "constant"),
        ("x - x", ActivationError, "constant"),
        ("where(x > 0, 1, 1)", ActivationError, "constant"),
        ("log(x)", ActivationError, "undefined on part"),
        ("sqrt(x)", ActivationError, "undefined on part"),
        ("1/x", ActivationError, "undefined on part"),
        ("max(sin(x), 0)", ActivationError, "changes sign"),
        ("softsign(log(x)) - log(2*x)", ActivationError, "log(x) is undefined"),
        ("Phi((sign(x))**0.5)", ActivationError, "undefined"),
        ("asinh(tan(sinh(x)))", ActivationError, "poles"),
        ("y + 1", ParseError, "y"),
        ("no_such_activation", ParseError, "no_such_activation"),
        ("x.real", ParseError, "."),
        ("__import__('os')", ParseError, "_"),
        ("9**9**9", ParseError, ""),
        ("x" * 3000, ParseError, "2000"),
        ("", ParseError, ""),
    ],
)
def test_bad_input_gets_one_sentence(spec, error, says):
    with pytest.raises(error) as caught:
        activation(spec)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_sympy_expressions():
    x = sp.Symbol("x")
    assert activation(x / (1 + sp.exp(-x))) == activation("swish")
    assert activation(sp.Max(X, 0.1 * X)).expr == sp.Max(X, X / 10)  # floats are the decimals they print as
    with pytest.raises(ActivationError, match="other symbol"):
        activation(x + sp.Symbol("y"))
    with pytest.raises(ActivationError, match="complex"):
        activation(sp.I * x)
    with pytest.raises(ActivationError, match="floor"):
        activation(sp.floor(x) * x)
    with pytest.raises(InputError, match="got int"):
        activation(3)


def test_equality_repr_and_export():
    gelu = activation("gelu")
    assert gelu == activation("x*Phi(x)")
    assert hash(gelu) == hash(activation("x*Phi(x)"))
    assert repr(gelu) == "activation('gelu')"
    exported = activation("relu").to_dict()
    assert exported["breakpoints"] == ["0"]
    assert exported["jumps"] == []
    assert "erf" in gelu.latex()


def test_unknown_arithmetic():
    with pytest.raises(InputError, match="expected one of mpmath, numpy, torch"):
        activation("relu").function("cuda")


@pytest.mark.parametrize(
    ("spec", "holds"),
    [
        ("sigmoid", True),
        ("hard_sigmoid", True),
        ("Phi(x)", True),
        ("heaviside", True),
        ("tanh(x) + 3", True),
        ("gelu", False),
        ("cos", False),
        ("sigmoid(x) + 1e-60*x**2", False),
    ],
)
def test_odd_up_to_a_constant(spec, holds):
    assert activation(spec).odd_up_to_constant is holds


def test_parity_looks_at_every_piece() -> None:
    """Odd about 1 by its outer pieces only; the inner one alone is constant, and so even."""
    act = activation("1 + where(x > 2, x/2 - 1, 0) + where(x < -2, x/2 + 1, 0)")
    assert act.parity is None
    assert act.odd_up_to_constant
    nearly = activation("where(x > 1 or x < -1.00000000000000000001, x, 0)")
    assert nearly.parity is None


@pytest.mark.parametrize(
    "text", ["where(1/(x-1) > 0, x, 2*x)", "where((x+2)/(x-1) > 0, x, 2*x)", "x + heaviside(x/(x**2-2))"]
)
def test_a_switch_that_changes_sign_at_a_pole_is_noticed(text: str) -> None:
    """At the pole the branch is undefined, and that is said; without the pole as a breakpoint, a branch was lost."""
    with pytest.raises(ActivationError, match="undefined at x"):
        activation(text)


@pytest.mark.parametrize(
    "text",
    [
        "x + where(x > 0 and x < 1e-50, 1e60, 0)",
        "where(tanh(x) < 1 - 1e-45, x, 1000*x)",
        "where(erf(x) < 1 - 1e-45, x, 1000*x)",
        "2 - max(2 - where(x >= 1.5, x, 200 + x), max(x, -0.3)**(1/3), 1/3)",
        "relu6(x)*abs(min(abs(hard_swish(x))**1.5, min(sinh(gaussian(x)), hard_shrink(x))))**0.75",
    ],
)
def test_breakpoints_too_fine_for_the_digits_are_refused(text: str) -> None:
    with pytest.raises(ActivationError):
        activation(text)


@pytest.mark.parametrize(
    ("text", "finite"),
    [
        ("sqrt(abs(x) + 1e-100)", True),
        ("abs(x)**0.5005", True),
        ("abs(x)**0.5", False),
        ("abs(x)**0.4999", False),
        ("1e-60*sqrt(abs(x)) + x", False),
        ("relu(x)", True),
    ],
)
def test_square_integrability_of_the_derivative_is_read_off_its_growth(text: str, finite: bool) -> None:
    assert activation(text).has_square_integrable_derivative is finite


def test_parity_is_proved_or_none() -> None:
    """A spike far from every point that samples could take: odd to 340 digits there, and not odd."""
    assert activation("x + 1e10*exp(-1e20*(x-1/3)**2)").parity is None
    assert activation("tanh(x)*sin(x)").parity == "even"
    assert activation("2*sigmoid(3*x) - 1").parity == "odd"
    assert activation("sigmoid(x/2) + normal_cdf(x)").odd_up_to_constant
    assert activation("tanh(sigmoid(x) - 1/2)").parity is None  # odd, but not by what is tried: not claimed
    assert activation("x*sigmoid(x) - x/2").parity == "even"


@pytest.mark.parametrize(
    "text", ["where(abs(x-1) < 1e-50, 1e60, 0) + x", "x + where(abs(abs(x-1)-1e-50) < 1e-51, 1, 0)"]
)
def test_a_narrow_piece_of_a_nested_switch_is_not_lost(text: str) -> None:
    with pytest.raises(ActivationError, match="apart"):
        activation(text)


def test_a_zero_beyond_its_own_branch_need_not_be_computed() -> None:
    """The outer branch of softsign has a pole, where the switch function overflows."""
    act = activation("min(erfc(tanh(x)), mish(sinh(softsign(x))), 4)")
    assert all(abs(float(b)) < 10 for b in act.breakpoints)


def test_a_root_that_begins_at_an_irrational_breakpoint() -> None:
    """60 digits of sqrt(2) fall a little below it: the root there is 0, not undefined."""
    act = activation("sqrt(abs(x - sqrt(2)))")
    assert not act.jumps
    assert act.function("mpmath", digits=30)(mpmath.sqrt(2)) < 1e-7


@pytest.mark.parametrize(
    ("text", "rate", "degree"),
    [("x**11*sin(x)", 0, 11), ("x**20", 0, 20), ("exp(x/10)", 0.1, 0), ("x**3*exp(x)", 1, 0), ("tanh", 0, 0)],
)
def test_growth_of_high_powers(text: str, rate: float, degree: float) -> None:
    """A high power is not an exponential."""
    growth = activation(text).growth
    assert growth.rate == pytest.approx(rate, rel=0.1)
    assert growth.degree == pytest.approx(degree, abs=1.01)


def test_a_jump_below_the_first_digits_is_a_jump() -> None:
    assert [float(b) for b in activation("where(x < 1, x, x + 1e-45)").jumps] == [1.0]
    assert [float(b) for b in activation("x + 1e-300*sign(x-pi)").jumps] == [math.pi]
    assert activation("where(x < 1, x, x**2)").jumps == ()


def test_sympy_floats_keep_their_digits() -> None:
    """SymPy prints 15 digits of a float64; SELU's constants have 17."""
    assert activation(1.0507009873554805 * X).expr == sp.Rational("1.0507009873554805") * X
    assert activation(0.1 * X).expr == X / 10
    many = "0.12345678901234567890123"
    assert activation(sp.Float(many, 23) * X).expr == sp.Rational(many) * X


def test_symmetry_of_a_nested_expression_is_decided_quickly() -> None:
    """Expanding it would take minutes; being even is seen on the expression as it is."""
    assert activation("squared_relu(gaussian(gelu_tanh(gelu_tanh(cos(x)))))").parity == "even"


def test_symmetry_does_not_ask_sympy_about_nested_switches() -> None:
    """SymPy recursed without end on evaluating Max at -x."""
    text = "max(abs(min(x - x, 0.5))**1.5, 3*log_cosh(x), hard_shrink(sinh(softsign(expm1(Phi(log_sigmoid(x)))))), 1)"
    act = activation(text)
    assert act.parity in {None, "even"}
    assert activation("max(x*tanh(x) - 1, 0)").parity == "even"
    assert activation("abs(x)*sin(x)").parity == "odd"
