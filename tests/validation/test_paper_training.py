"""The training experiment: each of its quantities against a small independent computation."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from equikernel.cli.experiments.training import training
from equikernel.errors import ConvergenceError, InputError, MemoryLimitError, NoFixedPointError, UnstableError
from equikernel.numerics.kernels import implicit_kernels
from equikernel.theory.activation import activation
from equikernel.theory.models import DEQ, ExplicitNetwork, Layer
from equikernel.validation.deq.module import deq_module
from equikernel.validation.deq.options import SolverOptions
from equikernel.validation.experiments.study import Outcome, Runner
from equikernel.validation.modules import explicit_module
from equikernel.validation.paper.training.contenders import KINDS, Contender
from equikernel.validation.paper.training.equal_accuracy import Ladder, reached_at, speed_ups
from equikernel.validation.paper.training.learning_rates import ChosenRate, RateSearch, RateUnit, chosen_multiple
from equikernel.validation.paper.training.splits import split_source
from equikernel.validation.paper.training.trainer import (
    Labelled,
    Recipe,
    accuracy,
    failures_of,
    inference_seconds,
    kept_bytes,
    train,
)
from equikernel.validation.paper.training.training import Training, TrainingConfig, TrainingUnit, run_training
from equikernel.validation.store import Store

pytestmark = pytest.mark.usefixtures("one_thread")

EPS32 = float(np.finfo(np.float32).eps)


def blobs(n: int, p: int = 6, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    stream = np.random.default_rng(seed)
    y = stream.integers(classes, size=n)
    X = (2.0 * np.eye(classes, p)[y] + 0.3 * stream.standard_normal((n, p))) / math.sqrt(p)
    return X - X.mean(axis=0), y


def tanh_network() -> ExplicitNetwork:
    return ExplicitNetwork((Layer(activation("tanh")),), 1.0)


# -- the trainer -------------------------------------------------------------------------------------------------------


def descent_by_hand(
    X: np.ndarray, y: np.ndarray, W: np.ndarray, a: np.ndarray, rate: float, epochs: int
) -> tuple[list[float], np.ndarray]:
    """Full batches in float64, momentum 0.9, cosine schedule: f = a tanh(W x)/sqrt(m), gradients written out."""
    speed_W, speed_a, losses, m = 0 * W, 0 * a, [], len(W)
    for step in range(epochs):
        hidden = np.tanh(X @ W.T)
        outputs = hidden @ a.T / math.sqrt(m)
        odds = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        odds /= odds.sum(axis=1, keepdims=True)
        losses.append(-float(np.mean(np.log(odds[np.arange(len(y)), y]))))
        error = (odds - np.eye(len(a))[y]) / len(y)
        gradient_a = error.T @ hidden / math.sqrt(m)
        gradient_W = ((error @ a) * (1 - hidden**2)).T @ X / math.sqrt(m)
        speed_a, speed_W = 0.9 * speed_a + gradient_a, 0.9 * speed_W + gradient_W
        now = rate * (1 + math.cos(math.pi * step / epochs)) / 2
        a, W = a - now * speed_a, W - now * speed_W
    return losses, W


def test_training_is_momentum_descent_on_the_cross_entropy_with_a_cosine_schedule() -> None:
    X, y = blobs(40)
    module = explicit_module(tanh_network(), 7, 6, seed=3, readout=3)
    W, a = (x.detach().double().numpy() for x in (module.weights[0], module.readout))
    data = Labelled.of(X, y, "cpu")
    epochs, rate = 8, 0.5
    run = train(module, rate, data, data, Recipe(epochs, batch=len(y)), seed=0)
    losses, W_end = descent_by_hand(data.X.double().numpy(), y, W, a, rate, epochs)
    # a step rounds sums of 40 terms of order 1; steps of this rate do not amplify what came before
    tolerance = 40 * EPS32 * epochs
    assert [epoch["loss"] for epoch in run["epochs"]] == pytest.approx(losses, rel=tolerance)
    np.testing.assert_allclose(module.weights[0].detach().numpy(), W_end, atol=tolerance * np.abs(W_end).max())
    assert run["iterations"] is None
    seconds = [epoch["seconds"] for epoch in run["epochs"]]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0
    assert run["optimiser_bytes"] == 4 * (7 * 6 + 3 * 7)  # one velocity for each parameter


def test_a_constant_schedule_and_small_batches_see_every_sample_once_an_epoch() -> None:
    X, y = blobs(50)
    data = Labelled.of(X, y, "cpu")
    module = explicit_module(tanh_network(), 5, 6, readout=3)
    weights = [p.detach().clone() for p in module.parameters()]
    run = train(module, 1e-12, data, data, Recipe(2, batch=16, momentum=0.0, schedule="constant"), seed=1)
    with torch.no_grad():
        for parameter, before in zip(module.parameters(), weights, strict=True):
            parameter.copy_(before)
        loss = float(torch.nn.functional.cross_entropy(module(data.X).double(), data.y))
    # at this rate nothing moves: the mean over batches of 16, 16, 16 and 2 is the mean over samples
    assert [epoch["loss"] for epoch in run["epochs"]] == pytest.approx([loss, loss], rel=50 * EPS32)


def test_the_order_of_samples_follows_the_seed() -> None:
    data = Labelled.of(*blobs(60), "cpu")
    losses = []
    for seed in (0, 0, 1):
        module = explicit_module(tanh_network(), 5, 6, readout=3)
        losses.append(train(module, 1.0, data, data, Recipe(1, batch=8), seed)["epochs"][0]["loss"])
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_accuracy_counts_over_batches() -> None:
    X, y = blobs(2345)
    module = explicit_module(tanh_network(), 9, 6, readout=3, seed=2)
    data = Labelled.of(X, y, "cpu")
    with torch.no_grad():
        expected = float(np.mean(np.argmax(module(data.X).numpy(), axis=1) == y))
    assert accuracy(module, data) == expected
    assert inference_seconds(module, data.X) > 0


def test_a_deq_reports_its_iterations_and_keeps_weights_shift_and_state() -> None:
    X, y = blobs(30)
    m, data = 8, Labelled.of(X, y, "cpu")
    module = deq_module(DEQ("tanh"), m, 6, readout=3, solver=SolverOptions(tol=1e-3))
    # sigma_a A, sigma_b B x and z, the outputs' logarithmic softmax, and the weight of the loss
    assert kept_bytes(module, data.X, data.y) == 4 * (m * m + 2 * 30 * m + 30 * 3 + 1)
    counts: list[np.ndarray] = []
    module.register_forward_hook(lambda m, *_: counts.append(m.last_report.iterations))
    run = train(module, 0.1, data, data, Recipe(2, batch=10), seed=0)
    steps = [c for c in counts if len(c) == 10]
    assert len(steps) == 6
    forward = run["iterations"]["forward"]
    assert forward["mean"] == pytest.approx(np.mean([c.mean() for c in steps]))
    assert forward["largest"] == max(c.max() for c in steps)
    assert run["iterations"]["backward"]["largest"] >= run["iterations"]["backward"]["mean"] >= 1


@pytest.mark.parametrize("kind", ["deq", "explicit"])
def test_divergence_says_in_which_epoch(kind: str) -> None:
    data = Labelled.of(*blobs(30), "cpu")
    if kind == "deq":
        module = deq_module(DEQ("relu"), 8, 6, readout=3, solver=SolverOptions(tol=1e-3, max_iter=50))
    else:
        module = explicit_module(ExplicitNetwork((Layer(activation("relu")),) * 2, 1.0), 8, 6, readout=3)
    with pytest.raises(ConvergenceError, match=r"diverged in epoch \d of 9: the (state|adjoint|loss)"):
        train(module, 1e6, data, data, Recipe(9, batch=10, momentum=0.0), seed=0)


def test_a_device_without_memory_is_a_sentence() -> None:
    with pytest.raises(MemoryLimitError, match="a network: the device is out of memory"), failures_of("a network"):
        raise torch.cuda.OutOfMemoryError


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"batch": 0}, {"momentum": 1.0}, {"schedule": "linear"}])
def test_recipes_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Recipe(**wrong)


# -- the networks ------------------------------------------------------------------------------------------------------


def test_the_equivalent_has_the_depth_of_the_design_and_the_naive_one_the_same() -> None:
    deep, shallow = ([Contender(kind, DEQ(name), 1e-3).network for kind in KINDS[1:]] for name in ("relu", "tanh"))
    assert [net.depth for net in deep] == [2, 2]  # theory, section 6: one layer suffices for odd functions only
    assert [net.depth for net in shallow] == [1, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_steepness_is_the_largest_curvature_of_the_finite_network(kind: str) -> None:
    """The largest eigenvalue of J J^T/n of one wide network, J by autograd: within its finite-width error."""
    X, _ = blobs(12)
    X = X / math.sqrt(np.mean(np.sum(X**2, axis=1)))
    contender, width = Contender(kind, DEQ("tanh"), 1e-5), 400
    module = contender.module(width, 6, 1, 0, "cpu")
    rows = []
    for x in torch.from_numpy(X.astype(np.float32)):
        gradient = torch.autograd.grad(module(x[None])[0, 0], list(module.parameters()))
        rows.append(np.concatenate([g.numpy().ravel() for g in gradient]))
    J = np.array(rows)
    found = float(np.linalg.eigvalsh(J @ J.T)[-1]) / len(X)
    # an entry of the kernel is a mean over the width, of relative error of a few units of 1/sqrt(m)
    assert contender.steepness(X) == pytest.approx(found, rel=6 / math.sqrt(width))


def test_steepness_of_a_deq_trains_the_input_weights_too() -> None:
    X, _ = blobs(10)
    kernel = implicit_kernels(X, DEQ("tanh"), tau0=1.0, trained="aAB").ntk
    assert Contender("deq", DEQ("tanh"), 1e-3).steepness(X) == pytest.approx(np.linalg.eigvalsh(kernel)[-1] / 10)


# -- learning rates ----------------------------------------------------------------------------------------------------


class Scripted:
    """A runner that knows the accuracies by width, multiple and seed; None or missing: diverged."""

    def __init__(self, accuracies: dict[int, dict[float, tuple[float | None, float | None]]]) -> None:
        self.accuracies = accuracies
        self.asked: list[tuple[int, float]] = []

    def run(self, units: Iterable[RateUnit]) -> list[Outcome]:
        outcomes = []
        for unit in units:
            self.asked.append((unit.width, unit.multiple))
            found = self.accuracies[unit.width].get(unit.multiple, (None, None))[unit.seed]
            numbers = None if found is None else {"accuracy": found, "seconds": 1.0}
            outcomes.append(Outcome(numbers, "boom" if found is None else None))
        return outcomes


def searched(table: dict[int, dict[float, tuple[float | None, float | None]]]) -> tuple[list[ChosenRate], list[float]]:
    """The choices, and the multiples tried at the last width."""
    source = split_source("digits", 100, 50, 0, "pixels")
    contender, widths, runner = Contender("naive", DEQ("tanh"), 1e-3), tuple(sorted(table)), Scripted(table)
    search = RateSearch(source, contender, widths, (1.0, 2.0, 4.0, 8.0), (0, 1), Recipe(2), "cpu", 1)
    rates = list(search.run(runner))  # type: ignore[arg-type]
    return rates, list(dict.fromkeys(multiple for width, multiple in runner.asked if width == widths[-1]))


def test_the_best_mean_wins_and_a_rate_that_diverged_once_does_not() -> None:
    table = {8: {1.0: (0.5, 0.75), 2.0: (0.75, 0.5), 4.0: (0.875, None)}}
    ((rate,), tried) = searched(table)
    assert rate.multiple == 1.0  # both means are 0.625: the smaller rate
    assert rate.tried == ((1.0, 0.625), (2.0, 0.625), (4.0, None), (8.0, None))
    assert tried == [1.0, 2.0, 4.0, 8.0]
    assert rate.at_edge
    assert rate.failures == ("boom",)
    assert rate.seconds == 5.0
    ((rate,), _) = searched({8: table[8] | {2.0: (0.75, 0.75)}})
    assert rate.multiple == 2.0
    assert not rate.at_edge


@pytest.mark.parametrize(
    ("wider", "expected", "tried"),
    [
        ({2.0: (0.5, 0.5), 4.0: (0.75, 0.75), 8.0: (0.625, 0.625)}, 4.0, [2.0, 4.0, 8.0]),
        ({2.0: (0.5, 0.5), 4.0: (0.46875, 0.46875), 8.0: (0.75, 0.75)}, 8.0, [2.0, 4.0, 8.0]),  # a dip is noise
        ({2.0: (0.5, 0.5), 4.0: (0.25, 0.25), 8.0: (0.75, 0.75)}, 2.0, [2.0, 4.0]),  # this is no noise
        ({2.0: (0.5, 0.5)}, 2.0, [2.0, 4.0]),
        ({1.0: (0.5, 0.5), 2.0: (0.5, None), 4.0: (0.5, 0.625)}, 4.0, [2.0, 1.0, 4.0, 8.0]),  # all over again
        ({}, None, [2.0, 1.0, 4.0, 8.0]),
    ],
)
def test_a_wider_network_goes_up_from_the_last_choice(
    wider: dict[float, tuple[float | None, float | None]], expected: float | None, tried: list[float]
) -> None:
    rates, asked = searched({8: {2.0: (0.5, 0.5)}, 16: wider})
    assert [rate.multiple for rate in rates] == [2.0, expected]
    assert asked == tried


def test_a_width_takes_the_rate_of_the_nearest_searched_below() -> None:
    ((base,), _) = searched({8: {2.0: (0.5, 0.5)}})
    rates = [replace(base, width=16, multiple=2.0), replace(base, width=64, multiple=8.0)]
    found = [chosen_multiple(rates, base.source, base.contender, width) for width in (8, 16, 63, 64, 500)]
    assert found == [2.0, 2.0, 2.0, 8.0, 8.0]
    with pytest.raises(
        ConvergenceError, match="no learning rate tried at width 16 trains the naive network of tanh: x"
    ):
        chosen_multiple([replace(rates[0], multiple=None, failures=("x",))], base.source, base.contender, 16)


def test_the_search_never_sees_the_test_data() -> None:
    X, y = blobs(100)
    seen = SimpleNamespace(train=SimpleNamespace(X=X, labels=y))  # there is no attribute ``test``
    source: Any = FakeSource("blobs", 6, 3, 0, seen)
    unit = RateUnit(source, Contender("naive", DEQ("tanh"), 1e-3), 8, 4.0, 0, Recipe(5, batch=10), "cpu", 1)
    assert unit.measure()["accuracy"] in [k / 10 for k in range(11)]  # of ten held-out samples


@dataclass(frozen=True, eq=False)
class FakeSource:
    name: str
    features: int
    classes: int
    seed: int
    content: Any

    def load(self) -> Any:
        return self.content


# -- equal accuracy ----------------------------------------------------------------------------------------------------


def ladder(accuracy: list[float], seconds: list[float]) -> Ladder:
    """Three equal runs at each width."""
    return Ladder(
        tuple(2**k for k in range(len(accuracy))),
        tuple((a,) * 3 for a in accuracy),
        {"training": tuple((s,) * 3 for s in seconds)},
    )


@pytest.mark.parametrize(
    ("accuracies", "target", "expected"),
    [
        ([0.5, 0.7, 0.9], 0.6, 0.5),
        ([0.5, 0.7, 0.9], 0.7, 1.0),
        ([0.5, 0.7, 0.9], 0.4, 0.0),
        ([0.5, 0.7, 0.9], 0.91, None),
        ([0.7, 0.6, 0.9], 0.8, 2.0),  # not monotone: no interpolation
        ([0.5, 0.7, 0.6], 0.6, 0.5),  # it falls only later
    ],
)
def test_where_a_target_is_reached(accuracies: list[float], target: float, expected: float | None) -> None:
    assert reached_at(accuracies, target) == (None if expected is None else pytest.approx(expected))


def test_speed_ups_by_hand() -> None:
    slow, fast = ladder([0.5, 0.7, 0.65, 0.9], [8.0, 16.0, 32.0, 64.0]), ladder([0.6, 0.8, 0.85], [1.0, 4.0, 16.0])
    first, second, third = speed_ups(slow, fast, "training", resamples=20)  # 0.65 improves on nothing
    assert (first.target, first.reference_width, first.width, first.at_least) == (0.5, 1, 1, True)
    assert first.ratio == pytest.approx(8.0)
    # 0.7 is half-way from 0.6 to 0.8: log time half-way from 1 s to 4 s is 2 s; a network that is there takes 4 s
    assert (second.reference_width, second.width, second.at_least) == (2, 2, False)
    assert second.ratio == pytest.approx(16.0 / 2.0)
    assert second.stepped == pytest.approx(16.0 / 4.0)
    assert (second.low, second.high, second.reached) == (pytest.approx(8.0), pytest.approx(8.0), 1.0)
    assert (third.width, third.ratio, third.stepped, third.low, third.reached) == (None, None, None, 0.0, 0.0)


def test_to_within_the_standard_error_of_the_target() -> None:
    """0.5 of 100 samples has the standard error 0.05: what the other reaches with 0.45 is enough."""
    slow, fast = ladder([0.5], [8.0]), ladder([0.4, 0.46], [1.0, 2.0])
    (exact,), (within,) = speed_ups(slow, fast, "training"), speed_ups(slow, fast, "training", test_size=100)
    assert (exact.slack, exact.width, exact.ratio) == (0.0, None, None)
    assert within.slack == pytest.approx(0.05)
    assert (within.target, within.width) == (0.5, 2)
    assert within.ratio == pytest.approx(8.0 / 2 ** ((0.45 - 0.4) / 0.06))


def test_the_interval_is_that_of_the_means_of_new_runs() -> None:
    """Times alone vary: the logarithm of the ratio has the variance s1^2/S + s2^2/S of a difference of means."""
    stream, runs, resamples = np.random.default_rng(0), 40, 20_000
    times = np.exp(0.2 * stream.standard_normal((2, runs)))
    first, second = (Ladder((1,), ((0.5,) * runs,), {"training": (tuple(t),)}) for t in times)
    (found,) = speed_ups(first, second, "training", resamples=resamples)
    logs = np.log(times)
    centre, sd = float(np.mean(logs[0] - logs[1])), math.sqrt(float(np.sum(np.var(logs, axis=1, ddof=1))) / runs)
    assert found.ratio == pytest.approx(math.exp(centre))
    # 4 standard errors of a quantile at 5 %, and terms of third order of a mean of 40
    tolerance = 4 * math.sqrt(0.05 * 0.95 / resamples) / 0.103 * sd + sd / runs
    assert found.low is not None
    assert found.high is not None
    assert math.log(found.low) == pytest.approx(centre - 1.645 * sd, abs=tolerance)
    assert math.log(found.high) == pytest.approx(centre + 1.645 * sd, abs=tolerance)


def test_one_run_has_no_interval() -> None:
    one = Ladder((4,), ((0.5,),), {"training": ((2.0,),)})
    (found,) = speed_ups(one, one, "training")
    assert (found.ratio, found.low, found.high, found.reached) == (pytest.approx(1.0), None, None, None)


# -- the whole ---------------------------------------------------------------------------------------------------------

SMALL: dict[str, Any] = {
    "data": ("digits",),
    "activations": ("tanh",),
    "widths": (6, 12),
    "train": 200,
    "test": 150,
    "recipe": Recipe(2, batch=50),
    "multiples": (2.0, 4.0),
    "rate_seeds": 1,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of ``SMALL`` by the command."""
    out = tmp_path_factory.mktemp("training")
    training(
        ["tanh"],
        out,
        ["digits"],
        widths="6,12",
        train=200,
        test=150,
        epochs=2,
        batch=50,
        rates="2,4",
        rate_seeds=1,
        threads=1,
    )
    return out


