"""Statistics of the scores of many activations: seeds put together, and care for how many tests there are."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.special
import scipy.stats
from numpy.typing import NDArray

from equikernel.validation.corrections import BiasMoments, fitted_power
from equikernel.validation.experiments.sources import DatasetSource, MixtureSource, Source
from equikernel.validation.paper.experiment import spread

__all__ = [
    "KERNELS",
    "KERNEL_TEXTS",
    "REFERENCE_WIDTH",
    "SIGNIFICANCE",
    "holm",
    "judge",
    "kernel_row",
    "kernel_summary",
]

# the kernels, and the groups of parameters whose gradients they are made of; None for the CK
KERNELS = {"ck": None, "aA": "aA", "aAB": "aAB"}
KERNEL_TEXTS = {"ck": "CK", "aA": "NTK, a and A", "aAB": "NTK, a, A and B"}
REFERENCE_WIDTH = 1024
SIGNIFICANCE = 1e-3
_CLEAR = 10.0  # strength of a correction whose power is shown; to show narrow intervals would prefer small powers
_QUANTILES = 201


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values: the chance of one so small among all, at most, however they depend on each other.

    Formula: with p_(1) <= ... <= p_(k), adjusted_(i) = max over j <= i of min(1, (k - j + 1) p_(j)).
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)
    stepped = np.maximum.accumulate(np.minimum(p[order] * np.arange(len(p), 0, -1), 1.0))
    adjusted = np.empty_like(p)
    adjusted[order] = stepped
    return [float(x) for x in adjusted]


def kernel_row(name: str, source: Source, numbers: dict[str, Any], kernel: str) -> dict[str, Any]:
    """One kernel of one activation on one source, its seeds taken together."""
    seeds = [seed[kernel] for seed in numbers["seeds"]]
    summaries = [seed["z"] for seed in seeds]
    entries = sum(s["entries"] for s in summaries)
    largest = max(s["largest"] for s in summaries)
    mean = float(np.mean([s["mean"] for s in summaries]))
    mean_error = math.sqrt(sum(s["mean_error"] ** 2 for s in summaries)) / len(seeds)
    rms = spread([s["std"] for s in summaries])
    misfit = spread([seed["linear"]["misfit"] for seed in seeds])
    moments = [BiasMoments.from_dict(seed["bias"]) for seed in seeds]
    correction = spread([100.0 * m.size(REFERENCE_WIDTH) for m in moments])
    power, strength = fitted_power(moments), float(np.mean([m.strength for m in moments]))
    p_value = _fisher([s["p_value"] for s in summaries])
    p_largest = -math.expm1(entries * math.log1p(-2.0 * float(scipy.special.ndtr(-largest))))
    return {
        "activation": name,
        "data": _data_text(source),
        "kernel": kernel,
        "sigma_a2": numbers["sigma_a2"],
        "widths": f"{numbers['widths'][0]}–{numbers['widths'][-1]}",
        "entries": entries,
        "mean": mean,
        "mean_error": mean_error,
        "mean_shown": f"{mean:.2f} ± {mean_error:.2f}",
        "rms": rms.mean,
        "rms_sd": rms.sd,
        "rms_shown": rms.shown(".2f"),
        "largest": largest,
        "largest_bound": _bound(entries),
        "p_value": p_value,
        "p_largest": p_largest,
        "decisive_p": min(1.0, 2.0 * min(p_value, p_largest)),
        "seed_p_values": [s["p_value"] for s in summaries],
        "linear_p_value": _fisher([seed["linear"]["z"]["p_value"] for seed in seeds]),
        "misfit": misfit.mean,
        "misfit_sd": misfit.sd,
        "misfit_shown": misfit.shown(".2f"),
        "curvature_p": _fisher([seed["highest"]["p_value"] for seed in seeds]),
        "correction": correction.mean,
        "correction_sd": correction.sd,
        "correction_shown": correction.shown(".2g"),
        "strength": strength,
        "power": power.value,
        "power_low": power.low,
        "power_high": power.high,
        "power_shown": power.shown() if strength >= _CLEAR else None,
        "seeds": moments,
    }


def _data_text(source: Source) -> str:
    match source:
        case MixtureSource():
            return f"{source.title}, p = {source.p}, no front end"
        case DatasetSource():
            # every seed has samples of its own; the number is that of the first
            preparation = re.sub(r" with seed [0-9]+", " for each seed", source.preprocessing)
            return f"{source.title}, p = {source.p}, {preparation}"


def _fisher(p_values: Sequence[float]) -> float:
    """Fisher's combination of independent p-values: -2 sum log p is chi-square with two degrees of freedom each."""
    total = -2.0 * sum(math.log(max(p, 5e-324)) for p in p_values)
    return float(scipy.stats.chi2.sf(total, 2 * len(p_values)))


