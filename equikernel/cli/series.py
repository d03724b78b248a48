"""The command about kernels on a sphere: power series with proved coefficients. It imports what it needs."""

from __future__ import annotations

from typing import Annotated

import typer

from equikernel.cli.options import Act, Digits, Json, SigmaA2, SigmaB2, Trained, require_digits
from equikernel.cli.output import write, write_json, write_table

__all__ = ["series"]


def series(
    act: Act,
    order: Annotated[int, typer.Option("--order", metavar="N", help="The largest exponent, 1 to 1000.")] = 10,
    kernel: Annotated[str, typer.Option("--kernel", metavar="ck|ntk", help="The kernel.")] = "ck",
    radius2: Annotated[str, typer.Option("--radius2", metavar="R", help="Squared norm of every sample.")] = "1",
    sigma_a2: SigmaA2 = "0.2",
    sigma_b2: SigmaB2 = "0.8",
    trained: Trained = "aA",
    digits: Digits = 15,
    as_latex: Annotated[bool, typer.Option("--latex", help="Print LaTeX.")] = False,
    as_json: Json = False,
) -> None:
    """The kernel of data on a sphere as a power series of the inner product, with the tail bounded."""
    from equikernel.numerics.power_series import kernel_series
    from equikernel.theory.models import DEQ

    found = kernel_series(DEQ(act, sigma_a2, sigma_b2), radius2, order, require_digits(digits), kernel, trained)
    record = found.to_dict()
    if as_json:
        return write_json(record)
    if as_latex:
        return write(found.to_latex())
    write_table(
        f"{act}: {kernel} on the sphere of squared norm {radius2}, sigma_a2 = {sigma_a2}, sigma_b2 = {sigma_b2}",
        ("k", "coefficient of s^k", "rad", "sign"),
        [(str(c["k"]), c["mid"], c["rad"], c["verdict"]) for c in record["coefficients"]],
    )
    if record["tail"] is not None:
        write(f"the terms beyond sum to {record['tail']['mid']} ± {record['tail']['rad']} at s = {radius2}")
    return write(record["statement"])
