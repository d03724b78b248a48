"""What the figures show beside the comparisons: lengths and fluctuations over sigma, and spectra of J."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equikernel.numerics.initialisation import InputLaw, critical_sigma, linear_deq
from equikernel.theory.activation import activation
from equikernel.theory.initialisation_scales import MATCHES, scale_of
from equikernel.validation.experiments.study import derived_seed
from equikernel.validation.paper.statistics.edges import from_resamples, typical_noise
from equikernel.validation.paper.statistics.ensembles import (
    fixed_points,
    input_entries,
    iterated,
    linear_lengths,
    squared_norms,
    weight_stack,
)
from equikernel.validation.paper.statistics.formulas import GROUP, number_of_groups
from equikernel.validation.paper.statistics.nonlinear import cached_field
from equikernel.validation.store import canonical_json

__all__ = ["LINEAR", "SpectrumUnit", "SweepUnit", "limits_of"]

Array = NDArray[np.float64]

_RESAMPLES = 200
_TOLERANCE = 1e-6  # below the spread of medians
_ITERATIONS = 1000
_RUNAWAY = 1e8  # a length
_FEW = 0.1
LINEAR = "x"  # the activation of linear networks


def limits_of(act: str, family: str, sigma: float, law: InputLaw) -> tuple[float, float]:
    """Length |z|^2/|x|^2 and its N Var over the square of its mean, as N grows; the activation "x" is linear.

    Raises:
        EquikernelError: sigma at or beyond its critical value.
    """
    if act == LINEAR:
        found = linear_deq(family, sigma)
        return found.length, found.length_noise / found.length**2
    field = cached_field(act, family, sigma, law)
    return field.mean_square / law.moment(2), field.length_noise / field.mean_square**2


@dataclass(frozen=True)
class SweepUnit:
    """Median length and typical fluctuation at one sigma (a standard deviation)."""

    act: str
    family: str
    sigma: float
    law: InputLaw
    size: int
    count: int
    seed: int

    def describe(self) -> dict[str, Any]:
        """Plain JSON types."""
        own = {key: getattr(self, key) for key in ("act", "family", "sigma", "size", "count", "seed")}
        return {"kind": "initialisation sweep", "law": self.law.name, **own}

    def measure(self) -> dict[str, Any]:
        """Length |z|^2/|x|^2 and N Var/mean^2, by medians and quartiles, errors by resampling; the share not settled.

        Beside them what both tend to. Where a fixed point was not reached in 1000 iterations the last iterate counts,
        of length 1e8 at most; where 10 % are that long there is no typical value, and None stands for it.

        Raises:
            EquikernelError: sigma at or beyond its critical value.
        """
        stream = np.random.default_rng(derived_seed(self.seed, canonical_json(self.describe())))
        r, unsettled = self._lengths(stream)
        picked = np.concatenate([np.arange(len(r))[None], stream.integers(len(r), size=(_RESAMPLES, len(r)))])
        lengths = np.median(r[picked], axis=1)
        length, noise = limits_of(self.act, self.family, self.sigma, self.law)
        noises = typical_noise(r[picked], self.size) / lengths**2
        # beyond, resampled quartiles would be those of states that run away
        typical = np.mean(r >= _RUNAWAY) < _FEW
        values = (*from_resamples(lengths), *from_resamples(noises)) if typical else (None,) * 4
        return {
            "prediction": length,
            "noise_prediction": noise,
            **dict(zip(("length", "length_error", "noise", "noise_error"), values, strict=True)),
            "unsettled": unsettled,
        }

    def _lengths(self, stream: np.random.Generator) -> tuple[Array, float]:
        """Lengths, and the share of iterations that had not settled."""
        if self.act == LINEAR:
            return np.asarray(linear_lengths(stream, self.family, [self.sigma], self.count, self.size)[0]), 0.0
        f, x = activation(self.act).function("numpy"), input_entries(stream, self.law, self.size)[:, None]
        r, flags = [], []
        for _ in range(number_of_groups(self.count)):
            W = weight_stack(stream, self.family, self.sigma, GROUP, self.size)
            start = np.broadcast_to(x, (GROUP, self.size, 1))
            with np.errstate(over="ignore", invalid="ignore"):
                z, settled = iterated(f, W, x, start, _TOLERANCE, _ITERATIONS)
                lengths = squared_norms(z) / np.sum(x**2)
            r.append(np.where(lengths < _RUNAWAY, lengths, _RUNAWAY))
            flags.append(settled)
        return np.concatenate(r), float(np.mean(~np.concatenate(flags)))

    def record(self, numbers: dict[str, Any]) -> dict[str, Any]:
        """The numbers with the three scales at which families can be compared."""
        scales = {match: float(scale_of(self.family, match, self.sigma)) for match in MATCHES}
        return {
            "act": self.act,
            "family": self.family,
            "sigma": self.sigma,
            "size": self.size,
            **scales,
            **numbers,
        }


@dataclass(frozen=True)
class SpectrumUnit:
    """The eigenvalues of J = diag(phi'(u)) W at the fixed point of one matrix."""

    act: str
    family: str
    share: float
    law: InputLaw
    size: int
    seed: int

    def describe(self) -> dict[str, Any]:
        """Plain JSON types."""
        own = {key: getattr(self, key) for key in ("act", "family", "share", "size", "seed")}
        return {"kind": "initialisation spectrum", "law": self.law.name, **own}

    @property
    def sigma(self) -> float:
        """``share`` times the critical sigma."""
        return float(f"{self.share * critical_sigma(self.act, self.family, self.law).sigma:.4g}")

    def measure(self) -> dict[str, Any]:
        """Real and imaginary parts, and the predicted radius or edge.

        Raises:
            EquikernelError: no stable fixed point, or none that the iteration reached.
        """
        sigma = self.sigma
        field = cached_field(self.act, self.family, sigma, self.law)
        stream = np.random.default_rng(derived_seed(self.seed, canonical_json(self.describe())))
        phi, x = activation(self.act), input_entries(stream, self.law, self.size)[:, None]
        W = weight_stack(stream, self.family, sigma, 1, self.size)
        z = fixed_points(phi.function("numpy"), W, x, x[None])
        values = np.linalg.eigvals(phi.derivative("numpy")(W @ z)[0] * W[0])
        return {
            "sigma": sigma,
            "radius": float(field.radius),
            "largest": float(np.abs(values).max()),
            "real": values.real.tolist(),
            "imaginary": values.imag.tolist(),
        }
