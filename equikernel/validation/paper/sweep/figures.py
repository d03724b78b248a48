"""The figures of a sweep: a panel for each matched quantity, a colour for each family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from equikernel.theory.initialisation import FAMILIES
from equikernel.validation.figures import COLOURS, MARKERS, panels_of
from equikernel.validation.paper.sweep.tables import MATCH_NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_curves_of", "draw_scores", "draw_solves", "draw_start"]

_NAMES = {"iid": "iid", "orthogonal": "orthogonal", "goe": "GOE"}
_COLUMNS = 3


def _style(family: str) -> dict[str, Any]:
    k = FAMILIES.index(family)
    return {"color": COLOURS[k], "marker": MARKERS[k], "label": _NAMES[family]}


def _unique(rows: Sequence[dict[str, Any]], key: str) -> list[Any]:
    return list(dict.fromkeys(row[key] for row in rows))


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)


def _plain_log(panels: Sequence[Axes]) -> None:
    """The same logarithmic ordinate in all panels, with plain numbers at 1, 2 and 5; nothing where all are empty."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    filled = [axes for axes in panels if any(np.size(line.get_xdata()) for line in axes.lines)]
    for axes in filled:
        axes.set_yscale("log")
    _same_limits(filled)
    for axes in filled:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.minorticks_off()


def _same_limits(panels: Sequence[Axes]) -> None:
    limits = [axes.get_ylim() for axes in panels]
    for axes in panels:
        axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))


def draw_scores(figure: Figure, data: Any) -> None:
    """Final test loss and accuracy of every run, and their means, over the matched quantity."""
    matches, families, values = (_unique(data, key) for key in ("match", "family", "value"))
    grid = panels_of(figure, 2, len(matches), 3.6, 2.8)
    for row_of_axes, metric, label in zip(grid, ("loss", "accuracy"), ("test loss", "test accuracy (%)"), strict=True):
        for axes, match in zip(row_of_axes, matches, strict=True):
            for k, family in enumerate(families):
                shift = 0.22 * (k - (len(families) - 1) / 2)
                own = [row for row in data if (row["match"], row["family"]) == (match, family)]
                _strip(axes, own, metric, shift, _style(family))
            axes.set_xticks(range(len(values)), [f"{value:g}" for value in values])
            axes.set(xlabel=f"{MATCH_NAMES[match]} at the start", ylabel=label)
            if metric == "loss":
                axes.set_title(f"equal {MATCH_NAMES[match]}")
    _plain_log(grid[0])
    _same_limits(grid[1])
    _legend(figure, grid[0][0])


def _strip(axes: Axes, rows: Sequence[dict[str, Any]], metric: str, shift: float, style: dict[str, Any]) -> None:
    """Points of all runs, a line through the means; what diverged is told at the foot of the panel."""
    places = [place for place, row in enumerate(rows) if row[metric]]
    for place, row in enumerate(rows):
        axes.plot(
            [place + shift] * len(row[metric]), row[metric], style["marker"], color=style["color"], ms=2.5, alpha=0.4
        )
        if row["diverged"]:
            axes.annotate(
                f"{row['diverged']} div.",
                (place + shift, 0.01),
                xycoords=("data", "axes fraction"),
                color=style["color"],
                fontsize=6,
                rotation=90,
                ha="center",
            )
    means = [float(np.mean(rows[place][metric])) for place in places]
    axes.plot([place + shift for place in places], means, markersize=6, markeredgecolor="white", **style)


