"""Networks as torch modules: their formula, derivatives, kernels, graphs, copies and types."""

from __future__ import annotations

import copy
import io
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from equikernel.arithmetics import TORCH_MODULE
from equikernel.errors import InputError, MemoryLimitError
from equikernel.numerics.callables import callable_activation
from equikernel.numerics.kernels import explicit_kernels
from equikernel.theory.activation import activation
from equikernel.theory.models import ExplicitNetwork, Layer
from equikernel.validation import modules
from equikernel.validation.empirical import Draw, average_draws, network_draws
from equikernel.validation.ladder import fit_ladder
from equikernel.validation.modules import ExplicitModule, explicit_module

DOUBLE = torch.float64
EPS = 2.0**-52
# torch advises against its own torch.jit.trace, and uses what it advises against in torch.func and gradcheck
pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")]
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")


def network(*specs, tau0=1.0, rates=()):
    return ExplicitNetwork(tuple(Layer(activation(s)) for s in specs), tau0, rates)


LEAKY = network("max(1.2*x,0.7*x)", "max(0.9*x,0.1*x)", tau0=0.9)
# kinks, jumps, infinite slopes at a branch not taken, overflow on one
SHAPES = ("tanh", "1.3*max(min(x,0.8),-0.8)", "relu", "elu", "abs(x)**1.5", "gelu", "identity", "sqrt(max(x,0))+x")


def samples(n=7, p=5, seed=0, dtype=DOUBLE):
    return torch.tensor(np.random.default_rng(seed).standard_normal((n, p)) / math.sqrt(p), dtype=dtype)


def parameters(module):
    return dict(module.named_parameters())


# -- the network -------------------------------------------------------------------------------------------------------


def test_the_function_is_that_of_its_documented_stream():
    """Leaky layers, written out: E max(a x, b x) = (a - b) tau/sqrt(2 pi), the variance that is left in closed form."""
    module = explicit_module(LEAKY, (6, 4), 5, dtype="float64", seed=3, readout=2)
    stream = np.random.default_rng(3)
    W1, W2, a = (stream.standard_normal(shape) for shape in ((6, 5), (4, 6), (2, 4)))
    x, tau = samples().numpy().T, 0.9
    for W, (up, down) in ((W1, (1.2, 0.7)), (W2, (0.9, 0.1))):
        u = W @ x
        mean = (up - down) * tau / math.sqrt(2 * math.pi)
        x = (np.maximum(up * u, down * u) - mean) / math.sqrt(len(u))
        tau = math.sqrt((up**2 + down**2) / 2 * tau**2 - mean**2)
    got = module(samples()).detach().numpy()
    # inner products of at most six terms of order one, three deep, and moments to 1e-14
    np.testing.assert_allclose(got, (a @ x).T, rtol=0, atol=1e-13 * np.abs(got).max())
    np.testing.assert_allclose(module.features(samples()).detach().numpy(), x.T, rtol=0, atol=1e-13)
    bare = explicit_module(LEAKY, (6, 4), 5, dtype="float64", seed=3, readout=None)
    assert torch.equal(bare(samples()), module.features(samples()))


def test_both_parameterisations_are_the_same_function():
    by_factors = explicit_module(LEAKY, (6, 4), 5, dtype="float64", seed=3)
    by_weights = explicit_module(LEAKY, (6, 4), 5, dtype="float64", seed=3, parameterization="standard")
    x = samples()
    torch.testing.assert_close(by_weights(x), by_factors(x), rtol=0, atol=1e-14)
    torch.testing.assert_close(by_weights.features(x), by_factors.features(x), rtol=0, atol=1e-14)
    ratios = [(f / w)[0, 0].item() for f, w in zip(by_factors.parameters(), by_weights.parameters(), strict=True)]
    assert sorted(ratios) == pytest.approx(sorted([1.0, math.sqrt(6), 2.0]))


