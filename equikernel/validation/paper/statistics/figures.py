"""Figures of ``equikernel experiment statistics``, drawn from plain JSON data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.interpolate
import scipy.special

from equikernel.numerics.initialisation import linear_deq
from equikernel.theory.initialisation import FAMILIES
from equikernel.theory.initialisation_scales import MATCHES, matched_sigma, scale_of
from equikernel.validation.figures import COLOURS, MARKERS, panels_of, plain_ticks
from equikernel.validation.paper.statistics.sweeps import LINEAR

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "NOISES",
    "draw_exponents",
    "draw_lengths",
    "draw_noises",
    "draw_scores",
    "draw_spectra",
    "with_curves",
]

Row = dict[str, Any]

# what is drawn over N: the quantity, and the formulas it belongs to
NOISES = {"N Var r": "linear", "N Var q at fixed x": "nonlinear"}
_SCALES = {"variance": "σ of W", "radius": "spectral radius of W", "operator_norm": "operator norm of W"}
_CURVE_POINTS = 101
_STYLES = ("-", "--", "-.")
_TALLEST = 30.0


def _colour(family: str) -> str:
    return COLOURS[FAMILIES.index(family)]


def _marker(family: str) -> str:
    return MARKERS[FAMILIES.index(family)]


def with_curves(points: Sequence[Row]) -> dict[str, Any]:
    """Points of one activation with the predictions between them: smooth curves through the logarithms."""
    curves = []
    for family in dict.fromkeys(point["family"] for point in points):
        own = sorted((point for point in points if point["family"] == family), key=lambda point: float(point["sigma"]))
        if len(own) < 2:
            continue
        sigma = np.array([point["sigma"] for point in own])
        logs = np.log([[point["prediction"], point["noise_prediction"]] for point in own])
        grid = np.linspace(sigma[0], sigma[-1], _CURVE_POINTS)
        values = np.exp(scipy.interpolate.PchipInterpolator(sigma, logs)(grid))
        curves.append({"family": family, "rows": np.column_stack([grid, values]).tolist()})
    return {"points": list(points), "curves": curves}


def draw_lengths(figure: Figure, data: Any) -> None:
    """Length and relative fluctuation over what is held equal; a column for each of variance, radius, norm."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    panels = panels_of(figure, 2, len(MATCHES), 3.6, 2.7)
    for column, match in enumerate(MATCHES):
        for row, keys in enumerate((("length", "prediction"), ("noise", "noise_prediction"))):
            axes = panels[row][column]
            for curve in data["curves"]:
                family = curve["family"]
                sigma, *values = np.array(curve["rows"]).T
                style = _STYLES[FAMILIES.index(family)]
                x = scale_of(family, match, sigma)
                axes.plot(x, values[row], style, color=_colour(family), label=f"{family}, theory")
            _points(axes, data["points"], match, keys[0])
            axes.set_xlabel(_SCALES[match])
            if row or _steep(data["points"]):
                axes.set_yscale("log")
                low, high = axes.get_ylim()
                axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1e2 * low else (1,)))
                axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
                axes.yaxis.set_minor_formatter(NullFormatter())
    first = data["points"][0]
    panels[0][0].set_ylabel("|z*|²/|x|²")
    panels[1][0].set_ylabel("N Var|z*|² / mean²")
    for axes, match in zip(panels[0], MATCHES, strict=True):
        axes.set_title(f"equal {match.replace('_', ' ')}")
    name = "linear networks" if first["act"] == LINEAR else f"networks with {first['act']}"
    figure.suptitle(f"{name}: points are medians and interquartile ranges at N = {first['size']}", fontsize=9)
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=6)


def _steep(points: Sequence[Row]) -> bool:
    lengths = [point["prediction"] for point in points]
    return bool(max(lengths) > 5.0 * min(lengths))


def _points(axes: Axes, points: Sequence[Row], match: str, key: str) -> None:
    for family in dict.fromkeys(point["family"] for point in points):
        own = [p for p in points if p["family"] == family and p[key] is not None]
        axes.errorbar(
            [p[match] for p in own],
            [p[key] for p in own],
            yerr=[p[f"{key}_error"] or 0.0 for p in own],
            fmt=_marker(family),
            color=_colour(family),
            markersize=4,
            capsize=2,
            linestyle="none",
            label=f"{family}, simulated",
        )


def draw_noises(figure: Figure, data: Any) -> None:
    """N Var over N: simulated, the fitted limit + c/N, and the predicted limit; a panel for each setting."""
    titles = list(dict.fromkeys(_setting(row) for row in data))
    columns = min(3, len(titles))
    panels = [axes for row in panels_of(figure, math.ceil(len(titles) / columns), columns, 3.6, 2.8) for axes in row]
    for axes, title in zip(panels, titles, strict=False):
        own = [row for row in data if _setting(row) == title]
        for row in own:
            family, sizes = row["family"], np.array(row["sizes"], dtype=float)
            x = np.geomspace(sizes[0] / 1.15, sizes[-1] * 1.15, 60)
            axes.plot(x, row["limit"] + row["c"] / x, color=_colour(family), linewidth=1.0)
            axes.axhline(row["prediction"], color=_colour(family), linestyle="--", linewidth=1.0)
            axes.errorbar(
                sizes,
                row["values"],
                yerr=row["errors"],
                fmt=_marker(family),
                color=_colour(family),
                markersize=4,
                capsize=2,
                label=f"{family}, {_sigma_of(row)}",
            )
        axes.set(xscale="log", xlabel="N", ylabel=own[0]["quantity"], title=title)
        axes.set_xticks(own[0]["sizes"], [f"{n}" for n in own[0]["sizes"]])
        axes.minorticks_off()
        axes.set_ylim(top=axes.get_ylim()[1] + 0.35 * (axes.get_ylim()[1] - axes.get_ylim()[0]))
        axes.legend(loc="upper center", ncols=2, fontsize=6.5)
    for axes in panels[len(titles) :]:
        axes.set_visible(False)
    figure.suptitle("points: simulated; lines: fit of limit + c/N; dashed: predicted limit", fontsize=9)


