"""The figures of the training experiment: a panel for each data set and activation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from equikernel.validation.figures import COLOURS, MARKERS, panels_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_accuracy_by_time", "draw_accuracy_by_width", "draw_inference"]

_LABELS = {"deq": "DEQ", "equivalent": "equivalent explicit", "naive": "naive explicit"}
_LINES = {"deq": "-", "equivalent": "--", "naive": ":"}
_COLUMNS = 2


def draw_accuracy_by_width(figure: Figure, data: Any) -> None:
    """Test accuracy over the width, mean and standard deviation over seeds."""

    def draw(axes: Axes, rows: Sequence[dict[str, Any]], style: dict[str, Any]) -> None:
        axes.errorbar([row["width"] for row in rows], *_per_cent(rows), **style)
        axes.set(xlabel="width m", ylabel="test accuracy (%)")

    _draw(figure, data, draw, widths=True)


def draw_accuracy_by_time(figure: Figure, data: Any) -> None:
    """Test accuracy over the seconds of training, a point for each width, mean and standard deviation over seeds."""

    def draw(axes: Axes, rows: Sequence[dict[str, Any]], style: dict[str, Any]) -> None:
        times, spread = _values(rows, "training_seconds")
        axes.errorbar(times, *_per_cent(rows), xerr=spread, **style)
        axes.set(xlabel="training time (s), lines from width to width", ylabel="test accuracy (%)")

    _draw(figure, data, draw, widths=False)


def draw_inference(figure: Figure, data: Any) -> None:
    """Seconds of the outputs of all test samples over the width, mean and standard deviation over seeds."""

    def draw(axes: Axes, rows: Sequence[dict[str, Any]], style: dict[str, Any]) -> None:
        axes.errorbar([row["width"] for row in rows], *_values(rows, "inference_seconds"), **style)
        axes.set(xlabel="width m", ylabel="inference, whole test set (s)", yscale="log")

    _draw(figure, data, draw, widths=True)


def _tick(axes: Axes, widths: Sequence[int] | None) -> None:
    """Plain numbers: the widths, or 1, 2 and 5 in every decade, as on a logarithmic ordinate."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    plain = FuncFormatter(lambda value, _: f"{value:g}")
    for axis, scale in ((axes.xaxis, axes.get_xscale()), (axes.yaxis, axes.get_yscale())):
        if scale == "log":
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(plain)
    if widths is not None:
        axes.set_xticks(widths, [str(width) for width in widths])
    axes.minorticks_off()


def _values(rows: Sequence[dict[str, Any]], name: str, scale: float = 1.0) -> tuple[list[float], list[float]]:
    return [scale * row[f"{name}_mean"] for row in rows], [scale * (row[f"{name}_sd"] or 0.0) for row in rows]


def _per_cent(rows: Sequence[dict[str, Any]]) -> tuple[list[float], list[float]]:
    return _values(rows, "accuracy", 100.0)


def _draw(
    figure: Figure,
    data: Any,
    draw: Callable[[Axes, Sequence[dict[str, Any]], dict[str, Any]], None],
    *,
    widths: bool,
) -> None:
    """A panel for each of the titled rows; networks none of whose runs gave numbers are left out."""
    columns = min(_COLUMNS, len(data))
    panels = [axes for row in panels_of(figure, -(-len(data) // columns), columns) for axes in row]
    for axes in panels[len(data) :]:
        axes.set_axis_off()
    for axes, panel in zip(panels, data, strict=False):
        for k, network in enumerate(_LABELS):
            rows = [row for row in panel["rows"] if row["network"] == network and row["runs"]]
            style = {"color": COLOURS[k], "marker": MARKERS[k], "linestyle": _LINES[network], "label": _LABELS[network]}
            if rows:
                draw(axes, rows, style | {"markersize": 4, "capsize": 2, "elinewidth": 1.0})
        axes.set(xscale="log", title=panel["title"])
        _tick(axes, sorted({row["width"] for row in panel["rows"]}) if widths else None)
    handles = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=3)
