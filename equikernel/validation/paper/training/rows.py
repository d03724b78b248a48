"""The numbers of the training experiment, as rows: what the runs of one data set and activation show together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from scipy.stats import t as student

from equikernel.validation.experiments.study import Outcome
from equikernel.validation.paper.experiment import Spread, spread
from equikernel.validation.paper.training.equal_accuracy import Ladder, speed_ups
from equikernel.validation.paper.training.learning_rates import ChosenRate

__all__ = [
    "EXPLICIT",
    "Panel",
    "Run",
    "curve_rows",
    "equal_accuracy_rows",
    "half_width",
    "rate_row",
    "same_width_rows",
    "summary_rows",
]

EXPLICIT = ("equivalent", "naive")
_LEVEL = 0.95
_TIMES = ("training_seconds", "inference_seconds")
_NUMBERS = ("accuracy", *_TIMES, "training_cpu_seconds")
_SIZES = ("parameters", "parameter_bytes", "optimiser_bytes", "kept_bytes", "peak_device_bytes")


class Run(NamedTuple):
    """A trained network, or the sentence that says why there is none."""

    data: str
    activation: str
    network: str
    width: int
    seed: int
    outcome: Outcome


@dataclass(frozen=True)
class Panel:
    """The runs of one data set and activation.

    Attributes:
        data: the data set and its front end. short_data: the same, shorter. test: the number of test samples.
    """

    data: str
    short_data: str
    test: int
    activation: str
    runs: tuple[Run, ...]

    @property
    def title(self) -> str:
        """For figures and sentences."""
        return f"{self.activation}, {self.short_data}"

    def numbers(self, network: str, width: int) -> dict[int, dict[str, Any]]:
        """By seed."""
        return {
            run.seed: run.outcome.numbers
            for run in self.runs
            if (run.network, run.width) == (network, width) and run.outcome.numbers is not None
        }

    def own(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows of this data set and activation."""
        return [row for row in rows if (row["data"], row["activation"]) == (self.data, self.activation)]

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(sorted({run.width for run in self.runs}))

    def ladder(self, network: str) -> Ladder:
        """Of the widths at which there are runs."""
        found = {width: list(self.numbers(network, width).values()) for width in self.widths}
        rungs = {width: runs for width, runs in found.items() if runs}

        def column(key: str) -> tuple[tuple[float, ...], ...]:
            return tuple(tuple(float(run[key]) for run in runs) for runs in rungs.values())

        return Ladder(tuple(rungs), column("accuracy"), {kind: column(kind) for kind in _TIMES})


def summary_rows(panel: Panel) -> list[dict[str, Any]]:
    """Mean and spread over seeds of every network and width."""
    rows = []
    for network in ("deq", *EXPLICIT):
        for width in panel.widths:
            asked = sum((run.network, run.width) == (network, width) for run in panel.runs)
            if not asked:
                continue
            found = list(panel.numbers(network, width).values())
            row: dict[str, Any] = {
                "data": panel.data,
                "activation": panel.activation,
                "network": network,
                "width": width,
                "runs": len(found),
                "runs_shown": f"{len(found)} of {asked}",
            }
            if found:
                row |= {name: found[0][name] for name in (*_SIZES, "multiple", "learning_rate")}
                for name in _NUMBERS:
                    row |= _spread_entries(name, spread([run[name] for run in found]))
                row |= _iterations(found)
            rows.append(row)
    return rows


def _spread_entries(name: str, value: Spread, percent: bool | None = None) -> dict[str, Any]:
    scale = 100.0 if (name == "accuracy" if percent is None else percent) else 1.0
    scaled = Spread(scale * value.mean, None if value.sd is None else scale * value.sd, value.values)
    form = ".2f" if scale > 1 else ".3g"
    return {f"{name}_mean": value.mean, f"{name}_sd": value.sd, f"{name}_shown": scaled.shown(form)}


