"""Commands about certificates: ``check`` one, draw the ``phase`` diagram; and what ``solve --certify`` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from equikernel.cli.options import Act, Json, SigmaB2, Tau0
from equikernel.cli.output import write, write_json, write_table

__all__ = ["check", "phase", "write_certificate"]


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON of solve --certify --json, or its certificate.")],
    seconds: Annotated[float, typer.Option("--seconds", metavar="S", help="Processor time to give up after.")] = 60.0,
    as_json: Json = False,
) -> None:
    """Prove every claim of a certificate again, without trusting the solver that wrote it.

    The coefficients and fixed points that stand beside the certificate must lie in its enclosures.

    Exit code 0: every claim was confirmed. 1: one was not. 2: the file is no certificate. 3: nothing can be proved.
    """
    from equikernel.numerics.certificates.check import check_certificate
    from equikernel.numerics.certificates.record import load

    report = check_certificate(load(file), seconds=seconds)
    if as_json:
        write_json(report.to_dict())
    elif report.passed:
        for sentence in report.confirmed:
            write(f"confirmed: {sentence}")
        for name in report.unchecked:
            write(f"not checked: {name}")
        write(f"{file}: every claim is confirmed (engine: {report.engine})")
    else:
        write(f"{file}: rejected: {report.failure}")
    if not report.passed:
        raise typer.Exit(1)


def phase(
    act: Act,
    sigma_b2: SigmaB2 = "0.8",
    tau0: Tau0 = "1",
    tied: Annotated[bool, typer.Option("--tied", help="Take sigma_b2 = 1 - sigma_a2.")] = False,
    digits: Annotated[int, typer.Option("--digits", metavar="N", help="Digits of q at a transition, 1 to 12.")] = 6,
    as_json: Json = False,
) -> None:
    """The sigma_a2 at which the fixed point stops attracting, chaos begins, or existence ends, certified."""
    from equikernel.numerics.certificates.phase import MEANINGS, phase_diagram

    record = phase_diagram(act, sigma_b2, tau0, tied=tied, digits=digits).to_dict()
    if as_json:
        return write_json(record)
    fixed = "sigma_b2 = 1 - sigma_a2" if tied else f"sigma_b2 = {sigma_b2}"
    write_table(
        f"{act}: {fixed}, tau0 = {tau0}",
        ("transition", "sigma_a2", "q", "what is proved"),
        [
            (MEANINGS[name], _ball(t["sigma_a2"]), _ball(t["q"]), f"{t['verdict']}: {t['statement']}")
            for name, t in record["transitions"].items()
        ],
    )
    return write("no transition comes provably first" if record["first"] is None else f"first: {record['first']}")


def write_certificate(certificate: dict[str, Any]) -> None:
    """The certificate of ``solve --certify`` as text."""
    write(f"existence: {certificate['existence']}")
    write(f"uniqueness: {certificate['uniqueness']}")
    for point in certificate["fixed_points"]:
        kind = {True: "attracting", False: "repelling", None: "of undecided stability"}[point["stable"]]
        write(f"fixed point, {kind}: q = {_ball(point['q'])}")
    for statement in certificate["stability"].values():
        write(_stability(statement))
    for name, reason in certificate["refused"].items():
        write(f"no {name}: {reason}")
    if certificate["enclosures"]:
        write_table(
            "enclosures: the value lies within rad of mid",
            ("coefficient", "mid", "rad"),
            [(name, ball["mid"], ball["rad"]) for name, ball in certificate["enclosures"].items()],
        )
    if not certificate["checkable"]:
        write("this certificate cannot be checked from its JSON: no text parses back to the activation")


_DIGITS = (3, 6, 10, 15)  # as many as show on which side of 1 a number is


def _stability(statement: dict[str, Any]) -> str:
    """``sigma_a2*h = 0.0734 < 1, proved: the fixed point is attracting``."""
    name, value, holds, meaning = (statement[key] for key in ("name", "value", "holds", "meaning"))
    if value is None:
        return f"{name} < 1, undecided: {meaning}"
    if holds is None:
        return f"{name} = {_ball(value)}, undecided: {meaning}"
    shown = [f"{float(value['mid']):.{digits}g}" for digits in _DIGITS]
    number = next((text for text in shown if float(text) != 1), value["mid"])
    return f"{name} = {number} {'<' if holds else '>='} 1, proved: {meaning}"


def _ball(record: dict[str, str] | None) -> str:
    return "—" if record is None else f"{record['mid']} ± {record['rad']}"
