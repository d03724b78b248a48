"""The four equations against certified reference values, and against the exact kernel they expand."""

from __future__ import annotations

import functools
import json
from fractions import Fraction
from pathlib import Path

import mpmath
import pytest
import sympy as sp

from equikernel.errors import InputError, NoFixedPointError, UnstableError
from equikernel.numerics.dual import pair_duals
from equikernel.numerics.explicit import explicit_coefficients
from equikernel.numerics.moments import gaussian_moments
from equikernel.numerics.solve import solve
from equikernel.theory.activation import activation
from equikernel.theory.equations import explicit_input, explicit_layer
from equikernel.theory.models import DEQ, ExplicitNetwork, exact_number

REFERENCE = json.loads((Path(__file__).parents[1] / "data" / "reference.json").read_text())["values"]
FIELDS = {
    "tau": "tau",
    "gamma2": "V",
    "lambda1": "lambda1",
    "alpha1": "a1",
    "alpha2": "a2",
    "alpha3": "a3",
    "alpha4": "a4",
    "beta1": "b1",
    "beta2": "b2",
    "beta3": "b3",
    "kappa2": "kappa2",
}
DEFAULT = {"sigma_a2": "0.2", "sigma_b2": "0.8"}


@pytest.mark.parametrize("digits", [15, 50])
@pytest.mark.parametrize("name", REFERENCE)
def test_reference_values(name, digits):
    solution = solve(DEQ(name, **DEFAULT), 1, digits)
    assert solution.status == "solved"
    assert solution.residual < 10.0 ** -(digits - 1)
    for field, key in FIELDS.items():
        reference = REFERENCE[name][key]
        with mpmath.workdps(70):
            truth, got = mpmath.mpf(reference["mid"]), mpmath.mpf(getattr(solution, field))
            if reference["exact_zero"]:
                assert got == 0
                continue
            # the reference itself is rounded to 50 digits
            allowed = 4e-15 if digits == 15 else mpmath.mpf(10) ** -49
            assert abs(got - truth) <= allowed * abs(truth), field


@pytest.mark.parametrize("name", ["elu", "softplus"])
def test_coefficients_are_derivatives_of_the_exact_kernel(name):
    """alpha_1, alpha_4 and alpha_3, alpha_2 from finite differences of the pair equation around (q*, 0)."""
    deq = DEQ(name, **DEFAULT)
    s = solve(deq, trained="aAB")
    act, a2, b2 = deq.activation, 0.2, 0.8
    centre = gaussian_moments(act, s.tau).mean.value

    @functools.cache
    def kernel(product, chi_i, chi_j):
        q = [s.q, s.q]
        for side, chi in enumerate((chi_i, chi_j)):
            for _ in range(16):
                q[side] = a2 * pair_duals(act, centre, q[side], q[side], 1.0)[0] + b2 * (1 + chi)
        r, scale = 0.0, (q[0] * q[1]) ** 0.5
        for _ in range(16):
            G, slope = pair_duals(act, centre, q[0], q[1], r)
            r = (a2 * G + b2 * product) / scale
        K = {"aA": G / (1 - a2 * slope), "aAB": (G + b2 * product * slope) / (1 - a2 * slope)}
        return q[0], G, K

    e = 0.02

    def odd(f):  # first derivative, error O(e^4)
        return (8 * (f(e) - f(-e)) - (f(2 * e) - f(-2 * e))) / (12 * e)

    def even(f):  # half the second derivative, error O(e^4)
        return (16 * (f(e) + f(-e)) - (f(2 * e) + f(-2 * e)) - 30 * f(0.0)) / (24 * e * e)

    assert odd(lambda t: kernel(0.0, t, 0.0)[0]) == pytest.approx(s.alpha4, rel=2e-5)
    assert odd(lambda t: kernel(t, 0.0, 0.0)[1]) == pytest.approx(s.alpha1, rel=1e-4)
    assert even(lambda t: kernel(t, 0.0, 0.0)[1]) == pytest.approx(s.alpha3, rel=1e-3)
    mixed = (kernel(0, e, e)[1] - kernel(0, e, -e)[1] - kernel(0, -e, e)[1] + kernel(0, -e, -e)[1]) / (4 * e * e)
    assert mixed == pytest.approx(s.alpha2, rel=2e-2)
    assert odd(lambda t: kernel(t, 0.0, 0.0)[2]["aAB"]) == pytest.approx(s.beta1, rel=1e-3)
    assert even(lambda t: kernel(t, 0.0, 0.0)[2]["aAB"]) == pytest.approx(s.beta3, rel=1e-2)
    aA = solve(deq, trained="aA")
    assert odd(lambda t: kernel(t, 0.0, 0.0)[2]["aA"]) == pytest.approx(aA.beta1, rel=1e-3)
    assert even(lambda t: kernel(t, 0.0, 0.0)[2]["aA"]) == pytest.approx(aA.beta3, rel=1e-2)


