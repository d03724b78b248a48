"""The commands that print formulas. Each imports what it needs when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from equikernel.cli.options import Digits, Json, SigmaA2, SigmaB2, Tau0, Trained
from equikernel.cli.output import write, write_json, write_table

__all__ = ["equations"]

_Activation = Annotated[
    str | None,
    typer.Option("--activation", metavar="ACT", help="A name or an expression in x; any activation by default."),
]
_Layers = Annotated[int, typer.Option("--layers", metavar="L", help="Explicit layers to unroll, 0 to 16.")]


def equations(
    activation: _Activation = None,
    trained: Trained = "aA",
    layers: _Layers = 0,
    derivation: Annotated[bool, typer.Option("--derivation", help="Print the steps of the derivation.")] = False,
    sensitivities: Annotated[
        bool, typer.Option("--sensitivities", help="Print the derivatives in sigma_a2, sigma_b2, tau0 as well.")
    ] = False,
    sigma_a2: SigmaA2 = "0.2",
    sigma_b2: SigmaB2 = "0.8",
    tau0: Tau0 = "1",
    digits: Digits = 15,
    as_latex: Annotated[bool, typer.Option("--latex", help="Print a LaTeX document.")] = False,
    as_json: Json = False,
) -> None:
    """The equations themselves, derived from the expansion of the kernel map; with numbers, their derivatives."""
    from equikernel.numerics.symbolic import equations as derive

    found = derive(activation, trained, layers)
    numbers = None
    if sensitivities and activation is not None:
        from equikernel.numerics.sensitivities import sensitivities as differentiate
        from equikernel.theory.models import DEQ

        numbers = differentiate(DEQ(activation, sigma_a2, sigma_b2), tau0, digits, trained)
    if as_json:
        record = found.to_dict()
        return write_json(record if numbers is None else record | {"sensitivities": numbers.to_dict()})
    if as_latex:
        table = "" if numbers is None else numbers.to_latex()
        return write(found.to_latex(derivation=derivation, sensitivities=sensitivities, extra=table).rstrip("\n"))
    write(found.to_text(derivation=derivation, sensitivities=sensitivities))
    if numbers is not None:
        write("")
        write_table(
            f"{activation}: derivatives at sigma_a2 = {sigma_a2}, sigma_b2 = {sigma_b2}, tau0 = {tau0}",
            ("of", *(f"in {p}" for p in numbers.parameters)),
            [(name, *(numbers.shown(name, p) for p in numbers.parameters)) for name in numbers.table],
        )
    return None
