"""Exact kernels as lazy dask arrays of blocks: one task a block, for any scheduler of dask."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from operator import getitem
from typing import Any

import numpy as np
import numpy.typing as npt

from equikernel.numerics.data import data_matrix, require_same_features, row_norms
from equikernel.numerics.kernels.block import compute_block, thread_count
from equikernel.numerics.kernels.engine import Engine, Prepared
from equikernel.numerics.kernels.job import KERNELS, Model, engine_of, itself, wanted_kernels
from equikernel.numerics.kernels.plan import BLOCK
from equikernel.numerics.kernels.sources import array_samples, is_dask, lazy_rows
from equikernel.numerics.kernels.tile import pair_counts
from equikernel.numerics.moments import require_derivative
from equikernel.theory.models import DEQ, require_trained

__all__ = ["LazyKernels", "lazy_kernels"]

FloatArray = npt.NDArray[np.float64]
Graph = dict[Any, Any]


@dataclass(frozen=True)
class LazyKernels:
    """Kernels that are not computed yet.

    Attributes:
        ck: conjugate kernel, a dask array (n, n) or (n, m); None if it was not wanted.
        ntk: neural tangent kernel, likewise.
        summary: a dask ``Delayed``: {"methods": number of pairs by method, "error_bound": the largest bound of the
            error that the methods make in any G_ij, relative to sqrt(G_ii G_jj)}.
    """

    ck: Any
    ntk: Any
    summary: Any


def lazy_kernels(
    X: Any,
    deq: Model | Engine,
    Y: Any = None,
    *,
    tau0: Any = None,
    trained: str = "aA",
    which: str | Iterable[str] = KERNELS,
    threads: int | None = None,
) -> LazyKernels:
    """Exact kernels (see ``implicit_kernels``) of samples in a dask array, block by block and not before asked for.

    Blocks are pairs of row chunks of X (and Y). A task solves the CK and the NTK of a block; blocks below the diagonal
    are transposes of those above. Compute what you want of the result in one ``dask.compute(kernels.ck, kernels.ntk)``
    (or ``da.store``): two computations solve everything twice. The same bits for every scheduler and number of workers.

    Args:
        X: dask array (n, p) of real numbers, rows in chunks of known sizes; the features may be in chunks too.
        deq: the network, an ``ExplicitNetwork``, or an ``Engine``, for which tau0, trained and which have no meaning.
        Y: other samples, (m, p). X or Y may be a NumPy array if the other is a dask array.
        tau0: as of ``implicit_kernels``; None, sqrt(mean ||x_i||^2), is a part of the graph: all of X is read before
            the first block.
        trained: "a", "aA" or "aAB".
        which: "ck", "ntk", or both.
        threads: number of threads a task, by default 1: the scheduler has several tasks in hand.

    Raises:
        InputError, DataError: bad arguments, at once. Computing raises what ``implicit_kernels`` raises, NaN or
            infinity in a sample (named) included.
    """
    threads = 1 if threads is None else thread_count(threads)
    sides = [_lazy(X, "X")] if Y is None else [_lazy(X, "X"), _lazy(Y, "Y")]
    require_same_features(sides[0].shape[1], sides[-1].shape[1])
    graph = _KernelGraph(sides, threads)
    graph.add_engine(deq, tau0, trained, wanted_kernels(which))
    graph.add_blocks()
    ck, ntk = (graph.kernel(name) if name in graph.wanted else None for name in KERNELS)
    return LazyKernels(ck, ntk, graph.summary())


def _lazy(X: Any, what: str) -> Any:
    if is_dask(X):
        return lazy_rows(X, what)
    import dask.array as da

    samples = array_samples(X, what).X
    return da.from_array(samples, chunks=(BLOCK, -1))  # type: ignore[no-untyped-call]


class _KernelGraph:
    """The tasks of a kernel: samples -> (scale ->) engine, prepared samples -> blocks -> kernels."""

    def __init__(self, sides: list[Any], threads: int) -> None:
        self.sides, self.threads = sides, threads
        self.symmetric = len(sides) == 1
        self.token = uuid.uuid4().hex
        self.work = f"kernel-blocks-{self.token}"
        self.tasks: Graph = {}
        self.wanted: tuple[str, ...] = ()
        self.engine = ("engine", self.token)
        for side, X in enumerate(sides):
            for k, first in enumerate(_starts(X.chunks[0])):
                self.tasks[self._key("samples", side, k)] = (data_matrix, (X.name, k, 0), "XY"[side], first)
                prepared = (Engine.prepare, self.engine, self._key("samples", side, k), first)
                self.tasks[self._key("prepared", side, k)] = prepared

    def _key(self, name: str, *place: int) -> tuple[Any, ...]:
        return (f"{name}-{self.token}", *place)

    def add_engine(self, deq: Model | Engine, tau0: Any, trained: str, wanted: tuple[bool, bool]) -> None:
        """The engine, made now, or from the norms of all samples."""
        if isinstance(deq, Engine):
            wanted = deq.ck, deq.ntk
        self.wanted = tuple(name for name, asked in zip(KERNELS, wanted, strict=True) if asked)
        if isinstance(deq, DEQ) and tau0 is None:
            require_trained(trained)
            if wanted[1] and trained != "a":
                require_derivative(deq.activation)
            chunks = range(self.sides[0].numblocks[0])
            for k in chunks:
                self.tasks[self._key("norms", k)] = (row_norms, self._key("samples", 0, k))
            norms = [self._key("norms", k) for k in chunks]
            self.tasks[self.engine] = (_engine_from_norms, deq, norms, trained, wanted)
        else:
            engine = deq if isinstance(deq, Engine) else engine_of(deq, tau0, trained, wanted)
            self.tasks[self.engine] = (itself, engine)

    def add_blocks(self) -> None:
        """Every block, once."""
        rows, columns = self.sides[0].numblocks[0], self.sides[-1].numblocks[0]
        for i in range(rows):
            for j in range(i if self.symmetric else 0, columns):
                other = None if self.symmetric and i == j else self._key("prepared", len(self.sides) - 1, j)
                self.tasks[self._key("block", i, j)] = (
                    _solved,
                    self.engine,
                    self._key("prepared", 0, i),
                    other,
                    self.threads,
                )

    def kernel(self, name: str) -> Any:
        """The dask array of one of the kernels."""
        import dask.array as da

        rows, columns = self.sides[0].chunks[0], self.sides[-1].chunks[0]
        array = f"{name}-{self.token}"
        parts: Graph = {}
        for i in range(len(rows)):
            for j in range(len(columns)):
                if self.symmetric and i > j:
                    parts[array, i, j] = (np.transpose, (array, j, i))
                else:
                    parts[array, i, j] = (getitem, self._key("block", i, j), name)
        graph, meta = self._graph(array, parts), np.empty((0, 0))
        return da.Array(graph, array, (rows, columns), meta=meta)  # type: ignore[no-untyped-call]

    def summary(self) -> Any:
        """What was done, over all blocks."""
        from dask.delayed import Delayed

        name = f"kernel-summary-{self.token}"
        rows, columns = self.sides[0].numblocks[0], self.sides[-1].numblocks[0]
        tasks: Graph = {}
        tiles = []
        for i in range(rows):
            for j in range(i if self.symmetric else 0, columns):
                tasks[name, i, j] = (getitem, self._key("block", i, j), "tiles")
                tiles.append((name, i, j))
        tasks[name] = (_summary, tiles)
        return Delayed(name, self._graph(name, tasks), layer=name)  # type: ignore[no-untyped-call]

    def _graph(self, name: str, tasks: Graph) -> Any:
        """The samples' graphs, the work, and what is made of it."""
        from dask.highlevelgraph import HighLevelGraph

        layers: Graph = {self.work: self.tasks, name: tasks}
        dependencies: Graph = {self.work: {X.name for X in self.sides}, name: {self.work}}
        for X in self.sides:
            layers.update(X.dask.layers)
            dependencies.update(X.dask.dependencies)
        return HighLevelGraph(layers, dependencies)


def _starts(sizes: tuple[int, ...]) -> list[int]:
    """Numbers of the chunks' first rows."""
    return [int(first) for first in np.cumsum([0, *sizes[:-1]])]


def _engine_from_norms(deq: DEQ, norms: list[FloatArray], trained: str, wanted: tuple[bool, bool]) -> Engine:
    return engine_of(deq, None, trained, wanted, np.concatenate(norms))


def _solved(engine: Engine, rows: Prepared, columns: Prepared | None, threads: int) -> dict[str, Any]:
    """A block's kernels and its tiles' reports."""
    block = compute_block(engine, rows, columns, threads=threads)
    return {"ck": block.ck, "ntk": block.ntk, "tiles": block.tiles}


def _summary(tiles: list[Any]) -> dict[str, Any]:
    every = [tile for part in tiles for tile in part]
    return {"methods": pair_counts(every), "error_bound": max(tile.error_bound for tile in every)}
