"""DEQ modules: gradients against finite differences and unrolled iterations, and what a module must survive."""

from __future__ import annotations

import copy
import io
import math

import numpy as np
import pytest
import torch

from equikernel.errors import ConvergenceError, InputError, MemoryLimitError
from equikernel.theory.models import DEQ
from equikernel.validation import deq
from equikernel.validation.deq.ensembles import network_bytes
from equikernel.validation.deq.module import deq_module
from equikernel.validation.deq.options import METHODS, SolverOptions
from equikernel.validation.empirical import network_draws

A2, B2 = 0.3, 0.7
NATIVE = {"tanh": torch.tanh, "relu": torch.relu, "gelu": torch.nn.functional.gelu, "elu": torch.nn.functional.elu}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", name="x")
def _samples():
    return torch.tensor(np.random.default_rng(5).standard_normal((5, 3)) / math.sqrt(3))


def made(name="tanh", width=6, **options):
    return deq_module(DEQ(name, A2, B2), width, 3, **{"dtype": "float64", "seed": 2, "readout": 2, **options})


def unrolled(module, x, name, steps=200):
    """The same network by differentiation through its iteration, which contracts by 0.6 or so a step."""
    z = torch.zeros(len(x), module.width, dtype=x.dtype)
    for _ in range(steps):
        u = math.sqrt(A2) * z @ module.A.T + math.sqrt(B2) * x @ module.B.T
        z = (NATIVE[name](u) - module.mean) / math.sqrt(module.width)
    return z @ module.readout.T


@torch.no_grad()
def distance_to_kinks(module, x, kinks):
    u = math.sqrt(A2) * module.features(x) @ module.A.T + math.sqrt(B2) * x @ module.B.T
    return min((float((u - kink).abs().min()) for kink in kinks), default=math.inf)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NATIVE)
def test_gradients_agree_with_unrolled_differentiation(x, name, method):
    module = made(name, width=20, solver=method)
    x = x.clone().requires_grad_()
    inputs = [x, *module.parameters()]
    out, expected = module(x), unrolled(module, x, name)
    weights = torch.tensor(np.random.default_rng(0).standard_normal(tuple(out.shape)))
    # both are converged to 1e-12; the condition of (I - J)^(-1) is below 1/(1 - |J|) with |J| <= 2 sqrt(0.3)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-10)
    gradients = torch.autograd.grad((out * weights).sum(), inputs)
    for gradient, other in zip(gradients, torch.autograd.grad((expected * weights).sum(), inputs), strict=True):
        torch.testing.assert_close(gradient, other, rtol=0, atol=1e-9)
    assert module.last_report.succeeded
    assert module.last_adjoint_report.succeeded
    assert module.last_adjoint_report.method == method


@pytest.mark.parametrize(
    ("name", "kinks"), [("tanh", []), ("gelu", []), ("relu", [0.0]), ("elu", [0.0]), ("max(-1,min(x,1))", [-1.0, 1.0])]
)
def test_gradcheck(x, name, kinks):
    module = made(name, width=5)
    assert distance_to_kinks(module, x, kinks) > 1e-4  # finite differences of 1e-6 stay on one side

    def f(x, A, B, a):
        return torch.func.functional_call(module, {"A": A, "B": B, "readout": a}, (x,))

    inputs = (x.clone().requires_grad_(), *(p.detach().clone().requires_grad_() for p in module.parameters()))
    assert torch.autograd.gradcheck(f, inputs)


@pytest.mark.parametrize("name", ["tanh", "gelu"])
def test_second_derivatives(x, name):
    module = made(name, width=4, readout=1)

    def f(x, A, B, a):
        return torch.func.functional_call(module, {"A": A, "B": B, "readout": a}, (x,))

    inputs = (x[:2].clone().requires_grad_(), *(p.detach().clone().requires_grad_() for p in module.parameters()))
    assert torch.autograd.gradgradcheck(f, inputs)


