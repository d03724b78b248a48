"""What the training experiment has to say, in sentences with the measured numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from equikernel.validation.paper.experiment import spread
from equikernel.validation.paper.training.learning_rates import ChosenRate
from equikernel.validation.paper.training.rows import EXPLICIT, Panel, half_width

__all__ = ["panel_remarks", "rate_remarks"]


def panel_remarks(panel: Panel, record: dict[str, Any]) -> list[str]:
    """Accuracies, speed-ups and failures of one data set and activation.

    Args:
        panel: its runs.
        record: all rows.
    """
    sentences = []
    for network in EXPLICIT:
        rows = [row for row in panel.own(record["same_width"]) if row["network"] == network]
        if rows:
            sentences.append(_accuracy_sentence(panel, network, rows))
        rows = [row for row in panel.own(record["equal_accuracy"]) if row["network"] == network]
        if rows:
            sentences.append(_speed_sentence(panel, network, rows))
    failed = [run for run in panel.runs if run.outcome.numbers is None]
    if failed:
        first = failed[0]
        sentences.append(
            f"{panel.title}: {len(failed)} of {len(panel.runs)} runs gave no numbers, the first of them "
            f"{first.network} of width {first.width} with seed {first.seed}: {first.outcome.failure}"
        )
    return sentences


def _accuracy_sentence(panel: Panel, network: str, rows: Sequence[dict[str, Any]]) -> str:
    differing = [row for row in rows if row["differs"]]
    verdict = (
        "no width has a 95 % interval (Student's, over seeds) that excludes 0"
        if not differing
        else "the 95 % interval (Student's, over seeds) excludes 0 at "
        + ("width " if len(differing) == 1 else "widths ")
        + ", ".join(f"{row['width']} ({row['difference_shown']})" for row in differing)
    )
    return (
        f"{panel.title}: accuracy of the {network} network minus that of the DEQ of the same width, in per cent: "
        + ", ".join(f"{row['difference_shown']} at {row['width']}" for row in rows)
        + f"; {verdict}{_together(rows)}. Training the DEQ takes "
        + ", ".join(row["training_seconds_ratio_shown"] for row in rows)
        + " times as long, inference "
        + ", ".join(row["inference_seconds_ratio_shown"] for row in rows)
        + " times."
    )


def _together(rows: Sequence[dict[str, Any]]) -> str:
    """Of all widths, whose networks are independent of each other."""
    pairs = [difference for row in rows for difference in row["differences"]]
    if len(rows) < 2:
        return ""
    total = spread(pairs)
    half = half_width(total) or 0.0
    return (
        f"; the mean over all {len(pairs)} pairs is {100 * total.mean:.2f}, with 95 % interval "
        f"{100 * (total.mean - half):.2f} to {100 * (total.mean + half):.2f}"
    )


def _speed_sentence(panel: Panel, network: str, rows: Sequence[dict[str, Any]]) -> str:
    best = rows[-1]
    met = [row for row in rows if row["training"]["ratio"] is not None]
    sentence = f"{panel.title}: the {network} network reaches {len(met)} of the DEQ's {len(rows)} target accuracies"
    if not met:
        return f"{sentence}."
    top = met[-1]
    which = "the DEQ's best" if top is best else "the highest of these"
    brackets = "" if top["training"]["low"] is None else " (in brackets 90 % intervals by resampling seeds)"
    missing = "" if top is best else f"; it does not reach {best['target_percent']:.2f} %, the DEQ's best"
    near = f"To within {best['slack_percent']:.2f}, the standard error of an accuracy on so many test samples,"
    if best["training_within"]["ratio"] is None:
        near = f"{near} it does not reach the DEQ's best either."
    else:
        times = f"{best['training_within_shown']} and {best['inference_within_shown']} times as fast"
        near = f"{near} of the DEQ's best it is {times}."
    return (
        f"{sentence}; at equal accuracy, {top['target_percent']:.2f} %, {which}, where the DEQ has width "
        f"{top['reference_width']}, it is {top['training_shown']} times as fast to train and {top['inference_shown']} "
        f"times at inference{brackets}{missing}. {near}"
    )


def rate_remarks(rates: Sequence[ChosenRate]) -> list[str]:
    """Where a wider range of learning rates might do better."""
    at_edge = [rate for rate in rates if rate.at_edge]
    if not at_edge:
        return []
    places = ", ".join(
        f"{r.contender.kind} {r.contender.deq.activation.name} at width {r.width} ({r.multiple:g})" for r in at_edge
    )
    return [f"The best learning rate is at an end of the list, a better one may lie beyond: {places}."]
