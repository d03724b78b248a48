"""Verdicts on depth: relations forced on networks, known verdicts, and proofs that never contradict a network."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from flint import arb
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial import hermite_e

from equikernel.errors import InputError, NoFixedPointError, UnstableError
from equikernel.numerics.balls.context import precision
from equikernel.numerics.certificates.certificate import certify
from equikernel.numerics.designs.depth import chains, depth_table, minimal_depth
from equikernel.numerics.designs.depth.realisability import BITS, cuts_of
from equikernel.numerics.designs.depth.two_layers import Target, two_layers
from equikernel.numerics.explicit import explicit_coefficients
from equikernel.numerics.solve import solve
from equikernel.theory.equations import explicit_input, explicit_layer
from equikernel.theory.models import DEQ, ExplicitNetwork, Layer

ROUNDING = 1e-11  # relative: float64 recursions on moments good to 1e-13
SMOOTH = ("gelu", "silu", "elu", "softplus", "tanh(x)+0.3*cos(x)", "relu", "x+0.2*x**2", "abs", "x**3-x**2")
LAYERS = st.sampled_from(SMOOTH)
SCALES = st.sampled_from(("0.3", "1", "1.7"))
RATES = st.sampled_from((0.0, 0.1, 1.0, 3.0))


def network(layers, rates=()):
    """An explicit network of activations phi(scale x)."""
    texts = [text.replace("x", f"({scale}*x)") if "(" in text or "*" in text else text for text, scale in layers]
    net = ExplicitNetwork.of(*texts)
    return ExplicitNetwork(net.layers, 1.0, tuple(rates))


def ball(value):
    return arb(float(value), abs(float(value)) * ROUNDING)


def target_of(c, match):
    """The coefficients of an actual network as a target, rounding included."""
    names = ("alpha1", "alpha2", "alpha3", "tau2") if match == "ck" else ("beta1", "beta2", "beta3", "kappa2")
    e1, *rest = (getattr(c, name) for name in names)
    return Target(match, ball(e1) if e1 > ROUNDING else arb(0), *map(ball, rest))


def hermite_text(coefficients, scale=1.0):
    """The polynomial sum c_k he_k(x/scale) of orthonormal he_k, as text."""
    series = [0.0, *(float(c) / math.sqrt(math.factorial(k)) for k, c in enumerate(coefficients, 1))]
    powers = hermite_e.herme2poly(series)
    return "+".join(f"({float(a) / scale**k!r})*x**{k}" for k, a in enumerate(powers) if k and a).replace(
        "e-", "*10**-"
    )


def moments_of(c):
    """p, s, H, W and V from Hermite coefficients, by quadrature instead of the formulas under test."""
    x, w = hermite_e.hermegauss(60)
    w = w / w.sum()
    series = np.array([0.0, *(a / math.sqrt(math.factorial(k)) for k, a in enumerate(c, 1))])
    value, slope = hermite_e.hermeval(x, series), hermite_e.hermeval(x, hermite_e.hermeder(series))
    d1, d2 = w @ (x * value), w @ ((x**2 - 1) * value)
    return d1**2, d2**2, w @ ((x**2 - 1) * value**2) / 2, w @ slope**2, w @ value**2


# -- what networks force -----------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(LAYERS, SCALES, RATES)
def test_one_layer_forces_its_ratios(text, scale, rate):
    c = explicit_coefficients(network([(text, scale)], [rate]))
    assert c.alpha2 == pytest.approx(c.alpha3 / 2, rel=ROUNDING)
    assert c.beta1 == pytest.approx((1 + rate) * c.alpha1, rel=ROUNDING)
    assert c.beta3 == pytest.approx((2 + 4 * rate) * c.beta2, rel=ROUNDING)
    assert c.kappa2 >= (c.beta1 + c.beta3) * (1 - ROUNDING)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(LAYERS, SCALES, RATES), min_size=1, max_size=4))
def test_no_network_has_the_ratio_of_a_deq_in_beta3(layers):
    c = explicit_coefficients(network([layer[:2] for layer in layers], [layer[2] for layer in layers]))
    total = sum(layer[2] for layer in layers)
    assert c.beta1 == pytest.approx((1 + total) * c.alpha1, rel=ROUNDING, abs=1e-14)
    assert c.beta3 <= (1 + 2 * total) * c.alpha3 * (1 + ROUNDING) + 1e-14
    assert c.beta3 >= (1 + total) * c.alpha3 * (1 - ROUNDING)


@pytest.mark.parametrize("name", ["relu", "gelu", "elu", "square", "x+x**2"])
def test_a_deq_has_three_times_the_excess_and_more_than_two_terms(name):
    s = solve(DEQ(name, "0.05", "0.3"))
    excess = s.beta1 / s.alpha1 - 1 if s.alpha1 else 0.0
    assert s.beta3 == pytest.approx((1 + 3 * excess) * s.alpha3, rel=1e-12)
    assert s.gamma2 > s.alpha1 + s.alpha3
    assert s.kappa2 > s.beta1 + s.beta3


# -- realisability -----------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-2, 2), min_size=3, max_size=9), st.sampled_from((0, 1)), st.data())
def test_inequalities_hold_for_hermite_coefficients(c, w, data):
    cuts = cuts_of(w)
    cut = cuts.proved(data.draw(st.integers(0, cuts.eta.size - 1)))
    if cut is None:
        return
    p, s, H, W, V = moments_of(c)
    left = w * W + cut.eta * H + cut.lam * V
    right = float(cut.odd.lower()) * p + float(cut.even.lower()) * s / 2
    # quadrature: a thousand eps of the size of the terms
    size = W + abs(cut.eta) * (abs(H) + V) + abs(cut.lam) * V + abs(right)
    assert left >= right - 1e-12 * size


def test_bounds_of_the_slope_are_the_closed_forms():
    # elimination on odd functions: E[xi^2/((xi^2 - 1)/2 + lam)]^(-1), and the like on even ones of mean zero
    cuts, checked = cuts_of(0), 0
    for index in range(0, cuts.eta.size, 40):
        cut = cuts.proved(index)
        if cut is None:
            continue
        with precision(BITS):
            a = 2 * arb(cut.lam) - 1
            r = (arb.pi() / (2 * a)).sqrt() * (a / 2).exp() * (a / 2).sqrt().erfc()
            odd, even = 1 / (2 * (1 - a * r)), r / (r * (1 + a) - 1)
            assert cut.odd.lower() <= odd.upper()
            assert cut.even.lower() <= even.upper()
            if cut.lam > 1:  # where the tail of degree 60 is sharp
                assert float(cut.odd.lower()) == pytest.approx(float(odd.mid()), rel=1e-3)
                assert float(cut.even.lower()) == pytest.approx(float(even.mid()), rel=1e-3)
                checked += 1
    assert checked >= 3


@settings(max_examples=15, deadline=None)
@given(st.tuples(LAYERS, SCALES), st.tuples(LAYERS, SCALES), st.sampled_from(("ck", "ntk")))
def test_no_actual_network_of_two_layers_is_called_impossible(first, second, match):
    c = explicit_coefficients(network([first, second]))
    assert two_layers(target_of(c, match), boxes=300).possible is not False


EIGHTHS = st.integers(-8, 8).map(lambda n: n / 8)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(EIGHTHS, min_size=2, max_size=5),
    EIGHTHS.filter(bool),
    EIGHTHS.filter(bool),
    st.sampled_from(("ck", "ntk")),
)
def test_no_network_on_the_boundary_is_called_impossible(tail, c1, c2, match):
    # a second layer of degree 2 has the least diagonal there is
    first = np.array([0.625, *tail])
    state = explicit_input(1.0)
    for c in (first / np.linalg.norm(first), [c1, c2]):
        p, s, H, W, V = moments_of(c)
        state = explicit_layer(state, V, math.sqrt(p), math.sqrt(s), H, W)
    target = target_of(state, match)
    assert two_layers(target, boxes=150).possible is not False
    below = Target(match, target.e1, target.e2, target.e3, (target.e1 + target.e3) * 0.99)
    assert two_layers(below, boxes=150).possible is not True


@pytest.mark.parametrize(("name", "sigma_a2"), [("relu", "0.5"), ("relu", "0.8"), ("elu", "0.8"), ("cos", "0.2")])
def test_a_witness_satisfies_the_equations(name, sigma_a2):
    deq = DEQ(name, sigma_a2, 1 - Fraction(sigma_a2))
    s = solve(deq)
    e1, e2, e3 = (ball(x) if x else arb(0) for x in (s.beta1, s.beta2, s.beta3))
    found = two_layers(Target("ntk", e1, e2, e3, ball(s.kappa2)))
    assert found.possible is True
    c = dict(found.hermite)
    V = math.fsum(x * x for x in c.values())
    W = math.fsum(k * x * x for k, x in c.items()) / V
    cross = math.fsum(math.sqrt((k + 1) * (k + 2)) * x * c.get(k + 2, 0.0) for k, x in c.items())
    H = W + cross / V
    p, sq = c.get(1, 0.0) ** 2 / V, 2 * c.get(2, 0.0) ** 2 / V
    P = s.beta1 / (3 * p)
    S = (s.beta3 - 2 * P * sq) / (2.5 * p * p)
    assert 2 * P * sq + S * H * H == pytest.approx(4 * s.beta2, rel=1e-7)  # the path is 1e-9 long
    assert s.kappa2 >= P * (2 + W) + S * (1.5 + W)


# -- depths that are enough --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("match", "depth", "j"), [("ck", 3, 3), ("ntk", 3, 2), ("ntk", 4, 3)])
def test_a_chain_has_the_coefficients_it_promises(match, depth, j):
    s = solve(DEQ("elu", "0.5", "0.5"))
    ck = match == "ck"
    e1, e2, e3 = (s.alpha1, s.alpha2, s.alpha3) if ck else (s.beta1, s.beta2, s.beta3)
    diagonal = chains._diagonal((e1, e2, e3), match, depth, j)
    ratio = 2 * e2 / e3 * (1 if ck else (depth + 1 + j) / (depth - j + 1))
    x = ratio ** (0.5 / (j - 1))
    u = (math.sqrt(12 * x - 6) - math.sqrt(6)) / 6
    p = 1 / (1 + u * u)
    y, z = e1 / p ** (j - 1) / (1 if ck else depth + 1), 2 * e3 / p ** (2 * j - 2) / (1 if ck else depth + 1 + j)
    cubic = hermite_text([math.sqrt(p), 0, u * math.sqrt(p)])
    net = ExplicitNetwork.of(*[cubic] * (j - 1), hermite_text([math.sqrt(y), math.sqrt(z / 2)]), *["x"] * (depth - j))
    c = explicit_coefficients(net)
    found = (c.alpha1, c.alpha2, c.alpha3, c.tau2) if ck else (c.beta1, c.beta2, c.beta3, c.kappa2)
    assert found == pytest.approx((e1, e2, e3, diagonal), rel=1e-11)


@pytest.mark.parametrize("name", ["relu", "gelu", "elu"])
def test_one_layer_with_the_rate_of_the_verdict_has_the_ntk(name):
    s, verdict = solve(DEQ(name)), minimal_depth(DEQ(name), match="ntk", rates="free")
    rate = float(verdict.rate.mid())
    p, sq = s.beta1 / (1 + rate), 4 * s.beta2
    net = ExplicitNetwork.of(hermite_text([math.sqrt(p), math.sqrt(sq / 2)]))
    c = explicit_coefficients(ExplicitNetwork((Layer(net.layers[0].activation),), 1.0, (rate,)))
    assert (c.beta1, c.beta2, c.beta3) == pytest.approx((s.beta1, s.beta2, s.beta3), rel=1e-11)
    assert c.kappa2 < s.kappa2  # mass of high degree makes up for the rest
    assert (verdict.depth, verdict.proof) == (1, "certified")


# -- verdicts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("match", ["ck", "ntk"])
@pytest.mark.parametrize("name", ["tanh", "sigmoid", "hard_tanh", "identity", "sin"])
def test_odd_up_to_a_constant_takes_one_layer(name, match):
    verdict = minimal_depth(DEQ(name), match=match)
    assert (verdict.depth, verdict.proof, verdict.exists) == (1, "symbolic", True)
    assert "odd up to a constant" in verdict.reason


@pytest.mark.parametrize("name", ["relu", "abs", "gelu", "elu", "cos", "x+x**2", "square"])
def test_others_take_two_layers(name):
    deq = DEQ(name, "0.05", "0.5")
    verdict = minimal_depth(deq)
    assert (verdict.depth, verdict.at_least, verdict.at_most, verdict.proof) == (2, 2, 2, "certified")
    assert [depth for depth, _ in verdict.impossible] == [1]
    assert not verdict.value.contains(0)
    s = solve(deq)
    assert float(verdict.value.mid()) == pytest.approx(2 * s.alpha2 - s.alpha3, rel=1e-10)


def test_an_untied_network_is_one_layer():
    verdict = minimal_depth(DEQ("relu", 0, 1))
    assert (verdict.depth, verdict.proof) == (1, "symbolic")
    assert minimal_depth(DEQ("relu", 0, 1), match="both", rates="free").depth == 1
    assert minimal_depth(DEQ("relu", 0, 1), match="both").exists is False


def test_jumps_have_a_conjugate_kernel_only():
    assert minimal_depth(DEQ("sign")).depth == 1
    for match in ("ntk", "both"):
        with pytest.raises(InputError, match="jumps"):
            minimal_depth(DEQ("sign"), match=match)


# E[phi''] = 12 (tau^2 - 1), and h = d1^2 at tau = 1 alone (c = sqrt(6) (sqrt(6), sqrt(3/2), -1)); both have q = 1
ONCE_FLAT = DEQ("x + x**4 - 6*x**2", "1/200", "7/8")
ONCE_BALANCED = DEQ("6*x + 3/sqrt(2)*(x**2 - 1) - (x**3 - 3*x)", "1/200", "149/200")


@pytest.mark.parametrize("deq", [ONCE_FLAT, ONCE_BALANCED], ids=["d2 = 0", "h = d1^2"])
def test_exact_zeros_at_one_scale_only(deq):
    verdict = minimal_depth(deq)
    assert (verdict.depth, verdict.proof) == (1, "symbolic")
    beside = minimal_depth(DEQ(deq.activation, deq.sigma_a2, deq.sigma_b2 + Fraction(1, 100)))
    assert (beside.depth, beside.proof) == (2, "certified")


def test_too_close_to_call_is_undecided():
    # 2 alpha2 - alpha3 is of the size 1e-80, and no closed form says that it does not vanish
    deq = DEQ("x + x**4 - 6*x**2", Fraction(1, 200), Fraction(7, 8) + Fraction(1, 10**80))
    verdict = minimal_depth(deq)
    assert (verdict.depth, verdict.proof, verdict.exists) == (None, "undecided", None)
    assert "undecided" in verdict.reason


def test_two_layers_can_be_too_few_for_the_ck():
    # h < d1^2 by more than the mass beyond degree 2 allows
    verdict = minimal_depth(DEQ("tanh(x)+0.02*gaussian(x)", 1, "0.02"))
    assert (verdict.depth, verdict.proof) == (3, "certified")
    assert [depth for depth, _ in verdict.impossible] == [1, 2]


@pytest.mark.parametrize(
    ("name", "sigma_a2", "least", "most"),
    [("relu", "0.2", 3, 4), ("relu", "0.5", 2, 2), ("gelu", "0.2", 3, 5), ("elu", "0.5", 3, 3), ("abs", "0.2", 2, 2)],
)
def test_depth_of_the_ntk(name, sigma_a2, least, most):
    verdict = minimal_depth(DEQ(name, sigma_a2, 1 - Fraction(sigma_a2)), match="ntk")
    assert (verdict.at_least, verdict.at_most, verdict.proof) == (least, most, "certified")
    assert verdict.depth == (least if least == most else None)
    assert verdict.exists is True


@pytest.mark.parametrize("rates", ["equal", "free"])
@pytest.mark.parametrize("data", ["any", "sphere"])
@pytest.mark.parametrize("name", ["relu", "gelu", "cos"])
def test_no_network_has_both_kernels(name, data, rates):
    verdict = minimal_depth(DEQ(name), match="both", data=data, rates=rates)
    assert (verdict.exists, verdict.depth, verdict.proof) == (False, None, "certified")


def test_odd_activations_have_both_kernels_at_one_rate():
    verdict = minimal_depth(DEQ("tanh"), match="both", rates="free")
    s = solve(DEQ("tanh"))
    assert verdict.depth == 1
    assert float(verdict.rate.mid()) == pytest.approx(s.beta1 / s.alpha1 - 1, rel=1e-12)
    assert minimal_depth(DEQ("tanh"), match="both").exists is False


def test_equal_rates_have_both_kernels_where_the_excess_is_whole():
    assert minimal_depth(DEQ("identity", "0.5", "0.5"), match="both").depth == 1
    assert minimal_depth(DEQ("identity", "0.75", "0.5"), match="both").depth == 3
    assert minimal_depth(DEQ("identity", "0.7", "0.5"), match="both").exists is False


@pytest.mark.parametrize("match", ["ck", "ntk"])
def test_one_layer_is_enough_on_a_sphere(match):
    assert minimal_depth(DEQ("gelu"), match=match, data="sphere").depth == 1


def test_depth_does_not_depend_on_units():
    # phi(c x)/c at tau0/c is the same network in other units
    a = minimal_depth(DEQ("gelu", "0.2", "0.8"), 1, "ntk")
    b = minimal_depth(DEQ("gelu(2*x)/2", "0.2", "0.8"), "0.5", "ntk")
    assert (a.at_least, a.at_most) == (b.at_least, b.at_most)


def test_errors_of_the_network_pass_through():
    with pytest.raises(NoFixedPointError):
        minimal_depth(DEQ("x**2", "0.5", "0.5"))
    with pytest.raises(UnstableError):
        minimal_depth(DEQ("snake", "0.8", "0.2"), match="ntk")
    for bad in ({"match": "all"}, {"data": "cube"}, {"rates": "some"}, {"tau0": 0}):
        with pytest.raises(InputError):
            minimal_depth(DEQ("relu"), **bad)


def test_export():
    record = json.loads(json.dumps(minimal_depth(DEQ("relu"), match="ntk").to_dict()))
    assert (record["depth"], record["at_least"], record["at_most"]) == (None, 3, 4)
    assert record["value"].keys() == {"mid", "rad"}
    assert [entry["depth"] for entry in record["impossible"]] == [1, 2]


def test_table():
    rows = depth_table(["relu", "tanh", "sign", "exp"], ("0.05", "0.2"), "ntk")
    assert [row.summary for row in rows] == ["3-5", "3-4", "1", "1", "-", "-", "-", "-"]
    assert rows[0].sigma_b2 == Fraction(19, 20)
    assert "jumps" in rows[4].error
    assert "no fixed point" in rows[6].error
    with pytest.raises(InputError):
        depth_table(["relu"], match="all")


def test_the_bound_on_kappa2_excludes_no_more_than_it_must():
    # the least kappa^2 of two layers is found from both sides: a little less is impossible, a little more possible
    found = certify(DEQ("gelu"), 1, 15).enclosures
    e1, e2, e3 = (found[name] for name in ("beta1", "beta2", "beta3"))
    with precision(BITS):
        low = two_layers(Target("ntk", e1, e2, e3, found["kappa2"] * 1.12), boxes=20000)
        high = two_layers(Target("ntk", e1, e2, e3, found["kappa2"] * 1.14), boxes=20000)
    assert low.possible is False
    assert high.possible is True
