"""Finite-width networks against independent infinite-width kernels, autograd, and synthetic draws of known truth."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch

from equikernel.errors import ConvergenceError, DataError, InputError
from equikernel.numerics.kernels import explicit_kernels, explicit_ntk
from equikernel.theory.activation import activation
from equikernel.theory.models import DEQ, ExplicitNetwork, Layer
from equikernel.validation.corrections import BiasMoments, bias_moments, fitted_power
from equikernel.validation.draws import network_parts
from equikernel.validation.empirical import (
    Draw,
    average_draws,
    empirical_ck,
    empirical_explicit_ck,
    empirical_explicit_ntk,
    empirical_ntk,
    network_draws,
)
from equikernel.validation.ladder import fit_ladder, width_ladder

A2, B2 = 0.4, 0.6
WIDTHS = (64, 128, 256)
DRAWS = 40


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", name="X")
def _data() -> np.ndarray:
    """Six samples of different norms, two of them close and two nearly opposite."""
    data = np.random.default_rng(5).standard_normal((6, 8)) / np.sqrt(8)
    data[1] = 0.9 * data[0] + 0.3 * data[1]
    data[3] = -1.1 * data[2] + 0.2 * data[3]
    return data


# -- independent infinite-width kernels: Gauss-Hermite products for tanh, arc-cosine for relu, plain iteration ---------

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(60)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def tanh_dual(q_i, q_j, covariance, derivative=False):
    f = (lambda t: 1 / np.cosh(t) ** 2) if derivative else np.tanh
    rho = covariance / np.sqrt(q_i * q_j)
    u = np.sqrt(q_i) * NODES[:, None]
    v = np.sqrt(q_j) * (rho * NODES[:, None] + np.sqrt(max(1 - rho**2, 0.0)) * NODES[None, :])
    return np.einsum("i,ij,j", WEIGHTS, f(u) * f(v), WEIGHTS)


def relu_dual(q_i, q_j, covariance, tau):
    """E[(relu(u) - c)(relu(v) - c)], c = tau/sqrt(2 pi)."""
    rho = min(covariance / math.sqrt(q_i * q_j), 1.0)
    angle = math.acos(max(rho, -1.0))
    product = math.sqrt(q_i * q_j) / (2 * math.pi) * (math.sin(angle) + (math.pi - angle) * math.cos(angle))
    c = tau / math.sqrt(2 * math.pi)
    return product - c * (math.sqrt(q_i) + math.sqrt(q_j)) / math.sqrt(2 * math.pi) + c * c


def implicit_kernel(X, dual, sigma_a2=A2, sigma_b2=B2):
    n, s = len(X), X @ X.T
    G = np.zeros((n, n))
    for _ in range(45):  # phi' <= 1 for both: each step contracts by sigma_a2 <= 0.6 at worst, 0.4 where it counts
        L = sigma_a2 * G + sigma_b2 * s
        for i, j in zip(*np.triu_indices(n), strict=True):
            G[i, j] = G[j, i] = dual(L[i, i], L[j, j], L[i, j])
    return G, sigma_a2 * G + sigma_b2 * s


def relu_fixed_point(X, sigma_a2=A2, sigma_b2=B2):
    """tau* in closed form: q = sigma_a2 q (1/2 - 1/(2 pi)) + sigma_b2 tau0^2."""
    tau02 = np.mean(np.sum(X * X, axis=1))
    return math.sqrt(sigma_b2 * tau02 / (1 - sigma_a2 * (0.5 - 0.5 / math.pi)))


@pytest.fixture(scope="module")
def tanh_kernel(X):
    return implicit_kernel(X, tanh_dual)


@pytest.fixture(scope="module")
def relu_kernel(X):
    tau = relu_fixed_point(X)
    return implicit_kernel(X, lambda *q: relu_dual(*q, tau))[0]


@pytest.fixture(scope="module")
def tanh_ladder(X, tanh_kernel):
    return width_ladder(X, DEQ("tanh", A2, B2), WIDTHS, DRAWS, 11, tanh_kernel[0])


# -- the conjugate kernel ----------------------------------------------------------------------------------------------


def test_tanh_extrapolates_to_the_kernel_equations(tanh_ladder):
    summary = tanh_ladder.summary
    assert summary.consistent
    assert abs(summary.mean) < 4 * summary.mean_error
    assert [row.width for row in tanh_ladder.rows] == list(WIDTHS)
    # the standard error of one width falls as m^(-1/2): a ratio of 2 over the ladder, known to some 8 %
    ratio = tanh_ladder.rows[0].monte_carlo / tanh_ladder.rows[-1].monte_carlo
    assert 1.5 < ratio < 2.7


def test_relu_extrapolates_to_the_kernel_equations(X, relu_kernel):
    assert width_ladder(X, DEQ("relu", A2, B2), WIDTHS, DRAWS, 12, relu_kernel).summary.consistent


def test_wrong_kernels_are_found_out(X, tanh_ladder):
    wrong = implicit_kernel(X, tanh_dual, sigma_a2=0.6, sigma_b2=0.7)[0]
    assert not fit_ladder(tanh_ladder.kernels, wrong).summary.consistent
    forgot_the_recursion = implicit_kernel(X, tanh_dual, sigma_a2=0.0)[0]
    assert not fit_ladder(tanh_ladder.kernels, forgot_the_recursion).summary.consistent


def test_width_512_is_within_monte_carlo_error_and_the_fitted_bias(X, tanh_kernel, tanh_ladder):
    kernel = empirical_ck(X, DEQ("tanh", A2, B2), width=512, draws=DRAWS, seed=13)
    # Sidak's bound at 1e-3 for 21 entries on Student's t; the bias from the (independent) ladder, three errors generous
    quantile = scipy.stats.t.isf(-math.expm1(math.log1p(-1e-3) / 21) / 2, DRAWS - 1)
    bias = (np.abs(tanh_ladder.slope) + 3 * tanh_ladder.slope_error) / 512
    assert (np.abs(kernel.mean - tanh_kernel[0]) <= quantile * kernel.standard_error + bias).all()
    assert (kernel.draws, kernel.width) == (DRAWS, 512)
    assert kernel.residual <= 1e-12
    # plain iteration contracts by about sqrt(sigma_a2 v) < sqrt(0.4) a step: 1e-12 takes at most 61, and a few for luck
    assert kernel.iterations <= 70


def test_a_draw_is_the_network_of_its_documented_stream(X):
    m, seed, draw = 40, 3, 2
    (got,) = network_draws(X, DEQ("relu", A2, B2), width=m, draws=[draw], seed=seed)
    stream = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(m, draw)))
    A, B = stream.standard_normal((m, m)), stream.standard_normal((m, X.shape[1]))
    centre = relu_fixed_point(X) / math.sqrt(2 * math.pi)
    z = np.zeros((m, len(X)))
    for _ in range(300):
        z = (np.maximum(math.sqrt(A2) * A @ z + math.sqrt(B2) * B @ X.T, 0) - centre) / math.sqrt(m)
    np.testing.assert_allclose(got.kernel, z.T @ z, rtol=0, atol=1e-10)
    assert np.array_equal(got.kernel, got.kernel.T)


def test_tau0_fixes_the_centring(X):
    deq, norm = DEQ("relu", A2, B2), math.sqrt(np.mean(np.sum(X * X, axis=1)))
    options = {"width": 16, "draws": 2, "seed": 1}
    data_scale = empirical_ck(X, deq, **options)
    np.testing.assert_allclose(empirical_ck(X, deq, tau0=norm, **options).mean, data_scale.mean, rtol=1e-10)
    assert not np.allclose(empirical_ck(X, deq, tau0=2.0, **options).mean, data_scale.mean)


def test_without_hidden_weights_one_iteration_is_all(X):
    kernel = empirical_ck(X, DEQ("tanh", 0, 1), width=32, draws=2, seed=0)
    assert (kernel.iterations, kernel.residual) == (2, 0.0)


def test_read_only_data_are_taken_without_a_warning(X):
    frozen = X.copy()
    frozen.flags.writeable = False  # as the data sets of load_dataset are
    options = {"width": 16, "draws": 2, "seed": 1}
    assert np.array_equal(
        empirical_ck(frozen, DEQ("tanh"), **options).mean, empirical_ck(X, DEQ("tanh"), **options).mean
    )


def test_zero_and_duplicate_samples(X, tanh_kernel):
    data = np.vstack([X, X[:1], np.zeros((1, X.shape[1]))])
    exact = np.zeros((8, 8))
    exact[:7, :7] = tanh_kernel[0][np.ix_([*range(6), 0], [*range(6), 0])]
    ladder = width_ladder(data, DEQ("tanh", A2, B2), WIDTHS[:2], 8, 4, exact)
    assert (ladder.limit[7] == 0).all()
    assert (ladder.z[7] == 0).all()
    np.testing.assert_allclose(ladder.limit[6], ladder.limit[0], rtol=0, atol=1e-10)
    exact[7, 7] = 1e-6  # an entry that never fluctuates must be right to the fixed points' accuracy
    assert fit_ladder(ladder.kernels, exact).z[7, 7] < -8


def test_jumps_have_a_conjugate_kernel(X):
    # E[sign(u) sign(v)] = (2/pi) asin(rho); without hidden weights the kernel equations are this formula
    s = X @ X.T
    exact = 2 / math.pi * np.arcsin(np.clip(s / np.sqrt(np.outer(np.diag(s), np.diag(s))), -1, 1))
    assert width_ladder(X, DEQ("sign", 0, 1), WIDTHS, DRAWS, 21, exact).summary.consistent


# -- reproducible, resumable -------------------------------------------------------------------------------------------


def test_draws_are_the_same_to_the_bit_in_any_order(X):
    deq = DEQ("gelu", A2, B2)
    first = empirical_ck(X, deq, width=48, draws=6, seed=7)
    again = empirical_ck(X, deq, width=48, draws=6, seed=7)
    assert np.array_equal(first.mean, again.mean)
    assert np.array_equal(first.standard_error, again.standard_error)
    order = [4, 0, 5, 2, 1, 3]
    found = dict(zip(order, network_draws(X, deq, width=48, draws=order, seed=7), strict=True))
    resumed = average_draws((found[k] for k in range(6)), 48)
    assert np.array_equal(first.mean, resumed.mean)
    assert np.array_equal(first.standard_error, resumed.standard_error)
    stack = np.array([found[k].kernel for k in range(6)])
    np.testing.assert_allclose(first.mean, stack.mean(axis=0), rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(first.standard_error, stack.std(axis=0, ddof=1) / math.sqrt(6), rtol=1e-12)
    assert not np.array_equal(first.mean, empirical_ck(X, deq, width=48, draws=6, seed=8).mean)


def test_float32_sees_the_same_networks(X):
    deq = DEQ("tanh", A2, B2)
    double = empirical_ck(X, deq, width=64, draws=3, seed=2)
    single = empirical_ck(X, deq, width=64, draws=3, seed=2, dtype="float32")
    # stopped at a relative change of 1e-5 a step, with a contraction of at most 0.7: twice 2.4e-5 in the kernel
    np.testing.assert_allclose(single.mean, double.mean, rtol=0, atol=5e-5 * double.mean.max())
    assert single.mean.dtype == np.float64


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_cuda_sees_the_same_networks(X):
    deq = DEQ("gelu", A2, B2)
    on_cpu = empirical_ntk(X, deq, width=64, draws=3, seed=2)
    on_cuda = empirical_ntk(X, deq, width=64, draws=3, seed=2, device="cuda")
    np.testing.assert_allclose(on_cuda.mean, on_cpu.mean, rtol=0, atol=1e-10)


# -- explicit networks -------------------------------------------------------------------------------------------------


def test_two_layers_centred_each_at_its_own_scale(X):
    s = X @ X.T
    # relu at tau0 = 1, then tanh, odd and so centred at any scale
    first = np.array([[relu_dual(s[i, i], s[j, j], s[i, j], 1.0) for j in range(6)] for i in range(6)])
    second = np.array([[tanh_dual(first[i, i], first[j, j], first[i, j]) for j in range(6)] for i in range(6)])
    network = ExplicitNetwork.of("relu", "tanh", tau0=1.0)
    assert width_ladder(X, network, WIDTHS, DRAWS, 6, second).summary.consistent
    # relu twice: the second layer is centred at tau1 = sqrt(1/2 - 1/(2 pi))
    tau1 = math.sqrt(0.5 - 0.5 / math.pi)
    twice = np.array([[relu_dual(first[i, i], first[j, j], first[i, j], tau1) for j in range(6)] for i in range(6)])
    network = ExplicitNetwork.of("relu", "relu", tau0=1.0)
    ladder = width_ladder(X, network, WIDTHS, DRAWS, 8, twice)
    assert ladder.summary.consistent
    kernel = empirical_explicit_ck(X, network, width=64, draws=DRAWS, seed=8)
    assert np.array_equal(kernel.mean, ladder.kernels[0].mean)
    assert (kernel.iterations, kernel.residual) == (0, 0.0)


# -- the neural tangent kernel -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("trained", ["a", "aA", "aAB"])
@pytest.mark.parametrize("name", ["tanh", "relu"])
def test_ntk_is_the_gram_matrix_of_autograd_gradients(X, name, trained):
    m, seed = 12, 3
    phi = {"tanh": torch.tanh, "relu": torch.relu}[name]
    centre = 0.0 if name == "tanh" else relu_fixed_point(X, 0.3) / math.sqrt(2 * math.pi)
    stream = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(m, 0)))
    A, B, a = (torch.tensor(stream.standard_normal(shape)) for shape in ((m, m), (m, X.shape[1]), (m, 1)))
    parameters = {"a": [a], "aA": [a, A], "aAB": [a, A, B]}[trained]
    for parameter in parameters:
        parameter.requires_grad_()
    rows = []
    for x in torch.tensor(X):
        z = torch.zeros(m, dtype=torch.float64)
        for _ in range(250):  # differentiation through the unrolled iteration
            z = (phi(math.sqrt(0.3) * (A @ z) + math.sqrt(B2) * (B @ x)) - centre) / math.sqrt(m)
        gradients = torch.autograd.grad(a[:, 0] @ z, parameters)
        rows.append(torch.cat([g.ravel() for g in gradients]))
    jacobian = torch.stack(rows).numpy()
    (draw,) = network_draws(X, DEQ(name, 0.3, B2), width=m, draws=[0], seed=seed, trained=trained)
    np.testing.assert_allclose(draw.kernel, jacobian @ jacobian.T, rtol=0, atol=1e-9 * np.abs(draw.kernel).max())


GROUPS = ("a", "A", "B", "aA", "aB", "AB", "aAB")


@pytest.mark.parametrize("name", ["tanh", "gelu"])
def test_the_ntk_of_any_groups_is_the_gram_matrix_of_unrolled_jacobians(X, name):
    """torch.func differentiates plain iterations carried to convergence; it cannot see through the implicit solver."""
    m, seed, a2, steps, data = 12, 4, 0.1, 120, X[:4]
    phi = {"tanh": torch.tanh, "gelu": torch.nn.functional.gelu}[name]
    (parts,) = network_parts(data, DEQ(name, a2, B2), width=m, draws=[0], seed=seed, tau0=1.0)
    stream = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(m, 0)))
    shapes = {"A": (m, m), "B": (m, X.shape[1]), "a": (m,)}
    weights = {group: torch.tensor(stream.standard_normal(shape)) for group, shape in shapes.items()}
    centre = stationary_mean(lambda t: phi(torch.tensor(t)).numpy(), a2)

    def step(weights, z, x):
        u = math.sqrt(a2) * (weights["A"] @ z) + math.sqrt(B2) * (weights["B"] @ x)
        return (phi(u) - centre) / math.sqrt(m)

    def unrolled(weights, x):
        z = torch.zeros(m, dtype=torch.float64)
        for _ in range(steps):
            z = step(weights, z, x)
        return weights["a"] @ z, z

    samples = torch.tensor(data)
    jacobians, states = torch.func.vmap(torch.func.jacrev(unrolled, has_aux=True), (None, 0))(weights, samples)
    slopes = torch.func.vmap(torch.func.jacrev(step, argnums=1), (None, 0, 0))(weights, states, samples)
    contraction = float(torch.linalg.matrix_norm(slopes, 2).max())
    condition = 1 / (1 - contraction)
    # the unrolled derivative lacks less than steps contraction^steps; a state stopped at 1e-12 is right to 1e-12
    # condition, its adjoint, whose equation has the state in it (|phi''| <= 1), to 1e-12 condition^2, |a| ~ sqrt(m)
    assert contraction < 0.75
    assert steps * contraction**steps < 1e-12
    tolerance = 4e-12 * condition**2 * math.sqrt(m)
    rows = {group: J.reshape(len(data), -1).numpy() for group, J in jacobians.items()}
    for trained in GROUPS:
        jacobian = np.hstack([rows[group] for group in trained])
        expected = jacobian @ jacobian.T
        found = parts.kernel(trained).kernel
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())
        (draw,) = network_draws(data, DEQ(name, a2, B2), width=m, draws=[0], seed=seed, tau0=1.0, trained=trained)
        # the states of a CK alone are the same to the bit: the readout is drawn last
        assert np.array_equal(draw.kernel, found)


def stationary_mean(phi, sigma_a2):
    """E[phi(tau* xi)] at tau0 = 1, by Gauss-Hermite quadrature and iteration of q = sigma_a2 Var phi + sigma_b2."""
    q = B2
    for _ in range(60):
        values = phi(np.sqrt(q) * NODES)
        mean = float(WEIGHTS @ values)
        q = sigma_a2 * float(WEIGHTS @ (values - mean) ** 2) + B2
    return mean


@pytest.mark.parametrize("trained", ["aA", "aAB"])
def test_ntk_extrapolates_to_theory(X, tanh_kernel, trained):
    G, L = tanh_kernel
    slope = np.array([[tanh_dual(L[i, i], L[j, j], L[i, j], derivative=True) for j in range(6)] for i in range(6)])
    exact = G / (1 - A2 * slope) + (B2 * (X @ X.T) * slope / (1 - A2 * slope) if trained == "aAB" else 0.0)
    ladder = width_ladder(X, DEQ("tanh", A2, B2), WIDTHS, DRAWS, 9, exact, trained=trained)
    assert ladder.summary.consistent
    assert not fit_ladder(ladder.kernels, G).summary.consistent
    kernel = empirical_ntk(X, DEQ("tanh", A2, B2), width=64, draws=DRAWS, seed=9, trained=trained)
    assert np.array_equal(kernel.mean, ladder.kernels[0].mean)


def test_with_only_the_readout_trained_the_ntk_is_the_ck(X):
    options = {"width": 24, "draws": 2, "seed": 5}
    ck = empirical_ck(X, DEQ("sign", 0, 1), **options)
    assert np.array_equal(empirical_ntk(X, DEQ("sign", 0, 1), trained="a", **options).mean, ck.mean)


# -- the neural tangent kernel of explicit networks --------------------------------------------------------------------

# text, the same function in torch, its kinks
LAYERS = {
    "tanh": ("tanh", torch.tanh, ()),
    "clip": ("1.3*max(min(x,0.8),-0.8)", lambda x: 1.3 * x.clamp(-0.8, 0.8), (-0.8, 0.8)),
    "leaky1": ("max(1.2*x,0.7*x)", lambda x: torch.maximum(1.2 * x, 0.7 * x), (0.0,)),
    "leaky2": ("max(0.9*x,0.1*x)", lambda x: torch.maximum(0.9 * x, 0.1 * x), (0.0,)),
    "gelu": ("gelu", torch.nn.functional.gelu, ()),
    "abs": ("abs(x)", torch.abs, (0.0,)),
    "wave": ("x*x-sin(x)", lambda x: x * x - torch.sin(x), ()),
}


def explicit(names, rates=(), tau0=0.9):
    return ExplicitNetwork(tuple(Layer(activation(LAYERS[name][0])) for name in names), tau0, rates)


def centres(names, tau):
    """E[sigma_l(tau_(l-1) xi)] by adaptive quadrature between the kinks."""
    found = []
    for name in names:
        _, sigma, kinks = LAYERS[name]
        edges = [-12.0, *(kink / tau for kink in kinks), 12.0]

        def expectation(power, centre, sigma=sigma, edges=edges, tau=tau):
            def integrand(t):
                value = float(sigma(torch.tensor(tau * t, dtype=torch.float64))) - centre
                return value**power * math.exp(-t * t / 2) / math.sqrt(2 * math.pi)

            pairs = itertools.pairwise(edges)
            return sum(scipy.integrate.quad(integrand, low, high, epsabs=1e-13, limit=200)[0] for low, high in pairs)

        found.append(expectation(1, 0.0))
        tau = math.sqrt(expectation(2, found[-1]))
    return found


@pytest.mark.parametrize(
    ("names", "rates"),
    [
        (["tanh"], ()),
        (["clip"], (0.4,)),
        (["leaky1", "leaky2"], ()),
        (["leaky1", "leaky2"], (0.5, 2.5)),
        (["gelu", "abs", "wave"], (1.5, 0.0, 0.3)),
    ],
)
def test_explicit_ntk_is_the_gram_matrix_of_autograd_gradients(X, names, rates):
    m, seed, depth = 11, 5, len(names)
    stream = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(m, 0)))
    shapes = [(m, X.shape[1]), *[(m, m)] * (depth - 1), (m, 1)]
    weights = [torch.tensor(stream.standard_normal(shape)) for shape in shapes]
    means = centres(names, 0.9)

    def output(weights, x):
        for W, name, mean in zip(weights, names, means, strict=False):
            x = (LAYERS[name][1](W @ x) - mean) / math.sqrt(m)
        return weights[-1][:, 0] @ x

    jacobians = torch.func.vmap(torch.func.jacrev(output), (None, 0))(weights, torch.tensor(X))
    scales = np.sqrt([*(rates or (1.0,) * depth), 1.0])
    jacobian = np.hstack([r * J.reshape(len(X), -1).numpy() for r, J in zip(scales, jacobians, strict=True)])
    (draw,) = network_draws(X, explicit(names, rates), width=m, draws=[0], seed=seed, trained="all")
    # sums of at most 341 products err by 341 eps = 8e-14 of the largest entry, the centres by about 1e-13
    np.testing.assert_allclose(draw.kernel, jacobian @ jacobian.T, rtol=0, atol=1e-12 * np.abs(draw.kernel).max())
    assert np.array_equal(draw.kernel, draw.kernel.T)


def relu_slope_dual(q_i, q_j, covariance):
    """E[relu'(u) relu'(v)]."""
    return (math.pi - math.acos(max(min(covariance / math.sqrt(q_i * q_j), 1.0), -1.0))) / (2 * math.pi)


def pairwise_map(function, K):
    return np.array([[function(K[i, i], K[j, j], K[i, j]) for j in range(len(K))] for i in range(len(K))])


@pytest.mark.parametrize("rates", [(), (0.3, 2.0)])
def test_explicit_ntk_extrapolates_to_theory(X, rates):
    # relu at tau0 = 1, then tanh: Theta_l = Sigma_l + Theta_(l-1) E[sigma_l' sigma_l'], the layers at their own rates
    s, (first_rate, second_rate) = X @ X.T, rates or (1.0, 1.0)
    first = pairwise_map(lambda *q: relu_dual(*q, 1.0), s)
    second = pairwise_map(tanh_dual, first)
    tangent = second_rate * first + first_rate * s * pairwise_map(relu_slope_dual, s)
    exact = second + tangent * pairwise_map(lambda *q: tanh_dual(*q, derivative=True), first)
    network = ExplicitNetwork((Layer(activation("relu")), Layer(activation("tanh"))), 1.0, rates)
    ladder = width_ladder(X, network, WIDTHS, DRAWS, 31, exact, trained="all")
    assert ladder.summary.consistent
    assert not fit_ladder(ladder.kernels, second).summary.consistent
    # the engine's kernel is the same function, to far below what the ladder resolves
    np.testing.assert_allclose(explicit_ntk(X, network), exact, rtol=0, atol=1e-10)
    kernel = empirical_explicit_ntk(X, network, width=64, draws=DRAWS, seed=31)
    assert np.array_equal(kernel.mean, ladder.kernels[0].mean)


def test_designed_layers_extrapolate_to_the_exact_kernels(X):
    network = explicit(["leaky1", "leaky2"], (0.5, 2.5))
    exact = explicit_kernels(X, network)
    assert width_ladder(X, network, WIDTHS, DRAWS, 33, exact.ck, trained="a").summary.consistent
    assert width_ladder(X, network, WIDTHS, DRAWS, 33, exact.ntk, trained="all").summary.consistent


def test_frozen_hidden_layers_leave_the_ck(X):
    frozen, options = explicit(["leaky1", "clip"], (0.0, 0.0)), {"width": 24, "draws": 2, "seed": 5}
    ck = empirical_explicit_ck(X, frozen, **options)
    assert np.array_equal(empirical_explicit_ntk(X, frozen, **options).mean, ck.mean)


# -- the statistics of the ladder, on synthetic draws with a known truth -----------------------------------------------


def synthetic(rng, truth, bias, widths, draws, mixing):
    """Kernels with mean truth + bias/m and draws with standard deviation sqrt(2/m), correlated through ``mixing``."""
    n = len(truth)
    upper = np.triu_indices(n)
    kernels = []
    for m in widths:
        noise = np.zeros((draws, n, n))
        noise[:, *upper] = rng.standard_normal((draws, mixing.shape[0])) @ mixing * math.sqrt(2.0 / m)
        noise = noise + np.transpose(np.triu(noise, 1), (0, 2, 1))
        kernels.append(average_draws((Draw(truth + bias / m + e) for e in noise), m))
    return kernels


@pytest.mark.parametrize(("draws", "shared"), [(4, 0.0), (6, 0.7), (30, 0.7)])
def test_verdicts_are_calibrated(draws, shared):
    rng = np.random.default_rng(17)
    n = 5
    count = n * (n + 1) // 2
    # one common factor gives every pair of entries the correlation shared^2
    mixing = np.vstack([np.full((1, count), shared), math.sqrt(1 - shared**2) * np.eye(count)])
    truth = np.eye(n)
    trials = 300
    summaries = [
        fit_ladder(synthetic(rng, truth, 3.0, (50, 100, 200), draws, mixing), truth).summary for _ in range(trials)
    ]
    low = sum(s.p_value < 0.1 for s in summaries)
    # binomial, 4 standard deviations; the chi-square with an estimated number of entries is an approximation: x 1.5
    assert low <= 1.5 * 0.1 * trials + 4 * math.sqrt(0.15 * 0.85 * trials)
    assert sum(s.consistent for s in summaries) >= 0.98 * trials
    mean_square = np.mean([s.std**2 for s in summaries])
    variance = 2 * (1 + (count - 1) * shared**4) / count / trials
    assert abs(mean_square - 1) < 4 * math.sqrt(variance)
    effective = np.median([s.effective for s in summaries])
    assert 0.5 < effective * (1 + (count - 1) * shared**4) / count < 2.0


def test_the_fit_recovers_limit_and_slope():
    rng = np.random.default_rng(0)
    truth, bias = np.diag([1.0, 2.0, 3.0]), np.full((3, 3), -5.0)
    ladder = fit_ladder(synthetic(rng, truth, bias, (50, 100, 400, 800), 200, np.eye(6)), truth)
    assert (np.abs(ladder.limit - truth) < 4.5 * ladder.limit_error).all()
    assert (np.abs(ladder.slope - bias) < 4.5 * ladder.slope_error).all()
    assert ladder.misfit == pytest.approx(1.0, abs=0.8)
    # generalised least squares with variances 2/(m draws), the design of the test
    design = np.stack([np.ones(4), 1 / np.array([50, 100, 400, 800])], axis=1)
    covariance = np.linalg.inv(design.T @ np.diag(np.array([50, 100, 400, 800]) * 200 / 2) @ design)
    np.testing.assert_allclose(ladder.limit_error, math.sqrt(covariance[0, 0]), rtol=0.2)
    np.testing.assert_allclose(ladder.slope_error, math.sqrt(covariance[1, 1]), rtol=0.2)
    curved = fit_ladder(
        synthetic(rng, truth, 4000.0 / np.array(50.0), (50,), 200, np.eye(6)) + list(ladder.kernels[1:]), truth
    )
    assert curved.misfit > 20


def test_the_quadratic_fit_removes_what_the_linear_one_leaves():
    rng, widths = np.random.default_rng(3), (20, 40, 80, 160, 320)
    truth, bias, curvature = np.diag([1.0, 2.0, 3.0]), 2.0, 500.0
    kernels = [synthetic(rng, truth, bias + curvature / m, (m,), 400, np.eye(6))[0] for m in widths]
    linear, quadratic = fit_ladder(kernels, truth), fit_ladder(kernels, truth, 2)
    assert not linear.summary.consistent
    assert linear.misfit > 5
    assert quadratic.summary.consistent
    assert (np.abs(quadratic.limit - truth) < 4.5 * quadratic.limit_error).all()
    assert (np.abs(quadratic.slope - bias) < 4.5 * quadratic.slope_error).all()
    # the coefficient of 1/m^2 against zero, in standard errors of least squares with variances 2/(m draws)
    design = np.vander([1 / m for m in widths], 3, increasing=True)
    covariance = np.linalg.inv(design.T @ np.diag([200.0 * m for m in widths]) @ design)
    expected = curvature / math.sqrt(covariance[2, 2])
    assert quadratic.highest.mean == pytest.approx(expected, rel=0.1, abs=4 / math.sqrt(6))
    assert quadratic.highest.p_value < 1e-3
    straight = [synthetic(rng, truth, bias, (m,), 400, np.eye(6))[0] for m in widths]
    assert fit_ladder(straight, truth, 2).highest.p_value > 1e-3
    # without any bias the coefficient of 1/m of the linear fit is no more than noise
    assert fit_ladder([synthetic(rng, truth, 0, (m,), 50, np.eye(6))[0] for m in widths], truth).highest.p_value > 1e-3


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_power_of_the_bias_and_its_size(power):
    rng, widths, shared = np.random.default_rng(8), (16, 32, 64, 128), 0.7
    truth = np.eye(4) + 0.3
    mixing = np.vstack([np.full((1, 10), shared), math.sqrt(1 - shared**2) * np.eye(10)])
    biases = [0.25 * m * (m / 16) ** -power for m in widths]
    found = []
    for _ in range(12):
        kernels = [synthetic(rng, truth, b, (m,), 32, mixing)[0] for m, b in zip(widths, biases, strict=True)]
        found.append(bias_moments(kernels, truth))
    # 95 % intervals: fewer than 8 of 12 right has probability 2e-4
    assert sum(p.low <= power <= p.high for p in map(fitted_power, ([one] for one in found))) >= 8
    together = fitted_power(found)
    assert abs(together.value - power) < 2 * together.error
    assert together.error < 0.5  # tells the three powers apart
    if power == 1.0:
        # squares are free of bias, and the bias is 4/m in units of the kernel's root mean square
        squares = [(1024 * one.size(1024)) ** 2 * np.mean(truth**2) for one in found]
        assert np.mean(squares) == pytest.approx(16.0, abs=4 * np.std(squares, ddof=1) / math.sqrt(12))
    again = BiasMoments.from_dict(json.loads(json.dumps(found[0].to_dict())))
    assert fitted_power([again]) == fitted_power(found[:1])


def test_a_power_needs_widths_draws_and_fluctuations():
    rng = np.random.default_rng(2)
    kernels = synthetic(rng, np.eye(2), 1.0, (8, 16), 4, np.eye(3))
    with pytest.raises(InputError, match="two or more widths"):
        bias_moments(kernels[:1], np.eye(2))
    with pytest.raises(InputError, match="4 or more draws"):
        bias_moments(synthetic(rng, np.eye(2), 1.0, (8, 16), 3, np.eye(3)), np.eye(2))
    with pytest.raises(InputError, match="differ between draws"):
        bias_moments(synthetic(rng, np.eye(2), 1.0, (8, 16), 4, np.zeros((3, 3))), np.eye(2))


def test_expected_maximum_of_few_scores():
    rng = np.random.default_rng(1)
    # E max of one and of three |N(0, 1)| (n = 1 and 2), the latter by parts: 12/pi^(3/2) arctan(1/sqrt(2))
    for n, expected in ((1, math.sqrt(2 / math.pi)), (2, 12 / math.pi**1.5 * math.atan(math.sqrt(0.5)))):
        kernels = synthetic(rng, np.eye(n), 0.0, (10, 20), 5, np.eye(n * (n + 1) // 2))
        assert fit_ladder(kernels, np.eye(n)).summary.expected_largest == pytest.approx(expected, abs=1e-5)


def test_results_are_json(tanh_ladder):
    text = json.dumps(tanh_ladder.to_dict(), allow_nan=False)
    assert {"limit_deviation", "limit_monte_carlo", "widths", "z"} <= set(json.loads(text))
    json.dumps(tanh_ladder.kernels[0].to_dict(), allow_nan=False)


# -- bad input and failures --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "sigma_a2"), [("3*tanh(x)", 2.0), ("relu", 2.5)])
def test_chaos_is_an_error_with_its_numbers(X, name, sigma_a2):
    with pytest.raises(ConvergenceError, match=r"residual .* after 200 iterations.*sigma_a2\*v = .*chaotic phase"):
        empirical_ck(X, DEQ(name, sigma_a2, 0.5), width=128, draws=2, seed=0, max_iter=200)


def test_too_few_iterations_is_an_error(X):
    with pytest.raises(ConvergenceError, match=r"after 3 iterations.*raise max_iter"):
        empirical_ntk(X, DEQ("tanh", A2, B2), width=32, draws=2, seed=0, max_iter=3)


def test_overflow_stops_the_iteration(X):
    with pytest.raises(ConvergenceError, match=r"residual (nan|inf)"):
        empirical_ck(1e3 * X, DEQ("exp", 0.1, 0.1), width=16, draws=2, seed=0, tau0=0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width must be a whole number, 1 or more; got 0"),
        ({"width": 2.5}, "width must be a whole number"),
        ({"draws": 1}, "draws must be a whole number, 2 or more"),
        ({"seed": -1}, "seed must be a whole number, 0 or more"),
        ({"device": "meta"}, 'device must be "cpu", "cuda"'),
        ({"device": "nonsense"}, 'device must be "cpu", "cuda"'),
        ({"device": "cuda:99"}, "CUDA devices"),
        ({"dtype": "float16"}, "dtype must be float64 or float32"),
        ({"tol": 1e-17}, "tol must lie between"),
        ({"tol": 1e-10, "dtype": "float32"}, "tol must lie between"),
        ({"max_iter": 0}, "max_iter must be a whole number"),
        ({"tau0": -1.0}, "tau0 must be a positive finite number"),
    ],
)
def test_bad_options(X, options, message):
    with pytest.raises(InputError, match=message):
        empirical_ck(X, DEQ("tanh"), **{"width": 8, "draws": 2, "seed": 0, **options})


def test_cuda_that_is_not_there(X, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r'device "cuda" was asked for, but torch sees 0 CUDA devices: use "cpu"'):
        empirical_ck(X, DEQ("tanh"), width=8, draws=2, seed=0, device="cuda")


def test_bad_data_and_networks(X):
    with pytest.raises(DataError, match="NaN"):
        empirical_ck(np.full((2, 2), np.nan), DEQ("tanh"), width=8, draws=2, seed=0)
    with pytest.raises(DataError, match="every sample is zero"):
        empirical_ck(np.zeros((2, 2)), DEQ("tanh"), width=8, draws=2, seed=0)
    with pytest.raises(InputError, match="jumps at x = 0"):
        empirical_ntk(X, DEQ("sign"), width=8, draws=2, seed=0)
    for trained in ("", "c", "aa", "ABA", "all", 3):
        with pytest.raises(InputError, match=r"trained must name one or more of the groups a .*; got"):
            empirical_ntk(X, DEQ("tanh"), width=8, draws=2, seed=0, trained=trained)
    (states,) = network_parts(X, DEQ("tanh"), width=8, draws=[0], seed=0, adjoints=False)
    with pytest.raises(InputError, match="trained 'B' needs the adjoints"):
        states.kernel("B")
    with pytest.raises(InputError, match=r"all.* for the NTK of an explicit network .*; got 'aA'"):
        width_ladder(X, ExplicitNetwork.of("tanh"), (8, 16), 4, 0, np.eye(6), trained="aA")
    with pytest.raises(InputError, match="jumps at x = 0"):
        empirical_explicit_ntk(X, ExplicitNetwork.of("tanh", "sign"), width=8, draws=2, seed=0)


def test_bad_ladders(X):
    deq = DEQ("tanh")
    with pytest.raises(InputError, match="up to 1 needs 2 or more different widths"):
        width_ladder(X, deq, (8, 8), 4, 0, np.eye(6))
    with pytest.raises(InputError, match="draws must be a whole number, 4 or more"):
        width_ladder(X, deq, (8, 16), 3, 0, np.eye(6))
    kernels = [empirical_ck(X, deq, width=m, draws=4, seed=0) for m in (8, 16)]
    with pytest.raises(DataError, match=r"got \(5, 5\) beside \(6, 6\)"):
        fit_ladder(kernels, np.eye(5))
    with pytest.raises(InputError, match="up to 2 needs 3 or more different widths"):
        fit_ladder(kernels, np.eye(6), 2)
    with pytest.raises(InputError, match="4 draws or more"):
        fit_ladder([kernels[0], empirical_ck(X, deq, width=16, draws=2, seed=0)], np.eye(6))
