"""Networks trained with penalties, and the experiment ``ridge``."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from equikernel.cli.experiments.ridge import ridge
from equikernel.errors import ConvergenceError, InputError
from equikernel.numerics.kernels import implicit_ck
from equikernel.theory.models import DEQ
from equikernel.validation.experiments.sources import MixtureSource
from equikernel.validation.figures import FigureBook
from equikernel.validation.paper.experiment import run_experiment
from equikernel.validation.paper.lazy import descent as descent_module
from equikernel.validation.paper.lazy import problem as lazy_module
from equikernel.validation.paper.lazy import ridge_units
from equikernel.validation.paper.lazy.descent import Trainee
from equikernel.validation.paper.lazy.problem import LazyData, contestants, limit_model
from equikernel.validation.paper.lazy.ridge import Ridge
from equikernel.validation.paper.lazy.ridge_units import PenaltyUnit, ReadoutUnit, heavy_ball

pytestmark = pytest.mark.usefixtures("one_thread")

TANH = DEQ("tanh", "0.3", "0.7")
SOURCE = MixtureSource("isotropic", 20, 30, 0)
DATA = LazyData(SOURCE, 12, 0)


def small(**changes: object) -> Ridge:
    asked: dict[str, object] = {
        "sources": (SOURCE,),
        "train": 12,
        "readout_widths": (8, 16),
        "widths": (8, 12),
        "seeds": (0, 1, 2),
        "readout_fractions": (0.1, 1.0),
        "fractions": (1.0,),
    }
    return Ridge(TANH, **(asked | changes))  # type: ignore[arg-type]


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than everything else; one test looks at the figures."""
    monkeypatch.setattr(FigureBook, "add", lambda *_: "")


def errors(values: np.ndarray) -> float:
    return float(np.mean((values - DATA.load().test_labels) ** 2))


def test_the_readout_is_least_squares_and_the_limit_kernel_ridge_regression() -> None:
    deq, equivalent, _ = contestants(TANH, 1.0, "a")
    samples, n = DATA.load(), 12
    G = implicit_ck(samples.X, TANH, tau0=1.0)
    largest = np.linalg.eigvalsh(G[:n, :n])[-1]
    for contestant in (deq, equivalent):
        runs = ReadoutUnit(contestant, deq, DATA, 9, 0, (0.05, 0.5)).measure()["runs"]
        Z = Trainee(contestant, 9, samples.X, n, 1.0, 0).features()
        for run in runs:
            penalty = run["fraction"] * largest
            rows = np.vstack([Z[:n], math.sqrt(penalty) * np.eye(9)])
            a = np.linalg.lstsq(rows, np.concatenate([samples.train_labels, np.zeros(9)]), rcond=None)[0]
            assert run["mse"] == pytest.approx(errors(Z[n:] @ a), rel=1e-9)
            exact = G[n:, :n] @ np.linalg.solve(G[:n, :n] + penalty * np.eye(n), samples.train_labels)
            assert run["predictions"]["deq"]["mse"] == pytest.approx(errors(exact), rel=1e-9)
            gap = math.sqrt(np.mean((Z[n:] @ a - exact) ** 2))
            assert run["predictions"]["deq"]["difference"] == pytest.approx(gap, rel=1e-7)


@pytest.mark.parametrize("fraction", [0.001, 0.1, 10.0])
def test_heavy_ball_reaches_its_accuracy_on_a_quadratic(fraction: float) -> None:
    values = np.append(np.geomspace(1e-4, 3.0, 20), 0.0)
    penalty = fraction * 3.0
    rate, momentum, steps = heavy_ball(3.0, penalty)
    x, v = np.ones(21), np.zeros(21)
    for _ in range(steps):
        v = momentum * v - rate * (values + penalty) * x
        x = x + v
    # the error is at most (1 + t(1 - r)) r^t with r^t = 1e-5^(5/4), and t(1 - r) <= 1.25 log(1e5)
    assert np.abs(x).max() <= (1 + 1.25 * math.log(1e5)) * 1e-5**1.25


@pytest.mark.parametrize("towards_zero", [False, True])
def test_training_a_linear_network_with_a_penalty_reaches_ridge_regression(*, towards_zero: bool) -> None:
    samples, n = DATA.load(), 12
    for contestant in contestants(TANH, 1.0, "a"):
        network = Trainee(contestant, 15, samples.X, n, 1.0, 0)
        K, f0, penalty = network.tangent_kernel()[:, :n], network.outputs(), 0.2
        offset = np.zeros(30) if towards_zero else f0
        expected = offset + K @ np.linalg.solve(K[:n] + penalty * np.eye(n), samples.train_labels - offset[:n])
        rate, momentum, steps = heavy_ball(float(np.linalg.eigvalsh(K[:n])[-1]), penalty)
        path = network.descent(
            samples.train_labels, rate, penalty=penalty, towards_zero=towards_zero, momentum=momentum
        )
        next(itertools.islice(path, steps, None))
        # 1e-5 of the first distance, which is of order 10
        np.testing.assert_allclose(network.outputs(), expected, atol=1e-4)


