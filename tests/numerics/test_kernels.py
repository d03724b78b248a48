"""Exact kernels: the fixed-point equation holds against closed forms and quadrature, awkward samples included."""

from __future__ import annotations

import math

import numpy as np
import pytest

from equikernel.errors import DataError, InputError, NoFixedPointError, UnstableError
from equikernel.numerics.dual import pair_duals
from equikernel.numerics.equivalents import equivalent_ck, equivalent_ntk
from equikernel.numerics.kernels import (
    explicit_ck,
    explicit_kernels,
    explicit_ntk,
    implicit_ck,
    implicit_kernels,
    implicit_ntk,
)
from equikernel.numerics.moments import gaussian_moments
from equikernel.numerics.solve import solve
from equikernel.theory.models import DEQ, ExplicitNetwork

from .test_dual import erf, relu, sin

A2, B2 = 0.4, 0.6


@pytest.fixture(scope="module")
def awkward():
    """Duplicates, antipodes, zero rows, multiples, near-duplicates, tiny and large rows."""
    rng = np.random.default_rng(7)
    X = rng.normal(size=(16, 5)) / math.sqrt(5)
    X[1], X[2], X[3], X[4] = X[0], -X[0], 0.0, 2.0 * X[0]
    X[5] = X[0] + 1e-6 * rng.normal(size=5)
    X[6] = X[0] * (1 + 1e-9)
    X[7] = X[0] + 1e-3 * rng.normal(size=5)
    X[8] *= 1e-9
    X[9] = 0.0
    X[10] *= 3.0
    return X


ACTIVATIONS = ["relu", "tanh", "gelu", "hard_tanh", "cos", "elu", "where(x>1,x-1,where(x<-0.5,0.3*(x+0.5),0))"]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_equation_holds_at_every_pair(name, awkward):
    deq = DEQ(name, "0.4", "0.6")
    kernels = implicit_kernels(awkward, deq, trained="aAB")
    centre = gaussian_moments(deq.activation, kernels.tau).mean.value
    products = awkward @ awkward.T
    lam = A2 * kernels.ck + B2 * products
    scale = float(kernels.ck.max())
    # V is accurate to 4e-15 of E[phi^2], of which a small variance is a small part
    assert np.allclose(np.diag(lam), kernels.variances, rtol=1e-14, atol=4e-15 * float(kernels.variances.max()))
    for i in range(16):
        for j in range(i + 1):
            q_i, q_j = kernels.variances[i], kernels.variances[j]
            if q_i * q_j == 0.0:
                continue
            rho = 1.0 if i == j or (awkward[i] == awkward[j]).all() else lam[i, j] / math.sqrt(q_i * q_j)
            value, slope = pair_duals(deq.activation, centre, q_i, q_j, rho)
            assert abs(value - kernels.ck[i, j]) <= 5e-15 * scale, (i, j)
            ntk = (value + B2 * products[i, j] * slope) / (1 - A2 * slope)
            # where kinks meet, the slope moves like the square root of the rounding of rho
            identical = i == j or (awkward[i] == awkward[j]).all()
            rounding = 1e-14 + (0.0 if identical else 4 * 2**-53 / math.sqrt(max(1 - abs(rho), 2**-53)))
            assert abs(ntk - kernels.ntk[i, j]) <= rounding * np.abs(kernels.ntk).max(), (i, j)


