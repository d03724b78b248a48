"""The command ``init-stats``: statistics of DEQs at initialisation. It imports what it needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from equikernel.cli.options import Act, Json, require_digits
from equikernel.cli.output import number, write, write_json, write_table
from equikernel.errors import InputError

if TYPE_CHECKING:
    from equikernel.validation.initialisation import InitRow

    _Answer = tuple[list[InitRow], Callable[[], Any], dict[str, Any]]

__all__ = ["init_stats"]

_FAMILIES = ("iid", "orthogonal", "goe")
_FIGURES = (".png", ".pdf", ".svg")
_FLOAT64 = 13  # significant digits that float64 is good for
_LABELS = {
    "sigma": "sigma",
    "status": "verdict",
    "mean_square": "q = |z|^2/N",
    "chi": "chi",
    "kappa": "kappa",
    "stability": "R (stable below 1)",
    "tangent_length": "T",
    "tangent_square": "tau(P^2)",
    "radius": "spectral radius of J",
    "radius_lower": "  its lower bound",
    "radius_upper": "  its upper bound",
    "length_noise": "N Var q",
    "residual": "residual",
    "xx": "K(x, x)",
    "yy": "K(y, y)",
    "xy": "K(x, y)",
    "chi_x": "chi of x",
    "chi_y": "chi of y",
    "slope": "E psi'_x psi'_y",
    "stability_x": "R of x",
    "stability_y": "R of y",
    "critical_sigma": "critical sigma",
}
_LINEAR = {
    "length": "linear: tau(P)",
    "length_noise": "linear: N Var r",
    "trace_noise": "linear: Var Tr P",
    "length_correction": "linear: 1/N term of E r",
    "square": "linear: tau(P^2)",
    "overlap": "linear: x.z/|x|^2",
}
_EXACT = {"mean": "N = {size}: E r", "variance": "N = {size}: Var r"}
_DEPTH = {
    "length": "{iterations} iterations: |z|^2/|x|^2",
    "length_noise": "{iterations} iterations: N Var",
    "untied_length": "{iterations} untied layers: |z|^2/|x|^2",
    "untied_noise": "{iterations} untied layers: N Var",
    "error": "{iterations} iterations: |z* - z|^2/|x|^2",
}


def init_stats(
    act: Act,
    family: Annotated[
        list[str] | None, typer.Option("--family", metavar="iid|orthogonal|goe", help="May be repeated; all three.")
    ] = None,
    sigma: Annotated[
        list[str] | None, typer.Option("--sigma", metavar="S", help="Standard deviation of W; may be repeated.")
    ] = None,
    match: Annotated[
        str, typer.Option("--match", metavar="variance|radius|operator_norm", help="What --value is of W.")
    ] = "variance",
    value: Annotated[
        list[str] | None, typer.Option("--value", metavar="V", help="Equal scale of the families; may be repeated.")
    ] = None,
    law: Annotated[
        str, typer.Option("--input", metavar="gaussian|constant|signs|FILE", help="Law of the entries of x.")
    ] = "gaussian",
    input_scale: Annotated[
        str, typer.Option("--input-scale", metavar="S", help="Its standard deviation, value, or factor of a file's.")
    ] = "1",
    input_mean: Annotated[str, typer.Option("--input-mean", metavar="M", help="Mean of the Gaussian.")] = "0",
    size: Annotated[
        int | None, typer.Option("--size", metavar="N", min=1, help="Exact lengths at this N (linear, orthogonal).")
    ] = None,
    depth: Annotated[
        int | None, typer.Option("--depth", metavar="L", min=0, max=200, help="After L iterations (linear).")
    ] = None,
    kernel: Annotated[
        bool, typer.Option("--kernel", help="The kernel of two samples instead; --sigma is sigma_a.")
    ] = False,
    sigma_b: Annotated[str, typer.Option("--sigma-b", metavar="S", help="Standard deviation of B (--kernel).")] = "1",
    norm2: Annotated[
        str, typer.Option("--norm2", metavar="R", help="Squared norms of x and y (--kernel): one, or two as 1,2.")
    ] = "1",
    cosine: Annotated[float, typer.Option("--cosine", metavar="C", help="Of their angle (--kernel).")] = 0.5,
    figure: Annotated[
        Path | None, typer.Option("--figure", metavar="FILE", help="Draw the phase diagram: .png, .pdf or .svg.")
    ] = None,
    digits: Annotated[int, typer.Option("--digits", metavar="N", help="Significant digits, 1 to 1000.")] = 10,
    as_latex: Annotated[bool, typer.Option("--latex", help="Print LaTeX.")] = False,
    as_json: Json = False,
) -> None:
    """Lengths, fluctuations, stability and spectra of DEQs before training, by weight family.

    z = phi(W z) + x with N x N weights, at leading order in 1/N. A row without a stable fixed point says so; if no row
    has one, that is an error (exit code 3), which names the critical sigma.
    """
    families = list(dict.fromkeys(family or _FAMILIES))
    require_digits(digits)
    if as_latex and as_json:
        raise InputError("--latex and --json are two forms of the answer: use one of them")
    scales = _scales(sigma, value, match, figure)
    from equikernel.validation.initialisation import require_answer

    if kernel:
        if figure is not None or size is not None or depth is not None:
            raise InputError("--kernel has no --figure, --size or --depth: ask for them without it")
        if (law, input_scale, input_mean) != ("gaussian", "1", "0"):
            raise InputError("--kernel is of two samples with given --norm2 and --cosine: leave out --input")
        rows, table, record = _kernel(act, families, scales, match, (sigma_b, norm2, cosine), digits)
    else:
        if (sigma_b, norm2, cosine) != ("1", "1", 0.5):
            raise InputError("--sigma-b, --norm2 and --cosine are of two samples: add --kernel")
        given = (law, input_scale, input_mean)
        rows, table, record = _network(act, families, scales, match, given, digits, size=size, depth=depth)
    require_answer(rows)
    record = {"activation": act, "match": match, "digits": digits, **record, "rows": [row.record for row in rows]}
    if figure is not None:
        record["phase_diagram"] = _draw(figure, act, families, match, (law, input_scale, input_mean))
    if as_json:
        return write_json(record)
    if as_latex:
        return write(table().to_latex().rstrip("\n"))
    _show(record, digits)
    if figure is not None:
        write(str(figure))
    return None


def _scales(sigma: list[str] | None, value: list[str] | None, match: str, figure: Path | None) -> list[str]:
    """The scales of W that were asked for."""
    if sigma and value:
        raise InputError("--sigma and --value both give the scale of W: use one of them")
    if sigma and match != "variance":
        raise InputError(f"--match {match} says what --value is; with --sigma leave it out")
    if not sigma and not value and figure is None:
        raise InputError("no scale of W: give --sigma S, or --match and --value V, or --figure FILE")
    if figure is not None and figure.suffix.lower() not in _FIGURES:  # said before the numbers are computed
        raise InputError(f"a figure is a .png, .pdf or .svg file; got {figure}")
    return sigma or value or []


def _network(
    act: str, families: list[str], scales: list[str], match: str, law: tuple[str, str, str], digits: int, **finite: Any
) -> _Answer:
    """Rows of z = phi(W z) + x, their table, and what --json says of the question."""
    from equikernel.validation.initialisation import init_rows, input_law, rows_table

    entries = input_law(*law)
    more = None if digits <= _FLOAT64 else digits
    rows = init_rows(act, families, scales, entries, match=match, digits=more, **finite)
    return rows, lambda: rows_table(rows, entries, min(digits, _FLOAT64)), {"law": entries.name}


def _kernel(
    act: str, families: list[str], scales: list[str], match: str, samples: tuple[str, str, float], digits: int
) -> _Answer:
    """Rows of the kernel of two samples, their table, and what --json says of the question."""
    from equikernel.validation.initialisation import KernelQuestion, kernel_rows, kernel_table

    if digits > _FLOAT64:
        raise InputError(f"kernels of samples are computed in float64: ask for {_FLOAT64} digits or fewer")
    sigma_b, norm2, cosine = samples
    norms = [part.strip() for part in norm2.split(",")]
    if len(norms) > 2:
        raise InputError(f"--norm2 is |x|^2, or |x|^2 and |y|^2 as in 1,2; got {norm2!r}")
    question = KernelQuestion(sigma_b, norms[0], norms[-1], cosine)
    rows = kernel_rows(act, families, scales, question, match)
    return rows, lambda: kernel_table(rows, digits), {"samples": question.to_dict()}


def _draw(figure: Path, act: str, families: list[str], match: str, law: tuple[str, str, str]) -> dict[str, Any]:
    """Write the phase diagram; its data."""
    from equikernel.validation.figures import save_figure
    from equikernel.validation.initialisation import PhaseDiagram, draw_phase_diagram, input_law
    from equikernel.validation.progress import counting

    with counting("phase diagram") as progress:
        data = PhaseDiagram(act, input_law(*law), tuple(families), match).measure(progress)
    save_figure(figure, draw_phase_diagram, data)
    return data


def _show(record: dict[str, Any], digits: int) -> None:
    """A table for each scale, statistics in rows and families in columns; then why some have no answer."""
    about = f"entries of x: {record['law']}" if "law" in record else "kernel of x and y"
    for scale in dict.fromkeys(row["scale"] for row in record["rows"]):
        rows = [row for row in record["rows"] if row["scale"] == scale]
        columns = [_cells(row, digits) for row in rows]
        labels = dict.fromkeys([*_LABELS.values(), *(label for cells in columns for label in cells)])
        lines = [
            (label, *(cells.get(label, "—") for cells in columns))
            for label in labels
            if any(label in cells for cells in columns)
        ]
        what = "sigma" if record["match"] == "variance" else record["match"].replace("_", " ")
        write_table(
            f"{record['activation']} at leading order in 1/N, {about}, {what} = {scale:g}",
            ("statistic", *(row["family"] for row in rows)),
            lines,
        )
    for message in dict.fromkeys(row["message"] for row in record["rows"] if row["message"]):
        write(message)


def _cells(row: dict[str, Any], digits: int) -> dict[str, str]:
    """The text of each statistic that a row has, under its label."""
    lower, upper = row.get("radius_bounds") or (None, None)
    values = {**row, "radius_lower": lower, "radius_upper": upper}
    values["status"] = "stable" if row["status"] == "solved" else row["status"]
    cells = {
        label: number(values[key], 2 if key == "residual" else digits)
        for key, label in _LABELS.items()
        if values.get(key) is not None
    }
    for part, labels in (("leading", _LINEAR), ("exact", _EXACT), ("depth", _DEPTH)):
        found = (row.get("linear") or {}).get(part) or {}
        cells |= {labels[key].format(**found): number(found[key], digits) for key in labels if key in found}
    return cells
