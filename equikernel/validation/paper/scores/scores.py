"""Every activation without jumps: kernels of finite networks, extrapolated to infinite width, against exact ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equikernel.errors import ConvergenceError, InputError, SolutionError
from equikernel.numerics.kernels import implicit_kernels
from equikernel.theory.activation import activation
from equikernel.theory.models import DEQ, exact_number
from equikernel.theory.registry import names
from equikernel.validation.corrections import bias_moments
from equikernel.validation.deq.options import require_count
from equikernel.validation.draws import NetworkOptions, NetworkParts, network_parts
from equikernel.validation.empirical import EmpiricalKernel, average_draws
from equikernel.validation.experiments.sources import MixtureSource, Sample, Source, dataset_source
from equikernel.validation.experiments.study import Outcome, derived_seed, describe_deq, limited_threads
from equikernel.validation.ladder import fit_ladder
from equikernel.validation.paper.experiment import Findings, require_seeds
from equikernel.validation.paper.scores.statistics import KERNELS
from equikernel.validation.paper.scores.tables import score_findings

__all__ = ["GMM", "Scores", "ScoresUnit", "smooth_names"]

GMM = "gmm"
_FAMILY, _FEATURES = "structured", 64  # of the mixtures
_HALVINGS = 12
_WIDER = (1, 2)
_FEWEST_DRAWS = 4
# 1e-8 is far below the standard errors, and float32 goes most of the way; 200 iterations do for a contraction by 0.9 a
# step, and soon find out chaos; in 64 MB the batches of narrow networks stay near the processor's cache
_SOLVER: NetworkOptions = {"dtype": "mixed", "tol": 1e-8, "max_iter": 200, "memory": 64e6}

Array = NDArray[np.float64]


def smooth_names() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the registry without jumps, and those with jumps, whose NTK is infinite."""
    jumping = tuple(name for name in names() if activation(name).jumps)
    return tuple(name for name in names() if name not in jumping), jumping


@dataclass(frozen=True)
class ScoresUnit:
    """One activation on one source of data, at every seed: networks of every width, solved once for all kernels.

    Attributes:
        name: of the activation, or an expression.
        sources: of the samples, one for each seed.
        seeds: of the networks.
        widths: m, increasing; ``draws`` networks at the largest, draws (largest/m)^(3/2) at the others: narrow networks
            cost less, and show more of the bias.
        sigma_a2: where to start: it is halved until the exact kernels exist on the samples of every seed, and every
            network of every width and seed converges; before that, all widths are doubled, with fewer
            networks, since wide networks are closer to the theory.
        sigma_b2: as it is.
        threads: of torch; the numbers depend on them by rounding alone.
    """

    name: str
    sources: tuple[Source, ...]
    seeds: tuple[int, ...]
    widths: tuple[int, ...]
    draws: int
    sigma_a2: Fraction | str
    sigma_b2: Fraction | str
    threads: int = 1

    def describe(self) -> dict[str, Any]:
        """What the numbers depend on."""
        return {
            "study": "scores",
            "deq": describe_deq(self._deq(0)),
            "sources": [source.describe() for source in self.sources],
            "seeds": list(self.seeds),
            "widths": list(self.widths),
            "draws": self.draws,
        }

    def measure(self) -> dict[str, Any]:
        """The variance and the widths that work, why others do not, and the numbers of every seed and kernel.

        Raises:
            InputError: an activation that jumps.
            SolutionError: no variance works; the last sentence says why.
        """
        refusals: list[dict[str, Any]] = []
        for halvings in range(_HALVINGS + 1):
            deq = self._deq(halvings)
            sigma_a2 = float(deq.sigma_a2)
            try:
                samples = [source.load() for source in self.sources]
                exact = [self._exact(sample, deq) for sample in samples]
            except SolutionError as error:
                refusals.append({"sigma_a2": sigma_a2, "widths": None, "reason": str(error)})
                continue
            for factor in _WIDER:
                widths = tuple(factor * width for width in self.widths)
                try:
                    seeds = self._ladders(deq, samples, exact, widths)
                except SolutionError as error:
                    refusals.append({"sigma_a2": sigma_a2, "widths": list(widths), "reason": str(error)})
                else:
                    return {"sigma_a2": sigma_a2, "widths": list(widths), "refusals": refusals, "seeds": seeds}
        raise ConvergenceError(
            f"{self.name}: no sigma_a2 from {self.sigma_a2} down to {refusals[-1]['sigma_a2']} gives kernels and "
            f"networks that converge; {refusals[-1]['reason']}"
        )

    def _deq(self, halvings: int) -> DEQ:
        return DEQ(self.name, exact_number(self.sigma_a2, "sigma_a2") / 2**halvings, self.sigma_b2)

    def _exact(self, sample: Sample, deq: DEQ) -> dict[str, Array]:
        found = {}
        for key, trained in KERNELS.items():
            kernels = implicit_kernels(
                sample.X, deq, tau0=sample.tau0, trained=trained or "a", ntk=trained is not None, threads=self.threads
            )
            found[key] = kernels.ck if kernels.ntk is None else kernels.ntk
        return found

    def _ladders(
        self, deq: DEQ, samples: Sequence[Sample], exact: Sequence[dict[str, Array]], widths: tuple[int, ...]
    ) -> list[dict[str, Any]]:
        """For every seed the numbers of each kernel."""
        kernels: list[dict[str, list[EmpiricalKernel]]] = [{key: [] for key in KERNELS} for _ in samples]
        for width in widths:  # narrow networks of all seeds first: they take least, and fail first
            for found, sample, seed, source in zip(kernels, samples, self.seeds, self.sources, strict=True):
                parts = self._parts(deq, sample, width, derived_seed(seed, "scores", self.name, source.title))
                for key, trained in KERNELS.items():
                    found[key].append(average_draws((part.kernel(trained) for part in parts), width))
        return [
            {key: _numbers(found[key], theory[key]) for key in KERNELS}
            for found, theory in zip(kernels, exact, strict=True)
        ]

    def _parts(self, deq: DEQ, sample: Sample, width: int, seed: int) -> list[NetworkParts]:
        draws = max(round(self.draws * (self.widths[-1] / width) ** 1.5), _FEWEST_DRAWS)
        options: NetworkOptions = {**_SOLVER, "tau0": sample.tau0}
        with limited_threads(self.threads, torch_too=True):
            return list(network_parts(sample.X, deq, width=width, draws=range(draws), seed=seed, **options))


