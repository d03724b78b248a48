"""Figures: matplotlib's object-oriented interface, colours that the colour-blind can tell apart, and a book of files.

A figure is drawn from plain JSON data, so that the store can tell whether its files are still those of these data.
"""

from __future__ import annotations

import base64
import hashlib
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from equikernel.errors import InputError
from equikernel.numerics.files import atomic_file
from equikernel.validation.store import Store

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "KERNEL_NAMES",
    "MARKERS",
    "FigureBook",
    "draw_curves",
    "draw_rates",
    "draw_real",
    "draw_spectra",
    "draw_widths",
    "panels_of",
    "plain_ticks",
    "save_figure",
]

# Okabe & Ito's palette, without its yellow, which is faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# Dates and versions are left out of the files: the same data give the same bytes.
_METADATA: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
_STYLE: dict[str, Any] = {
    "font.size": 9,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "svg.hashsalt": "equikernel",
    "axes.prop_cycle": f"cycler('color', {list(COLOURS)!r})",
}
_WIDTH_STYLES: tuple[tuple[str, Any, str], ...] = (
    ("deviation", "-", "mean − exact"),
    ("monte_carlo", ":", "Monte Carlo"),
    ("fitted_bias", "--", "bias"),
)
KERNEL_NAMES = {"ck": "CK", "ntk": "NTK"}


@dataclass(frozen=True)
class FigureBook:
    """The figures of a report, as NAME.pdf and NAME.png in one folder; those that are there already are not redrawn."""

    folder: Path
    store: Store

    def add(self, name: str, draw: Callable[[Figure, Any], None], data: Any) -> str:
        """Draw ``data``, write the files, and return the figure as a data URI (SVG) for HTML."""
        description = {"figure": name, "data": data}
        record = self.store.get(description)
        if record is None or any(_sha256(self._path(name, kind)) != record[kind] for kind in ("png", "pdf")):
            record = self._render(name, draw, data)
            self.store.put(description, record, 0.0)
        return "data:image/svg+xml;base64," + str(record["svg"])

    def _path(self, name: str, kind: str) -> Path:
        return self.folder / f"{name}.{kind}"

    def _render(self, name: str, draw: Callable[[Figure, Any], None], data: Any) -> dict[str, Any]:
        contents = _rendered(draw, data, tuple(_METADATA))
        record = {"svg": base64.b64encode(contents["svg"]).decode("ascii")}
        for kind in ("png", "pdf"):
            with atomic_file(self._path(name, kind)) as temporary:
                temporary.write_bytes(contents[kind])
            record[kind] = hashlib.sha256(contents[kind]).hexdigest()
        return record


