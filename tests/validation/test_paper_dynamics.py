"""Predictions of linearised networks, the networks that are trained, and the experiment ``dynamics``."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
import typer
from typer.testing import CliRunner

from equikernel.cli.experiments.dynamics import dynamics
from equikernel.errors import ConvergenceError, DataError, InputError
from equikernel.numerics.kernels import implicit_ntk
from equikernel.theory.models import DEQ, ExplicitNetwork
from equikernel.validation.datasets import load_dataset
from equikernel.validation.experiments.sources import MixtureSource
from equikernel.validation.experiments.study import Outcome
from equikernel.validation.figures import FigureBook
from equikernel.validation.paper.experiment import run_experiment
from equikernel.validation.paper.lazy import descent as descent_module
from equikernel.validation.paper.lazy.descent import Trainee
from equikernel.validation.paper.lazy.dynamics import Dynamics, DynamicsUnit
from equikernel.validation.paper.lazy.dynamics_findings import dynamics_findings
from equikernel.validation.paper.lazy.linearised import KernelModel
from equikernel.validation.paper.lazy.problem import Contestant, LazyData, contestants, limit_model, two_class_source
from equikernel.validation.paper.lazy.tables import laws

pytestmark = pytest.mark.usefixtures("one_thread")

EPS = float(np.finfo(float).eps)
RELU, TANH = DEQ("relu"), DEQ("tanh", "0.3", "0.7")
NET = ExplicitNetwork.of("tanh", "x + 0.3*x**2")
RATED = ExplicitNetwork(NET.layers, 1.0, (0.3, 2.0))
SOURCE = MixtureSource("isotropic", 20, 24, 0)
DATA = LazyData(SOURCE, 12, 0)


def small(**changes: object) -> Dynamics:
    asked: dict[str, object] = {"sources": (SOURCE,), "train": 12, "widths": (8, 16), "seeds": (0, 1, 2), "steps": 4}
    return Dynamics(TANH, **(asked | changes))  # type: ignore[arg-type]


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than everything else; one test looks at the figures."""
    monkeypatch.setattr(FigureBook, "add", lambda *_: "")


# -- predictions -------------------------------------------------------------------------------------------------------


