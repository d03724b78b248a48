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

from equikernel.cli.experiments.spectra import spectra as command
from equikernel.errors import DataError, InputError, NoDesignError
from equikernel.numerics.kernels import implicit_ck
from equikernel.theory.models import DEQ
from equikernel.validation import empirical
from equikernel.validation.experiments import SpectraConfig, spectra
from equikernel.validation.figures import FigureBook
from equikernel.validation.paper.experiment import run_experiment
from equikernel.validation.paper.kernels import points as kernel_points
from equikernel.validation.paper.kernels.points import KINDS, KernelPoint, comparison
from equikernel.validation.paper.kernels.spectra import SpectraExperiment, sources_for

SEEDS = (0, 1, 2)
SOURCES, _ = sources_for(("digits",), 24, SEEDS)
TINY = SpectraExperiment((DEQ("relu"),), SOURCES, SEEDS, width=32, draws=2)


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take longer than everything else at this size; one test draws them."""
    monkeypatch.setattr(FigureBook, "add", lambda *_: "")


def _covariance(values: list[float], seed: int) -> tuple[np.ndarray, np.ndarray]:
    vectors = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values), len(values))))[0]
    return (vectors * values) @ vectors.T, vectors


def test_comparison_with_a_multiple() -> None:
    exact, _ = _covariance([5.0, 3.0, 1.0, 0.5], 0)
    found = comparison(exact, 1.25 * exact, 2)
    for key in ("operator", "frobenius", "wasserstein"):
        assert found[key] == pytest.approx(0.25, rel=1e-13)
    assert found["rescaled"] == pytest.approx(0.0, abs=1e-14)
    assert found["leading"] == pytest.approx([6.25, 3.75], rel=1e-13)
    assert found["cosines"] == pytest.approx([1.0, 1.0], abs=1e-13)


def test_comparison_with_a_rotation() -> None:
    values = [5.0, 3.0, 1.0, 0.5]
    exact, u = _covariance(values, 1)
    angle = 0.3
    turn = np.eye(4)
    turn[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    v = u @ turn  # turns the first two into each other
    found = comparison(exact, (v * values) @ v.T, 2)
    assert found["cosines"] == pytest.approx([math.cos(angle)] * 2, rel=1e-12)
    assert found["subspace"] == pytest.approx(1.0, rel=1e-12)
    assert found["wasserstein"] == pytest.approx(0.0, abs=1e-13)
    assert comparison(exact, (v * values) @ v.T, 1)["subspace"] == pytest.approx(math.cos(angle) ** 2, rel=1e-12)
    # 5 and 3 exchanged by a turn: the difference has the eigenvalues +-2 sin(angle)
    assert found["operator"] == pytest.approx(2 * math.sin(angle) / 5, rel=1e-12)


def test_wasserstein_is_that_of_scipy() -> None:
    (exact, _), (other, _) = _covariance([5.0, 3.0, 1.0, 0.5], 2), _covariance([4.0, 3.5, 0.2, 0.1], 3)
    distance = scipy.stats.wasserstein_distance(np.linalg.eigvalsh(exact), np.linalg.eigvalsh(other))
    mean = np.trace(exact) / 4
    assert comparison(exact, other, 1)["wasserstein"] == pytest.approx(distance / mean, rel=1e-12)
    best = np.trace(exact @ other) / np.trace(other @ other)
    rescaled = math.sqrt(np.trace((exact - best * other) @ (exact - best * other)) / np.trace(exact @ exact))
    assert comparison(exact, other, 1)["rescaled"] == pytest.approx(rescaled, rel=1e-12)


@pytest.mark.parametrize("data", ["gmm", "digits"])
def test_point_agrees_with_the_library(data: str) -> None:
    ((source,), *_), _ = sources_for((data,), 12, SEEDS)
    point = KernelPoint(DEQ("relu"), source, "ck", "aA", 32, 2, 5)
    numbers = point.measure()
    sample = point.source.load()
    exact = implicit_ck(sample.X, point.deq, tau0=sample.tau0)
    scale = np.linalg.norm(exact)
    np.testing.assert_allclose(numbers["eigenvalues"]["exact"], np.linalg.eigvalsh(exact)[::-1], atol=1e-13 * scale)
    finite = empirical.empirical_ck(
        sample.X, point.deq, width=point.width, draws=point.draws, seed=point.seed, tau0=sample.tau0
    )
    # other threads may add in another order; the solver stops at a relative residual of 1e-12
    assert numbers["kinds"]["finite"]["frobenius"] == pytest.approx(
        np.linalg.norm(exact - finite.mean) / scale, rel=1e-10
    )
    assert numbers["noise"] == pytest.approx(np.linalg.norm(finite.standard_error) / scale, rel=1e-10)
    # the study of the report sees the same three kernels
    same = spectra(SpectraConfig(point.deq, point.source, "ck", point.width, point.draws, point.seed)).numbers
    assert same is not None
    for kind, name in (("exact", "exact"), ("equivalent", "matrix"), ("empirical", "finite")):
        np.testing.assert_allclose(same[kind], numbers["eigenvalues"][name], atol=1e-12 * scale)


def test_experiment_and_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = run_experiment(TINY, tmp_path)
    rows = findings.record["comparisons"]
    assert len(rows) == 2 * len(KINDS) - 1  # kernels, kinds: one of them of the NTK alone
    distances = {row["kind"]: row["operator_mean"] for row in rows if row["kernel"] == "CK"}
    assert distances[KINDS["network"]] < distances[KINDS["naive"]]
    distances = {row["kind"]: row["operator_mean"] for row in rows if row["kernel"] == "NTK"}
    assert distances[KINDS["deeper"]] < distances[KINDS["network"]] < distances[KINDS["naive"]]
    (group,) = [g for g in findings.record["measurements"] if (g["data"], g["kernel"]) == ("digits", "NTK")]
    values = [numbers["kinds"]["naive"]["wasserstein"] for numbers in group["seeds"]]
    (row,) = [r for r in rows if (r["data"], r["kernel"], r["kind"]) == ("digits", "NTK", KINDS["naive"])]
    assert row["wasserstein_mean"] == pytest.approx(np.mean(values), rel=1e-12)
    assert row["wasserstein_sd"] == pytest.approx(np.std(values, ddof=1), rel=1e-9)
    assert len(set(values)) == len(SEEDS)  # each seed has samples of its own
    for kernel in ("ck", "ntk"):
        assert (tmp_path / "figures" / f"spectra_{kernel}.png").stat().st_size > 1000

    def again(self: KernelPoint) -> dict[str, Any]:
        raise AssertionError(f"computed again: {self}")

    monkeypatch.setattr(KernelPoint, "measure", again)
    assert run_experiment(TINY, tmp_path).record == findings.record


@pytest.mark.usefixtures("no_figures")
def test_what_is_missing_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any) -> None:
        raise NoDesignError("no such network")

    def never(self: KernelPoint) -> dict[str, Any]:
        if self.kernel == "ntk":
            raise DataError("no kernel today")
        return measure(self)

    measure = KernelPoint.measure
    monkeypatch.setattr(kernel_points, "equivalent_of", none)
    monkeypatch.setattr(KernelPoint, "measure", never)
    few, _ = sources_for(("gmm",), 12, SEEDS)
    findings = run_experiment(SpectraExperiment((DEQ("relu"),), few, SEEDS, 16, 2), tmp_path)
    assert findings.record["missing"] == [
        "Gaussian mixture (isotropic3), relu, CK, equivalent network: no such network"
    ]
    assert {row["kind"] for row in findings.record["comparisons"]} == {
        KINDS[kind] for kind in ("matrix", "naive", "finite")
    }
    summary = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "no kernel today" in summary
    assert "no such network" in summary
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["failures"] == ["no kernel today"]


def test_sources_that_are_not_there() -> None:
    with pytest.raises(DataError):
        sources_for(("gmm", "no-such-set"), 12, SEEDS)
    sources, missing = sources_for(("gmm", "no-such-set"), 12, SEEDS, optional=True)
    assert [len(samples) for samples in sources] == [1, 1, 1]
    assert "no-such-set" in missing[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": (0, 1)}, "3 or more different seeds"),
        ({"deqs": ()}, "one activation or more"),
        ({"sources": SOURCES[:2]}, "each of the 3 seeds"),
        ({"sources": ((), (), ())}, "one source of data or more"),
    ],
)
def test_bad_experiments(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SpectraExperiment(**{"deqs": (DEQ("relu"),), "sources": SOURCES, "seeds": SEEDS, **changes})


@pytest.mark.usefixtures("no_figures")
def test_command(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(command)
    arguments = ["relu", "--out", str(tmp_path), "--data", "digits", "--n", "12", "--width", "16", "--draws", "2"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert "digits" in (tmp_path / "tables" / "distances.md").read_text(encoding="utf-8")