@pytest.mark.parametrize("rates", [(), (0.5, 3.0), (0.0, 2.0)])
def test_gradient_descent_trains_both_parameterisations_alike(rates):
    net = network("tanh", "gelu", rates=rates)
    x, target = samples(), torch.linspace(-1, 1, 7, dtype=DOUBLE)[:, None]
    outputs = []
    for parameterization in ("ntk", "standard"):
        module = explicit_module(net, 16, 5, dtype="float64", seed=1, parameterization=parameterization)
        start = module(x).detach()
        optimiser = torch.optim.SGD(module.parameter_groups(0.05))
        for _ in range(20):
            optimiser.zero_grad()
            torch.mean((module(x) - target) ** 2).backward()
            optimiser.step()
        outputs.append(module(x).detach())
    assert (outputs[0] - start).abs().max() > 0.1
    # the same numbers up to rounding, which twenty steps of a descent that contracts do not blow up
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("spec", SHAPES)
def test_gradients_by_finite_differences(spec):
    module = explicit_module(network(spec, "tanh"), (4, 3), 5, dtype="float64", seed=2, readout=2)
    x = samples(3)

    def output(x, *given):
        return torch.func.functional_call(module, dict(zip(parameters(module), given, strict=True)), (x,))

    assert torch.autograd.gradcheck(output, (x.requires_grad_(), *module.parameters()), check_forward_ad=True)


def test_transforms_of_torch_func():
    module = explicit_module(LEAKY, 6, 5, dtype="float64", readout=2)
    x, given = samples(), parameters(module)
    one = torch.func.jacrev(lambda given, x: torch.func.functional_call(module, given, (x,)))
    jacobian = torch.func.vmap(one, (None, 0))(given, x)
    assert {name: tuple(J.shape) for name, J in jacobian.items()} == {
        "readout": (7, 2, 2, 6),
        "weights.0": (7, 2, 6, 5),
        "weights.1": (7, 2, 6, 6),
    }
    for k in range(2):
        gradients = torch.autograd.grad(module(x)[3, k], tuple(given.values()))
        for name, gradient in zip(given, gradients, strict=True):
            torch.testing.assert_close(jacobian[name][3, k], gradient, rtol=1e-13, atol=1e-15)
    stacked = {name: torch.stack([value, 2 * value]) for name, value in given.items()}
    ensemble = torch.func.vmap(lambda p: torch.func.functional_call(module, p, (x,)))(stacked)
    torch.testing.assert_close(ensemble[0], module(x), rtol=1e-13, atol=1e-15)


def test_it_is_the_network_of_the_empirical_kernels():
    net = network("max(1.2*x,0.7*x)", "max(min(x,0.8),-0.8)", tau0=0.9, rates=(0.5, 2.5))
    x, m = samples(6), 9
    module = explicit_module(net, m, 5, dtype="float64")
    stream = np.random.default_rng(np.random.SeedSequence(4, spawn_key=(m, 0)))
    drawn = {"weights.0": (m, 5), "weights.1": (m, m), "readout": (1, m)}
    module.load_state_dict({name: torch.tensor(stream.standard_normal(shape)) for name, shape in drawn.items()}, False)
    conjugate, tangent = (
        next(network_draws(x.numpy(), net, width=m, draws=[0], seed=4, trained=trained)).kernel
        for trained in (None, "all")
    )
    Z = module.features(x).detach().numpy()
    # sums of fewer than m (m + 6) = 135 products
    np.testing.assert_allclose(Z @ Z.T, conjugate, rtol=0, atol=135 * EPS * conjugate.max())
    one = torch.func.grad(lambda given, x: torch.func.functional_call(module, given, (x,))[0])
    gradients = torch.func.vmap(one, (None, 0))(parameters(module), x)
    rates = {"weights.0": 0.5, "weights.1": 2.5, "readout": 1.0}
    rows = [math.sqrt(rates[name]) * gradient.detach().flatten(1).numpy() for name, gradient in gradients.items()]
    jacobian = np.hstack(rows)
    np.testing.assert_allclose(jacobian @ jacobian.T, tangent, rtol=0, atol=135 * EPS * tangent.max())


