"""The commands about equivalent networks: ``design``, ``compare``, ``compress``, ``nearest-deq`` and ``depth``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from equikernel.cli.options import Act, Acts, Json, Seed, SigmaA2, SigmaB2, Tau0
from equikernel.cli.output import number, write, write_json, write_table

if TYPE_CHECKING:
    from equikernel.numerics.designs.design import Design
    from equikernel.numerics.designs.sphere import SphereDesign
    from equikernel.theory.models import DEQ, ExplicitNetwork

__all__ = ["compare", "compress", "depth", "design", "nearest_deq"]

Layers = Annotated[
    list[str], typer.Argument(metavar="ACT...", help="The activations of the layers, first layer first.")
]
Match = Annotated[str, typer.Option("--match", metavar="ck|ntk|both", help="The kernel to match.")]
Depth = Annotated[str, typer.Option("--depth", metavar="auto|N", help="Hidden layers; the least by default.")]
Family = Annotated[
    str, typer.Option("--family", metavar="auto|NAME|FORMULA", help="Family of the layers, such as 'a*x + b*sin(c*x)'.")
]
Parameters = Annotated[
    str, typer.Option("--parameters", metavar="SIGNS", help="Signs of a formula's parameters: 'c>0'.")
]
Rates = Annotated[
    str, typer.Option("--rates", metavar="equal|free", help="Learning rates of the hidden layers, for the NTK.")
]
DesignDigits = Annotated[int, typer.Option("--digits", metavar="N", help="Significant digits, 1 to 300.")]
Certify = Annotated[bool, typer.Option("--certify", help="Prove that an exact solution lies next to the parameters.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE.json", help="Keep the design in a file.")]
Plot = Annotated[
    Path | None, typer.Option("--plot", metavar="FILE", help="Draw the activations to a .png, .pdf or .svg file.")
]
Latex = Annotated[bool, typer.Option("--latex", help="Print LaTeX.")]


def design(
    act: Act,
    sigma_a2: SigmaA2 = "0.2",
    sigma_b2: SigmaB2 = "0.8",
    tau0: Tau0 = "1",
    match: Match = "ck",
    depth: Depth = "auto",
    family: Family = "auto",
    parameters: Parameters = "",
    data: Annotated[
        str, typer.Option("--data", metavar="any|sphere", help="Any data, or data of constant norm alone.")
    ] = "any",
    tolerance: Annotated[
        float | None, typer.Option("--tolerance", metavar="E", help="Of the kernel, for --data sphere.")
    ] = None,
    terms: Annotated[int | None, typer.Option("--terms", metavar="N", help="Instead, the number of terms.")] = None,
    rates: Rates = "equal",
    digits: DesignDigits = 15,
    certify: Certify = False,
    seed: Seed = 0,
    out: Out = None,
    plot: Plot = None,
    as_latex: Latex = False,
    as_json: Json = False,
) -> None:
    """An explicit network with the kernel coefficients of the DEQ, or, on a sphere, with exactly its kernel."""
    from equikernel.numerics.designs.equivalent import equivalent_network
    from equikernel.theory.models import DEQ

    deq = DEQ(act, sigma_a2, sigma_b2)
    found = equivalent_network(
        deq, tau0, match, depth, family, data=data, rates=rates, parameters=parameters,
        tolerance=tolerance, terms=terms, digits=digits, certified=certify, seed=seed,
    )  # fmt: skip
    _show(act, deq, found, out=out, plot=plot, as_latex=as_latex, as_json=as_json)


def compress(
    acts: Layers,
    tau0: Tau0 = "1",
    match: Match = "ck",
    depth: Depth = "2",
    family: Family = "auto",
    parameters: Parameters = "",
    rates: Rates = "equal",
    digits: DesignDigits = 15,
    certify: Certify = False,
    seed: Seed = 0,
    out: Out = None,
    plot: Plot = None,
    as_latex: Latex = False,
    as_json: Json = False,
) -> None:
    """A shallow network with the kernel coefficients of a deeper one, given by the activations of its layers."""
    from equikernel.numerics.designs.equivalent import family_design

    network = _network(acts, tau0)
    found = family_design(
        network, None, match, depth, family, rates=rates, parameters=parameters, digits=digits, certified=certify,
        seed=seed,
    )  # fmt: skip
    _show(", ".join(acts), network, found, out=out, plot=plot, as_latex=as_latex, as_json=as_json)


def nearest_deq(
    acts: Layers,
    tau0: Tau0 = "1",
    match: Match = "ck",
    family: Family = "smooth",
    parameters: Parameters = "",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """The DEQ, its activation of a family, whose kernel coefficients are an explicit network's, or nearest to them."""
    from equikernel.numerics.designs.inverse import nearest_deq as nearest

    found = nearest(_network(acts, tau0), family, match, parameters=parameters, seed=seed)
    record = found.to_dict()
    if as_json:
        return write_json(record)
    write_table(
        f"the DEQ of {', '.join(acts)}",
        ("coefficient", "network", "DEQ"),
        [(name, number(value, 12), number(found.achieved[name], 12)) for name, value in found.target.items()],
    )
    write(f"activation = {found.deq.activation.name}")
    write(f"sigma_a2 = {float(found.deq.sigma_a2):.15g}, sigma_b2 = {float(found.deq.sigma_b2):.15g}")
    return write(
        f"{'exact' if found.exact else 'nearest found, not exact'}: largest relative residual {found.residual:.1e}"
    )