def test_trained_readout_alone_has_the_conjugate_kernel():
    s = solve(DEQ("gelu", **DEFAULT), trained="a")
    assert (s.beta1, s.beta2, s.beta3, s.kappa2) == (s.alpha1, s.alpha2, s.alpha3, s.gamma2)


def test_sigma_a2_zero_is_one_explicit_layer():
    s = solve(DEQ("gelu", 0, 1), trained="aAB")
    layer = explicit_coefficients(ExplicitNetwork.of("gelu"))
    for name in ("alpha1", "alpha2", "alpha3", "beta1", "beta2", "beta3", "kappa2"):
        assert getattr(s, name) == pytest.approx(getattr(layer, name), rel=1e-14)


def test_explicit_recursion_of_deep_relu():
    # relu is homogeneous: each layer multiplies alpha1 and h as powers
    c = 0.5 - 1 / (2 * 3.141592653589793)
    deep = explicit_coefficients(ExplicitNetwork.of("relu", "relu", "relu", tau0=1.5))
    assert deep.alpha1 == pytest.approx(0.25**3, rel=1e-14)
    assert deep.alpha4 == pytest.approx(c**3, rel=1e-13)
    assert deep.tau2 == pytest.approx(2.25 * c**3, rel=1e-13)
    assert deep.beta1 == pytest.approx(4 * 0.25**3, rel=1e-14)


def test_explicit_recursion_runs_on_symbols_and_many_digits():
    V, d1, d2, h, v, t = sp.symbols("V d1 d2 h v t", positive=True)
    state = explicit_layer(explicit_input(t), V, d1, d2, h, v)
    assert sp.simplify(state.alpha2 / state.alpha3) == sp.Rational(1, 2)  # depth one forces alpha2 = alpha3/2
    net = ExplicitNetwork.of("gelu", "tanh")
    fine, coarse = explicit_coefficients(net, 40), explicit_coefficients(net)
    assert float(fine.beta3) == pytest.approx(coarse.beta3, rel=1e-13)


def test_no_fixed_point():
    with pytest.raises(NoFixedPointError, match="no fixed point") as caught:
        solve(DEQ("2*x", "0.3", "0.7"))
    assert caught.value.exit_code == 3
    failed = solve(DEQ("2*x", "0.3", "0.7"), throw=False)
    assert not failed.solved
    assert failed.tau is None
    assert "no fixed point" in failed.to_dict()["status"]


def test_several_fixed_points_are_named():
    s = solve(DEQ("5*where(abs(x) > 2, 1, 0)", "0.9", "0.1"), trained="a")
    assert len(s.other_fixed_points) == 2
    assert s.q < min(p.q for p in s.other_fixed_points)
    assert [p["stable"] for p in s.to_dict()["other_fixed_points"]] == [False, True]


