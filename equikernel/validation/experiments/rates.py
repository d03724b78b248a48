"""How fast the equivalents approach the exact kernels as the dimension grows, on families of Gaussian mixtures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats

from equikernel.numerics.kernels import implicit_kernels
from equikernel.numerics.norms import operator_norm
from equikernel.theory.models import DEQ
from equikernel.validation.experiments.sources import MixtureSource
from equikernel.validation.experiments.study import (
    Runner,
    derived_seed,
    describe_deq,
    kernel_uncertainty,
)

__all__ = ["PowerLaw", "RateConfig", "RateLadder", "RatePoint", "fit_power_law", "rate_ladder"]

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
        """Operator norms of the difference, of its off-diagonal part and of the exact kernel, for each kernel."""
        sample = self.source.load()
        exact = implicit_kernels(sample.X, self.deq, tau0=sample.tau0, trained=self.trained, ntk="ntk" in self.kernels)
        numbers = {}
        for name in self.kernels:
            kernel = getattr(exact, name)
            difference = kernel - sample.equivalent(self.deq, name, self.trained, labelled=True)
            numbers[name] = {
                "error": operator_norm(difference),
                "off_diagonal": operator_norm(difference - np.diag(np.diag(difference))),
                "norm": operator_norm(kernel),
                "uncertainty": kernel_uncertainty(kernel),
            }
        return numbers


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
        points: for each data set, p, n, seed and, for each kernel, error, off_diagonal, norm and uncertainty.
        failures: the sentences of data sets without numbers.
    """

    config: RateConfig
    points: tuple[dict[str, Any], ...]
    failures: tuple[str, ...]

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
    points, failures = [], []
    for unit, outcome in zip(units, (runner or Runner()).run(units), strict=True):
        if outcome.numbers is None:
            failures.append(f"{unit.source.title}, p = {unit.source.p}: {outcome.failure}")
        else:
            points.append({"p": unit.source.p, "n": unit.source.n, "seed": unit.source.seed, **outcome.numbers})
    return RateLadder(config, tuple(points), tuple(dict.fromkeys(failures)))