def _iterations(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for direction in ("forward", "backward"):
        counts = [run["iterations"][direction] for run in found if run["iterations"] is not None]
        row[f"{direction}_iterations"] = spread([c["mean"] for c in counts]).mean if counts else None
        row[f"{direction}_most"] = max((c["largest"] for c in counts), default=None)
    return row


def same_width_rows(panel: Panel) -> list[dict[str, Any]]:
    """Explicit networks against the DEQ of the same width, seed by seed."""
    rows = []
    for network in EXPLICIT:
        for width in panel.widths:
            deq, other = panel.numbers("deq", width), panel.numbers(network, width)
            seeds = sorted(deq.keys() & other.keys())
            if not seeds:
                continue
            differences = [other[s]["accuracy"] - deq[s]["accuracy"] for s in seeds]
            difference = spread(differences)
            half = half_width(difference)
            row: dict[str, Any] = {
                "data": panel.data,
                "activation": panel.activation,
                "network": network,
                "width": width,
                "pairs": len(seeds),
                **_spread_entries("difference", difference, percent=True),
                "differences": differences,
                "difference_half_width": half,
                "differs": None if half is None else abs(difference.mean) > half,
                "parameter_ratio": deq[seeds[0]]["parameters"] / other[seeds[0]]["parameters"],
                "kept_ratio": deq[seeds[0]]["kept_bytes"] / other[seeds[0]]["kept_bytes"],
            }
            for kind in (*_TIMES, "training_cpu_seconds"):
                row |= _spread_entries(f"{kind}_ratio", spread([deq[s][kind] / other[s][kind] for s in seeds]))
            rows.append(row)
    return rows


def half_width(value: Spread) -> float | None:
    """Of Student's 95 % interval of the mean; None of one value."""
    if value.sd is None:
        return None
    return float(student.ppf((1 + _LEVEL) / 2, value.values - 1)) * value.sd / math.sqrt(value.values)


def equal_accuracy_rows(panel: Panel) -> list[dict[str, Any]]:
    """Speed-ups of the explicit networks at the accuracies of the DEQ, and to within the standard error of these."""
    deq = panel.ladder("deq")
    rows = []
    for network in EXPLICIT:
        other = panel.ladder(network)
        if not deq.widths or not other.widths:
            continue
        exact = [speed_ups(deq, other, kind) for kind in _TIMES]
        within = [speed_ups(deq, other, kind, test_size=panel.test) for kind in _TIMES]
        for results in zip(*exact, *within, strict=True):
            first, slack = results[0], results[-1].slack
            row: dict[str, Any] = {
                "data": panel.data,
                "activation": panel.activation,
                "network": network,
                "target": first.target,
                "target_percent": 100 * first.target,
                "slack_percent": 100 * slack,
                "reference_width": first.reference_width,
                "width": first.width,
                "reached": first.reached,
            }
            names = ("training", "inference", "training_within", "inference_within")
            for name, result in zip(names, results, strict=True):
                row[name] = result.to_dict()
                row[f"{name}_shown"] = _shown_speed_up(result.to_dict())
                row[f"{name}_stepped"] = result.stepped
            rows.append(row)
    return rows


def _shown_speed_up(result: dict[str, Any]) -> str:
    if result["ratio"] is None:
        return "not reached"
    text = f"{'≥ ' if result['at_least'] else ''}{result['ratio']:.3g}"
    if result["low"] is None:
        return text
    low, high = (f"{result[end]:.3g}" if result[end] else "not reached" for end in ("low", "high"))
    return f"{text} ({low} to {high})"


def rate_row(rate: ChosenRate) -> dict[str, Any]:
    """What was tried and chosen."""
    return {
        "data": rate.source.title,
        "activation": rate.contender.deq.activation.name,
        "network": rate.contender.kind,
        "width": rate.width,
        "multiple": rate.multiple,
        "at_edge": rate.at_edge,
        "seconds": rate.seconds,
        "tried": [{"multiple": multiple, "accuracy": accuracy} for multiple, accuracy in rate.tried],
        "tried_shown": ", ".join(
            f"{multiple:g}: {'diverged' if accuracy is None else f'{100 * accuracy:.1f}'}"
            for multiple, accuracy in rate.tried
        ),
        "failures": list(rate.failures),
    }


def curve_rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Accuracy, loss and seconds after every epoch, of every run."""
    return [
        {
            "data": run.data,
            "activation": run.activation,
            "network": run.network,
            "width": run.width,
            "seed": run.seed,
            "epochs": run.outcome.numbers["epochs"],
        }
        for run in runs
        if run.outcome.numbers is not None
    ]
