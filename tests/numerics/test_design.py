"""Designs: exact where there is one, refused in one sentence elsewhere."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from equikernel.errors import DataError, InputError, NoDesignError, SolutionError
from equikernel.numerics.designs.choice import wider_problems
from equikernel.numerics.designs.compare import compare_families, kernel_mismatch
from equikernel.numerics.designs.design import Design, load_design
from equikernel.numerics.designs.equivalent import equivalent_network, family_design, finished_design
from equikernel.numerics.designs.inverse import nearest_deq
from equikernel.numerics.designs.on_data import fit_design
from equikernel.numerics.designs.refusals import Attempt
from equikernel.numerics.designs.search import search
from equikernel.numerics.designs.sphere import SphereDesign
from equikernel.numerics.designs.targets import Target
from equikernel.numerics.explicit import explicit_coefficients
from equikernel.numerics.kernels import explicit_ck, explicit_ntk, implicit_ck, implicit_ntk
from equikernel.numerics.moments import gaussian_moments
from equikernel.numerics.solve import solve
from equikernel.theory.activation import activation
from equikernel.theory.families import FAMILIES
from equikernel.theory.models import DEQ, ExplicitNetwork
from equikernel.validation.mixtures import mixture_family

CK = [("alpha1", "alpha1"), ("alpha2", "alpha2"), ("alpha3", "alpha3"), ("gamma2", "tau2")]
NTK = [("beta1", "beta1"), ("beta2", "beta2"), ("beta3", "beta3"), ("kappa2", "kappa2")]


def misses(deq, network, match, tau0=1):
    """The largest difference, relative to the target or the diagonal, from the general recursion."""
    solution, found = solve(deq, tau0, trained="a" if match == "ck" else "aA"), None
    found = explicit_coefficients(network, ntk=match != "ck")
    diagonal = solution.gamma2 if match == "ck" else solution.kappa2
    pairs = {"ck": CK, "ntk": NTK, "both": CK + NTK}[match]
    return max(
        abs(getattr(found, b) - getattr(solution, a)) / (abs(getattr(solution, a)) or diagonal) for a, b in pairs
    )


# -- every activation ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma_a2", ["0.05", "0.5"])
@pytest.mark.parametrize(
    "name", ["relu", "gelu", "silu", "elu", "cos", "abs", "softplus", "hard_swish", "snake", "log_cosh", "relu6"]
)
def test_activations_that_are_not_odd_take_two_layers(name, sigma_a2):
    deq = DEQ(name, sigma_a2, "0.5")
    design = equivalent_network(deq)
    assert (design.depth, design.status) == (2, "solved")
    assert design.residual <= 1e-13
    assert misses(deq, design.network, "ck") <= 1e-12


@pytest.mark.parametrize("match", ["ck", "ntk"])
@pytest.mark.parametrize("name", ["tanh", "erf", "sin", "arctan", "hard_tanh", "softsign", "sigmoid"])
def test_odd_activations_take_one_layer(name, match):
    deq = DEQ(name, "0.2", "0.8")
    design = equivalent_network(deq, match=match)
    assert design.depth == 1
    assert design.residual <= 1e-13
    assert misses(deq, design.network, match) <= 1e-12


@pytest.mark.parametrize("sigma_a2", ["0.05", "0.2", "0.5"])
@pytest.mark.parametrize("match", ["ck", "ntk"])
@pytest.mark.parametrize("name", ["tanh", "erf", "sin", "softsign"])
def test_the_papers_hard_tanh(name, match, sigma_a2):
    deq = DEQ(name, sigma_a2, "0.8")
    design = equivalent_network(deq, match=match, family="hard-tanh")
    assert (design.depth, design.family) == (1, "hard-tanh")
    assert misses(deq, design.network, match) <= 1e-12


@pytest.mark.parametrize("tau0", [0.5, 1, 2])
@pytest.mark.parametrize("sigma_a2", ["0.05", "0.2", "0.5", "0.8"])
def test_the_papers_leaky_relu(sigma_a2, tau0):
    deq = DEQ("relu", sigma_a2, "0.5")
    design = equivalent_network(deq, tau0, family="leaky-relu")
    assert (design.depth, design.residual <= 1e-13) == (2, True)
    assert misses(deq, design.network, "ck", tau0) <= 1e-12
    for layer in design.params:
        assert dict(layer)["a"] >= abs(dict(layer)["b"]) >= 0 or dict(layer)["a"] > dict(layer)["b"]


@pytest.mark.parametrize("tau0", [0.3, 1.7])
@pytest.mark.parametrize("family", ["piecewise-linear", "smooth", "hermite-cubic", "a*x + b*abs(x) + c*arctan(x/tau)"])
def test_families_at_other_scales(family, tau0):
    deq = DEQ("elu", "0.5", "0.5")
    design = equivalent_network(deq, tau0, family=family)
    assert misses(deq, design.network, "ck", tau0) <= 1e-12


def test_a_readout_that_jumps():
    deq = DEQ("sign", "0.2", "0.8")
    assert misses(deq, equivalent_network(deq).network, "ck") <= 1e-12
    with pytest.raises(InputError, match="jumps at x = 0"):
        equivalent_network(deq, match="ntk")


# -- depth, learning rates ---------------------------------------------------------------------------------------------


def test_three_layers():
    deq = DEQ("gelu")
    design = equivalent_network(deq, depth=3, family="smooth")
    assert design.depth == 3
    assert misses(deq, design.network, "ck") <= 1e-12


@pytest.mark.parametrize("name", ["relu", "gelu", "elu", "softplus", "cos"])
def test_one_layer_has_the_ntk_if_its_learning_rate_is_free(name):
    deq = DEQ(name, "0.2", "0.8")
    solution = solve(deq)
    design = equivalent_network(deq, match="ntk", rates="free")
    if solution.beta3 >= 2 * solution.beta2:
        # beta2 = d2^2/4 and beta3 = (1/2 + eta) d2^2
        assert design.depth == 1
        assert design.rates[0] == pytest.approx(solution.beta3 / (4 * solution.beta2) - 0.5, rel=1e-10)
    assert misses(deq, design.network, "ntk") <= 1e-12
    X = np.random.default_rng(0).normal(size=(40, 400)) / 20
    K = implicit_ntk(X, deq, tau0=1)
    assert np.linalg.norm(explicit_ntk(X, design.network) - K, 2) < 0.1 * np.linalg.norm(K, 2)


@pytest.mark.parametrize("name", ["tanh", "erf", "sigmoid"])
def test_both_kernels_of_an_odd_activation(name):
    deq = DEQ(name, "0.2", "0.8")
    design = equivalent_network(deq, match="both", rates="free")
    assert design.depth == 1
    assert misses(deq, design.network, "both") <= 1e-12
    solution = solve(deq)
    assert design.rates[0] == pytest.approx(solution.beta1 / solution.alpha1 - 1, rel=1e-10)


# -- digits and proofs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gelu", {"family": "smooth"}),
        ("tanh", {"family": "hard-tanh"}),
        ("relu", {"family": "leaky-relu"}),
        ("tanh", {"family": "erf", "match": "ntk"}),
        ("gelu", {"match": "ntk", "rates": "free"}),
    ],
    ids=str,
)
def test_many_digits(name, options):
    deq, digits = DEQ(name), 40
    design = equivalent_network(deq, digits=digits, **options)
    ntk = options.get("match") == "ntk"
    found = explicit_coefficients(design.network, digits + 10, ntk=ntk)
    wanted = solve(deq, 1, digits + 10, trained="aA" if ntk else "a")
    for a, b in NTK if ntk else CK:
        target = getattr(wanted, a)
        scale = abs(target) or abs(wanted.kappa2 if ntk else wanted.gamma2)
        assert abs(getattr(found, b) - target) <= scale * 10.0**-digits
    # the same solution as in float64
    float64 = equivalent_network(deq, **options)
    for many, few in zip(design.params, float64.params, strict=True):
        assert [float(v) for _, v in many] == pytest.approx([v for _, v in few], rel=1e-10, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gelu", {"family": "smooth"}),
        ("relu", {"family": "hermite-cubic"}),
        ("tanh", {"family": "hard-tanh"}),
        ("erf", {"family": "erf", "match": "both", "rates": "free"}),
    ],
    ids=str,
)
def test_certificates_hold_an_exact_solution(name, options):
    deq = DEQ(name)
    certificate = equivalent_network(deq, certified=True, **options).certificate
    assert certificate is not None
    assert float(certificate.radius) < 1e-14
    # the residuals at the decimals are those of 40 digits
    design = equivalent_network(deq, certified=True, **options)
    ntk = options.get("match", "ck") != "ck"
    found = explicit_coefficients(design.network, 40, ntk=ntk)
    wanted = solve(deq, 1, 40, trained="aA" if ntk else "a")
    # up to what the gauge's own residual moves: the equations take the hidden scale to be tau0 exactly
    gauge = max((abs(float(f.mid())) for name, f in certificate.residuals.items() if name.startswith("tau")), default=0)
    for a, b in CK if "match" not in options else CK + NTK:
        target = getattr(wanted, a)
        if target:
            relative = (getattr(found, b) - target) / target
            assert abs(float(relative) - float(certificate.residuals[a].mid())) < 1e-25 + 10 * gauge
    assert set(certificate.equations) | set(certificate.dependent) >= {a for a, _ in CK}


def test_a_certificate_refuses_what_is_no_solution():
    from flint import arb

    from equikernel.numerics.designs.equivalent import attempt_design
    from equikernel.numerics.designs.exact import ExactProblem
    from equikernel.numerics.designs.refine import _krawczyk, _Square

    (attempt, *_), target = attempt_design(DEQ("gelu"), 1, "ck", "auto", "smooth")
    exact = ExactProblem(attempt.problem, {k: arb(v) for k, v in target.floats.items()}, 200)
    x = [arb(float(v)) for v in attempt.solutions.found[0].unknowns]
    square = _Square([0, 1, 2, 3, 4], [0, 1, 2, 3, 4])
    assert _krawczyk(exact, x, square, exact.values(x)) is not None
    x[3] += arb("0.05")
    assert _krawczyk(exact, x, square, exact.values(x)) is None


def test_a_family_without_closed_form_has_no_certificate_and_says_so():
    design = equivalent_network(
        DEQ("sin", "0.2", "0.8"), family="a*tanh(b*x) + c*x", depth=1, parameters="b>0", certified=True
    )
    assert design.certificate is None
    assert "no certificate: the moments of the family have no closed form" in design.status
    assert misses(DEQ("sin", "0.2", "0.8"), design.network, "ck") <= 1e-12


# -- which solution ----------------------------------------------------------------------------------------------------


def test_nearer_terms_of_third_order_mean_nearer_kernels():
    deq = DEQ("gelu")
    design = equivalent_network(deq, family="smooth")
    assert [a.distance for a in design.alternatives] == sorted(a.distance for a in design.alternatives)
    X = mixture_family("isotropic")(300).sample(150, seed=0).X
    best = kernel_mismatch(deq, design, X, ntk=False).ck
    from equikernel.theory.models import Layer

    layer = FAMILIES["smooth"].layers[0]
    far = design.alternatives[-1]
    assert far.distance > 3 * design.distance
    texts = [layer.at({k: repr(v) for k, v in params}, "1") for params in far.params]
    network = ExplicitNetwork(tuple(Layer(a.activation) for a in ExplicitNetwork.of(*texts).layers))
    assert misses(deq, network, "ck") <= 1e-8
    assert kernel_mismatch(deq, network, X, ntk=False).ck > 2 * best


def test_signs_are_canonical():
    design = equivalent_network(DEQ("gelu"), family="hermite-cubic")
    for layer in design.params:
        assert dict(layer)["a"] >= 0
        assert dict(layer)["b"] >= 0


def test_freedom_is_spent_on_data():
    deq = DEQ("gelu")
    X = mixture_family("isotropic")(200).sample(80, seed=0).X
    fitted = fit_design(deq, X, "hermite-cubic", tau0=1, samples=60, evaluations=30)
    assert fitted.freedom == 1
    assert fitted.after <= fitted.before
    assert misses(deq, fitted.design.network, "ck") <= 1e-12
    with pytest.raises(NoDesignError, match="no freedom left"):
        fit_design(DEQ("tanh"), X, "hard-tanh", tau0=1)


# -- how equivalent ----------------------------------------------------------------------------------------------------


def test_mismatch_is_that_of_the_exact_kernels():
    deq = DEQ("relu")
    design = equivalent_network(deq)
    X = mixture_family("isotropic")(120).sample(60, seed=1).X
    found = kernel_mismatch(deq, design, X)
    G, net = implicit_ck(X, deq, tau0=1), explicit_ck(X, design.network)
    assert found.ck == pytest.approx(np.linalg.norm(G - net, 2) / np.linalg.norm(G, 2), rel=1e-9)
    K, theta = implicit_ntk(X, deq, tau0=1), explicit_ntk(X, design.network)
    assert found.ntk == pytest.approx(np.linalg.norm(K - theta, 2) / np.linalg.norm(K, 2), rel=1e-9)
    assert found.ck < found.promised_ck


def test_the_asymptotic_promise_is_kept():
    deq = DEQ("relu")
    design = equivalent_network(deq, family="smooth")
    gaps = []
    for p in (200, 800):
        X = np.random.default_rng(p).normal(size=(p // 2, p)) / math.sqrt(p)
        gaps.append(np.linalg.norm(implicit_ck(X, deq, tau0=1) - explicit_ck(X, design.network), 2))
    assert gaps[1] < 0.7 * gaps[0]


def test_families_side_by_side():
    X = mixture_family("isotropic")(120).sample(60, seed=1).X
    X /= math.sqrt((X**2).sum(axis=1).mean())
    rows = compare_families(DEQ("relu"), X, families=("smooth", "leaky-relu", "hard-tanh"))
    assert [row.family for row in rows] == ["leaky-relu", "smooth", "hard-tanh"]
    assert rows[0].mismatch.ck < rows[1].mismatch.ck
    assert rows[2].design is None
    assert "hard-tanh" in rows[2].failure
    json.dumps([row.to_dict() for row in rows])


# -- the sphere --------------------------------------------------------------------------------------------------------


def test_on_a_sphere_one_layer_is_enough():
    deq = DEQ("gelu")
    exact = equivalent_network(deq, tau0=1, data="sphere")
    assert isinstance(exact, SphereDesign)
    family = equivalent_network(deq, data="sphere", family="smooth")
    assert isinstance(family, Design)
    assert (family.depth, family.on_sphere, set(family.target)) == (1, True, {"alpha1", "alpha3", "gamma2"})
    X = np.random.default_rng(0).normal(size=(40, 60))
    X /= np.linalg.norm(X, axis=1)[:, None]
    assert kernel_mismatch(deq, exact, X, ntk=False).ck <= float(exact.relative_error) * 40
    assert kernel_mismatch(deq, family, X, ntk=False).ck < 0.01
    with pytest.raises(DataError, match="the design is for data of constant norm"):
        kernel_mismatch(deq, family, X * np.linspace(0.9, 1.1, 40)[:, None])


# -- both directions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("match", ["ck", "ntk"])
def test_deep_networks_are_compressed(match):
    deep = ExplicitNetwork.of("relu", "tanh", "gelu", "x + 0.2*abs(x)", tau0=1.2)
    design = equivalent_network(deep, match=match, depth=2)
    wanted, found = (explicit_coefficients(n, ntk=match == "ntk") for n in (deep, design.network))
    for _, name in CK if match == "ck" else NTK:
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), rel=1e-12)
    with pytest.raises(InputError, match=r"made for data with tau0 = 1\.2; got tau0 = 1"):
        equivalent_network(deep, 1)
    proved = equivalent_network(deep, match=match, depth=2, certified=True)
    assert proved.certificate is not None


@pytest.mark.parametrize("match", ["ck", "ntk"])
@pytest.mark.parametrize("names", [("relu", "relu"), ("gelu",), ("tanh",)], ids=str)
def test_the_deq_of_a_network(names, match):
    network = ExplicitNetwork.of(*names)
    found = nearest_deq(network, "erf" if names == ("tanh",) else "smooth", match)
    solution = solve(found.deq, 1, trained="a" if match == "ck" else "aA")
    wanted = explicit_coefficients(network)
    error = max(
        abs(getattr(solution, a) - getattr(wanted, b)) / (abs(getattr(wanted, b)) or 1.0)
        for a, b in (CK if match == "ck" else NTK)
    )
    assert error == pytest.approx(found.residual, abs=1e-9)
    assert found.exact == (error <= 1e-10)
    json.dumps(found.to_dict())


def test_a_relu_pair_is_a_leaky_deq():
    found = nearest_deq(ExplicitNetwork.of("relu", "relu"), "leaky-relu")
    assert found.exact
    assert found.deq.sigma_a2 > 1


# -- records -----------------------------------------------------------------------------------------------------------


def test_designs_are_saved_and_read(tmp_path):
    design = equivalent_network(DEQ("gelu"), match="ntk", rates="free")
    path = tmp_path / "design.json"
    design.save(path)
    read = load_design(path)
    assert read.network == design.network
    assert (read.match, read.family, read.rates, dict(read.target)) == (
        design.match,
        design.family,
        design.rates,
        dict(design.target),
    )
    record = json.loads(path.read_text())
    record["layers"][0]["expression"] = record["layers"][0]["expression"].replace("tanh", "atan")
    with pytest.raises(InputError, match="the record was changed"):
        Design.from_dict(record)
    with pytest.raises(InputError, match='with "format"'):
        Design.from_dict({"layers": []})
    path.write_text("not json")
    with pytest.raises(InputError, match="cannot be read as a design"):
        load_design(path)


def test_latex_has_layers_and_coefficients():
    text = equivalent_network(DEQ("gelu"), match="ntk", rates="free").to_latex()
    assert r"\sigma_{1}(x) &=" in text
    assert r"\eta_{1} &=" in text
    assert r"$\beta_1$ &" in text
    assert r"$\kappa^2$ &" in text


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gelu", "swish", "elu", "cos"])
def test_no_compromise_is_called_a_solution(name):
    with pytest.raises(NoDesignError) as caught:
        equivalent_network(DEQ(name), family="leaky-relu")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"match": "neither"}, InputError, 'match must be "ck", "ntk" or "both"'),
        ({"depth": 9}, InputError, "depth must be"),
        ({"depth": "two"}, InputError, "depth must be"),
        ({"family": "cubic"}, InputError, "unknown family 'cubic'"),
        ({"data": "ball"}, InputError, "data must be"),
        ({"rates": "any"}, InputError, "rates must be"),
        ({"rates": "free"}, InputError, "which is not trained"),
        ({"digits": 0}, InputError, "digits must be"),
        ({"terms": 5}, InputError, 'set data="sphere"'),
        ({"data": "sphere", "depth": 2}, InputError, "has depth 1"),
        ({"tau0": -1}, InputError, "tau0 must be a positive"),
        ({"tau0": "1/3", "digits": 30}, InputError, "tau0 must be a decimal"),
        ({"match": "ntk", "family": "ternary"}, InputError, "jump"),
        ({"depth": 1}, NoDesignError, "alpha3"),
        ({"family": "a*x"}, NoDesignError, "family"),
    ],
    ids=str,
)
def test_bad_arguments(options, error, says):
    with pytest.raises(error, match=says):
        equivalent_network(DEQ("relu"), **options)


def test_a_deq_outside_its_stable_phase():
    with pytest.raises(SolutionError):
        equivalent_network(DEQ("exp"))
    with pytest.raises(SolutionError, match="chaotic"):
        family_design(DEQ("sin(3*x) + x"), match="ntk")


def test_data_of_another_scale():
    design = equivalent_network(DEQ("tanh"))
    X = np.random.default_rng(0).normal(size=(20, 50)) / math.sqrt(50) * 2
    with pytest.raises(DataError, match=r"the design is for tau0\^2 = 1"):
        kernel_mismatch(DEQ("tanh"), design, X)
    with pytest.raises(DataError, match="scale the data"):
        fit_design(DEQ("gelu"), X, tau0=1)


# -- moments that vanish by cancellation -------------------------------------------------------------------------------


def network_misses(found, wanted, match):
    """The largest difference at 30 digits, relative to the coefficient or, where that is zero, to the diagonal."""
    a, b = (explicit_coefficients(network, 30, ntk=match != "ck") for network in (found, wanted))
    names = [name for _, name in (CK if match == "ck" else NTK)]
    diagonal = getattr(b, names[-1])
    sizes = [abs(getattr(b, name)) for name in names]
    return max(
        abs(getattr(a, name) - getattr(b, name)) / (size if size > 1e-24 * diagonal else diagonal)
        for name, size in zip(names, sizes, strict=True)
    )


E1 = math.erf(1 / math.sqrt(2))  # E[D hard_tanh(xi, -1, 1)]
CANCELLING = {
    # odd functions with E[sigma'] = 0
    "piecewise-linear": f"{-0.9 * E1!r}*x + 0.7*abs(x) + 0.9*hard_tanh(x, -1, 1)",
    "hermite-cubic": "0.5*(x**2 - 1)/sqrt(2) + 0.3*(x**3 - 3*x)/sqrt(6)",
    "a*x + b*x**2 + c*x**3": "-0.6*x + 0.5*x**2 + 0.2*x**3",
    # even functions with E[sigma''] = 0: E|xi|'' = sqrt(2/pi), E cos'' = -exp(-1/2)
    "a*x + b*abs(x) + c*cos(x)": f"0.8*x + 0.5*abs(x) + {0.5 * math.sqrt(2 / math.pi) * math.exp(0.5)!r}*cos(x)",
}


@pytest.mark.parametrize("match", ["ck", "ntk"])
@pytest.mark.parametrize("family", CANCELLING)
def test_a_network_whose_moments_cancel_is_in_its_own_family(family, match):
    network = ExplicitNetwork.of(CANCELLING[family])
    design = equivalent_network(network, family=family, depth=1, match=match)
    assert design.residual <= 1e-13
    assert network_misses(design.network, network, match) <= 1e-13
    record = json.loads(json.dumps(design.to_dict()))
    assert Design.from_dict(record).network == design.network


def test_what_cancels_is_solved_to_many_digits_and_proved():
    network = ExplicitNetwork.of("-0.9*erf(1/sqrt(2))*x + 0.7*abs(x) + 0.9*hard_tanh(x, -1, 1)")
    options = {"family": "piecewise-linear", "depth": 1}
    design = equivalent_network(network, digits=40, **options)
    parameters = dict(design.params[0])
    assert abs(float(parameters["c"])) == pytest.approx(0.9, rel=1e-15)
    a, b = (explicit_coefficients(n, 60, ntk=False) for n in (design.network, network))
    for _, name in CK:
        assert abs(getattr(a, name) - getattr(b, name)) <= 1e-40
    certificate = equivalent_network(network, certified=True, **options).certificate
    assert certificate is not None
    assert "d1_1" in certificate.equations
    assert float(certificate.radius) < 1e-15


def flat_in(family, layer):
    """A network of two layers of a family, one of which has odd functions and d1 = 0."""
    texts, tau = [], 1.0
    for k in range(2):
        a, b, c = (0.3, 0.8, 0.5)
        if k == layer:
            # d1 of the third function, homogeneous of degree -1 or 0 in x/tau
            slopes = {"piecewise-linear": E1, "smooth": gaussian_moments(activation("tanh"), 1).d1.value / tau}
            a = -c * slopes.get(family, 0.0)
        texts.append(FAMILIES[family].layers[0].written(map(repr, (a, b, c)), repr(tau)))
        tau = math.sqrt(gaussian_moments(activation(texts[-1]), tau).V.value)
    return ExplicitNetwork.of(*texts)


@pytest.mark.parametrize("flat", [0, 1])
@pytest.mark.parametrize("family", ["piecewise-linear", "smooth", "hermite-cubic"])
def test_either_of_two_layers_may_have_what_cancels(family, flat):
    network = flat_in(family, flat)
    target = Target.of(network, "ck")
    variants = list(wider_problems(target, FAMILIES[family], 2, free=False))
    assert [problem.cancelled for problem in variants] == [(("d1", 0),), (("d1", 1),)]
    problem = variants[flat]
    attempt = Attempt(FAMILIES[family], problem, search(problem))
    design = finished_design(attempt, target)
    assert design.residual <= 1e-13
    assert network_misses(design.network, network, "ck") <= 1e-13


def test_a_family_that_is_no_sum_of_odd_and_even_functions_has_no_double_root():
    deq = DEQ("abs", "0.2", "0.8")
    design = equivalent_network(deq, family="leaky-relu", certified=True)
    # d1 = (a + b)/2 of one layer; a double root would leave half the digits
    sums = [abs(sum(dict(layer).values())) for layer in design.params]
    assert min(sums) <= 1e-15
    assert misses(deq, design.network, "ck") <= 1e-12
    assert design.certificate is not None


def test_all_functions_are_searched_before_a_family_is_excluded():
    with pytest.raises(NoDesignError, match="proved: no network of 2 layers of the family piecewise-linear"):
        equivalent_network(DEQ("cos", "0.05", "0.95"), family="piecewise-linear")


def test_what_is_zero_to_rounding_alone_leaves_no_function_out_of_a_proof():
    network = ExplicitNetwork.of(CANCELLING["piecewise-linear"])
    assert 0 < explicit_coefficients(network, 30, ntk=False).alpha1 < 1e-30
    with pytest.raises(NoDesignError, match="proved: no network of one layer of the family quadratic"):
        equivalent_network(network, family="quadratic", depth=1)


def test_first_and_second_order_may_vanish_together():
    # tau = 1 is the fixed point, stable as sigma_a2 h = 0.54: V = 6, and E[D(x^3 - 3x)] = 0
    deq = DEQ("x**3 - 3*x", "0.03", "0.82")
    design = equivalent_network(deq, family="piecewise-linear")
    assert (design.depth, design.residual <= 1e-13) == (1, True)
    (layer,) = design.params
    assert explicit_coefficients(design.network, ntk=False).tau2 == pytest.approx(6.0, rel=1e-13)
    assert abs(dict(layer)["a"] + E1 * dict(layer)["c"]) <= 1e-14 * abs(dict(layer)["c"])