def test_plain_decay_of_a_wide_deq_forgets_its_hidden_weights() -> None:
    deq, equivalent, naive = contestants(TANH, 1.0, "aA")
    (run,) = PenaltyUnit(deq, deq, DATA, 100, 0, 1.0, towards_zero=True).measure()["runs"]
    gaps = {name: found["difference"] for name, found in run["predictions"].items()}
    # O(1/m) against O(1): the others miss what decay does to f0 and to A
    assert gaps["forgotten"] < 0.01
    assert min(gaps["limit"], gaps["own"], gaps["linearised"]) > 0.1
    assert run["kept"] < 0.01
    for contestant in (equivalent, naive):
        # without hidden weights, and tanh(0) = 0, nothing is left of an explicit network
        (run,) = PenaltyUnit(contestant, deq, DATA, 100, 0, 1.0, towards_zero=True).measure()["runs"]
        assert run["predictions"]["forgotten"]["mse"] == pytest.approx(1.0, rel=1e-12)
        assert run["mse"] == pytest.approx(1.0, abs=1e-3)


def test_decay_towards_the_initial_weights_is_ridge_regression_with_the_ntk() -> None:
    deq = contestants(TANH, 1.0, "aA")[0]
    (run,) = PenaltyUnit(deq, deq, DATA, 200, 0, 1.0, towards_zero=False).measure()["runs"]
    samples, n = DATA.load(), 12
    network = Trainee(deq, 200, samples.X, n, 1.0, 0)
    K, f0 = network.tangent_kernel()[:, :n], network.outputs()
    penalty = limit_model(deq, DATA).largest
    ntk = f0 + K @ np.linalg.solve(K[:n] + penalty * np.eye(n), samples.train_labels - f0[:n])
    assert run["predictions"]["own"]["mse"] == pytest.approx(errors(ntk[n:]), rel=1e-9)
    assert run["predictions"]["own"]["difference"] < 0.1 * run["predictions"]["limit"]["difference"]


def test_the_experiment_writes_resumes_and_counts_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = small()
    found = run_experiment(experiment, tmp_path)
    record = json.loads((tmp_path / "results.json").read_text())
    assert len(experiment.units()) == 18 + 36
    assert len(record["runs"]) == 2 * 18 + 36
    assert [table.name for table in found.tables] == ["ridge_readout", "ridge_initial", "ridge_zero", "slopes"]
    assert (tmp_path / "figures" / "errors_1.png").stat().st_size > 1000
    monkeypatch.setattr(descent_module, "Trainee", None)  # a second computation would fail
    assert run_experiment(experiment, tmp_path).record == found.record
    with pytest.raises(InputError, match="needs 3 or more different seeds"):
        small(seeds=(0, 1))


def test_training_that_diverges_is_an_error_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ridge_units, "heavy_ball", lambda largest, penalty: (40.0 / (largest + penalty), 0.0, 50))
    deq, equivalent, _ = contestants(TANH, 1.0, "aA")
    unit = PenaltyUnit(equivalent, deq, DATA, 8, 0, 1.0, towards_zero=False)
    with pytest.raises(ConvergenceError, match=r"equivalent network of width 8 .* diverged at step \d+ of 50: take"):
        unit.measure()


@pytest.mark.usefixtures("no_figures")
def test_without_an_equivalent_the_others_are_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lazy_module, "_equivalent", lambda deq, tau0, trained: "none of the families matches")
    experiment = small(readout_widths=(8,), widths=(8,))
    found = run_experiment(experiment, tmp_path)
    assert {run["network"] for run in found.record["runs"]} == {"deq", "naive"}
    assert found.remarks[0] == "There is no equivalent to train: none of the families matches"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trained": "a"}, 'trained must be "aA" or "aAB"'),
        ({"fractions": (0.0,)}, "a penalty must be a positive finite number; got 0"),
        ({"readout_fractions": (float("nan"),)}, "a penalty must be a positive finite number"),
        ({"widths": (2.5,)}, "a width must be a whole number, 2 or more"),
    ],
)
def test_bad_sizes_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        small(**changes)


@pytest.mark.usefixtures("no_figures")
def test_the_command_runs_in_small(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(ridge)
    sizes = ["--width", "8", "--readout-width", "8", "--train", "10", "--test", "10", "--penalty", "1"]
    result = CliRunner().invoke(app, ["tanh", "--out", str(tmp_path), "--data", "gmm", *sizes])
    assert result.exit_code == 0, result.output
    assert "plain decay, width 8" in (tmp_path / "summary.md").read_text()