def test_chaotic_phase_refuses_the_ntk_and_says_why():
    deq = DEQ("sin(3*x) + x", **DEFAULT)
    with pytest.raises(UnstableError, match=r"sigma_a2\*v = 1\.107"):
        solve(deq)
    assert solve(deq, trained="a").solved
    partial = solve(deq, throw=False)
    assert partial.kappa2 is None
    assert partial.alpha1 is not None


def test_jumps_have_no_ntk():
    with pytest.raises(InputError, match="jumps at x = 0") as caught:
        solve(DEQ("sign", **DEFAULT))
    assert caught.value.exit_code == 2
    assert solve(DEQ("sign", **DEFAULT), trained="a").gamma2 == pytest.approx(1.0, rel=1e-14)


@pytest.mark.parametrize(
    "change",
    [
        {"sigma_a2": -0.1},
        {"sigma_a2": float("nan")},
        {"sigma_b2": float("inf")},
        {"sigma_b2": 0},
        {"sigma_b2": "one"},
        {"sigma_a2": True},
        {"sigma_a2": "1/0"},
        {"sigma_a2": "1e9999"},
    ],
    ids=str,
)
def test_bad_sigmas(change):
    with pytest.raises(InputError, match=r"must be a .* finite number; got"):
        DEQ("relu", **{**DEFAULT, **change})


def test_bad_arguments_of_solve():
    deq = DEQ("relu", **DEFAULT)
    for bad in ({"tau0": 0}, {"tau0": -1}, {"digits": 0}, {"digits": 2000}, {"digits": 1.5}, {"trained": "B"}):
        with pytest.raises(InputError):
            solve(deq, **bad)


def test_numbers_are_the_decimals_they_print_as():
    assert exact_number(0.2, "x") == Fraction(1, 5)
    assert exact_number("1/5", "x") == exact_number("0.2", "x") == exact_number(sp.Rational(1, 5), "x")
    assert exact_number("2e-3", "x") == Fraction(1, 500)
    assert DEQ("relu", 0.2, 0.8) == DEQ("relu", "1/5", "4/5")


def test_export():
    s = solve(DEQ("gelu", **DEFAULT), digits=30)
    exported = json.loads(json.dumps(s.to_dict()))
    assert len(exported["tau"].replace(".", "").lstrip("0")) == 30
    assert isinstance(solve(DEQ("gelu", **DEFAULT)).to_dict()["tau"], float)
    assert exported["moments"]["V"]["provenance"].startswith("ball enclosure")
    latex = s.to_latex()
    assert latex.startswith(r"\begin{tabular}")
    assert r"$\kappa^2$" in latex


def test_residual_below_the_floats_is_not_zero():
    """Beyond 300 digits a float would underflow to 0 and claim too much."""
    s = solve(DEQ("tanh", **DEFAULT), digits=320)
    assert 0 < s.residual < mpmath.mpf(10) ** -325
    assert mpmath.mpf(s.to_dict()["residual"]) > 0


def test_features_narrower_than_the_quadrature_are_not_overlooked():
    """A spike of width 1e-3 between the nodes: float64 sees only gelu; enclosures contradict it and take over."""
    spiked = DEQ("gelu(x)+100*exp(-1e6*(x-1)**2)")
    moments = gaussian_moments(spiked.activation, 1.0)
    assert moments.V.value == pytest.approx(3.4244283124550314, rel=1e-13)
    assert "ball enclosure" in moments.V.provenance
    s = solve(spiked, trained="a")
    assert s.q == pytest.approx(1.49807936740756891, rel=1e-14)  # mpmath.quad split at the spike: F = 0 to 1e-20
    assert s.residual < 1e-13


def test_breakpoints_that_are_not_proved_are_said():
    act = activation("x + where(2 + tanh(x) - 4/(1+1e12*(x-0.3)**2) < 0, 1e6, 0)")
    assert "breakpoints not proved" in gaussian_moments(act, 1.0).V.provenance
