"""The experiment of z-scores: against linear networks solved directly, its variances, its verdicts, its resuming."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats

from equikernel.errors import InputError, SolutionError
from equikernel.validation.experiments.sources import MixtureSource
from equikernel.validation.experiments.study import Outcome, derived_seed
from equikernel.validation.figures import save_figure
from equikernel.validation.paper.experiment import run_experiment
from equikernel.validation.paper.scores.scores import Scores, ScoresUnit, smooth_names
from equikernel.validation.paper.scores.statistics import holm
from equikernel.validation.paper.scores.tables import score_findings

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = {"data": ("gmm",), "n": 4, "widths": (16, 24, 32, 48), "draws": 4}


def experiment(*activations, **changes):
    return Scores(activations=activations, **{**TINY, **changes})


@pytest.fixture(scope="module", name="unit")
def _unit():
    (unit,) = experiment("identity", seeds=(3, 4, 5)).units()
    return unit, unit.measure()


def test_linear_networks_solved_directly(unit):
    """For phi = x, z = (I - sigma_a A/sqrt(m))^(-1) sigma_b B x/sqrt(m); at infinite width kernels in closed form."""
    unit, numbers = unit
    a2, b2 = 0.2, 0.8
    assert (numbers["sigma_a2"], numbers["widths"], numbers["refusals"]) == (a2, [16, 24, 32, 48], [])
    for seed, source, found in zip(unit.seeds, unit.sources, numbers["seeds"], strict=True):
        X = source.load().X
        s = X @ X.T
        G = b2 * s / (1 - a2)
        exact = {"ck": G, "aA": G / (1 - a2), "aAB": G / (1 - a2) + G}
        root = derived_seed(seed, "scores", "identity", "Gaussian mixture (structured)")
        for k, (m, draws) in enumerate({16: 21, 24: 11, 32: 7, 48: 4}.items()):  # 4 (48/m)^(3/2)
            sums = {key: np.zeros_like(s) for key in exact}
            for draw in range(draws):
                stream = np.random.default_rng(np.random.SeedSequence(root, spawn_key=(m, draw)))
                A, B, a = (stream.standard_normal(shape) for shape in ((m, m), (m, 64), m))
                inverse = np.linalg.inv(np.eye(m) - math.sqrt(a2 / m) * A)
                z = inverse @ B @ X.T * math.sqrt(b2 / m)
                delta = inverse.T @ a / math.sqrt(m)
                sums["ck"] += z.T @ z
                sums["aA"] += z.T @ z * (1 + a2 * delta @ delta)
                sums["aAB"] += z.T @ z * (1 + a2 * delta @ delta) + b2 * s * (delta @ delta)
            for key, kernel in exact.items():
                scale = np.sqrt(np.mean(kernel**2))
                assert found[key]["scale"] == pytest.approx(scale, rel=1e-12)
                row = found[key]["widths"][k]
                assert (row["width"], row["draws"]) == (m, draws)
                # fixed points to 1e-8 (1 - c)^-1 with c about sqrt(0.2), in products of three, and single precision
                # leaves no trace
                deviation = np.sqrt(np.mean((sums[key] / draws - kernel) ** 2))
                assert row["deviation"] == pytest.approx(deviation, abs=1e-6 * scale)


def test_rows_put_seeds_together(unit):
    unit, numbers = unit
    findings = score_findings([("identity", unit.sources[0], Outcome(numbers))], experiment("identity").to_dict())
    rows = {row["kernel"]: row for row in findings.record["rows"]}
    assert set(rows) == {"ck", "aA", "aAB"}
    for key, row in rows.items():
        summaries = [seed[key]["z"] for seed in numbers["seeds"]]
        scores = np.concatenate([seed[key]["scores"] for seed in numbers["seeds"]])
        assert row["entries"] == len(scores) == 30
        assert row["largest"] == np.abs(scores).max()
        assert row["mean"] == pytest.approx(scores.mean(), rel=1e-12)
        assert row["mean_error"] == pytest.approx(math.hypot(*(s["mean_error"] for s in summaries)) / 3, rel=1e-12)
        assert row["rms_sd"] == pytest.approx(np.std([s["std"] for s in summaries], ddof=1), rel=1e-12)
        fisher = scipy.stats.combine_pvalues([s["p_value"] for s in summaries], method="fisher").pvalue
        assert row["p_value"] == pytest.approx(fisher, rel=1e-9)
        assert row["p_largest"] == pytest.approx(1 - (1 - 2 * scipy.stats.norm.sf(row["largest"])) ** 30, rel=1e-9)
        assert row["verdict"] == "agrees"
    summary = {s["kernel"]: s for s in findings.record["summary"]}
    p_values = [seed["ck"]["z"]["p_value"] for seed in numbers["seeds"]]
    assert summary["ck"]["ks_p_value"] == pytest.approx(scipy.stats.kstest(p_values, "uniform").pvalue)
    assert "no front end" in rows["ck"]["data"]


def test_a_wrong_kernel_fails_by_name(unit):
    unit, numbers = unit
    wrong = json.loads(json.dumps(numbers))
    for seed in wrong["seeds"]:
        seed["aA"]["z"] |= {"p_value": 1e-6, "std": 3.0}
    units = [("identity", unit.sources[0], Outcome(numbers)), ("relu", unit.sources[0], Outcome(wrong))]
    findings = score_findings(units, experiment("identity", "relu").to_dict())
    verdicts = {(row["activation"], row["kernel"]): row["verdict"] for row in findings.record["rows"]}
    assert [key for key, verdict in verdicts.items() if verdict == "FAILS"] == [("relu", "aA")]
    assert any(
        r.startswith("FAILED, 1 of 6 kernels: relu aA (Gaussian mixture (structured))") for r in findings.remarks
    )


def test_holm_against_its_definition():
    # 4 * 0.01, then 3 * 0.02, then max(0.06, 2 * 0.025), then max(0.06, 0.8)
    assert holm([0.02, 0.8, 0.01, 0.025]) == pytest.approx([0.06, 0.8, 0.04, 0.06])
    assert holm([0.7, 0.6]) == [1.0, 1.0]


def test_a_variance_that_is_too_large_is_halved_and_named(tmp_path):
    findings = run_experiment(experiment("square", sigma_a2="0.1", sigma_b2="0.5"), tmp_path)
    (row,) = findings.record["variances"]
    assert row["sigma_a2"] < 0.1
    assert math.log2(0.1 / row["sigma_a2"]) == pytest.approx(round(math.log2(0.1 / row["sigma_a2"])), abs=1e-12)
    assert "square" in row["reason"]
    assert any("square (Gaussian mixture (structured)) sigma_a^2 =" in remark for remark in findings.remarks)
    assert "not at" in (tmp_path / "summary.md").read_text()


def test_variances_are_fractions_too_and_are_checked():
    """1/3 and its halves have no finite decimal."""
    (unit,) = experiment("tanh", sigma_a2="1/3", sigma_b2="2/3").units()
    assert unit.describe()["deq"]["sigma_a2"] == "1/3"
    assert unit._deq(2).sigma_a2 == Fraction(1, 12)
    json.dumps(experiment("tanh", sigma_a2=Fraction(1, 3)).to_dict())
    for wrong in ({"sigma_a2": "abc"}, {"sigma_a2": "-1"}, {"sigma_b2": "0"}):
        with pytest.raises(InputError, match=r"sigma_[ab]2 must be a (non-negative|positive) finite number; got"):
            experiment("tanh", **wrong)


def test_no_variance_works():
    source = MixtureSource("structured", 64, 4, 0)
    # sigma_b2 tau0^2 = 400: exp overflows whatever sigma_a2
    unit = ScoresUnit("exp", (source,) * 3, (0, 1, 2), (16, 24, 32, 48), 4, "0.2", "400")
    with pytest.raises(SolutionError, match=r"exp: no sigma_a2 from 0.2 down to .* networks that converge; .*exp"):
        unit.measure()


def test_a_run_resumes_and_reports_what_fails(tmp_path, monkeypatch):
    chosen = experiment("tanh", "sign")
    first = run_experiment(chosen, tmp_path)
    record = json.loads((tmp_path / "results.json").read_text())
    assert len(record["failures"]) == 1
    assert "jumps at x = 0" in record["failures"][0]
    assert {row["activation"] for row in record["rows"]} == {"tanh"}
    for name in ("figures/scores.png", "figures/corrections.pdf", "tables/scores-1.tex", "tables/summary.csv"):
        assert (tmp_path / name).stat().st_size > 0

    def refuse(self):
        raise InputError(f"{self.name} was to be measured again")

    monkeypatch.setattr(ScoresUnit, "measure", refuse)
    again = run_experiment(chosen, tmp_path)
    assert again.record == first.record
    assert (tmp_path / "summary.md").read_text().count("tanh") >= 3


def test_figures_of_the_findings(tmp_path, unit):
    unit, numbers = unit
    findings = score_findings([("identity", unit.sources[0], Outcome(numbers))], experiment("identity").to_dict())
    assert set(findings.figures) == {"scores", "corrections"}
    for name, drawing in findings.figures.items():
        save_figure(tmp_path / f"{name}.svg", drawing.draw, json.loads(json.dumps(drawing.data, allow_nan=False)))
        assert (tmp_path / f"{name}.svg").stat().st_size > 1000


def test_every_name_without_jumps_is_taken():
    chosen, jumping = smooth_names()
    assert set(jumping) == {"hard_shrink", "sign", "heaviside"}
    assert len(chosen) == 37
    assert Scores().chosen == chosen
    units = Scores(n=4, data=("gmm", "digits")).units()
    assert len(units) == 2 * len(chosen)
    assert len({json.dumps(unit.describe()) for unit in units}) == len(units)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": (0, 1)}, "3 or more different seeds"),
        ({"widths": (16, 32, 64)}, "4 or more different widths"),
        ({"draws": 3}, "draws must be a whole number, 4 or more"),
        ({"n": 1}, "n must be a whole number, 2 or more"),
    ],
)
def test_bad_sizes(options, message):
    with pytest.raises(InputError, match=message):
        experiment("tanh", **options)


def test_the_command(tmp_path, capsys):
    from equikernel.cli.experiments.scores import scores

    scores(tmp_path, ["tanh"], ["gmm"], draws=4, threads=1, quick=True)
    said = capsys.readouterr().out
    assert "1 activations" in said
    assert str(tmp_path / "summary.md") in said