@pytest.mark.parametrize("dtype", ["float32", "mixed"])
def test_other_precisions(x, dtype):
    double = made(width=30)
    other = made(width=30, dtype=dtype)
    tensor = x.to(other.A.dtype)
    gradients = [
        torch.autograd.grad(m(t).square().sum(), list(m.parameters())) for m, t in ((double, x), (other, tensor))
    ]
    # float32: residuals of 1e-5 over 1 - sqrt(0.3); mixed finishes at 1e-12
    tolerance = 1e-4 if dtype == "float32" else 1e-10
    for expected, gradient in zip(*gradients, strict=True):
        assert gradient.dtype == tensor.dtype
        scale = float(expected.abs().max())
        torch.testing.assert_close(gradient.double(), expected, rtol=0, atol=tolerance * max(scale, 1.0))
    if dtype == "mixed":
        assert (other.last_report.single > 0).all()
        assert (other.last_adjoint_report.single > 0).all()


def test_the_backward_solve_has_its_own_options_and_report(x):
    module = made(width=20, adjoint_solver=SolverOptions("anderson", tol=1e-6))
    module(x).sum().backward()
    assert (module.last_report.method, module.last_report.tolerance) == ("plain", 1e-12)
    assert (module.last_adjoint_report.method, module.last_adjoint_report.tolerance) == ("anderson", 1e-6)
    assert module.last_adjoint_report.converged.shape == (len(x),)
    assert module.last_adjoint_report.most_iterations < module.last_report.most_iterations


def test_shapes(x):
    module = made()
    batch = torch.stack([x, 2 * x, -x])
    assert module(batch).shape == (3, 5, 2)
    assert module.features(batch).shape == (3, 5, 6)
    assert module(x[0]).shape == (2,)
    torch.testing.assert_close(module(batch)[1, 3], module(2 * x[3]), rtol=0, atol=1e-11)
    assert made(readout=None)(x).shape == (5, 6)
    assert module(x[:0]).shape == (0, 2)
    assert module.last_report.succeeded


@pytest.mark.parametrize("family", ["iid", "orthogonal", "goe"])
def test_a_module_is_the_network_of_the_same_stream(x, family):
    width, seed, draw = 40, 3, 2
    options = {"width": width, "draws": [draw], "seed": seed, "tau0": 0.8}
    deq = DEQ("gelu", A2, B2, family)
    stream = np.random.SeedSequence(seed, spawn_key=(width, draw))
    module = deq_module(deq, width, 3, tau0=0.8, dtype="float64", seed=stream)
    z = module.features(x).detach().numpy()
    (ck,) = network_draws(x.numpy(), deq, **options)
    np.testing.assert_allclose(z @ z.T, ck.kernel, rtol=0, atol=1e-11)
    # the tangent kernel of each trained group is the Gram matrix of the module's own gradients
    for trained in ("a", "aA", "aAB"):
        parameters = {"a": module.readout, "A": module.A, "B": module.B}
        rows = [
            torch.cat([g.ravel() for g in torch.autograd.grad(f, [parameters[c] for c in trained], retain_graph=True)])
            for f in module(x)[:, 0]
        ]
        jacobian = torch.stack(rows).numpy()
        (ntk,) = network_draws(x.numpy(), deq, trained=trained, **options)
        np.testing.assert_allclose(jacobian @ jacobian.T, ntk.kernel, rtol=0, atol=1e-9 * np.abs(ntk.kernel).max())


