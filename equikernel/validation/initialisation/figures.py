"""The figure of a phase diagram: five statistics against the scale of W, and the boundary of stability."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from equikernel.validation.figures import COLOURS, MARKERS, panels_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_phase_diagram"]

_STYLES: dict[str, tuple[str, Any, float, str]] = {
    "iid": (COLOURS[0], "-", 2.4, MARKERS[0]),
    "orthogonal": (COLOURS[1], (0, (4, 2)), 1.4, MARKERS[1]),
    "goe": (COLOURS[2], "-", 1.6, MARKERS[2]),
}
_SCALES = {"variance": "σ of W", "radius": "spectral radius of W",
           "operator_norm": "operator norm of W"}  # fmt: skip
_PANELS = (
    ("mean_square", "q = |z|²/N", "length"),
    ("stability", "χ, for GOE R", "stability, below 1"),
    ("radius", "spectral radius of J", "spectrum of the Jacobian"),
    ("tangent_length", "T", "length of a tangent or gradient"),
    ("length_noise", "N Var q", "fluctuation of the length"),
)
_ABSENT = {"length_noise": 0.0}  # at sigma = 0, which has no place on a logarithmic ordinate
_LOGARITHMIC = 30.0  # ratio of largest to smallest value from which the ordinate is logarithmic
_CEILING = 1e4  # of a logarithmic ordinate, in units of the typical value


def draw_phase_diagram(figure: Figure, data: Any) -> None:
    """Five statistics against sigma up to and past the critical one, and the critical sigma against the size of x.

    Args:
        figure: an empty figure.
        data: of ``PhaseDiagram.measure``.
    """
    (first, second) = panels_of(figure, 2, 3, 3.7, 2.9)
    panels = [*first, *second]
    for axes, (key, label, title) in zip(panels, _PANELS, strict=False):
        _statistic(axes, data, key)
        axes.set(xlabel=_SCALES[data["match"]], ylabel=label, title=title)
    _boundary(panels[-1], data)
    figure.suptitle(f"{data['activation']}, entries of x: {data['law']}")
    figure.legend(handles=_legend(data), loc="outside lower center", ncols=4)


def _names(data: Any) -> list[str]:
    return [entry["family"] for entry in data["families"]]


def _statistic(axes: Axes, data: Any, key: str) -> None:
    """One statistic: full lines where the fixed point is stable, faint ones past the critical sigma."""
    shown: list[float] = []
    for entry in data["families"]:
        colour, line, width, _ = _STYLES[entry["family"]]
        for stable in (True, False):
            points = [p for p in entry["points"] if (p["status"] == "solved") == stable]
            values = [math.nan if p[key] is None or p[key] == _ABSENT.get(key) else p[key] for p in points]
            alpha = 1.0 if stable else 0.4
            axes.plot([p["scale"] for p in points], values, color=colour, linestyle=line, linewidth=width, alpha=alpha)
            shown += [value for value in values if math.isfinite(value)]
    if data["linear"] is not None and key in data["linear"]["families"][0]["points"][0]:
        for entry in data["linear"]["families"]:
            points = [p for p in entry["points"] if p[key] <= 1.5 * max(shown, default=1.0)]
            axes.plot([p["scale"] for p in points], [p[key] for p in points], ":", color=_STYLES[entry["family"]][0],
                      linewidth=1)  # fmt: skip
    if key in ("stability", "radius"):
        axes.axhline(1, color="#555555", linewidth=0.8)
        axes.set_ylim(0, 1.6)
    elif shown and max(shown) > _LOGARITHMIC * min(shown):
        _logarithmic(axes, shown)
    _beyond(axes, data)


def _logarithmic(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic ordinate that does not follow a divergence out of sight."""
    ordered = sorted(values)
    middle = ordered[len(ordered) // 2]
    axes.set_yscale("log")
    axes.set_ylim(max(ordered[0], middle / _CEILING) / 1.5, min(ordered[-1], middle * _CEILING) * 1.5)


def _beyond(axes: Axes, data: Any) -> None:
    """Shades what lies beyond each critical sigma."""
    ends = [entry["critical_scale"] for entry in data["families"] if entry["critical_scale"] is not None]
    reach = max((p["scale"] for entry in data["families"] for p in entry["points"]), default=1.0)
    for entry in data["families"]:
        colour, line, _, _ = _STYLES[entry["family"]]
        if entry["critical_scale"] is not None:
            axes.axvline(entry["critical_scale"], color=colour, linestyle=line, linewidth=0.9)
    for end in sorted(set(ends)):
        axes.axvspan(end, reach, color="#777777", alpha=0.13, linewidth=0)
    axes.set_xlim(0, reach)


def _boundary(axes: Axes, data: Any) -> None:
    """The critical scale over the size of x: filled marks where perturbations grow, open ones where z is lost."""
    if not data["boundary"]:
        axes.set_axis_off()
        return
    for name in _names(data):
        colour, line, width, marker = _STYLES[name]
        rows = [row for row in data["boundary"] if row["family"] == name and row["scale"] is not None]
        axes.plot([r["rms"] for r in rows], [r["scale"] for r in rows], color=colour, linestyle=line, linewidth=width)
        for kind, face in (("instability", colour), ("no fixed point", "white")):
            chosen = [row for row in rows if row["critical_kind"] == kind]
            axes.plot([r["rms"] for r in chosen], [r["scale"] for r in chosen], marker, color=colour,
                      markerfacecolor=face, markersize=4)  # fmt: skip
    if data["linear"] is not None:
        for entry in data["linear"]["families"]:
            axes.axhline(entry["critical_scale"], color=_STYLES[entry["family"]][0], linestyle=":", linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="root mean square of the entries of x", title="boundary of stability")
    axes.set_ylabel("critical " + _SCALES[data["match"]])
    _plain_ordinate(axes)


def _plain_ordinate(axes: Axes) -> None:
    """Ticks at plain numbers; the range is often less than a decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_ylim()
    subs = (1, 2, 3, 5, 7) if high < 10 * low else (1, 2, 5)
    axes.yaxis.set_major_locator(LogLocator(subs=subs))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))


def _legend(data: Any) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    for name in _names(data):
        colour, line, width, marker = _STYLES[name]
        handles.append(Line2D([], [], color=colour, linestyle=line, linewidth=width, marker=marker, markersize=4,
                              label="GOE" if name == "goe" else name))  # fmt: skip
    grey = "#555555"
    handles.append(Line2D([], [], color=grey, alpha=0.4, label="faint: unstable fixed point"))
    handles.append(Patch(color="#777777", alpha=0.2, label="beyond a critical σ"))
    for face, label in ((grey, "perturbations grow"), ("white", "no fixed point beyond")):
        handles.append(Line2D([], [], color=grey, linestyle="", marker="o", markersize=4, markerfacecolor=face,
                              label=label))  # fmt: skip
    if data["linear"] is not None:
        handles.append(
            Line2D([], [], color=grey, linestyle=":", label=f"small x: linear, φ'(0) = {data['linear']['slope']:.4g}")
        )
    return handles