def compare(
    act: Act,
    data: Annotated[str, typer.Option("--data", metavar="FILE|NAME", help="A data set, or a .npy, .npz or .csv file.")],
    n: Annotated[int | None, typer.Option("--n", metavar="N", help="Samples to draw; all by default.")] = None,
    sphere: Annotated[bool, typer.Option("--sphere", help="Normalise every sample to norm 1.")] = False,
    sigma_a2: SigmaA2 = "0.2",
    sigma_b2: SigmaB2 = "0.8",
    match: Match = "ck",
    depth: Depth = "auto",
    rates: Rates = "equal",
    family: Annotated[
        list[str] | None, typer.Option("--family", metavar="NAME|FORMULA", help="May be repeated; all by default.")
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """How equivalent: the exact kernels of every family's design on a data set, against the DEQ's."""
    import numpy as np

    from equikernel.numerics.designs.compare import compare_families
    from equikernel.theory.families import FAMILIES
    from equikernel.theory.models import DEQ
    from equikernel.validation.kernel_file import kernel_data

    samples = kernel_data(data, n=n, seed=seed).X
    if sphere:
        samples = samples / np.linalg.norm(samples, axis=1)[:, None]
    rows = compare_families(
        DEQ(act, sigma_a2, sigma_b2), samples, families=family or tuple(FAMILIES), match=match, depth=depth, rates=rates
    )
    if as_json:
        return write_json({"activation": act, "data": data, "match": match, "rows": [row.to_dict() for row in rows]})
    promised = next((row.mismatch for row in rows if row.mismatch is not None), None)
    table = []
    for row in rows:
        design, mismatch = row.design, row.mismatch
        cells = ["—"] * 4
        if design is not None and mismatch is not None:
            cells = [str(design.depth), number(design.distance, 2), _percent(mismatch.ck), _percent(mismatch.ntk)]
        table.append([row.family, *cells, row.failure])
    write_table(
        f"{act}, {match.upper()} designs on {data} ({samples.shape[0]} x {samples.shape[1]}): relative mismatch",
        ("family", "depth", "distance", "CK", "NTK", "remark"),
        table,
    )
    if promised is not None:
        ntk = f", NTK {_percent(promised.promised_ntk)}"
        write(f"the high-dimensional equivalent itself misses the DEQ's CK by {_percent(promised.promised_ck)}{ntk}")
    return None


def depth(
    acts: Acts = None,
    sigma_a2: Annotated[
        list[str] | None,
        typer.Option("--sigma-a2", metavar="V", help="May be repeated; 0.05, 0.2, 0.5, 0.8 by default."),
    ] = None,
    tau0: Tau0 = "1",
    match: Match = "ck",
    data: Annotated[
        str, typer.Option("--data", metavar="any|sphere", help="Any data, or data of constant norm alone.")
    ] = "any",
    rates: Rates = "equal",
    as_json: Json = False,
) -> None:
    """The least depth of a network with a DEQ's kernel coefficients, with the reason; of the registry by default."""
    from equikernel.numerics.designs.depth import depth_table

    rows = depth_table(acts or None, sigma_a2 or ("0.05", "0.2", "0.5", "0.8"), match, data, tau0=tau0, rates=rates)
    if as_json:
        return write_json({"match": match, "rows": [row.to_dict() for row in rows]})
    return write_table(
        f"least depth of a network with the {match.upper()} coefficients of a DEQ",
        ("activation", "sigma_a2", "depth", "proof", "reason"),
        [
            (
                row.activation,
                str(float(row.sigma_a2)),
                row.summary,
                row.verdict.proof if row.verdict else "",
                row.verdict.reason if row.verdict else row.error,
            )
            for row in rows
        ],
    )


def _network(acts: list[str], tau0: str) -> ExplicitNetwork:
    from equikernel.theory.models import ExplicitNetwork, exact_number

    return ExplicitNetwork.of(*acts, tau0=float(exact_number(tau0, "tau0", positive=True)))


def _percent(value: float | None) -> str:
    return "—" if value is None else f"{float(f'{100 * value:.2g}'):g} %"


def _show(
    name: str,
    source: DEQ | ExplicitNetwork,
    found: Design | SphereDesign,
    *,
    out: Path | None,
    plot: Path | None,
    as_latex: bool,
    as_json: bool,
) -> None:
    """Print a design, keep it, draw it."""
    from equikernel.numerics.designs.design import Design

    record = found.to_dict()
    if out is not None:
        found.save(out)
    if plot is not None:
        from equikernel.validation.curves import plot_design

        plot_design(plot, source, found)
    if as_json:
        write_json({"activation": name} | record)
    elif as_latex:
        write(found.to_latex())
    elif isinstance(found, Design):
        _write_design(name, record)
    else:
        _write_sphere_design(name, record)


def _write_design(name: str, record: dict[str, Any]) -> None:
    digits = record["digits"]
    write_table(
        f"{record['match'].upper()} design for {name}: {record['family']}, depth {record['depth']}",
        ("layer", "parameters", "activation"),
        [
            (str(k), "\n".join(f"{p} = {number(x, 12)}" for p, x in layer["params"].items()), layer["expression"])
            for k, layer in enumerate(record["layers"], start=1)
        ],
    )
    for k, rate in enumerate(record["rates"], start=1):
        write(f"learning rate of layer {k}, relative to the readout's: {number(rate, 12)}")
    others = len(record["alternatives"])
    write(
        f"{record['status']}, largest relative residual {record['residual']:.1e}"
        + (f" ({digits} digits)" if digits > 15 else "")
        + f"; third-order distance {number(record['distance'], 3)}, Lipschitz {number(record['lipschitz'], 3)}"
        + (f"; {others} other solution{'s' * (others > 1)}" if others else "")
    )
    if record["certificate"] is not None:
        proof = record["certificate"]
        write(
            f"proved: an exact solution within {proof['radius']} of {', '.join(proof['unknowns'])} "
            f"(equations {', '.join(proof['equations'])})"
        )


def _write_sphere_design(name: str, record: dict[str, Any]) -> None:
    write(
        f"{record['match'].upper()} design for {name} on the sphere of squared norm {record['radius2']}: one layer, "
        f"{record['terms']} Hermite polynomials"
    )
    write_table(
        "coefficients of he_k(t/sqrt(r)), the first ten that do not vanish",
        ("k", "coefficient"),
        [(str(k), number(c, 15)) for k, c in enumerate(record["coefficients"]) if c][:10],
    )
    write(f"proved: the kernel differs by at most {record['relative_error']:.2e} of its diagonal")
