from __future__ import annotations

import itertools
import json
import math
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import sympy as sp
from flint import arb

from equikernel.errors import InputError, UncertifiedError
from equikernel.numerics.balls.context import precision
from equikernel.numerics.balls.functions import BallFunction, ball_function
from equikernel.numerics.balls.joins import is_continuous
from equikernel.numerics.certificates.asymptotes import asymptote
from equikernel.numerics.certificates.bounds import asymptotics, best_bound, bound_by
from equikernel.numerics.certificates.budget import Budget
from equikernel.numerics.certificates.certificate import certify
from equikernel.numerics.certificates.check import check_certificate
from equikernel.numerics.certificates.coefficients import COEFFICIENTS
from equikernel.numerics.certificates.decimals import ball_ends, from_record, is_recordable, to_record
from equikernel.numerics.certificates.equation import Equation
from equikernel.numerics.certificates.localise import FALLING, RISING, Box, runs_of
from equikernel.numerics.certificates.ranges import affine_ends, slope_range, value_range
from equikernel.numerics.certificates.refine import bracket_zero, isolate_zero, sharpen
from equikernel.numerics.certificates.shape import monotone_shape
from equikernel.numerics.solve import solve
from equikernel.theory.activation import activation
from equikernel.theory.models import DEQ

REFERENCE = json.loads((Path(__file__).parent.parent / "data" / "reference.json").read_text())["values"]


def function(text: str) -> BallFunction:
    return ball_function(activation(text))


# -- the six verdicts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sigma_a2", "b", "number", "on"),
    [
        ("2*x", "3/10", "4/5", 0, "(0, oo)"),
        ("3*silu(x)", "1/2", "1/100", 0, "(0, oo)"),
        ("5*where(abs(x)>2,1,0)", "9/10", "1/10", 3, "(0, oo)"),
        ("x**2", "1/5", "1/2", 2, "(0, 1000.0]"),
        ("x**2", "1/5", "5/8", None, "(0, 1000.0]"),
        ("silu", "99/100", "1/100", 1, "(0, oo)"),
        ("gelu", "99/100", "1/100", 1, "(0, oo)"),
        ("mish", "99/100", "1/100", 1, "(0, oo)"),
    ],
)
def test_the_six_verdicts(text: str, sigma_a2: str, b: str, number: int | None, on: str) -> None:
    found = certify(DEQ(text, sigma_a2, b)).count
    assert (found.number, found.on) == (number, on)


def test_a_double_root_is_undecided_and_the_interval_holds_it() -> None:
    count = certify(DEQ("x**2", "1/5", "5/8")).count
    assert count.least == 0
    assert "undecided" in count.existence
    assert "undecided" in count.uniqueness
    ((low, high),) = count.undecided
    assert low < 1.25 < high < low * 1.000001


@pytest.mark.parametrize(("shift", "number"), [(-1e-10, 2), (1e-10, 0)])
def test_a_nearly_double_root_is_decided_on_both_sides(shift: float, number: int) -> None:
    assert certify(DEQ("x**2", "1/5", Fraction(5, 8) + Fraction(shift))).count.number == number


def test_the_roots_of_the_square_are_those_of_the_quadratic() -> None:
    # F = q - 2 q^2/5 - 1/2 at sigma_a2 = 1/5
    points = certify(DEQ("x**2", "1/5", "1/2")).points
    with precision(128):
        exact = [(5 - arb(5).sqrt()) / 4, (5 + arb(5).sqrt()) / 4]
        assert all(point.q.overlaps(root) and point.q.rad() < 1e-18 for point, root in zip(points, exact, strict=True))
    assert [point.stable for point in points] == [True, False]


# -- enclosures ------------------------------------------------------------------------------------------------------

_NAMES = {"tau": "tau", "gamma2": "V", "lambda1": "lambda1", "kappa2": "kappa2"} | {
    f"{long}{k}": f"{short}{k}" for long, short, n in (("alpha", "a", 4), ("beta", "b", 3)) for k in range(1, n + 1)
}


@pytest.mark.parametrize("name", ["tanh", "swish", "gelu", "mish", "elu", "erf", "sin", "relu", "softplus", "hardtanh"])
def test_enclosures_contain_the_published_fifty_digits(name: str) -> None:
    found = certify(DEQ({"hardtanh": "hard_tanh"}.get(name, name)), 1, 40)
    assert found.count.number == 1
    for ours, theirs in _NAMES.items():
        reference = REFERENCE[name][theirs]
        with precision(250):
            value = arb(reference["mid"])
            # |reference - true| <= rad + half a unit of the 50th digit
            slack = arb(reference["rad"]) + abs(value) * arb("1e-49")
            ball = found.enclosures[ours]
            assert (ball + arb(0, slack.upper())).contains(value), ours
            assert ball.rad() <= abs(value) * arb("1e-40") or value == 0