@pytest.mark.parametrize("parameterization", ["ntk", "standard"])
def test_features_extrapolate_to_the_exact_kernel(parameterization):
    x, kernels = samples(6), []
    for width in (64, 256):
        made = (
            explicit_module(LEAKY, width, 5, dtype="float64", seed=s, readout=None, parameterization=parameterization)
            for s in range(24)
        )
        features = (module(x).detach().numpy() for module in made)
        kernels.append(average_draws((Draw(Z @ Z.T) for Z in features), width))
    assert fit_ladder(kernels, explicit_kernels(x.numpy(), LEAKY).ck).summary.consistent


# -- learning rates ----------------------------------------------------------------------------------------------------


def test_groups_carry_the_learning_rates_of_the_network():
    net = network("tanh", "relu", "tanh", rates=(0.5, 0.0, 3.0))
    module = explicit_module(net, (4, 6, 8), 5)
    first, second, third = module.weights
    groups = module.parameter_groups(0.1)
    assert [group["params"] for group in groups] == [[first], [third], [module.readout]]
    assert [group["lr"] for group in groups] == pytest.approx([0.05, 0.3, 0.1])
    assert [w.requires_grad for w in module.weights] == [True, False, True]
    standard = explicit_module(net, (4, 6, 8), 5, parameterization="standard", readout=None)
    assert [group["lr"] for group in standard.parameter_groups(0.1)] == pytest.approx([0.05, 0.3 / 6])
    before = second.clone()
    optimiser = torch.optim.Adam(groups)
    module(samples(dtype=torch.float32)).square().sum().backward()
    optimiser.step()
    assert torch.equal(second, before)
    assert second.grad is None
    for bad in (0, -1, math.nan, "fast", True):
        with pytest.raises(InputError, match="lr must be a positive finite number; got"):
            module.parameter_groups(bad)


# -- graphs ------------------------------------------------------------------------------------------------------------


def exported(module, example, strict):
    program = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), strict=strict)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    return torch.export.load(buffer).module()


def traced(module, example):
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(module, (example,)), buffer)
    buffer.seek(0)
    return torch.jit.load(buffer)


def assert_same_graph(graph, module, n):
    """Values to the bit, gradients to rounding, zero samples included: they sit on the kinks at zero."""
    x = samples(n, seed=9, dtype=module.means.dtype)
    x[0] = 0.0
    assert torch.equal(graph(x), module(x))
    ours = torch.autograd.grad(module(x).square().sum(), tuple(module.parameters()))
    other = dict(graph.named_parameters())
    theirs = torch.autograd.grad(graph(x).square().sum(), [other[name] for name in parameters(module)])
    eps = torch.finfo(x.dtype).eps
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=100 * eps * max(a.abs().max().item(), 1.0))


@pytest.mark.parametrize("spec", [s for s in SHAPES if "sqrt" not in s] + ["sign"])
def test_exported_and_traced_modules_agree_for_other_batch_sizes(spec):
    module = explicit_module(network(spec, "tanh"), (4, 3), 5, dtype="float64", seed=2, readout=2)
    graphs = exported(module, samples(3), False), traced(module, samples(3))
    for graph in graphs:
        for n in (1, 3, 11):
            assert_same_graph(graph, module, n)


