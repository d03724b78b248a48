"""Networks of finite width, extrapolated to infinite width, against the exact kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from equikernel.numerics.kernels import implicit_kernels
from equikernel.theory.models import DEQ
from equikernel.validation.experiments.sources import Source
from equikernel.validation.experiments.study import Runner, describe_deq, limited_threads
from equikernel.validation.ladder import width_ladder

__all__ = ["FiniteWidth", "FiniteWidthConfig", "finite_width"]


@dataclass(frozen=True)
class FiniteWidthConfig:
    """A ladder of widths on a few samples; itself the unit of work.

    Attributes:
        deq: the network. source: of the samples.
        kernel: "ck" or "ntk". trained: which parameters the NTK trains.
        widths: m. draws: independent networks for each.
    """

    deq: DEQ
    source: Source
    kernel: str
    widths: tuple[int, ...]
    draws: int
    seed: int
    trained: str = "aA"

    def units(self) -> tuple[FiniteWidthConfig, ...]:
        """One unit: the whole ladder."""
        return (self,)

    def describe(self) -> dict[str, Any]:
        """What the numbers depend on."""
        return {
            "study": "finite width",
            "deq": describe_deq(self.deq),
            "source": self.source.describe(),
            **{name: getattr(self, name) for name in ("kernel", "draws", "seed", "trained")},
            "widths": list(self.widths),
        }

    def measure(self) -> dict[str, Any]:
        """The numbers of ``WidthLadder.to_dict`` and the z-scores of the entries i <= j."""
        sample = self.source.load()
        is_ntk = self.kernel == "ntk"
        exact = implicit_kernels(sample.X, self.deq, tau0=sample.tau0, trained=self.trained, ntk=is_ntk)
        with limited_threads(torch_too=True):
            ladder = width_ladder(
                sample.X,
                self.deq,
                self.widths,
                self.draws,
                self.seed,
                getattr(exact, self.kernel),
                trained=self.trained if is_ntk else None,
                tau0=sample.tau0,
            )
        # an entry that does not fluctuate and differs has an infinite score: 40 stands for it, far beyond any bound
        scores = np.clip(ladder.z[np.triu_indices(len(sample.X))], -40.0, 40.0)
        return {**ladder.to_dict(), "scores": [float(z) for z in scores]}


@dataclass(frozen=True)
class FiniteWidth:
    """The ladder's numbers (see ``empirical.WidthLadder``), or the sentence why there are none."""

    config: FiniteWidthConfig
    numbers: dict[str, Any] | None
    failure: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "kernel": self.config.kernel,
            "trained": self.config.trained if self.config.kernel == "ntk" else None,
            "source": self.config.source.describe(),
            "draws": self.config.draws,
            "seed": self.config.seed,
            "numbers": self.numbers,
            "provenance": "mean over independent networks in float64, limit + slope/m fitted to the widths; z = "
            "(limit - exact kernel)/standard error; monte_carlo is the standard error, fitted_bias the part of finite "
            "width",
            "failure": self.failure,
        }


def finite_width(config: FiniteWidthConfig, runner: Runner | None = None) -> FiniteWidth:
    """Empirical kernels over widths against the exact kernel; z-scores are N(0, 1) if the theory is right."""
    (outcome,) = (runner or Runner()).run(config.units())
    return FiniteWidth(config, outcome.numbers, outcome.failure)
