"""Tables of ``equikernel experiment statistics``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from equikernel.validation.paper.statistics.sweeps import LINEAR
from equikernel.validation.tables import Column, Table

__all__ = ["tables"]

Row = dict[str, Any]

_SOURCE = "matrices drawn by NumPy in float64; x as named, no data set and no front end"


def tables(record: dict[str, Any]) -> tuple[Table, ...]:
    """All of them, those without rows left out."""
    found = (
        _overview(record["overview"]),
        _verification(record["comparisons"]),
        _trends(record["comparisons"]),
        _exponents(record["exponents"]),
        _ranking(record["ranking"]),
        _escapes(record["escapes"]),
        _spectra(record["spectra"]),
    )
    return tuple(table for table in found if table.rows)


def _overview(rows: Sequence[Row]) -> Table:
    return Table(
        name="overview",
        caption="z-scores of all comparisons: max |z| beside Bonferroni's bound (exceeded with probability 0.001 at "
        "most), root mean square, numbers beyond 2 and 3 with those expected of N(0, 1), smallest p-value adjusted by "
        "Holm, Kolmogorov-Smirnov test of uniform p-values (which takes comparisons for independent: those that share "
        f"matrices are not); {_SOURCE}",
        columns=(
            Column("name", "comparisons"),
            Column("count", "number"),
            Column("largest", "max |z|", form=".2f"),
            Column("bound", "bound", form=".2f"),
            Column("rms", "rms z", form=".2f"),
            Column("beyond2", "|z| > 2"),
            Column("expected2", "expected", form=".1f"),
            Column("beyond3", "|z| > 3"),
            Column("expected3", "expected", form=".1f"),
            Column("smallest_holm", "smallest Holm p", form=".2g"),
            Column("ks_p_value", "KS p", form=".2g"),
        ),
        rows=tuple(rows),
    )


def _pair(value: float | None, error: float | None) -> str | None:
    """A value with its standard error, to two digits of the latter."""
    if value is None or error is None:
        return None
    if error == 0.0:
        return f"{value:.6g} ± 0"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def _verification(rows: Sequence[Row]) -> Table:
    return Table(
        name="verification",
        caption="Every formula against matrices: the prediction, the simulated value at the largest N, its limit by a "
        "weighted fit of limit + c/N (edges of spectra: c/N^(2/3); exact formulas at finite N: the value), the z-score "
        "of the limit with both standard errors, its p-value adjusted by Holm for all rows; z at the two largest N is "
        f"of the value less c/N, c known or else fitted with the limit held at the prediction; {_SOURCE}",
        columns=(
            Column("quantity", "quantity"),
            Column("family", "weights"),
            Column("parameters", "parameters"),
            Column("largest_size", "N"),
            Column("prediction", "prediction"),
            Column("simulated", "simulated at N"),
            Column("limit_shown", "limit"),
            Column("z", "z", form=".2f"),
            Column("z_second", "z, second N", form=".2f"),
            Column("z_largest", "z, largest N", form=".2f"),
            Column("holm", "Holm p", form=".2g"),
        ),
        rows=tuple(
            row
            | {
                "largest_size": row["sizes"][-1],
                "simulated": _pair(row["values"][-1], row["errors"][-1]),
                "limit_shown": _pair(row["limit"], row["limit_error"]),
                "z_second": row["size_z"][-2] if len(row["size_z"]) > 1 else None,
                "z_largest": row["size_z"][-1],
            }
            for row in rows
        ),
    )


def _trends(rows: Sequence[Row]) -> Table:
    return Table(
        name="trends",
        caption="The trend in 1/N: deviation from the limit times N (N^(2/3) for edges of spectra), constant where "
        f"the next order is small; z after c/N is subtracted; {_SOURCE}",
        columns=(
            Column("group", "formulas"),
            Column("quantity", "quantity"),
            Column("family", "weights"),
            Column("parameters", "parameters"),
            Column("size", "N"),
            Column("value", "simulated"),
            Column("error", "standard error", form=".2g"),
            Column("scaled_shown", "deviation × N"),
            Column("z", "z", form=".2f"),
        ),
        rows=tuple(
            {key: row[key] for key in ("group", "quantity", "family", "parameters")}
            | {
                "size": size,
                "value": value,
                "error": error,
                "scaled": scaled,
                "scaled_shown": _pair(scaled, error * size ** row["trend"]),
                "z": z,
            }
            for row in rows
            if row["trend"] is not None
            for size, value, error, scaled, z in zip(
                row["sizes"], row["values"], row["errors"], row["scaled"], row["size_z"], strict=True
            )
        ),
    )


def _exponents(rows: Sequence[Row]) -> Table:
    return Table(
        name="exponents",
        caption="Exponents of divergence of linear DEQs: minus the slope of log median r, and of log N(IQR/1.349)², in "
        "log ε, ε = 1 − radius², with its 95 % interval at the largest N; the slope of the formula over the same ε; "
        f"what that slope tends to as ε → 0; {_SOURCE}",
        columns=(
            Column("family", "weights"),
            Column("quantity", "quantity"),
            Column("eps", "range"),
            Column("size", "N"),
            Column("value", "measured", form=".3f"),
            Column("low", "from", form=".3f"),
            Column("high", "to", form=".3f"),
            Column("formula", "formula, same ε", form=".3f"),
            Column("limit", "ε → 0", form=".2f"),
            Column("z", "z, N → ∞", form=".2f"),
        ),
        rows=tuple(rows),
    )


def _ranking(rows: Sequence[Row]) -> Table:
    return Table(
        name="ranking",
        caption="Lengths |z*|²/|x|² and relative fluctuations N Var/mean² of the three families at one value of what "
        "is held equal, 0.9 of the least critical one; simulated: medians and interquartile ranges at one N, without "
        f"extrapolation; x of signs; {_SOURCE}",
        columns=(
            Column("act_shown", "activation"),
            Column("match", "held equal"),
            Column("value", "at", form=".4g"),
            Column("family", "weights"),
            Column("sigma", "σ", form=".4g"),
            Column("prediction", "length", form=".4g"),
            Column("length_shown", "median length"),
            Column("noise_prediction", "N Var/mean²", form=".4g"),
            Column("noise_shown", "simulated"),
            Column("size", "N"),
            Column("unsettled", "share not settled", form=".2g"),
        ),
        rows=tuple(
            row
            | {
                "act_shown": "linear" if row["act"] == LINEAR else row["act"],
                "length_shown": _pair(row["length"], row["length_error"]),
                "noise_shown": _pair(row["noise"], row["noise_error"]),
            }
            for row in rows
        ),
    )


def _escapes(rows: Sequence[Row]) -> Table:
    return Table(
        name="escapes",
        caption="Why sample means stand for typical values in the linear comparisons although E r is infinite for iid "
        "and goe weights at finite N: the probability that a matrix has a real eigenvalue beyond 1, to leading "
        "exponential order",
        columns=(
            Column("family", "weights"),
            Column("sigma", "σ"),
            Column("size", "N"),
            Column("count", "matrices"),
            Column("log10_probability", "log10 of the probability, each", form=".1f"),
        ),
        rows=tuple(rows),
    )


def _spectra(rows: Sequence[Row]) -> Table:
    return Table(
        name="spectra",
        caption="Spectral radius of J = diag(φ'(u)) W at the fixed point of one matrix of each family, x of signs",
        columns=(
            Column("act", "activation"),
            Column("family", "weights"),
            Column("sigma", "σ", form=".4g"),
            Column("size", "N"),
            Column("radius", "predicted", form=".4f"),
            Column("largest", "largest modulus", form=".4f"),
        ),
        rows=tuple(rows),
    )