def test_the_record_is_the_mean_of_the_runs(finished: Path) -> None:
    record = json.loads((finished / "results.json").read_text(encoding="utf-8"))
    assert record["failures"] == []
    last = {
        (curve["network"], curve["width"], curve["seed"]): curve["epochs"][-1]["accuracy"] for curve in record["curves"]
    }
    assert len(last) == 2 * 3 + 2 * 3 * 3  # the explicit networks have width 24 too
    for row in record["runs"]:
        values = [last[row["network"], row["width"], seed] for seed in (0, 1, 2)]
        assert row["accuracy_mean"] == pytest.approx(statistics.fmean(values))
        assert row["accuracy_sd"] == pytest.approx(statistics.stdev(values))
        layers = 64 * row["width"] + 10 * row["width"] + (row["width"] ** 2 if row["network"] == "deq" else 0)
        assert row["parameters"] == layers  # tanh: the explicit networks have one hidden layer
        assert row["parameter_bytes"] == row["optimiser_bytes"] == 4 * layers
    assert [row["width"] for row in record["same_width"]] == [6, 12] * 2
    for row in record["same_width"]:
        pairs = [last[row["network"], row["width"], s] - last["deq", row["width"], s] for s in (0, 1, 2)]
        assert row["difference_mean"] == pytest.approx(statistics.fmean(pairs))
        half = 4.302653 * statistics.stdev(pairs) / math.sqrt(3)  # Student's t, 2 degrees of freedom
        assert row["difference_half_width"] == pytest.approx(half, rel=1e-6)
    assert {row["multiple"] for row in record["learning_rates"]} <= {2.0, 4.0}


