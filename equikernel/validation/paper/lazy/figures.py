"""Figures of the experiments ``dynamics`` and ``ridge``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from equikernel.validation.figures import COLOURS, MARKERS, panels_of, plain_ticks
from equikernel.validation.paper.lazy.tables import NAMES, distinct

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_deviations", "draw_errors", "draw_losses"]

_STYLES = {"measured": ("-", "trained network"), "limit": ("--", "exact kernel"), "initial": (":", "own kernel")}
_KINDS = {"limit_train": "exact kernel of infinite width", "initial_train": "own kernel at initialisation"}


def _place(name: str) -> int:
    return list(NAMES).index(name)


def draw_losses(figure: Figure, data: Any) -> None:
    """Loss over steps, trained and predicted; a row for each data set, a column for each width."""
    sources, widths = distinct(data, "data"), distinct(data, "width")
    panels = panels_of(figure, len(sources), len(widths), 4.2, 2.9)
    for curve in data:
        axes = panels[sources.index(curve["data"])][widths.index(curve["width"])]
        for key, (style, _) in _STYLES.items():
            values = np.array(curve[key])
            axes.plot(values, style, color=COLOURS[_place(curve["network"])], linewidth=1.8 if style == ":" else 1.3)
    for row, source in zip(panels, sources, strict=True):
        for axes, width in zip(row, widths, strict=True):
            axes.set(yscale="log", xlabel="step of gradient descent", ylabel="loss / first loss")
            axes.set_title(f"{_shortened(source)}, width {width}", fontsize=9)
            axes.set_ylim(bottom=1e-6 if axes.get_ylim()[0] < 1e-6 else None)
    _legend(figure, data, [(style, label) for style, label in _STYLES.values()])


def draw_deviations(figure: Figure, data: Any) -> None:
    """Deviations over the width with fitted powers; a row for each data set, a column for each prediction."""
    sources = distinct(data, "data")
    panels = panels_of(figure, len(sources), len(_KINDS), 4.2, 3.4)
    for curve in data:
        axes = panels[sources.index(curve["data"])][list(_KINDS).index(curve["kind"])]
        k, law, label = _place(curve["network"]), curve["law"], NAMES[curve["network"]]
        if law is not None:
            label += f": {law['slope']:.2f} [{law['low']:.2f}, {law['high']:.2f}]"
            ends = np.array([min(curve["widths"]), max(curve["widths"])], dtype=float)
            axes.plot(ends, law["factor"] * ends ** law["slope"], color=COLOURS[k])
        axes.plot(curve["widths"], curve["values"], MARKERS[k], color=COLOURS[k], markersize=4, alpha=0.7, label=label)
    for row, source in zip(panels, sources, strict=True):
        for axes, (kind, title) in zip(row, _KINDS.items(), strict=True):
            axes.set(xlabel="width", ylabel="largest relative deviation", xscale="log", yscale="log")
            axes.set_title(f"{_shortened(source)}\nprediction by the {title}", fontsize=9)
            _guide(axes, data, source, kind)
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2)


def _guide(axes: Axes, data: Any, source: str, kind: str) -> None:
    """The slope of theory, above the points."""
    slope = -0.5 if kind == "limit_train" else -1.0
    mine = [curve for curve in data if (curve["data"], curve["kind"]) == (source, kind)]
    widths = np.array(sorted({w for curve in mine for w in curve["widths"]}), dtype=float)
    top = 1.5 * max(v for curve in mine for v in curve["values"])
    axes.plot(widths, top * (widths / widths[0]) ** slope, ":", color="#555555", label=f"slope {slope:g} (theory)")
    plain_ticks(axes, [float(w) for w in widths])


def draw_errors(figure: Figure, data: Any) -> None:
    """Test errors over the penalty, networks with their spread and predictions; a row for each way to train."""
    from matplotlib.lines import Line2D

    ways, networks = distinct(data, "way"), distinct(data, "network")
    panels = panels_of(figure, len(ways), len(networks), 3.3, 2.8)
    for curve in data:
        axes = panels[ways.index(curve["way"])][networks.index(curve["network"])]
        order = np.argsort(curve["penalty"])
        x = np.array(curve["penalty"])[order]
        mean, sd = (np.array(curve[key])[order] for key in ("mean", "sd"))
        k = curve["place"]
        if curve["measured"]:
            axes.errorbar(x, mean, sd, color=COLOURS[k], marker=MARKERS[k], markersize=4, linestyle="", capsize=2)
        else:
            axes.plot(x, mean, curve["style"], color=COLOURS[k])
    for row, way in zip(panels, ways, strict=True):
        for axes, network in zip(row, networks, strict=True):
            axes.set(xscale="log", xlabel="penalty λ / largest eigenvalue", ylabel="test mean squared error")
            axes.set_title(f"{NAMES[network]}: {way}", fontsize=9)
            marks = sorted({x for curve in data if curve["way"] == way for x in curve["penalty"]})
            axes.set_xticks(marks, [f"{x:g}" for x in marks])
            axes.minorticks_off()
    known = {curve["label"]: curve for curve in data}
    handles = [
        Line2D(
            [],
            [],
            color=COLOURS[curve["place"]],
            marker=MARKERS[curve["place"]] if curve["measured"] else "",
            linestyle=cast(Any, "" if curve["measured"] else curve["style"]),
            label=label,
        )
        for label, curve in known.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)


def _legend(figure: Figure, data: Any, styles: list[tuple[str, str]]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=COLOURS[_place(n)], label=NAMES[n]) for n in distinct(data, "network")]
    handles += [Line2D([], [], color="#555555", linestyle=cast(Any, style), label=label) for style, label in styles]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))


def _shortened(title: str) -> str:
    """The source without the sizes of its parts."""
    return title.partition(", ")[0]
