"""Nonlinear DEQs z = phi(W z) + x: length, fluctuation, response, stability, tangent, edge."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equikernel.numerics.initialisation import (
    InputLaw,
    MeanField,
    iterates,
    mean_field,
    reflection_transform,
    symmetric_mean_field,
)
from equikernel.numerics.initialisation.critical import goe_response
from equikernel.numerics.initialisation.precision import Precision, slope_range
from equikernel.theory.activation import activation
from equikernel.validation.paper.statistics.edge_of_j import FiniteEdge, finite_edge
from equikernel.validation.paper.statistics.ensembles import (
    fixed_points,
    input_entries,
    reflection_stack,
    resolvents,
    squared_norms,
    weight_stack,
)
from equikernel.validation.paper.statistics.formulas import (
    GROUP,
    Formula,
    Measured,
    mean_of,
    number_of_groups,
    variance_of,
)

__all__ = ["IteratesCase", "NonlinearCase", "ReflectionCase", "cached_field"]

Array = NDArray[np.float64]

_DECAY = 4  # the power of J whose norm is measured
_STEP = 1e-4  # of log sigma; the difference quotient is right to about 1e-8
_SAMPLES = 800_000


def _shown(act: str, sigma: float, law: InputLaw) -> str:
    return f"{act}, σ = {sigma:g}, x {law.name}"


@dataclass(frozen=True)
class NonlinearCase:
    """One activation, family, sigma (a standard deviation) and law of the entries of x."""

    act: str
    family: str
    sigma: float
    law: InputLaw

    @property
    def group(self) -> str:
        """For tables."""
        return "nonlinear"

    @property
    def parameters(self) -> str:
        """For tables."""
        return _shown(self.act, self.sigma, self.law)

    @property
    def edge_is_real(self) -> bool:
        """Whether the whole spectrum of J is real and its largest eigenvalue is the edge."""
        return self.family == "goe" and slope_range(activation(self.act))[0] >= 0

    def describe(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "group": self.group,
            "act": self.act,
            "family": self.family,
            "sigma": self.sigma,
            "law": self.law.name,
        }

    def formulas(self) -> tuple[Formula, ...]:
        """See ``MeanField``."""
        found = cached_field(self.act, self.family, self.sigma, self.law)
        q, T = found.mean_square, found.tangent_length
        common = (
            Formula("q", q),
            Formula("N Var q at fixed x", found.length_noise, statistic="variance"),
            Formula("χ", found.chi),
            Formula("T", T),
        )
        if self.family != "goe":
            return (
                *common,
                Formula("½ dq/d log σ = qκ/(1−κ)", q * found.kappa / (1.0 - found.kappa)),
                Formula("τ(P²), tangent", found.tangent_square),
                Formula("τ(J⁴ᵀJ⁴) = χ⁴", found.chi**_DECAY),
            )
        upper, lower = (
            goe_response(activation(self.act), (self.sigma * math.exp(k)) ** 2, self.law, Precision()).q
            for k in (_STEP, -_STEP)
        )
        symmetric = (
            *common,
            Formula("½ dq/d log σ", (upper - lower) / (4.0 * _STEP)),
            Formula("R = s E y²", found.stability),
        )
        return (*symmetric, Formula("edge of J", found.radius)) if self.edge_is_real else symmetric

    def measure(self, size: int, count: int, stream: np.random.Generator) -> dict[str, Measured]:
        """By iterating to the fixed point and inverting I - J there.

        The largest eigenvalue is compared with the edge after its shift of order N^(-2/3) is taken away.
        """
        rows: dict[str, list[Array]] = {}
        for _ in range(number_of_groups(count)):
            x = input_entries(stream, self.law, size)
            for name, values in self._group(weight_stack(stream, self.family, self.sigma, GROUP, size), x).items():
                rows.setdefault(name, []).append(values)
        if self.edge_is_real:
            shift = _finite_edge(self.act, self.sigma, self.law).shift * size ** (-2.0 / 3.0)
            rows["edge of J"] = [values - shift for values in rows["edge of J"]]
        found = {name: mean_of(np.stack(values)) for name, values in rows.items()}
        return found | {"N Var q at fixed x": variance_of(np.stack(rows["q"]), size)}

    def _group(self, W: Array, x: Array) -> dict[str, Array]:
        size, s = len(x), self.sigma**2
        z, d, G = _tangents(self.act, W, x)
        u = W @ z
        forced = G @ (d[:, :, None] * u)
        found = {
            "q": squared_norms(z) / size,
            "T": squared_norms(G) / size,
            # dz/d log sigma = (I - J)^-1 D u
            "½ dq/d log σ" + ("" if self.family == "goe" else " = qκ/(1−κ)"): np.sum(z * forced, axis=(1, 2)) / size,
        }
        if self.family != "goe":
            J = d[:, :, None] * W
            J2 = J @ J
            return found | {
                "χ": s * np.mean(d**2, axis=1),
                "τ(P²), tangent": squared_norms(G.swapaxes(1, 2) @ G) / size,
                "τ(J⁴ᵀJ⁴) = χ⁴": squared_norms(J2 @ J2) / size,
            }
        y = np.diagonal(G, axis1=1, axis2=2) * d
        found |= {"χ": y.mean(axis=1), "R = s E y²": s * np.mean(y**2, axis=1)}
        if self.edge_is_real:
            root = np.sqrt(d)
            found["edge of J"] = np.linalg.eigvalsh(root[:, :, None] * W * root[:, None, :])[:, -1]
        return found


def _tangents(act: str, W: Array, x: Array) -> tuple[Array, Array, Array]:
    """The fixed point z (k, N, 1), d = phi'(W z) (k, N) and (I - diag(d) W)^-1 (k, N, N)."""
    phi = activation(act)
    column = x[:, None]
    z = fixed_points(phi.function("numpy"), W, column, np.broadcast_to(column, (len(W), len(x), 1)))
    d = phi.derivative("numpy")(W @ z)[:, :, 0]
    return z, d, resolvents(d[:, :, None] * W)


