"""The commands about expectations under a Gaussian: moments and dual activations. Each imports what it needs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from equikernel.cli.options import Act, Digits, Json, require_digits
from equikernel.cli.output import number, write, write_json, write_table
from equikernel.errors import InputError

__all__ = ["dual", "moments"]

_Parameters = Annotated[
    str,
    typer.Option("--parameters", metavar="'a, c>0'", help="Names in ACT that stay symbols, with their signs."),
]
_Latex = Annotated[bool, typer.Option("--latex", help="Print LaTeX.")]


def moments(
    act: Act,
    tau: Annotated[str, typer.Option("--tau", metavar="S", help="Standard deviation at which they are taken.")] = "1",
    digits: Digits = 15,
    certify: Annotated[bool, typer.Option("--certify", help="Ball enclosures: proved digits, or a refusal.")] = False,
    closed_form: Annotated[bool, typer.Option("--closed-form", help="Print formulas in tau instead.")] = False,
    derive: Annotated[bool, typer.Option("--derive", help="Print the derivation as a LaTeX document.")] = False,
    parameters: _Parameters = "",
    as_latex: _Latex = False,
    as_json: Json = False,
) -> None:
    """The Gaussian moments of an activation: digits with their provenance, proved digits, or closed forms."""
    if closed_form or derive or parameters:
        if certify:
            raise InputError("--certify is for numbers: leave out --closed-form, --derive and --parameters")
        return _formulas(act, parameters, derive=derive, as_latex=as_latex, as_json=as_json)
    from equikernel.numerics.enclosed_moments import enclosed_moments
    from equikernel.numerics.moments import gaussian_moments
    from equikernel.theory.activation import activation
    from equikernel.theory.models import exact_number
    from equikernel.validation.tables import moments_record, moments_table

    compute = enclosed_moments if certify else gaussian_moments
    found = compute(activation(act), exact_number(tau, "tau", positive=True), require_digits(digits))
    record = moments_record(found, tau, digits)
    if as_json:
        return write_json(record)
    if as_latex:
        return write(moments_table(record).to_latex())
    write_table(
        f"{act} at tau = {tau}",
        ("moment", "value", "error bound", "provenance"),
        [
            (name, number(moment["value"], digits), number(moment["error"], 1), moment["provenance"])
            for name, moment in record["moments"].items()
        ],
    )
    return None


def _formulas(act: str, parameters: str, *, derive: bool, as_latex: bool, as_json: bool) -> None:
    from equikernel.numerics.closed_forms import verified_closed_forms
    from equikernel.theory.parameters import declared_parameters

    found = verified_closed_forms(act, declared_parameters(parameters))
    if derive:
        return write(found.forms.derivation_latex().rstrip("\n"))
    if as_latex:
        return write(found.forms.to_latex().rstrip("\n"))
    record: dict[str, Any] = {"activation": act} | found.forms.to_dict() | {"provenance": found.provenance}
    if as_json:
        return write_json(record)
    write_table(
        f"{act}: {found.provenance}",
        ("moment", "closed form"),
        [(name, moment["expression"]) for name, moment in record["moments"].items()]
        + [(name, f"none: {reason}") for name, reason in record["no_closed_form"].items()],
    )
    return None


def dual(act: Act, parameters: _Parameters = "", as_latex: _Latex = False, as_json: Json = False) -> None:
    """The dual activation, E of phi(u)*phi(v), in closed form where it has one."""
    from equikernel.theory.closed_forms import function_of
    from equikernel.theory.dual_forms import dual_activation
    from equikernel.theory.parameters import declared_parameters

    found = dual_activation(function_of(act, declared_parameters(parameters)))
    record = found.to_dict()
    if as_json:
        return write_json({"activation": act} | record)
    if as_latex:
        return write(found.to_latex())
    write_table(
        f"{act}: u, v centred Gaussian with variances q_i, q_j and correlation rho",
        ("expectation", "closed form"),
        [("E[phi(u) phi(v)]", record["expression"]), ("E[phi'(u) phi'(v)]", record["slope"])],
    )
    if record["cancellation"]:
        write(f"terms cancel as {record['cancellation']}: evaluate there with many digits")
    return None
