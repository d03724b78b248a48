"""Sentences of ``equikernel experiment statistics``: what disagrees first, then what the simulations show."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from equikernel.theory.initialisation_scales import MATCHES
from equikernel.validation.paper.scores.statistics import SIGNIFICANCE, holm
from equikernel.validation.paper.statistics.ranking import contradictions, crossing_length, order
from equikernel.validation.paper.statistics.sweeps import LINEAR

__all__ = ["remarks"]

_FAR = 3.0  # standard errors


def remarks(record: dict[str, Any]) -> tuple[str, ...]:
    """In the order in which they matter."""
    return tuple(
        itertools.chain(
            _disagreements(record),
            _agreement(record),
            _curved(record),
            _typical(record),
            _finite_size(record),
            _rankings(record),
            _edges(record),
        )
    )


def _named(row: dict[str, Any]) -> str:
    return f"{row['quantity']} ({row['family']}, {row['parameters']})"


def _disagreements(record: dict[str, Any]) -> Iterator[str]:
    for row in record["comparisons"]:
        if row["verdict"] != "agrees" or abs(row["z"]) > 3:
            held = "differs from" if row["verdict"] != "agrees" else "is beyond 3 standard errors of"
            yield (
                f"{_named(row)}: the simulated limit {row['limit']:.6g} ± {row['limit_error']:.2g} {held} the "
                f"prediction {row['prediction']:.6g} (z = {row['z']:.2f}, Holm p = {row['holm']:.2g})."
            )


def _agreement(record: dict[str, Any]) -> Iterator[str]:
    for row in record["overview"][:3]:
        yield (
            f"{row['name']}: {row['count']} comparisons, max |z| = {row['largest']:.2f} (bound {row['bound']:.2f}), "
            f"rms {row['rms']:.2f}, {row['beyond3']} beyond 3 ({row['expected3']:.1f} expected), smallest Holm p "
            f"{row['smallest_holm']:.2g}, Kolmogorov-Smirnov p {row['ks_p_value']:.2g}."
        )


def _curved(record: dict[str, Any]) -> Iterator[str]:
    """Fits that a straight line does not describe: the sizes are too small for limit + c/N."""
    fitted = [row for row in record["comparisons"] if row["misfit_p"] is not None]
    adjusted = holm([row["misfit_p"] for row in fitted]) if fitted else []
    bent = [row for row, p in zip(fitted, adjusted, strict=True) if p < SIGNIFICANCE]
    if bent:
        yield (
            f"A straight line in 1/N does not describe {len(bent)} of {len(fitted)} comparisons (p < {SIGNIFICANCE:g} "
            f"after Holm), whose limits may be off by O(1/N²): {'; '.join(_named(row) for row in bent)}."
        )


def _typical(record: dict[str, Any]) -> Iterator[str]:
    rows = record["escapes"]
    if rows:
        worst = max(rows, key=lambda row: float(row["log10_probability"]))
        yield (
            "E r is infinite at finite N for iid and goe weights. The sample means compared here are typical values: "
            f"an eigenvalue beyond 1 has probability 10^{worst['log10_probability']:.0f} or less for each matrix "
            f"({worst['family']}, σ = {worst['sigma']:g}, N = {worst['size']}). Near the edge medians and "
            "interquartile ranges are compared, which tend to τ(P) and to N Var r because r becomes Gaussian."
        )


def _finite_size(record: dict[str, Any]) -> Iterator[str]:
    """Points of the figures that lie off the curves: there N is too small for the limit."""
    off = [
        f"{'linear' if row['act'] == LINEAR else row['act']}, {row['family']}, σ = {row['sigma']:.3g}: "
        f"{row['length']:.3f} ± {row['length_error']:.3f} against {row['prediction']:.3f}"
        for row in record["sweep"]
        if row["length_error"] and abs(row["length"] - row["prediction"]) > _FAR * row["length_error"]
    ]
    if off:
        yield (
            f"In the figures, N = {record['sweep'][0]['size']} without extrapolation, the median length is more than "
            f"{_FAR:g} standard errors off its limit at {'; '.join(off)}."
        )
    late = [row for row in record["sweep"] if row["unsettled"] > 0]
    if late:
        parts = [
            f"{row['act']}, {row['family']}, σ = {row['sigma']:.3g}: {100 * row['unsettled']:.1f} %" for row in late
        ]
        yield f"Iterations that had not settled when they were stopped, whose last state was taken: {'; '.join(parts)}."


def _rankings(record: dict[str, Any]) -> Iterator[str]:
    for act in dict.fromkeys(row["act"] for row in record["ranking"]):
        parts = []
        for match in MATCHES:
            rows = [row for row in record["ranking"] if (row["act"], row["match"]) == (act, match)]
            if len(rows) < 2:
                continue
            against = contradictions(rows)
            seen = f"but simulated {'; '.join(against)}" if against else "no pair is simulated the other way round"
            parts.append(
                f"{match.replace('_', ' ')} {rows[0]['value']:.3g}: {order(rows, 'noise_prediction')} ({seen})"
            )
        if parts:
            name = "Linear networks" if act == LINEAR else f"Networks with {act}"
            yield f"{name}, relative fluctuation N Var/mean² of |z*|², ranked at equal {'; at equal '.join(parts)}."
    if record["ranking"]:
        yield (
            "The talk's ‖W‖ → 1 does not say whether ‖W‖ is the radius or the operator norm, which differ by a factor "
            "of 2 for iid weights, and the ranking depends on it. At equal mean length q of linear networks goe "
            f"weights fluctuate more than iid weights for q > {crossing_length():.4f}."
        )


def _edges(record: dict[str, Any]) -> Iterator[str]:
    parts = [
        f"{row['family']} {row['quantity'].removeprefix('exponent of ')} {row['value']:.2f} [{row['low']:.2f}, "
        f"{row['high']:.2f}] (formula over the same ε {row['formula']:.2f}, ε → 0 {row['limit']:g})"
        for row in record["exponents"]
    ]
    if parts:
        yield f"Exponents of divergence: {'; '.join(parts)}."