def linear_problem(n: int, tests: int, parameters: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    stream = np.random.default_rng(0)
    J = stream.standard_normal((n + tests, parameters)) / math.sqrt(parameters)
    return J, stream.standard_normal(n + tests), np.sign(stream.standard_normal(n))


def test_flow_is_the_matrix_exponential() -> None:
    J, f0, y = linear_problem(6, 3, 40)
    K, rate, t = J @ J.T, 0.3, 5.0
    model = KernelModel(K[:, :6])
    left = scipy.linalg.expm(-rate * t * K[:6, :6]) @ (f0[:6] - y)
    test = f0[6:] + K[6:, :6] @ np.linalg.solve(K[:6, :6], y - f0[:6] + left)
    tolerance = 1e3 * EPS * np.linalg.cond(K[:6, :6])
    np.testing.assert_allclose(model.flow(f0, y, rate, np.array([t]))[0], [*(y + left), *test], atol=tolerance)


@pytest.mark.parametrize("parameters", [40, 4])
@pytest.mark.parametrize("step", [0.1, 1.5])
def test_descent_is_what_gradient_descent_does_to_a_linear_model(parameters: int, step: float) -> None:
    # 4 parameters for 6 samples: a kernel of rank 4, whose other eigenvalues are zero up to rounding
    J, f0, y = linear_problem(6, 3, parameters)
    model = KernelModel(J @ J[:6].T)
    rate, theta, seen = step / model.largest, np.zeros(parameters), []
    for _ in range(31):
        seen.append(f0 + J @ theta)
        theta = theta - rate * J[:6].T @ (seen[-1][:6] - y)
    predicted = model.descent(f0, y, rate, np.arange(31.0))
    # where an eigenvalue is a rounding error, K(x, .) v is of the order of the root of one
    np.testing.assert_allclose(predicted, seen, atol=31 * 100 * math.sqrt(EPS) if parameters < 6 else 1e-11)


def test_ridge_and_decay_are_least_squares_in_the_parameters() -> None:
    J, f0, y = linear_problem(6, 3, 40)
    penalty, theta0 = 0.2, np.random.default_rng(1).standard_normal(40)
    model, damping = KernelModel(J @ J[:6].T), math.sqrt(penalty) * np.eye(40)
    rows = np.vstack([J[:6], damping])
    step = np.linalg.lstsq(rows, np.concatenate([y - f0[:6], np.zeros(40)]), rcond=None)[0]
    np.testing.assert_allclose(model.ridge(f0, y, penalty), f0 + J @ step, atol=1e-12)
    target = y - f0[:6] + J[:6] @ theta0
    theta = np.linalg.lstsq(rows, np.concatenate([target, np.zeros(40)]), rcond=None)[0]
    np.testing.assert_allclose(model.decay(f0, J @ theta0, y, penalty), f0 + J @ (theta - theta0), atol=1e-12)


def test_a_flow_of_small_steps_is_the_descent() -> None:
    J, f0, y = linear_problem(6, 3, 40)
    model = KernelModel(J @ J[:6].T)
    many = 10**6
    rate = 2.0 / model.largest / many
    slow = model.descent(f0, y, rate, np.array([many]))
    # (1 - x)^t = exp(-x t)(1 - x^2 t/2 + ...): x^2 t <= 4/many
    np.testing.assert_allclose(model.flow(f0, y, rate, np.array([many])), slow, atol=1e-4)


def test_the_model_refuses_other_shapes() -> None:
    with pytest.raises(InputError, match=r"a row for every sample, the training samples first; got shape \(2, 3\)"):
        KernelModel(np.zeros((2, 3)))


# -- networks ----------------------------------------------------------------------------------------------------------


def unrolled(deq: DEQ, mean: float, x: torch.Tensor):  # type: ignore[no-untyped-def]
    """F of the parameters by plain iteration, in a form that torch.func can differentiate."""
    a, b = math.sqrt(deq.sigma_a2), math.sqrt(deq.sigma_b2)
    phi = {"relu": torch.relu, "tanh": torch.tanh}[deq.activation.name]

    def f(A, B, readout):  # type: ignore[no-untyped-def]
        m = len(A)
        z = torch.zeros(len(x), m, dtype=torch.float64)
        for _ in range(150):
            z = (phi(a * z @ A.T + b * x @ B.T) - mean) / math.sqrt(m)
        return (z @ readout.T).squeeze(-1)

    return f


@pytest.mark.parametrize(("trained", "arguments"), [("a", (2,)), ("aA", (0, 2)), ("aAB", (0, 1, 2))])
def test_kernel_and_drift_of_a_deq_are_those_of_its_jacobian(trained: str, arguments: tuple[int, ...]) -> None:
    samples = DATA.load()
    network = Trainee(Contestant("deq", TANH, trained), 9, samples.X, samples.n, samples.tau0, 0)
    module = network.module
    weights = tuple(p.detach() for p in (module.A, module.B, module.readout))  # type: ignore[union-attr, arg-type]
    function = unrolled(TANH, float(module.mean), torch.from_numpy(samples.X))  # type: ignore[union-attr, arg-type]
    parts = torch.func.jacrev(function, argnums=arguments)(*weights)
    J = torch.cat([part.flatten(1) for part in parts], dim=1).numpy()
    theta = torch.cat([weights[k].flatten() for k in arguments]).numpy()
    # states and adjoints are solved to 1e-10, relative
    np.testing.assert_allclose(network.outputs(), function(*weights).numpy(), atol=1e-8)
    np.testing.assert_allclose(network.tangent_kernel(), J @ J.T, atol=1e-8)
    np.testing.assert_allclose(network.tangent_kernel(all_samples=False), (J @ J.T)[:12, :12], atol=1e-8)
    np.testing.assert_allclose(network.drift(), J @ theta, atol=1e-8)


def test_kernel_and_drift_of_an_explicit_network_are_those_of_its_jacobian() -> None:
    samples = DATA.load()
    network = Trainee(Contestant("equivalent", RATED, "aA"), 9, samples.X, samples.n, 1.0, 0)
    parameters = {name: p.detach() for name, p in network.module.named_parameters()}

    def f(values: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.func.functional_call(network.module, values, network.X).squeeze(-1)

    parts = torch.func.jacrev(f)(parameters)
    rates = {"weights.0": 0.3, "weights.1": 2.0, "readout": 1.0}
    J = {name: part.flatten(1).numpy() for name, part in parts.items()}
    expected = sum(rates[name] * part @ part.T for name, part in J.items())
    drift = sum(part @ parameters[name].flatten().numpy() for name, part in J.items())
    np.testing.assert_allclose(network.tangent_kernel(), expected, atol=1e-12)
    np.testing.assert_allclose(network.drift(), drift, atol=1e-12)


@pytest.mark.parametrize("network", [TANH, RATED])
@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_descent_with_decay_is_torch_sgd(network: DEQ | ExplicitNetwork, momentum: float) -> None:
    samples = DATA.load()
    contestant = Contestant("any", network, "aA")
    mine, other = (Trainee(contestant, 7, samples.X, samples.n, samples.tau0, 0) for _ in range(2))
    rate, penalty, X, y = 0.05, 0.4, mine.X[: samples.n], torch.from_numpy(samples.train_labels)
    groups = [
        {"params": [p], "lr": rate * eta, "weight_decay": penalty / eta}
        for p, eta in zip(other.parameters, other.rates, strict=True)
    ]
    optimizer = torch.optim.SGD(groups, lr=rate, momentum=momentum)
    path = mine.descent(samples.train_labels, rate, penalty=penalty, towards_zero=True, momentum=momentum)
    for f in itertools.islice(path, 4):
        optimizer.zero_grad()
        outputs = other.module(X).squeeze(-1)
        np.testing.assert_allclose(f, outputs.detach().numpy(), atol=1e-9)
        (((outputs - y) ** 2).sum() / 2).backward()
        optimizer.step()


def test_decay_towards_the_initial_weights_does_nothing_there() -> None:
    samples = DATA.load()
    network = Trainee(Contestant("naive", NET, "aA"), 7, samples.X, samples.n, 1.0, 0)
    f0 = network.outputs()[: samples.n]
    first, second = itertools.islice(network.descent(f0, 0.1, penalty=3.0), 2)  # labels that are already met
    np.testing.assert_array_equal(first, second)


# -- data --------------------------------------------------------------------------------------------------------------


def test_classes_are_put_together_and_split() -> None:
    source = two_class_source("digits", 200, 3)
    samples = LazyData(source, 150, 0).load()
    raw = load_dataset("digits", n=200, seed=3)
    assert raw.labels is not None
    labels = {row.tobytes(): 1.0 if label < 5 else -1.0 for row, label in zip(raw.X, raw.labels, strict=True)}
    assert [labels[row.tobytes()] for row in samples.X] == list(samples.y)
    assert (len(samples.train_labels), len(samples.test_labels)) == (150, 50)
    assert not np.array_equal(samples.X, LazyData(source, 150, 1).load().X)


@pytest.mark.parametrize("train", [1, 24, 30])
def test_a_split_without_samples_on_both_sides_is_refused(train: int) -> None:
    with pytest.raises(DataError, match=r"from 2 to 23 can be trained on, the rest is for testing; got"):
        LazyData(SOURCE, train, 0).load()


def test_unlabelled_data_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "plain.npy", np.random.default_rng(0).standard_normal((30, 4)))
    source = two_class_source(str(tmp_path / "plain.npy"), 30, 0)
    with pytest.raises(DataError, match="has no labels of two classes or more"):
        LazyData(source, 12, 0).load()


# -- the experiment ----------------------------------------------------------------------------------------------------


def test_a_network_linear_in_its_parameters_follows_its_own_kernel_exactly() -> None:
    deq, _, naive = contestants(TANH, 1.0, "a")
    for contestant in (deq, naive):
        numbers = DynamicsUnit(contestant, deq, DATA, 30, 0, 0.5, 20).measure()
        assert numbers["movement"] == 0.0
        # 20 steps, each with the rounding of sums of 30 terms, beside states that are the same in every step
        assert max(numbers["deviations"]["initial"].values()) < 1e-11
        assert numbers["deviations"]["limit"]["train"] > 1e-3
        np.testing.assert_allclose(numbers["loss"], numbers["predicted"]["initial"], atol=1e-11)


def test_numbers_of_a_unit_are_those_of_an_own_computation() -> None:
    deq, equivalent, _ = contestants(TANH, 1.0, "aA")
    numbers = DynamicsUnit(equivalent, deq, DATA, 40, 1, 0.5, 6).measure()
    samples = DATA.load()
    network = Trainee(equivalent, 40, samples.X, samples.n, 1.0, 1)
    f0 = network.outputs()[:12] - samples.train_labels
    K = limit_model(equivalent, DATA).training_kernel
    assert numbers["rate"] == pytest.approx(0.5 / np.linalg.eigvalsh(K)[-1], rel=1e-12)
    path = [
        f - samples.train_labels for f in itertools.islice(network.descent(samples.train_labels, numbers["rate"]), 7)
    ]
    exact = [np.linalg.matrix_power(np.eye(12) - numbers["rate"] * K, t) @ f0 for t in range(7)]
    scale = np.linalg.norm(f0)
    worst = max(np.linalg.norm(a - b) for a, b in zip(path, exact, strict=True)) / scale
    assert numbers["deviations"]["limit"]["train"] == pytest.approx(worst, rel=1e-9)
    np.testing.assert_allclose(numbers["loss"], [r @ r / scale**2 for r in path], rtol=1e-12)
    by_deq = implicit_ntk(samples.X[:12], TANH, tau0=1.0, trained="aA")
    step = 0.5 / np.linalg.eigvalsh(by_deq)[-1]
    curve = [np.linalg.matrix_power(np.eye(12) - step * by_deq, t) @ f0 for t in range(7)]
    np.testing.assert_allclose(numbers["predicted"]["deq"], [r @ r / scale**2 for r in curve], rtol=1e-9)


def test_the_experiment_writes_resumes_and_counts_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = small()
    found = run_experiment(experiment, tmp_path)
    record = json.loads((tmp_path / "results.json").read_text())
    assert len(record["runs"]) == len(experiment.units()) == 18
    assert {row["name"] for row in record["rows"]} == {"DEQ", "equivalent", "naive"}
    assert "128" not in found.tables[0].caption
    for name in ("losses.png", "deviations.pdf"):
        assert (tmp_path / "figures" / name).stat().st_size > 1000
    monkeypatch.setattr(descent_module, "Trainee", None)  # a second computation would fail
    assert run_experiment(experiment, tmp_path).record == found.record
    with pytest.raises(InputError, match="needs 3 or more different seeds"):
        small(seeds=(0, 1))


def test_a_step_too_large_for_the_own_kernel_is_told() -> None:
    """Gradient descent of step eta is stable for eta lambda_max < 2 and not beyond."""
    experiment = small()
    runs = experiment.findings([Outcome(unit.measure()) for unit in experiment.units()]).record["runs"]
    rates = [run["rate"] * run["largest"]["initial"] for run in runs]
    told = [r for r in dynamics_findings(runs, "aA").remarks if "diverges" in r]
    assert bool(told) == (max(rates) > 2)
    steep = runs[-1] | {"largest": runs[-1]["largest"] | {"initial": 2.01 / runs[-1]["rate"]}}
    stable = [run | {"largest": run["largest"] | {"initial": 1.99 / run["rate"]}} for run in runs[:-1]]
    (remark,) = (r for r in dynamics_findings([*stable, steep], "aA").remarks if "diverges" in r)
    assert "kernel for naive of width 16 with seed 2, so" in remark


@pytest.mark.usefixtures("no_figures")
def test_a_network_that_fails_is_reported_and_the_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(Trainee):
        def __init__(self, contestant: Contestant, width: int, *rest: object) -> None:
            if (contestant.name, width) == ("deq", 8):
                raise ConvergenceError("no states today")
            super().__init__(contestant, width, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(descent_module, "Trainee", Failing)
    found = run_experiment(small(), tmp_path)
    assert len(found.record["runs"]) == 15
    assert "no states today" in (tmp_path / "summary.md").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fraction": 2.5}, "must lie between 0 and 1: from 2 on it diverges; got 2.5"),
        ({"fraction": float("nan")}, "must lie between 0 and 1"),
        ({"steps": 0}, "steps must be a whole number"),
        ({"widths": ()}, "needs a width or more; got none"),
        ({"widths": (1,)}, "a width must be a whole number, 2 or more"),
        ({"trained": "B"}, "trained must be one of"),
    ],
)
def test_bad_sizes_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        small(**changes)


def test_laws_are_found_in_exact_powers() -> None:
    runs = [{"data": "x", "width": m, "value": 3.0 * m**-0.75} for m in (8, 16, 32) for _ in range(2)]
    (law,) = laws(runs, ("data",), "v", lambda run: run["value"], -1.0)
    assert law.fit.slope == pytest.approx(-0.75, abs=1e-12)
    assert law.verdict == "slower than -1 over these widths"
    assert not list(laws(runs, ("data",), "v", lambda run: run["value"], -1.0, 32))


@pytest.mark.usefixtures("no_figures")
def test_the_command_runs_in_small(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(dynamics)
    sizes = ["--width", "8", "--width", "12", "--train", "10", "--test", "10", "--steps", "2", "--data", "digits"]
    result = CliRunner().invoke(app, ["tanh", "--out", str(tmp_path), *sizes])
    assert result.exit_code == 0, result.output
    assert "should fall as width^-0.5" in (tmp_path / "summary.md").read_text()
