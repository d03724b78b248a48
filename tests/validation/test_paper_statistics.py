"""Estimates, trends and z-scores of ``equikernel experiment statistics``, and that a wrong formula is found out."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import typer
from typer.testing import CliRunner

from equikernel.cli.experiments.statistics import statistics
from equikernel.errors import ConvergenceError, EquikernelError, InputError, UnstableError
from equikernel.numerics.initialisation import InputLaw, linear_deq, mean_field
from equikernel.theory.initialisation import haar_length, haar_length_variance
from equikernel.validation.experiments.study import Outcome
from equikernel.validation.figures import FigureBook, save_figure
from equikernel.validation.paper.experiment import Findings, run_experiment
from equikernel.validation.paper.statistics import formulas as formulas_module
from equikernel.validation.paper.statistics import nonlinear as nonlinear_module
from equikernel.validation.paper.statistics import plan as plan_module
from equikernel.validation.paper.statistics.comparisons import compare, fit_trend, judged, overview
from equikernel.validation.paper.statistics.edge_of_j import finite_edge
from equikernel.validation.paper.statistics.edges import EdgeCase, log_slope, typical_noise
from equikernel.validation.paper.statistics.ensembles import (
    fixed_points,
    iterated,
    linear_lengths,
    reflection_stack,
    resolvents,
    weight_stack,
)
from equikernel.validation.paper.statistics.experiment import Statistics
from equikernel.validation.paper.statistics.formulas import CaseUnit, Formula, Measured, mean_of, variance_of
from equikernel.validation.paper.statistics.kernel_cases import KernelCase
from equikernel.validation.paper.statistics.linear import DepthCase, HaarCase, LinearCase, escape_exponent
from equikernel.validation.paper.statistics.nonlinear import IteratesCase, NonlinearCase, ReflectionCase
from equikernel.validation.paper.statistics.ranking import contradictions, crossing_length
from equikernel.validation.paper.statistics.sweeps import SweepUnit, limits_of

# of one comparison; with 200 of them a seed in 80 would fail
LIMIT = 4.0
# the same for estimates from 80 groups, whose scores have Student's distribution
STUDENT = float(scipy.stats.t.isf(scipy.stats.norm.sf(LIMIT), 79))
SIGNS = InputLaw.signs()


def small(**changes: Any) -> Statistics:
    asked: dict[str, Any] = {
        "acts": ("tanh",),
        "sizes": (6, 8, 12),
        "count": 16,
        "sweep_size": 8,
        "sweep_count": 16,
        "spectrum_size": 12,
    }
    return Statistics(**(asked | changes))


@pytest.fixture
def few_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two points of each curve of the figures, far from where iterations are slow."""
    monkeypatch.setattr(plan_module, "_SHARES", (0.2, 0.4))
    monkeypatch.setattr(plan_module, "_LINEAR_RADII", (0.3, 0.5))
    monkeypatch.setattr(plan_module, "_RANK_SHARE", 0.4)


def draw_png(book: FigureBook, name: str, draw: Any, data: Any) -> str:
    """One format instead of three."""
    save_figure(book.folder / f"{name}.png", draw, data)
    return ""


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FigureBook, "add", lambda *_: "")


# -- estimates ---------------------------------------------------------------------------------------------------------


def test_means_and_variances_within_groups() -> None:
    values = np.array([[1.0, 3.0], [10.0, 14.0], [4.0, 4.0]])
    means, variances = [2.0, 12.0, 4.0], [2.0, 8.0, 0.0]
    assert mean_of(values) == pytest.approx((np.mean(means), np.std(means, ddof=1) / math.sqrt(3)), rel=1e-15)
    expected = (5 * np.mean(variances), 5 * np.std(variances, ddof=1) / math.sqrt(3))
    assert variance_of(values, 5) == pytest.approx(expected, rel=1e-15)


def test_typical_noise_is_the_variance_of_normal_numbers() -> None:
    quantiles = scipy.stats.norm.ppf((np.arange(4000) + 0.5) / 4000, loc=7.0, scale=0.3)
    # quantiles of a grid of step 1/4000 of probability
    assert typical_noise(quantiles, 50) == pytest.approx(50 * 0.09, rel=1e-3)


