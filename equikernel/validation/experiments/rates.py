"""How fast the equivalents approach the exact kernels as the dimension grows, on families of Gaussian mixtures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from equikernel.numerics.kernels import implicit_kernels
from equikernel.numerics.norms import operator_norm
from equikernel.theory.models import DEQ
from equikernel.validation.experiments.sources import MixtureSource
from equikernel.validation.experiments.study import (
    Outcome,
    Runner,
    derived_seed,
    describe_deq,
    kernel_uncertainty,
)

__all__ = [
    "PowerLaw",
    "RateConfig",
    "RateLadder",
    "RatePoint",
    "bootstrap_slope",
    "fit_power_law",
    "kernel_errors",
    "rate_ladder",
]

Array = NDArray[np.float64]

CONFIDENCE = 0.95
THEORY_SLOPE = -0.5
_ROUNDING = 10.0  # errors below this multiple of the kernel's own uncertainty have no rate


@dataclass(frozen=True)
class PowerLaw:
    """log(error) = log(factor) + slope log(p), by ordinary least squares over independent data sets.

    Attributes:
        slope: and ``low``, ``high``, its two-sided confidence interval (Student's t), of level ``confidence``.
        standard_error: of the slope.
        factor: the error at p = 1.
        points: the number of data sets.
    """

    slope: float
    low: float
    high: float
    standard_error: float
    factor: float
    points: int
    confidence: float = CONFIDENCE

    @property
    def verdict(self) -> str:
        """How the interval lies to the -1/2 of theory, which bounds the error from above."""
        if self.low <= THEORY_SLOPE <= self.high:
            return "the interval contains −1/2"
        return "faster than −1/2" if self.high < THEORY_SLOPE else "slower than −1/2 over this range"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            **vars(self),
            "theory": THEORY_SLOPE,
            "verdict": self.verdict,
            "provenance": f"least squares of log(error) on log(p) over {self.points} data sets, t interval",
        }


def fit_power_law(sizes: Sequence[float], errors: Sequence[float]) -> PowerLaw | None:
    """Fit error = factor * size^slope; None with fewer than three points, one size, or an error that is not positive.

    Formula: slope +- t(confidence, N - 2) * standard error, of the regression of log(error) on log(size).
    """
    if len(sizes) < 3 or len(set(sizes)) < 2 or min(errors) <= 0:
        return None
    fit = scipy.stats.linregress(np.log(sizes), np.log(errors))
    half = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, len(sizes) - 2)) * float(fit.stderr)
    slope = float(fit.slope)
    return PowerLaw(slope, slope - half, slope + half, float(fit.stderr), math.exp(fit.intercept), len(sizes))


def bootstrap_slope(
    sizes: Sequence[float], errors: Sequence[float], seed: int = 0, resamples: int = 4000
) -> tuple[float, float] | None:
    """Percentile interval of the slope of ``fit_power_law`` when the data sets of each size are drawn anew.

    Formula: with k errors at a size, log-errors m + sqrt(k/(k - 1)) (y_i - m), m their mean and i drawn with
    replacement; the factor undoes the bias of the variance of so few. No normal distribution is assumed, and none of a
    common variance, which matters for heavy tails. Unlike the t interval it does not widen when the law is bent.

    Returns:
        The two ends, at the confidence of ``fit_power_law``; None where that gives None, or a size has one data set.
    """
    if fit_power_law(sizes, errors) is None:
        return None
    x, y = np.log(sizes), np.log(errors)
    rungs = [y[x == size] for size in np.unique(x)]
    if min(map(len, rungs)) < 2:
        return None
    generator = np.random.default_rng(seed)
    design = np.repeat(np.unique(x), [len(rung) for rung in rungs])
    drawn = np.concatenate([_resampled(rung, generator, resamples) for rung in rungs], axis=1)
    weights = design - design.mean()
    slopes = drawn @ weights / (weights @ weights)
    low, high = np.quantile(slopes, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _resampled(rung: Array, generator: np.random.Generator, resamples: int) -> Array:
    count = len(rung)
    picked = rung[generator.integers(0, count, (resamples, count))]
    resampled: Array = rung.mean() + math.sqrt(count / (count - 1)) * (picked - rung.mean())
    return resampled


def kernel_errors(kernel: Array, equivalent: Array) -> dict[str, float]:
    """Operator norms of the difference and of its off-diagonal part, its largest |diagonal entry|, and the scale.

    ``norm`` is that of the exact kernel, and ``uncertainty`` bounds the norm of its numerical error.
    """
    difference = kernel - equivalent
    diagonal = np.diag(difference).copy()
    return {
        "error": operator_norm(difference),
        "off_diagonal": operator_norm(difference - np.diag(diagonal)),
        "diagonal": float(np.abs(diagonal).max()),
        "norm": operator_norm(kernel),
        "uncertainty": kernel_uncertainty(kernel),
    }


@dataclass(frozen=True)
class RatePoint:
    """One data set of the ladder: the exact kernels against the equivalents from the population's statistics."""

    deq: DEQ
    source: MixtureSource
    kernels: tuple[str, ...]
    trained: str

    def describe(self) -> dict[str, Any]:
        """What the numbers depend on."""
        return {
            "study": "rate",
            "deq": describe_deq(self.deq),
            "source": self.source.describe(),
            "kernels": list(self.kernels),
            "trained": self.trained,
        }

    def measure(self) -> dict[str, Any]:
        """The ``kernel_errors`` of each kernel."""
        sample = self.source.load()
        exact = implicit_kernels(sample.X, self.deq, tau0=sample.tau0, trained=self.trained, ntk="ntk" in self.kernels)
        return {
            name: kernel_errors(getattr(exact, name), sample.equivalent(self.deq, name, self.trained, labelled=True))
            for name in self.kernels
        }


@dataclass(frozen=True)
class RateConfig:
    """A ladder of dimensions, several data sets on each rung.

    Attributes:
        deq: the network. family: of mixtures.
        dimensions: p. ratio: n/p.
        replicates: data sets for each p, whose seeds do not depend on the network.
        kernels: of "ck", "ntk". trained: which parameters the NTK trains.
    """

    deq: DEQ
    family: str
    dimensions: tuple[int, ...]
    replicates: int
    seed: int
    ratio: float = 0.5
    kernels: tuple[str, ...] = ("ck", "ntk")
    trained: str = "aA"

    def units(self) -> tuple[RatePoint, ...]:
        """A unit for each data set."""
        return tuple(
            RatePoint(
                self.deq,
                MixtureSource(
                    self.family, p, round(self.ratio * p), derived_seed(self.seed, "rate", self.family, p, replicate)
                ),
                self.kernels,
                self.trained,
            )
            for p in self.dimensions
            for replicate in range(self.replicates)
        )


@dataclass(frozen=True)
class RateLadder:
    """The errors on every data set, and the fitted rates.

    Attributes:
        config: as asked for.
        points: for each data set, p, n, seed and, for each kernel, its ``kernel_errors``.
        failures: the sentences of data sets without numbers.
    """

    config: RateConfig
    points: tuple[dict[str, Any], ...]
    failures: tuple[str, ...]

    @classmethod
    def of(cls, config: RateConfig, units: Sequence[RatePoint], outcomes: Sequence[Outcome]) -> RateLadder:
        """The outcomes of the units, which may be those of several configs that differ in their seeds."""
        points, failures = [], []
        for unit, outcome in zip(units, outcomes, strict=True):
            if outcome.numbers is None:
                failures.append(f"{unit.source.title}, p = {unit.source.p}: {outcome.failure}")
            else:
                points.append({"p": unit.source.p, "n": unit.source.n, "seed": unit.source.seed, **outcome.numbers})
        return cls(config, tuple(points), tuple(dict.fromkeys(failures)))

    @property
    def rates(self) -> dict[str, PowerLaw | None]:
        """Kernel -> fitted power law of the error; None where there is none to fit, as for errors of rounding size."""
        return self._rates("error")

    @property
    def off_diagonal_rates(self) -> dict[str, PowerLaw | None]:
        """The same for the off-diagonal part.

        On the diagonal the error is a multiple of chi_i, and the largest of n such Gaussian variables is of size
        sqrt(log n / p): over a finite range of p the norm of the whole falls more slowly than that of this part.
        """
        return self._rates("off_diagonal")

    @property
    def diagonal_rates(self) -> dict[str, PowerLaw | None]:
        """The same for the largest entry on the diagonal."""
        return self._rates("diagonal")

    def _rates(self, part: str) -> dict[str, PowerLaw | None]:
        fitted = {}
        for kernel in self.config.kernels if self.points else ():
            rounding = any(p[kernel][part] <= _ROUNDING * p[kernel]["uncertainty"] for p in self.points)
            sizes, errors = [p["p"] for p in self.points], [p[kernel][part] for p in self.points]
            fitted[kernel] = None if rounding else fit_power_law(sizes, errors)
        return fitted

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "family": self.config.family,
            "ratio": self.config.ratio,
            "trained": self.config.trained,
            "rates": _exported(self.rates),
            "off_diagonal_rates": _exported(self.off_diagonal_rates),
            "diagonal_rates": _exported(self.diagonal_rates),
            "points": list(self.points),
            "provenance": "operator norm of exact kernel - equivalent (population statistics), both in float64; the "
            "uncertainty bounds the numerical error of the exact kernel",
            "failures": list(self.failures),
        }


def _exported(rates: dict[str, PowerLaw | None]) -> dict[str, dict[str, Any] | None]:
    return {name: None if law is None else law.to_dict() for name, law in rates.items()}


def rate_ladder(config: RateConfig, runner: Runner | None = None) -> RateLadder:
    """‖G − Ḡ‖ and ‖K − K̄‖ over a ladder of dimensions, and the fitted slopes (theory: O(p^{-1/2}), [Ling24])."""
    units = config.units()
    return RateLadder.of(config, units, (runner or Runner()).run(units))
