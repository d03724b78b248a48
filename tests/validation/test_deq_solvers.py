"""Fixed points against Newton's method, and what the solver reports, freezes and refuses."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import scipy.optimize
import torch

from equikernel.errors import ConvergenceError, InputError
from equikernel.theory.activation import activation
from equikernel.validation.deq import fixed_point
from equikernel.validation.deq.fixed_point import solve_fixed_point
from equikernel.validation.deq.maps import AdjointMap, StateMap
from equikernel.validation.deq.options import METHODS, SolverOptions

M, N = 20, 7
EPS = np.finfo(np.float64).eps
FUNCTIONS = {
    "tanh": (np.tanh, lambda u: 1 / np.cosh(u) ** 2),
    "relu": (lambda u: np.maximum(u, 0), lambda u: (u > 0).astype(float)),
    "sin": (np.sin, np.cos),
}
MEAN = 0.1


pytestmark = pytest.mark.usefixtures("one_thread")


def problem(draws=None, strength=0.5, width=M, samples=N, seed=3):
    """W of spectral radius about ``strength`` times sqrt(m), and shifts of norm about sqrt(m)."""
    rng = np.random.default_rng(seed)
    lead = () if draws is None else (draws,)
    return strength * rng.standard_normal((*lead, width, width)), rng.standard_normal((*lead, samples, width))


def state_map(name, W, c, dtype=torch.float64):
    return StateMap(
        torch.tensor(W, dtype=dtype), torch.tensor(c, dtype=dtype), activation(name).function("torch"), MEAN
    )


def newton(name, W, c):
    """One sample after the other, by MINPACK with the exact Jacobian."""
    phi, slope = FUNCTIONS[name]
    root = math.sqrt(W.shape[0])

    def jacobian(z, shift):
        return np.eye(len(z)) - slope(W @ z + shift)[:, None] * W / root

    found = []
    for shift in c:
        z = np.zeros(len(shift))
        for _ in range(60):  # semismooth Newton, for relu too
            z = z - np.linalg.solve(jacobian(z, shift), z - (phi(W @ z + shift) - MEAN) / root)
        root_finder = scipy.optimize.root(
            lambda z, s=shift: z - (phi(W @ z + s) - MEAN) / root, z, jac=lambda z, s=shift: jacobian(z, s), tol=1e-13
        )
        np.testing.assert_allclose(root_finder.x, z, rtol=0, atol=1e-11)
        found.append(z)
    return np.array(found)


def bound(reference, tol, contraction):
    """tol c/(1 - c) relative to each sample's norm, and rounding; c bounds the Jacobian's norm."""
    norms = np.linalg.norm(reference, axis=-1, keepdims=True)
    return norms * (tol * contraction / (1 - contraction) + 100 * EPS)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_states_are_those_of_newtons_method(name, method, mixed):
    W, c = problem(strength=0.35)  # |phi'| <= 1 and |W|/sqrt(m) <= 2 * 0.35: a contraction by at most 0.8 at this size
    contraction = np.linalg.norm(W, 2) / math.sqrt(M)
    assert contraction < 0.8
    expected = newton(name, W, c)
    options = SolverOptions(method, mixed=mixed)
    z, report = solve_fixed_point(state_map(name, W, c), None, options)
    assert z.dtype == torch.float64
    # the error bound is for f(z); MINPACK's own error is of the order of its tolerance
    assert (np.abs(z.numpy() - expected) <= bound(expected, 1e-12, contraction) + 1e-12).all()
    assert report.succeeded
    assert report.converged.shape == report.iterations.shape == report.residual.shape == (N,)
    assert report.method == method
    assert (report.single > 0).all() if mixed else (report.single == 0).all()
    assert (report.iterations > report.single).all()
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["unconverged"] == 0


@pytest.mark.parametrize("method", METHODS)
def test_the_residual_reported_is_the_residual(method):
    W, c = problem()
    f = state_map("tanh", W, c)
    z, report = solve_fixed_point(f, None, SolverOptions(method, tol=1e-6))
    out = torch.empty_like(z)
    change, norm = f.advance(z, out)
    # z = f(y) with |z - y| = residual |z|: one more step contracts, so the residual of z itself is no larger by much
    assert (change / norm).max() <= report.worst_residual
    assert report.worst_residual <= 1e-6


def test_plain_iteration_counts_its_evaluations():
    f, c = (lambda z: 0.5 * z + 1.0), torch.zeros(1, 3, dtype=torch.float64)
    z, report = solve_fixed_point(f, c, SolverOptions(tol=1e-6))
    # z_k = 2 (1 - 2^-k): |z_k - z_(k-1)|/|z_k| = 2^-k/(1 - 2^-k) <= 1e-6 first at k = 20
    assert report.iterations.tolist() == [20]
    assert torch.equal(z, torch.full_like(c, 2 * (1 - 2.0**-20)))
    assert report.residual[0] == pytest.approx(2.0**-20 / (1 - 2.0**-20))
    assert torch.equal(c, torch.zeros_like(c))  # the start is left alone


@pytest.mark.parametrize("method", ["anderson", "broyden"])
def test_accelerated_methods_are_exact_on_small_linear_problems(method):
    # a linear map on R^3: three differences span all directions, so both methods end in a few steps where plain
    # iteration with the factor 0.99 takes thousands
    H = torch.diag(torch.tensor([0.99, 0.5, -0.9], dtype=torch.float64))
    b = torch.ones(4, 3, dtype=torch.float64)
    z, report = solve_fixed_point(lambda z: z @ H + b, torch.zeros_like(b), SolverOptions(method, tol=1e-10))
    exact = 1 / (1 - torch.diag(H))
    assert report.most_iterations <= 20
    # the error is at most residual |z|/(1 - 0.99)
    assert (z - exact).abs().max() <= 1e-10 * float(torch.linalg.norm(exact)) / 0.01


@pytest.mark.parametrize("method", METHODS)
def test_batches_of_networks_are_the_single_networks(method):
    W, c = problem(draws=3, strength=0.3)
    together, report = solve_fixed_point(state_map("tanh", W, c), None, SolverOptions(method))
    assert report.iterations.shape == (3, N)
    for k in range(3):
        alone, one = solve_fixed_point(state_map("tanh", W[k], c[k]), None, SolverOptions(method))
        contraction = np.linalg.norm(W[k], 2) / math.sqrt(M)
        assert contraction < 0.75
        assert ((together[k] - alone).abs().numpy() <= 2 * bound(alone.numpy(), 1e-12, contraction)).all()
        assert (
            np.abs(report.iterations[k] - one.iterations) <= 1
        ).all()  # rounding may tip a sample over the tolerance


@pytest.mark.parametrize("method", METHODS)
def test_a_sample_does_not_depend_on_the_others(method):
    # samples of very different speed: the contraction of each is its own factor
    factors = torch.tensor([0.0, 0.1, 0.5, 0.9, 0.95], dtype=torch.float64)[:, None]
    b = torch.tensor(np.random.default_rng(1).standard_normal((5, 4)))

    def solved(rows):
        return solve_fixed_point(
            lambda z: factors[rows] * torch.sin(z) + b[rows], torch.zeros_like(b[rows]), SolverOptions(method)
        )

    together, report = solved(list(range(5)))
    for k in range(5):
        alone, one = solved([k])
        assert torch.equal(alone[0], together[k])
        assert one.iterations[0] == report.iterations[k]


@pytest.mark.parametrize("method", METHODS)
def test_dropping_samples_changes_no_result(method, monkeypatch):
    # slow and fast samples in one state map: zero shifts of growing size make a sample nearly linear or saturated
    W, c = problem(strength=0.45, samples=40)
    c = c * np.logspace(-3, 1.5, 40)[:, None]
    f = state_map("tanh", W, c)
    kept, whole = solve_fixed_point(f, None, SolverOptions(method))
    assert np.unique(whole.iterations).size > 3
    monkeypatch.setattr(fixed_point, "_WORTH", 0)  # drop them in small problems too
    dropped, report = solve_fixed_point(f, None, SolverOptions(method))
    assert np.abs(report.iterations - whole.iterations).max() <= 1
    contraction = np.linalg.norm(W, 2) / math.sqrt(M)
    assert ((dropped - kept).abs().numpy() <= 2 * bound(kept.numpy(), 1e-12, contraction)).all()
    assert contraction < 0.95
    for k in (0, 20, 39):
        alone, _ = solve_fixed_point(state_map("tanh", W, c[k : k + 1]), None, SolverOptions(method))
        assert ((dropped[k] - alone[0]).abs().numpy() <= 2 * bound(alone[0].numpy(), 1e-12, contraction)).all()


@pytest.mark.parametrize("method", METHODS)
def test_adjoints_are_linear_solves(method):
    W, c = problem(strength=0.4)
    slopes = 1 / np.cosh(c) ** 2 / math.sqrt(M)
    g = np.random.default_rng(5).standard_normal((N, M))
    f = AdjointMap(torch.tensor(W), torch.tensor(g), torch.tensor(slopes))
    delta, _ = solve_fixed_point(f, None, SolverOptions(method))
    for k in range(N):
        exact = np.linalg.solve(np.eye(M) - slopes[k][:, None] * W, slopes[k] * g[k])
        condition = np.linalg.cond(np.eye(M) - slopes[k][:, None] * W)
        assert np.linalg.norm(delta[k].numpy() - exact) <= condition * (1e-12 + 100 * EPS) * np.linalg.norm(exact)


def test_float32_reaches_its_tolerance_and_mixed_goes_beyond():
    W, c = problem(strength=0.35)
    expected = newton("tanh", W, c)
    norms = np.linalg.norm(expected, axis=1)
    single, report = solve_fixed_point(state_map("tanh", W, c, torch.float32))
    assert single.dtype == torch.float32
    assert report.tolerance == 1e-5
    error = np.linalg.norm(single.double().numpy() - expected, axis=1) / norms
    assert error.max() <= 1e-5 * 0.8 / 0.2 + 1e-5
    assert error.max() > 1e-9
    _, mixed = solve_fixed_point(state_map("tanh", W, c), None, SolverOptions(mixed=True))
    _, double = solve_fixed_point(state_map("tanh", W, c))
    assert (mixed.single >= 5).all()
    # rounding in float32 may cost the iterations that the last digits take, and no more
    assert mixed.most_iterations <= double.most_iterations + 5


@pytest.mark.parametrize(("tol", "doubles"), [(None, 2), (1e-5, 1)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_mixed_precision_takes_one_or_two_products_in_float64(name, tol, doubles):
    W, c = problem(strength=0.35)
    f = state_map(name, W, c)
    z, report = solve_fixed_point(f, None, SolverOptions(tol=tol, mixed=True))
    # one where float32 ended and one to check; of a tolerance that float32 reaches, the first is the check
    assert (report.iterations - report.single == doubles).all()
    change, norm = f.advance(z, torch.empty_like(z))
    contraction = np.linalg.norm(W, 2) / math.sqrt(M)
    # z = f(y), so |f(z) - z| <= contraction |z - y| and the residual reported is |z - y|/|z|
    assert ((change / norm).numpy() <= 1.01 * contraction * report.residual + 10 * EPS).all()
    assert report.worst_residual <= report.tolerance


@pytest.mark.parametrize("draws", [None, 2])
def test_a_map_near_a_point_is_the_map(draws):
    W, c = problem(draws=draws, strength=0.35)
    slopes = 1 / np.cosh(c) ** 2 / math.sqrt(M)
    start = torch.tensor(np.random.default_rng(7).standard_normal(c.shape) / math.sqrt(M))
    for f in (state_map("gelu", W, c), AdjointMap(*(torch.tensor(x) for x in (W, c, slopes)))):
        near, norms = f.near(start), np.linalg.norm(W, 2, axis=(-2, -1)).max()
        assert near.zero is start
        there, exact = torch.empty_like(start), torch.empty_like(start)
        near.advance(start, there, zero=True)
        f.advance(start, exact)
        assert (there - exact).abs().max() <= 10 * M * EPS
        for size in (1e-3, 1e-6):
            z = start + size * torch.tensor(np.random.default_rng(8).standard_normal(c.shape))
            rows = torch.arange(1, N)
            near.select(rows).advance(z[..., rows, :], there[..., rows, :].contiguous())
            near.advance(z, there)
            f.advance(z, exact)
            # M products in float32 of the difference alone; |g'| < 1.13/sqrt(m)
            moved = float(torch.linalg.vector_norm(z - start, dim=-1).max())
            assert (there - exact).abs().max() <= (M + 2) * 2.0**-24 * 1.13 * norms * moved + 100 * EPS
    with pytest.raises(InputError, match="no other type"):
        near.to(torch.float32)


def test_mixed_precision_where_float32_overflows():
    W, c = problem(strength=0.35)
    options = SolverOptions(mixed=True)
    expected, _ = solve_fixed_point(state_map("relu", W, c * 2.0**150))  # 2^128 is beyond float32
    z, report = solve_fixed_point(state_map("relu", W, c * 2.0**150), None, options)
    assert (report.iterations - report.single > 10).all()  # the samples start anew in float64
    contraction = np.linalg.norm(W, 2) / math.sqrt(M)
    assert ((z - expected).abs().numpy() <= 2 * bound(expected.numpy(), 1e-12, contraction)).all()


def test_zero_samples_converge_to_zero():
    W, c = problem()
    c[2] = 0.0
    f = StateMap(torch.tensor(W), torch.tensor(c), torch.tanh, 0.0)
    for method in METHODS:
        z, report = solve_fixed_point(f, None, SolverOptions(method))
        assert (z[2] == 0).all()
        assert (report.iterations[2], report.residual[2]) == (1, 0.0)


# -- what does not converge --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_chaos_raises_or_is_reported(method, mixed):
    W, c = problem(strength=6.0, width=60)
    c = 0.1 * c
    c[0] = 0.0  # sample 0 stays at its unstable fixed point, zero, and converges
    f = StateMap(torch.tensor(W), torch.tensor(c), torch.tanh, 0.0)
    options = SolverOptions(method, max_iter=40, mixed=mixed)
    with pytest.raises(ConvergenceError, match=r"the state did not converge for \d of 7 samples: relative residual .*"):
        solve_fixed_point(f, None, options, subject="the state")
    z, report = solve_fixed_point(f, None, options, throw=False)
    assert report.converged[0]
    assert not report.converged[1:].any()
    assert (report.residual[1:] > 1e-12).all()
    assert (report.iterations[1:] == 40).all()
    assert torch.isfinite(z).all()
    assert not report.succeeded
    assert report.to_dict()["unconverged"] == 6


@pytest.mark.parametrize("method", METHODS)
def test_a_sample_that_overflows_stops_alone(method):
    c = torch.tensor([[0.1, 0.2], [700.0, 700.0]], dtype=torch.float64)
    z, report = solve_fixed_point(
        lambda z: torch.exp(z + c) * 0.1, torch.zeros_like(c), SolverOptions(method), throw=False
    )
    assert report.converged.tolist() == [True, False]
    assert report.iterations[1] <= 3
    assert report.to_dict()["residual"] is None
    assert (z[0] - 0.1 * torch.exp(z[0] + c[0])).abs().max() < 1e-12
    with pytest.raises(ConvergenceError, match="1 of 2 samples: relative residual nan"):
        solve_fixed_point(lambda z: torch.exp(z + c) * 0.1, torch.zeros_like(c), SolverOptions(method))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "newton"}, "solver must be one of plain, anderson, broyden; got 'newton'"),
        ({"tol": 0.0}, "tol must lie between 0 and 1"),
        ({"tol": math.nan}, "tol must lie between 0 and 1"),
        ({"max_iter": 0}, "max_iter must be a whole number"),
        ({"window": 0}, "window must be a whole number"),
        ({"mixed": 1}, "mixed must be True or False"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        SolverOptions(**options)


def test_bad_starts():
    def half(z):
        return z / 2

    with pytest.raises(InputError, match="give a start"):
        solve_fixed_point(half)
    with pytest.raises(InputError, match=r"float64 or float32 tensor of shape \(n, m\) or \(R, n, m\); got int64"):
        solve_fixed_point(half, torch.zeros(2, 2, dtype=torch.int64))
    with pytest.raises(InputError, match=r"shape \(2,\)"):
        solve_fixed_point(half, torch.zeros(2))
    with pytest.raises(InputError, match="finishes in float64"):
        solve_fixed_point(half, torch.zeros(2, 2), SolverOptions(mixed=True))
    with pytest.raises(InputError, match="below which float32 cannot go"):
        solve_fixed_point(half, torch.zeros(2, 2), SolverOptions(tol=1e-9))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@pytest.mark.parametrize("method", METHODS)
def test_cuda_agrees(method):
    W, c = problem(draws=2, strength=0.35)
    f = state_map("tanh", W, c)
    on_cpu, _ = solve_fixed_point(f, None, SolverOptions(method))
    moved = StateMap(f.weight.cuda(), f.shift.cuda(), f.phi, MEAN)
    on_cuda, _ = solve_fixed_point(moved, None, SolverOptions(method))
    assert (on_cuda.cpu() - on_cpu).abs().max() <= 1e-11
