"""Estimates at several sizes against one prediction: trends in 1/N, z-scores, and how many of them are large."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.special
import scipy.stats

from equikernel.validation.paper.scores.statistics import SIGNIFICANCE, holm, judge
from equikernel.validation.paper.statistics.formulas import Formula, Measured

__all__ = ["Trend", "compare", "fit_trend", "judged", "overview", "p_value"]


_SQUARES = ("variance", "interquartile range")


@dataclass(frozen=True)
class Trend:
    """The fit value = limit + slope/N^power: both with standard errors, and the misfit with its degrees of freedom."""

    limit: Measured
    slope: Measured
    misfit: float
    freedom: int


def p_value(z: float) -> float:
    """Of a z-score, two-sided."""
    return 2.0 * float(scipy.special.ndtr(-abs(z)))


def fit_trend(sizes: Sequence[int], measured: Sequence[Measured], power: float) -> Trend:
    """Weighted least squares of value = limit + slope N^-power, weights 1/error^2.

    Two different sizes or more; errors are positive.
    """
    x = np.asarray(sizes, dtype=float) ** -power
    value, error = np.array(measured, dtype=float).T
    w = error**-2.0
    total, centre = float(w.sum()), float(w @ x / w.sum())
    spread = float(w @ (x - centre) ** 2)
    slope = float(w @ ((x - centre) * value)) / spread
    limit = float(w @ value) / total - slope * centre
    left = value - limit - slope * x
    return Trend(
        Measured(limit, math.sqrt(1.0 / total + centre**2 / spread)),
        Measured(slope, 1.0 / math.sqrt(spread)),
        float(w @ left**2),
        len(x) - 2,
    )


def compare(formula: Formula, sizes: Sequence[int], measured: Sequence[Measured]) -> dict[str, Any]:
    """One row: the estimates at all sizes, the limit they have, and z-scores.

    Standard errors of variances are those of the prediction: relative errors times it.
    ``z`` tests the prediction: the extrapolated limit, or (exact at finite N) the value itself, against it, with both
    standard errors. ``size_z`` tests each size: its deviation less c/N, with c known, or fitted with the limit held at
    the prediction; its standard error allows for that fit.
    """
    value, error = np.array(measured, dtype=float).T
    if formula.statistic in _SQUARES:
        # the error of a variance is proportional to it: weights by the measured value would favour the small ones
        error = error / value * abs(formula.prediction)
    row: dict[str, Any] = {
        "quantity": formula.quantity,
        "prediction": formula.prediction,
        "prediction_error": formula.error,
        "sizes": list(sizes),
        "values": value.tolist(),
        "errors": error.tolist(),
        "statistic": formula.statistic,
        "trend": formula.trend,
        "known": formula.correction,
    }
    if formula.trend is None:
        z = [float(d) for d in (value - formula.prediction) / error]
        limit = Measured(float(value[-1]), float(error[-1]))
        extra: dict[str, Any] = {"c": None, "c_error": None, "misfit_p": None, "scaled": [None] * len(z), "size_z": z}
    else:
        trend = fit_trend(sizes, [Measured(*pair) for pair in zip(value, error, strict=True)], formula.trend)
        limit = trend.limit
        powers = np.asarray(sizes, dtype=float) ** formula.trend
        extra = {
            "c": trend.slope.value,
            "c_error": trend.slope.error,
            "misfit_p": float(scipy.stats.chi2.sf(trend.misfit, trend.freedom)) if trend.freedom else None,
            "scaled": [float(d) for d in (value - formula.prediction) * powers],
            "size_z": _size_scores(formula, 1.0 / powers, value, error),
        }
    z_limit = (limit.value - formula.prediction) / math.hypot(limit.error, formula.error)
    return row | extra | {"limit": limit.value, "limit_error": limit.error, "z": z_limit, "p": p_value(z_limit)}


def _size_scores(formula: Formula, x: Any, value: Any, error: Any) -> list[float]:
    deviation = value - formula.prediction
    if formula.correction is not None:
        left, variance = deviation - formula.correction * x, error**2
    else:
        information = float(np.sum((x / error) ** 2))
        left = deviation - x * float(np.sum(x * deviation / error**2)) / information
        variance = error**2 - x**2 / information
    return [float(z) for z in left / np.sqrt(variance + formula.error**2)]


def judged(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, each with its p-value adjusted by Holm for all of them and a verdict."""
    judge(rows, "p", "holm", "verdict", ("agrees", "differs"))
    return rows


def overview(name: str, scores: Sequence[float]) -> dict[str, Any]:
    """How z-scores are distributed that should be N(0, 1)."""
    z = np.array(scores, dtype=float)
    p_values = [p_value(float(k)) for k in z]
    test = scipy.stats.kstest(p_values, "uniform")
    return {
        "name": name,
        "count": len(z),
        "largest": float(np.abs(z).max()),
        # Bonferroni's: no |z| is larger, but with probability 1e-3
        "bound": float(-scipy.special.ndtri(SIGNIFICANCE / len(z) / 2.0)),
        "rms": float(np.sqrt(np.mean(z**2))),
        "beyond2": int(np.sum(np.abs(z) > 2.0)),
        "expected2": len(z) * p_value(2.0),
        "beyond3": int(np.sum(np.abs(z) > 3.0)),
        "expected3": len(z) * p_value(3.0),
        "smallest_holm": min(holm(p_values)),
        "ks_statistic": float(test.statistic),
        "ks_p_value": float(test.pvalue),
    }
