"""Real data: the exact kernels against both equivalents, with estimated class covariances and without labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from equikernel.errors import EquikernelError
from equikernel.numerics.kernels import implicit_kernels
from equikernel.numerics.norms import operator_norm
from equikernel.theory.models import DEQ
from equikernel.validation.experiments.sources import Sample, Source
from equikernel.validation.experiments.study import (
    Array,
    Runner,
    describe_deq,
    kernel_uncertainty,
)

__all__ = ["VARIANTS", "RealData", "RealDataConfig", "real_data"]

VARIANTS = {"labelled": "labels, class covariances", "label-free": "label-free (s² term)"}


@dataclass(frozen=True)
class RealDataConfig:
    """One data set; itself the unit of work.

    Attributes:
        deq: the network. source: of the samples.
        kernels: of "ck", "ntk". trained: which parameters the NTK trains.
    """

    deq: DEQ
    source: Source
    kernels: tuple[str, ...] = ("ck", "ntk")
    trained: str = "aA"

    def units(self) -> tuple[RealDataConfig, ...]:
        """One unit: the exact kernels serve both equivalents."""
        return (self,)

    def describe(self) -> dict[str, Any]:
        """What the numbers depend on."""
        return {
            "study": "real data",
            "deq": describe_deq(self.deq),
            "source": self.source.describe(),
            "kernels": list(self.kernels),
            "trained": self.trained,
        }

    def measure(self) -> dict[str, Any]:
        """Relative errors of each equivalent, and how far the data are from the high-dimensional regime."""
        sample = self.source.load()
        exact = implicit_kernels(sample.X, self.deq, tau0=sample.tau0, trained=self.trained, ntk="ntk" in self.kernels)
        inner = sample.X @ sample.X.T
        squared_norms = np.diagonal(inner).copy()
        np.fill_diagonal(inner, 0.0)
        return {
            "norm_spread": float(squared_norms.std()),
            "largest_inner_product": float(np.abs(inner).max()),
            "methods": {name: int(count) for name, count in exact.methods.items()},
            "kernels": {name: self._errors(sample, name, getattr(exact, name)) for name in self.kernels},
        }

    def _errors(self, sample: Sample, name: str, kernel: Array) -> dict[str, Any]:
        operator, frobenius = operator_norm(kernel), float(np.linalg.norm(kernel))
        numbers: dict[str, Any] = {
            "operator_norm": operator,
            "frobenius_norm": frobenius,
            "uncertainty": kernel_uncertainty(kernel) / operator,
        }
        for variant in VARIANTS:
            labelled = variant == "labelled"
            if labelled and sample.labels is None:
                numbers[variant] = {"failure": "the data have no labels of two classes or more"}
                continue
            try:
                equivalent = sample.equivalent(self.deq, name, self.trained, labelled=labelled)
            except EquikernelError as error:
                numbers[variant] = {"failure": str(error)}
                continue
            difference = kernel - equivalent
            numbers[variant] = {
                "operator_error": operator_norm(difference) / operator,
                "frobenius_error": float(np.linalg.norm(difference)) / frobenius,
            }
        return numbers


@dataclass(frozen=True)
class RealData:
    """The errors on one data set, or the sentence why there are none."""

    config: RealDataConfig
    numbers: dict[str, Any] | None
    failure: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "source": self.config.source.describe(),
            "trained": self.config.trained,
            "numbers": self.numbers,
            "provenance": "‖exact − equivalent‖/‖exact‖ in operator and Frobenius norm, both kernels in float64; the "
            "uncertainty bounds the relative numerical error of the exact kernel",
            "failure": self.failure,
        }


def real_data(config: RealDataConfig, runner: Runner | None = None) -> RealData:
    """Exact kernels against both equivalents; real data need not be in the high-dimensional regime (theory, 7)."""
    (outcome,) = (runner or Runner()).run(config.units())
    return RealData(config, outcome.numbers, outcome.failure)