def test_a_hundred_digits_agree_with_the_solver() -> None:
    found, solution = certify(DEQ("tanh"), 1, 100), solve(DEQ("tanh"), 1, 100)
    for name in ("tau", "alpha1", "beta1", "kappa2"):
        low, high = ball_ends(found.enclosures[name])
        value = Fraction(solution.to_dict()[name])
        assert low - value * Fraction(1, 10**99) < value < high + value * Fraction(1, 10**99)


@pytest.mark.parametrize("trained", ["a", "aA", "aAB"])
def test_each_trained_group_agrees_with_the_solver(trained: str) -> None:
    found, solution = certify(DEQ("silu"), 1, 15, trained), solve(DEQ("silu"), 1, 15, trained)
    for name, ball in found.enclosures.items():
        assert math.isclose(float(ball.mid()), getattr(solution, name), rel_tol=2e-13), name


def test_balls_become_decimals_that_contain_them() -> None:
    with precision(200):
        balls = [arb(1) / 3, arb(2).sqrt() * 10**20, -arb.pi() / 10**30, arb(0), arb(1, 0.25), arb(0, 1e-40), arb(3)]
        for ball in balls:
            again = from_record(to_record(ball), "test")
            assert again.contains(ball)
            assert again.rad() <= 2 * ball.rad() + abs(ball.mid()) * arb("1e-35")


# -- stability -------------------------------------------------------------------------------------------------------


def test_chaos_refuses_the_ntk_with_the_number() -> None:
    found = certify(DEQ("sin(3*x)+x"))
    assert found.coefficients is not None
    assert found.coefficients.stability["chaos"].holds is False
    assert "kappa2" not in found.enclosures
    assert "alpha3" in found.enclosures
    assert "1.107" in found.coefficients.refused["kappa2"]


def test_jumps_have_no_ntk_and_no_lipschitz_bound() -> None:
    # the derivative of x/abs(x) between its breakpoints is 0
    for text in ("sign", "x/abs(x)"):
        assert not is_continuous(function(text))
        with pytest.raises(UncertifiedError, match="continuous"):
            bound_by("lipschitz", function(text), Fraction(1, 2), Fraction(1, 2))
        found = certify(DEQ(text, "1/2", "1/2"))
        assert set(found.enclosures) == {"tau", "q", "gamma2", "lambda1", "alpha1", "alpha2", "alpha3", "alpha4"}
        assert float(found.points[0].q.mid()) == pytest.approx(1.0, abs=1e-15)


def test_a_vanishing_sigma_a2_leaves_the_input() -> None:
    found = certify(DEQ("gelu", 0, "4/5"), "1/2")
    assert found.count.number == 1
    with precision(64):
        assert found.points[0].q.overlaps(arb(1) / 5)


# -- bounds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "slopes", "radius"),
    [
        ("relu", (0, 1), 0.0),
        ("softplus", (0, 1), math.log(2) / 2),
        ("tanh", (0, 0), 1.0),
        ("x*tanh(x)", (-1, 1), 0.1392),
        ("softshrink", (1, 1), 0.5),
        ("sin(3*x)+x", (1, 1), 1.0),
        ("softsign", (0, 0), 1.0),
        ("hard_swish", (0, 1), 0.1875),
    ],
)
def test_asymptotes_are_found(text: str, slopes: tuple[int, int], radius: float) -> None:
    with precision(64):
        found = asymptotics(function(text))
    assert found.slopes == slopes
    assert radius * (1 - 1e-3) <= float(found.R) <= radius * (1 + 1e-2)


@pytest.mark.parametrize("text", ["x**2", "exp(x)", "x*sin(x)", "asinh(x)", "sqrt(abs(x))"])
def test_what_has_no_affine_asymptotes_gets_none(text: str) -> None:
    with precision(64), pytest.raises(UncertifiedError, match="affine"):
        asymptotics(function(text))


def test_the_remainder_beyond_the_start_is_enclosed() -> None:
    with precision(64):
        found = asymptote(function("silu").pieces[-1].program, 1, arb(8))
        assert found is not None
        assert (found.slope, found.offset) == (1, 0)
        low, high = found.deviation()
        for y in (8, 9, 12, 40):
            exact = -arb(y) / (1 + arb(y).exp())
            assert low <= exact <= high