def _rendered(draw: Callable[[Figure, Any], None], data: Any, kinds: Sequence[str]) -> dict[str, bytes]:
    """The figure as the contents of files."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    contents = {}
    with mpl.rc_context(cast(Any, _STYLE)):
        figure = Figure(layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure, data)
        for kind in kinds:
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=150, metadata=_METADATA[kind])
            contents[kind] = buffer.getvalue()
    return contents


def save_figure(path: Path, draw: Callable[[Figure, Any], None], data: Any) -> None:
    """Draw ``data`` to one file, whose ending says of what kind.

    Raises:
        InputError: another ending than .png, .pdf or .svg; a place that cannot be written to.
    """
    kind = path.suffix.removeprefix(".").lower()
    if kind not in _METADATA:
        raise InputError(f"a figure is a .png, .pdf or .svg file; got {path}")
    content = _rendered(draw, data, (kind,))[kind]
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def panels_of(figure: Figure, rows: int, columns: int, width: float = 4.2, height: float = 3.0) -> list[list[Axes]]:
    """A grid of axes, row by row, each so wide and so high (inches)."""
    figure.set_size_inches(width * columns, height * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    return [list(row) for row in grid]


def draw_curves(figure: Figure, data: Any) -> None:
    """The activation and the layers of its design, each centred, over its input in standard deviations."""
    ((axes,),) = panels_of(figure, 1, 1, 5.0, 3.2)
    for k, curve in enumerate(data["curves"]):
        label = f"{curve['name']}, τ = {curve['tau']:.4g}"
        axes.plot(data["x"], curve["y"], linestyle="-" if k == 0 else "--", label=label)
    axes.set_xlabel("input / τ (standard deviations)")
    axes.set_ylabel("output, centred")
    axes.legend()


def draw_rates(figure: Figure, data: Any) -> None:
    """Operator-norm errors over the dimension, data set by data set, with the fitted power laws and the slope -1/2."""
    kernels = sorted({name for ladder in data for name in ladder["rates"]})
    (row,) = panels_of(figure, 1, len(kernels))
    for axes, kernel in zip(row, kernels, strict=True):
        tops = []
        for k, ladder in enumerate(data):
            p = np.array([point["p"] for point in ladder["points"]], dtype=float)
            error = np.array([point[kernel]["error"] for point in ladder["points"]])
            law = ladder["rates"].get(kernel)
            label = ladder["family"]
            if law is not None:
                label += f": slope {law['slope']:.2f} [{law['low']:.2f}, {law['high']:.2f}]"
                ends = np.array([p.min(), p.max()])
                axes.plot(ends, law["factor"] * ends ** law["slope"], color=COLOURS[k])
            axes.plot(p, error, MARKERS[k], color=COLOURS[k], alpha=0.7, markersize=4, label=label)
            tops.append((p.min(), p.max(), error.max()))
        low, high, top = min(t[0] for t in tops), max(t[1] for t in tops), max(t[2] for t in tops)
        guide = np.array([low, high])
        axes.plot(guide, 1.3 * top * (guide / low) ** -0.5, ":", color="#555555", label="slope −1/2 (theory)")
        axes.set(xscale="log", yscale="log", xlabel="dimension p", title=KERNEL_NAMES[kernel])
        axes.set_ylabel("‖exact − equivalent‖, operator norm")
        plain_ticks(axes, sorted({float(x) for x in p}))
        axes.legend()


def draw_widths(figure: Figure, data: Any) -> None:
    """Errors over the width, and z-scores of the extrapolation beside the normal density; a row for each kernel."""
    from matplotlib.lines import Line2D

    kernels = sorted({study["kernel"] for study in data})
    panels = panels_of(figure, len(kernels), 2)
    titles = list(dict.fromkeys(study["title"] for study in data))
    for (left, right), kernel in zip(panels, kernels, strict=True):
        for study in (study for study in data if study["kernel"] == kernel):
            k = titles.index(study["title"])
            rows = study["numbers"]["widths"]
            widths = [row["width"] for row in rows]
            for key, style, _ in _WIDTH_STYLES:
                marker = MARKERS[k] if key == "deviation" else None
                left.plot(
                    widths, [r[key] for r in rows], marker=marker, linestyle=style, color=COLOURS[k], markersize=4
                )
            scores = np.clip(study["numbers"]["scores"], -5, 5)
            bins = [float(x) for x in np.linspace(-5, 5, 31)]
            right.hist(scores, bins, density=True, histtype="step", color=COLOURS[k])
        left.set(xscale="log", yscale="log", xlabel="width m", ylabel="root mean square of entries")
        left.set_title(f"{KERNEL_NAMES[kernel]}: networks of finite width")
        plain_ticks(left, widths)
        z = np.linspace(-5, 5, 201)
        right.plot(z, np.exp(-z * z / 2) / math.sqrt(2 * math.pi), color="#555555", linestyle="-.")
        right.set(xlabel="z-score of an entry", ylabel="density", title=f"{KERNEL_NAMES[kernel]}: limit against exact")
    handles = [Line2D([], [], color=COLOURS[k], marker=MARKERS[k], label=title) for k, title in enumerate(titles)]
    handles += [Line2D([], [], color="#555555", linestyle=style, label=label) for _, style, label in _WIDTH_STYLES]
    handles.append(Line2D([], [], color="#555555", linestyle="-.", label="N(0, 1)"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4)


def draw_spectra(figure: Figure, data: Any) -> None:
    """Histograms of eigenvalues: exact, equivalent, empirical; a row for each kernel, a column for each source."""
    from matplotlib.ticker import NullFormatter

    kernels = sorted({study["kernel"] for study in data})
    titles = list(dict.fromkeys(study["title"] for study in data))
    panels = panels_of(figure, len(kernels), len(titles), 3.6, 2.7)
    for study in data:
        axes = panels[kernels.index(study["kernel"])][titles.index(study["title"])]
        numbers = study["numbers"]
        positive = [x for name in ("exact", "equivalent", "empirical") for x in numbers[name] if x > 0]
        low = max(min(positive), max(positive) * 1e-6)
        bins = [float(x) for x in np.geomspace(low * 0.98, max(positive) * 1.02, 31)]
        for k, (name, style) in enumerate((("exact", "-"), ("equivalent", "-"), ("empirical", "--"))):
            values = np.clip(numbers[name], bins[0], None)
            if name == "exact":
                axes.hist(values, bins, color=COLOURS[k], alpha=0.35, label="exact kernel")
            else:
                label = name if name == "equivalent" else f"networks (m = {study['width']}, mean of {study['draws']})"
                axes.hist(values, bins, histtype="step", color=COLOURS[k], label=label, linestyle=style)
        axes.set(xscale="log", xlabel="eigenvalue", ylabel="number of eigenvalues")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_title(f"{KERNEL_NAMES[study['kernel']]}: {study['title']}")
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3)


def draw_real(figure: Figure, data: Any) -> None:
    """Relative operator errors of both equivalents on real data, activation by activation."""
    panels = list(dict.fromkeys((row["data"], row["kernel"]) for row in data))
    (row_of_axes,) = panels_of(figure, 1, len(panels), 3.2, 3.2)
    for axes, (source, kernel) in zip(row_of_axes, panels, strict=True):
        rows = [row for row in data if (row["data"], row["kernel"]) == (source, kernel)]
        places = np.arange(len(rows))
        for k, (key, label, hatch) in enumerate(
            (("labelled_operator", "labels, class covariances", ""), ("free_operator", "label-free", "//"))
        ):
            heights = [math.nan if row[key] is None else 100 * row[key] for row in rows]
            axes.bar(places + (k - 0.5) * 0.38, heights, 0.36, color=COLOURS[k], label=label, hatch=hatch)
        axes.set_xticks(places, [_short(row["activation"]) for row in rows], rotation=30, ha="right")
        axes.set(ylabel="relative operator error (%)", title=f"{KERNEL_NAMES[kernel]}: {source}")
    figure.legend(*row_of_axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)


def _short(name: str, length: int = 14) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def plain_ticks(axes: Axes, values: Sequence[float]) -> None:
    """Ticks at the values themselves, written as they are; on the logarithmic ordinate at 1, 2 and 5.

    Over more than four decades at powers of ten alone: with 1, 2 and 5 the locator gives up and sets no tick at all.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator

    low, high = axes.get_ylim()
    subs = (1, 2, 5) if high <= 1e4 * low else (1,)

    axes.set_xticks(values, [f"{x:g}" for x in values])
    axes.yaxis.set_major_locator(LogLocator(subs=subs))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes.minorticks_off()