@cache
def cached_field(act: str, family: str, sigma: float, law: InputLaw) -> MeanField:
    """``mean_field``, once for each question: predictions are asked for again by every size and every table."""
    return mean_field(act, family, sigma, law, confirm=False)


@cache
def _finite_edge(act: str, sigma: float, law: InputLaw) -> FiniteEdge:
    return finite_edge(act, sigma, law)


@dataclass(frozen=True)
class ReflectionCase:
    """W = sigma O diag(+-1) O^T: a symmetric rotation-invariant W that is not GOE, by its R-transform."""

    act: str
    sigma: float
    law: InputLaw
    family: str = "reflections"

    @property
    def group(self) -> str:
        """For tables."""
        return "R-transform"

    @property
    def parameters(self) -> str:
        """For tables."""
        return _shown(self.act, self.sigma, self.law)

    def describe(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"group": self.group, "act": self.act, "sigma": self.sigma, "law": self.law.name}

    def formulas(self) -> tuple[Formula, ...]:
        """See ``symmetric_mean_field``."""
        found = symmetric_mean_field(self.act, reflection_transform(self.sigma**2, np.sqrt), self.law)
        return (
            Formula("q", found.mean_square),
            Formula("χ", found.chi),
            Formula("R'(χ) E y²", found.stability),
            Formula("T", found.tangent_length),
        )

    def measure(self, size: int, count: int, stream: np.random.Generator) -> dict[str, Measured]:
        """By iterating to the fixed point and inverting I - J there."""
        x = input_entries(stream, self.law, size)
        chi = self.formulas()[1].prediction
        slope = float(reflection_transform(self.sigma**2, np.sqrt).slope(chi))
        rows = []
        for _ in range(number_of_groups(count)):
            z, d, G = _tangents(self.act, reflection_stack(stream, self.sigma, GROUP, size), x)
            y = np.diagonal(G, axis1=1, axis2=2) * d
            rows.append([squared_norms(z), np.sum(y, axis=1), slope * np.sum(y**2, axis=1), squared_norms(G)])
        names = ("q", "χ", "R'(χ) E y²", "T")
        return {name: mean_of(part / size) for name, part in zip(names, np.stack(rows, axis=1), strict=True)}


@dataclass(frozen=True)
class IteratesCase:
    """z_(t+1) = phi(W z_t) + x from z_0 = x with one W: dynamical mean-field theory."""

    act: str
    family: str
    sigma: float
    law: InputLaw
    depth: int = 4

    @property
    def group(self) -> str:
        """For tables."""
        return "iterates"

    @property
    def parameters(self) -> str:
        """For tables."""
        return _shown(self.act, self.sigma, self.law)

    def describe(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "group": self.group,
            "act": self.act,
            "family": self.family,
            "sigma": self.sigma,
            "law": self.law.name,
            "depth": self.depth,
        }

    def formulas(self) -> tuple[Formula, ...]:
        """See ``iterates``: for goe weights sampled, with a standard error."""
        found = iterates(self.act, self.family, self.sigma, self.law, self.depth, samples=_SAMPLES)
        return tuple(
            Formula(_iterate(t), float(found.mean_square[t]), float(found.standard_error[t]))
            for t in range(1, self.depth + 1)
        )

    def measure(self, size: int, count: int, stream: np.random.Generator) -> dict[str, Measured]:
        """By iterating."""
        f = activation(self.act).function("numpy")
        rows = []
        for _ in range(number_of_groups(count)):
            x = input_entries(stream, self.law, size)[:, None]
            W = weight_stack(stream, self.family, self.sigma, GROUP, size)
            z, lengths = np.broadcast_to(x, (GROUP, size, 1)), []
            for _ in range(self.depth):
                z = f(W @ z) + x
                lengths.append(squared_norms(z) / size)
            rows.append(lengths)
        return {_iterate(t + 1): mean_of(values) for t, values in enumerate(np.stack(rows, axis=1))}


def _iterate(t: int) -> str:
    return f"E |z_{t}|²/N"
