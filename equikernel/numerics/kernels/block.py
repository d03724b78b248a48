"""Every pair of two prepared sets of samples, solved by several threads, each tile by one."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from equikernel.numerics.blas import serial_blas
from equikernel.numerics.kernels.engine import Engine, Prepared
from equikernel.numerics.kernels.plan import positive_integer
from equikernel.numerics.kernels.problem import Problem, Tile
from equikernel.numerics.kernels.tile import Fault, StopError, TileReport, TileWork

__all__ = ["Block", "compute_block", "thread_count"]

FloatArray = npt.NDArray[np.float64]
_MIRROR = 16


@dataclass(frozen=True)
class Block:
    """Kernels of rows against columns, (n, m), None where not wanted, and a report of every tile."""

    ck: FloatArray | None
    ntk: FloatArray | None
    tiles: tuple[TileReport, ...]


def thread_count(threads: int | None) -> int:
    """The number of threads: what was asked for, by default all cores this process may use.

    Raises:
        InputError: not a positive integer.
    """
    if threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return positive_integer(threads, "threads")


def compute_block(
    engine: Engine,
    rows: Prepared,
    columns: Prepared | None = None,
    *,
    out: tuple[FloatArray | None, FloatArray | None] = (None, None),
    threads: int | None = None,
) -> Block:
    """The kernels of rows against columns, or (columns None) of the rows with themselves, every pair solved once.

    Args:
        engine: the network and what is wanted.
        rows: prepared samples, n of them.
        columns: prepared samples, m of them; None: the rows.
        out: arrays (n, m) of float64 for CK and NTK; None: new ones.
        threads: number of threads; the bits of the result do not depend on it.

    Raises:
        DataError: different numbers of features.
        UnstableError: a pair or sample (the first is named) at which sigma_a2 E[phi' phi'] >= 1.
        ConvergenceError: a pair (the first is named) that did not settle.
    """
    with serial_blas():
        problem = Problem.of(engine, rows, columns)
        shape = (len(rows.X), len(problem.columns.X))
        targets = tuple(
            (np.empty(shape) if given is None else given) if asked else None
            for asked, given in zip((engine.ck, engine.ntk), out, strict=True)
        )
        with ThreadPoolExecutor(thread_count(threads)) as pool:
            outcomes = list(pool.map(lambda tile: _attempt(problem, tile, targets), problem.tiles()))
    faults = sorted((o.place, str(o.error), o) for o in outcomes if isinstance(o, Fault))
    if faults:
        raise faults[0][2].error
    return Block(targets[0], targets[1], tuple(o for o in outcomes if isinstance(o, TileReport)))


def _attempt(problem: Problem, tile: Tile, targets: tuple[Any, ...]) -> TileReport | Fault:
    """Solve a tile and write it (and, off the diagonal of a symmetric kernel, its mirror image) into the targets."""
    engine = problem.engine
    i, j = tile.rows, tile.columns
    products = problem.rows.X[i] @ problem.columns.X[j].T
    work = TileWork(problem, tile, products)
    try:
        report = work.run()
    except StopError as stop:
        return stop.fault
    kernels = engine.kernels(work.G, work.G_dot, products)
    for target, kernel, diagonal in zip(targets, kernels, work.diagonal(), strict=True):
        if target is None:
            continue
        work.set_identical(kernel, diagonal)
        _write(target, kernel, diagonal, tile, problem.symmetric)
    return report


def _write(target: FloatArray, kernel: FloatArray, diagonal: FloatArray, tile: Tile, symmetric: bool) -> None:
    if tile.diagonal:
        _complete(kernel, diagonal)
    target[tile.rows, tile.columns] = kernel
    if symmetric and not tile.diagonal:
        _mirror(kernel, target[tile.columns, tile.rows])


@numba.njit(cache=True, nogil=True)
def _complete(kernel: Any, diagonal: Any) -> None:
    """The diagonal and what is below it, from what is above."""
    for i in range(len(kernel)):
        kernel[i, i] = diagonal[i]
        for j in range(i):
            kernel[i, j] = kernel[j, i]


@numba.njit(cache=True, nogil=True)
def _mirror(kernel: Any, target: Any) -> None:
    """Target = kernel^T, in squares that stay in the cache."""
    n, m = kernel.shape
    for a in range(0, n, _MIRROR):
        for b in range(0, m, _MIRROR):
            for j in range(b, min(b + _MIRROR, m)):
                for i in range(a, min(a + _MIRROR, n)):
                    target[j, i] = kernel[i, j]
