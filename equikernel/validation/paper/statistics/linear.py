"""Linear DEQs: lengths, traces, kernels and gradients; Haar weights at finite N; finite depth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equikernel.numerics.initialisation import haar_length_statistics, linear_depth_error, linear_deq
from equikernel.theory.initialisation import haar_square, haar_trace_variance, kernel_mean, kernel_noise
from equikernel.theory.initialisation_depth import tied_length, tied_noise, untied_length, untied_noise
from equikernel.validation.paper.statistics.ensembles import resolvents, squared_norms, weight_stack
from equikernel.validation.paper.statistics.formulas import (
    GROUP,
    Formula,
    Measured,
    mean_of,
    number_of_groups,
    variance_of,
)

__all__ = ["DepthCase", "HaarCase", "LinearCase", "escape_exponent"]

Array = NDArray[np.float64]

_COSINE = 0.6
_SINE = 0.8


def escape_exponent(family: str, sigma: float, size: int) -> float | None:
    """log10 of the probability that a real eigenvalue of W exceeds 1, to leading exponential order in N; None: never.

    With y = 1/sigma: N((y^2 - 1)/2 - log y) (iid: the density of real eigenvalues of [Edelman, Kostlan & Shub, J. AMS 7
    (1994)]), N(y sqrt(y^2-4)/4 - log((y + sqrt(y^2-4))/2)) (goe: [Ben Arous, Dembo & Guionnet, PTRF 120 (2001)]).
    """
    if family == "orthogonal":
        return None
    y = 1.0 / sigma
    if family == "iid":
        rate = (y * y - 1.0) / 2.0 - math.log(y)
    else:
        root = math.sqrt(y * y - 4.0)
        rate = y * root / 4.0 - math.log((y + root) / 2.0)
    return -size * rate / math.log(10.0)


def _traces(G: Array) -> list[Array]:
    """R = |G e_1|^2, Tr P and Tr P^2, P = G^T G, of each resolvent."""
    return [np.sum(G[:, :, 0] ** 2, axis=1), squared_norms(G), squared_norms(G @ G.swapaxes(1, 2))]


@dataclass(frozen=True)
class LinearCase:
    """The statistics of z* = W z* + x; z*'s partner is y with x . y = 0.6, both of length 1."""

    family: str
    sigma: float

    @property
    def group(self) -> str:
        """For tables."""
        return "linear"

    @property
    def parameters(self) -> str:
        """For tables."""
        return f"σ = {self.sigma:g}"

    def describe(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"group": self.group, "family": self.family, "sigma": self.sigma}

    def formulas(self) -> tuple[Formula, ...]:
        """See ``linear_deq``. The 1/N term of E r is that of E Tr P/N, which has the same mean and less noise."""
        found = linear_deq(self.family, self.sigma)
        c = found.length_correction
        noise = partial(Formula, statistic="variance")
        return (
            Formula("E r", found.length, correction=c),
            Formula("1/N term of E r", c),
            noise("N Var r", found.length_noise),
            noise("Var Tr P", found.trace_noise),
            Formula("τ(P²)", found.square),
            Formula("overlap x·z*/|x|²", found.overlap),
            Formula("E z(x)·z(y)", kernel_mean(_COSINE, found.length), correction=_COSINE * c),
            noise("N Var z(x)·z(y)", kernel_noise(_COSINE, found.length, found.square)),
            Formula("E |VJP|²", found.length, correction=c),
            noise("N Var |VJP|²", found.length_noise),
        )

    def measure(self, size: int, count: int, stream: np.random.Generator) -> dict[str, Measured]:
        """By inverting I - W."""
        rows = [
            self._group(weight_stack(stream, self.family, self.sigma, GROUP, size))
            for _ in range(number_of_groups(count))
        ]
        r, trace, square, overlap, kernel, backward = np.stack(rows, axis=1)
        length = linear_deq(self.family, self.sigma).length
        return {
            "E r": mean_of(r),
            "1/N term of E r": mean_of(trace - size * length),
            "N Var r": variance_of(r, size),
            "Var Tr P": variance_of(trace),
            "τ(P²)": mean_of(square / size),
            "overlap x·z*/|x|²": mean_of(overlap),
            "E z(x)·z(y)": mean_of(kernel),
            "N Var z(x)·z(y)": variance_of(kernel, size),
            "E |VJP|²": mean_of(backward),
            "N Var |VJP|²": variance_of(backward, size),
        }

    @staticmethod
    def _group(W: Array) -> Array:
        """R, Tr P, Tr P^2, x.z, z(x).z(y), |VJP|^2 of each matrix; x = e_1, and e_2 is what is pulled back."""
        G = resolvents(W)
        along, across = G[:, :, 0], _COSINE * G[:, :, 0] + _SINE * G[:, :, 1]
        return np.stack(
            [
                *_traces(G),
                G[:, 0, 0],
                np.sum(along * across, axis=1),
                np.sum(G[:, 1, :] ** 2, axis=1),
            ]
        )


