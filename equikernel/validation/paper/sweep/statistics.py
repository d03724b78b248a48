"""What the runs of a sweep show: spread over seeds, and differences between families seed by seed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scipy.stats import t as student

from equikernel.validation.paper.experiment import spread
from equikernel.validation.paper.scores.statistics import holm
from equikernel.validation.paper.sweep.config import Cell, SweepConfig
from equikernel.validation.paper.training.rows import half_width

__all__ = ["LEVEL", "METRICS", "Results", "effects_of_size", "paired_rows", "pooled_rows", "summary_rows"]

LEVEL = 0.05  # of adjusted p-values; intervals are of 95 %
METRICS = ("loss", "accuracy")
_PAIRS = (("orthogonal", "iid"), ("goe", "iid"), ("goe", "orthogonal"))
_DIRECTIONS = ("forward", "backward")
Numbers = dict[str, Any]


@dataclass(frozen=True)
class Results:
    """The runs of a sweep.

    Attributes:
        config: what was asked for.
        runs: the numbers of every cell and seed, None of those that failed.
        classes: K: an accuracy by chance is 1/K.
    """

    config: SweepConfig
    runs: Mapping[tuple[Cell, int], Numbers | None]
    classes: int

    def measured(self, cell: Cell) -> dict[int, Numbers]:
        """By seed, divergences among them."""
        found = {seed: self.runs.get((cell, seed)) for seed in self.config.seeds}
        return {seed: numbers for seed, numbers in found.items() if numbers is not None}

    def finished(self, cell: Cell) -> dict[int, Numbers]:
        """By seed, of the runs that did not diverge."""
        return {seed: numbers for seed, numbers in self.measured(cell).items() if numbers["diverged"] is None}

    def accuracy_with_chance(self, cell: Cell) -> dict[int, float]:
        """By seed, 1/K for a divergence."""
        return {
            seed: 1.0 / self.classes if numbers["diverged"] is not None else float(numbers["accuracy"])
            for seed, numbers in self.measured(cell).items()
        }


def summary_rows(results: Results) -> list[dict[str, Any]]:
    """A row for each matched quantity, value and family."""
    config = results.config
    return [
        {"match": match, "value": value, **_cell_row(results, config.cell(family, match, value))}
        for match in config.matches
        for value in config.values
        for family in config.families
    ]


def _cell_row(results: Results, cell: Cell) -> dict[str, Any]:
    measured, finished = results.measured(cell), list(results.finished(cell).values())
    asked = len(results.config.seeds)
    row: dict[str, Any] = {
        **asdict(cell),
        "asked": asked,
        "runs": len(finished),
        "diverged": len(measured) - len(finished),
        "failed": asked - len(measured),
    }
    for metric in METRICS:
        row |= _spread_entries(metric, [numbers[metric] for numbers in finished])
    row |= _spread_entries("accuracy_with_chance", list(results.accuracy_with_chance(cell).values()))
    for direction in _DIRECTIONS:
        for key in ("unconverged_samples", "unconverged_solves", "iterations"):
            row[f"{direction}_{key}"] = _mean([n[direction] and n[direction][key] for n in measured.values()])
    for stage in ("start", "end"):
        for key in ("asymmetry", "radius", *(("moved",) if stage == "end" else ("length", "jacobian_radius"))):
            row |= _mean_entries(f"{stage}_{key}", [n[stage] and n[stage][key] for n in measured.values()])
    row |= _against_theory([numbers["start"] for numbers in measured.values()])
    row["start_unconverged"] = _mean([n["start"]["solves"]["unconverged_samples"] for n in measured.values()])
    row["test_unconverged"] = _mean([n["end"] and n["end"]["test"]["unconverged_samples"] for n in measured.values()])
    return row


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _mean_entries(name: str, values: Sequence[float | None]) -> dict[str, float | None]:
    known = [value for value in values if value is not None]
    if not known:
        return {f"{name}_mean": None, f"{name}_sd": None}
    found = spread(known)
    return {f"{name}_mean": found.mean, f"{name}_sd": found.sd}


def _against_theory(starts: Sequence[Numbers]) -> dict[str, Any]:
    """The predictions for the networks themselves, and |z|^2/N relative to its own, less 1; stable: in all of them."""
    theory = [start["predicted"] for start in starts]
    row: dict[str, Any] = {}
    for key in ("length", "length_mixed", "radius"):
        row |= _mean_entries(f"predicted_{key}", [found[key] for found in theory])
    ratios = [
        start["length"] / found["length_mixed"] - 1
        for start, found in zip(starts, theory, strict=True)
        if found["length_mixed"] and start["length"]
    ]
    return {
        **row,
        **_spread_entries("deviation", ratios),
        "predicted_stable": bool(theory) and all(found["stable"] for found in theory),
        "predicted_why": next((found["why"] for found in theory if found["why"]), None),
    }


def _spread_entries(name: str, values: Sequence[float]) -> dict[str, float | None]:
    if not values:
        return dict.fromkeys((f"{name}_{key}" for key in ("min", "mean", "sd", "max", "half")), None)
    found = spread(values)
    return {
        f"{name}_min": min(values),
        f"{name}_mean": found.mean,
        f"{name}_sd": found.sd,
        f"{name}_max": max(values),
        f"{name}_half": half_width(found),
    }


def paired_rows(results: Results) -> list[dict[str, Any]]:
    """Differences between two families of equal matched quantity, first minus second, seed by seed.

    At one seed the families share the normal numbers of W, and U, V and the order of the samples are the same. Adjusted
    p-values are Holm's, for all pairs and values of one matched quantity and one metric.
    """
    rows = []
    for match in results.config.matches:
        own = [
            {"match": match, "value": value} | _pair_row(results, match, (value,), pair)
            for value in results.config.values
            for pair in _pairs(results)
        ]
        _adjust(own)
        rows += own
    return rows


def pooled_rows(results: Results) -> list[dict[str, Any]]:
    """As ``paired_rows``, of means over all values, of the seeds that have finished them all; value "all"."""
    rows = []
    for match in results.config.matches:
        own = [
            {"match": match, "value": "all"} | _pair_row(results, match, results.config.values, pair)
            for pair in _pairs(results)
        ]
        _adjust(own)
        rows += own
    return rows


def _pairs(results: Results) -> list[tuple[str, str]]:
    return [pair for pair in _PAIRS if set(pair) <= set(results.config.families)]


def _pair_row(results: Results, match: str, values: Sequence[float], pair: tuple[str, str]) -> dict[str, Any]:
    cells = [[results.config.cell(family, match, value) for value in values] for family in pair]
    row: dict[str, Any] = {"first": pair[0], "second": pair[1]}
    for metric in METRICS:
        row |= _difference(metric, *(_averaged([_column(results, c, metric) for c in own]) for own in cells))
    with_chance = (_averaged([results.accuracy_with_chance(c) for c in own]) for own in cells)
    return row | _difference("accuracy_with_chance", *with_chance)


def _averaged(columns: Sequence[dict[int, float]]) -> dict[int, float]:
    """Mean over the columns, for every seed that is in all of them."""
    common = set(columns[0]).intersection(*columns[1:])
    return {seed: statistics.fmean(column[seed] for column in columns) for seed in common}


def _column(results: Results, cell: Cell, metric: str) -> dict[int, float]:
    return {seed: float(numbers[metric]) for seed, numbers in results.finished(cell).items()}


def _difference(name: str, first: dict[int, float], second: dict[int, float]) -> dict[str, Any]:
    """Mean, Student's 95 % interval and p-value of the paired differences, and at how many seeds they are positive."""
    differences = [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]
    keys = ("difference", "half", "p", "pairs", "positive")
    if len(differences) < 2:
        return {f"{name}_{key}": None for key in keys} | {f"{name}_pairs": len(differences)}
    found = spread(differences)
    if found.sd:
        t = found.mean / (found.sd / math.sqrt(found.values))
        p = float(2.0 * student.sf(abs(t), found.values - 1))
    else:  # all differences are equal: Student's test has nothing to say, a sign test has
        p = 2.0 ** (1 - found.values) if found.mean else 1.0
    numbers = (found.mean, half_width(found), p, len(differences), sum(d > 0 for d in differences))
    return {f"{name}_{key}": number for key, number in zip(keys, numbers, strict=True)}


