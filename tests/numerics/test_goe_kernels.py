"""DEQs with GOE weights through the public functions, against the pair equation solved one pair at a time."""

from __future__ import annotations

import numpy as np
import pytest

from equikernel.errors import EquikernelError, InputError, UnstableError
from equikernel.numerics.callables import callable_activation
from equikernel.numerics.certificates.certificate import certify
from equikernel.numerics.designs.depth import minimal_depth
from equikernel.numerics.designs.equivalent import family_design
from equikernel.numerics.equivalents import equivalent_ck, equivalent_ntk
from equikernel.numerics.initialisation import goe_centre, goe_coefficients, kernel_pair, kernel_sample
from equikernel.numerics.initialisation.centred import CentredBranch
from equikernel.numerics.kernels import implicit_ck, implicit_kernels
from equikernel.numerics.kernels.effective import effective_table
from equikernel.numerics.power_series import kernel_series
from equikernel.numerics.sensitivities import sensitivities
from equikernel.numerics.solve import solve
from equikernel.theory.activation import activation
from equikernel.theory.equations import ntk_entry
from equikernel.theory.models import DEQ

A2, B2 = 0.2, 0.9


def goe(name, sigma_a2=A2, sigma_b2=B2):
    return DEQ(name, sigma_a2, sigma_b2, weights="goe")


@pytest.fixture(scope="module", name="X")
def _samples():
    rng = np.random.default_rng(3)
    X = rng.standard_normal((24, 12)) / np.sqrt(12) * np.linspace(0.8, 1.1, 24)[:, None]
    X[1], X[3], X[5] = X[0], -X[2], 1.1 * X[4]
    X[7], X[9] = X[6] + 1e-3 * X[8], X[8] + 1e-7 * X[10]
    X[11] = -X[10] + 1e-5 * X[12]
    return X


@pytest.mark.parametrize("name", ["tanh", "relu", "gelu", "hardtanh", "sin(2*x)"])
def test_kernels_are_those_of_the_pairs(X, name):
    sigma_a2 = 0.1 if name == "sin(2*x)" else A2
    centre = goe_centre(name, sigma_a2, B2, 1.0)
    found = implicit_kernels(X, goe(name, sigma_a2), tau0=1, trained="aAB")
    pairs = [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (10, 11), (0, 13), (14, 20), (16, 16)]
    for i, j in pairs:
        inner = X[i] @ X[i] if (i, j) in ((0, 1), (16, 16)) else X[i] @ X[j]
        pair = kernel_pair(name, "goe", sigma_a2, B2, (X[i] @ X[i], X[j] @ X[j], inner), centre)
        scale = np.sqrt(pair.xx * pair.yy)
        assert found.ck[i, j] == pytest.approx(pair.xy, abs=1e-12 * scale)
        ntk = ntk_entry(pair.xy, pair.slope, inner, sigma_a2, B2, "aAB")
        # with kinks the slope is as accurate as sqrt(1 - rho), and the pair equation knows no more than the products
        apart = X[i] @ X[i] + X[j] @ X[j] - 2 * abs(inner)
        loss = np.sqrt(2e-16) if 0 < apart < 1e-8 else 1e-12
        assert found.ntk[i, j] == pytest.approx(ntk, abs=loss * np.sqrt(found.ntk[i, i] * found.ntk[j, j]))
    assert np.array_equal(found.ck, found.ck.T)
    assert found.ck[0, 1] == found.ck[0, 0]  # identical samples
    assert found.contraction < 1
    direct = kernel_sample(name, "goe", sigma_a2, B2, X[20] @ X[20], centre)
    assert found.variances[20] == pytest.approx(direct.v, rel=1e-12)


def test_rectangles_and_threads(X):
    whole = implicit_kernels(X, goe("gelu"), tau0=1)
    part = implicit_kernels(X[:7], goe("gelu"), X[9:], tau0=1, threads=1)
    np.testing.assert_allclose(part.ck, whole.ck[:7, 9:], rtol=0, atol=4e-15)
    np.testing.assert_allclose(part.ntk, whole.ntk[:7, 9:], rtol=0, atol=4e-14)


