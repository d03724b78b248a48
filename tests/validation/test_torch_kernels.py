"""Exact kernels solved in torch: against those of the CPU, a closed form, and what memory and data may do to them."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from equikernel.errors import ConvergenceError, DataError, InputError, MemoryLimitError, UnstableError
from equikernel.numerics.kernels import implicit_kernels
from equikernel.numerics.kernels.careful import UNSETTLED
from equikernel.theory.models import DEQ
from equikernel.validation.torch_kernels import device_kernels, left, pairs, plan, run
from equikernel.validation.torch_kernels.arrays import Pairing, Samples, Workspace

# each side promises 1e-14 of the kernel's scale in G and 1e-13 in K
G_TOLERANCE, K_TOLERANCE = 2e-14, 2e-13
ACTIVATIONS = [
    "relu",
    "tanh",
    "gelu",
    "hard_tanh",
    "swish",
    "sin",
    "erf",
    "cos",
    "elu",
    "max(-0.5*x,x)",
    "log(cosh(x))",
]
AWKWARD = ["relu", "tanh", "hard_tanh", "cos"]
KINKED = ["relu", "hard_tanh"]

cuda = pytest.param(
    "cuda",
    marks=[
        pytest.mark.cuda,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
    ],
)
on_devices = pytest.mark.parametrize("device", ["cpu", cuda])
pytestmark = pytest.mark.usefixtures("one_thread")


def mixture(n=150, p=60):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, p)) / math.sqrt(p)
    X[::2] += 0.2 * rng.standard_normal(p) / math.sqrt(p)
    return X


def images(n=100, p=40):
    """Large cosines and uneven norms: few directions carry most, and sizes are log-normal."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((n, p)) / np.sqrt(np.arange(1.0, p + 1.0))
    X += 0.5 * rng.standard_normal(p) / np.arange(1.0, p + 1.0)
    X *= np.exp(0.2 * rng.standard_normal((n, 1)))
    return X / math.sqrt((X * X).sum(axis=1).mean())


def awkward():
    """Duplicates, antipodes, zero rows, multiples, near-duplicates, tiny and large rows."""
    rng = np.random.default_rng(7)
    X = rng.standard_normal((14, 12)) / math.sqrt(12)
    X[1], X[2], X[3], X[4] = X[0], -X[0], 0.0, 2.0 * X[0]
    X[5] = X[0] + 1e-6 * rng.standard_normal(12)
    X[6] = X[0] * (1 + 1e-9)
    X[7] = X[0] + 1e-3 * rng.standard_normal(12)
    X[8] *= 1e-9
    X[9] = 0.0
    X[10] *= 3.0
    X[12], X[13] = X[5], -X[11]
    return X


