"""The work of ``equikernel experiment statistics``: which cases, at which sizes, with how many matrices."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from equikernel.numerics.initialisation import InputLaw, critical_sigma
from equikernel.numerics.initialisation.precision import slope_range
from equikernel.theory.activation import activation
from equikernel.theory.initialisation_scales import MATCHES, matched_sigma, scale_of
from equikernel.validation.paper.statistics.edges import EdgeCase
from equikernel.validation.paper.statistics.formulas import Case, CaseUnit
from equikernel.validation.paper.statistics.kernel_cases import KernelCase
from equikernel.validation.paper.statistics.linear import DepthCase, HaarCase, LinearCase
from equikernel.validation.paper.statistics.nonlinear import IteratesCase, NonlinearCase, ReflectionCase
from equikernel.validation.paper.statistics.sweeps import LINEAR, SpectrumUnit, SweepUnit

__all__ = ["Plan"]

# Radii of 0.5 and 0.6: an eigenvalue that reaches 1 is out of the question, so that sample means are typical values.
_LINEAR_SIGMA = {"iid": 0.5, "orthogonal": 0.6, "goe": 0.3}
_HAAR = {1: 8, 2: 8, 5: 8, 40: 4}  # N, and matrices in units of ``count``
_HAAR_SIGMA = 0.8
_EDGES = {
    "iid": (0.3, 0.4, 0.5, 0.65),
    "orthogonal": (0.03, 0.06, 0.12, 0.25),
    "goe": (0.03, 0.06, 0.12, 0.25),
}
# Sizes and counts in units of the experiment's: solving costs N^3, the reductions of the other two families cost N.
_EDGE_SIZES = {"iid": (1.5, 1), "orthogonal": (12.0, 4), "goe": (12.0, 4)}
_GRAMS = ((1.0, 2.0, 0.5), (1.0, 1.0, 0.5))
# sigma_a times the largest slope; contraction is certain below 1 (orthogonal) and 1/2 (goe)
_KERNEL_SIGMA = {"iid": 0.8, "orthogonal": 0.8, "goe": 0.4}
_REFLECTION_SIGMA = 0.6
_LINEAR_RADII = (0.2, 0.4, 0.55, 0.7, 0.8, 0.9, 0.95)
_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 0.85, 0.95)
_RANK_SHARE = 0.9
_SPECTRUM_SHARE = 0.6
_SIGNS, _GAUSSIAN, _CONSTANT = InputLaw.signs(), InputLaw.gaussian(), InputLaw.constant(1)


@dataclass(frozen=True)
class Plan:
    """The fields are those of ``Statistics``."""

    acts: tuple[str, ...]
    sizes: tuple[int, ...]
    count: int
    share: float
    families: tuple[str, ...]
    seed: int
    sweep_size: int
    sweep_count: int
    spectrum_size: int

    @cached_property
    def blocks(self) -> list[tuple[Case, list[CaseUnit]]]:
        """Each case with its units, size by size."""
        found: list[tuple[Case, list[CaseUnit]]] = [(case, self._by_size(case)) for case in self._cases()]
        if "orthogonal" in self.families:
            for size, times in _HAAR.items():
                haar = HaarCase(size, _HAAR_SIGMA)
                found.append((haar, [CaseUnit(haar, size, times * self.count, self.seed)]))
        for family in self.families:
            scale, times = _EDGE_SIZES[family]
            edge = EdgeCase(family, _EDGES[family])
            found.append((edge, self._by_size(edge, scale, times)))
        return found

    def _by_size(self, case: Case, scale: float = 1.0, times: int = 1) -> list[CaseUnit]:
        """Twice as many matrices at all sizes but the largest, which takes most of the time."""
        counts = [2 * times * self.count] * (len(self.sizes) - 1) + [times * self.count]
        return [
            CaseUnit(case, round(scale * size), count, self.seed)
            for size, count in zip(self.sizes, counts, strict=True)
        ]

    def _cases(self) -> Iterator[Case]:
        for family in self.families:
            yield LinearCase(family, _LINEAR_SIGMA[family])
            yield DepthCase(family, _LINEAR_SIGMA[family])
        first = self.acts[0]
        laws = [(act, _GAUSSIAN) for act in self.acts] + [(first, _CONSTANT), (first, _SIGNS)]
        for (act, law), family in itertools.product(laws, self.families):
            yield NonlinearCase(act, family, self._sigma(act, family), law)
        for family in self.families:
            yield IteratesCase(first, family, self._sigma(first, family), _GAUSSIAN)
        if "goe" in self.families:
            yield ReflectionCase(first, _rounded(_REFLECTION_SIGMA / _steepest(first)), _SIGNS)
        for act, family in itertools.product(self.acts, self.families):
            for gram in _GRAMS if act == first else _GRAMS[:1]:
                yield KernelCase(act, family, _rounded(_KERNEL_SIGMA[family] / _steepest(act)), gram)

    def _sigma(self, act: str, family: str) -> float:
        """A share of the critical sigma of N(0, 1) inputs."""
        return _rounded(self.share * _critical(act, family, _GAUSSIAN))

    @cached_property
    def sweep(self) -> list[SweepUnit]:
        """For the figures: linear networks up to a radius of 0.95, the first activation up to 0.95 critical sigma."""
        found = []
        for family in self.families:
            found += [self._point(LINEAR, family, matched_sigma(family, "radius", radius)) for radius in _LINEAR_RADII]
            critical = _critical(self.acts[0], family)
            found += [self._point(self.acts[0], family, _rounded(share * critical)) for share in _SHARES]
        return found

    @cached_property
    def ranks(self) -> list[SweepUnit]:
        """All families at one value of each matched quantity, 0.9 of the least critical one; more matrices."""
        found = []
        for act, match in itertools.product((LINEAR, self.acts[0]), MATCHES):
            limit = min(scale_of(family, match, _critical(act, family)) for family in self.families)
            value = _rounded(_RANK_SHARE * limit)
            found += [self._point(act, family, matched_sigma(family, match, value), 4) for family in self.families]
        return found

    def _point(self, act: str, family: str, sigma: float, times: int = 1) -> SweepUnit:
        return SweepUnit(act, family, sigma, _SIGNS, self.sweep_size, times * self.sweep_count, self.seed)

    @cached_property
    def spectra(self) -> Sequence[SpectrumUnit]:
        """One matrix of each family."""
        return [
            SpectrumUnit(self.acts[0], family, _SPECTRUM_SHARE, _SIGNS, self.spectrum_size, self.seed)
            for family in self.families
        ]


@cache
def _critical(act: str, family: str, law: InputLaw = _SIGNS) -> float:
    """The critical sigma; where there is none, that of the linear network."""
    linear = float(matched_sigma(family, "radius", 1.0))
    critical = linear if act == LINEAR else critical_sigma(act, family, law).sigma
    return critical if math.isfinite(critical) else linear


def _steepest(act: str) -> float:
    low, high = slope_range(activation(act))
    return max(-low, high)


def _rounded(sigma: float) -> float:
    return float(f"{sigma:.3g}")
