"""Where DEQs at initialisation stop being stable: critical sigma, the edge of J, and every refusal."""

from __future__ import annotations

import math
from fractions import Fraction

import mpmath
import pytest

from equikernel.errors import DataError, EquikernelError, InputError, NoFixedPointError, UnstableError
from equikernel.numerics.initialisation import (
    InputLaw,
    critical_sigma,
    haar_length_statistics,
    linear_depth_error,
    linear_deq,
    mean_field,
)
from equikernel.numerics.initialisation.edge import goe_edge
from equikernel.numerics.initialisation.precision import Precision
from equikernel.numerics.initialisation.response import ResponseProblem, goe_transform, solve_response
from equikernel.theory.activation import activation
from equikernel.theory.initialisation_scales import scale_of

STANDARD = InputLaw.gaussian()


def printed(value, text):
    """The value rounds to the printed decimal."""
    places = len(text.split(".")[1])
    assert abs(mpmath.mpf(value) - mpmath.mpf(text)) <= mpmath.mpf("0.5000001") * mpmath.mpf(10) ** -places, text


@pytest.mark.parametrize(("family", "text"), [("iid", "2.537316"), ("goe", "1.337034")])
def test_oracles_of_the_critical_sigma(family, text):
    critical = critical_sigma("tanh", family, STANDARD)
    printed(critical.sigma, text)
    assert critical.kind == "instability"
    assert critical.lower <= critical.sigma <= critical.upper


@pytest.mark.parametrize(
    ("name", "family", "truth"),
    [
        ("relu", "iid", math.sqrt(2)),
        ("relu", "orthogonal", math.sqrt(2)),
        ("relu", "goe", math.sqrt(0.5)),
        ("x", "iid", 1.0),
        ("x", "goe", 0.5),
        ("2*x", "goe", 0.25),
        ("1000*x", "iid", 0.001),
    ],
)
def test_critical_sigma_in_closed_form(name, family, truth):
    assert critical_sigma(name, family, STANDARD).sigma == pytest.approx(truth, rel=1e-12)


@pytest.mark.parametrize("name", ["tanh", "gelu", "softplus", "relu"])
def test_edge_is_certified_and_one_where_stability_ends(name):
    phi, plain = activation(name), Precision()
    point = solve_response(ResponseProblem(phi, goe_transform(0.25), STANDARD), plain)
    edge = goe_edge(phi, 0.25, point, STANDARD, plain)
    assert edge.lower <= edge.value * (1 + 1e-13)
    assert edge.value <= edge.upper * (1 + 1e-13)
    assert edge.upper - edge.lower < 1e-12
    assert (edge.value < 1) == (point.replicon < 1)
    critical = critical_sigma(name, "goe", STANDARD)
    if critical.kind == "instability":
        found = mean_field(name, "goe", critical.sigma * (1 - 1e-9), STANDARD)
        assert found.stability == pytest.approx(1, abs=1e-5)
        assert found.radius == pytest.approx(1, abs=1e-5)


def test_edge_where_the_slope_averages_to_zero():
    """Cos with symmetric x: chi = 0, and J has the circular law's radius."""
    found = mean_field("cos", "goe", "0.5", STANDARD)
    assert abs(found.chi) < 1e-14
    assert found.radius == pytest.approx(math.sqrt(found.stability), rel=1e-12)
    independent = mean_field("cos", "iid", "0.5", STANDARD)
    assert found.mean_square == pytest.approx(independent.mean_square, rel=1e-12)


