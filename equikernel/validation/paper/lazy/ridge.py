"""Penalties on the weights: kernel ridge regression against networks that are trained with them.

Three ways. Readout alone, with lambda/2 ||a||^2: ridge regression with the network's own CK, exactly, which tends to
that with the exact CK. All parameters, with lambda/2 ||theta - theta0||^2: in the kernel regime
f = f0 + K (K + lambda)^-1 (y - f0), K the NTK, up to O(m^(-1/2)) with the exact kernel and O(1/m) with the network's
own. Plain decay, lambda/2 ||theta||^2: no kernel regime at any width. Decay takes the weights away from theta0 by all
of ||theta0||; what the data hold on to is of order 1 and cannot keep A from going to 0. So wide networks forget their
hidden weights, and in the end are ridge regression with the CK of the network without them: of a DEQ with B kept, that
with sigma_a = 0; of an explicit network, a constant. At finite width the weights that the data make from nothing cost
lambda sqrt(m) only, and small penalties can pay for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from equikernel.errors import InputError
from equikernel.theory.models import DEQ, exact_number, require_trained
from equikernel.validation.experiments.sources import Source
from equikernel.validation.experiments.study import Outcome, Unit, describe_deq
from equikernel.validation.paper.experiment import Findings, require_seeds
from equikernel.validation.paper.lazy.dynamics import preparation
from equikernel.validation.paper.lazy.problem import LazyData, contestants, missing_equivalent, require_widths
from equikernel.validation.paper.lazy.ridge_findings import ridge_findings
from equikernel.validation.paper.lazy.ridge_units import PenaltyUnit, ReadoutUnit

__all__ = ["Ridge"]


@dataclass(frozen=True)
class Ridge:
    """Penalties against kernel ridge regression: a DEQ, its equivalent and a naive network, over widths and seeds.

    Attributes:
        deq: the network.
        sources: of the samples, each of which is split in two.
        train: training samples of each.
        readout_widths: where the readout alone is trained; widths: where all is.
        seeds: three or more, of the weights; the first one splits the samples.
        readout_fractions, fractions: penalties as parts of the largest eigenvalue of the exact CK and NTK.
        trained: "aA" or "aAB".
        threads: of the linear algebra.

    Raises:
        InputError: fewer than three seeds, or other numbers that cannot be used.
    """

    deq: DEQ
    sources: tuple[Source, ...]
    train: int
    readout_widths: tuple[int, ...]
    widths: tuple[int, ...]
    seeds: tuple[int, ...]
    readout_fractions: tuple[float, ...] = (1e-3, 1e-2, 0.03, 0.1, 0.3, 1.0)
    fractions: tuple[float, ...] = (0.01, 0.1, 1.0)
    trained: str = "aA"
    threads: int = 1

    name = "ridge"

    def __post_init__(self) -> None:
        if require_trained(self.trained) == "a":
            raise InputError('ridge trains the readout alone anyway: for all parameters trained must be "aA" or "aAB"')
        require_seeds(self.seeds)
        for fraction in (*self.readout_fractions, *self.fractions):
            exact_number(fraction, "a penalty", positive=True)
        object.__setattr__(self, "readout_widths", require_widths(self.readout_widths))
        object.__setattr__(self, "widths", require_widths(self.widths))

    @property
    def title(self) -> str:
        """A line."""
        return f"Weight decay and ridge regression: {self.deq.activation.name}"

    @property
    def data(self) -> tuple[LazyData, ...]:
        """The sources, split."""
        return tuple(LazyData(source, self.train, self.seeds[0]) for source in self.sources)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        lists = ("readout_widths", "widths", "seeds", "readout_fractions", "fractions")
        return {
            "deq": describe_deq(self.deq),
            "data": [data.describe() for data in self.data],
            **{name: list(getattr(self, name)) for name in lists},
            "trained": self.trained,
            "threads": self.threads,
        }

    def units(self) -> Sequence[Unit]:
        """A unit for every network, width and seed with all penalties on the readout, and with each on all weights.

        Raises:
            EquikernelError: bad data, a DEQ without a solution.
        """
        return self._units()

    def _units(self) -> tuple[ReadoutUnit | PenaltyUnit, ...]:
        made: list[ReadoutUnit | PenaltyUnit] = []
        for data in self.data:
            tau0 = data.load().tau0
            known = contestants(self.deq, tau0, "a")
            made += [
                ReadoutUnit(c, known[0], data, width, seed, self.readout_fractions, self.threads)
                for width in self.readout_widths
                for c in known
                for seed in self.seeds
            ]
            known = contestants(self.deq, tau0, self.trained)
            made += [
                PenaltyUnit(c, known[0], data, width, seed, fraction, towards_zero, self.threads)
                for width in self.widths
                for fraction in self.fractions
                for towards_zero in (False, True)
                for c in known
                for seed in self.seeds
            ]
        return tuple(made)

    def findings(self, outcomes: Sequence[Outcome]) -> Findings:
        """Tables of test errors and of differences, figures, and sentences."""
        runs = [
            {
                "data": unit.data.title,
                "preparation": preparation(unit.data.source),
                "network": unit.contestant.name,
                "width": unit.width,
                "seed": unit.seed,
                **run,
            }
            for unit, outcome in zip(self._units(), outcomes, strict=True)
            if outcome.numbers is not None
            for run in outcome.numbers["runs"]
        ]
        missing = [
            sentence
            for data in self.data
            for trained in ("a", self.trained)
            for sentence in missing_equivalent(self.deq, data.load().tau0, trained)
        ]
        return ridge_findings(runs, self.trained, tuple(dict.fromkeys(missing)))