@pytest.mark.parametrize(("text", "low", "high"), [("sin", -1, 1), ("gaussian", 0, 1), ("sigmoid", 0, 1)])
def test_ranges_are_tight_and_outward(text: str, low: float, high: float) -> None:
    with precision(64):
        found = value_range(function(text), affine_ends(function(text)), (sp.S.Zero, sp.S.Zero))
    assert low - 1e-3 <= float(found.low) <= low
    assert high <= float(found.high) <= high + 1e-3


@pytest.mark.parametrize(("text", "largest"), [("tanh(50*x)", 50), ("gelu", 1.12890), ("hard_swish", 1.5), ("sin", 1)])
def test_slopes_are_bounded(text: str, largest: float) -> None:
    with precision(64):
        found = slope_range(function(text), affine_ends(function(text)))
    assert largest <= float(found.magnitude) * (1 + 1e-5)
    assert float(found.magnitude) <= largest * (1 + 1e-3)


@pytest.mark.parametrize("text", ["tanh", "silu", "hard_tanh", "5*where(abs(x)>2,1,0)", "softplus", "sin(3*x)+x"])
def test_bounds_hold_at_the_fixed_points(text: str) -> None:
    deq = DEQ(text, "1/5", "4/5")
    bound, _ = best_bound(function(text), deq.sigma_a2, Fraction(4, 5))
    for point in certify(deq).points:
        assert bound.upper is not None
        assert point.q <= bound.upper


def test_the_critical_slope_is_decided_exactly() -> None:
    # sigma_a2 v = 1 exactly: T(q) = q + b
    assert certify(DEQ("3*x", "1/9", 1)).count.number == 0


# -- shape -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        *("tanh", "erf", "sigmoid", "arctan", "hard_tanh", "softsign", "elu", "selu", "relu", "leaky_relu", "asinh"),
        *("lecun_tanh", "normal_cdf", "hard_sigmoid", "relu6", "identity", "sign", "heaviside", "celu", "abs"),
        *("-tanh(x)", "tanh(x)+x/2", "abs(tanh(x))", "log(1+abs(x))", "hard_tanh(x,-2,1)", "asinh(tanh(x)+x)"),
    ],
)
def test_the_shape_is_proved(text: str) -> None:
    assert monotone_shape(function(text)).holds


@pytest.mark.parametrize(
    "text",
    [
        *("silu", "gelu", "mish", "softplus", "cos", "sin", "gaussian", "exp", "square", "cube", "log_cosh", "snake"),
        *("squared_relu", "softshrink", "hard_shrink", "hard_swish", "tanhshrink", "hard_tanh(x,1,2)", "tanh(x-1)"),
        *("leaky_relu(x,-0.1)", "sigmoid(x)+where(x>1,1,0)", "tanh(x)-where(x>0,1,0)", "5*where(abs(x)>2,1,0)"),
    ],
)
def test_the_shape_is_never_proved_wrongly(text: str) -> None:
    assert not monotone_shape(function(text)).holds


@pytest.mark.parametrize("text", ["tanh", "elu", "softsign", "abs(tanh(x))", "tanh(x)+where(x>0,1,0)", "relu6"])
def test_the_conclusion_of_the_shape_theorem(text: str) -> None:
    equation = Equation(activation(text), Fraction(1), Fraction(1), Fraction(1))
    ratios = []
    with precision(64):
        for q in (0.01, 0.3, 1.0, 4.0, 50.0):
            value, _ = equation.at(arb(q), 40)
            ratios.append((arb(q) - value - 1) / arb(q))  # V/q
        assert all(not later > earlier for earlier, later in itertools.pairwise(ratios))


# -- boxes -----------------------------------------------------------------------------------------------------------


def test_runs_count_by_signs_at_their_ends() -> None:
    boxes = (Box(1.0, 2.0, RISING), Box(2.0, 3.0, RISING), Box(3.0, 4.0, FALLING))
    runs = runs_of(boxes, lambda q: {3.0: 1}[q], -1, -1)
    assert [(run.lower, run.upper, run.zeros) for run in runs] == [(1.0, 3.0, 1), (3.0, 4.0, 1)]
    unknown = runs_of(boxes, lambda q: 0, -1, -1)
    assert [run.zeros for run in unknown] == [None, None]


def test_zeros_are_sharpened_to_many_digits() -> None:
    equation = Equation(activation("relu"), Fraction(1, 5), Fraction(4, 5), Fraction(1))
    zero = isolate_zero(equation, 0.8, 1.0, True)
    q = sharpen(equation, zero, 1000)
    with precision(1100):
        exact = (arb(4) / 5) / (1 - (1 - 1 / arb.pi()) / 10)  # V = q (1 - 1/pi)/2
        assert q.contains(exact)
        assert q.rad() < arb(2) ** -990


