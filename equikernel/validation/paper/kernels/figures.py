"""The figures of the experiments on kernels: errors over the dimension, and histograms of eigenvalues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from equikernel.validation.figures import COLOURS, MARKERS, panels_of, plain_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_histograms", "draw_ladders"]

_LINES = ("-", "--", ":")  # as many times the palette's colours can be told apart
_GREY = "#555555"
_SMALLEST = 1e-6  # eigenvalues below so much of the largest are drawn there
_BINS = 31


def draw_ladders(figure: Figure, data: Any) -> None:
    """Errors over the dimension, mean and standard deviation over seeds, with the slope -1/2: a grid of panels.

    Data: ``rows`` and ``columns``, the titles of the panels; ``series``, each with row, column, label, p, mean and sd.
    """
    labels = list(dict.fromkeys(series["label"] for series in data["series"]))
    panels = panels_of(figure, len(data["rows"]), len(data["columns"]), 4.2, 3.1)
    for row, axes_row in zip(data["rows"], panels, strict=True):
        for column, axes in zip(data["columns"], axes_row, strict=True):
            chosen = [s for s in data["series"] if (s["row"], s["column"]) == (row, column)]
            axes.set_title(f"{row}: {column}")
            if chosen:
                _ladders(axes, chosen, labels)
            else:
                axes.set_axis_off()
    handles = {
        label: handle
        for axes_row in panels
        for axes in axes_row
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    # a letter of the legend is about 0.06 inches wide, a handle with its gaps 0.6
    fitting = int(4.2 * len(data["columns"]) / (0.6 + 0.06 * max(map(len, handles), default=1)))
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=max(1, min(6, fitting)))


def _ladders(axes: Axes, chosen: Sequence[Any], labels: Sequence[str]) -> None:
    for series in chosen:
        k = labels.index(series["label"])
        # an error bar must not reach down to zero on a logarithmic axis
        mean, sd = np.array(series["mean"]), np.array(series["sd"])
        axes.errorbar(
            series["p"],
            mean,
            yerr=[np.minimum(sd, 0.9 * mean), sd],
            color=COLOURS[k % len(COLOURS)],
            marker=MARKERS[k % len(MARKERS)],
            linestyle=_LINES[k // len(COLOURS) % len(_LINES)],
            markersize=4,
            linewidth=1.1,
            elinewidth=0.8,
            label=series["label"],
        )
    sizes = sorted({float(p) for series in chosen for p in series["p"]})
    guide = np.array([sizes[0], sizes[-1]])
    top = 1.25 * max(float(np.max(series["mean"])) for series in chosen)
    axes.plot(guide, top * (guide / guide[0]) ** -0.5, "-.", color=_GREY, linewidth=1.0, label="slope −1/2 (theory)")
    axes.set(xscale="log", yscale="log", xlabel="dimension p", ylabel="error, operator norm")
    plain_ticks(axes, sizes)


def draw_histograms(figure: Figure, data: Any) -> None:
    """Eigenvalues of the DEQ, filled, against those of another kernel, a line: a row per source, a column per other.

    Data: ``title``; ``rows`` and ``columns``, titles too; ``panels``, each with row, column, and the eigenvalues deq
    and other.
    """
    figure.suptitle(data["title"], fontsize=10)
    panels = panels_of(figure, len(data["rows"]), len(data["columns"]), 3.5, 2.8)
    for k, row in enumerate(data["rows"]):
        in_row = [panel for panel in data["panels"] if panel["row"] == row]
        bins = _logarithmic_bins([x for panel in in_row for name in ("deq", "other") for x in panel[name]])
        for j, column in enumerate(data["columns"]):
            axes = panels[k][j]
            axes.set_title(f"{row}\n{column}", fontsize=8.5)
            for panel in (panel for panel in in_row if panel["column"] == column):
                _histograms(axes, panel, bins, COLOURS[1 + j % (len(COLOURS) - 1)])
    handles = {
        label: handle for axes in panels[0] for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=3)


def _histograms(axes: Axes, panel: Any, bins: list[float], colour: str) -> None:
    axes.hist(np.clip(panel["deq"], bins[0], None), bins, color=COLOURS[0], alpha=0.35, label="DEQ, exact kernel")
    axes.hist(
        np.clip(panel["other"], bins[0], None),
        bins,
        histtype="step",
        color=colour,
        linewidth=1.4,
        label=panel["column"],
    )
    axes.set(xscale="log", yscale="log", xlabel="eigenvalue", ylabel="number of eigenvalues")
    axes.set_ylim(0.7)
    axes.minorticks_off()


def _logarithmic_bins(eigenvalues: Sequence[float]) -> list[float]:
    """Bins of equal width on a logarithmic axis; what is not positive falls into the first."""
    positive = [x for x in eigenvalues if x > 0]
    low = max(min(positive), _SMALLEST * max(positive))
    return [float(x) for x in np.geomspace(low * 0.98, max(positive) * 1.02, _BINS)]
