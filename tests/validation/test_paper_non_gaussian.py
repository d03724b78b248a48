from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import typer
from typer.testing import CliRunner

from equikernel.cli.experiments.non_gaussian import non_gaussian
from equikernel.errors import DataError, InputError
from equikernel.numerics.solve import solve
from equikernel.theory.models import DEQ
from equikernel.validation.experiments.rates import bootstrap_slope, fit_power_law
from equikernel.validation.figures import FigureBook
from equikernel.validation.mixtures import mixture_family
from equikernel.validation.paper.experiment import run_experiment
from equikernel.validation.paper.laws import points as law_points
from equikernel.validation.paper.laws.non_gaussian import NonGaussianExperiment
from equikernel.validation.paper.laws.points import LawPoint, expected_rate, norms_only
from equikernel.validation.paper.laws.samplers import LAWS, LawSource, noise_law

_SIGMAS = 5  # a two-sided probability of 6e-7
_N, _P = 4000, 40
TINY = NonGaussianExperiment((DEQ("relu"),), laws=("gaussian", "elliptical"), dimensions=(16, 32, 64), seeds=(0, 1, 2))
UNITS = 2 * 3 * 3


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take longer than everything else at this size; one test draws them."""
    monkeypatch.setattr(FigureBook, "add", lambda *_: "")


def _within(values: np.ndarray, expected: float) -> bool:
    """Whether the mean of independent values is within five standard errors of what it should be."""
    error = values.std(ddof=1) / math.sqrt(len(values))
    return bool(abs(values.mean() - expected) <= _SIGMAS * error + 1e-12)


@pytest.fixture(scope="module")
def noise() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(7)
    return {name: noise_law(name).draw(generator, _N, _P) for name in LAWS}


@pytest.mark.parametrize("name", LAWS)
def test_mean_zero_and_uncorrelated(name: str, noise: dict[str, np.ndarray]) -> None:
    w = noise[name]
    assert w.shape == (_N, _P)
    assert _within(w.mean(axis=1), 0.0)
    for shift in (1, 2, 17):
        assert _within((w * np.roll(w, shift, axis=1)).mean(axis=1), 0.0)


@pytest.mark.parametrize("name", [name for name in LAWS if name != "student3"])
def test_unit_variance(name: str, noise: dict[str, np.ndarray]) -> None:
    # samples are independent, entries of one need not be: the mean over a sample is one value
    assert _within((noise[name] ** 2).mean(axis=1), 1.0)


# an error of E[w^4] needs the eighth moment
@pytest.mark.parametrize("name", [name for name in LAWS if noise_law(name).tail == math.inf])
def test_kurtosis_and_spread_of_norms(name: str, noise: dict[str, np.ndarray]) -> None:
    law, w = noise_law(name), noise[name]
    assert _within((w**4).mean(axis=1), law.kurtosis(_P))
    squares = (w**2).sum(axis=1)
    assert _within((squares - _P) ** 2 / _P, law.norm_variance(_P))


@pytest.mark.parametrize("freedom", [3, 5, 8])
def test_student_is_scaled_to_unit_variance(freedom: int, noise: dict[str, np.ndarray]) -> None:
    law = noise_law(f"student{freedom}")
    below = np.abs(noise[law.name]) < 1.0
    # t of nu degrees of freedom has the variance nu/(nu - 2)
    exact = 1 - 2 * scipy.stats.t.sf(math.sqrt(freedom / (freedom - 2)), freedom)
    assert abs(below.mean() - exact) <= _SIGMAS * math.sqrt(exact * (1 - exact) / below.size)
    assert law.tail == freedom
    if freedom > 4:
        assert law.kurtosis(_P) == pytest.approx(3 + float(scipy.stats.t.stats(freedom, moments="k")), rel=1e-12)
    else:
        assert law.kurtosis(_P) == math.inf


def test_unknown_law() -> None:
    with pytest.raises(InputError, match="choose one of gaussian"):
        noise_law("cauchy")


@pytest.mark.parametrize("family", ["isotropic", "structured"])
def test_population_of_a_source(family: str) -> None:
    mixture = mixture_family(family)(24)
    draws = [LawSource("rademacher", family, 24, 40, seed).load() for seed in range(400)]
    labels = draws[0].labels
    assert labels is not None
    for a in range(mixture.K):
        # independent samples of class a, on the scale of w
        x = math.sqrt(24) * np.concatenate([d.X[labels == a] for d in draws]) - mixture.means[a]
        form = mixture.covariances[a]
        covariance = form if form.ndim == 2 else np.eye(24) * form
        assert _within(x[:, 3], 0.0)
        for i, j in ((0, 0), (0, 1), (5, 7), (23, 23)):
            assert _within(x[:, i] * x[:, j], float(covariance[i, j]))
    np.testing.assert_array_equal(draws[3].X, LawSource("rademacher", family, 24, 40, 3).load().X)


@pytest.mark.parametrize(
    ("law", "activation", "slope"),
    [
        ("gaussian", "relu", -0.5),
        ("student8", "relu", -0.5),
        ("student5", "tanh", -0.2),
        ("student3", "relu", 2 / 3),
        ("student3", "tanh", 1 / 3),
        ("elliptical", "gelu", 1.0),
        ("elliptical", "sigmoid", 0.0),
        ("sparse-10/p", "relu", 1.0),
        ("sparse-0.01", "relu", -0.5),
    ],
)
def test_expected_rates(law: str, activation: str, slope: float) -> None:
    assert expected_rate(noise_law(law), DEQ(activation)).slope == pytest.approx(slope, abs=1e-15)


def _quadrature_kernel(squared_norms: np.ndarray, deq: DEQ, tau: float) -> np.ndarray:
    """The implicit CK of orthogonal samples of a smooth activation, by Gauss-Hermite quadrature and plain iteration."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    a, b = float(deq.sigma_a2), float(deq.sigma_b2)
    phi = deq.activation.function("numpy")
    centre = weights @ phi(tau * nodes)
    q = b * squared_norms
    for _ in range(200):
        q = a * np.array([weights @ (phi(np.sqrt(x) * nodes) - centre) ** 2 for x in q]) + b * squared_norms
    kernel = np.diag((q - b * squared_norms) / a)
    for i, j in np.argwhere(~np.eye(len(q), dtype=bool)):
        entry = 0.0
        for _ in range(200):
            rho = a * entry / math.sqrt(q[i] * q[j])
            v = math.sqrt(q[j]) * (rho * nodes[:, None] + math.sqrt(1 - rho**2) * nodes)
            u = phi(math.sqrt(q[i]) * nodes) - centre
            entry = float((weights * u) @ (phi(v) - centre) @ weights)
        kernel[i, j] = entry
    return kernel


