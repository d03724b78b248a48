"""The exact kernels of a data set in one .npz file: plain arrays, readable without unpickling."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from equikernel.errors import InputError
from equikernel.numerics.kernels import ImplicitKernels, implicit_kernels
from equikernel.theory.models import DEQ, exact_number
from equikernel.validation.datasets import DATASETS, Dataset, load_dataset
from equikernel.validation.store import atomic_file

__all__ = ["compute_kernel_file", "require_kernels"]

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


def compute_kernel_file(
    deq: DEQ,
    data: str,
    out: Path,
    *,
    n: int | None = None,
    seed: int = 0,
    which: str = "ck,ntk",
    trained: str = "aA",
    tau0: Any = None,
    normalise: bool | None = None,
) -> dict[str, Any]:
    """Compute the exact implicit kernels of a data set and write them to ``out``, all at once.

    The file holds ``ck`` and ``ntk`` (those asked for), ``variances`` (q_i), ``labels`` (if there are any), and
    ``tau``, ``contraction``, ``activation``, ``sigma_a2``, ``sigma_b2``, ``trained``, ``data``, ``source``,
    ``preprocessing``, ``sha256`` (of the data) as arrays without dimensions.

    Args:
        deq: the network.
        data: the name of a data set, or the path of a .npy, .npz or .csv file.
        out: the .npz file.
        n: how many samples to draw; None for all.
        seed: of that draw.
        which: "ck", "ntk" or "ck,ntk".
        trained: "a", "aA" or "aAB".
        tau0: standard deviation that fixes the centring; None for sqrt(mean ||x||^2).
        normalise: centre and scale the data to mean ||x||^2 = 1; None does so for named sets, and takes the user's
            own file as it is.

    Returns:
        The scalars of the file, the shape of the data and the names of the arrays; a contraction that is infinite is
        None.

    Raises:
        InputError: ``out`` does not end in .npz or cannot be written; other arguments out of range.
        DataError, SolutionError: as ``load_dataset`` and ``implicit_kernels``.
    """
    if out.suffix != ".npz":
        raise InputError(f"the output must be a file ending in .npz; got {str(out)!r}")
    kernels = require_kernels(which)
    scale = None if tau0 is None else exact_number(tau0, "tau0", positive=True)
    dataset = load_dataset(data, n=n, seed=seed, normalise=data in DATASETS if normalise is None else normalise)
    result = implicit_kernels(dataset.X, deq, tau0=scale, trained=trained, ntk="ntk" in kernels)
    scalars = _scalars(deq, trained, dataset, result)
    arrays: dict[str, Any] = {name: getattr(result, name) for name in kernels} | {"variances": result.variances}
    if dataset.labels is not None:
        arrays["labels"] = dataset.labels
    with atomic_file(out) as temporary, temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **(arrays | {name: np.asarray(value) for name, value in scalars.items()}))
    if not math.isfinite(result.contraction):
        scalars["contraction"] = None  # JSON has no infinity
    return {"out": str(out), "n": dataset.n, "p": dataset.p, "arrays": sorted(arrays), **scalars}


def _scalars(deq: DEQ, trained: str, dataset: Dataset, result: ImplicitKernels) -> dict[str, Any]:
    return {
        "activation": deq.activation.name,
        "expression": str(deq.activation.expr),
        "sigma_a2": float(deq.sigma_a2),
        "sigma_b2": float(deq.sigma_b2),
        "trained": trained,
        "tau": result.tau,
        "contraction": result.contraction,
        "data": dataset.name,
        "source": dataset.source,
        "preprocessing": dataset.preprocessing,
        "sha256": dataset.sha256,
    }