def _bound(count: int) -> float:
    """What max |z| of ``count`` scores exceeds with probability at most 1e-3 whatever their correlations (Sidak)."""
    return float(-scipy.special.ndtri(-math.expm1(math.log1p(-SIGNIFICANCE) / count) / 2.0))


def judge(rows: list[dict[str, Any]], p: str, adjusted: str, verdict: str, words: tuple[Any, Any]) -> None:
    """Write to every row its p-value adjusted for all rows, and the first or, below 1e-3, the second of two words."""
    for row, value in zip(rows, holm([row[p] for row in rows]), strict=True):
        row[adjusted] = value
        row[verdict] = words[value < SIGNIFICANCE]


def kernel_summary(
    done: Sequence[tuple[str, Source, dict[str, Any]]], rows: Sequence[dict[str, Any]], kernel: str
) -> dict[str, Any]:
    """All activations and sources of one kernel: their networks are independent, and so are their p-values."""
    own = [row for row in rows if row["kernel"] == kernel]
    scores = np.sort([z for _, _, numbers in done for seed in numbers["seeds"] for z in seed[kernel]["scores"]])
    p_values = [p for row in own for p in row["seed_p_values"]]
    test = scipy.stats.kstest(p_values, "uniform")
    power = fitted_power([m for row in own for m in row["seeds"]])
    worst = min(own, key=lambda row: float(row["holm"]))
    places = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    return {
        "kernel": kernel,
        "kernel_text": KERNEL_TEXTS[kernel],
        "rows": len(own),
        "activations": len({row["activation"] for row in own}),
        "entries": len(scores),
        "mean": float(np.mean([row["mean"] for row in own])),
        "mean_error": math.sqrt(sum(row["mean_error"] ** 2 for row in own)) / len(own),
        "rms": float(np.sqrt(np.mean(np.square(scores)))),
        "beyond3": 100.0 * float(np.mean(np.abs(scores) > 3.0)),
        "largest": float(np.abs(scores).max()),
        "largest_bound": _bound(len(scores)),
        "smallest_holm": worst["holm"],
        "smallest_holm_of": f"{worst['activation']} on {worst['data'].split(',')[0]}",
        "failures": sum(row["verdict"] != "agrees" for row in own),
        "ks_statistic": float(test.statistic),
        "ks_p_value": float(test.pvalue),
        "p_values": sorted(p_values),
        "correction_median": float(np.median([row["correction"] for row in own])),
        "correction_largest": max(row["correction"] for row in own),
        "misfit_median": float(np.median([row["misfit"] for row in own])),
        "power": power.value,
        "power_error": power.error,
        "power_shown": power.shown(),
        "curved": sum(row["curved"] for row in own),
        # the ends in full, where a deviation would show
        "normal": [
            float(x)
            for x in np.concatenate(
                [_ends(len(scores), 10), scipy.special.ndtri(places), -_ends(len(scores), 10)[::-1]]
            )
        ],
        "quantiles": [float(x) for x in np.concatenate([scores[:10], np.quantile(scores, places), scores[-10:]])],
    }


def _ends(count: int, few: int) -> NDArray[np.float64]:
    """Normal scores of the ``few`` smallest of ``count`` numbers."""
    return np.asarray(scipy.special.ndtri((np.arange(min(few, count)) + 0.5) / count))