def test_exponents_are_slopes() -> None:
    eps = np.array([0.1, 0.2, 0.5])
    assert log_slope(eps, 3.0 * eps**-2.5) == pytest.approx(2.5, abs=1e-13)


@pytest.mark.parametrize("family", ["iid", "orthogonal", "goe"])
def test_reductions_keep_the_law(family: str) -> None:
    """Lengths by reduction and by solving have one distribution, at both sigma, and so has their ratio."""
    sigmas, size, count = (0.2, 0.35), 7, 1500
    reduced = linear_lengths(np.random.default_rng(1), family, sigmas, count, size)
    W = weight_stack(np.random.default_rng(2), family, 1.0, count, size)
    solved = np.stack([np.sum(resolvents(sigma * W)[:, :, 0] ** 2, axis=1) for sigma in sigmas])
    for one, two in [*zip(reduced, solved, strict=True), (reduced[1] / reduced[0], solved[1] / solved[0])]:
        assert scipy.stats.ks_2samp(one, two).pvalue > 1e-4


def test_schur_lengths_of_one_by_one_matrices_are_exact() -> None:
    r = linear_lengths(np.random.default_rng(0), "orthogonal", [0.8], 50, 1)[0]
    # the only orthogonal matrices are 1 and -1
    assert set(np.round(r, 12)) == {round(1 / 0.2**2, 12), round(1 / 1.8**2, 12)}


def test_reflections_are_symmetric_with_two_eigenvalues() -> None:
    (W,) = reflection_stack(np.random.default_rng(0), 0.6, 1, 6)
    np.testing.assert_allclose(W, W.T, atol=1e-15)
    np.testing.assert_allclose(np.linalg.eigvalsh(W), [-0.6] * 3 + [0.6] * 3, atol=1e-14)


def test_fixed_points_of_linear_maps_are_resolvents() -> None:
    W, x = weight_stack(np.random.default_rng(0), "iid", 0.4, 3, 5), np.ones((1, 5, 1))
    z = fixed_points(lambda u: u, W, x, np.zeros((3, 5, 1)))
    # relative residual 1e-11 over 1 - radius, which is above 0.1 for these draws
    np.testing.assert_allclose(z, resolvents(W) @ x, rtol=1e-9)


def test_what_does_not_settle_is_told() -> None:
    W, x = np.array([[[2.0]], [[0.5]]]), np.ones((1, 1, 1))
    _, settled = iterated(lambda u: u, W, x, np.ones((2, 1, 1)), 1e-9, 100)
    assert settled.tolist() == [False, True] or not settled.any()  # it stops only when all are
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(ConvergenceError, match="1 of 2 fixed points"):
        fixed_points(lambda u: np.clip(u, -1e6, 1e6) * np.where(abs(u) > 1e5, -1, 1), W, x, np.ones((2, 1, 1)))


# -- comparisons -------------------------------------------------------------------------------------------------------


def test_trends_are_weighted_least_squares() -> None:
    sizes, errors = (10, 20, 40), np.array([0.1, 0.2, 0.3])
    values = np.array([1.7, 1.2, 1.4])
    X = np.column_stack([np.ones(3), 1 / np.array(sizes)]) / errors[:, None]
    covariance = np.linalg.inv(X.T @ X)
    limit, slope = covariance @ X.T @ (values / errors)
    found = fit_trend(sizes, [Measured(v, e) for v, e in zip(values, errors, strict=True)], 1.0)
    np.testing.assert_allclose(found.limit, (limit, math.sqrt(covariance[0, 0])), rtol=1e-12)
    np.testing.assert_allclose(found.slope, (slope, math.sqrt(covariance[1, 1])), rtol=1e-12)


def test_scores_of_right_predictions_are_normal_ones() -> None:
    """Draws of limit + c/N + noise: the three kinds of z-scores have variance 1."""
    rng, sizes, errors = np.random.default_rng(3), (20, 40, 80), np.array([0.3, 0.2, 0.4])
    rows = []
    for _ in range(2000):
        values = 2.0 + 5.0 / np.array(sizes) + errors * rng.standard_normal(3)
        measured = [Measured(v, e) for v, e in zip(values, errors, strict=True)]
        free = compare(Formula("f", 2.0), sizes, measured)
        known = compare(Formula("f", 2.0, correction=5.0), sizes, measured)
        rows.append([free["z"], *free["size_z"], *known["size_z"]])
    squares = np.mean(np.square(rows), axis=0)
    # the mean of 2000 squares of N(0, 1) has standard error sqrt(2/2000)
    assert np.all(abs(squares - 1) < LIMIT * math.sqrt(2 / 2000))


