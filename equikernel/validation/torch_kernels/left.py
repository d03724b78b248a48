"""The pairs that the tiles leave: longer series on the device where many wait, then the careful methods of the CPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from equikernel.numerics.blas import serial_blas
from equikernel.numerics.kernels.careful import CAREFUL, CLOSE, LONG, UNSETTLED, Pairs, Solved
from equikernel.numerics.kernels.engine import not_a_contraction, not_settled
from equikernel.numerics.kernels.leftover import solve_leftover
from equikernel.numerics.kernels.problem import Problem, SharedLayer
from equikernel.numerics.kernels.samples import (
    ALL,
    TAIL,
    Reach,
    Scales,
    scaled_rows,
    series_reach,
)
from equikernel.numerics.kernels.table import TIERS
from equikernel.validation.torch_kernels.arrays import Pairing, Samples, Workspace
from equikernel.validation.torch_kernels.pairs import solve_pairs
from equikernel.validation.torch_kernels.samples import Distinct

__all__ = ["ON_DEVICE", "LeftPairs", "PairList"]

Tensor = torch.Tensor
FloatArray = npt.NDArray[np.float64]

ON_DEVICE = "long series on the device"
_NAMES = {LONG: "long series", CAREFUL: "quadrature"}
_LONG_TERMS = TIERS[1:3]
_MANY = 256  # pairs that are worth longer rows for all samples
_CHUNK = 4096  # pairs that one thread takes at a time


@dataclass(frozen=True)
class PairList:
    """Pairs by the places of their distinct samples, arrays (k,) on the device: i, j and <x_i, x_j>."""

    i: Tensor
    j: Tensor
    products: Tensor

    def only(self, which: Tensor | slice) -> PairList:
        return PairList(self.i[which], self.j[which], self.products[which])

    @classmethod
    def joined(cls, lists: Sequence[PairList]) -> PairList:
        """One after the other; at least one list."""
        i, j, products = zip(*((part.i, part.j, part.products) for part in lists), strict=True)
        return cls(torch.cat(i), torch.cat(j), torch.cat(products))


class LeftPairs:
    """Solves pairs that tiles leave.

    Attributes:
        methods: number of pairs by method.
        error_bound: of G over all these pairs, relative to sqrt(G_ii G_jj).
    """

    def __init__(
        self, problem: Problem, distinct: tuple[Distinct, Distinct], device: torch.device, workers: int
    ) -> None:
        self.methods: Counter[str] = Counter()
        self.error_bound = 0.0
        self._problem, self._distinct, self._device, self._workers = problem, distinct, device, workers
        self._long: dict[int, tuple[SharedLayer, Samples, Samples]] = {}

    def solve(self, pairs: PairList, workspace: Workspace, write: Callable[[PairList, Tensor, Tensor], None]) -> None:
        """Solve pairs and hand over G and E[phi'(u) phi'(v)].

        Raises:
            ConvergenceError: a pair (named) that did not settle.
            UnstableError: a pair (named) at which sigma_a2 E[phi' phi'] >= 1.
        """
        before, bound = self.methods.copy(), self.error_bound
        try:
            self._solve(pairs, workspace, write)
        except torch.cuda.OutOfMemoryError:
            self.methods, self.error_bound = before, bound  # all of it will be done anew
            raise

    def _solve(self, pairs: PairList, workspace: Workspace, write: Callable[[PairList, Tensor, Tensor], None]) -> None:
        if not self._problem.layers[0].form[2]:  # what the closed form leaves, no series reaches
            for terms in _LONG_TERMS:
                if len(pairs.i) >= _MANY:
                    pairs = self._by_long_series(pairs, terms, workspace, write)
        if len(pairs.i):
            write(pairs, *self._on_cpu(pairs))

    def _by_long_series(
        self, pairs: PairList, terms: int, workspace: Workspace, write: Callable[[PairList, Tensor, Tensor], None]
    ) -> PairList:
        """On the device; the pairs that are left then."""
        if terms not in self._long:
            self._long[terms] = self._longer(terms)
        layer, rows, columns = self._long[terms]
        rest = []
        for start in range(0, len(pairs.i), workspace.pairs):
            chunk = pairs.only(slice(start, start + workspace.pairs))
            arrays = workspace.arrays(len(chunk.i))
            arrays.products.copy_(chunk.products)
            solve_pairs(Pairing(rows, columns, chunk.i, chunk.j), layer, self._problem.engine.sigmas, None, arrays)
            done = ~arrays.left
            solved = chunk.only(done)
            self.methods[ON_DEVICE] += len(solved.i)
            write(solved, arrays.value[done], arrays.slope[done])
            rest.append(chunk.only(arrays.left))
        self.error_bound = max(self.error_bound, layer.reach.bound)
        return PairList.joined(rest)

    def _longer(self, terms: int) -> tuple[SharedLayer, Samples, Samples]:
        """Rows of more terms for all samples, and how far they reach."""
        problem, (left, right) = self._problem, self._distinct
        table = problem.engine.layers[0].table
        sides = [(problem.rows.layers[0], left.kept)]
        if not problem.symmetric:
            sides.append((problem.columns.layers[0], right.kept))
        packed = [_packed(scaled_rows(table, side.variances[kept], terms), side, kept) for side, kept in sides]
        limit = min(
            series_reach(rows[:, 2:], scales.energy[kept], scales.slope_energy[kept])
            for rows, (scales, kept) in zip(packed, sides, strict=True)
        )
        if table.activation.breakpoints:
            limit = min(limit, 1.0 - CLOSE)
        reach = np.zeros(terms - 1)
        reach[-1] = limit  # all terms, always
        layer = SharedLayer(
            packed[0],
            packed[-1],
            ALL,
            Reach(reach, reach, TAIL),
            problem.layers[0].starts,
            (ALL.power, ALL.stride, 0.0),
        )
        samples = [Samples.of(rows, self._device) for rows in packed]
        return layer, samples[0], samples[-1]

    def _on_cpu(self, pairs: PairList) -> tuple[Tensor, Tensor]:
        """By the methods of ``numerics``, in several threads."""
        engine = self._problem.engine
        i, j = (side.kept[k.cpu().numpy()] for side, k in zip(self._distinct, (pairs.i, pairs.j), strict=True))
        everything = Pairs(i, j, pairs.products.cpu().numpy())
        chunks = [everything.only(np.arange(k, min(k + _CHUNK, len(pairs.i)))) for k in range(0, len(pairs.i), _CHUNK)]
        with serial_blas(), ThreadPoolExecutor(self._workers) as pool:
            solved = [found[0][1] for found in pool.map(lambda chunk: solve_leftover(self._problem, chunk), chunks)]
        for chunk, found in zip(chunks, solved, strict=True):
            _require_solved(chunk, found, engine.rate(found.G_dot), engine.name)
            self.error_bound = max(self.error_bound, float(found.error.max()))
            for method, name in _NAMES.items():
                self.methods[name] += int((found.method == method).sum())
        G, G_dot = (np.concatenate([getattr(found, name) for found in solved]) for name in ("G", "G_dot"))
        return torch.from_numpy(G).to(self._device), torch.from_numpy(G_dot).to(self._device)


def _packed(rows: FloatArray, scales: Scales, kept: npt.NDArray[np.int64]) -> FloatArray:
    """As ``Scales.packed``: w, 1/w, A_0, C_1, and then C_k from k = 2."""
    few = (scales.roots[kept], scales.inverse_roots[kept], scales.means[kept])
    return np.column_stack([*few, rows[:, 1:]])


def _require_solved(pairs: Pairs, solved: Solved, rates: FloatArray, name: str) -> None:
    """Refuse pairs that did not settle, and those whose NTK diverges."""
    stuck = np.flatnonzero(solved.method == UNSETTLED)
    if len(stuck):
        raise not_settled(name, _names(pairs, stuck[0]))
    beyond = np.flatnonzero(rates >= 1.0)
    if len(beyond):
        raise not_a_contraction(name, _names(pairs, beyond[0]), float(rates[beyond[0]]))


def _names(pairs: Pairs, k: int) -> str:
    return f"samples {pairs.i[k]} and {pairs.j[k]}"
