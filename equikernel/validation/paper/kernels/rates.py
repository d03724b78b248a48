"""How fast G and K approach their high-dimensional equivalents on Gaussian mixtures, for several activations."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize
import scipy.stats

from equikernel.errors import InputError
from equikernel.numerics.class_statistics import covariance_trace
from equikernel.theory.models import DEQ
from equikernel.validation.deq.options import require_count
from equikernel.validation.experiments.rates import THEORY_SLOPE, PowerLaw, RateConfig, RateLadder
from equikernel.validation.experiments.study import Outcome, Unit, describe_deq
from equikernel.validation.figures import KERNEL_NAMES
from equikernel.validation.mixtures import GaussianMixture, class_counts, mixture_family
from equikernel.validation.paper.experiment import Drawing, Findings, require_seeds, spread
from equikernel.validation.paper.kernels.figures import draw_ladders
from equikernel.validation.tables import Column, Table

__all__ = [
    "RatesExperiment",
    "interval",
    "kernels_of",
    "largest_norm_deviation",
    "require_dimensions",
    "spreads_by_size",
]

PARTS = {"error": "whole", "off_diagonal": "off-diagonal", "diagonal": "largest diagonal entry"}


def kernels_of(deq: DEQ, trained: str) -> tuple[tuple[str, ...], str]:
    """The kernels that the activation has, and what is trained: "ck" alone, of "a", where E[phi'^2] is infinite."""
    return (("ck", "ntk"), trained) if deq.activation.has_square_integrable_derivative else (("ck",), "a")


def require_dimensions(dimensions: Sequence[int]) -> tuple[int, ...]:
    """Two or more different dimensions, in increasing order.

    Raises:
        InputError: fewer, or something else.
    """
    chosen = tuple(sorted({require_count(p, "a dimension", 1) for p in dimensions}))
    if len(chosen) < 2:
        raise InputError(f"a rate needs two or more different dimensions; got {', '.join(map(str, dimensions))}")
    return chosen


def interval(law: PowerLaw) -> str:
    """The confidence interval of a slope, for reading."""
    return f"[{law.low:.3f}, {law.high:.3f}]"


def spreads_by_size(sizes: Sequence[int], errors: Sequence[float]) -> dict[str, list[float]]:
    """Mean and standard deviation over the data sets of each size: p, mean, sd, the form that a figure draws."""
    values = {p: [e for size, e in zip(sizes, errors, strict=True) if size == p] for p in sorted(set(sizes))}
    means = {p: spread(v) for p, v in values.items()}
    return {
        "p": list(means),
        "mean": [m.mean for m in means.values()],
        "sd": [m.sd or 0.0 for m in means.values()],
    }


def largest_norm_deviation(mixture: GaussianMixture, n: int) -> float:
    """The median of the largest |chi_i| of n samples of a Gaussian mixture, in the normal approximation.

    Formula: chi_i = (t_a + s_a xi)/sqrt(p) in class a, t_a = tr(C_a - C0)/sqrt(p), s_a^2 = 2 tr(C_a^2)/p; the median m
    of the largest modulus has prod_a P(|chi| < m)^{n_a} = 1/2. It falls like sqrt(log n/p), more slowly than p^{-1/2}.
    """
    p = mixture.p
    counts = class_counts(n, mixture.proportions)
    traces = np.array([covariance_trace(form, p) for form in mixture.covariances])
    shifts = (traces - counts @ traces / n) / p
    scales = (
        np.array([math.sqrt(2 * (p if form.ndim == 0 else 1) * float(np.sum(form**2))) for form in mixture.covariances])
        / p
    )
    normal = scipy.stats.norm

    def excess(m: float) -> float:
        inside = normal.cdf((m - shifts) / scales) - normal.cdf((-m - shifts) / scales)
        return float(counts @ np.log(inside)) + math.log(2)

    farthest = float(np.max(np.abs(shifts) + scales * math.sqrt(2 * math.log(4 * n + 4))))
    return float(scipy.optimize.brentq(excess, 1e-3 * farthest + float(scales.min()), 4 * farthest))


@dataclass(frozen=True)
class RatesExperiment:
    """||G - Gbar|| and ||K - Kbar|| on ladders of dimensions.

    Attributes:
        deqs: the networks. family: of Gaussian mixtures.
        dimensions: p. ratio: n/p. seeds: of the data sets, one for each p and seed, the same for all networks.
        trained: which parameters the NTK trains.
    """

    deqs: tuple[DEQ, ...]
    dimensions: tuple[int, ...] = (100, 200, 400, 800, 1600)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    family: str = "isotropic"
    ratio: float = 0.5
    trained: str = "aA"

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", require_seeds(self.seeds))
        object.__setattr__(self, "dimensions", require_dimensions(self.dimensions))
        if not self.deqs:
            raise InputError("give one activation or more")

    @property
    def name(self) -> str:
        """For files."""
        return "rates"

    @property
    def title(self) -> str:
        """For headings."""
        return "Rates of the high-dimensional equivalents"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "deqs": [describe_deq(deq) for deq in self.deqs],
            **{key: getattr(self, key) for key in ("dimensions", "seeds", "family", "ratio", "trained")},
        }

    def units(self) -> Sequence[Unit]:
        """A unit for each network, seed and dimension."""
        return [unit for deq in self.deqs for config in self._configs(deq) for unit in config.units()]

    @property
    def diagonal_slope(self) -> float:
        """The slope of ``largest_norm_deviation`` over the dimensions: that of the diagonal, to first order in chi."""
        sizes = np.array(self.dimensions, dtype=float)
        largest = [
            largest_norm_deviation(mixture_family(self.family)(p), round(self.ratio * p)) for p in self.dimensions
        ]
        return float(np.polyfit(np.log(sizes), np.log(largest), 1)[0])

    def _configs(self, deq: DEQ) -> list[RateConfig]:
        kernels, trained = kernels_of(deq, self.trained)
        return [
            RateConfig(deq, self.family, self.dimensions, 1, seed, self.ratio, kernels, trained) for seed in self.seeds
        ]

    def findings(self, outcomes: Sequence[Outcome]) -> Findings:
        """Slopes of the whole error, of its off-diagonal part and of its diagonal."""
        done = iter(outcomes)
        ladders = []
        for deq in self.deqs:
            configs = self._configs(deq)
            units = [unit for config in configs for unit in config.units()]
            ladders.append(RateLadder.of(configs[0], units, list(itertools.islice(done, len(units)))))
        rows = [row for ladder in ladders for row in self._rows(ladder)]
        return Findings(
            {
                "ladders": [ladder.to_dict() | {"deq": describe_deq(ladder.config.deq)} for ladder in ladders],
                "slopes": rows,
                "slope_of_largest_norm_deviation": self.diagonal_slope,
            },
            (self._table(rows),),
            {"rates": Drawing(draw_ladders, _drawing(ladders))},
            self._remarks(rows),
        )

    def _rows(self, ladder: RateLadder) -> list[dict[str, Any]]:
        laws = {"error": ladder.rates, "off_diagonal": ladder.off_diagonal_rates, "diagonal": ladder.diagonal_rates}
        rows = []
        for kernel in ladder.config.kernels if ladder.points else ():
            for part, fitted in laws.items():
                law = fitted[kernel]
                last = [x[kernel][part] for x in ladder.points if x["p"] == max(y["p"] for y in ladder.points)]
                rows.append(
                    {
                        "activation": ladder.config.deq.activation.name,
                        "kernel": KERNEL_NAMES[kernel],
                        "part": PARTS[part],
                        "slope": law and law.slope,
                        "interval": law and interval(law),
                        "low": law and law.low,
                        "high": law and law.high,
                        "verdict": law.verdict if law else "rounding: no rate",
                        "last": spread(last).shown(),
                        "last_mean": spread(last).mean,
                        "last_sd": spread(last).sd,
                        "points": len(ladder.points),
                    }
                )
        return rows

    def _table(self, rows: list[dict[str, Any]]) -> Table:
        return Table(
            name="rates",
            caption=f"Slopes in p of ‖exact − equivalent‖, Gaussian mixture ({self.family}), population statistics, "
            f"n = {self.ratio:g} p, p = {self.dimensions[0]} … {self.dimensions[-1]}, {len(self.seeds)} seeds, 95 % "
            "t intervals; mean ± sd of the error at the largest p",
            columns=(
                Column("activation", "activation"),
                Column("kernel", "kernel"),
                Column("part", "part of the error"),
                Column("slope", "slope", form=".3f"),
                Column("interval", "95 % interval"),
                Column("verdict", "theory: −1/2"),
                Column("last", f"error at p = {self.dimensions[-1]}"),
            ),
            rows=tuple(rows),
        )

    def _remarks(self, rows: list[dict[str, Any]]) -> tuple[str, ...]:
        extreme = self.diagonal_slope
        remarks = [
            (
                "The diagonal of the error is to first order a multiple of chi_i, and the largest of n Gaussian norms "
                "falls like sqrt(log n/p): it makes the whole norm fall a little more slowly than p^(-1/2). Over these "
                f"dimensions the largest |chi_i| falls with the slope {extreme:.3f}."
            )
        ]
        for row in rows:
            # the whole lies between its parts; what is of second order in chi makes the diagonal steeper at small p
            slowest = THEORY_SLOPE if row["part"] == PARTS["off_diagonal"] else extreme
            if row["slope"] is None or (row["low"] <= slowest and row["high"] >= THEORY_SLOPE):
                continue
            expected = "-1/2" if slowest == THEORY_SLOPE else f"between -1/2 and {extreme:.3f}"
            reason = (
                "Theory bounds the error from above: terms of higher order make it fall faster at small p."
                if row["high"] < THEORY_SLOPE
                else "Slower than theory."
            )
            remarks.append(
                f"{row['activation']}, {row['kernel']}, {row['part']}: slope {row['slope']:.3f} {row['interval']}, "
                f"where {expected} was expected. {reason}"
            )
        return tuple(remarks)


def _drawing(ladders: Sequence[RateLadder]) -> dict[str, Any]:
    parts = ("error", "off_diagonal")
    kernels = [k for k in KERNEL_NAMES if any(k in ladder.config.kernels for ladder in ladders)]
    return {
        "rows": [PARTS[part] for part in parts],
        "columns": [KERNEL_NAMES[kernel] for kernel in kernels],
        "series": [
            {
                "row": PARTS[part],
                "column": KERNEL_NAMES[kernel],
                "label": ladder.config.deq.activation.name,
                **spreads_by_size([x["p"] for x in ladder.points], [x[kernel][part] for x in ladder.points]),
            }
            for ladder in ladders
            if ladder.points
            for kernel in ladder.config.kernels
            for part in parts
        ],
    }