def test_norms_alone_by_quadrature() -> None:
    deq, norms = DEQ("silu"), np.array([0.5, 1.0, 1.5])
    s = solve(deq, 1.0, trained="a")
    chi = norms - 1
    equivalent = s.alpha2 * np.outer(chi, chi) + np.diag(s.gamma2 + s.alpha1 * chi)
    kernel = _quadrature_kernel(norms, deq, float(s.tau))
    expected = np.linalg.norm(kernel - equivalent.astype(float), 2)
    # 80 nodes integrate silu, whose poles are at +-i pi, to about 1e-9
    assert norms_only(norms, deq, "ck", "aA", 1.0) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("kernel", ["ck", "ntk"])
def test_norms_cost_a_linear_activation_nothing(kernel: str) -> None:
    assert norms_only(np.array([0.4, 1.0, 1.7]), DEQ("x"), kernel, "aA", 1.0) < 1e-13


def test_bootstrap_has_the_spread_of_the_data() -> None:
    generator = np.random.default_rng(1)
    count, sizes = 60, [100.0, 200.0, 400.0]
    deviations = {100.0: 0.3, 200.0: 0.1, 400.0: 0.05}
    x = np.repeat(sizes, count)
    y = np.log(2 * x**-0.5) + np.concatenate([deviations[p] * generator.standard_normal(count) for p in sizes])
    ends = bootstrap_slope(x.tolist(), np.exp(y).tolist(), resamples=20_000)
    assert ends is not None
    w = np.log(x) - np.log(x).mean()
    variances = np.repeat([y[x == p].var(ddof=1) for p in sizes], count)
    half = 1.96 * math.sqrt(np.sum(w**2 * variances)) / (w @ w)
    # quantiles of 20,000 resamples: each within 5 sqrt(0.025 * 0.975/20000)/density(1.96) = 0.09 standard deviations
    assert (ends[1] - ends[0]) / 2 == pytest.approx(half, rel=0.09 / 1.96)
    law = fit_power_law(x.tolist(), np.exp(y).tolist())
    assert law is not None
    assert ends[0] < law.slope < ends[1]