@pytest.mark.parametrize("solver", METHODS)
def test_tangent_kernels_against_jacobians_of_torch_func(x, solver):
    module = made("tanh", width=12, readout=1).initialise(np.random.SeedSequence(4, spawn_key=(12, 0)))
    names = {"A": "A", "B": "B", "a": "readout"}
    parameters = {key: value.detach() for key, value in module.named_parameters()}

    def outputs(p):
        z = torch.zeros(len(x), 12, dtype=x.dtype)
        for _ in range(120):
            z = torch.tanh(math.sqrt(A2) * z @ p["A"].T + math.sqrt(B2) * x @ p["B"].T) / math.sqrt(12)
        return z @ p["readout"][0]

    jacobians = torch.func.jacrev(outputs)(parameters)
    flat = {group: jacobians[name].reshape(len(x), -1).numpy() for group, name in names.items()}
    options = {"width": 12, "draws": [0], "seed": 4, "tau0": 1.0, "solver": solver}
    for trained in ("a", "aA", "aAB"):
        expected = sum(flat[group] @ flat[group].T for group in trained)
        (draw,) = network_draws(x.numpy(), DEQ("tanh", A2, B2), trained=trained, **options)
        np.testing.assert_allclose(draw.kernel, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


def test_training_lowers_the_loss(x):
    module = made("relu", width=64, readout=1, solver="anderson")
    target = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0], dtype=torch.float64)
    optimiser = torch.optim.SGD(module.parameter_groups(lr=0.2))
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        loss = (module(x)[:, 0] - target).square().sum() / 2
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_one_step_of_descent_follows_the_tangent_kernel(x):
    module = made("tanh", width=50, readout=1)
    module.initialise(np.random.SeedSequence(4, spawn_key=(50, 0)))
    (ntk,) = network_draws(x.numpy(), DEQ("tanh", A2, B2), width=50, draws=[0], seed=4, trained="aA", tau0=1.0)
    before = module(x)[:, 0]
    lr = 1e-5
    optimiser = torch.optim.SGD(module.parameter_groups(lr, "aA"))
    before.square().sum().div(2).backward()
    optimiser.step()
    change = (module(x)[:, 0] - before).detach().numpy()
    # the next order is lr^2 times curvature and squared gradients, of order one here
    np.testing.assert_allclose(change, -lr * ntk.kernel @ before.detach().numpy(), rtol=0, atol=100 * lr**2)


def test_groups():
    module = made()
    groups = module.parameter_groups(0.5)
    assert [g["params"][0] is p for g, p in zip(groups, (module.readout, module.A, module.B), strict=True)] == [
        True
    ] * 3
    assert [g["params"][0] is module.A for g in made().parameter_groups(1.0, "a")] == [False]
    assert len(made(readout=None).parameter_groups(1.0, "aA")) == 1
    with pytest.raises(InputError, match="trained must be one of"):
        module.parameter_groups(0.5, "B")
    with pytest.raises(InputError, match="lr"):
        module.parameter_groups(0.0)


def test_state_dicts_and_copies(x):
    module = made("gelu", solver="broyden")
    module(x).sum().backward()
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other = made("gelu", seed=9)
    assert not torch.equal(other(x), module(x))
    other.load_state_dict(torch.load(file, weights_only=True))
    torch.testing.assert_close(other(x), module(x), rtol=0, atol=1e-11)
    copied = copy.deepcopy(module)
    assert torch.equal(copied(x), module(x))
    assert copied.A is not module.A
    assert set(module.state_dict()) == {"A", "B", "readout", "mean"}
    assert "gelu" in repr(module)


def test_moves_between_types(x):
    module = made("relu")
    double = module(x).detach()
    module.float()
    assert module.mean.dtype == torch.float32
    torch.testing.assert_close(module(x.float()).detach().double(), double, rtol=0, atol=1e-4)
    with pytest.raises(InputError, match=r"x must be torch.float32 on cpu, as the weights are; got torch.float64"):
        module(x)


def room_for(samples, module):
    return network_bytes(module.width, samples, 0, module.A.element_size(), module.options)


@pytest.mark.parametrize("dtype", ["float64", "mixed"])
def test_samples_in_chunks(x, dtype):
    many = torch.cat([x, -x, 2 * x]).reshape(3, 5, 3)
    module = made("gelu", width=30, dtype=dtype)
    with torch.no_grad():
        whole, states = module(many), module.features(many)
        assert module.last_report.chunks == 1
        iterations = module.last_report.iterations
        module.memory = room_for(4, module)
        chunked = module(many)
        report = module.last_report
        # both within 1e-12 c/(1 - c) of the fixed point, c < 0.8
        torch.testing.assert_close(chunked, whole, rtol=0, atol=1e-10)
        torch.testing.assert_close(module.features(many), states, rtol=0, atol=1e-11)
    assert (report.chunks, report.to_dict()["chunks"], report.to_dict()["samples"]) == (4, 4, 15)
    assert np.abs(report.iterations - iterations).max() <= 1
    assert report.succeeded
    assert module(many[0, :0]).shape == (0, 2)
    module(many).sum().backward()  # gradients need all samples
    assert module.last_report.chunks == 1
    module.memory = room_for(1, module) - 1
    with (
        torch.no_grad(),
        pytest.raises(MemoryLimitError, match=r"one sample at width 30 takes \d+ bytes, .*raise memory"),
    ):
        module(many)


