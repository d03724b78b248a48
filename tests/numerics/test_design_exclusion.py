"""Proofs that a family has no network: never one against a network that exists, and the cases that are known."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.integrate
import sympy as sp
from flint import arb
from hypothesis import given, settings
from hypothesis import strategies as st

from equikernel.numerics.balls.context import hull, precision
from equikernel.numerics.certificates.certificate import certify
from equikernel.numerics.designs.exclusion import prove_infeasible, shapes
from equikernel.numerics.designs.exclusion.boxes import Conditions, Equations, exhaust
from equikernel.numerics.designs.exclusion.intervals import Intervals
from equikernel.numerics.designs.exclusion.layers import FirstLayer, SecondLayer, ball_forms
from equikernel.numerics.designs.problem import DesignProblem
from equikernel.numerics.designs.search import search
from equikernel.numerics.designs.targets import Target
from equikernel.numerics.explicit import explicit_coefficients
from equikernel.numerics.moments import gaussian_moments
from equikernel.numerics.solve import solve
from equikernel.theory.activation import Activation, activation
from equikernel.theory.closed_forms import TAU
from equikernel.theory.families import FAMILIES, family
from equikernel.theory.models import DEQ, ExplicitNetwork

LINEAR = ("leaky-relu", "quadratic", "piecewise-linear", "smooth", "hermite-cubic")
OTHERS = (
    "a*x + b*sin(x)",
    "a*tanh(x)",
    "a*abs(x) + b*cos(x)",
    "a*max(x, 0) + b*tanh(x)",  # the least V given d1 and d2 depends on the sign of d1 d2
    "a*max(x, 0) + b*tanh(x) + c*max(x - 1, 0)",
    "a*x + b*abs(x) + c*tanh(x) + d*cos(x)",
)
CK, NTK = ("alpha1", "alpha2", "alpha3", "gamma2"), ("beta1", "beta2", "beta3", "kappa2")
# of float64 coefficients: moments to 1e-13 of their size, doubled by every product, and cancellation in h and V
THIN, FAT = 1e-10, 1e-3


# -- networks that exist, in plain NumPy -------------------------------------------------------------------------------


class Moments:
    """The forms of a family at scale tau0 from the moments of single functions and of their sums; an oracle."""

    def __init__(self, spec: str, tau0: float) -> None:
        basis = family(spec).layers[0].basis
        functions = [f.subs(TAU, sp.Rational(repr(tau0))) for f in basis]

        def at(expr):
            found = gaussian_moments(Activation(expr), tau0)
            return np.array([float(getattr(found, name).value) for name in ("V", "h", "v", "d1", "d2")])

        alone = np.array([at(f) for f in functions])
        self.d = alone[:, 3:].T
        k = len(functions)
        self.forms = np.zeros((3, k, k))
        for i in range(k):
            self.forms[:, i, i] = alone[i, :3]
            for j in range(i):
                both = at(functions[i] + functions[j])[:3]
                self.forms[:, i, j] = self.forms[:, j, i] = (both - alone[i, :3] - alone[j, :3]) / 2

    def of(self, theta):
        """V, h, v, d1, d2."""
        return (*(theta @ form @ theta for form in self.forms), *(self.d @ theta))


_MOMENTS: dict[tuple[str, float], Moments] = {}


def moments(spec: str, tau0: float = 1.0) -> Moments:
    key = spec, tau0
    if key not in _MOMENTS:
        _MOMENTS[key] = Moments(spec, tau0)
    return _MOMENTS[key]


def coefficients(spec: str, thetas, tau0: float = 1.0) -> dict[str, float]:
    """The recursion of theory, section 5, written out; every layer but the last is scaled to V = tau0^2."""
    table = moments(spec, tau0)
    a1, a2, a3, a4, b1, b2, b3, k2 = 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, tau0**2
    for layer, theta in enumerate(thetas):
        V, h, v, d1, d2 = table.of(np.asarray(theta, dtype=float))
        if layer < len(thetas) - 1:
            unit = tau0**2 / V
            V, h, v, d1, d2 = V * unit, h * unit, v * unit, d1 * math.sqrt(unit), d2 * math.sqrt(unit)
        n1, n2, n3 = d1**2 * a1, d1**2 * a2 + d2**2 * a4**2 / 4, d1**2 * a3 + d2**2 * a1**2 / 2
        b1, b2, b3 = n1 + d1**2 * b1, n2 + d1**2 * b2, n3 + d1**2 * b3 + d2**2 * a1 * b1
        k2 = V + v * k2
        a1, a2, a3, a4 = n1, n2, n3, h * a4
    return dict(zip((*CK, *NTK), (a1, a2, a3, V, b1, b2, b3, k2), strict=True))


def balls(values: dict[str, float], relative: float, shift: float = 0.0) -> dict[str, arb]:
    """Balls that contain the values, their middles moved by ``shift`` of their radius."""
    largest = max(abs(x) for x in values.values())
    found = {}
    for name, value in values.items():
        radius = relative * max(abs(value), 1e-3 * largest)
        found[name] = arb(value + 0.9 * shift * radius, radius)
    return found


def problem(spec: str, match: str, depth: int, source="relu", **more) -> DesignProblem:
    """The source only names the target: what counts is in the balls."""
    target = Target.of(DEQ(source) if isinstance(source, str) else source, match, **more)
    return DesignProblem(target, family(spec).at_depth(depth))


# -- soundness ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("match", ["ck", "ntk"])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("spec", [*LINEAR, *OTHERS])
def test_no_proof_against_a_network_of_the_family(spec, depth, match):
    rng = np.random.default_rng([len(spec), depth, match == "ck"])
    k = len(family(spec).layers[0].basis)
    for trial in range(3):
        values = coefficients(spec, rng.standard_normal((depth, k)))
        for relative in (THIN, FAT):
            targets = balls(values, relative, shift=(-1) ** trial)
            assert prove_infeasible(problem(spec, match, depth), targets, 2000) is None


@pytest.mark.parametrize("spec", ["leaky-relu", "smooth", "a*sin(x) + b*cos(x)"])
def test_no_proof_against_a_network_at_another_scale_of_the_data(spec):
    rng = np.random.default_rng(5)
    k = len(family(spec).layers[0].basis)
    for depth in (1, 2):
        for match in ("ck", "ntk"):
            values = coefficients(spec, rng.standard_normal((depth, k)), 2.5)
            asked = problem(spec, match, depth, tau0=2.5)
            assert prove_infeasible(asked, balls(values, THIN), 3000) is None


@pytest.mark.parametrize("spec", LINEAR)
@pytest.mark.parametrize("match", ["ck", "ntk"])
def test_no_proof_against_networks_with_vanishing_moments(spec, match):
    """Layers with d1 = 0, d2 = 0 or h = 0 lie on the edges where divisions fail."""
    table = moments(spec)
    k = len(table.d[0])
    d1_zero, d2_zero = (np.linalg.svd(row[None])[2][-1] for row in table.d)
    values, vectors = np.linalg.eigh(table.forms[1])
    flat = vectors[:, 0] * math.sqrt(values[-1]) + vectors[:, -1] * math.sqrt(max(-values[0], 0.0))
    special = [d1_zero, d2_zero, flat, np.eye(k)[0], np.eye(k)[-1]]
    for one in special:
        for two in special[:2]:
            targets = balls(coefficients(spec, [one, two]), THIN)
            assert prove_infeasible(problem(spec, match, 2), targets, 1000) is None


@pytest.mark.parametrize("match", ["ck", "ntk"])
@pytest.mark.parametrize("spec", ["piecewise-linear", "hermite-cubic", OTHERS[4]])
def test_no_proof_on_the_boundary_of_what_is_possible(spec, match):
    """The last layer has the least diagonal for its d1 and d2: anything less is impossible."""
    table = moments(spec)
    rng = np.random.default_rng(11)
    for depth in (1, 2):
        for _ in range(2):
            first, last = rng.standard_normal((2, len(table.d[0])))
            V, _, v, _, _ = table.of(first)
            f = 0.0 if match == "ck" else 1.0 + (v / V if depth == 2 else 0.0)
            cost = table.forms[0] + f * table.forms[2]
            inverse = np.linalg.solve(cost, table.d.T)
            slopes = [table.d @ last * (1, sign) for sign in (1, -1)]
            layers = [inverse @ np.linalg.solve(table.d @ inverse, d) for d in slopes]
            least = min(layers, key=lambda theta: theta @ cost @ theta)
            thetas = [first, least][2 - depth :]
            values = coefficients(spec, thetas)
            asked = problem(spec, match, depth)
            assert prove_infeasible(asked, balls(values, THIN), 3000) is None
            name = "gamma2" if match == "ck" else "kappa2"
            if depth == 1:  # and a thousandth below there is a proof
                below = prove_infeasible(asked, balls(values | {name: 0.999 * values[name]}, THIN))
                assert below.method == "realisability"


@pytest.mark.parametrize("match", ["ck", "ntk"])
@pytest.mark.parametrize("spec", LINEAR)
def test_the_box_of_a_network_is_never_discarded(spec, match):
    """However small the box, and wherever in it the first layer lies."""
    ntk, rng = match == "ntk", np.random.default_rng(3)
    with precision(80):
        forms = ball_forms(family(spec).layers[0].basis, Fraction(1), 80)
        first, second = FirstLayer.of(forms, ntk=ntk), SecondLayer.of(forms, ntk=ntk)
    whitening = np.linalg.inv(np.linalg.cholesky(moments(spec).forms[0])).T
    for _ in range(20):
        u = rng.uniform(-1, 1, forms.size)
        u /= u[np.argmax(np.abs(u))]
        values = coefficients(spec, [whitening @ u, rng.standard_normal(forms.size)])
        e = balls(values, THIN)
        with precision(80):
            equations = (
                Equations(True, e["beta1"] / 3, e["beta3"] / 2, 2 * e["beta2"], e["kappa2"])
                if ntk
                else Equations(False, e["alpha1"], 2 * e["alpha3"], 4 * e["alpha2"], e["gamma2"])
            )
        conditions = Conditions(equations, second)
        widths = 10.0 ** np.arange(-12, 1)[:, None] * (u != 1)
        share = rng.uniform(0, 1, (len(widths), 1))
        boxes = first.moments(u - share * widths - 1e-15 * (u != 1), u + (1 - share) * widths + 1e-15 * (u != 1))
        for fails in (conditions.sign, conditions.first, conditions.both):
            assert not fails(boxes).any()


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(LINEAR),
    st.lists(st.floats(-1, 1), min_size=3, max_size=3),
    st.lists(st.floats(0, 1), min_size=3, max_size=3),
    st.floats(1e-9, 1.0),
)
def test_ranges_of_the_first_layers_moments_hold(spec, centre, inside, width):
    k = len(family(spec).layers[0].basis)
    with precision(80):
        first = FirstLayer.of(ball_forms(family(spec).layers[0].basis, Fraction(1), 80), ntk=True)
    low = np.array(centre[:k])
    high = low + width
    low[0] = high[0] = 1.0
    u = low + np.array(inside[:k]) * (high - low)
    ranges = first.moments(low[None], high[None])
    table = moments(spec)
    V, h, v, d1, d2 = table.of(np.linalg.inv(np.linalg.cholesky(table.forms[0])).T @ u)
    for value, found in zip((d1**2 / V, d2**2 / V, h / V, v / V), ranges, strict=True):
        slack = 1e-10 * (1 + abs(value))  # of the oracle
        assert found.low[0] - slack <= value <= found.high[0] + slack


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2),
    st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_interval_operations_contain_exact_results(a, b, i, j):
    A, B = (Intervals(min(x), max(x)) for x in (a, b))
    x = min(max(float(A.low) + i * float(A.high - A.low), float(A.low)), float(A.high))
    y = min(max(float(B.low) + j * float(B.high - B.low), float(B.low)), float(B.high))
    exact = {"+": Fraction(x) + Fraction(y), "-": Fraction(x) - Fraction(y), "*": Fraction(x) * Fraction(y)}
    exact["square"] = Fraction(x) ** 2
    with np.errstate(all="ignore"):  # subnormal divisors overflow
        found = {"+": A + B, "-": A - B, "*": A * B, "square": A.square()}
        if float(B.low) > 0 or float(B.high) < 0:
            exact["/"], found["/"] = Fraction(x) / Fraction(y), A / B
    for name, value in exact.items():
        low, high = float(found[name].low), float(found[name].high)
        assert not math.isfinite(low) or Fraction(low) <= value, name
        assert not math.isfinite(high) or value <= Fraction(high), name
        assert low != math.inf
        assert high != -math.inf
    root = A.root()
    assert Fraction(float(root.low)) ** 2 <= max(Fraction(x), 0) <= Fraction(float(root.high)) ** 2


def test_nothing_is_known_of_a_quotient_by_zero_or_of_a_ball_without_ends():
    quotient = Intervals(1.0, 2.0) / Intervals(-1.0, 1.0)
    assert np.isnan(quotient.low)
    assert not quotient.empty
    assert float(Intervals(0.0, 1.0).meet(quotient).high) == 1.0
    assert np.isnan(Intervals.of(arb.nan()).low)


def test_networks_of_other_functions_of_the_package_are_not_excluded():
    """Their coefficients come from ``explicit_coefficients``, at scales that differ from layer to layer."""
    rng = np.random.default_rng(2)
    for spec in ("leaky-relu", "smooth", "hard-tanh"):
        layer = FAMILIES[spec].layers[0]
        for depth in (1, 2):
            texts, tau = [], 1.0
            for _ in range(depth):
                theta = np.exp(rng.standard_normal(len(layer.parameters)))
                numbers = {str(p): repr(float(x)) for p, x in zip(layer.parameters, theta, strict=True)}
                texts.append(layer.at(numbers, repr(tau)))
                tau = math.sqrt(float(gaussian_moments(activation(texts[-1]), tau).V.value))
            network = ExplicitNetwork.of(*texts)
            found = explicit_coefficients(network)
            values = {name: getattr(found, "tau2" if name == "gamma2" else name) for name in (*CK, *NTK)}
            for match in ("ck", "ntk", "both"):
                assert prove_infeasible(problem(spec, match, depth, network), balls(values, THIN), 3000) is None


def test_solutions_of_the_search_are_not_excluded():
    for name, spec in (("elu", "piecewise-linear"), ("gelu", "smooth"), ("relu", "leaky-relu")):
        asked = problem(spec, "ck", 2, DEQ(name, "0.2", "0.8"))
        assert search(asked).found
        assert prove_infeasible(asked, certify(asked.target.source, 1, 15, "aA").enclosures) is None


def test_free_learning_rates_are_not_excluded_by_what_holds_at_equal_rates():
    V, _, v, d1, d2 = moments("hermite-cubic").of(np.array([0.7, 0.3, 0.2]))
    for rate in (0.0, 0.3, 4.0):
        values = {
            "beta1": d1**2 * (1 + rate),
            "beta2": d2**2 / 4,
            "beta3": d2**2 * (0.5 + rate),
            "kappa2": V + v * rate,
        }
        free = DesignProblem(Target.of(DEQ("relu"), "ntk"), family("hermite-cubic").at_depth(1), free_rates=True)
        assert prove_infeasible(free, balls(values, THIN)) is None
        low = prove_infeasible(free, balls(values | {"beta3": 0.45 * d2**2}, THIN))
        assert "beta3 >= 2 beta2" in low.statement
        below = prove_infeasible(free, balls(values | {"kappa2": 0.7 * values["kappa2"]}, THIN))
        assert below.method == "realisability"


# -- completeness ------------------------------------------------------------------------------------------------------


def excluded(spec: str, name: str, sigma_a2: str, match: str = "ck", depth: int = 2, **more):
    deq = DEQ(name, sigma_a2, "0.8")
    return prove_infeasible(problem(spec, match, depth, deq, **more), certify(deq, 1, 15, "aA").enclosures)


@pytest.mark.parametrize(
    ("spec", "name", "sigma_a2"),
    [
        ("piecewise-linear", "gelu", "0.05"),
        ("piecewise-linear", "gelu", "0.2"),
        ("piecewise-linear", "silu", "0.2"),
        ("piecewise-linear", "silu", "0.5"),
        ("smooth", "silu", "0.05"),
        ("smooth", "softplus", "0.05"),
        ("smooth", "softplus", "0.5"),
        ("smooth", "hard_swish", "0.2"),
        ("leaky-relu", "gelu", "0.2"),
        ("leaky-relu", "silu", "0.2"),
        ("leaky-relu", "cos", "0.2"),
    ],
)
def test_two_layers_excluded_by_boxes(spec, name, sigma_a2):
    found = excluded(spec, name, sigma_a2)
    assert found.method == "interval exclusion"
    assert 0 < found.boxes <= 20_000
    assert found.to_dict() == {"statement": found.statement, "method": found.method, "boxes": found.boxes}


@pytest.mark.parametrize("name", ["gelu", "silu", "elu", "cos", "relu", "softplus"])
@pytest.mark.parametrize("spec", LINEAR)
def test_two_layers_cannot_have_the_ntk_at_equal_rates(spec, name):
    assert excluded(spec, name, "0.2", "ntk").method == "interval exclusion"


def test_the_sign_condition_is_named():
    """ELU has h < d1^2, so alpha4 < lambda1; a leaky ReLU a x + b |x| has h - d1^2 = b^2 (1 - 2/pi) >= 0."""
    found = excluded("leaky-relu", "elu", "0.2")
    assert "sign condition: 2 alpha2 - alpha3 < 0" in found.statement
    assert "the DEQ with elu" in found.statement
    assert "leaky-relu" in found.statement


@pytest.mark.parametrize("match", ["ck", "ntk"])
def test_odd_layers_have_no_quadratic_term(match):
    for depth in (1, 2, 3):
        assert excluded("hard-tanh", "gelu", "0.2", match, depth).method == "parity"
    assert excluded("a*x + b*x**3", "gelu", "0.2", match).method == "parity"
    assert excluded("hard-tanh", "tanh", "0.2", match, 1) is None


def test_even_layers_have_no_linear_term():
    assert excluded("a*abs(x) + b*cos(x)", "gelu", "0.2").method == "parity"


@pytest.mark.parametrize(("match", "factor"), [("ck", 2), ("ntk", 6)])
def test_one_layer_ties_two_coefficients(match, factor):
    found = excluded("hermite-cubic", "gelu", "0.2", match, 1)
    assert f"one layer forces {'alpha' if match == 'ck' else 'beta'}2" in found.statement
    assert f"3/{factor}" in found.statement
    assert excluded("hermite-cubic", "gelu", "0.2", match, 1, on_sphere=True) is None


def test_one_layer_of_two_functions_is_determined():
    """A leaky ReLU with d2 = 0 is linear, and has gamma^2 = alpha1 tau0^2: tanh has more."""
    assert excluded("leaky-relu", "tanh", "0.2", "ck", 1).method == "realisability"


def test_cos_has_no_piecewise_linear_network_also_where_slopes_cancel():
    """alpha1 = P p = 0 leaves two curves of first layers, along which V of the second is scanned."""
    deq = DEQ("cos", "0.05", "0.95")
    found = prove_infeasible(problem("piecewise-linear", "ck", 2, deq), certify(deq, 1, 15, "a").enclosures)
    assert found.method == "interval exclusion"
    solution = solve(deq, trained="a")
    table = moments("piecewise-linear")
    least = np.linalg.inv(table.d @ np.linalg.solve(table.forms[0], table.d.T))  # V >= (d1, d2) least (d1, d2)^T
    # P = 0: S p^2 = 2 alpha3 with S <= gamma^2/least and p <= V = 1
    assert 2 * solution.alpha3 * least[1, 1] / solution.gamma2 > 1.01
    # p = 0: P s = 2 alpha3, P s + S H^2 = 4 alpha2
    basis = np.linalg.svd(table.d[:1])[2][1:]
    angle = np.linspace(0, math.pi, 20_001)[:, None]
    theta = np.cos(angle) * basis[0] + np.sin(angle) * basis[1]
    V, h = (np.einsum("bi,ij,bj->b", theta, form, theta) for form in table.forms[:2])
    s, H = (theta @ table.d[1]) ** 2 / V, h / V
    with np.errstate(divide="ignore"):
        P, S = 2 * solution.alpha3 / s, (4 * solution.alpha2 - 2 * solution.alpha3) / H**2
    assert abs(least[0, 1]) < 1e-12
    assert (least[0, 0] * P + least[1, 1] * S).min() > 1.05 * solution.gamma2


@pytest.mark.parametrize("c", [1e-3, 0.3, 1.0, 3.0])
def test_the_ratio_of_clipping_lies_between_one_and_half_pi(c):
    V = 2 * scipy.integrate.quad(lambda x: min(x, c) ** 2 * math.exp(-x * x / 2), 0, 12, points=[c])[0]
    ratio = V / math.sqrt(2 * math.pi) / math.erf(c / math.sqrt(2)) ** 2
    assert 1 < ratio < math.pi / 2


def test_clipping_beyond_its_range_is_excluded():
    e1 = 0.4
    for depth in (1, 2):
        limit = (math.pi / 2) ** depth
        for ratio, proved in ((0.999, True), (1.001, False), (0.999 * limit, False), (1.001 * limit, True)):
            values = {"alpha1": e1, "alpha2": 0.0, "alpha3": 0.0, "gamma2": ratio * e1}
            found = prove_infeasible(problem("hard-tanh", "ck", depth, "tanh"), balls(values, 1e-9))
            assert (found is not None) == proved


def test_no_activation_at_all_may_do():
    values = {"alpha1": 0.5, "alpha2": 0.1, "alpha3": 0.2, "gamma2": 0.69}
    found = prove_infeasible(problem("a*hard_tanh(x, -c, c) + b*x**2", "ck", 1), balls(values, THIN))
    assert "whatever the activation" in found.statement
    allowed = values | {"gamma2": 0.71}
    assert prove_infeasible(problem("a*hard_tanh(x, -c, c) + b*x**2", "ck", 1), balls(allowed, THIN)) is None


# -- limits ------------------------------------------------------------------------------------------------------------


def test_the_work_is_limited():
    assert excluded("piecewise-linear", "gelu", "0.2").boxes <= 20_000
    deq = DEQ("gelu", "0.2", "0.8")
    targets = certify(deq, 1, 15, "aA").enclosures
    assert prove_infeasible(problem("piecewise-linear", "ck", 2, deq), targets, 100) is None
    with precision(80):
        first = FirstLayer.of(ball_forms(family("smooth").layers[0].basis, Fraction(1), 80), ntk=False)
    done, boxes = exhaust(first, lambda m: np.zeros(len(m[0].low), dtype=bool), 700)
    assert not done
    assert boxes <= 700


def test_what_is_not_known_proves_nothing():
    asked = problem("hermite-cubic", "ck", 1)
    values = balls({"alpha1": 0.2, "alpha2": 0.5, "alpha3": 0.1, "gamma2": 0.9}, THIN)
    assert prove_infeasible(asked, values) is not None
    assert prove_infeasible(asked, values | {"gamma2": arb.nan()}) is None
    assert prove_infeasible(asked, {k: v for k, v in values.items() if k != "alpha2"}) is None
    assert prove_infeasible(asked, values | {"alpha2": hull(0, 1)}) is None
    assert excluded("ternary", "gelu", "0.2") is None
    assert excluded("a*x + b*abs(x) + c*x**2 + d*x**3 + e*x**4", "gelu", "0.2") is None


def test_dependent_functions_prove_nothing():
    assert excluded("a*x + b*abs(x) + c*max(x, 0)", "gelu", "0.2") is None


def test_families_that_depend_on_scale_are_told_apart():
    layers = {spec: family(spec).layers[0] for spec in (*LINEAR, "a*x + b*sin(x)", "a*x + b*sin(x/tau)")}
    assert [s for s, layer in layers.items() if not shapes.scales(layer)] == ["a*x + b*sin(x)"]
    found = excluded("a*x + b*log_cosh(x) + c*tanh(x)", "softplus", "0.2")
    assert "standard deviation as its input's" in found.statement
    assert "standard deviation" not in excluded("leaky-relu", "gelu", "0.2").statement


@pytest.mark.parametrize(
    ("text", "odd", "even"),
    [
        ("a*hard_tanh(x, -1, 1) + b*tanh(c*x)", True, False),
        ("a*max(-2, min(2, x)) + 1", True, False),
        ("a*hard_tanh(x, -1, 2)", False, False),
        ("a*x**2 + b*cos(c*x)", False, True),
        ("a*x*abs(x)", True, False),
        ("a*abs(sin(c*x))", False, True),
        ("a*x + b*abs(x)", False, False),
        ("a*exp(c*x)", False, False),
        ("a*exp(-x**2)*erf(x)", True, False),
        ("a*heaviside(x - s)", False, False),
    ],
)
def test_symmetry_of_formulas(text, odd, even):
    layer = family(text).layers[0]
    assert shapes.is_odd(layer) == odd
    assert shapes.is_even(layer) == even
