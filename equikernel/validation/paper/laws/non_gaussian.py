"""The equivalents on data that are not Gaussian: measured rates beside those that the moments of the noise imply."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from equikernel.errors import InputError
from equikernel.theory.models import DEQ
from equikernel.validation.experiments.rates import THEORY_SLOPE, bootstrap_slope, fit_power_law
from equikernel.validation.experiments.study import Outcome, Unit, derived_seed, describe_deq
from equikernel.validation.figures import KERNEL_NAMES
from equikernel.validation.paper.experiment import Drawing, Findings, require_seeds, spread
from equikernel.validation.paper.kernels.figures import draw_ladders
from equikernel.validation.paper.kernels.rates import interval, kernels_of, require_dimensions, spreads_by_size
from equikernel.validation.paper.laws.points import VARIANTS, LawPoint, expected_rate
from equikernel.validation.paper.laws.samplers import LAWS, Law, LawSource, noise_law
from equikernel.validation.tables import Column, Table

__all__ = ["NonGaussianExperiment"]


@dataclass(frozen=True)
class NonGaussianExperiment:
    """||G - Gbar|| and ||K - Kbar|| against p for laws of the noise.

    Attributes:
        deqs: the networks. laws: of ``LAWS``. family: of mixtures, whose means and covariances the data have.
        dimensions: p. ratio: n/p. seeds: of the data sets, one for each law, p and seed, the same for all networks.
        trained: which parameters the NTK trains.
    """

    deqs: tuple[DEQ, ...]
    laws: tuple[str, ...] = LAWS
    dimensions: tuple[int, ...] = (100, 200, 400, 800, 1600)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    family: str = "isotropic"
    ratio: float = 0.5
    trained: str = "aA"

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", require_seeds(self.seeds))
        object.__setattr__(self, "dimensions", require_dimensions(self.dimensions))
        if not self.deqs or not self.laws:
            raise InputError("give one activation or more, and one law or more")
        for law in self.laws:
            noise_law(law)

    @property
    def name(self) -> str:
        """For files."""
        return "non-gaussian"

    @property
    def title(self) -> str:
        """For headings."""
        return "Rates of the high-dimensional equivalents on data that are not Gaussian"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "deqs": [describe_deq(deq) for deq in self.deqs],
            **{key: getattr(self, key) for key in ("laws", "dimensions", "seeds", "family", "ratio", "trained")},
        }

    def units(self) -> Sequence[Unit]:
        """A unit for each network, law, dimension and seed."""
        return [unit for series in self._series() for unit in series]

    def _series(self) -> list[list[LawPoint]]:
        """The units of which a rate is fitted."""
        series = []
        for deq, law in itertools.product(self.deqs, self.laws):
            kernels, trained = kernels_of(deq, self.trained)
            series.append(
                [
                    LawPoint(deq, self._source(law, p, seed), kernels, trained)
                    for p in self.dimensions
                    for seed in self.seeds
                ]
            )
        return series

    def _source(self, law: str, p: int, seed: int) -> LawSource:
        return LawSource(law, self.family, p, round(self.ratio * p), derived_seed(seed, law, self.family, p))

    def findings(self, outcomes: Sequence[Outcome]) -> Findings:
        """Slopes with both intervals beside what was expected, for each network, law, kernel and variant."""
        done = iter(outcomes)
        series = [_Series(units, list(itertools.islice(done, len(units)))) for units in self._series()]
        rows = [row for one in series for row in one.rows()]
        tables = tuple(self._table(variant, rows) for variant in VARIANTS)
        return Findings(
            {"rates": rows, "points": [one.record() for one in series]},
            (_laws_table(series), *tables),
            {f"rates_{variant}": Drawing(draw_ladders, _drawing(series, variant)) for variant in VARIANTS},
            _remarks(rows),
        )

    def _table(self, variant: str, rows: list[dict[str, Any]]) -> Table:
        return Table(
            name=f"rates_{variant}",
            caption=f"Slopes in p of ‖exact − equivalent‖, {VARIANTS[variant]}; means and covariances of the mixture "
            f"{self.family}, n = {self.ratio:g} p, p = {self.dimensions[0]} … {self.dimensions[-1]}, "
            f"{len(self.seeds)} seeds; 95 % intervals: Student's t of the regression, and a bootstrap over the data "
            "sets of each p; over the larger p: of the larger half of the dimensions; the last columns: error at the "
            "largest p, mean ± sd, and its mean over what norms alone predict",
            columns=(
                Column("law", "noise"),
                Column("activation", "activation"),
                Column("kernel", "kernel"),
                Column("expected", "expected slope", form=".3g"),
                Column("norms_slope", "of norms alone", form=".2f"),
                Column("slope", "slope", form=".2f"),
                Column("interval", "t interval"),
                Column("bootstrap", "bootstrap interval"),
                Column("upper", "over the larger p"),
                Column("verdict", "verdict"),
                Column("last", f"error at p = {self.dimensions[-1]}"),
                Column("ratio", "over norms alone", form=".2f"),
            ),
            rows=tuple(row for row in rows if row["variant"] == variant),
        )


@dataclass(frozen=True)
class _Series:
    """The data sets of one network and law."""

    units: list[LawPoint]
    outcomes: list[Outcome]

    @property
    def law(self) -> Law:
        return noise_law(self.units[0].source.law)

    @property
    def deq(self) -> DEQ:
        return self.units[0].deq

    @property
    def numbers(self) -> list[tuple[int, dict[str, Any]]]:
        """P and the numbers of each data set that has some."""
        return [
            (unit.source.p, outcome.numbers)
            for unit, outcome in zip(self.units, self.outcomes, strict=True)
            if outcome.numbers is not None
        ]

    def record(self) -> dict[str, Any]:
        """All numbers."""
        points = [
            {"source": unit.source.describe(), "numbers": outcome.numbers, "failure": outcome.failure}
            for unit, outcome in zip(self.units, self.outcomes, strict=True)
        ]
        return {"law": self.law.name, "deq": describe_deq(self.deq), "points": points}

    def rows(self) -> list[dict[str, Any]]:
        """A row for each kernel and variant."""
        kernels = self.units[0].kernels if self.numbers else ()
        return [self._row(kernel, variant) for kernel, variant in itertools.product(kernels, VARIANTS)]

    def _row(self, kernel: str, variant: str) -> dict[str, Any]:
        sizes = [p for p, _ in self.numbers]
        errors = [numbers[kernel][variant]["error"] for _, numbers in self.numbers]
        norms = [numbers[kernel]["norms_only"] for _, numbers in self.numbers]
        fitted, of_norms = fit_power_law(sizes, errors), fit_power_law(sizes, norms)
        bootstrap = bootstrap_slope(sizes, errors)
        middle = sorted(set(sizes))[len(set(sizes)) // 2]
        larger = [(p, error) for p, error in zip(sizes, errors, strict=True) if p >= middle]
        upper = fit_power_law(*zip(*larger, strict=True))
        expected = expected_rate(self.law, self.deq)
        last = spread([error for p, error in zip(sizes, errors, strict=True) if p == max(sizes)])
        last_norms = spread([norm for p, norm in zip(sizes, norms, strict=True) if p == max(sizes)])
        return {
            "law": self.law.title,
            "concentrates": self.law.concentrates,
            "activation": self.deq.activation.name,
            "kernel": KERNEL_NAMES[kernel],
            "variant": variant,
            "expected": expected.slope,
            "reason": expected.reason,
            "norms_slope": of_norms and of_norms.slope,
            "upper": upper and f"{upper.slope:.2f} {interval(upper)}",
            "upper_slope": upper and upper.slope,
            "slope": fitted and fitted.slope,
            "low": fitted and fitted.low,
            "high": fitted and fitted.high,
            "interval": fitted and interval(fitted),
            "bootstrap": bootstrap and f"[{bootstrap[0]:.3f}, {bootstrap[1]:.3f}]",
            "bootstrap_interval": bootstrap,
            "verdict": "no rate" if fitted is None else _verdict(fitted.low, fitted.high, expected.slope),
            "last": last.shown(),
            "last_mean": last.mean,
            "last_sd": last.sd,
            "ratio": last.mean / last_norms.mean,
        }


def _verdict(low: float, high: float, expected: float) -> str:
    """How the t interval lies to -1/2, and to what was expected where that is something else."""
    if low <= THEORY_SLOPE <= high:
        half = "contains −1/2"
    else:
        half = "faster than −1/2" if high < THEORY_SLOPE else "slower than −1/2"
    if expected == THEORY_SLOPE:
        return half
    return f"{half}; {'as expected' if low <= expected <= high else 'not as expected'}"


def _laws_table(series: Sequence[_Series]) -> Table:
    rows = []
    for one in series:
        p, seeds = (
            one.units[-1].source.p,
            [n["norm_variance"] for size, n in one.numbers if size == one.units[-1].source.p],
        )
        expected = expected_rate(one.law, one.deq)
        rows.append(
            {
                "law": one.law.title,
                "kurtosis": one.law.kurtosis(p),
                "norm_variance": one.law.norm_variance(p),
                "measured": spread(seeds).shown() if seeds else None,
                "tail": one.law.tail,
                "activation": one.deq.activation.name,
                "expected": expected.slope,
                "reason": expected.reason,
            }
        )
    largest = series[0].units[-1].source.p
    return Table(
        name="expected",
        caption=f"Expected slopes and the moments that decide them, at p = {largest}; p Var‖x‖² (mean ± sd over seeds) "
        "also contains the spread of the classes' covariances; a dash: infinite",
        columns=(
            Column("law", "noise"),
            Column("kurtosis", "E w⁴", form=".4g"),
            Column("norm_variance", "Var‖w‖²/p", form=".4g"),
            Column("measured", "p Var‖x‖²"),
            Column("tail", "moments below", form=".3g"),
            Column("activation", "activation"),
            Column("expected", "expected slope", form=".3g"),
            Column("reason", "because"),
        ),
        rows=tuple(rows),
    )


def _drawing(series: Sequence[_Series], variant: str) -> dict[str, Any]:
    kernels = [k for k in KERNEL_NAMES if any(k in one.units[0].kernels for one in series)]
    return {
        "rows": list(dict.fromkeys(one.deq.activation.name for one in series)),
        "columns": [KERNEL_NAMES[kernel] for kernel in kernels],
        "series": [
            {
                "row": one.deq.activation.name,
                "column": KERNEL_NAMES[kernel],
                "label": one.law.title,
                **spreads_by_size([p for p, _ in one.numbers], [x[kernel][variant]["error"] for _, x in one.numbers]),
            }
            for one in series
            if one.numbers
            for kernel in one.units[0].kernels
        ],
    }


def _remarks(rows: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """What was not as expected, and how well the norms alone predict the error where they do not concentrate."""
    remarks = []
    for row in rows:
        if row["variant"] != "labelled" or None in (row["slope"], row["norms_slope"]):
            continue
        name = f"{row['law']} noise, {row['activation']}, {row['kernel']}"
        if not row["low"] <= row["expected"] <= row["high"]:
            remarks.append(
                f"{name}: slope {row['slope']:.2f} {row['interval']}, where {row['expected']:.3g} is expected of large "
                f"p; norms alone have {row['norms_slope']:.2f} over these dimensions, and over the larger half of them "
                f"the slope is {row['upper']}."
            )
        if not row["concentrates"]:
            remarks.append(f"{name}: the error is {row['ratio']:.2f} times what the norms alone predict.")
    return tuple(remarks)
