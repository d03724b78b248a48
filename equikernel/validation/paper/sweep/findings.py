"""What a sweep found: numbers, tables, figures and sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from equikernel.validation.paper.experiment import Drawing, Findings, Spread
from equikernel.validation.paper.sweep.config import Cell, SweepConfig
from equikernel.validation.paper.sweep.figures import draw_curves_of, draw_scores, draw_solves, draw_start
from equikernel.validation.paper.sweep.remarks import sweep_remarks
from equikernel.validation.paper.sweep.statistics import (
    Results,
    effects_of_size,
    paired_rows,
    pooled_rows,
    summary_rows,
)
from equikernel.validation.paper.sweep.tables import interval, sweep_tables
from equikernel.validation.paper.training.splits import SplitSource

__all__ = ["sweep_findings"]

Numbers = dict[str, Any]


def sweep_findings(
    config: SweepConfig,
    source: SplitSource,
    runs: Mapping[tuple[Cell, int], Numbers | None],
) -> Findings:
    """Tables, figures and sentences of the runs.

    Args:
        config: the size of the sweep.
        source: the data.
        runs: the numbers of every cell and seed, None of those that failed.
    """
    results = Results(config, runs, source.classes)
    recipe = config.recipe
    about = (
        f"{source.title}, {source.train} training and {source.test} test samples; {recipe.activation}, "
        f"N = {recipe.width}, {recipe.epochs} epochs, {len(config.seeds)} seeds"
    )
    cells = summary_rows(results)
    starts = _start_rows(cells)
    record: dict[str, Any] = {
        "data": source.describe() | {"title": source.title},
        "chance": 1.0 / source.classes,
        "cells": cells,
        "pairs": paired_rows(results),
        "pooled": pooled_rows(results),
        "sizes": effects_of_size(results),
        "starts": starts,
        "runs": _run_rows(runs),
    }
    curves = _curves(results)
    figures = {
        "init_sweep_scores": Drawing(draw_scores, _strips(results)),
        "init_sweep_solves": Drawing(draw_solves, cells),
        "init_sweep_start": Drawing(draw_start, starts),
        **{f"init_sweep_curves_{match}": Drawing(draw_curves_of, curves[match]) for match in config.matches},
    }
    return Findings(record, sweep_tables(record, about), figures, sweep_remarks(record, config, about))


def _run_rows(runs: Mapping[tuple[Cell, int], Numbers | None]) -> list[dict[str, Any]]:
    return [{**asdict(cell), "seed": seed, **numbers} for (cell, seed), numbers in runs.items() if numbers is not None]


def _start_rows(cells: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each family and sigma: measured before training against mean-field theory."""
    kept = ("start_", "end_", "family", "sigma", "predicted_", "deviation_")
    rows = {}
    for row in cells:
        own = {key: value for key, value in row.items() if key.startswith(kept)}
        shown = {
            f"{name}_shown": _shown(row, name, ".4g" if name == "start_length" else ".3g")
            for name in ("start_length", "start_jacobian_radius", "start_asymmetry", "end_asymmetry", "end_radius")
        }
        rows[row["family"], row["sigma"]] = {
            **own,
            **shown,
            "end_moved_shown": _shown(row, "end_moved"),
            "deviation_shown": interval(row, "deviation", 100.0, ".2f"),
            "stable_shown": "stable" if row["predicted_stable"] else "unstable",
        }
    return sorted(rows.values(), key=lambda row: (row["family"], row["sigma"]))


def _shown(row: dict[str, Any], name: str, form: str = ".3g") -> str | None:
    mean = row[f"{name}_mean"]
    return None if mean is None else Spread(mean, row[f"{name}_sd"], row["runs"]).shown(form)


def _strips(results: Results) -> list[dict[str, Any]]:
    """Final loss and accuracy of every run, by matched quantity, value and family."""
    config = results.config
    strips = []
    for match in config.matches:
        for family in config.families:
            for value in config.values:
                cell = config.cell(family, match, value)
                finished = results.finished(cell).values()
                strips.append(
                    {
                        "match": match,
                        "family": family,
                        "value": value,
                        "loss": [numbers["loss"] for numbers in finished],
                        "accuracy": [100 * numbers["accuracy"] for numbers in finished],
                        "diverged": len(results.measured(cell)) - len(finished),
                    }
                )
    return strips


def _curves(results: Results) -> dict[str, list[dict[str, Any]]]:
    """Test loss after every epoch of the runs that finished, by matched quantity."""
    config = results.config
    return {
        match: [
            {
                "match": match,
                "value": value,
                "family": family,
                "curves": [
                    [epoch["loss"] for epoch in numbers["epochs"]]
                    for numbers in results.finished(config.cell(family, match, value)).values()
                ],
            }
            for value in config.values
            for family in config.families
        ]
        for match in config.matches
    }