def test_chunks_that_do_not_fit_on_the_device_are_halved(x, monkeypatch):
    sizes, limit, whole = [], 2, deq.module.implicit_state

    def limited(weight, shift, system):
        sizes.append(len(shift))
        if len(shift) > limit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return whole(weight, shift, system)

    module = made()
    expected = module(x).detach()
    monkeypatch.setattr(deq.module, "implicit_state", limited)
    with torch.no_grad():
        torch.testing.assert_close(module(x), expected, rtol=0, atol=1e-11)
        assert sizes == [5, 3, 2, 2, 1]
        assert module.last_report.chunks == 3
        limit = 0
        with pytest.raises(MemoryLimitError, match="one sample at width 6 does not fit on cpu"):
            module(x)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_cuda_agrees(x):
    module = made("gelu", width=40)
    out = module(x)
    moved = copy.deepcopy(module).cuda()
    on_cuda = moved(x.cuda())
    torch.testing.assert_close(on_cuda.cpu(), out, rtol=0, atol=1e-11)
    for mine, theirs in zip(
        torch.autograd.grad(out.sum(), list(module.parameters())),
        torch.autograd.grad(on_cuda.sum(), list(moved.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(theirs.cpu(), mine, rtol=0, atol=1e-10)
    assert torch.equal(made("gelu", width=40, device="cuda").A.cpu(), module.A)


# -- failures ----------------------------------------------------------------------------------------------------------


def test_chaos(x):
    deq = DEQ("3*tanh(x)", 2, "0.5")
    module = deq_module(deq, 100, 3, dtype="float64", solver=SolverOptions(max_iter=60))
    assert module.expected_contraction > 1
    with pytest.raises(
        ConvergenceError,
        match=r"state of a DEQ module .* width 100 did not converge for 5 of 5 .*sigma_a2\*v = .*chaotic",
    ):
        module(x)
    module.throw = False
    module(x)
    assert not module.last_report.succeeded


def test_an_adjoint_that_does_not_converge_is_an_error(x):
    module = made(width=20, adjoint_solver=SolverOptions(max_iter=2))
    loss = module(x).sum()
    with pytest.raises(ConvergenceError, match=r"the adjoint of a DEQ module .* after 2 iterations .*raise max_iter"):
        loss.backward()


def test_jumps_have_states_and_no_gradients(x):
    module = deq_module(DEQ("sign", 0, 1), 20, 3, dtype="float64")
    out = module(x)
    assert out.shape == (5, 1)
    with pytest.raises(InputError, match="jumps at x = 0"):
        out.sum().backward()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width must be a whole number"),
        ({"in_features": 0}, "in_features must be a whole number"),
        ({"readout": 0}, "readout, the number of outputs, must be"),
        ({"dtype": "float16"}, "dtype must be float64 or float32"),
        ({"device": "tpu"}, "device must be"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"solver": "newton"}, "solver must be one of"),
        ({"solver": SolverOptions(tol=1e-9), "dtype": "float32"}, "below which float32 cannot go"),
        ({"tau0": 0}, "tau0"),
        ({"memory": 0}, "memory must be a positive number of bytes"),
        ({"deq": "tanh"}, "deq must be a DEQ; got str"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(InputError, match=message):
        deq_module(**{"deq": DEQ("tanh"), "width": 8, "in_features": 3, **options})


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.*:DeprecationWarning")
def test_bad_inputs(x):
    module = made()
    with pytest.raises(InputError, match="x must have 3 features"):
        module(x[:, :2])
    with pytest.raises(InputError, match="cannot be traced"):
        torch.jit.trace(module, (x,))