def test_errors_of_variances_are_those_of_the_prediction() -> None:
    formula = Formula("V", 4.0, trend=None, statistic="variance")
    assert compare(formula, (5,), [Measured(2.0, 0.1)])["z"] == pytest.approx((2.0 - 4.0) / (0.1 * 2.0))


def test_a_wrong_prediction_is_found_out() -> None:
    """The right formulas agree, and each of them changed by 30 % differs: the check can fail."""
    case = LinearCase("iid", 0.4)
    sizes = (20, 40, 80)
    done = [CaseUnit(case, size, 640, 5).measure() for size in sizes]

    def score(formula: Formula) -> float:
        return abs(float(compare(formula, sizes, [Measured(*numbers[formula.quantity]) for numbers in done])["z"]))

    for formula in case.formulas():
        assert score(formula) < LIMIT
    for quantity in ("E r", "τ(P²)", "overlap x·z*/|x|²", "E z(x)·z(y)", "E |VJP|²"):
        (formula,) = (f for f in case.formulas() if f.quantity == quantity)
        assert score(replace(formula, prediction=1.3 * formula.prediction)) > 8
    wrong = [compare(replace(case.formulas()[0], prediction=1.5), sizes, [Measured(*d["E r"]) for d in done])]
    assert judged(wrong)[0]["verdict"] == "differs"


def test_overviews_count() -> None:
    found = overview("all", [0.5, -3.5, 2.5, 1.0])
    assert (found["count"], found["largest"], found["beyond2"], found["beyond3"]) == (4, 3.5, 2, 1)
    assert found["smallest_holm"] == pytest.approx(4 * 2 * scipy.stats.norm.sf(3.5), rel=1e-12)


# -- cases -------------------------------------------------------------------------------------------------------------


def test_haar_weights_of_one_dimension_by_hand() -> None:
    """W = +-sigma equally often: r = (1 -+ sigma)^-2."""
    case = HaarCase(1, 0.8)
    r = np.array([1 / 0.2**2, 1 / 1.8**2])
    length, variance = case.formulas()
    assert length.prediction == pytest.approx(r.mean(), rel=1e-12) == pytest.approx(12.654321, abs=1e-6)
    assert variance.prediction == pytest.approx(r.var(), rel=1e-12)
    measured = CaseUnit(case, 1, 800, 0).measure()
    for formula in case.formulas():
        assert abs(compare(formula, (1,), [Measured(*measured[formula.quantity])])["z"]) < LIMIT


def test_haar_weights_at_finite_size() -> None:
    case = HaarCase(3, 0.5)
    assert case.formulas()[0].prediction == pytest.approx(float(haar_length(3, 0.25)))
    assert case.formulas()[1].prediction == pytest.approx(float(haar_length_variance(3, 0.25)))
    measured = CaseUnit(case, 3, 4000, 0).measure()
    for formula in case.formulas():
        assert abs(compare(formula, (3,), [Measured(*measured[formula.quantity])])["z"]) < LIMIT


@pytest.mark.parametrize(
    "case",
    [
        LinearCase("goe", 0.2),
        DepthCase("iid", 0.4),
        DepthCase("goe", 0.25),
        NonlinearCase("tanh", "iid", 0.7, SIGNS),
        NonlinearCase("tanh", "orthogonal", 0.7, SIGNS),
        NonlinearCase("tanh", "goe", 0.35, SIGNS),
        ReflectionCase("tanh", 0.5, SIGNS),
        IteratesCase("tanh", "iid", 0.7, SIGNS),
        KernelCase("tanh", "goe", 0.4, (1.0, 2.0, 0.5)),
        KernelCase("relu", "orthogonal", 0.6, (1.0, 1.0, 0.5)),
    ],
    ids=lambda case: f"{case.group}-{case.family}-{case.parameters[:4]}",
)
def test_formulas_agree_with_matrices(case: Any) -> None:
    sizes = (16, 32, 64)
    done = [CaseUnit(case, size, 320, 11).measure() for size in sizes]
    for formula in case.formulas():
        row = compare(formula, sizes, [Measured(*numbers[formula.quantity]) for numbers in done])
        assert abs(row["z"]) < STUDENT, (formula, row)


