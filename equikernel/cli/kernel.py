"""The command ``kernel``: exact kernels of a data set in one file, or streamed to a folder, or what they would take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from equikernel.cli.options import Act, Json, Seed, SigmaA2, SigmaB2, Trained, Weights
from equikernel.cli.output import write, write_json
from equikernel.errors import InputError

__all__ = ["kernel"]


def kernel(
    act: Act,
    data: Annotated[str, typer.Option("--data", metavar="FILE|NAME", help="A data set, or a .npy, .npz or .csv file.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.npz|DIR", help="Where the kernels go; a folder with --stream.")
    ] = None,
    n: Annotated[int | None, typer.Option("--n", metavar="N", help="Samples to draw; all by default.")] = None,
    which: Annotated[str, typer.Option("--which", metavar="ck,ntk", help="The kernels wanted.")] = "ck,ntk",
    trained: Trained = "aA",
    sigma_a2: SigmaA2 = "0.2",
    sigma_b2: SigmaB2 = "0.8",
    weights: Weights = "iid",
    tau0: Annotated[
        str | None, typer.Option("--tau0", metavar="S", help="Scale that fixes the centring; of the data by default.")
    ] = None,
    normalise: Annotated[
        bool | None,
        typer.Option("--normalise/--raw", help="Centre and scale the data; by default only named data sets."),
    ] = None,
    seed: Seed = 0,
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", help="Threads; the numbers do not depend on it.")
    ] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Write block by block to a folder: more than fits into memory; resumes.")
    ] = False,
    storage: Annotated[str, typer.Option("--format", metavar="npy|zarr", help="Files of --stream.")] = "npy",
    block: Annotated[
        int, typer.Option("--block", metavar="N", help="Rows of a block, for --stream and --estimate.")
    ] = 4096,  # the library's BLOCK, which would load numba for --help
    max_blocks: Annotated[
        int, typer.Option("--max-blocks", metavar="N", help="Blocks in memory at once, for --stream and --estimate.")
    ] = 2,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Only say what time, memory and disk it would take.")
    ] = False,
    as_json: Json = False,
) -> None:
    """The exact kernels of a data set, in a .npz file of plain arrays, or streamed to a folder."""
    from equikernel.theory.models import DEQ
    from equikernel.validation.kernel_file import compute_kernel_file, kernel_data, stream_kernel_folder
    from equikernel.validation.progress import counting

    deq = DEQ(act, sigma_a2, sigma_b2, weights)
    wanted: dict[str, Any] = {"which": which, "trained": trained, "tau0": tau0, "threads": threads}
    blocks: dict[str, Any] = {"block": block, "max_blocks": max_blocks}
    if out is None and not estimate:
        raise InputError("--out is missing: name a .npz file, or a folder with --stream, or ask for --estimate")
    dataset = kernel_data(data, n=n, seed=seed, normalise=normalise)
    if estimate:
        return _estimate(deq, dataset.X, {**wanted, **blocks, "seed": seed, "folder": out}, as_json)
    if out is None:
        raise AssertionError("looked at above")
    if stream:
        with counting("blocks") as progress:
            record = stream_kernel_folder(deq, dataset, out, format=storage, progress=progress, **wanted, **blocks)
    else:
        record = compute_kernel_file(deq, dataset, out, **wanted)
    if as_json:
        return write_json(record)
    names = ", ".join(record["arrays"])
    return write(f"{out}: {names} of {record['n']} samples ({data}, {record['preprocessing']})")


def _estimate(deq: Any, X: Any, options: dict[str, Any], as_json: bool) -> None:
    from equikernel.numerics.kernels.estimate import estimate_kernels
    from equikernel.validation.kernel_file import require_kernels

    folder, which = options.pop("folder"), require_kernels(options.pop("which"))
    folder = folder if folder is None or folder.is_dir() else folder.parent
    found = estimate_kernels(X, deq, which=which, folder=folder, **options)
    return write_json(found.to_dict()) if as_json else write(str(found))
