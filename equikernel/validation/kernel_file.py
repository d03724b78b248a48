"""The exact kernels of a data set in one .npz file, or block by block in a folder: plain arrays, never unpickled."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from equikernel.errors import InputError
from equikernel.numerics.files import atomic_file, write_text
from equikernel.numerics.kernels import implicit_kernels, stream_kernels
from equikernel.theory.models import DEQ, exact_number
from equikernel.validation.datasets import DATASETS, Dataset, load_dataset

__all__ = ["compute_kernel_file", "kernel_data", "require_kernels", "stream_kernel_folder"]

KERNELS = ("ck", "ntk")


def require_kernels(which: str) -> tuple[str, ...]:
    """The kernels named in a comma-separated list, in the order ck, ntk.

    Raises:
        InputError: an unknown name, or none.
    """
    asked = {name.strip() for name in which.split(",")}
    if not asked <= set(KERNELS):
        raise InputError(f"which must be ck, ntk or ck,ntk; got {which!r}")
    return tuple(name for name in KERNELS if name in asked)


def kernel_data(data: str, *, n: int | None = None, seed: int = 0, normalise: bool | None = None) -> Dataset:
    """The samples whose kernels are wanted.

    Args:
        data: the name of a data set, or the path of a .npy, .npz or .csv file.
        n: how many samples to draw; None for all.
        seed: of that draw.
        normalise: centre and scale the data to mean ||x||^2 = 1; None does so for named sets, and takes the user's
            own file as it is.

    Raises:
        DataError: as ``load_dataset``.
    """
    return load_dataset(data, n=n, seed=seed, normalise=data in DATASETS if normalise is None else normalise)


def compute_kernel_file(
    deq: DEQ,
    dataset: Dataset,
    out: Path,
    *,
    which: str = "ck,ntk",
    trained: str = "aA",
    tau0: Any = None,
    threads: int | None = None,
) -> dict[str, Any]:
    """Compute the exact implicit kernels of a data set and write them to ``out``, all at once.

    The file holds ``ck`` and ``ntk`` (those asked for), ``variances`` (q_i), ``labels`` (if there are any), and
    ``tau``, ``contraction``, ``error_bound``, ``activation``, ``sigma_a2``, ``sigma_b2``, ``trained``, ``data``,
    ``source``, ``preprocessing``, ``sha256`` (of the data) as arrays without dimensions.

    Args:
        deq: the network.
        dataset: the samples.
        out: the .npz file.
        which: "ck", "ntk" or "ck,ntk".
        trained: "a", "aA" or "aAB".
        tau0: standard deviation that fixes the centring; None for sqrt(mean ||x||^2).
        threads: as of ``implicit_kernels``.

    Returns:
        The scalars of the file, the shape of the data and the names of the arrays; a contraction that is infinite is
        None.

    Raises:
        InputError: ``out`` does not end in .npz or cannot be written; other arguments out of range.
        SolutionError: as ``implicit_kernels``.
    """
    if out.suffix != ".npz":
        raise InputError(f"the output must be a file ending in .npz (or a folder, with --stream); got {str(out)!r}")
    kernels = require_kernels(which)
    result = implicit_kernels(dataset.X, deq, tau0=_scale(tau0), trained=trained, ntk="ntk" in kernels, threads=threads)
    found = {"tau": result.tau, "contraction": result.contraction, "error_bound": result.error_bound}
    scalars = found | _scalars(deq, trained, dataset)
    arrays: dict[str, Any] = {name: getattr(result, name) for name in kernels} | {"variances": result.variances}
    if dataset.labels is not None:
        arrays["labels"] = dataset.labels
    with atomic_file(out) as temporary, temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **(arrays | {name: np.asarray(value) for name, value in scalars.items()}))
    if not math.isfinite(result.contraction):
        scalars["contraction"] = None  # JSON has no infinity
    return {"out": str(out), "n": dataset.n, "p": dataset.p, "arrays": sorted(arrays), **scalars}


def stream_kernel_folder(
    deq: DEQ,
    dataset: Dataset,
    out: Path,
    *,
    which: str = "ck,ntk",
    trained: str = "aA",
    tau0: Any = None,
    **options: Any,
) -> dict[str, Any]:
    """Write the kernels of a data set to a folder, block by block: ``stream_kernels``, which takes the options.

    Beside the kernels lie ``labels.npy`` (if there are any) and ``kernels.json``, what the ``.npz`` has as scalars.
    The same call goes on where another one was stopped.

    Returns:
        The content of ``kernels.json``.

    Raises:
        InputError, DataError, SolutionError: as ``stream_kernels``.
    """
    kernels = require_kernels(which)
    result = stream_kernels(dataset.X, deq, out, which=kernels, trained=trained, tau0=_scale(tau0), **options)
    arrays = list(kernels)
    if dataset.labels is not None:
        arrays.append("labels")
        with atomic_file(out / "labels.npy") as temporary, temporary.open("wb") as stream:
            np.save(stream, dataset.labels, allow_pickle=False)
    sizes = {"out": str(out), "n": dataset.n, "p": dataset.p, "arrays": sorted(arrays)}
    record = sizes | result.to_dict() | _scalars(deq, trained, dataset)
    write_text(out / "kernels.json", json.dumps(record, indent=1, allow_nan=False) + "\n")
    return record


def _scale(tau0: Any) -> Any:
    return None if tau0 is None else exact_number(tau0, "tau0", positive=True)


def _scalars(deq: DEQ, trained: str, dataset: Dataset) -> dict[str, Any]:
    return {
        "activation": deq.activation.name,
        "expression": str(deq.activation.expr),
        "sigma_a2": float(deq.sigma_a2),
        "sigma_b2": float(deq.sigma_b2),
        "weights": deq.weights,
        "trained": trained,
        "data": dataset.name,
        "source": dataset.source,
        "preprocessing": dataset.preprocessing,
        "sha256": dataset.sha256,
    }