@dataclass(frozen=True)
class HaarCase:
    """Orthogonal weights at one finite N, where the formulas are exact."""

    size: int
    sigma: float
    family: str = "orthogonal"

    @property
    def group(self) -> str:
        """For tables."""
        return "Haar, finite N"

    @property
    def parameters(self) -> str:
        """For tables."""
        return f"σ = {self.sigma:g}"

    def describe(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"group": self.group, "sigma": self.sigma}

    def formulas(self) -> tuple[Formula, ...]:
        """At N = 1 Tr P is r."""
        found = haar_length_statistics(self.size, self.sigma)
        length = (
            Formula("E r", found.mean, trend=None),
            Formula("Var r", found.variance, trend=None, statistic="variance"),
        )
        if self.size == 1:
            return length
        s = self.sigma**2
        return (
            *length,
            Formula("Var Tr P", haar_trace_variance(s), trend=None, statistic="variance"),
            Formula("E Tr P²", haar_square(self.size, s), trend=None),
        )

    def measure(self, size: int, count: int, stream: np.random.Generator) -> dict[str, Measured]:
        """By inverting I - W."""
        rows = [
            _traces(resolvents(weight_stack(stream, "orthogonal", self.sigma, GROUP, size)))
            for _ in range(number_of_groups(count))
        ]
        r, trace, square = np.stack(rows, axis=1)
        found = {"E r": mean_of(r), "Var r": variance_of(r)}
        if size > 1:
            found |= {"Var Tr P": variance_of(trace), "E Tr P²": mean_of(square)}
        return found


@dataclass(frozen=True)
class DepthCase:
    """z_L = sum of W^l x over l <= L with the same W in all layers, and with a new one in each."""

    family: str
    sigma: float
    depth: int = 3

    @property
    def group(self) -> str:
        """For tables."""
        return "linear, finite depth"

    @property
    def parameters(self) -> str:
        """For tables."""
        return f"σ = {self.sigma:g}, L = {self.depth}"

    def describe(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"group": self.group, "family": self.family, "sigma": self.sigma, "depth": self.depth}

    def formulas(self) -> tuple[Formula, ...]:
        """Mean and noise, tied and untied, and what is left to the fixed point."""
        s, L = self.sigma**2, self.depth
        return (
            Formula("E |z_L|²/|x|², tied", tied_length(self.family, s, L)),
            Formula("N Var |z_L|²/|x|², tied", tied_noise(self.family, s, L), statistic="variance"),
            Formula("E |z_L|²/|x|², untied", untied_length(s, L)),
            Formula("N Var |z_L|²/|x|², untied", untied_noise(self.family, s, L), statistic="variance"),
            Formula("E |z* − z_L|²/|x|²", linear_depth_error(self.family, self.sigma, L)),
        )

    def measure(self, size: int, count: int, stream: np.random.Generator) -> dict[str, Measured]:
        """By multiplying; z* by solving."""
        draw = partial(weight_stack, stream, self.family, self.sigma, GROUP, size)
        rows = []
        for _ in range(number_of_groups(count)):
            x = np.zeros((GROUP, size, 1))
            x[:, 0] = 1.0
            W = draw()
            tied = untied = x
            for layer in range(self.depth):
                tied = W @ tied + x
                untied = (W if layer == 0 else draw()) @ untied + x
            left = np.asarray(np.linalg.solve(np.eye(size) - W, x), dtype=float) - tied
            rows.append([squared_norms(z) for z in (tied, untied, left)])
        tied, untied, left = np.stack(rows, axis=1)
        return {
            "E |z_L|²/|x|², tied": mean_of(tied),
            "N Var |z_L|²/|x|², tied": variance_of(tied, size),
            "E |z_L|²/|x|², untied": mean_of(untied),
            "N Var |z_L|²/|x|², untied": variance_of(untied, size),
            "E |z* − z_L|²/|x|²": mean_of(left),
        }