def test_medians_near_the_edge() -> None:
    case = EdgeCase("goe", (0.1, 0.2, 0.4))
    sizes = (200, 400, 800)
    done = [CaseUnit(case, size, 800, 2).measure() for size in sizes]
    for formula in case.formulas():
        row = compare(formula, sizes, [Measured(*numbers[formula.quantity]) for numbers in done])
        assert abs(row["z"]) < LIMIT, (formula, row)


def test_the_edge_of_linear_goe_weights_is_that_of_the_semicircle() -> None:
    """phi = x with x = 1: J = W, E lambda_max = 2 sigma - 1.2065 sigma N^(-2/3)."""
    found = finite_edge("x", 0.3, InputLaw.constant(1))
    assert (found.value, found.shift) == pytest.approx((0.6, -1.2065335745820 * 0.3), rel=1e-9)


def test_escapes_are_rarer_in_larger_matrices() -> None:
    exponent = escape_exponent("iid", 0.5, 40)
    assert exponent == pytest.approx(-40 * (1.5 - math.log(2)) / math.log(10))
    # an integral of the semicircle's force: half of int_2^y sqrt(t^2 - 4) dt
    t = np.linspace(2, 1 / 0.3, 200_001)
    assert escape_exponent("goe", 0.3, 50) == pytest.approx(
        -50 * 0.5 * np.trapezoid(np.sqrt(t**2 - 4), t) / math.log(10), rel=1e-6
    )
    assert escape_exponent("orthogonal", 0.5, 50) is None


def test_limits_are_those_of_the_formulas() -> None:
    assert limits_of("x", "iid", 0.5, SIGNS)[0] == linear_deq("iid", 0.5).length
    found = mean_field("tanh", "goe", 0.5, SIGNS)
    expected = (found.mean_square, found.length_noise / found.mean_square**2)
    assert limits_of("tanh", "goe", 0.5, SIGNS) == pytest.approx(expected)


def test_goe_overtakes_iid_at_the_length_of_the_specification() -> None:
    assert crossing_length() == pytest.approx(21.0498, abs=5e-5)


def test_contradictions_are_pairs_beyond_three_standard_errors() -> None:
    one = {"family": "iid", "noise_prediction": 2.0, "noise": 1.0, "noise_error": 0.1, "size": 9}
    two = {"family": "goe", "noise_prediction": 1.0, "noise": 1.4, "noise_error": 0.1, "size": 9}
    assert contradictions([one, two]) == []
    assert contradictions([one, two | {"noise": 1.5}]) == ["goe > iid at N = 9"]


def test_a_sweep_counts_what_does_not_settle() -> None:
    unit = SweepUnit("tanh", "iid", 2.5, SIGNS, 8, 16, 0)
    numbers = unit.measure()
    assert 0 <= numbers["unsettled"] <= 1
    assert numbers["prediction"] == mean_field("tanh", "iid", 2.5, SIGNS).mean_square
    assert unit.record(numbers)["operator_norm"] == 5.0


def test_states_that_run_away_have_no_typical_length() -> None:
    """Relu at 0.98 of the critical sigma, N = 20: the largest eigenvalue of many matrices exceeds 1."""
    numbers = SweepUnit("relu", "iid", 1.38, SIGNS, 20, 32, 0).measure()
    assert numbers["length"] is None
    assert numbers["noise"] is None
    assert numbers["unsettled"] > 0.1
    row = {"family": "iid", "noise_prediction": 2.0, "noise": None, "noise_error": None, "size": 9}
    assert contradictions([row, row | {"family": "goe", "noise": 9.0, "noise_error": 0.1}]) == []


