"""One computation: the tiles, the pairs they leave, and where the results go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from equikernel.errors import MemoryLimitError
from equikernel.numerics.kernels.engine import Prepared
from equikernel.numerics.kernels.problem import Problem
from equikernel.validation.torch_kernels.arrays import Pairing, Samples, TileArrays, Workspace
from equikernel.validation.torch_kernels.left import LeftPairs, PairList
from equikernel.validation.torch_kernels.pairs import solve_pairs
from equikernel.validation.torch_kernels.plan import LEAST_SIDE, Part, cut
from equikernel.validation.torch_kernels.samples import Distinct, identical_pairs

__all__ = ["DeviceTile", "Run"]

Tensor = torch.Tensor
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DeviceTile:
    """What was done in a tile.

    Attributes:
        row: number of its first row, counted among distinct samples.
        column: number of its first column, likewise.
        shape: rows and columns.
        pairs: pairs that were asked of it: of a tile on the diagonal those above it.
        left: how many of them it left to longer series and careful methods.
        terms: the series' terms are those of k < terms; 0 where they were summed in closed form.
        passes: times that all pairs were evaluated, the rough first pass included.
    """

    row: int
    column: int
    shape: tuple[int, int]
    pairs: int
    left: int
    terms: int
    passes: int


class Run:
    """Samples and targets on their devices, and what has been done so far.

    Attributes:
        side: rows and columns of the tiles, now.
        halvings: how often they were halved.
        targets: CK and NTK, (n, m), None where not asked for.
        tiles: reports.
        left: the pairs that tiles leave.
    """

    def __init__(self, problem: Problem, device: torch.device, target: torch.device, side: int, workers: int) -> None:
        self._problem, self._device, self._target, self.side = problem, device, target, side
        self.halvings, self.tiles = 0, list[DeviceTile]()
        self._workspace: Workspace | None = None
        rows = Distinct.of(problem.rows)
        self._distinct = rows, rows if problem.symmetric else Distinct.of(problem.columns)
        self._identical = identical_pairs((problem.rows, rows), (problem.columns, self._distinct[1]))
        self._diagonals = problem.engine.diagonal(problem.rows)
        self.left = LeftPairs(problem, self._distinct, device, workers)
        self._pending: list[PairList] = []
        layer = problem.layers[0]
        self._shape = len(problem.rows.X), len(problem.columns.X)
        try:
            self._rows = _on_device(problem.rows, rows, layer.rows, device)
            self._columns = self._rows
            if not problem.symmetric:
                self._columns = _on_device(problem.columns, self._distinct[1], layer.columns, device)
            self.targets: list[Tensor | None] = [
                torch.empty(self._shape, dtype=torch.float64, device=target) if asked else None
                for asked in (problem.engine.ck, problem.engine.ntk)
            ]
            self._kept = [torch.from_numpy(side.kept).to(target) for side in self._distinct]
        except torch.cuda.OutOfMemoryError as error:
            raise self._no_room() from error

    @property
    def copies(self) -> int:
        """Rows and columns that are copies."""
        left, right = (len(side.copies) for side in self._distinct)
        return left if self._problem.symmetric else left + right

    def work(self) -> None:
        """Every pair of distinct samples, then the copies.

        Raises:
            MemoryLimitError: the device has no room for the smallest tile.
            UnstableError, ConvergenceError: a pair without a solution.
        """
        n, m = (len(side.kept) for side in self._distinct)
        parts = [Part(slice(0, n), slice(0, m), self._problem.symmetric)]
        while parts:
            part = parts.pop()
            if max(part.shape) > self.side:
                parts.extend(reversed(list(cut(part, self.side))))
            elif not self._fits(partial(self._solve, part)):
                parts.append(part)
            else:
                self._solve_left(at_least=self.side**2)
        self._solve_left(at_least=1)
        for target in self.targets:
            if target is not None:
                _copy_rows(target, self._distinct[0])
                _copy_rows(target.T, self._distinct[1])

    def _fits(self, act: Callable[[], None]) -> bool:
        """Act; where the device has no memory for it, halve the tiles and return False."""
        try:
            act()
        except torch.cuda.OutOfMemoryError:
            pass
        else:
            return True
        # outside of the handler, which holds on to what was allocated
        self._workspace = None
        torch.cuda.empty_cache()
        self.side = -(-self.side // 2)
        if self.side < LEAST_SIDE:
            raise self._no_room()
        self.halvings += 1
        return False

    def _solve(self, part: Part) -> None:
        workspace = self._room()
        layer, engine = self._problem.layers[0], self._problem.engine
        own, values = self._own(part)
        arrays = workspace.arrays(*part.shape)
        torch.mm(self._rows[0][part.rows], self._columns[0][part.columns].T, out=arrays.products)
        pairing = Pairing(self._rows[1].part(part.rows), self._columns[1].part(part.columns))
        terms, passes = solve_pairs(pairing, layer, engine.sigmas, own, arrays)
        if part.diagonal:
            arrays.left.triu_(1)
        left = self._listed(part, arrays)
        kernels = engine.kernels([arrays.value], [arrays.slope], arrays.products)
        for target, kernel, diagonal in zip(self.targets, kernels, values, strict=True):
            if target is None:
                continue
            if own is not None:
                kernel[own] = diagonal
            if part.diagonal:
                kernel.triu_()
                kernel.add_(kernel.triu(1).T)
            self._write(target, kernel, part)
        last = layer.packing.first_left_out(terms) if terms else 0
        self.tiles.append(
            DeviceTile(part.rows.start, part.columns.start, part.shape, part.pairs, len(left.i), last, passes)
        )
        self._pending.append(left)

    def _own(self, part: Part) -> tuple[tuple[Tensor, Tensor] | None, list[Tensor | None]]:
        """Places in the tile where a sample meets itself, and the kernels there."""
        i, j, signs = self._identical
        some = slice(*np.searchsorted(i, (part.rows.start, part.rows.stop)))
        inside = (j[some] >= part.columns.start) & (j[some] < part.columns.stop)
        i, j, signs = i[some][inside], j[some][inside], signs[some][inside]
        if not len(i):
            return None, [None, None]
        places = self._tensor(i - part.rows.start), self._tensor(j - part.columns.start)
        numbers = self._distinct[0].kept[i]
        return places, [None if d is None else self._tensor(signs * d[numbers]) for d in self._diagonals]

    def _tensor(self, array: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self._device)

    def _listed(self, part: Part, arrays: TileArrays) -> PairList:
        """The pairs that a tile leaves."""
        i, j = arrays.left.nonzero(as_tuple=True)
        return PairList(i + part.rows.start, j + part.columns.start, arrays.products[i, j])

    def _room(self) -> Workspace:
        if self._workspace is None:
            self._workspace = Workspace(self.side**2, self._device)
        return self._workspace

    def _solve_left(self, at_least: int) -> None:
        """Solve the pairs that tiles left, if there are so many, and write their kernels."""
        if sum(len(pairs.i) for pairs in self._pending) < at_least:
            return
        pending, self._pending = self._pending, []
        while not self._fits(lambda: self.left.solve(PairList.joined(pending), self._room(), self._write_pairs)):
            pass

    def _write_pairs(self, pairs: PairList, G: Tensor, G_dot: Tensor) -> None:
        """Kernels of single pairs, and of a symmetric kernel their mirror images."""
        i, j = (kept[k.to(self._target)] for kept, k in zip(self._kept, (pairs.i, pairs.j), strict=True))
        kernels = self._problem.engine.kernels([G], [G_dot], pairs.products)
        for target, kernel in zip(self.targets, kernels, strict=True):
            if target is not None:
                values = kernel.to(self._target)
                target[i, j] = values
                if self._problem.symmetric:
                    target[j, i] = values

    def _write(self, target: Tensor, kernel: Tensor, part: Part) -> None:
        """Into the rows and columns of the samples, and of a symmetric kernel into the mirror image."""
        mirrored = self._problem.symmetric and not part.diagonal
        if not self.copies:
            target[part.rows, part.columns] = kernel
            if mirrored:
                target[part.columns, part.rows] = kernel.T
            return
        i, j = self._kept[0][part.rows], self._kept[1][part.columns]
        moved = kernel.to(self._target)
        target[i[:, None], j] = moved
        if mirrored:
            target[j[:, None], i] = moved.T

    def _no_room(self) -> MemoryLimitError:
        return MemoryLimitError(
            f"{self._device} ran out of memory with kernels of {self._shape[0]} x {self._shape[1]} samples: free "
            'memory there, ask for result="numpy", or use stream_kernels, which writes to disk'
        )


def _copy_rows(kernel: Tensor, side: Distinct) -> None:
    """Rows of samples that equal earlier ones."""
    for copy, original, sign in zip(side.copies.tolist(), side.originals.tolist(), side.signs.tolist(), strict=True):
        torch.mul(kernel[original], sign, out=kernel[copy])


def _on_device(side: Prepared, distinct: Distinct, packed: FloatArray, device: torch.device) -> tuple[Tensor, Samples]:
    """The distinct samples' data (u, p), and what the pairs see of them."""
    X = side.X
    if len(distinct.copies):
        X, packed = X[distinct.kept], packed[distinct.kept]
    # torch warns of arrays that it might not write to
    return torch.from_numpy(X if X.flags.writeable else X.copy()).to(device), Samples.of(packed, device)
