"""The initialisation part of a report: one table of several activations, and a phase diagram of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from equikernel.numerics.initialisation import InputLaw
from equikernel.theory.activation import Activation
from equikernel.theory.initialisation import FAMILIES
from equikernel.validation.experiments.study import Runner
from equikernel.validation.initialisation.diagram import COMPARED_AT, PhaseDiagram
from equikernel.validation.initialisation.figures import draw_phase_diagram
from equikernel.validation.initialisation.table import symbol_column
from equikernel.validation.tables import Column, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["InitSection", "init_report_section"]

_DIGITS = 5
_COMPARED = ("critical_sigma", "sigma", "mean_square", "stability", "tangent_length", "radius", "length_noise")
_KINDS = {"instability": "perturbations grow", "no fixed point": "no fixed point beyond", "none": "none"}


@dataclass(frozen=True)
class InitSection:
    """What a report shows.

    Attributes:
        table: the critical sigma and the statistics at 0.9 of it.
        figures: (name, draw, data) of each activation that has a diagram, for ``FigureBook.add``.
        failures: name of the activation -> why it has none.
    """

    table: Table
    figures: tuple[tuple[str, Callable[[Figure, Any], None], Any], ...]
    failures: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """The rows and why others have none, as plain JSON types."""
        return {"rows": list(self.table.rows), "failures": self.failures}


def init_report_section(
    activations: Sequence[str | Activation],
    law: InputLaw | None = None,
    *,
    families: Sequence[str] = FAMILIES,
    points: int = 20,
    inputs: int = 16,
    runner: Runner | None = None,
) -> InitSection:
    """The statistics at initialisation of several activations.

    Args:
        activations: names, expressions or activations.
        law: of the entries of x; N(0, 1) if None.
        families: of weights.
        points: values of sigma below the critical one in each figure.
        inputs: scales of x in each figure.
        runner: one that keeps finished diagrams; each activation is one unit.

    Raises:
        InputError: an activation or a family that cannot be read.
    """
    law = InputLaw.gaussian() if law is None else law
    diagrams = [PhaseDiagram(act, law, tuple(families), points=points, inputs=inputs) for act in activations]
    names = [diagram.describe()["phase_diagram"]["activation"] for diagram in diagrams]
    outcomes = (runner or Runner()).run(diagrams)
    rows: list[dict[str, Any]] = []
    figures = []
    failures = {}
    for k, (name, outcome) in enumerate(zip(names, outcomes, strict=True), start=1):
        if outcome.numbers is None:
            failures[name] = str(outcome.failure)
            continue
        rows += [{**row, "critical_kind": _KINDS[row["critical_kind"]]} for row in outcome.numbers["compared"]]
        figures.append((f"{k}_initialisation", draw_phase_diagram, outcome.numbers))
    return InitSection(_table(rows, law), tuple(figures), failures)


def _table(rows: list[dict[str, Any]], law: InputLaw) -> Table:
    return Table(
        name="initialisation",
        caption=(
            f"DEQs z = f(Wz) + x at initialisation, entries of x: {law.name}: the critical σ, and the statistics at "
            f"{COMPARED_AT:g} of it; leading order in 1/N"
        ),
        columns=(
            Column("activation", "activation"),
            Column("family", "weights"),
            *(symbol_column(key, _DIGITS) for key in _COMPARED[:1]),
            Column("critical_kind", "what ends there"),
            *(symbol_column(key, _DIGITS) for key in _COMPARED[1:]),
        ),
        rows=tuple(rows),
    )
