"""The main commands. Each imports what it needs when it runs: nothing heavy is loaded for --help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from equikernel.cli.options import Act, Acts, Digits, Json, Quick, Seed, SigmaA2, SigmaB2, Tau0, Trained, Weights
from equikernel.cli.output import number, write, write_json, write_table
from equikernel.errors import SolutionError

__all__ = ["app"]

app = typer.Typer(
    name="equikernel",
    help="The kernel equations of deep equilibrium models: derived, solved, and checked against real networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DEFAULT_ACTIVATIONS = ("relu", "tanh", "gelu", "x*tanh(log(1+exp(x)))")


def _show_version(asked: bool) -> None:
    if asked:
        from equikernel import __version__

        write(f"equikernel {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """The kernel equations of deep equilibrium models: derived, solved, and checked against real networks."""


@app.command()
def solve(
    act: Act,
    sigma_a2: SigmaA2 = "0.2",
    sigma_b2: SigmaB2 = "0.8",
    tau0: Tau0 = "1",
    digits: Digits = 15,
    trained: Trained = "aA",
    weights: Weights = "iid",
    certify: Annotated[
        bool, typer.Option("--certify", help="Prove how many fixed points there are, and enclose every coefficient.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Solve the four equations: the fixed point and the coefficients of the CK and the NTK."""
    from equikernel.cli.certify import write_certificate
    from equikernel.numerics.solve import COEFFICIENTS
    from equikernel.numerics.solve import solve as solve_equations
    from equikernel.theory.models import DEQ

    deq = DEQ(act, sigma_a2, sigma_b2, weights)
    # without a solution there may still be a proof that there is none: it is printed before the error
    solution = solve_equations(deq, tau0, digits, trained, certified=certify, throw=not certify)
    record = solution.to_dict()
    if as_json:
        write_json(record)
    else:
        family = "" if weights == "iid" else f", {weights} weights"
        known = [name for name in COEFFICIENTS if record[name] is not None]
        if known:
            write_table(
                f"{act}: sigma_a2 = {sigma_a2}, sigma_b2 = {sigma_b2}, tau0 = {tau0}, trained {trained}{family}",
                ("coefficient", "value"),
                [(name, number(record[name], digits)) for name in known],
            )
        if solution.solved:
            write(f"solved, residual {number(record['residual'], 2)}")
        for point in record["other_fixed_points"] or ():
            kind = "stable" if point["stable"] else "unstable"
            write(f"another fixed point, {kind}: q = {point['q']:.10g}")
        if certify:
            write_certificate(record["certificate"])
    if not solution.solved:
        raise SolutionError(solution.status)


@app.command()
def validate(
    act: Act,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder of the report.")],
    data: Annotated[
        str, typer.Option("--data", metavar="gmm|NAME|FILE", help="Synthetic mixtures or a data set.")
    ] = "gmm",
    sigma_a2: SigmaA2 = "0.2",
    sigma_b2: SigmaB2 = "0.8",
    weights: Weights = "iid",
    seed: Seed = 0,
    quick: Quick = False,
    as_json: Json = False,
) -> None:
    """Predicted against empirical kernels for one activation, on one source of data."""
    from equikernel.theory.models import DEQ
    from equikernel.validation.validate import validate as run

    result = run(DEQ(act, sigma_a2, sigma_b2, weights), data, out=out, seed=seed, quick=quick)
    return write_json(result.to_dict()) if as_json else write(str(out / "report.html"))


@app.command()
def table(
    acts: Acts = None,
    style: Annotated[
        str, typer.Option("--format", metavar="latex|markdown|csv|json", help="The form of the table.")
    ] = "markdown",
    sigma_a2: SigmaA2 = "0.2",
    sigma_b2: SigmaB2 = "0.8",
    tau0: Tau0 = "1",
    digits: Digits = 10,
    trained: Trained = "aA",
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write to a file.")] = None,
) -> None:
    """The coefficients of several activations side by side."""
    from equikernel.numerics.files import write_text
    from equikernel.numerics.solve import solve as solve_equations
    from equikernel.theory.models import DEQ
    from equikernel.validation.tables import coefficient_table

    solutions = [
        solve_equations(DEQ(act, sigma_a2, sigma_b2), tau0, digits, trained) for act in acts or DEFAULT_ACTIVATIONS
    ]
    text = coefficient_table([s.to_dict() for s in solutions], digits).render(style)
    if out is None:
        return write(text.rstrip("\n"))
    return write_text(out, text)


@app.command()
def verify(
    act: Act,
    sigma_a2: SigmaA2 = "0.2",
    sigma_b2: SigmaB2 = "0.8",
    tau0: Tau0 = "1",
    seed: Seed = 0,
    examples: Annotated[int, typer.Option("--examples", metavar="N", min=1, help="Examples tried per identity.")] = 25,
    as_json: Json = False,
) -> None:
    """Check the identities that every activation must satisfy, on this one."""
    from equikernel.validation.verify import verify as check

    report = check(act, sigma_a2=sigma_a2, sigma_b2=sigma_b2, tau0=tau0, seed=seed, examples=examples)
    checks = [
        {"name": c.name, "passed": c.passed, "detail": c.detail, "counterexample": c.counterexample}
        for c in report.checks
    ]
    passed = all(c.passed for c in report.checks)
    if as_json:
        write_json({"activation": act, "passed": passed, "checks": checks})
    else:
        write_table(
            f"{act}: {sum(c.passed for c in report.checks)} of {len(checks)} identities hold",
            ("identity", "result", "detail", "smallest counterexample"),
            [(c.name, "pass" if c.passed else "FAIL", c.detail, str(c.counterexample or "")) for c in report.checks],
        )
    if not passed:
        raise typer.Exit(1)


@app.command()
def report(
    acts: Acts = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder of the report.")] = Path("report"),
    data: Annotated[
        list[str] | None,
        typer.Option("--data", metavar="gmm|NAME|FILE", help="May be repeated; gmm, digits, fashion-mnist by default."),
    ] = None,
    sigma_a2: SigmaA2 = "0.2",
    sigma_b2: SigmaB2 = "0.8",
    seed: Seed = 0,
    quick: Quick = False,
) -> None:
    """Everything about some activations in one folder; started again, it resumes."""
    from equikernel.validation.report import write_report

    path = write_report(
        acts or DEFAULT_ACTIVATIONS, out, data=data, sigma_a2=sigma_a2, sigma_b2=sigma_b2, seed=seed, quick=quick
    )
    write(str(path))