def draw_solves(figure: Figure, data: Any) -> None:
    """Fraction of samples whose solve did not converge, and evaluations, forward and backward, over training."""
    matches, families = (_unique(data, key) for key in ("match", "family"))
    grid = panels_of(figure, 2, len(matches), 3.6, 2.6)
    labels = {"unconverged_samples": "unconverged samples (fraction)", "iterations": "evaluations of a sample"}
    for row_of_axes, (key, label) in zip(grid, labels.items(), strict=True):
        for axes, match in zip(row_of_axes, matches, strict=True):
            for family in families:
                own = [row for row in data if (row["match"], row["family"]) == (match, family)]
                values = [row["value"] for row in own]
                style = _style(family)
                name = style.pop("label")
                for direction, line in (("forward", "-"), ("backward", "--")):
                    found = [np.nan if row[f"{direction}_{key}"] is None else row[f"{direction}_{key}"] for row in own]
                    axes.plot(values, found, line, markersize=4, label=f"{name}, {direction}", **style)
            axes.set_xticks(values, [f"{value:g}" for value in values])
            axes.set(xlabel=f"{MATCH_NAMES[match]} at the start", ylabel=label)
            axes.set_ylim(bottom=-0.02 if key == "unconverged_samples" else 0)
            if key == "unconverged_samples":
                axes.set_ylim(top=1.02)
                axes.set_title(f"equal {MATCH_NAMES[match]}")
    handles, names = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(families))


def draw_curves_of(figure: Figure, data: Any) -> None:
    """Test loss over epochs, a panel for each value of one matched quantity: mean of the seeds, least to largest."""
    values, families = (_unique(data, key) for key in ("value", "family"))
    columns = min(_COLUMNS, len(values))
    grid = panels_of(figure, -(-len(values) // columns), columns, 3.6, 2.6)
    panels = [axes for row in grid for axes in row]
    for axes in panels[len(values) :]:
        axes.set_axis_off()
    for axes, value in zip(panels, values, strict=False):
        for family in families:
            (own,) = [row for row in data if (row["value"], row["family"]) == (value, family)]
            if own["curves"]:
                _band(axes, np.array(own["curves"]), _style(family))
        axes.set(xlabel="epoch", ylabel="test loss", title=f"{MATCH_NAMES[data[0]['match']]} {value:g}")
    _plain_log(panels[: len(values)])
    _legend(figure, panels[0])


def _band(axes: Axes, curves: Any, style: dict[str, Any]) -> None:
    epochs = np.arange(1, curves.shape[1] + 1)
    axes.fill_between(epochs, curves.min(axis=0), curves.max(axis=0), color=style["color"], alpha=0.18, linewidth=0)
    axes.plot(epochs, curves.mean(axis=0), markersize=3.5, markevery=max(1, len(epochs) // 7), **style)


def draw_start(figure: Figure, data: Any) -> None:
    """|z|^2/N and the radius of J before training, mean and sd over seeds, against mean-field theory."""
    ((left, right),) = panels_of(figure, 1, 2, 4.4, 3.2)
    for axes, measured, predicted, label in (
        (left, "start_length", "predicted_length_mixed_mean", "|z|²/N before training"),
        (right, "start_jacobian_radius", "predicted_radius_mean", "spectral radius of J before training"),
    ):
        for family in (family for family in FAMILIES if family in _unique(data, "family")):
            own = [row for row in data if row["family"] == family]
            style = _style(family)
            stable = [row for row in own if row["predicted_stable"] and row[predicted] is not None]
            line = ":" if family == "orthogonal" else "-"  # on that of iid, which it equals
            axes.plot([r["sigma"] for r in stable], [r[predicted] for r in stable], line, color=style["color"])
            known = [row for row in own if row[f"{measured}_mean"] is not None]
            sd = [row[f"{measured}_sd"] or 0.0 for row in known]
            means = [row[f"{measured}_mean"] for row in known]
            axes.errorbar([r["sigma"] for r in known], means, sd, linestyle="none", capsize=2, markersize=4, **style)
        axes.set(xlabel="σ", ylabel=label)
        axes.set_ylim(bottom=0)
    right.axhline(1.0, color="#555555", linewidth=0.8, linestyle=":")
    left.plot([], [], color="#555555", label="mean-field theory, where stable")
    _legend(figure, left)