def test_many_norms_are_those_of_one_alone():
    """Variances interpolated and polished against the fixed point of each norm."""
    norms = np.exp(np.random.default_rng(0).uniform(-1.5, 1.5, 60))
    table = effective_table(activation("tanh"), A2, 0.0)
    found = table.sample_variances(norms, 0)
    for norm2, v in zip(norms[:20], found, strict=False):
        assert v == pytest.approx(kernel_sample("tanh", "goe", A2, 1.0, norm2).v, rel=1e-13)
    # each sample's bits are its own
    assert np.array_equal(found[::-1], table.sample_variances(norms[::-1], 0))


def test_even_activations_have_no_response():
    """Var g at which rounding is all that is left of the response."""
    table = effective_table(activation("abs"), A2, 0.7)
    v = 2.0 ** np.linspace(-8, 10, 150)
    assert np.isfinite(table._direct(0, v, 3)).all()
    assert solve(goe("cos")).alpha1 == 0


@pytest.mark.parametrize(("name", "factor"), [("tanh(20*x)", 5.0), ("erf(10*x)", 20.0)])
def test_parallel_samples_of_different_norms(name, factor):
    """Correlation 1, a step much narrower for one sample than for the other; without recurrence as for iid weights."""
    data = np.array([[0.4, -0.8, 1.1], [0.4, -0.8, 1.1]]) * [[1.0], [factor]]
    found, expected = (implicit_ck(data, DEQ(name, 1e-12, B2, family), tau0=1) for family in ("goe", "iid"))
    # the feedback itself is of relative size sigma_a2 sup phi'
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * 20)


def test_zero_samples(X):
    data = X[:4].copy()
    data[2] = 0.0
    assert not implicit_ck(data, goe("tanh"), tau0=1)[2].any()
    relu = implicit_ck(data, goe("relu"), tau0=1)
    centre = goe_centre("relu", A2, B2, 1.0)
    assert relu[2, 2] == pytest.approx(kernel_sample("relu", "goe", A2, B2, 0.0, centre).q, rel=1e-12)


@pytest.mark.parametrize("weights", ["orthogonal", "goe"])
def test_families_that_agree(X, weights):
    """Orthogonal weights are i.i.d. ones to this order; without recurrence all are."""
    sigma_a2 = A2 if weights == "orthogonal" else 0
    one, other = (implicit_kernels(X, DEQ("gelu", sigma_a2, B2, family)) for family in ("iid", weights))
    assert np.array_equal(one.ck, other.ck)
    assert np.array_equal(one.ntk, other.ntk)
    assert solve(DEQ("gelu", sigma_a2, B2, weights)).alpha2 == solve(DEQ("gelu", sigma_a2, B2)).alpha2


@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_constants_and_plain_functions_change_nothing(X, name):
    kinks = (0.0,) if name == "relu" else ()
    function = {"relu": lambda x: np.maximum(x, 0.0), "tanh": np.tanh}[name]
    X = X[4:7]
    expected = implicit_kernels(X, goe(name), tau0=1)
    for other, tolerance in ((f"{name}(x) + 1000", 1e-13), (callable_activation(function, kinks=kinks), 1e-12)):
        found = implicit_kernels(X, goe(other), tau0=1)
        np.testing.assert_allclose(found.ck, expected.ck, rtol=0, atol=tolerance)
        # a function without a derivative of its own: at kinks sqrt(1 - rho) of the nearest pair, 1e-7, sets the scale
        np.testing.assert_allclose(found.ntk, expected.ntk, rtol=0, atol=1e3 * tolerance)


@pytest.mark.parametrize("trained", ["a", "aA", "aAB"])
def test_solve(trained):
    found = solve(goe("gelu"), 1.2, trained=trained)
    expected = goe_coefficients("gelu", A2, B2, 1.2, trained)
    for name in ("alpha1", "alpha2", "alpha3", "alpha4", "lambda1", "gamma2"):
        assert getattr(found, name) == getattr(expected.ck, name)
    for name in ("beta1", "beta2", "beta3", "kappa2"):
        assert getattr(found, name) == getattr(expected.ntk, name)
    assert found.solved
    assert found.to_dict()["weights"] == "goe"
    assert found.to_dict()["other_fixed_points"] is None
    assert found.residual < 1e-13
    diagonal = implicit_kernels(np.array([[1.2]]), goe("gelu"), trained=trained)
    assert found.q == pytest.approx(diagonal.variances[0], rel=1e-12)
    assert [found.gamma2, found.kappa2] == pytest.approx([diagonal.ck[0, 0], diagonal.ntk[0, 0]], rel=1e-12)


