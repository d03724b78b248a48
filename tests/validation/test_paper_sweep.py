"""The sweep over initial weights: each of its quantities against a small independent computation."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

pytest.importorskip("torch")

import torch

from equikernel.cli.init_sweep import init_sweep
from equikernel.errors import DataError, InputError, MemoryLimitError
from equikernel.numerics.initialisation import InputLaw, mean_field
from equikernel.validation.deq.options import SolverOptions
from equikernel.validation.experiments.study import Runner
from equikernel.validation.figures import save_figure
from equikernel.validation.paper.solves import Solves
from equikernel.validation.paper.sweep.config import Cell, Recipe, SweepConfig
from equikernel.validation.paper.sweep.initial import input_variances, predicted
from equikernel.validation.paper.sweep.network import SweepNetwork, asymmetry
from equikernel.validation.paper.sweep.statistics import (
    Results,
    effects_of_size,
    paired_rows,
    pooled_rows,
    summary_rows,
)
from equikernel.validation.paper.sweep.sweep import Run, Sweep, run_sweep, train_at_once
from equikernel.validation.paper.sweep.tables import sweep_tables
from equikernel.validation.paper.sweep.trainer import evaluate, train
from equikernel.validation.paper.training.trainer import Labelled
from equikernel.validation.store import Store

pytestmark = pytest.mark.usefixtures("one_thread")

EPS32 = float(np.finfo(np.float32).eps)
SMALL = SweepConfig(
    matches=("radius", "operator_norm"),
    values=(0.5,),
    seeds=(0, 1, 2),
    recipe=Recipe(width=8, epochs=2, batch=40),
    train=60,
    test=40,
)


def network(family: str, sigma: float, width: int = 12, max_iter: int = 500, seed: int = 3) -> SweepNetwork:
    options = SolverOptions("plain", 1e-13, max_iter)
    return SweepNetwork("tanh", width, 5, 3, options, torch.float64).initialise(family, sigma, 0.8, seed)


def samples(n: int = 9, seed: int = 0) -> Labelled:
    stream = np.random.default_rng(seed)
    return Labelled(torch.from_numpy(stream.standard_normal((n, 5))), torch.from_numpy(stream.integers(3, size=n)))


def unrolled(net: SweepNetwork, x: torch.Tensor, steps: int) -> torch.Tensor:
    """z <- tanh(W z) + U x from z = U x."""
    injected = x @ net.injection.T
    z = injected
    for _ in range(steps):
        z = torch.tanh(z @ net.hidden.T) + injected
    return z


# -- the network -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "sigma"), [("iid", 0.6), ("orthogonal", 0.8), ("goe", 0.4)])
def test_the_gradient_of_a_step_is_that_of_unrolling(family: str, sigma: float) -> None:
    net, data = network(family, sigma), samples()
    torch.nn.functional.cross_entropy(net(data.X), data.y).backward()
    found = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    net.zero_grad()
    outputs = unrolled(net, data.X, 200) @ net.readout.T + net.bias
    torch.nn.functional.cross_entropy(outputs, data.y).backward()
    assert len(found) == 4
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None
        error = torch.linalg.vector_norm(found[name] - parameter.grad) / torch.linalg.vector_norm(parameter.grad)
        assert error < 1e-8, name


def test_a_step_of_training_is_adams() -> None:
    net, data = network("goe", 0.4), samples()
    twin = network("goe", 0.4)
    outputs = unrolled(twin, data.X, 200) @ twin.readout.T + twin.bias
    loss = torch.nn.functional.cross_entropy(outputs, data.y)
    loss.backward()
    rate, eps = 3e-3, 1e-8
    run = train(net, data, data, Recipe(epochs=1, batch=len(data.y), lr=rate), seed=0)
    assert run["epochs"][0]["train_loss"] == pytest.approx(float(loss.detach()), rel=1e-12)
    for after, before in zip(net.parameters(), twin.parameters(), strict=True):
        g = before.grad
        assert g is not None
        # Adam's first step is rate g/(|g| + eps); an error of 1e-10 max|g| in g matters where |g| is near eps
        bound = 2 * rate * (1e-10 * g.abs().max() / (g.abs() + eps) + 1e-12)
        assert bool(((before - rate * g / (g.abs() + eps) - after).abs() <= bound).all())


@pytest.mark.parametrize("steps", [1, 3])
def test_what_has_not_converged_is_used_as_it_is_and_counted(steps: int) -> None:
    net, data = network("iid", 2.5, max_iter=steps), samples()
    with torch.no_grad():
        torch.testing.assert_close(net.states(data.X), unrolled(net, data.X, steps), rtol=1e-12, atol=1e-12)
    solves = Solves()
    solves.note(net.reports["forward"])
    assert solves.to_dict() == {
        "samples": 9,
        "solves": 1,
        "unconverged_samples": 1.0,
        "unconverged_solves": 1.0,
        "iterations": float(steps),
        "largest_iterations": steps,
    }
    assert Solves().to_dict() is None


def test_families_are_drawn_as_they_are_called_and_share_everything_else() -> None:
    width, sigma = 150, 0.7
    drawn = {family: network(family, sigma, width) for family in ("iid", "orthogonal", "goe")}
    W = {family: net.hidden.detach().numpy() for family, net in drawn.items()}
    np.testing.assert_allclose(W["orthogonal"] @ W["orthogonal"].T, sigma**2 * np.eye(width), atol=1e-12)
    assert (W["goe"] == W["goe"].T).all()
    # |W|^2/N has mean sigma^2 (1 + 1/N for goe) and relative standard deviation sqrt(2)/N (2/N)
    for family, mean, sd in (("iid", 1.0, math.sqrt(2)), ("goe", 1 + 1 / width, 2.0)):
        assert abs((W[family] ** 2).sum() / width / sigma**2 - mean) < 5 * sd / width
    np.testing.assert_allclose(W["goe"], (W["iid"] + W["iid"].T) / math.sqrt(2), rtol=1e-12)
    for name in ("injection", "readout"):
        one, two, three = (getattr(net, name) for net in drawn.values())
        assert torch.equal(one, two)
        assert torch.equal(one, three)
    assert not torch.equal(network("iid", sigma, width, seed=4).hidden, drawn["iid"].hidden)


def test_asymmetry_and_the_radius_of_the_jacobian() -> None:
    stream = np.random.default_rng(0)
    A = stream.standard_normal((6, 6))
    assert asymmetry(torch.from_numpy(A + A.T)) == 0.0
    assert asymmetry(torch.from_numpy(A - A.T)) == pytest.approx(1.0)
    assert asymmetry(torch.from_numpy(A)) == pytest.approx(np.linalg.norm(A - A.T) / 2 / np.linalg.norm(A))
    net = network("iid", 0.9)
    z = stream.standard_normal((2, 12))
    W = net.hidden.detach().numpy()
    expected = [np.abs(np.linalg.eigvals(np.diag(1 - np.tanh(W @ row) ** 2) @ W)).max() for row in z]
    assert net.jacobian_radius(torch.from_numpy(z)) == pytest.approx(expected, rel=1e-9)
    assert math.isnan(net.jacobian_radius(torch.full((1, 12), math.inf))[0])


def test_a_loss_that_is_not_finite_ends_a_run_and_is_recorded() -> None:
    growing = SweepNetwork("relu", 8, 5, 3, Recipe().solver, torch.float64).initialise("iid", 1e30, 1.0, 0)
    assert train(growing, samples(), samples(4, 1), Recipe(epochs=3, batch=4), seed=0)["diverged"]["epoch"] == 1
    net = network("iid", 0.5)
    with torch.no_grad():
        net.bias.fill_(math.inf)
    run = train(net, samples(), samples(4, 1), Recipe(epochs=3, batch=4), seed=0)
    assert run["diverged"] == {"epoch": 1, "step": 1}
    assert (run["loss"], run["accuracy"], run["epochs"], run["backward"]) == (None, None, [], None)
    assert run["forward"]["samples"] == 4


def test_evaluation_is_the_mean_cross_entropy() -> None:
    net, data = network("orthogonal", 0.5), samples(50)
    outputs = (unrolled(net, data.X, 200) @ net.readout.T + net.bias).detach().numpy()
    y = data.y.numpy()
    odds = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    score = evaluate(net, data)
    assert score.loss == pytest.approx(-np.log(odds[np.arange(50), y]).mean(), rel=1e-10)
    assert score.accuracy == np.mean(outputs.argmax(axis=1) == y)


# -- before training ---------------------------------------------------------------------------------------------------


def test_variances_of_the_input_are_those_of_its_parts() -> None:
    injected = np.random.default_rng(0).standard_normal((30, 7)) * np.linspace(1, 3, 30)[:, None]
    squares = sorted(float(row @ row) / 7 for row in injected)
    expected = [np.mean(squares), np.mean(squares[:10]), np.mean(squares[10:20]), np.mean(squares[20:])]
    assert input_variances(injected) == pytest.approx(expected, rel=1e-11)


def test_networks_start_as_mean_field_theory_says() -> None:
    width, scale = 300, 0.5
    x = torch.from_numpy(np.random.default_rng(1).standard_normal((40, 5)))
    for cell in (Cell("orthogonal", 0.7), Cell("goe", 0.4)):
        net = SweepNetwork("tanh", width, 5, 3, SolverOptions(), torch.float64)
        net.initialise(cell.family, cell.sigma, scale, 0)
        with torch.no_grad():
            z, injected = net.states(x), (x @ net.injection.T).numpy()
        variances = input_variances(injected)
        theory = predicted("tanh", cell, variances)
        field = mean_field("tanh", cell.family, cell.sigma, InputLaw.gaussian(variances[0]))
        assert theory["length"] == float(field.mean_square)
        assert theory["stable"]
        # a mean over samples fluctuates at most as one of them does at fixed x, sqrt(N Var q/N), and has a bias of 1/N
        bound = 5 * math.sqrt(float(field.length_noise) / width) + 5 / width
        assert abs(float(z.square().mean()) - theory["length_mixed"]) < bound
        assert abs(theory["length_mixed"] / theory["length"] - 1) < 0.1


def test_where_theory_has_no_fixed_point_it_says_so() -> None:
    assert not predicted("tanh", Cell("goe", 1.0), [0.09, 0.09])["stable"]
    assert "no fixed point" in predicted("tanh", Cell("goe", 1.5), [0.09, 0.09])["why"]


# -- which networks ----------------------------------------------------------------------------------------------------


def test_matched_sigmas_and_networks_that_serve_several_matchings() -> None:
    config = SweepConfig()
    halves = {("goe", "radius"), ("goe", "operator_norm"), ("iid", "operator_norm")}
    wanted = {
        Cell(family, value / 2 if (family, match) in halves else value)
        for family in config.families
        for match in config.matches
        for value in config.values
    }
    assert set(config.cells()) == wanted
    assert len(config.cells()) == len(wanted) == 21  # of 45 combinations
    assert config.cell("goe", "radius", 0.6) is not config.cell("goe", "variance", 0.3)
    assert config.cell("goe", "radius", 0.6) == config.cell("goe", "variance", 0.3)
    small = Sweep(SMALL).units()
    assert {(u.cell, u.seed) for u in small} == {(c, s) for c in SMALL.cells() for s in range(3)}
    assert len(small) == 12  # iid at .5 and .25, orthogonal at .5, goe at .25
    assert "match" not in small[0].describe()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"families": ("iid", "wigner")}, "unknown weight family 'wigner'"),
        ({"matches": ("norm",)}, "unknown match 'norm'"),
        ({"values": (0.5, 0.0)}, "a matched value must be a positive finite number; got 0.0"),
        ({"values": (math.inf,)}, "a matched value must be a positive finite number; got inf"),
        ({"values": (True,)}, "a matched value must be a positive finite number; got True"),
        ({"values": ()}, "values must not be empty"),
        ({"seeds": (0, 1)}, "needs 3 or more different seeds"),
        ({"seeds": (0, 1, 1)}, "needs 3 or more different seeds"),
        ({"recipe": Recipe(width=1)}, "of a 1 x 1 matrix"),
        ({"device": "tpu"}, "device must be"),
    ],
)
def test_bad_sweeps_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        replace(SMALL, **changes)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"activation": "heaviside"}, "heaviside jumps"),
        ({"width": 0}, "width must be a whole number, 1 or more; got 0"),
        ({"lr": math.nan}, "lr must be a positive finite number; got nan"),
        ({"input_scale": -1}, "input_scale must be a positive finite number; got -1"),
        ({"tol": 1e-9}, "tol must lie between"),
        ({"max_iter": 0}, "max_iter must be a whole number"),
    ],
)
def test_bad_recipes_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Recipe(**changes)


def test_one_unit_can_be_matched_by_variance_alone() -> None:
    config = replace(SMALL, matches=("variance",), recipe=Recipe(width=1))
    assert config.cells() == (Cell("iid", 0.5), Cell("orthogonal", 0.5), Cell("goe", 0.5))


def test_data_that_are_not_there_are_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        run_sweep(replace(SMALL, data="nowhere"), tmp_path / "out")


# -- what the runs show ------------------------------------------------------------------------------------------------


def planted(config: SweepConfig, loss: Callable[[Cell, int], float | None]) -> Results:
    """Results whose losses are given, None for a divergence; the accuracy is 1 - loss."""

    def numbers(cell: Cell, seed: int) -> dict[str, Any]:
        value = loss(cell, seed)
        solves = {"unconverged_samples": 0.25, "unconverged_solves": 0.5, "iterations": 10.0 + seed}
        theory = {"length": 1.0, "length_mixed": 2.0, "radius": 0.5, "stable": True, "why": None}
        start = {"asymmetry": 0.0, "radius": 1.0, "length": 2.1, "jacobian_radius": 0.5, "solves": solves}
        end = {"asymmetry": 0.1, "radius": 1.0, "moved": 0.2, "test": solves}
        return {
            "diverged": {"epoch": 1, "step": 2} if value is None else None,
            "loss": value,
            "accuracy": None if value is None else 1 - value,
            "forward": solves,
            "backward": None if value is None else solves,
            "start": start | {"predicted": theory},
            "end": None if value is None else end,
        }

    runs = {(cell, seed): numbers(cell, seed) for cell in config.cells() for seed in config.seeds}
    return Results(config, runs, classes=10)


NOISE = np.random.default_rng(5).standard_normal((3, 5, 8))
VARIANCE = SweepConfig(matches=("variance",), values=(0.3, 0.6))


def noisy(cell: Cell, seed: int) -> float:
    """A spread that seeds share, and at sigma = .6 a difference between orthogonal and the others."""
    family = ("iid", "orthogonal", "goe").index(cell.family)
    gain = 0.05 if cell == Cell("orthogonal", 0.6) else 0.0
    return float(0.3 + 0.1 * NOISE[0, 0, seed] + 0.01 * NOISE[family, round(10 * cell.sigma) // 3, seed] - gain)


def test_a_planted_difference_is_found_by_the_paired_interval() -> None:
    rows = paired_rows(planted(VARIANCE, noisy))
    tests = []
    for row in rows:
        first, second = ([noisy(Cell(row[k], row["value"]), s) for s in range(8)] for k in ("first", "second"))
        oracle = scipy.stats.ttest_rel(first, second)
        interval = oracle.confidence_interval(0.95)
        assert row["loss_difference"] - row["loss_half"] == pytest.approx(interval.low, rel=1e-9)
        assert row["loss_difference"] + row["loss_half"] == pytest.approx(interval.high, rel=1e-9)
        assert row["loss_p"] == pytest.approx(oracle.pvalue, rel=1e-9)
        assert row["loss_positive"] == sum(a > b for a, b in zip(first, second, strict=True))
        tests.append(oracle.pvalue)
    ordered = sorted(tests)
    for row in rows:
        rank = ordered.index(pytest.approx(row["loss_p"], rel=1e-9))
        assert row["loss_holm"] == pytest.approx(max(min(1, (6 - k) * ordered[k]) for k in range(rank + 1)), rel=1e-9)
        expected = "orthogonal" if row["value"] == 0.6 and "orthogonal" in (row["first"], row["second"]) else None
        assert row["loss_better"] == row["accuracy_better"] == expected
        # unpaired, the spread that the seeds share hides it
    first, second = ([noisy(Cell(family, 0.6), s) for s in range(8)] for family in ("orthogonal", "iid"))
    assert scipy.stats.ttest_ind(first, second).pvalue > 0.05


def test_means_over_all_values_are_compared_too() -> None:
    found = {(row["first"], row["second"]): row for row in pooled_rows(planted(VARIANCE, noisy))}
    mean = {
        family: [np.mean([noisy(Cell(family, value), s) for value in VARIANCE.values]) for s in range(8)]
        for family in VARIANCE.families
    }
    p = {pair: float(scipy.stats.ttest_rel(mean[pair[0]], mean[pair[1]]).pvalue) for pair in found}
    for pair, row in found.items():
        assert row["loss_p"] == pytest.approx(p[pair], rel=1e-9)
        assert row["loss_pairs"] == 8
    smallest = min(p, key=p.__getitem__)
    assert found[smallest]["loss_holm"] == pytest.approx(3 * p[smallest], rel=1e-9)


def test_divergences_are_kept_apart_and_also_counted_at_chance() -> None:
    def loss(cell: Cell, seed: int) -> float | None:
        return None if cell == Cell("iid", 0.6) and seed in (2, 5) else noisy(cell, seed)

    results = planted(VARIANCE, loss)
    rows = {(row["family"], row["sigma"]): row for row in summary_rows(results)}
    row = rows["iid", 0.6]
    kept = [1 - noisy(Cell("iid", 0.6), s) for s in range(8) if s not in (2, 5)]
    assert (row["asked"], row["runs"], row["diverged"], row["failed"]) == (8, 6, 2, 0)
    assert row["accuracy_mean"] == pytest.approx(np.mean(kept))
    assert row["accuracy_with_chance_mean"] == pytest.approx((sum(kept) + 2 * 0.1) / 8)
    low, high = scipy.stats.t.interval(0.95, 5, np.mean(kept), scipy.stats.sem(kept))
    assert row["accuracy_half"] == pytest.approx((high - low) / 2)
    assert (row["accuracy_min"], row["accuracy_max"]) == (min(kept), max(kept))
    assert row["accuracy_sd"] == pytest.approx(np.std(kept, ddof=1))
    assert row["forward_iterations"] == 13.5
    assert row["deviation_mean"] == pytest.approx(2.1 / 2 - 1)
    pair = next(r for r in paired_rows(results) if (r["value"], r["second"]) == (0.6, "iid"))
    assert (pair["loss_pairs"], pair["accuracy_with_chance_pairs"]) == (6, 8)
    sizes = {row["family"]: row for row in effects_of_size(results)}
    assert (sizes["iid"]["best"], sizes["iid"]["usable"]) == (0.3, 0.3)  # .6 has divergences


def test_larger_values_are_usable_as_long_as_they_are_not_clearly_worse() -> None:
    config = replace(VARIANCE, values=(0.3, 0.6, 0.9, 1.2))
    extra = {0.3: 0.2, 0.6: 0.0, 0.9: 0.0, 1.2: 0.4}

    def loss(cell: Cell, seed: int) -> float | None:
        wiggle = 0.01 * float(NOISE[1, 0, seed]) if cell.sigma == 0.9 else 0.0
        gain = 0.05 + 0.001 * seed if cell.family == "orthogonal" else 0.0
        return 0.3 + 0.01 * seed + extra[cell.sigma] + abs(wiggle) * (-1) ** seed + 0.001 * (cell.sigma == 0.9) - gain

    sizes = {row["family"]: row for row in effects_of_size(planted(config, loss))}
    assert {row["usable"] for row in sizes.values()} == {0.9}
    assert sizes["iid"]["loss_difference"] == pytest.approx(0.2)  # 1.2 less .3
    assert sizes["orthogonal"]["best_loss_difference"] == pytest.approx(-0.05 - 0.001 * 3.5)


# -- running it --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sweep")
    run_sweep(SMALL, out)
    return out


def test_a_run_serves_all_its_matchings(finished: Path) -> None:
    record = json.loads((finished / "results.json").read_text(encoding="utf-8"))
    assert len(record["runs"]) == 12
    assert record["failures"] == []
    cells = {(row["match"], row["family"]): row for row in record["cells"]}
    assert len(cells) == 6
    for family in ("orthogonal", "goe"):
        radius, norm = cells["radius", family], cells["operator_norm", family]
        assert radius | {"match": ""} == norm | {"match": ""}
    assert (cells["radius", "iid"]["sigma"], cells["operator_norm", "iid"]["sigma"]) == (0.5, 0.25)
    losses = [run["loss"] for run in record["runs"] if (run["family"], run["sigma"]) == ("goe", 0.25)]
    assert cells["radius", "goe"]["loss_mean"] == pytest.approx(np.mean(losses))
    assert cells["radius", "goe"]["start_asymmetry_mean"] == 0.0
    assert cells["radius", "goe"]["end_asymmetry_mean"] > 0.0
    summary = (finished / "summary.md").read_text(encoding="utf-8")
    assert "At equal spectral radius, do orthogonal weights outperform iid ones?" in summary
    assert "GOE weights do not stay symmetric" in summary


def test_tables_and_figures_are_written(finished: Path, check_latex: Callable[[str], None]) -> None:
    names = ("loss", "accuracy", "solves", "pairs", "sizes", "start")
    for name in names:
        text = (finished / "tables" / f"init_sweep_{name}.tex").read_text(encoding="utf-8")
        check_latex(text)
        assert "digits: raw pixels" in text
        assert "?" not in text
    for name in ("scores", "solves", "start", "curves_radius", "curves_operator_norm"):
        assert (finished / "figures" / f"init_sweep_{name}.png").stat().st_size > 0
    record = json.loads((finished / "results.json").read_text(encoding="utf-8"))
    tables = {table.name: table for table in sweep_tables(record, "about")}
    assert [len(tables[f"init_sweep_{name}"].rows) for name in names] == [6, 6, 6, 12, 6, 4]


def test_a_second_run_computes_nothing(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("this was done already")

    monkeypatch.setattr(Run, "measure", refuse)
    before = json.loads((finished / "results.json").read_text(encoding="utf-8"))
    run_sweep(SMALL, finished, processes=2)
    assert json.loads((finished / "results.json").read_text(encoding="utf-8")) == before
    # what one matching has trained, another takes from the store
    other = Sweep(replace(SMALL, matches=("variance",), values=(0.25,), families=("iid", "goe")))
    assert all(outcome.numbers for outcome in Runner(Store(finished / "work")).run(other.units()))


@pytest.mark.slow
def test_two_processes_find_the_same(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    units = Sweep(replace(SMALL, families=("orthogonal",), matches=("radius",))).units()
    train_at_once(units, tmp_path, 2)
    monkeypatch.setattr(Run, "measure", None)  # whatever is not in the stores is a failure
    here, there = (Runner(Store(folder)).run(units) for folder in (tmp_path, finished / "work"))
    assert [outcome.numbers for outcome in here] == [outcome.numbers for outcome in there]


def test_a_run_that_fails_is_reported_and_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Run.measure

    def measure(self: Run) -> dict[str, Any]:
        if self.cell.family == "iid" and self.seed == 1:
            raise MemoryLimitError("there is no memory for it")
        return whole(self)

    monkeypatch.setattr(Run, "measure", measure)
    config = replace(SMALL, matches=("radius",), families=("iid", "orthogonal"), recipe=Recipe(width=4, epochs=1))
    outcomes = Runner().run(Sweep(config).units())
    assert [outcome.failure for outcome in outcomes if outcome.failure] == ["there is no memory for it"]
    record = Sweep(config).findings(outcomes).record
    rows = {row["family"]: row for row in record["cells"]}
    assert (rows["iid"]["runs"], rows["iid"]["failed"], rows["orthogonal"]["runs"]) == (2, 1, 3)
    assert record["pairs"][0]["loss_pairs"] == 2


def test_a_diverged_run_leaves_a_record_and_figures(tmp_path: Path) -> None:
    recipe = Recipe("relu", width=4, epochs=1, lr=1e-3, input_scale=1e30)
    config = replace(SMALL, matches=("variance",), families=("iid", "orthogonal"), values=(20.0,), recipe=recipe)
    findings = Sweep(config).findings(Runner().run(Sweep(config).units()))
    assert [row["diverged"] for row in findings.record["cells"]] == [3, 3]
    assert [row["accuracy_mean"] for row in findings.record["cells"]] == [None, None]
    assert [row["accuracy_with_chance_mean"] for row in findings.record["cells"]] == pytest.approx([0.1, 0.1])
    assert any("6 of 6 runs diverged" in remark for remark in findings.remarks)
    for name, drawing in findings.figures.items():
        save_figure(tmp_path / f"{name}.svg", drawing.draw, drawing.data)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes: dict[str, Any] = {"width": 4, "train": 40, "test": 20, "seeds": 3, "epochs": 1, "threads": 1}
    init_sweep(tmp_path, match=["radius"], value=[0.4], family=["iid", "orthogonal"], **sizes)
    assert "do orthogonal weights outperform iid ones?" in capsys.readouterr().out
    assert (tmp_path / "summary.md").is_file()
    with pytest.raises(InputError, match="--match all stands alone; got radius, all"):
        init_sweep(tmp_path, match=["radius", "all"], **sizes)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_cuda_trains_the_same_network() -> None:
    config = replace(SMALL, recipe=Recipe(width=8, epochs=1, batch=60))
    on_cpu, on_cuda = (
        Run(config.source(), Cell("orthogonal", 0.5), 0, config.recipe, device).measure() for device in ("cpu", "cuda")
    )
    # one full batch from the same weights: states have relative residuals of 1e-4, losses are sums of 60 terms
    first = [run["epochs"][0]["train_loss"] for run in (on_cpu, on_cuda)]
    assert first[1] == pytest.approx(first[0], rel=1e-3 + 60 * EPS32)
    assert on_cuda["start"]["length"] == pytest.approx(on_cpu["start"]["length"], rel=1e-3)
