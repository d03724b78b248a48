"""Two sets of samples whose pairs are wanted: the tiles, and what all tiles of a layer share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from equikernel.errors import DataError, UnstableError
from equikernel.numerics.kernels.careful import CLOSE
from equikernel.numerics.kernels.engine import Engine, Prepared
from equikernel.numerics.kernels.samples import ALL, EVEN, Packing, Reach, Scales, reach_of
from equikernel.numerics.kernels.series import starting_polynomials
from equikernel.numerics.kernels.strips import WIDTH

__all__ = ["Problem", "SharedLayer", "Tile", "not_a_contraction"]

FloatArray = npt.NDArray[np.float64]


def not_a_contraction(name: str, what: str, rate: float) -> UnstableError:
    """The error for sigma_a2 E[phi' phi'] >= 1."""
    return UnstableError(
        f"sigma_a2 E[phi'(u) phi'(v)] = {rate:.6g} >= 1 for {what} with {name}: the kernel equation is not a "
        "contraction there and the neural tangent kernel diverges; reduce sigma_a2"
    )


@dataclass(frozen=True)
class Tile:
    """Pairs of a range of rows and a range of columns; diagonal: the same samples, of which i < j is solved."""

    rows: slice
    columns: slice
    diagonal: bool


@dataclass(frozen=True)
class Problem:
    """An engine and two sets of samples, with what all tiles share."""

    engine: Engine
    rows: Prepared
    columns: Prepared
    symmetric: bool

    def __post_init__(self) -> None:
        p, q = self.rows.X.shape[1], self.columns.X.shape[1]
        if p != q:
            raise DataError(f"the samples of rows and columns must have as many features, got {p} and {q}")

    def require_stable_samples(self) -> None:
        """Refuse, before any pair is solved, samples whose own NTK diverges.

        Raises:
            UnstableError: names the first one.
        """
        if self.engine.sigma_a2 is None or not self.engine.needs_slope:
            return
        for side in (self.rows, self.columns):
            rates = self.engine.sigma_a2 * side.layers[0].slope_energy
            bad = np.flatnonzero(rates >= 1.0)
            if len(bad):
                raise not_a_contraction(self.engine.name, f"sample {side.first + bad[0]}", float(rates[bad[0]]))

    def tiles(self) -> Iterator[Tile]:
        n, m = len(self.rows.X), len(self.columns.X)
        for i in range(0, n, WIDTH):
            for j in range(i if self.symmetric else 0, m, WIDTH):
                diagonal = self.symmetric and i == j
                yield Tile(slice(i, min(i + WIDTH, n)), slice(j, min(j + WIDTH, m)), diagonal)

    @property
    def sigmas(self) -> tuple[float, float]:
        """(sigma_a2, sigma_b2) of the pair equation; a layer of an explicit network only evaluates: (0, 1)."""
        return self.engine.sigma_a2 or 0.0, self.engine.sigma_b2

    @cached_property
    def layers(self) -> tuple[SharedLayer, ...]:
        layers = zip(self.rows.layers, self.columns.layers, self.engine.layers, strict=True)
        return tuple(SharedLayer.of(a, b, self.sigmas[0], layer.bend) for a, b, layer in layers)

    @cached_property
    def groups(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """For every row and column the number of a group of equal keys, -1 for those that have no equal."""
        keys = self.rows.keys if self.symmetric else np.concatenate([self.rows.keys, self.columns.keys])
        _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
        groups = np.where(counts[inverse] > 1, inverse, -1)
        return groups[: len(self.rows.keys)], groups[-len(self.columns.keys) :]


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
