"""What the runs of the training experiment show: tables, figures, and sentences on what was predicted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from equikernel.validation.paper.experiment import Drawing, Findings
from equikernel.validation.paper.training.figures import draw_accuracy_by_time, draw_accuracy_by_width, draw_inference
from equikernel.validation.paper.training.learning_rates import ChosenRate
from equikernel.validation.paper.training.remarks import panel_remarks, rate_remarks
from equikernel.validation.paper.training.rows import (
    Panel,
    Run,
    curve_rows,
    equal_accuracy_rows,
    rate_row,
    same_width_rows,
    summary_rows,
)
from equikernel.validation.paper.training.splits import SplitSource
from equikernel.validation.paper.training.tables import training_tables

__all__ = ["training_findings"]


def training_findings(
    runs: Sequence[Run], rates: Sequence[ChosenRate], sources: Sequence[SplitSource], config: dict[str, Any]
) -> Findings:
    """Tables, figures and sentences of finished runs.

    Args:
        runs: of all networks.
        rates: the chosen learning rates.
        sources: the data.
        config: the experiment's parameters.
    """
    by_title = {source.title: source for source in sources}
    panels = [
        Panel(
            data,
            by_title[data].short_title,
            by_title[data].test,
            act,
            tuple(run for run in runs if (run.data, run.activation) == (data, act)),
        )
        for data, act in dict.fromkeys((run.data, run.activation) for run in runs)
    ]
    record: dict[str, Any] = {
        "data": [source.describe() | {"title": source.title} for source in sources],
        "runs": [row for panel in panels for row in summary_rows(panel)],
        "same_width": [row for panel in panels for row in same_width_rows(panel)],
        "equal_accuracy": [row for panel in panels for row in equal_accuracy_rows(panel)],
        "learning_rates": [rate_row(rate) for rate in rates],
        "curves": curve_rows(runs),
    }
    shown = [{"title": panel.title, "rows": panel.own(record["runs"])} for panel in panels]
    remarks = [sentence for panel in panels for sentence in panel_remarks(panel, record)]
    remarks += rate_remarks(rates)
    remarks.append(
        f"Times were taken with {config['threads']} thread(s) on {config['device']} and depend on its other work; "
        "networks of one width and seed were trained one after the other."
    )
    drawings = {
        "accuracy_by_width": Drawing(draw_accuracy_by_width, shown),
        "accuracy_by_time": Drawing(draw_accuracy_by_time, shown),
        "inference_by_width": Drawing(draw_inference, shown),
    }
    return Findings(record, training_tables(record, config), drawings, tuple(remarks))
