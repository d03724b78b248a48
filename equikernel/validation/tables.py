"""Tables that render as LaTeX (booktabs), Markdown, CSV, JSON and HTML rows from one set of raw values."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from equikernel.errors import InputError
from equikernel.numerics.moments import Moments
from equikernel.numerics.solve import COEFFICIENTS

__all__ = [
    "FORMATS",
    "LATEX_PREAMBLE",
    "Column",
    "Table",
    "coefficient_table",
    "latex_text",
    "moments_record",
    "moments_table",
]

# What a document that inputs the tables needs.
LATEX_PREAMBLE = r"""\documentclass{article}
\usepackage[a4paper,landscape,margin=1.5cm]{geometry}
\usepackage{booktabs,graphicx,longtable}"""
_LONG = 30  # rows from which a table may break across pages

FORMATS = ("latex", "markdown", "csv", "json")

_LATEX_ESCAPES = {
    "\\": r"\textbackslash{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\ensuremath{<}",
    ">": r"\ensuremath{>}",
    "|": r"\ensuremath{|}",
    "±": r"\ensuremath{\pm}",
    "−": r"\ensuremath{-}",
    "—": "---",
    "–": "--",
    "…": r"\ldots{}",
    "→": r"\ensuremath{\to}",
    "≤": r"\ensuremath{\le}",
    "≥": r"\ensuremath{\ge}",
    "×": r"\ensuremath{\times}",
    "√": r"\ensuremath{\surd}",
    "·": r"\ensuremath{\cdot}",
    "½": r"\ensuremath{\frac12}",
    "∞": r"\ensuremath{\infty}",
    "ᵀ": r"\ensuremath{^{\mathsf T}}",
    "ε": r"\ensuremath{\varepsilon}",
    "κ": r"\ensuremath{\kappa}",
    "φ": r"\ensuremath{\varphi}",
    "χ": r"\ensuremath{\chi}",
    "²": r"\ensuremath{^2}",
    "⁴": r"\ensuremath{^4}",
    "‖": r"\ensuremath{\|}",
    "η": r"\ensuremath{\eta}",
    "θ": r"\ensuremath{\theta}",
    "λ": r"\ensuremath{\lambda}",
    "σ": r"\ensuremath{\sigma}",
    "τ": r"\ensuremath{\tau}",
}
_SYMBOLS = {
    "tau": (r"$\tau_*$", "τ*"),
    "q": (r"$\tau_*^2$", "τ*²"),
    "gamma2": (r"$\gamma^2$", "γ²"),
    "lambda1": (r"$\lambda_1$", "λ1"),
    "kappa2": (r"$\kappa^2$", "κ²"),
    **{f"alpha{k}": (rf"$\alpha_{k}$", f"α{k}") for k in range(1, 5)},
    **{f"beta{k}": (rf"$\beta_{k}$", f"β{k}") for k in range(1, 4)},
    "mean": (r"$E[\phi]$", "E[φ]"),
    "V": (r"$V$", "V"),
    "d1": (r"$d_1$", "d1"),
    "d2": (r"$d_2$", "d2"),
    "h": (r"$h$", "h"),
    "v": (r"$v$", "v"),
}


def latex_text(text: str) -> str:
    """Plain text made safe for LaTeX (pdflatex: what is not ASCII and has no macro here becomes a question mark)."""
    escaped = "".join(_LATEX_ESCAPES.get(c, c) for c in text)
    return escaped.encode("ascii", "replace").decode("ascii")


@dataclass(frozen=True)
class Column:
    """A column: the key of its raw values, its heading as text and as LaTeX, and how numbers are shown.

    Attributes:
        key: the name of the values in JSON and CSV, where they stand in full.
        text: heading in Markdown and HTML.
        latex: heading in LaTeX; the escaped text if empty.
        form: format specification of a number, such as ".6g".
        layout: column type in LaTeX.
    """

    key: str
    text: str
    latex: str = ""
    form: str = ".6g"
    layout: str = "l"

    @property
    def heading(self) -> str:
        """The heading in LaTeX."""
        return self.latex or latex_text(self.text)

    def show(self, value: Any) -> str:
        """A raw value as text: a dash for None, floats by ``form``, decimal strings in full."""
        if value is None:
            return "—"
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, float):
            return format(value, self.form) if math.isfinite(value) else "—"
        return str(value)


@dataclass(frozen=True)
class Table:
    """Raw values with a name (of its files), a caption and columns; every rendering is made from the same rows."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[dict[str, Any], ...]

    def render(self, style: str) -> str:
        """The table in one of ``FORMATS``.

        Raises:
            InputError: an unknown format.
        """
        renderings: dict[str, Callable[[], str]] = {
            "latex": self.to_latex,
            "markdown": self.to_markdown,
            "csv": self.to_csv,
            "json": lambda: json.dumps(self.to_dict(), allow_nan=False) + "\n",
        }
        if style not in renderings:
            raise InputError(f"unknown format {style!r}: expected one of {', '.join(FORMATS)}")
        return renderings[style]()

    def cells(self) -> list[list[str]]:
        """The shown text of every cell, row by row."""
        return [[column.show(row.get(column.key)) for column in self.columns] for row in self.rows]

    def to_latex(self) -> str:
        """A ``table`` that shrinks to the width of the text, or a ``longtable`` if it has many rows.

        It needs the packages booktabs, graphicx and longtable.
        """
        cells = [[_latex_cell(cell) for cell in row] for row in self.cells()]
        frame = self._frame(cells, [c.heading for c in self.columns])
        layout = "".join(c.layout for c in self.columns)
        caption, label = latex_text(self.caption), f"tab:{self.name}"
        needs = "% needs \\usepackage{booktabs,graphicx,longtable}"
        if len(self.rows) > _LONG:
            body = frame.to_latex(
                index=False, escape=False, column_format=layout, longtable=True, caption=caption, label=label
            )
            return "\n".join([needs, r"\begingroup\scriptsize", body.rstrip("\n"), r"\endgroup", ""])
        body = frame.to_latex(index=False, escape=False, column_format=layout)
        return "\n".join(
            [
                needs,
                r"\begin{table}[htbp]",
                r"\centering",
                rf"\caption{{{caption}}}\label{{{label}}}",
                r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
                body.rstrip("\n") + "}",
                r"\end{table}",
                "",
            ]
        )

    def to_markdown(self) -> str:
        """A pipe table; pipes inside cells are escaped."""
        cells = [[cell.replace("|", r"\|") for cell in row] for row in self.cells()]
        frame = self._frame(cells, [c.text.replace("|", r"\|") for c in self.columns])
        return str(frame.to_markdown(index=False, disable_numparse=True)) + "\n"

    def to_csv(self) -> str:
        """Comma-separated raw values, every digit of them, under the keys of the columns."""
        keys = [c.key for c in self.columns]
        frame = self._frame([[row.get(key) for key in keys] for row in self.rows], keys)
        return str(frame.to_csv(index=False, lineterminator="\n"))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: name, caption, columns, and the rows with their raw values."""
        return {
            "name": self.name,
            "caption": self.caption,
            "columns": [c.key for c in self.columns],
            "rows": [{c.key: row.get(c.key) for c in self.columns} for row in self.rows],
        }

    @staticmethod
    def _frame(cells: Sequence[Sequence[Any]], columns: Sequence[str]) -> Any:
        import pandas as pd

        # dtype object: what looks like a number in one column must not change how another row prints
        return pd.DataFrame([list(row) for row in cells], columns=list(columns), dtype=object)


def _latex_cell(cell: str) -> str:
    """A number in mathematics (1.2e-05 as 1.2 x 10^-5), anything else escaped."""
    mantissa, e, exponent = cell.partition("e")
    try:
        float(cell)
    except ValueError:
        return latex_text(cell)
    return rf"${mantissa}\times 10^{{{int(exponent)}}}$" if e else f"${cell}$"


def moments_record(moments: Moments, tau: str, digits: int) -> dict[str, Any]:
    """Moments as plain JSON types: each with value (a decimal string above 17 digits), error bound, provenance."""
    return {
        "activation": moments.activation.name,
        "tau": tau,
        "digits": digits,
        "moments": {name: m.to_dict(digits) for name, m in moments.items()},
    }


def moments_table(record: dict[str, Any]) -> Table:
    """The table of a ``moments_record``."""
    return Table(
        name="moments",
        caption=f"Gaussian moments of {record['activation']} at τ = {record['tau']}",
        columns=(
            Column("moment", "moment"),
            Column("value", "value", form=f".{min(record['digits'], 17)}g"),
            Column("error", "error bound", form=".0e"),
            Column("provenance", "provenance"),
        ),
        rows=tuple({"moment": name} | moment for name, moment in record["moments"].items()),
    )


def coefficient_table(solutions: Sequence[dict[str, Any]], digits: int = 6, name: str = "coefficients") -> Table:
    """The coefficients of several solutions, one a row; a solution without them shows dashes and its sentence.

    Args:
        solutions: ``Solution.to_dict()`` of each.
        digits: significant digits shown (the raw values keep all of theirs).
        name: of the table's files.
    """
    caption = "Coefficients of the high-dimensional conjugate kernel (alpha) and neural tangent kernel (beta, kappa²)"
    settings = {(s["sigma_a2"], s["sigma_b2"], s["tau0"], s["trained"]) for s in solutions}
    if len(settings) == 1:
        sigma_a2, sigma_b2, tau0, trained = settings.pop()
        caption += f"; σ_a² = {sigma_a2:g}, σ_b² = {sigma_b2:g}, τ0 = {tau0:g}, trained {trained}"
    unsolved = any(s["status"] != "solved" for s in solutions)
    return Table(
        name=name,
        caption=caption,
        columns=(
            Column("activation", "activation"),
            *(Column(key, text, latex, f".{digits}g") for key in COEFFICIENTS for latex, text in [_SYMBOLS[key]]),
            Column("residual", "residual", form=".1e"),
            *((Column("status", "status"),) if unsolved else ()),
        ),
        rows=tuple(dict(s) for s in solutions),
    )