def test_every_table_and_figure_is_there_and_names_the_data(finished: Path) -> None:
    names = ("training", "training_memory", "training_same_width", "training_equal_accuracy", "training_rates")
    for name in names:
        assert "digits: raw" in (finished / "tables" / f"{name}.md").read_text(encoding="utf-8")
    for name in ("accuracy_by_width", "accuracy_by_time", "inference_by_width"):
        assert (finished / "figures" / f"{name}.png").stat().st_size > 0
    assert "of the DEQ of the same width" in (finished / "summary.md").read_text(encoding="utf-8")


def test_a_second_run_computes_nothing(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("this was done already")

    monkeypatch.setattr(TrainingUnit, "measure", refuse)
    monkeypatch.setattr(RateUnit, "measure", refuse)
    before = json.loads((finished / "results.json").read_text(encoding="utf-8"))
    run_training(TrainingConfig(**SMALL), finished)
    assert json.loads((finished / "results.json").read_text(encoding="utf-8")) == before


def test_a_network_that_diverges_is_reported_and_stops_no_other(tmp_path: Path) -> None:
    config = TrainingConfig(**SMALL | {"activations": ("relu",), "widths": (6,)})
    (source,) = config.sources()
    rates = tuple(
        ChosenRate(source, contender, 6, multiple, (), at_edge=False, failures=(), seconds=0.0)
        for contender, multiple in zip(config.contenders(), (1e5, 1.0, 1.0), strict=True)
    )
    experiment = Training(config, rates)
    findings = experiment.findings(Runner(Store(tmp_path)).run(experiment.units()))
    rows = {row["network"]: row for row in findings.record["runs"] if row["width"] == 6}
    assert [rows[kind]["runs"] for kind in KINDS] == [0, 3, 3]
    (remark,) = (r for r in findings.remarks if "gave no numbers" in r)
    assert "3 of 15 runs gave no numbers, the first of them deq of width 6 with seed 0" in remark
    assert "diverged in epoch 1 of 2" in remark


def test_where_no_rate_trains_the_unit_says_so() -> None:
    config = TrainingConfig(**SMALL)
    (source,) = config.sources()
    contender = config.contenders()[0]
    rate = ChosenRate(source, contender, 6, None, ((1.0, None),), at_edge=False, failures=("boom",), seconds=0.0)
    units = Training(config, tuple(replace(rate, contender=c) for c in config.contenders())).units()
    (outcome,) = Runner().run(units[:1])
    assert outcome.failure == "no learning rate tried at width 6 trains the DEQ of tanh: boom"


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"activations": ("relu", "heaviside")}, InputError, "heaviside jumps at x = 0"),
        ({"activations": ("tanh",), "sigma_a2": "5"}, UnstableError, r"sigma_a2\*v = 1\.284\d* >= 1 .* of tanh"),
        ({"activations": ("relu",), "sigma_a2": "3"}, NoFixedPointError, "no fixed point: .* relu with sigma_a2 = 3"),
    ],
)
def test_networks_that_cannot_be_trained_are_refused_beforehand(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    """5 E[tanh'^2] at q = 5 E[tanh^2] + 0.8 is 1.28413 (trapezoidal rule); 3 Var relu grows faster than q."""
    with pytest.raises(error, match=sentence):
        run_training(TrainingConfig(**SMALL | changes), tmp_path)
    assert not list(tmp_path.iterdir())


def test_fewer_than_three_seeds_and_other_bad_arguments_are_refused() -> None:
    for wrong in ({"seeds": (0, 1)}, {"widths": ()}, {"widths": (0,)}, {"multiples": (-1.0,)}, {"device": "tpu"}):
        with pytest.raises(InputError):
            TrainingConfig(**SMALL | wrong)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_cuda_trains_the_same_network() -> None:
    found = []
    for device in ("cpu", "cuda"):
        config = TrainingConfig(**SMALL | {"device": device, "recipe": Recipe(1, batch=200)})
        (source,), contender = config.sources(), config.contenders()[0]
        found.append(TrainingUnit(source, contender, 6, 0, 1.0, config.recipe, device, 1).measure())
    on_cpu, on_cuda = found
    # one full batch: the losses are those of the initial network, whose states have relative residuals up to 1e-3
    assert on_cuda["epochs"][0]["loss"] == pytest.approx(on_cpu["epochs"][0]["loss"], rel=5e-3)
    assert on_cpu["peak_device_bytes"] is None
    assert on_cuda["peak_device_bytes"] > on_cuda["parameter_bytes"]


def test_widths_that_are_no_whole_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--widths must be whole numbers separated by commas; got '6,many'"):
        training(["tanh"], tmp_path, ["digits"], widths="6,many", threads=1)
