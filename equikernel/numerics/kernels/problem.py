"""Two sets of samples whose pairs are wanted: the tiles, and what all tiles of a layer share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from equikernel.numerics.data import require_same_features
from equikernel.numerics.kernels.careful import CLOSE
from equikernel.numerics.kernels.engine import Engine, Prepared
from equikernel.numerics.kernels.samples import ALL, EVEN, Packing, Reach, Scales, reach_of
from equikernel.numerics.kernels.series import starting_polynomials
from equikernel.numerics.kernels.strips import WIDTH

__all__ = ["Problem", "SharedLayer", "Tile"]

FloatArray = npt.NDArray[np.float64]
Groups = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Tile:
    """Pairs of a range of rows and a range of columns; diagonal: the same samples, of which i < j is solved."""

    rows: slice
    columns: slice
    diagonal: bool


@dataclass(frozen=True)
class Problem:
    """An engine and two sets of samples, with what all tiles share; made whole, for threads to read.

    Attributes:
        engine: the network and what is wanted.
        rows: n samples.
        columns: m samples.
        symmetric: whether they are the same.
        layers: of every layer what its tiles share.
        groups: for every row and column the number of a group of equal keys, -1 for those that have no equal.
    """

    engine: Engine
    rows: Prepared
    columns: Prepared
    symmetric: bool
    layers: tuple[SharedLayer, ...]
    groups: tuple[Groups, Groups]

    @classmethod
    def of(cls, engine: Engine, rows: Prepared, columns: Prepared | None) -> Problem:
        """The problem of rows against columns, or (None) of the rows with themselves.

        Raises:
            DataError: different numbers of features.
            UnstableError: a sample (the first is named) whose own NTK diverges.
        """
        others = rows if columns is None else columns
        require_same_features(rows.X.shape[1], others.X.shape[1])
        for side in (rows, others):
            engine.require_stable(side)
        sides = zip(rows.layers, others.layers, engine.layers, strict=True)
        layers = tuple(SharedLayer.of(a, b, engine.sigmas[0], layer.bend) for a, b, layer in sides)
        return cls(engine, rows, others, columns is None, layers, _groups(rows, columns))

    def tiles(self) -> Iterator[Tile]:
        n, m = len(self.rows.X), len(self.columns.X)
        for i in range(0, n, WIDTH):
            for j in range(i if self.symmetric else 0, m, WIDTH):
                diagonal = self.symmetric and i == j
                yield Tile(slice(i, min(i + WIDTH, n)), slice(j, min(j + WIDTH, m)), diagonal)


def _groups(rows: Prepared, columns: Prepared | None) -> tuple[Groups, Groups]:
    """Numbers of the groups of equal keys; see ``Problem``."""
    keys = rows.keys if columns is None else np.concatenate([rows.keys, columns.keys])
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    groups = np.where(counts[inverse] > 1, inverse, -1)
    n = len(rows.keys)
    return groups[:n], groups if columns is None else groups[n:]


@dataclass(frozen=True)
class SharedLayer:
    """A layer's packed rows for the tiles, and what the tiles do with them (``series.solve_tile``)."""

    rows: FloatArray
    columns: FloatArray
    packing: Packing
    reach: Reach
    starts: FloatArray
    form: tuple[int, int, float]

    @property
    def limit(self) -> float:
        """The largest |r| for a tile: the reach of the series; in closed form only the kink sets a limit."""
        return 1.0 - CLOSE if self.form[2] else float(self.reach.exact[-1])

    @classmethod
    def of(cls, rows: Scales, columns: Scales, sigma_a2: float, bend: float) -> SharedLayer:
        packing = rows.packing if rows.packing == columns.packing else ALL
        packed = rows.packed(packing)
        median = packed[np.argsort(rows.variances)[len(packed) // 2]]
        return cls(
            packed,
            packed if columns is rows else columns.packed(packing),
            packing,
            reach_of(rows, columns, packing),
            starting_polynomials(median, packing.power, packing.stride, sigma_a2),
            (packing.power, packing.stride, bend if packing == EVEN else 0.0),
        )
