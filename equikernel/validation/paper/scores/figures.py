"""Figures of the z-scores: are they normal, their p-values uniform; how large is the correction of finite width."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from equikernel.validation.figures import COLOURS, MARKERS, panels_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_corrections", "draw_scores"]

_KOLMOGOROV_95 = 1.358  # 95 % quantile of sqrt(n) sup |F_n - F| for large n


def draw_scores(figure: Figure, data: Any) -> None:
    """Quantiles of all scores over those of N(0, 1), and the distribution of p-values, uniform within a band."""
    ((left, right),) = panels_of(figure, 1, 2, 4.2, 3.8)
    ends = max(abs(x) for kernel in data for x in (*kernel["quantiles"], *kernel["normal"])) * 1.05
    left.plot([-ends, ends], [-ends, ends], color="#555555", linestyle="-.", label="as predicted")
    for k, kernel in enumerate(data):
        order = np.argsort(kernel["normal"])
        x, y = np.array(kernel["normal"])[order], np.sort(kernel["quantiles"])
        left.plot(x, y, MARKERS[k], color=COLOURS[k], markersize=3, alpha=0.7, label=kernel["title"])
        p = np.sort(kernel["p_values"])
        right.step(p, (np.arange(len(p)) + 1) / len(p), where="post", color=COLOURS[k])
    left.set(xlabel="quantile of N(0, 1)", ylabel="quantile of all z-scores", title="z-scores of all activations")
    left.set(xlim=(-ends, ends), ylim=(-ends, ends))
    reach = _KOLMOGOROV_95 / math.sqrt(len(data[0]["p_values"]))
    line = np.array([0.0, 1.0])
    right.plot(line, line, color="#555555", linestyle="-.")
    right.fill_between(line, line - reach, line + reach, color="#999999", alpha=0.25, linewidth=0, label="95 % band")
    right.set(
        xlabel="p-value", ylabel="fraction below", title="p-values: activation, data, seed", xlim=(0, 1), ylim=(0, 1)
    )
    handles, labels = (
        a + b for a, b in zip(left.get_legend_handles_labels(), right.get_legend_handles_labels(), strict=True)
    )
    figure.legend(handles, labels, loc="outside lower center", ncols=5)


def draw_corrections(figure: Figure, data: Any) -> None:
    """The relative correction of finite width by activation; below it powers of 1/m where seen clearly, and of all."""
    from matplotlib.ticker import FuncFormatter

    names, kernels = data["activations"], list(data["kernels"])
    ((upper,), (lower,)) = panels_of(figure, 2, 1, max(9.0, 0.26 * len(names) + 2.0), 3.0)
    for k, kernel in enumerate(kernels):
        rows = [row for row in data["rows"] if row["kernel"] == kernel]
        for source, filled in zip(dict.fromkeys(row["data"] for row in rows), (True, False), strict=False):
            own = [row for row in rows if row["data"] == source]
            x = np.array([names.index(row["activation"]) for row in own]) + 0.25 * (k - 1)
            style: dict[str, Any] = {
                "fmt": MARKERS[k],
                "color": COLOURS[k],
                "markersize": 4,
                "linewidth": 0.8,
                "mfc": COLOURS[k] if filled else "white",
            }
            label = f"{data['kernels'][kernel]}: {source.split(',')[0]}"
            y, sd = (np.array([row[key] or 0.0 for row in own]) for key in ("correction", "correction_sd"))
            upper.errorbar(x, y, sd, label=label, **style)
            known = np.array([row["determined"] for row in own], dtype=bool)
            power, low = (np.array([row[key] for row in own]) for key in ("power", "power_low"))
            lower.errorbar(x[known], power[known], (power - low)[known], **style)
        if kernel not in data["together"]:
            continue
        pooled, style = data["together"][kernel], {"fmt": MARKERS[k], "color": COLOURS[k], "markersize": 7}
        lower.errorbar([len(names) + 0.25 * (k - 1)], [pooled["power"]], [pooled["power_error"]], **style)
    upper.set(ylabel=f"relative correction\nat m = {data['width']} (%)")
    upper.set_yscale("symlog", linthresh=0.01)
    upper.set_ylim(bottom=0)
    upper.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    lower.axhline(1.0, color="#555555", linestyle="-.")
    lower.set(ylabel="fitted power of 1/m")
    for axes in (upper, lower):
        axes.set_xlim(-0.7, len(names) + 0.7)
        axes.set_xticks(range(len(names) + 1), [*names, "all"] if axes is lower else [], rotation=60, ha="right")
    figure.legend(*upper.get_legend_handles_labels(), loc="outside lower center", ncols=3)