def test_an_infinite_slope_at_a_breakpoint_does_not_spoil_the_gradients_of_graphs():
    for spec in ("sqrt(max(x,0))+x", "sqrt(max(-x,0))+x"):
        module = explicit_module(network(spec), 4, 5, dtype="float64", seed=2)
        x = samples(3)
        for graph in (exported(module, x, False), traced(module, x)):
            ours = torch.autograd.grad(module(x).sum(), tuple(module.parameters()))
            other = dict(graph.named_parameters())
            theirs = torch.autograd.grad(graph(x).sum(), [other[name] for name in parameters(module)])
            for a, b in zip(ours, theirs, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_compiler_sees_the_whole_module(dtype):
    module = explicit_module(LEAKY, (4, 3), 5, dtype="float64", seed=2).to(getattr(torch, dtype))
    assert_same_graph(exported(module, samples(3, dtype=module.means.dtype), True), module, 6)
    torch.compiler.reset()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    x = samples(6, dtype=module.means.dtype)
    x[0] = 0.0
    torch.testing.assert_close(compiled(x), module(x))
    ours, theirs = (torch.autograd.grad(f(x).square().sum(), module.weights[0])[0] for f in (module, compiled))
    torch.testing.assert_close(ours, theirs)


# -- state, copies, types ----------------------------------------------------------------------------------------------


def test_state_goes_to_another_module_and_back():
    module, other = (explicit_module(LEAKY, (4, 3), 5, seed=seed) for seed in (1, 2))
    x = samples(dtype=torch.float32)
    assert not torch.equal(module(x), other(x))
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(module(x), other(x))
    assert set(module.state_dict()) == {"weights.0", "weights.1", "readout", "means"}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])  # noqa: S301
def test_copies_are_independent(copied):
    module = explicit_module(LEAKY, (4, 3), 5)
    x = samples(dtype=torch.float32)
    other, value = copied(module), module(x).detach()
    assert torch.equal(other(x), value)
    with torch.no_grad():
        other.weights[0].mul_(2.0)
    assert torch.equal(module(x), value)
    assert not torch.equal(other(x), value)
    assert other.network == module.network


def test_the_seed_decides():
    first, again, other = (explicit_module(LEAKY, 40, 5, dtype="float64", seed=s) for s in (7, 7, 8))
    for a, b, c in zip(first.parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
    assert all(torch.equal(a, b) for a, b in zip(other.initialise(7).parameters(), first.parameters(), strict=True))


def test_rows_drawn_in_parts_are_the_same_rows(monkeypatch):
    whole = explicit_module(LEAKY, (9, 7), 5, seed=7)
    monkeypatch.setattr(modules, "_DRAWN", 12)
    parts = explicit_module(LEAKY, (9, 7), 5, seed=7)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters(), strict=True))


def test_types():
    double = explicit_module(LEAKY, 30, 5, dtype="float64", seed=1)
    single = explicit_module(LEAKY, 30, 5, dtype=torch.float32, seed=1)
    x = samples()
    assert single(x.float()).dtype == torch.float32
    # inner products of 30 terms, three deep, of numbers of order one
    torch.testing.assert_close(single(x.float()).double(), double(x), rtol=0, atol=100 * 2.0**-23)
    assert torch.equal(copy.deepcopy(double).float()(x.float()), single(x.float()))
    assert copy.deepcopy(single).double()(x).dtype == torch.float64
    assert copy.deepcopy(single).to(torch.bfloat16)(x.to(torch.bfloat16)).dtype == torch.bfloat16


def test_any_number_of_batch_dimensions():
    module = explicit_module(LEAKY, 6, 5, dtype="float64", readout=3)
    x = samples(12)
    torch.testing.assert_close(module(x.reshape(3, 4, 5)), module(x).reshape(3, 4, 3), rtol=0, atol=1e-14)
    assert module(x[0]).shape == (3,)
    assert module(x[:0]).shape == (0, 3)


@pytest.mark.cuda
@cuda
def test_cuda_sees_the_same_network():
    x = samples()
    for parameterization in ("ntk", "standard"):
        options = {"dtype": "float64", "seed": 5, "parameterization": parameterization}
        on_cpu, on_cuda = (explicit_module(LEAKY, 64, 5, device=d, **options) for d in ("cpu", "cuda"))
        assert all(torch.equal(a, b.cpu()) for a, b in zip(on_cpu.parameters(), on_cuda.parameters(), strict=True))
        torch.testing.assert_close(on_cuda(x.cuda()).cpu(), on_cpu(x), rtol=0, atol=1e-12)
        torch.testing.assert_close(on_cpu.cuda()(x.cuda()), on_cuda(x.cuda()), rtol=0, atol=1e-12)
        with pytest.raises(InputError, match=r"x must be torch.float64 on cuda:0, .*on cpu"):
            on_cuda(x)


