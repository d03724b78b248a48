"""What an identity is: a statement about an activation, measured at points, each a dictionary of plain numbers."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from equikernel.numerics.moments import Moments, gaussian_moments
from equikernel.theory.activation import Activation
from equikernel.theory.models import DEQ
from equikernel.validation.reference_quadrature import Estimate, gaussian_expectation

__all__ = ["EPS", "Identity", "Measured", "Point", "Subject", "worst"]

Point = dict[str, Any]
EPS = 2.0**-52
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """How far an identity is from holding, how far it may be, and what was compared."""

    error: float
    tolerance: float
    what: str = ""

    @property
    def ratio(self) -> float:
        """error/tolerance; infinite when the error is not a number."""
        if not math.isfinite(self.error):
            return math.inf
        return 0.0 if self.error == 0.0 else self.error / self.tolerance if self.tolerance else math.inf

    @property
    def holds(self) -> bool:
        """Whether the error is within the tolerance."""
        return bool(self.ratio <= 1.0)


def worst(measured: Iterable[Measured]) -> Measured:
    """The one nearest to failing."""
    return max(measured, key=lambda m: m.ratio)


class Subject:
    """The activation under test, in a DEQ, and what the identities need of it again and again.

    Args:
        deq: the network.
        tau0: scale of the data, a standard deviation.
        seed: of all random points.
        examples: how many random points a cheap identity gets.
    """

    def __init__(self, deq: DEQ, tau0: float, seed: int, examples: int) -> None:
        self.deq = deq
        self.activation: Activation = deq.activation
        self.tau0 = tau0
        self.seed = seed
        self.examples = examples
        self._moments: dict[float, Moments] = {}

    def generator(self, name: str) -> np.random.Generator:
        """Random numbers of its own for every identity, so that adding one leaves the others as they are."""
        return np.random.default_rng([self.seed, zlib.crc32(name.encode())])

    def few(self, fraction: float) -> int:
        """A share of ``examples``, rounded up."""
        return math.ceil(self.examples * fraction)

    @cached_property
    def breakpoints(self) -> tuple[float, ...]:
        """In float64."""
        return tuple(float(b) for b in self.activation.breakpoints)

    @cached_property
    def scale(self) -> float:
        """sqrt(sigma_b2) tau0, the standard deviation of the input part: where random scales are centred."""
        return math.sqrt(self.deq.sigma_b2) * self.tau0

    def moments(self, tau: float) -> Moments:
        """The float64 moments at ``tau``, remembered: several identities look at the same scales."""
        if tau not in self._moments:
            self._moments[tau] = gaussian_moments(self.activation, tau)
        return self._moments[tau]

    def scales(self, name: str, count: int) -> list[float]:
        """The natural scale, 1, and ``count`` random ones within a factor 2 of the natural scale, to two digits."""
        spread = np.exp(self.generator(name).uniform(-math.log(2.0), math.log(2.0), count))
        return list(dict.fromkeys([self.scale, 1.0, *(float(f"{self.scale * s:.2g}") for s in spread)]))

    def expectation(
        self, f: Callable[[FloatArray], Any], tau: float, powers: int = 2, extra: Sequence[float] = ()
    ) -> Estimate:
        """E[f(tau xi)] by the reference quadrature; ``powers`` of phi or phi' occur in f."""
        return gaussian_expectation(f, tau, [*self.breakpoints, *extra], powers * self.activation.growth.rate)


@dataclass(frozen=True)
class Identity:
    """A statement, the points at which to look, and how to measure it at one point.

    Attributes:
        name: a short one.
        statement: the formula.
        points: from the subject, deterministic.
        measure: at one point; raises EquikernelError where the library refuses the point.
        needs_slope: whether it is about E[phi'^2], which must be finite.
    """

    name: str
    statement: str
    points: Callable[[Subject], Sequence[Point]]
    measure: Callable[[Subject, Point], Measured]
    needs_slope: bool = False