def _adjust(rows: Sequence[dict[str, Any]]) -> None:
    """Add Holm's p-values over the rows, and who is better."""
    for metric in METRICS:
        known = [row for row in rows if row[f"{metric}_p"] is not None]
        for row in rows:
            row |= {f"{metric}_holm": None, f"{metric}_better": None}
        for row, adjusted in zip(known, holm([row[f"{metric}_p"] for row in known]), strict=True):
            row[f"{metric}_holm"] = adjusted
            if adjusted < LEVEL:
                higher = row[f"{metric}_difference"] > 0
                row[f"{metric}_better"] = row["first"] if higher == (metric == "accuracy") else row["second"]


def effects_of_size(results: Results) -> list[dict[str, Any]]:
    """What larger initial weights do to each family: a row for each matched quantity and family.

    ``best``: the value of least mean test loss among those without a divergence, chosen on the test samples.
    ``usable``: the largest value without a divergence whose loss minus that of ``best``, seed by seed, has a 95 %
    interval that reaches down to 0. ``loss_*`` and ``accuracy_*``: the largest value minus the smallest, seed by seed.
    ``best_loss_*``: the loss of this family minus that of iid, each at its own best value.
    """
    rows = []
    for match in results.config.matches:
        own = [_size_row(results, match, family) for family in results.config.families]
        reference = next((row for row in own if row["family"] == "iid" and row["best"] is not None), None)
        rows += [row | _against_reference(results, row, reference) for row in own]
    return rows


def _against_reference(results: Results, row: Numbers, reference: Numbers | None) -> Numbers:
    if reference is None or row["best"] is None:
        return {}
    bests = (_losses(results, r["match"], r["family"])(r["best"]) for r in (row, reference))
    return _difference("best_loss", *bests)


def _losses(results: Results, match: str, family: str) -> Callable[[float], dict[int, float]]:
    return lambda value: _column(results, results.config.cell(family, match, value), "loss")


def _size_row(results: Results, match: str, family: str) -> dict[str, Any]:
    config, losses = results.config, _losses(results, match, family)
    ends = [config.cell(family, match, value) for value in (config.values[-1], config.values[0])]
    row: dict[str, Any] = {"match": match, "family": family, "best": None, "usable": None, "best_loss_mean": None}
    for metric in METRICS:
        row |= _difference(metric, *(_column(results, cell, metric) for cell in ends))
    sound = [v for v in config.values if len(losses(v)) == len(results.measured(config.cell(family, match, v))) > 0]
    if not sound:
        return row
    means = {value: statistics.fmean(losses(value).values()) for value in sound}
    best = min(sound, key=means.__getitem__)
    usable = max(value for value in sound if value == best or not _clearly_worse(losses(value), losses(best)))
    return row | {"best": best, "best_loss_mean": means[best], "usable": usable}


def _clearly_worse(loss: dict[int, float], best: dict[int, float]) -> bool:
    found = _difference("loss", loss, best)
    return found["loss_half"] is not None and found["loss_difference"] > found["loss_half"]