@pytest.mark.cuda
@cuda
def test_cuda_trains_exports_and_traces():
    module = explicit_module(LEAKY, 64, 5, device="cuda")
    x = samples(dtype=torch.float32).cuda()
    optimiser = torch.optim.SGD(module.parameter_groups(0.01))
    before = module(x).square().mean()
    before.backward()
    optimiser.step()
    assert module(x).square().mean() < before
    for graph in (exported(module, x, False), traced(module, x)):
        torch.testing.assert_close(graph(x[:3]), module(x[:3]))


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_lower_layers_know_it_by_name():
    assert (explicit_module.__module__, explicit_module.__name__) == TORCH_MODULE
    assert isinstance(explicit_module(network("tanh"), 3, 2), ExplicitModule)
    assert "5 -> 4 -> 3, tanh, relu, ntk" in repr(explicit_module(network("tanh", "relu"), (4, 3), 5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width must be a whole number, 1 or more; got 0"),
        ({"width": 2.5}, "width must be a whole number, 1 or more; got 2.5"),
        ({"width": "wide"}, "width must be a whole number, 1 or more; got 'wide'"),
        ({"width": (8, -1)}, "a width must be a whole number, 1 or more; got -1"),
        ({"width": (8,)}, "width must be one number or 2, one for each hidden layer; got 1"),
        ({"in_features": 0}, "in_features must be a whole number, 1 or more; got 0"),
        ({"in_features": None}, "in_features must be a whole number, 1 or more; got None"),
        ({"readout": 0}, "readout, the number of outputs, must be a whole number, 1 or more; got 0"),
        ({"seed": -1}, "seed must be a whole number, 0 or more; got -1"),
        ({"dtype": "float16"}, "dtype must be float64 or float32; got 'float16'"),
        ({"dtype": torch.int64}, "dtype must be float64 or float32; got torch.int64"),
        ({"device": "tpu"}, 'device must be "cpu", "cuda" or "cuda:N"; got \'tpu\''),
        ({"device": "meta"}, 'device must be "cpu", "cuda" or "cuda:N"; got \'meta\''),
        ({"device": "cuda:99"}, 'device "cuda:99" was asked for, but torch sees'),
        ({"parameterization": "mup"}, 'parameterization must be "ntk" or "standard"; got \'mup\''),
        ({"net": "tanh"}, "net must be an ExplicitNetwork, such as a design's network; got str"),
    ],
)
def test_bad_arguments(options, message):
    given = {"net": LEAKY, "width": 8, "in_features": 5} | options
    with pytest.raises(InputError) as raised:
        explicit_module(**given)
    assert message in str(raised.value)


def test_bad_inputs():
    module = explicit_module(LEAKY, 6, 5)
    for bad, shape in ((torch.ones(3, 4), r"\(3, 4\)"), (torch.ones(5, 3), r"\(5, 3\)"), (torch.tensor(1.0), r"\(\)")):
        with pytest.raises(InputError, match=rf"x must have 5 features in its last dimension .*got the shape {shape}"):
            module(bad)
    with pytest.raises(InputError, match=r"x must be torch.float32 on cpu, .*got torch.float64 on cpu: convert it"):
        module.features(samples())


def test_an_activation_without_a_torch_form():
    net = ExplicitNetwork((Layer(activation("tanh")), Layer(callable_activation(np.tanh, odd=True))), 1.0)
    with pytest.raises(InputError, match="the activation of layer 2 has no form in torch: tanh is a Python function"):
        explicit_module(net, 6, 5)


def test_weights_that_do_not_fit():
    with pytest.raises(MemoryLimitError, match=r"the weights need 4e\+03 GB .*take a smaller width, or float32"):
        explicit_module(LEAKY, 1_000_000, 5)


def test_without_torch_it_says_what_to_install():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from equikernel.errors import InputError\n"
        "try:\n    import equikernel.validation.modules\n"
        "except InputError as error:\n    print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)  # noqa: S603
    assert 'pip install "equikernel[torch]"' in run.stdout
