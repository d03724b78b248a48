"""Figure of the experiment ``language``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from equikernel.theory.initialisation import FAMILIES
from equikernel.validation.figures import COLOURS, MARKERS, panels_of
from equikernel.validation.paper.language.tables import NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_perplexities"]

_WIDE = 4.0  # from which ratio of perplexities on their axis is logarithmic
_WIDTH = 0.22  # between families, in units of the distance between scales


def draw_perplexities(figure: Figure, data: Any) -> None:
    """Test perplexities of every seed, their means, and what solves took, over scales and families."""
    ((left, middle, right),) = panels_of(figure, 1, 3, 3.4, 3.0)
    _points(left, data, "perplexity", 1.0)
    reached = [p["perplexity"] for p in data["points"] if p["perplexity"] is not None]
    for k, (name, value) in enumerate(data["references"].items()):
        if value is not None and reached and min(reached) / 1.3 < value < 1.3 * max(reached):
            left.axhline(value, color="#555555", linestyle=(":", "--", "-.", "-")[k % 4], linewidth=1, label=name)
    if reached and max(reached) > _WIDE * min(reached):
        left.set_yscale("log")
    diverged = _count_diverged(left, data)
    left.set_title("test perplexity" + (", n×: n runs diverged" if diverged else ""), pad=16 if diverged else None)
    _points(middle, data, "iterations", 1.0)
    middle.set(title="iterations of a forward solve, training")
    middle.set_ylim(bottom=0)
    _points(right, data, "unconverged", 100.0)
    right.set(title="forward solves that failed (%), training")
    right.set_ylim(bottom=0)
    for axes in (left, middle, right):
        axes.set_xticks(range(len(data["scales"])), [f"{scale:g}" for scale in data["scales"]])
        axes.set_xlim(-0.5, len(data["scales"]) - 0.5)
        axes.set_xlabel("√V, scale of the weights at initialisation")
        axes.grid(visible=False, axis="x")
        axes.title.set_fontsize(9)
    figure.suptitle(f"{data['title']}: a mark for each seed, a bar for their mean", fontsize=9)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6)


def _points(axes: Axes, data: Any, key: str, factor: float) -> None:
    for k, family in enumerate(data["families"]):
        offset = (k - (len(data["families"]) - 1) / 2) * _WIDTH
        for place, scale in enumerate(data["scales"]):
            values = [
                factor * point[key]
                for point in data["points"]
                if (point["family"], point["scale"]) == (family, scale) and point[key] is not None
            ]
            label = NAMES[family] if place == 0 else None
            x = place + offset
            axes.plot(
                [x] * len(values),
                values,
                MARKERS[FAMILIES.index(family)],
                color=COLOURS[FAMILIES.index(family)],
                markersize=4,
                alpha=0.6,
                label=label,
                zorder=3,
            )
            if values:
                axes.hlines(
                    float(np.mean(values)), x - 0.09, x + 0.09, color=COLOURS[FAMILIES.index(family)], linewidth=2
                )


def _count_diverged(axes: Axes, data: Any) -> int:
    """Runs that diverged have no perplexity: how many of a family and scale stands above its place; how many in all."""
    total = 0
    for k, family in enumerate(data["families"]):
        offset = (k - (len(data["families"]) - 1) / 2) * _WIDTH
        for place, scale in enumerate(data["scales"]):
            count = sum(
                (point["family"], point["scale"]) == (family, scale) and point["perplexity"] is None
                for point in data["points"]
            )
            total += count
            if count:
                axes.annotate(
                    f"{count}×",
                    (place + offset, 1.0),
                    xycoords=("data", "axes fraction"),
                    ha="center",
                    va="bottom",
                    color=COLOURS[FAMILIES.index(family)],
                    fontsize=8,
                )
    return total
