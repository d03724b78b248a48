"""One tile of 256 x 256 pairs on its way through the layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from equikernel.errors import EquikernelError
from equikernel.numerics.kernels.careful import CAREFUL, CRITICAL, LONG, UNSETTLED, Pairs, Solved
from equikernel.numerics.kernels.engine import not_a_contraction, not_settled
from equikernel.numerics.kernels.leftover import solve_leftover
from equikernel.numerics.kernels.problem import Problem, SharedLayer, Tile
from equikernel.numerics.kernels.series import solve_tile
from equikernel.numerics.kernels.strips import WIDTH

__all__ = ["Fault", "StopError", "TileReport", "TileWork", "pair_counts"]

FloatArray = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TileReport:
    """What was done in a tile of up to 256 x 256 pairs.

    Attributes:
        row: number of its first row.
        column: number of its first column.
        pairs: number of pairs by method: "series", "closed form", "long series", "quadrature" or "identical" (for an
            explicit network the hardest that a layer needed).
        terms: the most terms k of a short series.
        error_bound: bound of the error that the methods make in G, relative to the two samples' E[phi_c^2].
    """

    row: int
    column: int
    pairs: dict[str, int]
    terms: int
    error_bound: float


def pair_counts(tiles: Iterable[TileReport]) -> dict[str, int]:
    """Number of pairs by method over tiles."""
    total: Counter[str] = Counter()
    for tile in tiles:
        total.update(tile.pairs)
    return dict(total)


@dataclass(frozen=True)
class Fault:
    """The first pair of a tile that cannot be, and why."""

    place: tuple[int, int]
    error: EquikernelError


class StopError(Exception):
    """Ends a tile at its first impossible pair."""

    def __init__(self, fault: Fault) -> None:
        super().__init__()
        self.fault = fault


class TileWork:
    """One tile on its way through the layers.

    Attributes:
        G: E[phi_c(u) phi_c(v)] of every layer, (rows, columns); of a diagonal tile only what is above the diagonal.
        G_dot: E[phi'(u) phi'(v)] of every layer.
    """

    def __init__(self, problem: Problem, tile: Tile, products: FloatArray) -> None:
        self.problem, self.tile, self.products = problem, tile, products
        self.G: list[FloatArray] = []
        self.G_dot: list[FloatArray] = []
        rows, columns = (groups[part] for groups, part in zip(problem.groups, (tile.rows, tile.columns), strict=True))
        self._identical = self._equal_samples(rows, columns)

    def run(self) -> TileReport:
        """Solve every layer.

        Raises:
            StopError: a pair that is unstable or did not converge.
        """
        left = np.zeros(self.products.shape, dtype=bool)
        inputs, terms, closed = self.products, 0, 0
        for layer in self.problem.layers:
            used, in_closed_form = self._series(layer, inputs, left)
            terms, closed = max(terms, used), max(closed, in_closed_form)
            inputs = self.G[-1]
        if self._identical is not None:
            left &= ~self._identical
        solved = self._leftover(left)
        self._require_stable()
        return self._report(solved, terms, closed)

    def _series(self, layer: SharedLayer, inputs: FloatArray, left: Mask) -> tuple[int, int]:
        """One layer; the terms used, and the number of pairs done in closed form."""
        tile = self.tile
        # below the diagonal nothing is written
        empty = np.zeros if tile.diagonal else np.empty
        G, G_dot, marked = empty(inputs.shape), empty(inputs.shape), empty(inputs.shape, dtype=bool)
        wide = np.zeros((4 + layer.packing.terms, WIDTH))
        wide[:, : inputs.shape[1]] = layer.columns[tile.columns].T
        solve: Callable[..., tuple[int, int]] = solve_tile
        terms, closed = solve(
            inputs, layer.rows[tile.rows], wide[4:].ravel(), wide[:4], layer.reach.exact, layer.reach.rough,
            layer.starts, layer.limit, CRITICAL, *self.problem.engine.sigmas, layer.form, tile.diagonal,
            G, G_dot, marked,
        )  # fmt: skip
        left |= marked
        self.G.append(G)
        self.G_dot.append(G_dot)
        return layer.packing.first_left_out(terms), closed

    def _leftover(self, left: Mask) -> list[tuple[Pairs, Solved]]:
        """Every pair that the short series left, through all layers; the solutions, one entry a layer."""
        i, j = np.nonzero(left)
        if not len(i):
            return []
        problem, tile = self.problem, self.tile
        pairs = Pairs(i + tile.rows.start, j + tile.columns.start, self.products[i, j])
        results = solve_leftover(problem, pairs)
        for layer, (_, solved) in enumerate(results):
            self.G[layer][i, j], self.G_dot[layer][i, j] = solved.G, solved.G_dot
            stuck = np.flatnonzero(solved.method == UNSETTLED)
            if len(stuck):
                raise StopError(self._not_converged(int(pairs.i[stuck[0]]), int(pairs.j[stuck[0]])))
        return results

    def _equal_samples(self, rows: Any, columns: Any) -> Mask | None:
        """Where row and column are the same sample (or opposite ones of an odd network), or None."""
        if not np.intersect1d(rows[rows >= 0], columns[columns >= 0]).size:
            return None
        same = (rows[:, None] == columns[None, :]) & (rows >= 0)[:, None]
        X, Y = self.problem.rows, self.problem.columns
        i, j = np.nonzero(same)
        first, second = i + self.tile.rows.start, j + self.tile.columns.start
        sign = X.signs[first] * Y.signs[second]
        same[i, j] = (X.X[first] == sign[:, None] * Y.X[second]).all(axis=1)
        found: Mask = same
        return found

    def set_identical(self, kernel: FloatArray, diagonal: FloatArray) -> None:
        """The kernel of equal samples is that of a sample with itself, with a sign for opposite ones."""
        if self._identical is None:
            return
        i, j = np.nonzero(self._identical)
        X, Y = self.problem.rows, self.problem.columns
        sign = X.signs[i + self.tile.rows.start] * Y.signs[j + self.tile.columns.start]
        kernel[i, j] = sign * diagonal[i]

    def diagonal(self) -> tuple[FloatArray, FloatArray]:
        """The kernels of the tile's rows with themselves."""
        part = self.tile.rows
        layers = self.problem.rows.layers
        G, G_dot = ([getattr(s, name)[part] for s in layers] for name in ("second_moment", "slope_energy"))
        ck, ntk = self.problem.engine.kernels(G, G_dot, self.problem.rows.norms[part])
        return ck, ck if ntk is None else ntk

    def _require_stable(self) -> None:
        """Refuse pairs with sigma_a2 E[phi' phi'] >= 1 (samples were looked at before)."""
        engine = self.problem.engine
        rates = engine.rate(self.G_dot[0])
        beyond = rates >= 1.0  # not where phi jumps and there is no slope
        if self._identical is not None:
            beyond &= ~self._identical
        if not beyond.any():
            return
        i, j = (int(k) for k in np.argwhere(beyond)[0])
        a, b = self._numbers(i + self.tile.rows.start, j + self.tile.columns.start)
        raise StopError(Fault((a, b), not_a_contraction(engine.name, f"samples {a} and {b}", float(rates[i, j]))))

    def _not_converged(self, i: int, j: int) -> Fault:
        a, b = self._numbers(i, j)
        return Fault((a, b), not_settled(self.problem.engine.name, f"samples {a} and {b}"))

    def _numbers(self, i: int, j: int) -> tuple[int, int]:
        return self.problem.rows.first + i, self.problem.columns.first + j

    def _report(self, solved: list[tuple[Pairs, Solved]], terms: int, closed: int) -> TileReport:
        rows, columns = self.products.shape
        total = rows * (rows - 1) // 2 if self.tile.diagonal else rows * columns
        counts: Counter[str] = Counter()
        if self._identical is not None:
            same = np.triu(self._identical, 1) if self.tile.diagonal else self._identical
            counts["identical"] = int(same.sum())
        bound = max(layer.reach.bound for layer in self.problem.layers)
        if solved:
            methods = np.max([s.method for _, s in solved], axis=0)
            counts["long series"] = int((methods == LONG).sum())
            counts["quadrature"] = int((methods == CAREFUL).sum())
            bound = max(bound, *(float(s.error.max()) for _, s in solved))
        counts["closed form"] = min(closed, total - counts.total())
        counts["series"] = total - counts.total()
        return TileReport(
            self.problem.rows.first + self.tile.rows.start,
            self.problem.columns.first + self.tile.columns.start,
            {name: count for name, count in counts.items() if count},
            terms,
            bound,
        )
