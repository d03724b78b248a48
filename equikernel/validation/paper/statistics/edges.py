"""Near the edge of stability: typical lengths and fluctuations of linear DEQs, and exponents of divergence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from equikernel.numerics.initialisation import linear_deq
from equikernel.theory.initialisation_scales import matched_sigma
from equikernel.validation.paper.statistics.ensembles import linear_lengths
from equikernel.validation.paper.statistics.formulas import Formula, Measured

__all__ = ["EDGE_GROUP", "EdgeCase", "from_resamples", "log_slope", "typical_noise"]

Array = NDArray[np.float64]

EDGE_GROUP = "linear, near the edge"
_RESAMPLES = 400
# the interquartile range of N(0, 1)
_NORMAL_RANGE = 2.0 * float(scipy.stats.norm.ppf(0.75))


def typical_noise(r: Array, size: int) -> Array:
    """N times the square of (interquartile range of r)/1.349 over the last axis: N Var r where r is Gaussian."""
    low, high = np.quantile(r, [0.25, 0.75], axis=-1)
    return np.asarray(size * ((high - low) / _NORMAL_RANGE) ** 2)


def log_slope(eps: Array, values: Array) -> Array:
    """The exponent: least-squares slope of -log(values) in log(eps); values (..., eps)."""
    x = np.log(eps) - np.mean(np.log(eps))
    return np.asarray(-(np.log(values) @ x) / (x @ x))


@dataclass(frozen=True)
class EdgeCase:
    """One family at several eps = 1 - radius^2; medians, since at finite N means are infinite (iid, goe)."""

    family: str
    eps: tuple[float, ...]

    @property
    def group(self) -> str:
        """For tables."""
        return EDGE_GROUP

    @property
    def parameters(self) -> str:
        """For tables."""
        return f"ε = {min(self.eps):g} … {max(self.eps):g}"

    def describe(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"group": self.group, "family": self.family, "eps": list(self.eps)}

    @property
    def sigmas(self) -> list[float]:
        """The standard deviations with these eps."""
        return [matched_sigma(self.family, "radius", math.sqrt(1.0 - e)) for e in self.eps]

    def formulas(self) -> tuple[Formula, ...]:
        """Medians of r against tau(P), its typical noise against N Var r; slopes of these formulas over the eps."""
        found = [linear_deq(self.family, sigma) for sigma in self.sigmas]
        lengths, noises = np.array([f.length for f in found]), np.array([f.length_noise for f in found])
        eps = np.array(self.eps)
        rows = []
        for e, length, noise in zip(self.eps, lengths, noises, strict=True):
            rows += [
                Formula(f"median r, ε = {e:g}", float(length), statistic="median"),
                Formula(f"typical N Var r, ε = {e:g}", float(noise), statistic="interquartile range"),
            ]
        return (
            *rows,
            Formula("exponent of r", float(log_slope(eps, lengths)), statistic="median"),
            Formula("exponent of N Var r", float(log_slope(eps, noises)), statistic="interquartile range"),
        )

    def measure(self, size: int, count: int, stream: np.random.Generator) -> dict[str, Measured]:
        """By ``linear_lengths``, each matrix at every eps; standard errors by resampling matrices."""
        r = linear_lengths(stream, self.family, self.sigmas, count, size)
        picked = stream.integers(count, size=(_RESAMPLES, count))
        rows = [_typical(r, size)]
        rows += [_typical(r[:, indices], size) for indices in picked]
        eps = np.array(self.eps)
        lengths, noises = (np.stack(part) for part in zip(*rows, strict=True))
        found = {}
        for k, e in enumerate(self.eps):
            found[f"median r, ε = {e:g}"] = from_resamples(lengths[:, k])
            found[f"typical N Var r, ε = {e:g}"] = from_resamples(noises[:, k])
        return found | {
            "exponent of r": from_resamples(log_slope(eps, lengths)),
            "exponent of N Var r": from_resamples(log_slope(eps, noises)),
        }


def _typical(r: Array, size: int) -> tuple[Array, Array]:
    return np.median(r, axis=1), typical_noise(r, size)


def from_resamples(values: Array) -> Measured:
    """The first value, and the standard deviation of the others, which are resampled."""
    return Measured(float(values[0]), float(values[1:].std(ddof=1)))