# -- the experiment ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("few_points")
def test_the_experiment_writes_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nonlinear_module, "_SAMPLES", 1000)
    monkeypatch.setattr(FigureBook, "add", draw_png)
    experiment = small(families=("orthogonal", "goe"))
    found = run_experiment(experiment, tmp_path)
    record = json.loads((tmp_path / "results.json").read_text())
    groups = {row["group"] for row in record["comparisons"]}
    assert groups == {
        "linear",
        "linear, finite depth",
        "linear, near the edge",
        "Haar, finite N",
        "nonlinear",
        "R-transform",
        "iterates",
        "kernel form",
    }
    assert all(len(row["sizes"]) == (1 if row["trend"] is None else 3) for row in record["comparisons"])
    for name in ("lengths_linear", "lengths_nonlinear", "noise_over_size", "spectra", "exponents", "scores"):
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 1000
    assert "ranked at equal variance" in (tmp_path / "summary.md").read_text()
    monkeypatch.setattr(formulas_module, "derived_seed", None)  # a second measurement would fail
    assert run_experiment(experiment, tmp_path).record == found.record


@dataclass(frozen=True)
class _Failing(LinearCase):
    def measure(self, size: int, count: int, stream: np.random.Generator) -> dict[str, Measured]:
        if size == 8:
            raise ConvergenceError("no matrices of size 8 today")
        return super().measure(size, count, stream)


@pytest.mark.usefixtures("no_figures", "few_points")
def test_a_unit_that_fails_is_reported_and_the_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equikernel.validation.paper.statistics.plan.LinearCase", _Failing)
    found = run_experiment(small(families=("iid",)), tmp_path)
    rows = [row for row in found.record["comparisons"] if row["group"] == "linear"]
    assert rows
    assert all(row["sizes"] == [6, 12] and row["misfit_p"] is None for row in rows)
    assert "no matrices of size 8 today" in (tmp_path / "summary.md").read_text()


def test_findings_of_nothing_but_failures_are_empty() -> None:
    experiment = small(families=("goe",))
    found = experiment.findings([Outcome(None, "nothing") for _ in experiment.units()])
    assert found.record["comparisons"] == []
    assert found.figures == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sizes": (8, 16)}, "needs 3 or more different sizes N; got 8, 16"),
        ({"sizes": (1, 8, 16)}, "a size N must be a whole number, 2 or more; got 1"),
        ({"families": ("toeplitz",)}, "unknown weight family 'toeplitz'"),
        ({"families": ()}, "one weight family or more"),
        ({"acts": ("no_such_thing",)}, "no_such_thing"),
        ({"count": 4}, "the number of matrices must be a whole number, 16 or more"),
        ({"share": 0.0}, "a positive share of the critical sigma; got 0.0"),
    ],
)
def test_bad_arguments_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        small(**changes)


def test_sigma_beyond_the_critical_one_is_refused_by_name() -> None:
    with pytest.raises(UnstableError, match=r"critical sigma is 2\.537316: reduce sigma"):
        small(share=1.1, families=("iid",)).units()


def test_an_unbounded_slope_is_refused_with_goe_weights() -> None:
    with pytest.raises(EquikernelError, match=r"slope|phi'|derivative"):
        small(acts=("x**3",), families=("goe",)).units()


def test_the_command_describes_the_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Statistics] = []

    def run(experiment: Statistics, _: Path, *, threads: int) -> Findings:
        seen.append(experiment)
        return Findings({}, (), remarks=(f"{threads} threads",))

    monkeypatch.setattr("equikernel.validation.paper.experiment.run_experiment", run)
    app = typer.Typer()
    app.command()(statistics)
    sizes = ["--size", "10", "--size", "6", "--size", "8", "--count", "32", "--share", "0.3", "--seed", "4"]
    result = CliRunner().invoke(app, ["--out", str(tmp_path), "--act", "sin", *sizes, "--threads", "2"])
    assert result.exit_code == 0, result.output
    assert "2 threads" in result.output
    assert CliRunner().invoke(app, ["--out", str(tmp_path), "--quick"]).exit_code == 0
    assert seen[0] == Statistics(("sin",), (6, 8, 10), 32, 0.3, seed=4)
    assert (seen[1].acts, seen[1].count, len(seen[1].sizes)) == (("tanh",), 160, 3)
