"""Derivatives against central differences of the many-digit solver, and against derivatives known in closed form."""

from __future__ import annotations

import json
from fractions import Fraction

import mpmath
import pytest
import sympy as sp

from equikernel.errors import InputError, NoFixedPointError
from equikernel.numerics.higher_moments import moment_derivatives
from equikernel.numerics.moments import gaussian_moments
from equikernel.numerics.sensitivities import sensitivities
from equikernel.numerics.solve import COEFFICIENTS, solve
from equikernel.numerics.symbolic import equations
from equikernel.theory.activation import activation
from equikernel.theory.models import DEQ
from equikernel.theory.multiprecision import mp_arithmetic, sympy_to_mpf
from equikernel.theory.sensitivities import PARAMETERS

POINT = {"sigma_a2": Fraction(1, 5), "sigma_b2": Fraction(4, 5), "tau0": Fraction(9, 10)}
STEP = Fraction(1, 10**10)
DIGITS = 30


def solved(name: str, trained: str, point: dict[str, Fraction]):
    return solve(DEQ(name, point["sigma_a2"], point["sigma_b2"]), point["tau0"], DIGITS, trained)


@pytest.mark.parametrize(
    ("name", "trained", "directions"),
    [
        ("gelu", "aAB", [("sigma_a2",), ("sigma_b2",), ("tau0",)]),
        ("elu", "aA", [PARAMETERS]),
        ("x/2 + where(x < 1/3, 0, 1)", "a", [PARAMETERS]),
    ],
)
def test_against_finite_differences_of_the_solver(name: str, trained: str, directions: list[tuple[str, ...]]) -> None:
    """Central differences with step e: truncation e^2 C'''/6, rounding 10^-30/e: a few times 10^-20."""
    found = sensitivities(DEQ(name, POINT["sigma_a2"], POINT["sigma_b2"]), POINT["tau0"], 15, trained)
    step = mpmath.mpf(STEP.numerator) / STEP.denominator
    for moved in directions:
        above, below = (solved(name, trained, POINT | {p: POINT[p] + sign * STEP for p in moved}) for sign in (1, -1))
        for coefficient in COEFFICIENTS:
            with mpmath.workdps(DIGITS + 10):
                difference = float((getattr(above, coefficient) - getattr(below, coefficient)) / (2 * step))
            derivatives = [found.table[coefficient][p] for p in moved]
            allowed = sum(d.error for d in derivatives) + 4e-16 * sum(abs(d.value) for d in derivatives) + 1e-17
            assert abs(sum(d.value for d in derivatives) - difference) <= allowed, (coefficient, moved)
            assert all(d.error <= 1e-14 * max(1.0, abs(d.value)) for d in derivatives)


def test_digits_agree() -> None:
    coarse, fine = (sensitivities(DEQ("swish"), 1, digits, "aAB").table for digits in (15, 30))
    for name in COEFFICIENTS:
        for parameter in PARAMETERS:
            a, b = (t[name][parameter] for t in (coarse, fine))
            assert abs(a.value - b.value) <= a.error + b.error, (name, parameter)
            assert b.error <= 1e-27 * max(1.0, float(abs(b.value)))


@pytest.mark.parametrize("name", ["gelu", "erf", "elu", "hard_tanh", "cos", "relu", "x**3-x**2"])
def test_moment_derivatives_are_those_of_the_closed_forms(name: str) -> None:
    """SymPy's derivative in q of the closed forms in tau, at tau = 3/4: distributional terms of kinks included."""
    forms = equations(name)
    slopes = forms.moment_slopes | {"V_q": forms.moments["h"]}
    found = moment_derivatives(activation(name), Fraction(3, 4), 40)
    for moment in ("V", "d1", "d2", "h", "v"):
        slope = slopes[f"{moment}_q"].rhs.subs(sp.Symbol("tau", positive=True), sp.Rational(3, 4))
        exact = sympy_to_mpf(slope, mp_arithmetic(45))
        computed = found["h" if moment == "V" else f"{moment}_q"]
        with mpmath.workdps(45):
            assert abs(computed.value - exact) <= computed.error + mpmath.mpf(10) ** -34 * (1 + abs(exact)), moment