def _numbers(kernels: Sequence[EmpiricalKernel], exact: Array) -> dict[str, Any]:
    """Plain JSON types of one ladder: the limit of the quadratic fit scored, and the linear fit put to the test."""
    ladder, linear = fit_ladder(kernels, exact, 2), fit_ladder(kernels, exact)
    # an entry that does not fluctuate and differs has an infinite score: 40 stands for it, far beyond any bound
    scores = np.clip(ladder.z[np.triu_indices(len(exact))], -40.0, 40.0)
    return {
        **ladder.to_dict(),
        "scores": scores.tolist(),
        "linear": {"z": linear.summary.to_dict(), "misfit": linear.misfit},
        "bias": bias_moments(kernels, exact).to_dict(),
    }


@dataclass(frozen=True)
class Scores:
    """The experiment.

    Attributes:
        activations: names or expressions; none: every name of the registry without jumps.
        data: "gmm" for a Gaussian mixture, names of data sets, or files.
        seeds: three or more: each has samples and networks of its own.
        n: samples.
        widths: four or more. draws: networks at the largest width (see ``ScoresUnit``), 4 or more.
        sigma_a2: where every activation starts; sigma_b2.
        threads: of the linear algebra.

    Raises:
        InputError: too few seeds, widths or draws; a variance that is not a number.
    """

    activations: tuple[str, ...] = ()
    data: tuple[str, ...] = (GMM, "digits")
    seeds: tuple[int, ...] = (0, 1, 2)
    n: int = 16
    widths: tuple[int, ...] = (32, 64, 128, 256, 512)
    draws: int = 16
    sigma_a2: Fraction | str = "0.2"
    sigma_b2: Fraction | str = "0.8"
    threads: int = 1

    def __post_init__(self) -> None:
        require_seeds(self.seeds)
        exact_number(self.sigma_a2, "sigma_a2")
        exact_number(self.sigma_b2, "sigma_b2", positive=True)
        require_count(self.n, "n", 2)
        require_count(self.draws, "draws", _FEWEST_DRAWS)
        widths = tuple(sorted({require_count(width, "a width", 1) for width in self.widths}))
        if len(widths) < 4:
            raise InputError(
                f"limit, 1/m and 1/m^2 and a test of them need 4 or more different widths; got {self.widths}"
            )
        object.__setattr__(self, "widths", widths)

    @property
    def name(self) -> str:
        """For files."""
        return "scores"

    @property
    def title(self) -> str:
        """For headings."""
        return "Kernels of finite networks against the exact kernels, activation by activation"

    @property
    def chosen(self) -> tuple[str, ...]:
        """The activations, each once."""
        return tuple(dict.fromkeys(self.activations)) or smooth_names()[0]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "activations": list(self.chosen),
            **{key: list(getattr(self, key)) for key in ("data", "seeds", "widths")},
            **{key: getattr(self, key) for key in ("n", "draws", "threads")},
            **{key: str(getattr(self, key)) for key in ("sigma_a2", "sigma_b2")},
        }

    def units(self) -> tuple[ScoresUnit, ...]:
        """One for each source of data and activation.

        Raises:
            DataError: a data set that is not there.
        """
        return tuple(
            ScoresUnit(
                act, sources, self.seeds, self.widths, self.draws, self.sigma_a2, self.sigma_b2, threads=self.threads
            )
            for sources in [tuple(self._source(name, seed) for seed in self.seeds) for name in self.data]
            for act in self.chosen
        )

    def findings(self, outcomes: Sequence[Outcome]) -> Findings:
        """Tables, figures, and what all scores say together."""
        left_out = () if self.activations else smooth_names()[1]
        return score_findings(
            [(unit.name, unit.sources[0], outcome) for unit, outcome in zip(self.units(), outcomes, strict=True)],
            self.to_dict(),
            left_out,
        )

    def _source(self, name: str, seed: int) -> Source:
        own = derived_seed(seed, "scores", "samples", name)
        return MixtureSource(_FAMILY, _FEATURES, self.n, own) if name == GMM else dataset_source(name, self.n, own)
