"""The table of the statistics at initialisation, for papers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from equikernel.numerics.initialisation import InputLaw
from equikernel.theory.activation import Activation
from equikernel.validation.initialisation.kernel import KERNEL_FIELDS
from equikernel.validation.initialisation.rows import FIELDS, InitRow, init_rows
from equikernel.validation.tables import Column, Table

__all__ = ["SYMBOLS", "init_table", "kernel_table", "rows_table", "symbol_column"]

# field -> (text, LaTeX)
SYMBOLS = {
    "sigma": ("σ", r"$\sigma$"),
    "mean_square": ("q", "$q$"),
    "chi": ("χ", r"$\chi$"),
    "kappa": ("κ", r"$\kappa$"),
    "stability": ("R", "$R$"),
    "tangent_length": ("T", "$T$"),
    "tangent_square": ("τ(P²)", r"$\tau(P^2)$"),
    "radius": ("radius", "radius"),
    "length_noise": ("N Var q", r"$N\,\mathrm{Var}\,q$"),
    "residual": ("residual", "residual"),
    "critical_sigma": ("critical σ", r"critical $\sigma$"),
    "xx": ("K(x, x)", "$K(x,x)$"),
    "yy": ("K(y, y)", "$K(y,y)$"),
    "xy": ("K(x, y)", "$K(x,y)$"),
    "chi_x": ("χ(x)", r"$\chi_x$"),
    "chi_y": ("χ(y)", r"$\chi_y$"),
    "slope": ("slope", r"$\mathbf{E}\,\psi_x'\psi_y'$"),
    "stability_x": ("R(x)", "$R_x$"),
    "stability_y": ("R(y)", "$R_y$"),
}


def symbol_column(key: str, digits: int) -> Column:
    """The column of a field; residuals to two digits."""
    text, latex = SYMBOLS[key]
    return Column(key, text, latex, ".1e" if key == "residual" else f".{digits}g")


def init_table(
    acts: Sequence[str | Activation],
    family: str | Sequence[str],
    sigmas: Sequence[Any],
    law: InputLaw,
    digits: int = 6,
) -> Table:
    """The statistics of several activations side by side; a row without a stable fixed point says so.

    Args:
        acts: activations.
        family: a family of weights, or several.
        sigmas: standard deviations of W.
        law: of the entries of x.
        digits: significant digits shown; the raw values keep theirs.

    Raises:
        InputError: an activation, a family or a sigma that cannot be read.
    """
    families = (family,) if isinstance(family, str) else tuple(family)
    rows = [row for act in acts for row in init_rows(act, families, sigmas, law)]
    return rows_table(rows, law, digits)


def rows_table(rows: Sequence[InitRow], law: InputLaw, digits: int = 6) -> Table:
    """The table of rows of ``init_rows``."""
    return Table(
        name="initialisation",
        caption=f"DEQs z = f(Wz) + x at initialisation, entries of x: {law.name}; leading order in 1/N",
        columns=_columns(FIELDS, digits),
        rows=tuple(_plain(row) for row in rows),
    )


def kernel_table(rows: Sequence[InitRow], digits: int = 6) -> Table:
    """The table of rows of ``kernel_rows``."""
    return Table(
        name="initialisation_kernel",
        caption="Kernels of two samples at initialisation; leading order in 1/N",
        columns=_columns(KERNEL_FIELDS, digits),
        rows=tuple(_plain(row) for row in rows),
    )


def _columns(fields: Sequence[str], digits: int) -> tuple[Column, ...]:
    return (
        Column("activation", "activation"),
        Column("family", "weights"),
        *(symbol_column(key, digits) for key in ("sigma", *fields, "critical_sigma")),
        Column("status", "verdict"),
    )


def _plain(row: InitRow) -> dict[str, Any]:
    verdict = "stable" if row.failure is None else row.record["status"]
    return {**row.record, "status": verdict}