def test_bootstrap_without_spread() -> None:
    assert bootstrap_slope([10, 20, 40], [1.0, 0.7, 0.5]) is None
    ends = bootstrap_slope([10, 10, 40, 40], [1.0, 1.0, 0.5, 0.5])
    assert ends == pytest.approx((-0.5, -0.5), abs=1e-12)


def test_experiment_and_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = run_experiment(TINY, tmp_path)
    record = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert len(findings.record["rates"]) == 2 * 2 * 2  # laws, kernels, variants
    assert not record["failures"]
    row = next(
        r for r in findings.record["rates"] if r["law"] == "Gaussian" and r["kernel"] == "CK" and r["variant"] == "free"
    )
    points = [x for series in record["points"] if series["law"] == "gaussian" for x in series["points"]]
    errors = {p: [x["numbers"]["ck"]["free"]["error"] for x in points if x["source"]["p"] == p] for p in (16, 32, 64)}
    slope = np.polyfit(np.repeat(np.log([16, 32, 64]), 3), np.log(np.concatenate(list(errors.values()))), 1)[0]
    assert row["slope"] == pytest.approx(slope, rel=1e-12)
    assert row["last_mean"] == pytest.approx(np.mean(errors[64]), rel=1e-12)
    assert row["last_sd"] == pytest.approx(np.std(errors[64], ddof=1), rel=1e-10)
    for name in ("rates_labelled.png", "rates_free.pdf"):
        assert (tmp_path / "figures" / name).stat().st_size > 1000

    def again(self: LawPoint) -> dict[str, Any]:
        raise AssertionError(f"computed again: {self}")

    monkeypatch.setattr(LawPoint, "measure", again)
    assert run_experiment(TINY, tmp_path).record == findings.record


@pytest.mark.usefixtures("no_figures")
def test_failing_unit_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = LawPoint.measure

    def failing(self: LawPoint) -> dict[str, Any]:
        if self.source.law == "elliptical":
            raise DataError("no norms to be had")
        return measure(self)

    monkeypatch.setattr(law_points.LawPoint, "measure", failing)
    findings = run_experiment(TINY, tmp_path)
    record = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert record["failures"] == ["no norms to be had"]
    assert {row["law"] for row in findings.record["rates"]} == {"Gaussian"}
    assert "no norms to be had" in (tmp_path / "summary.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": (0, 1)}, "3 or more different seeds"),
        ({"laws": ("cauchy",)}, "unknown law"),
        ({"laws": ()}, "one law or more"),
        ({"dimensions": (20, 20)}, "two or more different dimensions"),
    ],
)
def test_bad_experiments(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        NonGaussianExperiment(**{"deqs": (DEQ("relu"),), **changes})


def test_activation_that_jumps_has_its_conjugate_kernel_alone() -> None:
    units = NonGaussianExperiment((DEQ("sign"),), laws=("gaussian",)).units()
    assert all(unit.describe()["kernels"] == ["ck"] for unit in units)


@pytest.mark.usefixtures("no_figures")
def test_command(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(non_gaussian)
    arguments = [
        "tanh",
        "--out",
        str(tmp_path),
        "--law",
        "uniform",
        "--dimension",
        "16",
        "--dimension",
        "24",
        "--quick",
    ]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert str(tmp_path / "summary.md") in done.output.replace("\n", "")
    assert "uniform" in (tmp_path / "tables" / "rates_labelled.md").read_text(encoding="utf-8")
