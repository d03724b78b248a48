"""What is compared: a formula with its prediction, and estimates with standard errors from groups of draws."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from equikernel.errors import InputError
from equikernel.validation.deq.options import require_count
from equikernel.validation.experiments.study import derived_seed
from equikernel.validation.store import canonical_json

__all__ = ["GROUP", "Case", "CaseUnit", "Formula", "Measured", "mean_of", "number_of_groups", "variance_of"]

Array = NDArray[np.float64]

# Matrices that share an input x: variances at fixed x are those within a group, and groups are independent.
GROUP = 4
_ROUNDING = 1e-11  # relative, of means of quantities that were inverted and iterated to


class Measured(NamedTuple):
    """An estimate and its standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class Formula:
    """One prediction.

    Attributes:
        quantity: what is predicted, as it is written in tables.
        prediction: the limit as N grows, or the exact value at the case's own N.
        error: standard error of the prediction itself, where it comes from sampling.
        trend: at size N the quantity differs from the limit by c N^-trend, at leading order; None where the
            prediction is exact at finite N.
        correction: c, where it is known.
        statistic: "mean", "variance", "median" or "interquartile range": what of the sample is compared.
    """

    quantity: str
    prediction: float
    error: float = 0.0
    trend: float | None = 1.0
    correction: float | None = None
    statistic: str = "mean"


class Case(Protocol):
    """A family of weights with its parameters: what is predicted, and how it is measured at one size."""

    @property
    def group(self) -> str:
        """Which formulas: a word or two for tables."""

    @property
    def family(self) -> str:
        """Of weights."""

    @property
    def parameters(self) -> str:
        """The others, for tables."""

    def describe(self) -> dict[str, Any]:
        """Everything but size, count and seed that the numbers depend on, as plain JSON types."""

    def formulas(self) -> tuple[Formula, ...]:
        """The predictions.

        Raises:
            EquikernelError: there are none at these parameters, sigma beyond its critical value above all.
        """

    def measure(self, size: int, count: int, stream: np.random.Generator) -> Mapping[str, Measured]:
        """Estimates of all quantities from ``count`` matrices of one size."""


@dataclass(frozen=True)
class CaseUnit:
    """One case at one size: a unit of work."""

    case: Case
    size: int
    count: int
    seed: int

    def describe(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "kind": "initialisation statistics",
            "case": self.case.describe(),
            "size": self.size,
            "count": self.count,
            "seed": self.seed,
        }

    def measure(self) -> dict[str, Any]:
        """Value and standard error of each quantity."""
        seed = derived_seed(self.seed, canonical_json(self.case.describe()), self.size)
        measured = self.case.measure(self.size, self.count, np.random.default_rng(seed))
        return {name: list(found) for name, found in measured.items()}


def number_of_groups(count: int) -> int:
    """Groups of ``GROUP`` matrices, at least ``count`` of them in all.

    Raises:
        InputError: fewer than two groups, whose spread is not known.
    """
    groups = math.ceil(require_count(count, "the number of matrices", 1) / GROUP)
    if groups < 2:
        raise InputError(f"standard errors need more than {GROUP} matrices; got {count}")
    return groups


def mean_of(values: Array) -> Measured:
    """The mean and its standard error, from (groups, members); members of a group may depend on each other."""
    means = values.mean(axis=1)
    mean = float(means.mean())
    # rounding, for what is the same in every draw
    return Measured(mean, max(float(means.std(ddof=1)) / math.sqrt(len(means)), _ROUNDING * abs(mean)))


def variance_of(values: Array, factor: float = 1.0) -> Measured:
    """``factor`` times the variance within groups, from (groups, members), and its standard error.

    The mean of the groups' sample variances: unbiased for the mean over x of the variance at fixed x.
    """
    return mean_of(factor * values.var(axis=1, ddof=1, keepdims=True))