@pytest.mark.parametrize("kernel", ["ck", "ntk"])
def test_the_high_dimensional_equivalent_approaches_the_kernel(kernel):
    """The operator norm of K - Kbar falls by about 2 as p grows by 4; with the i.i.d. coefficients it does not."""
    errors, wrong = [], []
    for p in (64, 1024):
        X = np.random.default_rng(p).standard_normal((p // 4, p)) / np.sqrt(p)
        exact = implicit_kernels(X, goe("gelu", 0.3), tau0=1)
        equivalent = {"ck": equivalent_ck, "ntk": equivalent_ntk}[kernel]
        for deq, kept in ((goe("gelu", 0.3), errors), (DEQ("gelu", 0.3, B2), wrong)):
            kept.append(np.linalg.norm(getattr(exact, kernel) - equivalent(X, deq, tau0=1), 2))
    assert errors[1] < errors[0] / 2
    assert errors[1] < wrong[1] / 3


@pytest.mark.parametrize("name", ["relu", "elu"])
def test_the_branch_of_centred_fixed_points(name):
    """Its slope against differences, its points against the sample's fixed point."""
    branch, step = CentredBranch(activation(name), B2), 1e-4
    for w in (0.01, 0.1, 0.3):
        below, above, here = (branch.at(w * np.exp(t)) for t in (-step, step, 0.0))
        rise = np.log(above.s / below.s) / (2 * step)
        assert here.kappa == pytest.approx(1 - rise, abs=10 * step**2)
        point = kernel_sample(name, "goe", here.s, B2, 1.0, branch.centre)
        assert [point.q, here.s * point.chi] == pytest.approx([here.q, here.a], rel=1e-11)
        assert abs(point.integrals.mean) < 1e-13


def test_the_critical_sigma_of_centred_networks():
    """R = 1 there: just below it R is near 1, just above there is an error that names it."""
    name = "elu"
    with pytest.raises(
        UnstableError, match=r"centred, has no stable fixed point.*critical sigma_a2 is 0\.\d+"
    ) as caught:
        goe_coefficients(name, 2, B2)
    critical = float(str(caught.value).split("critical sigma_a2 is ")[1].split(":")[0])
    assert 0.98 < goe_coefficients(name, 0.9999 * critical, B2).stability < 1
    with pytest.raises(UnstableError):
        goe_coefficients(name, 1.0001 * critical, B2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: DEQ("tanh", A2, B2, "gue"), InputError, "unknown weight family 'gue'"),
        (lambda: solve(goe("tanh"), digits=30), InputError, "more than 15 digits are not known for DEQs with GOE"),
        (lambda: solve(goe("tanh"), certified=True), InputError, "not known for DEQs with GOE weights"),
        (lambda: certify(goe("tanh")), InputError, "certificates are not known for DEQs with GOE weights"),
        (lambda: sensitivities(goe("tanh")), InputError, "sensitivities are not known"),
        (lambda: kernel_series(goe("tanh")), InputError, "power series of kernels are not known"),
        (lambda: family_design(goe("tanh")), InputError, "equivalent networks are not known"),
        (lambda: minimal_depth(goe("tanh")), InputError, "depths of equivalent networks are not known"),
        (lambda: solve(goe("exp")), InputError, "bounded slope"),
        (lambda: solve(goe("tanh", 2)), UnstableError, "the critical sigma_a2 is 1.1"),
        (lambda: solve(goe("x", "0.25")), UnstableError, "the critical sigma_a2 is 0.25"),
        (lambda: solve(goe("2*x", "1/16")), UnstableError, "the critical sigma_a2 is 0.0625"),
        (
            lambda: implicit_ck(np.array([[1.0], [0.1]]), goe("tanh", 0.6), tau0=1),
            UnstableError,
            "sample 1: tanh with goe weights has no stable fixed point",
        ),
    ],
)
def test_refusals_are_one_sentence(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert isinstance(caught.value, EquikernelError)
    assert "\n" not in str(caught.value)