DATA = {"mixture": mixture(), "images": images(), "awkward": awkward()}


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles of 64 or fewer rows on every device."""
    for name in ("_CPU_SIDE", "_CUDA_SIDE", "_CUDA_SHARED_SIDE"):
        monkeypatch.setattr(plan, name, 64)


def array(kernel):
    return kernel if isinstance(kernel, np.ndarray) else kernel.cpu().numpy()


def assert_agree(found, expected, condition=1.0):
    for kernel, other, tolerance in ((found.ck, expected.ck, G_TOLERANCE), (found.ntk, expected.ntk, K_TOLERANCE)):
        if other is None:
            assert kernel is None
            continue
        assert np.abs(array(kernel) - other).max() <= condition * tolerance * np.abs(other).max()


@on_devices
@pytest.mark.parametrize(("power", "stride"), [(2, 1), (2, 2), (3, 2)])
def test_series_and_their_derivatives(power, stride, device):
    rng, terms = np.random.default_rng(0), 12
    rows, columns = rng.standard_normal((3, 4 + terms)), rng.standard_normal((5, 4 + terms))
    r = rng.uniform(-0.95, 0.95, (3, 5))
    arrays = Workspace(20, torch.device(device)).arrays(3, 5)
    arrays.r.copy_(torch.from_numpy(r))
    pairing = Pairing(*(Samples.of(packed, torch.device(device)) for packed in (rows, columns)))
    pairs._evaluate(pairing, SimpleNamespace(form=(power, stride, 0.0)), terms, arrays)
    for i in range(3):
        for j in range(5):
            coefficients = np.zeros(power + stride * terms)
            coefficients[1] = rows[i, 3] * columns[j, 3]
            coefficients[power::stride] = rows[i, 4:] * columns[j, 4:]
            F = np.polynomial.Polynomial(coefficients)
            found = [float(array[i, j]) for array in (arrays.value, arrays.slope, arrays.bend)]
            for value, exact in zip(found, (F, F.deriv(), F.deriv(2) / 2.0), strict=True):
                # Horner's scheme: 2 K eps of the sum of absolute values, on both sides
                size = np.polynomial.Polynomial(np.abs(exact.coef))(abs(r[i, j]))
                assert abs(value - exact(r[i, j])) <= 4.0 * len(coefficients) * 2.0**-52 * size


def test_closed_form_and_its_derivatives():
    rng = np.random.default_rng(0)
    packed, r = rng.standard_normal((4, 6)), rng.uniform(-0.95, 0.95, (4, 4))
    arrays = Workspace(16, torch.device("cpu")).arrays(4, 4)
    arrays.r.copy_(torch.from_numpy(r))
    samples = Samples.of(packed, torch.device("cpu"))
    pairs._evaluate(Pairing(samples, samples), SimpleNamespace(form=(2, 2, 0.25)), 2, arrays)
    linear, scale, root = np.outer(packed[:, 3], packed[:, 3]), 0.5 / math.pi, np.sqrt(1.0 - r * r)
    expected = (linear * r + scale * (root + r * np.arcsin(r) - 1.0), linear + scale * np.arcsin(r), 0.5 * scale / root)
    for found, exact in zip((arrays.value, arrays.slope, arrays.bend), expected, strict=True):
        assert np.allclose(found.numpy(), exact, rtol=1e-14, atol=1e-15)


@pytest.mark.usefixtures("small_tiles")
@on_devices
@pytest.mark.parametrize(
    ("name", "data"),
    [(name, data) for data in DATA for name in ACTIVATIONS if data != "awkward" or name in AWKWARD],
)
def test_agrees_with_the_cpu(name, data, device):
    X, deq = DATA[data], DEQ(name, "0.2", "0.8")
    expected = implicit_kernels(X, deq, trained="aAB")
    found = device_kernels(X, deq, trained="aAB", device=device)
    assert_agree(found, expected)
    assert np.array_equal(found.variances, expected.variances)
    assert (found.tau, found.contraction) == (expected.tau, expected.contraction)
    assert torch.equal(found.ck, found.ck.T)
    assert torch.equal(found.ntk, found.ntk.T)
    distinct = len(X) - found.copies
    assert sum(tile.pairs for tile in found.tiles) == distinct * (distinct - 1) // 2
    assert found.pairs_on_device + found.pairs_on_cpu == distinct * (distinct - 1) // 2
    assert sum(found.methods.values()) == sum(tile.left for tile in found.tiles)
    if data == "mixture":
        assert found.pairs_on_cpu == 0
    json.dumps(found.to_dict())


@pytest.mark.usefixtures("small_tiles")
@on_devices
@pytest.mark.parametrize("trained", ["a", "aA", "aAB"])
@pytest.mark.parametrize("result", ["torch", "numpy"])
def test_trained_groups_and_results(trained, result, device):
    deq = DEQ("gelu", "0.3", "0.7")
    found = device_kernels(DATA["images"], deq, trained=trained, device=device, result=result, tau0=1.2)
    assert_agree(found, implicit_kernels(DATA["images"], deq, trained=trained, tau0=1.2))
    for kernel in (found.ck, found.ntk):
        if result == "numpy":
            assert isinstance(kernel, np.ndarray)
        else:
            assert (kernel.dtype, kernel.device.type, kernel.requires_grad) == (torch.float64, device, False)


def relu_fixed_point(X, a2, b2):
    """[Cho & Saul 2009]: G and K of the centred ReLU by plain iteration over whole matrices, tau0 = 1."""
    tau2 = b2 / (1.0 - a2 * (0.5 - 0.5 / math.pi))
    centre = math.sqrt(tau2 / (2.0 * math.pi))
    norms = (X * X).sum(axis=1)
    q = b2 * norms
    for _ in range(200):
        q = a2 * (0.5 * q - 2.0 * centre * np.sqrt(q / (2.0 * math.pi)) + centre**2) + b2 * norms
    w = np.sqrt(q)
    means = w / math.sqrt(2.0 * math.pi)
    scale, shift = np.outer(w, w), centre**2 - centre * (means[:, None] + means)
    r = X @ X.T * b2 / scale
    for _ in range(200):
        angle = np.arccos(np.clip(r, -1.0, 1.0))
        G = scale * (np.sin(angle) + (math.pi - angle) * np.cos(angle)) / (2.0 * math.pi) + shift
        r = (a2 * G + b2 * X @ X.T) / scale
        np.fill_diagonal(r, 1.0)
    return G, G / (1.0 - a2 * (math.pi - angle) / (2.0 * math.pi))


@on_devices
def test_relu_closed_form(device):
    X = DATA["mixture"]
    G, K = relu_fixed_point(X, 0.4, 0.6)
    found = device_kernels(X, DEQ("relu", "0.4", "0.6"), tau0=1.0, device=device, result="numpy")
    # |r| < 0.9, so that the angle is good to a few eps
    assert np.abs(found.ck - G).max() <= 1e-14 * G.max()
    assert np.abs(found.ntk - K).max() <= 1e-14 * K.max()
    assert {tile.terms for tile in found.tiles} == {0}


@pytest.mark.usefixtures("small_tiles")
@on_devices
@pytest.mark.parametrize("name", KINKED)
def test_longer_series_on_the_device(name, device, monkeypatch):
    monkeypatch.setattr(left, "_MANY", 1)
    monkeypatch.setattr(left, "_CHUNK", 5)
    # cosines up to 0.9999 are what a longer series is for; the awkward ones need quadrature too
    rng = np.random.default_rng(3)
    near = DATA["images"][:20] + 0.05 * rng.standard_normal((20, 40))
    X = np.concatenate([DATA["images"][:20], near, awkward()[:8] @ rng.standard_normal((12, 40))])
    deq = DEQ(name, "0.2", "0.8")
    found = device_kernels(X, deq, trained="aAB", device=device)
    expected = implicit_kernels(X, deq, trained="aAB")
    assert_agree(found, expected)
    assert found.methods["quadrature"] > 0
    assert (left.ON_DEVICE in found.methods) == (name != "relu")
    assert 1e-15 <= found.error_bound <= max(expected.error_bound, 1e-13)


@pytest.mark.usefixtures("small_tiles")
@on_devices
@pytest.mark.parametrize("name", ["tanh", "elu"])
def test_equal_samples_have_equal_rows(name, device):
    X = np.concatenate([DATA["mixture"], DATA["mixture"][:40][::-1], -DATA["mixture"][50:60]])
    deq = DEQ(name, "0.2", "0.8")
    found = device_kernels(X, deq, device=device)
    odd = name == "tanh"
    assert found.copies == (50 if odd else 40)
    assert_agree(found, implicit_kernels(X, deq))
    for kernel in (found.ck, found.ntk):
        assert torch.equal(kernel[150:190], kernel[:40].flip(0))
        assert torch.equal(kernel[:, 150:190], kernel[:, :40].flip(1))
        assert not odd or torch.equal(kernel[190:], -kernel[50:60])


@pytest.mark.usefixtures("small_tiles")
@on_devices
def test_samples_against_others(device):
    X, Y = awkward(), np.concatenate([images(90, 12), awkward()[::-1][:8]])
    for name in ("tanh", "elu"):
        deq = DEQ(name, "0.2", "0.8")
        found = device_kernels(X, deq, Y, device=device, trained="aAB")
        expected = implicit_kernels(X, deq, Y, trained="aAB")
        assert found.ck.shape == (14, 98)
        assert_agree(found, expected)
        assert np.array_equal(found.column_variances, expected.column_variances)
        together = device_kernels(
            np.concatenate([X, Y]), deq, tau0=math.sqrt((X * X).sum(axis=1).mean()), device=device
        )
        assert np.abs(array(together.ck)[:14, 14:] - array(found.ck)).max() <= G_TOLERANCE * float(found.ck.abs().max())


@on_devices
def test_few_samples(device):
    deq = DEQ("gelu", "0.2", "0.8")
    x, y = np.array([[0.3, -0.4]]), np.array([[1.0, 2.0]])
    for arguments in ((x, deq), (x, deq, y), (x, deq, x), (np.repeat(x, 3, axis=0), deq), (np.zeros((2, 2)), deq)):
        options = {"tau0": 1.0, "trained": "aAB"}
        assert_agree(device_kernels(*arguments, device=device, **options), implicit_kernels(*arguments, **options))


@on_devices
def test_zero_rows_and_no_hidden_weights(device):
    X = awkward()
    deq = DEQ("tanh", 0, 1)
    assert_agree(device_kernels(X, deq, device=device), implicit_kernels(X, deq))
    found = device_kernels(X, DEQ("sin", "0.2", "0.8"), device=device)
    assert not found.ck[3].any()
    assert not found.ntk[:, 9].any()


def test_tiles_do_not_matter():
    X, deq = DATA["images"], DEQ("hard_tanh", "0.2", "0.8")
    whole = device_kernels(X, deq, device="cpu", result="numpy")
    assert (len(whole.tiles), whole.side) == (1, 100)
    fixed = plan.Budget(100, 100, True, 40, 2, kept=False).fixed
    for side in (99, 70, 33):
        memory = fixed + plan.BYTES_OF_PAIR * side**2 + 1
        cut = device_kernels(X, deq, device="cpu", result="numpy", memory=memory)
        assert cut.side == side
        assert max(max(tile.shape) for tile in cut.tiles) <= side
        assert_agree(cut, whole)
    assert min(tile.terms for tile in cut.tiles) <= max(tile.terms for tile in whole.tiles)


def test_jumps_have_a_conjugate_kernel():
    X, deq = DATA["mixture"], DEQ("sign(x)", "0.2", "0.8")
    found = device_kernels(X, deq, device="cpu", ntk=False)
    assert found.ntk is None
    assert_agree(found, implicit_kernels(X, deq, ntk=False))
    assert_agree(device_kernels(X, deq, device="cpu", trained="a"), implicit_kernels(X, deq, trained="a"))
    with pytest.raises(InputError, match="jump"):
        device_kernels(X, deq, device="cpu")


@on_devices
def test_edge_of_stability(device):
    X = DATA["mixture"][:4]
    edge = DEQ("x", "0.97", "0.1")  # sigma_a2 F' = 0.97 for every pair: errors are divided by 0.03, twice in K
    found = device_kernels(X, edge, device=device)
    assert found.pairs_on_device == 0 or left.ON_DEVICE not in found.methods
    assert_agree(found, implicit_kernels(X, edge), condition=1.0 / 0.03**2)
    told = []
    for options in ((implicit_kernels, {}), (device_kernels, {"device": device})):
        with pytest.raises(UnstableError) as error:
            options[0](X, DEQ("2*tanh(x)", "0.9", "0.1"), **options[1])
        told.append(str(error.value))
    assert told[0] == told[1]


def test_a_pair_without_a_solution_is_named(monkeypatch):
    solve = left.solve_leftover

    def stuck(problem, pairs):
        results = solve(problem, pairs)
        results[0][1].method[:] = UNSETTLED
        return results

    monkeypatch.setattr(left, "solve_leftover", stuck)
    with pytest.raises(ConvergenceError, match=r"samples 0 and 5 did not converge for elu .* reduce sigma_a2"):
        device_kernels(awkward()[[0, 3, 8, 10, 11, 5]], DEQ("elu", "0.2", "0.8"), device="cpu")

    def steep(problem, pairs):
        results = solve(problem, pairs)
        results[0][1].G_dot[:] = 6.0
        return results

    monkeypatch.setattr(left, "solve_leftover", steep)
    with pytest.raises(UnstableError, match=r"= 1.2 >= 1 for samples 0 and 5 with elu"):
        device_kernels(awkward()[[0, 3, 8, 10, 11, 5]], DEQ("elu", "0.2", "0.8"), device="cpu")


def test_full_memory_halves_the_tiles(monkeypatch):
    X, deq = DATA["mixture"], DEQ("gelu", "0.2", "0.8")
    whole = device_kernels(X, deq, device="cpu")
    solve = run.solve_pairs

    def narrow(pairing, layer, sigmas, own, arrays):
        if arrays.s.numel() > 50**2:
            raise torch.cuda.OutOfMemoryError("as a device would say")
        return solve(pairing, layer, sigmas, own, arrays)

    monkeypatch.setattr(run, "solve_pairs", narrow)
    halved = device_kernels(X, deq, device="cpu")
    assert (halved.side, halved.halvings) == (38, 2)
    assert_agree(halved, device_kernels(X, deq, device="cpu", result="numpy"))
    assert np.abs(array(halved.ck) - array(whole.ck)).max() <= G_TOLERANCE * float(whole.ck.max())
    assert sum(tile.pairs for tile in halved.tiles) == 150 * 149 // 2

    def full(*_args):
        raise torch.cuda.OutOfMemoryError("as a device would say")

    monkeypatch.setattr(run, "solve_pairs", full)
    with pytest.raises(MemoryLimitError, match=r"cpu ran out of memory with kernels of 150 x 150 samples: free memory"):
        device_kernels(X, deq, device="cpu")


def test_full_memory_in_the_longer_series(monkeypatch):
    monkeypatch.setattr(left, "_MANY", 1)
    X, deq = DATA["images"], DEQ("hard_tanh", "0.2", "0.8")
    whole = device_kernels(X, deq, device="cpu", result="numpy")
    solve, calls = left.solve_pairs, []

    def once(*args):
        calls.append(args)
        if len(calls) == 1:
            raise torch.cuda.OutOfMemoryError("as a device would say")
        return solve(*args)

    monkeypatch.setattr(left, "solve_pairs", once)
    again = device_kernels(X, deq, device="cpu", result="numpy")
    assert again.halvings == 1
    assert again.methods == whole.methods
    assert np.array_equal(again.ntk, whole.ntk)


def test_too_little_memory():
    X, deq = DATA["mixture"], DEQ("tanh", "0.2", "0.8")
    sentence = (
        r"^kernels of 150 x 150 samples need at least \d+ bytes on cpu, 1000 are allowed: raise memory or ask for "
        r'result="numpy", or use stream_kernels, which writes to disk$'
    )
    with pytest.raises(MemoryLimitError, match=sentence):
        device_kernels(X, deq, device="cpu", memory=1000)
    kept, moved = (plan.Budget(10**6, 10**6, True, 784, 2, kept=kept) for kept in (True, False))
    with pytest.raises(MemoryLimitError, match=r"need at least 160\d{11} bytes on cpu, \d+ are available: .*numpy"):
        kept.side(torch.device("cpu"), None)
    with pytest.raises(MemoryLimitError, match=r"need 1.6e\+04 GB .*: use stream_kernels"):
        moved.side(torch.device("cpu"), 1e15)
    for memory in (0, -1.0, math.nan):
        with pytest.raises(InputError, match="memory must be a positive number of bytes, or None; got"):
            device_kernels(X, deq, device="cpu", memory=memory)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"device": "cuda:99"}, InputError, 'device "cuda:99" was asked for, but torch sees'),
        ({"device": "tpu"}, InputError, "device must be"),
        ({"result": "jax"}, InputError, "result must be"),
        ({"trained": "B"}, InputError, "trained"),
        ({"threads": 0}, InputError, "threads must be a positive integer"),
        ({"Y": np.ones((2, 3))}, DataError, "as many features"),
        ({"X": [[math.nan]]}, DataError, "finite"),
    ],
)
def test_bad_arguments(options, error, match):
    arguments = {"X": DATA["mixture"], "deq": DEQ("tanh", "0.2", "0.8"), "device": "cpu", **options}
    with pytest.raises(error, match=match):
        device_kernels(**arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_cuda_device():
    with pytest.raises(InputError, match=r'device "cuda" was asked for, but torch sees 0 CUDA devices: use "cpu"'):
        device_kernels(DATA["mixture"], DEQ("tanh", "0.2", "0.8"))


@on_devices
def test_settings_of_lower_precision_change_no_bit(device):
    X, deq = DATA["images"], DEQ("gelu", "0.2", "0.8")
    before = device_kernels(X, deq, device=device)
    precision, default = torch.get_float32_matmul_precision(), torch.get_default_dtype()
    torch.set_float32_matmul_precision("medium")
    torch.set_default_dtype(torch.float16)
    try:
        with torch.autocast(device, dtype=torch.bfloat16):
            after = device_kernels(X, deq, device=device)
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.set_default_dtype(default)
    assert torch.equal(after.ck, before.ck)
    assert torch.equal(after.ntk, before.ntk)


def test_data_are_left_alone():
    X = DATA["mixture"].copy()
    X.flags.writeable = False
    device_kernels(X, DEQ("relu", "0.2", "0.8"), device="cpu")
    assert np.array_equal(X, DATA["mixture"])
