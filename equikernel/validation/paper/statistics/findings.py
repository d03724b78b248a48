"""What the measured cases, sweeps and spectra show together: rows, tables, figures, sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from equikernel.theory.initialisation import DIVERGENCE
from equikernel.validation.experiments.study import Outcome
from equikernel.validation.paper.experiment import Drawing, Findings
from equikernel.validation.paper.statistics import figures
from equikernel.validation.paper.statistics.comparisons import compare, judged, overview
from equikernel.validation.paper.statistics.edges import EDGE_GROUP
from equikernel.validation.paper.statistics.formulas import Case, CaseUnit, Measured
from equikernel.validation.paper.statistics.linear import LinearCase, escape_exponent
from equikernel.validation.paper.statistics.ranking import ranking_rows
from equikernel.validation.paper.statistics.remarks import remarks
from equikernel.validation.paper.statistics.sweeps import LINEAR, SpectrumUnit, SweepUnit
from equikernel.validation.paper.statistics.tables import tables

__all__ = ["Results", "statistics_findings"]

Row = dict[str, Any]


@dataclass(frozen=True)
class Results:
    """Units with their outcomes: of each case, of the sweeps, of the ranking, of the spectra."""

    cases: list[tuple[Case, list[tuple[CaseUnit, Outcome]]]]
    sweep: list[tuple[SweepUnit, Outcome]]
    ranks: list[tuple[SweepUnit, Outcome]]
    spectra: list[tuple[SpectrumUnit, Outcome]]


def statistics_findings(results: Results) -> Findings:
    """All tables, figures and remarks; what failed is left out and told by ``run_experiment``."""
    rows = judged([row for case, block in results.cases for row in _rows(case, block)])
    sweep, ranks = _records(results.sweep), ranking_rows(_records(results.ranks))
    record: dict[str, Any] = {
        "comparisons": rows,
        "overview": _overviews(rows),
        "exponents": _exponents(rows),
        "escapes": [row for case, block in results.cases if isinstance(case, LinearCase) for row in _escapes(block)],
        "sweep": sweep,
        "ranking": ranks,
        "spectra": [
            {"act": unit.act, "family": unit.family, "size": unit.size}
            | {key: outcome.numbers[key] for key in ("sigma", "radius", "largest")}
            for unit, outcome in results.spectra
            if outcome.numbers is not None
        ],
    }
    return Findings(record, tables(record), _figures(results, rows, sweep), remarks(record))


def _rows(case: Case, block: Sequence[tuple[CaseUnit, Outcome]]) -> list[Row]:
    """The comparisons of one case; sizes that failed are left out, and cases of which too little is left."""
    done = [(unit.size, outcome.numbers) for unit, outcome in block if outcome.numbers is not None]
    rows = []
    for formula in case.formulas():
        if len(done) < (1 if formula.trend is None else 2):
            continue
        measured = [Measured(*numbers[formula.quantity]) for _, numbers in done]
        about = {"group": case.group, "family": case.family, "parameters": case.parameters}
        rows.append(about | compare(formula, [size for size, _ in done], measured))
    return rows


def _overviews(rows: Sequence[Row]) -> list[Row]:
    """Of all limits, of the two largest sizes, and of each group of formulas."""
    if not rows:
        return []
    scores = {"all formulas, N → ∞ (or exact N)": [row["z"] for row in rows]}
    trends = [row for row in rows if row["trend"] is not None]
    for place, name in ((-2, "all formulas, second largest N"), (-1, "all formulas, largest N")):
        if trends:
            scores[name] = [row["size_z"][place] for row in trends]
    for group in dict.fromkeys(row["group"] for row in rows):
        scores[group] = [row["z"] for row in rows if row["group"] == group]
    return [overview(name, values) for name, values in scores.items()]


def _exponents(rows: Sequence[Row]) -> list[Row]:
    """Measured at the largest N, beside the slope of the formula over the same eps and its limit as eps -> 0."""
    found = []
    for row in rows:
        if not row["quantity"].startswith("exponent"):
            continue
        limits = DIVERGENCE[row["family"]]
        limit = limits.length if row["quantity"] == "exponent of r" else limits.length_noise
        value, error = row["values"][-1], row["errors"][-1]
        found.append(
            {
                "family": row["family"],
                "quantity": row["quantity"],
                "eps": row["parameters"],
                "size": row["sizes"][-1],
                "value": value,
                "low": value - 1.96 * error,
                "high": value + 1.96 * error,
                "formula": row["prediction"],
                "limit": float(limit),
                "z": row["z"],
            }
        )
    return found


def _escapes(block: Sequence[tuple[CaseUnit, Outcome]]) -> list[Row]:
    """At each size of a linear case: how unlikely it is that E r = infinity shows."""
    found = []
    for unit, _ in block:
        case = unit.case
        exponent = escape_exponent(case.family, case.sigma, unit.size) if isinstance(case, LinearCase) else None
        if exponent is not None and isinstance(case, LinearCase):
            found.append(
                {
                    "family": case.family,
                    "sigma": case.sigma,
                    "size": unit.size,
                    "count": unit.count,
                    "log10_probability": exponent,
                }
            )
    return found


def _records(points: Sequence[tuple[SweepUnit, Outcome]]) -> list[Row]:
    return [unit.record(outcome.numbers) for unit, outcome in points if outcome.numbers is not None]


def _figures(results: Results, rows: Sequence[Row], sweep: Sequence[Row]) -> dict[str, Drawing]:
    found = {}
    for act in dict.fromkeys(row["act"] for row in sweep):
        name = "linear" if act == LINEAR else "nonlinear"
        own = [row for row in sweep if row["act"] == act]
        found[f"lengths_{name}"] = Drawing(figures.draw_lengths, figures.with_curves(own))
    noises = [row for row in rows if row["quantity"] in figures.NOISES and row["group"] in figures.NOISES.values()]
    if noises:
        found["noise_over_size"] = Drawing(figures.draw_noises, noises)
    spectra = [
        {"act": unit.act, "family": unit.family, "size": unit.size, **outcome.numbers}
        for unit, outcome in results.spectra
        if outcome.numbers is not None
    ]
    if spectra:
        found["spectra"] = Drawing(figures.draw_spectra, spectra)
    near = [row for row in rows if row["group"] == EDGE_GROUP]
    if near:
        found["exponents"] = Drawing(figures.draw_exponents, near)
    if rows:
        found["scores"] = Drawing(figures.draw_scores, [row["z"] for row in rows])
    return found
