"""Eigenvalues: the exact kernel, its high-dimensional equivalent, and the kernel of finite networks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equikernel.theory.models import DEQ
from equikernel.validation.empirical import Draw, average_draws, network_draws
from equikernel.validation.experiments.sources import MixtureSource, Sample, Source
from equikernel.validation.experiments.study import Runner, describe_deq, limited_threads

__all__ = ["KINDS", "Spectra", "SpectraConfig", "finite_kernels", "spectra"]

Array = NDArray[np.float64]

KINDS = ("exact", "equivalent", "empirical")


@dataclass(frozen=True)
class SpectraConfig:
    """One kernel on one sample; itself the unit of work.

    Attributes:
        deq: the network. source: of the samples.
        kernel: "ck" or "ntk". trained: which parameters the NTK trains.
        width: of the finite networks. draws: how many of them are averaged.
    """

    deq: DEQ
    source: Source
    kernel: str
    width: int
    draws: int
    seed: int
    trained: str = "aA"

    @property
    def labelled(self) -> bool:
        """Whether the equivalent uses labels: on mixtures, whose population is known."""
        return isinstance(self.source, MixtureSource)

    def units(self) -> tuple[SpectraConfig, ...]:
        """One unit: the three spectra are of the same samples."""
        return (self,)

    def describe(self) -> dict[str, Any]:
        """What the numbers depend on."""
        return {
            "study": "spectra",
            "deq": describe_deq(self.deq),
            "source": self.source.describe(),
            **{name: getattr(self, name) for name in ("kernel", "width", "draws", "seed", "trained")},
        }

    def measure(self) -> dict[str, Any]:
        """Eigenvalues in decreasing order, and a standard error for those of the empirical kernel."""
        sample = self.source.load()
        exact = sample.exact(self.deq, self.kernel, self.trained)
        draws = finite_kernels(sample, self.deq, self.kernel, self.trained, self.width, self.draws, self.seed)
        empirical = average_draws(draws, self.width)
        eigenvalues, vectors = np.linalg.eigh(empirical.mean)
        # to first order an eigenvalue of the mean moves with v^T G v over the draws, v its eigenvector
        moves = np.array([np.einsum("ij,ij->j", vectors, draw.kernel @ vectors) for draw in draws])
        error = moves.std(axis=0, ddof=1) / np.sqrt(len(draws))
        equivalent = sample.equivalent(self.deq, self.kernel, self.trained, labelled=self.labelled)
        return {
            "exact": _decreasing(np.linalg.eigvalsh(exact)),
            "equivalent": _decreasing(np.linalg.eigvalsh(equivalent)),
            "empirical": _decreasing(eigenvalues),
            "empirical_error": _decreasing(error),
            "rounding": len(exact) * float(np.finfo(float).eps) * float(np.linalg.norm(exact)),
        }


def finite_kernels(
    sample: Sample, deq: DEQ, kernel: str, trained: str, width: int, draws: int, seed: int
) -> list[Draw]:
    """The same kernel of each of ``draws`` networks of finite width."""
    with limited_threads(torch_too=True):
        return list(
            network_draws(
                sample.X,
                deq,
                width=width,
                draws=range(draws),
                seed=seed,
                trained=trained if kernel == "ntk" else None,
                tau0=sample.tau0,
            )
        )


def _decreasing(increasing: Iterable[float]) -> list[float]:
    """Values in the order of increasing eigenvalues, the other way round."""
    return [float(x) for x in increasing][::-1]


@dataclass(frozen=True)
class Spectra:
    """Three spectra, or the sentence why there are none."""

    config: SpectraConfig
    numbers: dict[str, Any] | None
    failure: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        config = self.config
        return {
            "kernel": config.kernel,
            "trained": config.trained if config.kernel == "ntk" else None,
            "source": config.source.describe(),
            "width": config.width,
            "draws": config.draws,
            "seed": config.seed,
            "numbers": self.numbers,
            "provenance": "symmetric eigensolver in float64, backward error at most `rounding`; equivalent "
            + ("from population statistics" if config.labelled else "label-free")
            + f"; empirical: mean of {config.draws} networks of width {config.width}, standard error to first order",
            "failure": self.failure,
        }


def spectra(config: SpectraConfig, runner: Runner | None = None) -> Spectra:
    """Eigenvalues of the exact kernel, the equivalent and finite networks on one sample."""
    (outcome,) = (runner or Runner()).run(config.units())
    return Spectra(config, outcome.numbers, outcome.failure)