def _sigma_of(row: Row) -> str:
    return next(part for part in str(row["parameters"]).split(", ") if part.startswith("σ"))


def _setting(row: Row) -> str:
    if row["group"] == NOISES["N Var r"]:
        return "linear"
    act, _, law = row["parameters"].split(", ", 2)
    return f"{act}, {law}"


def draw_spectra(figure: Figure, data: Any) -> None:
    """Eigenvalues of J: in the plane with the predicted circle, or a histogram with the predicted edge."""
    (row,) = panels_of(figure, 1, len(data), 3.5, 3.5)
    for axes, spectrum in zip(row, data, strict=True):
        colour, radius = _colour(spectrum["family"]), spectrum["radius"]
        axes.set_title(f"{spectrum['family']}, {spectrum['act']}, σ = {spectrum['sigma']:.3g}, N = {spectrum['size']}")
        if spectrum["family"] == "goe" and not np.any(spectrum["imaginary"]):
            axes.hist(spectrum["real"], 40, density=True, color=colour, alpha=0.5)
            for sign in (-1, 1):
                label = f"predicted edge ±{radius:.3f}" if sign > 0 else None
                axes.axvline(sign * radius, color="#000000", linestyle="--", label=label)
            axes.set(xlabel="eigenvalue", ylabel="density")
            axes.locator_params(axis="x", nbins=5)
        else:
            angle = np.linspace(0.0, 2.0 * math.pi, 200)
            axes.plot(spectrum["real"], spectrum["imaginary"], ".", color=colour, markersize=3)
            circle = radius * np.cos(angle), radius * np.sin(angle)
            axes.plot(*circle, "--", color="#000000", label=f"predicted radius {radius:.3f}")
            axes.set_aspect("equal")
            axes.set(xlabel="real part", ylabel="imaginary part")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16))


def draw_exponents(figure: Figure, data: Any) -> None:
    """Median r and typical N Var r over eps at the largest N, log-log, with the formulas and the fitted exponents."""
    (row,) = panels_of(figure, 1, 2, 4.4, 3.6)
    for axes, start, label in (
        (row[0], "median r", "median |z*|²/|x|²"),
        (row[1], "typical N Var r", "N (IQR/1.349)²"),
    ):
        for family in dict.fromkeys(entry["family"] for entry in data):
            own = [entry for entry in data if entry["family"] == family and entry["quantity"].startswith(start)]
            eps = np.array([float(entry["quantity"].split("= ")[1]) for entry in own])
            name = f"exponent of {start.split(' ', 1)[1]}"
            (fit,) = (entry for entry in data if (entry["family"], entry["quantity"]) == (family, name))
            grid = np.geomspace(eps.min() / 1.2, eps.max() * 1.1, 60)
            axes.plot(grid, [_formula(family, e, start) for e in grid], color=_colour(family))
            exponent, error = fit["values"][-1], 1.96 * fit["errors"][-1]
            axes.errorbar(
                eps,
                [entry["values"][-1] for entry in own],
                yerr=[entry["errors"][-1] for entry in own],
                fmt=_marker(family),
                color=_colour(family),
                markersize=5,
                capsize=2,
                label=f"{family}, N = {own[0]['sizes'][-1]}: {exponent:.2f} ± {error:.2f}",
            )
        axes.set(xscale="log", yscale="log", xlabel="ε = 1 − radius²", ylabel=label)
        plain_ticks(axes, [0.03, 0.06, 0.12, 0.25, 0.5])
        axes.legend(loc="upper right", title="measured exponent, 95 %", title_fontsize=7.5)


def _formula(family: str, eps: float, start: str) -> float:
    found = linear_deq(family, matched_sigma(family, "radius", math.sqrt(1.0 - eps)))
    return float(found.length if start == "median r" else found.length_noise)


def draw_scores(figure: Figure, data: Any) -> None:
    """All z-scores beside the normal density, and ordered against its quantiles."""
    left, right = panels_of(figure, 1, 2, 3.8, 3.0)[0]
    z = np.sort(np.clip(data, -_TALLEST, _TALLEST))
    reach = max(4.0, float(np.abs(z).max()) + 0.5)
    grid = np.linspace(-reach, reach, 200)
    left.hist(z, np.linspace(-reach, reach, 33).tolist(), density=True, color=COLOURS[0], alpha=0.5)
    left.plot(grid, np.exp(-(grid**2) / 2) / math.sqrt(2 * math.pi), color="#000000", linestyle="--", label="N(0, 1)")
    left.set(xlabel="z-score", ylabel="density", title=f"{len(z)} comparisons")
    left.legend()
    normal = scipy.special.ndtri((np.arange(len(z)) + 0.5) / len(z))
    right.plot(normal, z, "o", color=COLOURS[0], markersize=3)
    right.plot(normal, normal, color="#000000", linestyle="--")
    right.set(xlabel="quantile of N(0, 1)", ylabel="z-score", title="ordered")