def test_a_zero_outside_its_bracket_is_not_enclosed() -> None:
    equation = Equation(activation("relu"), Fraction(1, 5), Fraction(4, 5), Fraction(1))
    with pytest.raises(UncertifiedError, match="could not be enclosed"):
        isolate_zero(equation, 0.9, 1.0, True)


def test_a_zero_between_the_nodes_of_float64_is_enclosed() -> None:
    # a spike: phi = e^(-c (x-1)^2) has E phi^k = (1 + 2 k c q)^(-1/2) e^(-k c/(1 + 2 k c q))
    equation = Equation(activation("exp(-1e6*(x-1)**2)"), Fraction(4), Fraction(1, 10), Fraction(1))
    q = isolate_zero(equation, equation.floor, 0.2, True).q
    assert q.rel_accuracy_bits() > 50
    with precision(128):
        first, second = (
            (-k * arb(10**6) / (1 + 2 * k * 10**6 * q)).exp() / (1 + 2 * k * 10**6 * q).sqrt() for k in (1, 2)
        )
        assert (4 * (second - first**2) + arb(1) / 10 - q).contains(0)


def test_a_constant_that_costs_float64_all_digits_costs_no_zero() -> None:
    found, plain = (certify(DEQ(text, "1/2", "1/2")).points for text in ("tanh(x)+1e30", "tanh"))
    assert [point.stable for point in found] == [True]
    assert found[0].q.rel_accuracy_bits() > 50
    assert found[0].q.overlaps(plain[0].q)


# -- the budget ------------------------------------------------------------------------------------------------------


def test_a_certificate_ends_within_its_budget() -> None:
    # poles 0.1 off the line: a box takes a third of a second, a decided count twelve
    before = time.thread_time()
    found = certify(DEQ("(-0.3 + x)/(1 + (x/(0.1 + x**2))**2)", "0.9", "0.8"), "2", seconds=1.0)
    assert time.thread_time() - before < 4
    assert found.count.number is None
    assert not found.count.complete
    assert found.count.uniqueness.endswith("the budget ran out, of 800 boxes or of time")
    assert check_certificate(found.to_dict()).passed


def test_what_there_is_no_time_for_is_refused_and_the_count_kept() -> None:
    found = certify(DEQ("gelu"), 1, 1000, seconds=0.5)
    assert found.count.number == 1
    assert found.enclosures == {}
    assert found.coefficients is not None
    assert set(found.coefficients.refused) == set(COEFFICIENTS)
    assert all("ran out" in reason for reason in found.coefficients.refused.values())
    assert check_certificate(found.to_dict()).passed


def test_a_zero_that_newton_does_not_reach_is_bracketed_by_signs() -> None:
    equation = Equation(activation("relu"), Fraction(1, 5), Fraction(4, 5), Fraction(1))
    exact = 0.8 / (1 - (1 - 1 / math.pi) / 10)
    narrow = bracket_zero(equation, 0.8, 1.0, True, Budget(10))
    assert float(narrow.lower()) < exact < float(narrow.upper()) < float(narrow.lower()) * (1 + 2.0**-19)
    spent = bracket_zero(equation, 0.8, 1.0, True, Budget(0))
    assert spent.contains(arb("0.80001"))
    assert spent.contains(arb("0.99999"))


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [{"digits": 0}, {"digits": 1001}, {"trained": "b"}, {"tau0": "-1"}, {"tau0": 0}, {"seconds": 0}]
)
def test_bad_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        certify(DEQ("tanh"), **arguments)


def test_extreme_scales_are_refused() -> None:
    with pytest.raises(UncertifiedError, match="rescale"):
        certify(DEQ("silu", "1/5", "4/5"), "1e-150")


def test_balls_of_unreasonable_size_are_recorded_as_nothing_or_as_small() -> None:
    """erf(1e8 x): engines gave up on d1 and v with exponents of a billion, whose decimals would fill the memory."""
    with precision(64):
        assert not is_recordable(arb((1, 900_000_000)))
        record = to_record(arb(arb((1, -900_000_000)), arb((1, -800_000_000))))
        assert from_record(record, "ball").contains(arb((1, -900_000_000)))
    record = certify(DEQ("erf(1e8*x)", "1/2", "1/2"), trained="a").to_dict()
    assert record["stability"]["norm"]["holds"] is True
    assert "alpha1" in record["refused"]
