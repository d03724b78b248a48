"""The tables of the training experiment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from equikernel.validation.tables import Column, Table

__all__ = ["training_tables"]

_WHICH = (
    Column("data", "data (front end)"),
    Column("activation", "activation"),
    Column("network", "network"),
    Column("width", "width"),
)
_MEGABYTES = (
    ("parameter_bytes", "parameters (MB)"),
    ("optimiser_bytes", "momentum (MB)"),
    ("kept_bytes", "kept for backward, one batch (MB)"),
    ("peak_device_bytes", "device peak (MB)"),
)


def training_tables(record: dict[str, Any], config: dict[str, Any]) -> tuple[Table, ...]:
    """Accuracy and time, memory, both comparisons, learning rates.

    Args:
        record: of ``training_findings``.
        config: the experiment's parameters.
    """
    recipe = config["recipe"]
    samples = ", ".join(f"{d['title']}: {d['train']} training and {d['test']} test samples" for d in record["data"])
    how = (
        f"{samples}; {len(config['seeds'])} seeds, "
        f"{recipe['epochs']} epochs of batches of {recipe['batch']}, σ_a² = {config['sigma_a2']}, "
        f"σ_b² = {config['sigma_b2']}"
    )
    return (
        _accuracy(record["runs"], how),
        _memory(record["runs"], how),
        _same_width(record["same_width"], how),
        _equal_accuracy(record["equal_accuracy"], how),
        _rates(record["learning_rates"], config),
    )


def _accuracy(rows: Sequence[dict[str, Any]], how: str) -> Table:
    return Table(
        "training",
        f"Accuracy and time, mean ± standard deviation over seeds: {how}",
        (
            *_WHICH,
            Column("runs_shown", "runs"),
            Column("learning_rate", "learning rate", form=".3g"),
            Column("accuracy_shown", "test accuracy (%)"),
            Column("training_seconds_shown", "training (s)"),
            Column("inference_seconds_shown", "inference, test set (s)"),
            Column("forward_iterations", "forward iterations, mean", form=".1f"),
            Column("forward_most", "most"),
            Column("backward_iterations", "backward iterations, mean", form=".1f"),
            Column("backward_most", "most"),
        ),
        tuple(rows),
    )


def _memory(rows: Sequence[dict[str, Any]], how: str) -> Table:
    """The device's column only where there was one."""
    shown = [(key, text) for key, text in _MEGABYTES if any(row.get(key) is not None for row in rows)]
    scaled = tuple(
        row | {f"{key}_mb": None if row.get(key) is None else row[key] / 1e6 for key, _ in shown} for row in rows
    )
    columns = (*_WHICH, Column("parameters", "parameters"), *(Column(f"{k}_mb", text, form=".4g") for k, text in shown))
    return Table("training_memory", f"Memory: {how}", columns, scaled)


def _same_width(rows: Sequence[dict[str, Any]], how: str) -> Table:
    return Table(
        "training_same_width",
        f"Explicit networks against the DEQ of the same width, mean ± standard deviation over seeds: {how}",
        (
            *_WHICH,
            Column("pairs", "seeds"),
            Column("difference_shown", "accuracy minus the DEQ's (%)"),
            Column("differs", "95 % interval excludes 0"),
            Column("training_seconds_ratio_shown", "training, DEQ's time over its own"),
            Column("training_cpu_seconds_ratio_shown", "training, processor time"),
            Column("inference_seconds_ratio_shown", "inference, likewise"),
            Column("parameter_ratio", "parameters, likewise", form=".3g"),
            Column("kept_ratio", "kept for backward, likewise", form=".3g"),
        ),
        tuple(rows),
    )


def _equal_accuracy(rows: Sequence[dict[str, Any]], how: str) -> Table:
    return Table(
        "training_equal_accuracy",
        "How many times as fast as the DEQ at its accuracies: the DEQ's seconds over those of the explicit network, "
        f"each where it reaches the target, interpolated between widths (90 % interval by resampling seeds): {how}",
        (
            *_WHICH[:3],
            Column("target_percent", "target accuracy (%)", form=".2f"),
            Column("reference_width", "DEQ's width"),
            Column("width", "its width"),
            Column("training_shown", "training"),
            Column("training_stepped", "at these widths", form=".3g"),
            Column("inference_shown", "inference"),
            Column("inference_stepped", "at these widths", form=".3g"),
            Column("reached", "resamples that reach it", form=".2f"),
            Column("slack_percent", "standard error of the target (%)", form=".2f"),
            Column("training_within_shown", "training, to within it"),
            Column("inference_within_shown", "inference, to within it"),
        ),
        tuple(rows),
    )


def _rates(rows: Sequence[dict[str, Any]], config: dict[str, Any]) -> Table:
    return Table(
        "training_rates",
        "Learning rates in units of 1/steepness, chosen by accuracy on a tenth of the training data "
        f"({config['rate_seeds']} networks each)",
        (
            *_WHICH,
            Column("multiple", "chosen", form="g"),
            Column("tried_shown", "tried: held-out accuracy (%)"),
            Column("at_edge", "at an end of the list"),
        ),
        tuple(rows),
    )
