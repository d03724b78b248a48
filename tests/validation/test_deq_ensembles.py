"""Networks in batches and families: the same numbers within any budget, and the limits that the theory gives."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from equikernel.errors import ConvergenceError, InputError, MemoryLimitError, UnstableError
from equikernel.numerics.kernels import implicit_ck, implicit_ntk
from equikernel.theory.models import DEQ
from equikernel.validation.deq.ensembles import Ensemble, centring, network_bytes
from equikernel.validation.deq.options import METHODS, SolverOptions
from equikernel.validation.empirical import network_draws
from equikernel.validation.ladder import width_ladder

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", name="X")
def _data() -> np.ndarray:
    return np.random.default_rng(5).standard_normal((6, 8)) / np.sqrt(8)


def kernels(X, weights="iid", **options):
    options = {"width": 32, "draws": range(7), "seed": 4, "trained": "aAB", **options}
    return list(network_draws(X, DEQ("gelu", "0.4" if weights != "goe" else "0.1", "0.6", weights), **options))


@pytest.mark.parametrize("solver", METHODS)
@pytest.mark.parametrize("dtype", ["float64", "mixed"])
def test_any_budget_and_method_gives_the_same_kernels(X, solver, dtype):
    options = SolverOptions(solver, mixed=dtype == "mixed")
    one = network_bytes(32, 6, 8, 8, options)
    expected = kernels(X)
    for memory in (None, 16 * 32**2 + one, 16 * 32**2 + 3 * one, 1e9):
        found = kernels(X, solver=solver, dtype=dtype, memory=memory)
        for draw, reference in zip(found, expected, strict=True):
            # each is within 1e-12 c/(1 - c) of the fixed point, c < 0.8 here, of kernels of order one
            np.testing.assert_allclose(draw.kernel, reference.kernel, rtol=0, atol=5e-11)
            assert draw.residual <= 1e-12
            assert np.array_equal(draw.kernel, draw.kernel.T)


def test_the_size_of_a_batch_is_the_budget_over_the_bytes(X):
    deq, options = DEQ("tanh"), SolverOptions()
    ensemble = Ensemble(deq, torch.tensor(X), 50, *centring(deq, 1.0), options)
    one = network_bytes(50, 6, 8, 8, options)
    assert one == 8 * (50 * 50 + 50 * 8 + 8 * 6 * 50)
    drawing = 16 * 50**2
    assert ensemble.batch_size(None) == 1
    assert ensemble.batch_size(drawing + one) == 1
    assert ensemble.batch_size(drawing + 5 * one - 1) == 4
    with pytest.raises(MemoryLimitError, match=r"one network of width 50 on 6 samples takes \d+ bytes.*raise memory"):
        ensemble.batch_size(drawing + one - 1)
    assert network_bytes(50, 6, 8, 8, SolverOptions("anderson")) > one
    assert network_bytes(50, 6, 8, 8, SolverOptions(mixed=True)) == one * 3 // 2


def test_batches_that_do_not_fit_on_the_device_are_halved(X, monkeypatch):
    sizes, whole = [], Ensemble.draw

    def limited(self, streams, **options):
        sizes.append(len(streams))
        if len(streams) > limit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return whole(self, streams, **options)

    expected, limit = kernels(X), 2
    monkeypatch.setattr(Ensemble, "draw", limited)
    for draw, reference in zip(kernels(X, memory=1e9), expected, strict=True):
        np.testing.assert_allclose(draw.kernel, reference.kernel, rtol=0, atol=5e-11)
    assert sizes == [7, 3, 1, 2, 4, 2, 2]
    limit = 0
    with pytest.raises(MemoryLimitError, match="one network of width 32 on 6 samples does not fit on cpu"):
        kernels(X, memory=1e9)


def test_batches_go_in_the_order_asked_for(X):
    alone = kernels(X)
    order = [5, 0, 3, 3]
    for draw, k in zip(kernels(X, draws=order, memory=1e9), order, strict=True):
        np.testing.assert_allclose(draw.kernel, alone[k].kernel, rtol=0, atol=5e-11)


def test_threads_do_not_change_the_networks(X):
    ensemble = Ensemble(DEQ("tanh"), torch.tensor(X), 30, *centring(DEQ("tanh"), 1.0), SolverOptions())
    torch.set_num_threads(3)  # the fixture sets it back
    together = ensemble.draw([np.random.default_rng(k) for k in range(5)], readout=True)
    for k in range(5):
        stream = np.random.default_rng(k)
        A, B, a = (torch.tensor(stream.standard_normal(shape)) for shape in ((30, 30), (30, 8), (1, 30)))
        assert torch.equal(together.weight[k], A * math.sqrt(ensemble.deq.sigma_a2))
        assert torch.equal(together.readout[k], a)
        # eight products of numbers of order one
        torch.testing.assert_close(
            together.shift[k], ensemble.X @ B.T * math.sqrt(ensemble.deq.sigma_b2), rtol=0, atol=1e-14
        )


def test_orthogonal_weights_have_the_limit_of_the_theory(X):
    deq = DEQ("relu", "0.4", "0.6", "orthogonal")
    for trained, exact in ((None, implicit_ck(X, deq)), ("aA", implicit_ntk(X, deq, trained="aA"))):
        ladder = width_ladder(X, deq, (64, 128, 256), 24, 3, np.asarray(exact), trained=trained)
        assert ladder.summary.consistent


@pytest.mark.parametrize(("act", "kernels"), [("tanh", ("aAB",)), ("relu", (None, "aA"))])
def test_symmetric_weights_have_limits_of_their_own(X, act, kernels):
    """CK and NTK of finite networks with GOE weights, extrapolated in 1/m, against theirs and not the i.i.d. ones."""
    deq, other = DEQ(act, "0.2", "0.8", "goe"), DEQ(act, "0.2", "0.8")
    for trained in kernels:
        exact, iid = (
            np.asarray(implicit_ck(X, d) if trained is None else implicit_ntk(X, d, trained=trained))
            for d in (deq, other)
        )
        ladder = width_ladder(X, deq, (64, 128, 256), 24, 3, exact, trained=trained)
        assert ladder.summary.consistent
        assert not width_ladder(X, deq, (64, 128, 256), 24, 3, iid, trained=trained).summary.consistent


def test_symmetric_weights_lose_their_fixed_point_earlier(X):
    # sigma_a2 v = 0.5: stable for i.i.d. weights, not for symmetric ones, whose spectral radius is twice as large
    options = {"width": 200, "draws": [0], "seed": 1, "max_iter": 300}
    (draw,) = network_draws(X, DEQ("relu", 1, "0.5"), **options)
    assert draw.residual <= 1e-12
    with pytest.raises(UnstableError, match=r"the critical sigma_a2 is 0\.\d+"):
        list(network_draws(X, DEQ("relu", 1, "0.5", "goe"), **options))


def test_symmetric_networks_too_narrow_for_their_limit(X):
    # stable as m grows, but twelve units have eigenvalues far from their limits
    options = {"width": 12, "draws": range(60), "seed": 1, "max_iter": 300}
    with pytest.raises(ConvergenceError, match=r"sigma_a2\*E\[psi'\^2\] = 0\.\d+ \(below 1 samples of squared norm"):
        list(network_draws(X, DEQ("relu", "0.45", "0.5", "goe"), **options))


def test_reports_of_an_ensemble(X):
    deq = DEQ("tanh", "0.3", "0.7")
    ensemble = Ensemble(deq, torch.tensor(X), 40, *centring(deq, 1.0), SolverOptions("anderson"))
    assert ensemble.contraction == pytest.approx(float(deq.sigma_a2) * tanh_slope2(0.3, 0.7), rel=1e-9)
    networks = ensemble.draw([np.random.default_rng(k) for k in range(3)], readout=True)
    z, report = ensemble.states(networks)
    assert z.shape == (3, 6, 40)
    assert report.converged.shape == (3, 6)
    u = z @ networks.weight.mT + networks.shift
    assert (torch.tanh(u) / math.sqrt(40) - z).abs().max() < 1e-11
    delta, report = ensemble.adjoints(networks, z)
    D = (1 - torch.tanh(u) ** 2) / math.sqrt(40)
    assert (D * (delta @ networks.weight + networks.readout) - delta).abs().max() < 1e-11
    assert report.succeeded


def tanh_slope2(sigma_a2, sigma_b2):
    """E[sech(tau* xi)^4] at the fixed point of q = sigma_a2 E[tanh(sqrt(q) xi)^2] + sigma_b2."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    weights = weights / weights.sum()
    q = 1.0
    for _ in range(200):
        q = sigma_a2 * weights @ np.tanh(math.sqrt(q) * nodes) ** 2 + sigma_b2
    return weights @ np.cosh(math.sqrt(q) * nodes) ** -4.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "newton"}, "solver must be one of plain, anderson, broyden"),
        ({"memory": 0}, "memory must be a positive number of bytes"),
        ({"memory": 1000}, "raise memory"),
    ],
)
def test_bad_options(X, options, message):
    with pytest.raises(InputError, match=message):
        kernels(X, **options)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@pytest.mark.parametrize("weights", ["iid", "orthogonal", "goe"])
def test_cuda_agrees(X, weights):
    options = {"draws": range(3), "weights": weights, "memory": 1e9}
    for mine, theirs in zip(kernels(X, **options), kernels(X, device="cuda", **options), strict=True):
        np.testing.assert_allclose(theirs.kernel, mine.kernel, rtol=0, atol=1e-10)
