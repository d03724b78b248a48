from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from matplotlib.figure import Figure
from typer.testing import CliRunner

from equikernel.cli.experiments.rates import rates
from equikernel.errors import DataError, InputError, SolutionError
from equikernel.numerics.equivalents import equivalent_ntk
from equikernel.numerics.kernels import implicit_ntk
from equikernel.theory.models import DEQ
from equikernel.validation.experiments.rates import RatePoint
from equikernel.validation.figures import FigureBook, plain_ticks
from equikernel.validation.mixtures import class_counts, mixture_family
from equikernel.validation.paper.experiment import run_experiment
from equikernel.validation.paper.kernels.rates import RatesExperiment, largest_norm_deviation

TINY = RatesExperiment((DEQ("relu"), DEQ("sign")), dimensions=(16, 32, 64), seeds=(0, 1, 2))


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take longer than everything else at this size; one test draws them."""
    monkeypatch.setattr(FigureBook, "add", lambda *_: "")


@pytest.mark.parametrize("family", ["isotropic", "structured"])
def test_median_of_the_largest_norm(family: str) -> None:
    n, p, trials = 60, 100, 4000
    mixture = mixture_family(family)(p)
    forms = [form if form.ndim == 2 else np.diag(np.broadcast_to(form, (p,))) for form in mixture.covariances]
    counts = class_counts(n, mixture.proportions)
    average = sum(c * form for c, form in zip(counts, forms, strict=True)) / n
    generator = np.random.default_rng(2)
    largest = np.zeros(trials)
    for count, form in zip(counts, forms, strict=True):
        shift = np.trace(form - average) / p
        scale = math.sqrt(2 * np.trace(form @ form)) / p
        chi = shift + scale * generator.standard_normal((trials, count))
        largest = np.maximum(largest, np.abs(chi).max(axis=1))
    below = float(np.mean(largest < largest_norm_deviation(mixture, n)))
    assert abs(below - 0.5) <= 5 * 0.5 / math.sqrt(trials)


def test_slope_of_the_diagonal_tends_to_theory_from_above() -> None:
    small, large = (
        RatesExperiment((DEQ("relu"),), dimensions=d).diagonal_slope for d in ((100, 200), (10**6, 2 * 10**6))
    )
    assert -0.5 < large < small


def test_experiment_and_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = run_experiment(TINY, tmp_path)
    rows = findings.record["slopes"]
    assert [(r["activation"], r["kernel"]) for r in rows[::3]] == [("relu", "CK"), ("relu", "NTK"), ("sign", "CK")]
    record = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    ladder = record["ladders"][0]
    # one data set computed anew, with norms of numpy
    unit = TINY.units()[2]
    assert isinstance(unit, RatePoint)
    sample = unit.source.load()
    exact = implicit_ntk(sample.X, unit.deq, tau0=sample.tau0)
    equivalent = equivalent_ntk(
        sample.X, unit.deq, sample.labels, means=sample.means, covariances=sample.covariances, tau0=sample.tau0
    )
    (point,) = [x for x in ladder["points"] if x["seed"] == unit.source.seed]
    difference = exact - equivalent
    assert point["ntk"]["error"] == pytest.approx(np.linalg.norm(difference, 2), rel=1e-10)
    assert point["ntk"]["diagonal"] == pytest.approx(np.abs(np.diag(difference)).max(), rel=1e-10)
    np.fill_diagonal(difference, 0.0)
    assert point["ntk"]["off_diagonal"] == pytest.approx(np.linalg.norm(difference, 2), rel=1e-10)
    slope = np.polyfit(
        np.log([x["p"] for x in ladder["points"]]), np.log([x["ntk"]["error"] for x in ladder["points"]]), 1
    )[0]
    (row,) = [r for r in rows if (r["activation"], r["kernel"], r["part"]) == ("relu", "NTK", "whole")]
    assert row["slope"] == pytest.approx(slope, rel=1e-10)
    assert row["points"] == 9
    assert (tmp_path / "figures" / "rates.png").stat().st_size > 1000

    def again(self: RatePoint) -> dict[str, Any]:
        raise AssertionError(f"computed again: {self}")

    monkeypatch.setattr(RatePoint, "measure", again)
    assert run_experiment(TINY, tmp_path).record == findings.record


@pytest.mark.usefixtures("no_figures")
def test_failing_unit_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = RatePoint.measure

    def failing(self: RatePoint) -> dict[str, Any]:
        if self.source.p == 64:
            raise DataError("too large for today")
        return measure(self)

    monkeypatch.setattr(RatePoint, "measure", failing)
    findings = run_experiment(TINY, tmp_path)
    assert all(row["points"] == 6 for row in findings.record["slopes"])
    assert "too large for today" in (tmp_path / "summary.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("no_figures")
def test_errors_of_rounding_have_no_rate(tmp_path: Path) -> None:
    findings = run_experiment(RatesExperiment((DEQ("x"),), dimensions=(16, 32), seeds=(0, 1, 2)), tmp_path)
    assert {row["slope"] for row in findings.record["slopes"]} == {None}
    assert "rounding" in findings.tables[0].render("markdown")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": (1, 1, 2)}, "3 or more different seeds"),
        ({"dimensions": (100,)}, "two or more different dimensions"),
        ({"deqs": ()}, "one activation or more"),
    ],
)
def test_bad_experiments(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RatesExperiment(**{"deqs": (DEQ("relu"),), **changes})


@pytest.mark.usefixtures("no_figures")
def test_command(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(rates)
    arguments = ["tanh", "--out", str(tmp_path), "--dimension", "16", "--dimension", "24", "--quick"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert "tanh" in (tmp_path / "tables" / "rates.md").read_text(encoding="utf-8")


def test_nothing_at_all_is_one_sentence(tmp_path: Path) -> None:
    """Each data set has a sentence of its own; together they are one, and a problem without solution."""
    chaotic = RatesExperiment((DEQ("tanh", "5"),), dimensions=(16, 32), seeds=(0, 1, 2))
    with pytest.raises(
        SolutionError, match=r"gave numbers \(and 5 more reasons like it\): sigma_a2 E\[.*\] = 1\."
    ) as raised:
        run_experiment(chaotic, tmp_path)
    assert str(raised.value).count("reduce sigma_a2") == 1
    assert not (tmp_path / "results.json").exists()
    # the failures are remembered, and are the same problem when met again
    with pytest.raises(SolutionError, match="and 5 more reasons"):
        run_experiment(chaotic, tmp_path)


@pytest.mark.parametrize(("low", "high"), [(0.05, 0.4), (1.0, 9e3), (1e-2, 1e6), (1e-9, 1e9)])
def test_a_logarithmic_ordinate_has_ticks_over_any_range(low: float, high: float) -> None:
    axes = Figure().add_subplot()
    axes.loglog([16, 64], [low, high])
    plain_ticks(axes, [16, 64])
    inside = [y for y in axes.get_yticks() if low <= y <= high]
    assert 2 <= len(inside) <= 20
