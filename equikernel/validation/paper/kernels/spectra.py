"""Eigenvalues and leading eigenvectors of G and K: the DEQ, its equivalents, and a network that nobody designed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from equikernel.errors import DataError, InputError
from equikernel.theory.models import DEQ
from equikernel.validation.experiments.sources import MixtureSource, Source, dataset_source
from equikernel.validation.experiments.study import Outcome, Unit, derived_seed, describe_deq
from equikernel.validation.experiments.suite import GMM
from equikernel.validation.figures import KERNEL_NAMES
from equikernel.validation.paper.experiment import Drawing, Findings, Spread, require_seeds, spread
from equikernel.validation.paper.kernels.figures import draw_histograms
from equikernel.validation.paper.kernels.points import KINDS, KernelPoint
from equikernel.validation.paper.kernels.rates import kernels_of
from equikernel.validation.tables import Column, Table

__all__ = ["SpectraExperiment", "sources_for"]

_SHOWN = 3  # leading eigenvalues and eigenvectors in a table; the record has one for each class
_FAMILY = "isotropic3"


def sources_for(
    names: Sequence[str], n: int, seeds: Sequence[int], *, optional: bool = False
) -> tuple[tuple[tuple[Source, ...], ...], tuple[str, ...]]:
    """A sample of each source for each seed, and sentences on those that are not there.

    Args:
        names: "gmm" (three isotropic classes, p = n, so that the class means stand out of the bulk), names of data
            sets, paths.
        n: samples.
        seeds: of the draws.
        optional: whether a data set that is not on this machine is left out, rather than downloaded or refused.

    Raises:
        DataError: data that are not there or cannot be used, unless ``optional``.
    """
    sources: list[list[Source]] = [[] for _ in seeds]
    missing = []
    for name in dict.fromkeys(names):
        try:
            drawn = [_source(name, n, derived_seed(seed, "spectra", name), download=not optional) for seed in seeds]
        except DataError as error:
            if not optional:
                raise
            missing.append(str(error))
            continue
        for samples, source in zip(sources, drawn, strict=True):
            samples.append(source)
    return tuple(map(tuple, sources)), tuple(missing)


def _source(name: str, n: int, seed: int, *, download: bool) -> Source:
    return MixtureSource(_FAMILY, n, n, seed) if name == GMM else dataset_source(name, n, seed, download=download)


@dataclass(frozen=True)
class SpectraExperiment:
    """The spectra of G and K on several sources of data.

    Attributes:
        deqs: the networks.
        sources: for each seed, one sample of each source, the sources in the same order.
        seeds: three or more; also those of the weights.
        width, draws, trained: as in ``KernelPoint``.
        missing: sentences on sources that were left out.
    """

    deqs: tuple[DEQ, ...]
    sources: tuple[tuple[Source, ...], ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    width: int = 1024
    draws: int = 8
    trained: str = "aA"
    missing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", require_seeds(self.seeds))
        if not self.deqs or not self.sources or not self.sources[0]:
            raise InputError("give one activation or more, and one source of data or more")
        if len(self.sources) != len(self.seeds) or len({len(samples) for samples in self.sources}) > 1:
            raise InputError(f"each of the {len(self.seeds)} seeds needs a sample of every source")

    @property
    def name(self) -> str:
        """For files."""
        return "spectra"

    @property
    def title(self) -> str:
        """For headings."""
        return "Spectra of the kernels: a DEQ, its equivalents, and a naive explicit network"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "deqs": [describe_deq(deq) for deq in self.deqs],
            "sources": [[source.describe() for source in samples] for samples in self.sources],
            **{key: getattr(self, key) for key in ("seeds", "width", "draws", "trained")},
        }

    def units(self) -> Sequence[Unit]:
        """A unit for each network, source, kernel and seed."""
        return [unit for group in self._groups() for unit in group]

    def _groups(self) -> list[list[KernelPoint]]:
        """The units whose numbers are averaged: they differ in their seeds alone."""
        groups = []
        for deq in self.deqs:
            kernels, trained = kernels_of(deq, self.trained)
            for place, kernel in itertools.product(range(len(self.sources[0])), kernels):
                groups.append(
                    [
                        KernelPoint(deq, samples[place], kernel, trained, self.width, self.draws, seed)
                        for seed, samples in zip(self.seeds, self.sources, strict=True)
                    ]
                )
        return groups

    def findings(self, outcomes: Sequence[Outcome]) -> Findings:
        """Distances to the exact kernel, leading eigenvalues and eigenvectors, and histograms of the first seed."""
        done = iter(outcomes)
        groups = [_Group(group, list(itertools.islice(done, len(group)))) for group in self._groups()]
        rows = [row for group in groups for row in group.rows()]
        lacking = list(dict.fromkeys(sentence for group in groups for sentence in group.failures()))
        return Findings(
            {
                "comparisons": rows,
                "measurements": [group.record() for group in groups],
                "missing": lacking,
            },
            (self._distances(rows), self._leading(rows)),
            _drawings(groups),
            (*self.missing, *lacking, *(remark for group in groups for remark in group.remarks())),
        )

    def _distances(self, rows: list[dict[str, Any]]) -> Table:
        return Table(
            name="distances",
            caption=f"Distances to the exact kernel of the DEQ, relative, mean ± sd over {len(self.seeds)} seeds; "
            f"finite DEQs: mean of {self.draws} of width {self.width}; explicit networks: exact kernels; data sets: "
            "their raw features, centred, mean ‖x‖² = 1; "
            "rescaled: after the best common factor; W1: Wasserstein-1 distance of spectra over the mean eigenvalue",
            columns=(
                *_NAMES,
                Column("operator", "operator norm"),
                Column("frobenius", "Frobenius norm"),
                Column("rescaled", "Frobenius, rescaled"),
                Column("wasserstein", "W1"),
            ),
            rows=tuple(rows),
        )

    def _leading(self, rows: list[dict[str, Any]]) -> Table:
        return Table(
            name="leading",
            caption=f"Leading eigenvalues (exact → other) and |cos| of their eigenvectors with those of the exact "
            f"kernel, mean ± sd over {len(self.seeds)} seeds; the subspace is that of as many as there are classes",
            columns=(
                *_NAMES,
                *(Column(f"eigenvalue{k}", f"eigenvalue {k}") for k in range(1, _SHOWN + 1)),
                *(Column(f"cosine{k}", f"|cos| {k}") for k in range(1, _SHOWN + 1)),
                Column("subspace", "subspace"),
            ),
            rows=tuple(rows),
        )


_NAMES = (Column("data", "data"), Column("activation", "activation"), Column("kernel", "kernel"), Column("kind", "of"))


@dataclass(frozen=True)
class _Group:
    """The same network, source and kernel over the seeds."""

    points: list[KernelPoint]
    outcomes: list[Outcome]

    @property
    def names(self) -> dict[str, str]:
        first = self.points[0]
        activation = first.deq.activation.name
        return {"data": first.source.title, "activation": activation, "kernel": KERNEL_NAMES[first.kernel]}

    @property
    def numbers(self) -> list[dict[str, Any]]:
        return [outcome.numbers for outcome in self.outcomes if outcome.numbers is not None]

    def failures(self) -> list[str]:
        """What is missing where the unit itself has numbers."""
        return [
            f"{', '.join(self.names.values())}, {KINDS[kind]}: {sentence}"
            for numbers in self.numbers
            for kind, sentence in numbers["failures"].items()
        ]

    def over_seeds(self, kind: str, key: str) -> Spread:
        return spread([numbers["kinds"][kind][key] for numbers in self.numbers if kind in numbers["kinds"]])

    def rows(self) -> list[dict[str, Any]]:
        """A row for each kind: texts for the tables, and mean and sd as numbers beside them."""
        rows = []
        for kind, title in KINDS.items():
            found = [numbers for numbers in self.numbers if kind in numbers["kinds"]]
            if not found:
                continue
            row: dict[str, Any] = {**self.names, "kind": title, "seeds": len(found)}
            for key in ("operator", "frobenius", "rescaled", "wasserstein", "subspace"):
                row |= self.over_seeds(kind, key).entries(key)
            for k in range(min(_SHOWN, *(len(numbers["leading"]) for numbers in found))):
                exact = spread([numbers["leading"][k] for numbers in found])
                other = spread([numbers["kinds"][kind]["leading"][k] for numbers in found])
                row |= other.entries(f"eigenvalue{k + 1}")
                row[f"eigenvalue{k + 1}"] = f"{exact.mean:.4g} → {other.shown()}"
                cosines = spread([numbers["kinds"][kind]["cosines"][k] for numbers in found])
                row |= cosines.entries(f"cosine{k + 1}")
            rows.append(row)
        return rows

    def record(self) -> dict[str, Any]:
        """Every number of every seed but the eigenvalues of all seeds after the first."""
        shown = [numbers if k == 0 else numbers | {"eigenvalues": None} for k, numbers in enumerate(self.numbers)]
        return {**self.names, "source": self.points[0].source.describe(), "seeds": shown}

    def remarks(self) -> list[str]:
        """Where the equivalents are not near, or not nearer than the naive network."""
        has = {kind for numbers in self.numbers for kind in numbers["kinds"]}
        remarks = []
        if {"network", "naive"} <= has:
            network, naive = (self.over_seeds(kind, "operator") for kind in ("network", "naive"))
            shapes = [self.over_seeds(kind, "rescaled") for kind in ("network", "naive")]
            better = network.mean < naive.mean and shapes[0].mean < shapes[1].mean
            remarks.append(
                f"{', '.join(self.names.values())}: the kernel of the equivalent network is {network.shown()} from the "
                f"DEQ's in relative operator norm, that of the naive network {naive.shown()}; in Frobenius norm, after "
                f"the best common factor, {shapes[0].shown()} and {shapes[1].shown()}"
                + (f"; one layer more: {self.over_seeds('deeper', 'operator').shown()}" if "deeper" in has else "")
                + ("." if better else ": against the prediction, the naive one is nearer in one of these.")
            )
        if "finite" in has:
            noise = spread([numbers["noise"] for numbers in self.numbers])
            finite = self.over_seeds("finite", "frobenius")
            remarks.append(
                f"{', '.join(self.names.values())}: of the relative Frobenius distance {finite.shown()} of the finite "
                f"DEQs, {noise.mean:.3g} is expected from the standard error of their mean alone."
            )
        return remarks


def _drawings(groups: Sequence[_Group]) -> dict[str, Drawing]:
    """A figure for each activation and kernel."""
    drawings: dict[str, Drawing] = {}
    for activation, kernel in dict.fromkeys((g.names["activation"], g.names["kernel"]) for g in groups):
        panels = [
            {
                "row": group.names["data"],
                "column": title,
                "deq": group.numbers[0]["eigenvalues"]["exact"],
                "other": group.numbers[0]["eigenvalues"][kind],
            }
            for group in groups
            if (group.names["activation"], group.names["kernel"]) == (activation, kernel) and group.numbers
            for kind, title in KINDS.items()
            if kind in group.numbers[0]["eigenvalues"]
        ]
        if panels:
            rows, columns = ([*dict.fromkeys(panel[key] for panel in panels)] for key in ("row", "column"))
            number = 1 + sum(name.startswith(f"spectra_{kernel.lower()}") for name in drawings)
            name = f"spectra_{kernel.lower()}" + (f"_{number}" if number > 1 else "")
            data = {"title": f"{activation}: {kernel}", "rows": rows, "columns": columns, "panels": panels}
            drawings[name] = Drawing(draw_histograms, data)
    return drawings
