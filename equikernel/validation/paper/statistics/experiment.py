"""``equikernel experiment statistics``: every formula of the statistics at initialisation against matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from equikernel.errors import InputError
from equikernel.theory.activation import activation
from equikernel.theory.initialisation import FAMILIES, require_family
from equikernel.validation.deq.options import require_count
from equikernel.validation.experiments.study import Outcome, Unit
from equikernel.validation.paper.experiment import Findings
from equikernel.validation.paper.statistics.findings import Results, statistics_findings
from equikernel.validation.paper.statistics.plan import Plan

__all__ = ["Statistics"]

_FEWEST_SIZES = 3


@dataclass(frozen=True)
class Statistics:
    """Every formula of the statistics at initialisation against matrices.

    Attributes:
        acts: activations, names or expressions; input laws beside N(0, 1) are tried with the first.
        sizes: N, three or more: the trend in 1/N needs them.
        count: matrices at the largest size; twice as many at the others.
        share: sigma of the nonlinear networks, as a share of the critical sigma.
        families: of weights.
        seed: of everything.
        sweep_size: and ``sweep_count``, N and the number of matrices at each sigma of the figures.
        spectrum_size: N of the spectra of J.
    """

    acts: tuple[str, ...] = ("tanh", "relu", "gelu")
    sizes: tuple[int, ...] = (80, 160, 320)
    count: int = 480
    share: float = 0.4
    families: tuple[str, ...] = FAMILIES
    seed: int = 0
    sweep_size: int = 200
    sweep_count: int = 200
    spectrum_size: int = 500

    def __post_init__(self) -> None:
        sizes = tuple(sorted({require_count(size, "a size N", 2) for size in self.sizes}))
        if len(sizes) < _FEWEST_SIZES:
            raise InputError(
                f"the trend in 1/N needs {_FEWEST_SIZES} or more different sizes N; got "
                f"{', '.join(map(str, self.sizes)) or 'none'}"
            )
        object.__setattr__(self, "sizes", sizes)
        if not self.acts or not self.families:
            raise InputError("give one activation or more, and one weight family or more")
        for family in self.families:
            require_family(family)
        object.__setattr__(self, "acts", tuple(activation(act).name for act in self.acts))
        require_count(self.count, "the number of matrices", 16)
        require_count(self.sweep_count, "the number of matrices of a figure", 16)
        if not self.share > 0:
            raise InputError(f"sigma must be a positive share of the critical sigma; got {self.share!r}")

    @property
    def name(self) -> str:
        """For files."""
        return "statistics"

    @property
    def title(self) -> str:
        """For headings."""
        return "Statistics at initialisation: formulas against matrices"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        keys = ("acts", "sizes", "count", "share", "families", "seed", "sweep_size", "sweep_count", "spectrum_size")
        return {key: getattr(self, key) for key in keys}

    def units(self) -> Sequence[Unit]:
        """A unit for each case and size, each sigma of the figures, each spectrum.

        Raises:
            EquikernelError: a case without predictions, such as a sigma beyond the critical one.
        """
        plan = self._plan
        for case, _ in plan.blocks:
            case.formulas()
        return [unit for _, block in plan.blocks for unit in block] + [*plan.sweep, *plan.ranks, *plan.spectra]

    def findings(self, outcomes: Sequence[Outcome]) -> Findings:
        """Tables of all comparisons, figures, and what failed."""
        plan, done = self._plan, iter(outcomes)
        return statistics_findings(
            Results(
                # zip takes a unit first: it stops before an outcome that belongs to the next block
                cases=[(case, list(zip(block, done, strict=False))) for case, block in plan.blocks],
                sweep=list(zip(plan.sweep, done, strict=False)),
                ranks=list(zip(plan.ranks, done, strict=False)),
                spectra=list(zip(plan.spectra, done, strict=False)),
            )
        )

    @property
    def _plan(self) -> Plan:
        return Plan(**self.to_dict())