@pytest.mark.parametrize(("name", "dual"), [("relu", relu), ("erf", erf), ("sin", sin)])
def test_against_closed_form_duals(name, dual):
    """An independent solver: plain iteration of equation (2) with the textbook dual activation, centred by hand."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(12, 7)) / math.sqrt(7)
    X[0] = X[1]
    products = X @ X.T
    kernels = implicit_kernels(X, DEQ(name, "0.4", "0.6"), tau0=1)
    # E relu(sqrt(q) xi) = sqrt(q/(2 pi)); the others are odd
    half = math.sqrt(1 / (2 * math.pi)) if name == "relu" else 0.0
    tau = solve(DEQ(name, "0.4", "0.6"), trained="a").tau
    c = half * tau
    q = np.diag(products).copy()
    for _ in range(400):
        q = np.array([A2 * (dual(v, v, 1.0)[0] - 2 * c * half * math.sqrt(v) + c * c) for v in q]) + B2 * np.diag(
            products
        )
    for i in range(12):
        for j in range(i):
            lam = 0.0
            root = math.sqrt(q[i] * q[j])
            for _ in range(400):
                rho = min(max(lam / root, -1.0), 1.0)
                mean = c * half * (math.sqrt(q[i]) + math.sqrt(q[j]))
                value, slope = dual(q[i], q[j], rho)
                lam = A2 * (value - mean + c * c) + B2 * products[i, j]
            assert kernels.ck[i, j] == pytest.approx(value - mean + c * c, abs=3e-15)
            if (X[i] != X[j]).any():
                assert kernels.ntk[i, j] == pytest.approx((value - mean + c * c) / (1 - A2 * slope), abs=2e-14)


@pytest.mark.parametrize("name", [*ACTIVATIONS, "sign"])
def test_structure(name, awkward):
    deq = DEQ(name, "0.4", "0.6")
    G = implicit_ck(awkward, deq)
    assert (G == G.T).all()
    assert np.linalg.eigvalsh(G).min() >= -1e-14 * len(G) * G.max()
    assert (G[0] == G[1]).all()
    assert G[0, 1] == G[0, 0]
    assert (G[3] == G[9]).all()
    order = np.random.default_rng(0).permutation(len(awkward))
    assert np.abs(implicit_ck(awkward[order], deq) - G[np.ix_(order, order)]).max() <= 3e-15 * G.max()
    if deq.activation.parity == "odd":
        assert np.abs(G[0] + G[2]).max() <= 1e-14 * G.max()  # an antipode changes the sign
        assert G[3, 3] == 0.0
    if name != "sign":
        K = implicit_ntk(awkward, deq)
        assert (K == K.T).all()
        assert np.linalg.eigvalsh(K).min() >= -1e-13 * len(K) * K.max()


def test_sphere_is_a_power_series():
    # on a sphere of squared norm tau0^2 the CK's diagonal is gamma^2, and for s -> 0 its slope is alpha_1
    rng = np.random.default_rng(5)
    X = rng.normal(size=(6, 50))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    s = solve(DEQ("gelu", "0.4", "0.6"))
    kernels = implicit_kernels(X, DEQ("gelu", "0.4", "0.6"))
    assert np.diag(kernels.ck) == pytest.approx(6 * [s.gamma2], rel=1e-13)
    assert np.diag(kernels.ntk) == pytest.approx(6 * [s.kappa2], rel=1e-13)


def test_contraction_to_a_single_layer():
    X = np.random.default_rng(2).normal(size=(8, 4)) / 2
    net = ExplicitNetwork.of("gelu", tau0=1.0)
    assert implicit_ck(X, DEQ("gelu", 0, 1), tau0=1) == pytest.approx(explicit_ck(X, net), rel=1e-14, abs=1e-16)
    assert implicit_ntk(X, DEQ("gelu", 0, 1), trained="aAB", tau0=1) == pytest.approx(explicit_ntk(X, net), rel=1e-13)


@pytest.mark.parametrize("names", [("relu", "relu"), ("erf", "sin", "erf"), ("gelu", "hard_tanh")])
def test_explicit_kernels_layer_by_layer(names, awkward):
    X = awkward[:8]
    net = ExplicitNetwork.of(*names)
    kernels = explicit_kernels(X, net)
    sigma = X @ X.T
    theta = sigma.copy()
    tau = 1.0
    for layer in net.layers:
        m = gaussian_moments(layer.activation, tau)
        new, slopes = np.zeros_like(sigma), np.zeros_like(sigma)
        for i in range(8):
            for j in range(8):
                q_i, q_j = sigma[i, i], sigma[j, j]
                if q_i * q_j == 0:
                    ends = [0.0 if q == 0 else math.sqrt(q) for q in (q_i, q_j)]
                    means = [
                        layer.activation(0.0) if t == 0 else gaussian_moments(layer.activation, t).mean.value
                        for t in ends
                    ]
                    new[i, j] = (means[0] - m.mean.value) * (means[1] - m.mean.value)
                    slopes[i, j] = math.nan
                    continue
                same = (X[i] == X[j]).all()
                rho = 1.0 if same else max(min(sigma[i, j] / math.sqrt(q_i * q_j), 1.0), -1.0)
                new[i, j], slopes[i, j] = pair_duals(layer.activation, m.mean.value, q_i, q_j, rho)
        known = ~np.isnan(slopes)
        theta = np.where(known, new + theta * np.where(known, slopes, 0.0), new)
        sigma, tau = new, math.sqrt(m.V.value)
    assert np.abs(kernels.ck - sigma).max() <= 2e-14 * sigma.max()
    usable = known & (np.abs(theta) < np.inf)
    assert np.abs((kernels.ntk - theta)[usable]).max() <= 1e-7 * theta.max()  # near-duplicates: rho's own rounding


def test_instability_names_the_sample():
    X = np.random.default_rng(3).normal(size=(5, 3))
    X[4] *= 1e-6  # tanh(8x) is steep at the origin
    with pytest.raises(UnstableError, match="for sample 4"):
        implicit_ntk(X, DEQ("tanh(8*x)/4", "0.5", "0.5"))
    with pytest.raises(NoFixedPointError, match="sample 4"):
        implicit_ck(np.vstack([np.ones((4, 1)), [[30.0]]]), DEQ("x**2/4", "0.5", "0.5"), tau0=1)


def test_methods_and_contraction_are_reported(awkward):
    kernels = implicit_kernels(awkward, DEQ("hard_tanh", "0.4", "0.6"))
    assert sum(kernels.methods.values()) == 16 * 15 // 2
    assert kernels.methods["identical"] == 4  # a duplicate and two antipodes (hard tanh is odd), and the zero rows
    assert kernels.methods["quadrature"] > 0
    assert kernels.error_bound <= 1e-14
    assert kernels.contraction == pytest.approx(0.4)  # at the zero row phi' = 1
    assert implicit_kernels(awkward, DEQ("sign", "0.4", "0.6"), ntk=False).contraction == math.inf


@pytest.mark.parametrize(
    ("X", "says"),
    [
        ([[1.0, float("nan")]], "NaN"),
        ([1.0, 2.0], "two dimensions"),
        (np.zeros((0, 3)), "at least one sample"),
        (np.array([[object()]]), "real numbers"),
        ([["a"]], "real numbers"),
        (np.zeros((3, 2)), "every sample is zero"),
        ([[1.0 + 2.0j]], "real numbers"),
    ],
)
def test_bad_data(X, says):
    with pytest.raises(DataError, match=says) as caught:
        implicit_ck(X, DEQ("relu"))
    assert caught.value.exit_code == 2


def test_jumps_asked_for_an_ntk():
    with pytest.raises(InputError, match="jumps"):
        implicit_ntk([[1.0, 0.0], [0.0, 1.0]], DEQ("sign"))
    with pytest.raises(InputError, match="jumps"):
        explicit_ntk([[1.0, 0.0]], ExplicitNetwork.of("heaviside"))
    with pytest.raises(InputError, match="trained"):
        implicit_ntk([[1.0, 0.0]], DEQ("relu"), trained="b")


def test_read_only_fortran_ordered_and_integer_data():
    X = np.asfortranarray(np.array([[1, 0], [0, 2], [1, 1]]))
    X.setflags(write=False)
    assert implicit_ck(X, DEQ("gelu")) == pytest.approx(implicit_ck(X.astype(float), DEQ("gelu")))


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu"])
def test_equivalents_approach_the_exact_kernels(name):
    """Both equivalents improve like p^(-1/2): from p = 200 to p = 800 the error halves, within the spread of seeds."""
    deq = DEQ(name)
    errors = []
    for p in (200, 800):
        X = np.random.default_rng(p).normal(size=(p // 2, p)) / math.sqrt(p)
        zeros = np.zeros(p // 2, dtype=int)
        known = {"labels": zeros, "means": np.zeros((1, p)), "covariances": [1.0], "tau0": 1}
        exact = implicit_kernels(X, deq, tau0=1)
        errors.append(
            [
                np.linalg.norm(exact.ck - equivalent_ck(X, deq, **known), 2),
                np.linalg.norm(exact.ntk - equivalent_ntk(X, deq, **known), 2),
                np.linalg.norm(exact.ck - equivalent_ck(X, deq, tau0=1), 2),
            ]
        )
    ratios = np.array(errors[0]) / np.array(errors[1])
    assert ((ratios[:2] > 1.6) & (ratios[:2] < 2.5)).all()
    assert ratios[2] > 1.6  # without population values the coefficients adapt to the sample: at least as fast


def test_a_large_constant_does_not_cost_digits():
    X = np.random.default_rng(0).normal(size=(6, 4)) / 2
    plain, shifted = implicit_ck(X, DEQ("1e-6*gelu(x)")), implicit_ck(X, DEQ("1e-6*gelu(x) + 3"))
    assert np.abs(shifted - plain).max() <= 1e-13 * plain.max()
