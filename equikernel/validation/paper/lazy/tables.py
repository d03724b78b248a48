"""Numbers of runs over widths and seeds, gathered: mean and standard deviation, and power laws of the width."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from equikernel.validation.experiments.rates import PowerLaw, fit_power_law
from equikernel.validation.paper.experiment import Spread, spread
from equikernel.validation.tables import Column, Table

__all__ = [
    "NAMES",
    "Law",
    "Pick",
    "data_of",
    "distinct",
    "grouped",
    "laws",
    "quoted",
    "record_of",
    "slope_table",
    "spread_of",
]

Run = dict[str, Any]
Pick = Callable[[Run], float]

NAMES = {"deq": "DEQ", "equivalent": "equivalent", "naive": "naive"}


def distinct(runs: Sequence[Run], key: str) -> list[Any]:
    """The values of a key, in the order of their first appearance."""
    return list(dict.fromkeys(run[key] for run in runs))


def grouped(runs: Sequence[Run], *keys: str) -> Iterator[tuple[dict[str, Any], list[Run]]]:
    """Runs that agree in all keys, in the order of their first appearance."""
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(run[key] for key in keys), []).append(run)
    for values, members in groups.items():
        yield dict(zip(keys, values, strict=True)), members


def spread_of(runs: Sequence[Run], pick: Pick) -> Spread:
    """Mean and standard deviation over runs, which differ in their seeds."""
    return spread([pick(run) for run in runs])


def record_of(runs: Sequence[Run], picks: dict[str, Pick]) -> dict[str, Any]:
    """For each quantity its text under its name, and mean and sd under name_mean and name_sd."""
    row: dict[str, Any] = {}
    for name, pick in picks.items():
        row |= spread_of(runs, pick).entries(name)
    return row


@dataclass(frozen=True)
class Law:
    """A fitted power of the width and what theory says of its exponent (None: nothing).

    Attributes:
        keys: what the runs have in common. quantity: what was fitted.
        widths: of the runs. fit: the power law, from all of them.
        theory: the exponent expected.
    """

    keys: dict[str, Any]
    quantity: str
    widths: tuple[int, ...]
    fit: PowerLaw
    theory: float | None

    @property
    def verdict(self) -> str:
        """How the interval lies to the exponent of theory."""
        if self.theory is None:
            return "no prediction"
        if self.fit.low <= self.theory <= self.fit.high:
            return f"the interval contains {self.theory:g}"
        return f"{'faster' if self.fit.high < self.theory else 'slower'} than {self.theory:g} over these widths"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            **self.keys,
            "quantity": self.quantity,
            "widths": f"{self.widths[0]} to {self.widths[-1]}",
            "slope": self.fit.slope,
            "low": self.fit.low,
            "high": self.fit.high,
            "factor": self.fit.factor,
            "points": self.fit.points,
            "theory": self.theory,
            "verdict": self.verdict,
        }


def laws(
    runs: Sequence[Run], keys: Sequence[str], quantity: str, pick: Pick, theory: float | None, least: int = 0
) -> Iterator[Law]:
    """Power laws of the width for each group of runs, over widths of ``least`` and more; none where there are too few.

    Least squares of the logarithms over all seeds, with Student's interval (see ``fit_power_law``).
    """
    for values, members in grouped(runs, *keys):
        chosen = [run for run in members if run["width"] >= least]
        widths = tuple(sorted({run["width"] for run in chosen}))
        fit = fit_power_law([run["width"] for run in chosen], [pick(run) for run in chosen]) if chosen else None
        if fit is not None:
            yield Law(values, quantity, widths, fit, theory)


def quoted(law: Law) -> str:
    """A slope with its interval."""
    return f"{law.fit.slope:.2f} [{law.fit.low:.2f}, {law.fit.high:.2f}]"


def data_of(runs: Sequence[Run]) -> str:
    """The data of all runs and what was done to them, for captions."""
    return "; ".join(f"{run['data']} ({run['preparation']})" for _, (run, *_) in grouped(runs, "data"))


def slope_table(found: Sequence[Law], keys: dict[str, str], of: str) -> Table:
    """The table of fitted powers of the width.

    Args:
        found: the powers.
        keys: of the laws, with their headings.
        of: what the powers are of, for the caption.
    """
    return Table(
        "slopes",
        f"Exponents of the width{of}, least squares of logarithms over all seeds, with 95 % intervals",
        (
            *(Column(key, heading) for key, heading in keys.items()),
            Column("quantity", "quantity"),
            Column("widths", "widths"),
            Column("slope", "exponent", form=".2f"),
            Column("low", "from", form=".2f"),
            Column("high", "to", form=".2f"),
            Column("theory", "theory"),
            Column("verdict", "verdict"),
        ),
        tuple(law.to_dict() for law in found),
    )