def test_unstable_fixed_points_are_returned_on_request():
    found = mean_field("tanh", "iid", 3, STANDARD, throw=False)
    assert (found.status, found.stable, found.tangent_length, found.length_noise) == ("unstable", False, None, None)
    assert found.chi > 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: mean_field("tanh", "iid", 3, STANDARD), UnstableError, "critical sigma is 2.537316"),
        (lambda: mean_field("tanh", "goe", "1.4", STANDARD), UnstableError, "critical sigma is 1.337034"),
        (lambda: mean_field("relu", "iid", math.sqrt(2), STANDARD), NoFixedPointError, "critical sigma is 1.414214"),
        (lambda: mean_field("relu", "goe", "0.71", STANDARD), NoFixedPointError, "critical sigma is 0.7071068"),
        (lambda: mean_field("x", "goe", "0.5", STANDARD), NoFixedPointError, "critical sigma is 0.5"),
        (lambda: mean_field("x", "iid", 1, STANDARD), NoFixedPointError, "critical sigma is 1"),
        (lambda: mean_field("exp(x)", "iid", "0.5", STANDARD), NoFixedPointError, "critical sigma is 0.373138"),
        (lambda: mean_field("tanh", "wigner", "0.5", STANDARD), InputError, "unknown weight family"),
        (lambda: mean_field("tanh", "goe", "0.5", InputLaw.constant(0)), InputError, "x = 0"),
        (lambda: mean_field("tanh", "iid", "0.5", InputLaw.constant(0)), InputError, "x = 0"),
        (lambda: mean_field("tanh", "iid", 0, InputLaw.constant(0)), InputError, "x = 0"),
        (lambda: mean_field("tanh", "iid", -1, STANDARD), InputError, "sigma must be"),
        (lambda: mean_field("sign", "iid", "0.5", STANDARD), UnstableError, "is infinite"),
        (lambda: mean_field("x**2", "goe", "0.1", STANDARD), InputError, "bounded slope"),
        (lambda: linear_deq("goe", "0.5"), UnstableError, "critical sigma is 0.5"),
        (lambda: linear_deq("orthogonal", 1), UnstableError, "critical sigma is 1"),
        (lambda: linear_deq("iid", "0.5", size=1), InputError, "N = 1"),
        (lambda: linear_deq("orthogonal", "0.5", size=1), InputError, "haar_length_statistics"),
        (lambda: linear_depth_error("goe", "0.4", -1), InputError, "non-negative integer"),
        (lambda: haar_length_statistics(0, "0.5"), InputError, "N >= 1"),
        (lambda: InputLaw.sample([]), DataError, "at least one"),
        (lambda: InputLaw.sample([1.0, math.nan]), DataError, "not finite"),
        (lambda: InputLaw.gaussian(-1), InputError, "variance of x"),
        (lambda: STANDARD.moment(5), InputError, "fourth"),
    ],
)
def test_refusals_are_one_sentence(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert isinstance(caught.value, EquikernelError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "truth"), [("relu", math.sqrt(0.5)), ("leaky_relu", None), ("x", 0.5), ("abs(x)", 1.0)]
)
@pytest.mark.parametrize("size", ["0.133352", "1", "3.16228"])
def test_critical_sigma_does_not_depend_on_the_size_of_x_if_phi_is_homogeneous(name, truth, size):
    """R and kappa only tend to 1 as q does to infinity, where rounding decides on which side of 1 they are."""
    found = critical_sigma(name, "goe", InputLaw.gaussian(Fraction(size) ** 2))
    expected = critical_sigma(name, "goe", STANDARD).sigma if truth is None else truth
    assert found.sigma == pytest.approx(expected, rel=1e-12)
    assert found.kind == "no fixed point"


def test_critical_sigma_of_a_steep_activation():
    """Nearly a jump: E phi'^2 is large, and the critical sigma far below the 2.5 of tanh."""
    critical = critical_sigma("tanh(1e4*x)", "iid", STANDARD)
    assert 0 < critical.sigma < 0.01
    assert mean_field("tanh(1e4*x)", "iid", critical.sigma * 0.999, STANDARD).chi == pytest.approx(1, abs=0.01)


def test_operator_norm_above_one_does_not_matter():
    """Sigma = 0.7: iid weights of radius 0.7 and operator norm 1.4."""
    assert scale_of("iid", "operator_norm", 0.7) > 1
    found = mean_field("x", "iid", "0.7", STANDARD)
    assert found.stable
    assert found.mean_square == pytest.approx(1 / 0.51, rel=1e-12)