def test_first_moments_are_those_of_the_solver() -> None:
    found = moment_derivatives(activation("mish"), 1, 40)
    for name, moment in gaussian_moments(activation("mish"), 1, 30).items():
        if name != "mean":
            assert abs(found[name].value - moment.value) < 1e-29


def test_linear_network_by_hand() -> None:
    """phi = x: V = q, so q = sigma_b2 tau0^2/(1 - sigma_a2), lambda1 = alpha1 = alpha4 = sigma_b2/(1 - sigma_a2)."""
    table = sensitivities(DEQ("x"), "3/2", trained="aA").table
    a2, b2, tau0 = 0.2, 0.8, 1.5
    assert table["q"]["sigma_a2"].value == pytest.approx(b2 * tau0**2 / (1 - a2) ** 2, rel=1e-15)
    assert table["q"]["sigma_b2"].value == pytest.approx(tau0**2 / (1 - a2), rel=1e-15)
    assert table["q"]["tau0"].value == pytest.approx(2 * b2 * tau0 / (1 - a2), rel=1e-15)
    for name in ("lambda1", "alpha1", "alpha4"):
        assert table[name]["sigma_a2"].value == pytest.approx(b2 / (1 - a2) ** 2, rel=1e-15)
    assert table["beta1"]["sigma_b2"].value == pytest.approx(1 / (1 - a2) ** 2, rel=1e-15)
    assert table["kappa2"]["tau0"].value == pytest.approx(2 * b2 * tau0 / (1 - a2) ** 2, rel=1e-15)


def test_scaling_law_of_relu() -> None:
    """relu is homogeneous: tau is proportional to tau0, lambda1 and alpha1 do not depend on it, alpha2 ~ tau0^-2."""
    found = sensitivities(DEQ("relu"), 2, 15, "aAB")
    s = found.solution
    for name, power in {"tau": 1, "gamma2": 2, "alpha2": -2, "alpha3": -2, "beta3": -2, "kappa2": 2}.items():
        derivative = found.table[name]["tau0"]
        assert abs(derivative.value - power * getattr(s, name) / 2) <= 1e-14
    for name in ("lambda1", "alpha1", "alpha4", "beta1"):
        assert abs(found.table[name]["tau0"].value) <= found.table[name]["tau0"].error < 1e-27
        assert found.shown(name, "tau0") == "0"


def test_symmetry_gives_exact_zeros() -> None:
    odd = moment_derivatives(activation("tanh"), 1, 32)
    even = moment_derivatives(activation("cos"), 1, 32)
    assert (odd["d2_q"].value, odd["d2_q"].error, even["d1_q"].value, even["d1_q"].error) == (0, 0, 0, 0)
    assert "v_q" not in moment_derivatives(activation("sign"), 1, 32)


def test_record() -> None:
    found = sensitivities(DEQ("gelu"), digits=30)
    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    value = record["sensitivities"]["alpha1"]["sigma_a2"]["value"]
    # d1 = 1/2 whatever tau: alpha1 = sigma_b2/(4 - sigma_a2)
    assert value == mpmath.nstr(mpmath.mpf("0.8") / mpmath.mpf("3.8") ** 2, 17) or value.startswith(
        "0.0554016620498614"
    )
    assert r"$\partial/\partial \sigma_{a}^{2}$" in found.to_latex()
    assert set(record["sensitivities"]) == set(COEFFICIENTS)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((DEQ("sign"), 1, 15, "aA"), InputError, "neural tangent kernel"),
        ((DEQ("relu"), -1), InputError, "tau0"),
        ((DEQ("relu"), 1, 0), InputError, "digits"),
        ((DEQ("2*x", "0.3", "0.7"),), NoFixedPointError, "no fixed point"),
    ],
)
def test_errors(arguments: tuple, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        sensitivities(*arguments)
